"""Runs a program of the client on answers that a test wrote, without a socket: what it sends, and what it returns."""

import json
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

from llamacpp_server._replies import DeltaFilter
from llamacpp_server.transport import (
    Bound,
    Enter,
    Read,
    Relay,
    Send,
    Sleep,
)
from tests import behind_doors


@dataclass
class Answer:
    """An answer of a server; a body that is not bytes is written as JSON."""

    body: object = b""
    status_code: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self):
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Conversation:
    """What a program did."""

    def __init__(self, answers):
        self.sent = []
        self.slept = []
        self._answers = list(answers)

    def run(self, program):
        """The program's result, or the decoder of the answer that it relays; its effects are kept here."""
        result = None
        try:
            while True:
                effect = program.send(result)
                if isinstance(effect, Send):
                    self.sent.append(effect)
                    result = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                elif isinstance(effect, Read):
                    result = effect.reply.content  # type: ignore[attr-defined]
                elif isinstance(effect, Enter):
                    effect.ticket.enter(effect.gate, effect.place)
                elif isinstance(effect, Relay):
                    program.close()
                    return effect.decoder
                elif isinstance(effect, Bound):
                    result = None
                else:
                    assert isinstance(effect, Sleep)
                    self.slept.append(effect.seconds)
                    result = None
        except StopIteration as stop:
            return stop.value

    @property
    def requests(self):
        """(method, path, query, body) of each request."""
        found = []
        for send in self.sent:
            parts = urlsplit(send.url)
            body = None if send.content is None else json.loads(send.content)
            found.append((send.method, parts.path, dict(parse_qsl(parts.query)), body))
        return found


class _Untimed(DeltaFilter[Any]):
    def add(self, deltas):
        return deltas


def decoder_of(program):
    """What decodes the stream that a program relays, but for the time of its first token."""
    with patch(behind_doors.FIRST_TOKEN_TIMER, lambda started: _Untimed()):
        return Conversation([Answer(headers={"content-type": "text/event-stream"})]).run(program)

"""Coverage-guided fuzzing of everything that reads what others wrote; not part of the daily tests.

    pip install --group fuzz
    python -m tests.fuzz --minutes 60 --at-once 2      # all targets, an hour between them
    python -m tests.fuzz --only url --minutes 5

A target takes bytes, does what the packages do with them, and asserts what must hold whatever they are. It runs in a
process of its own under libFuzzer (atheris), which goes on after a finding: each is told once, by where it was raised.
The properties that can be said in a line are also in the daily tests, by hypothesis.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["llamacpp_server", "langchain_llamacpp_server", "llamaindex_llamacpp_server"]):
    from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
    from llama_index.core.base.llms.types import ChatMessage as IndexMessage

    from llamacpp_server import ChatRequest, LlamaServerError, ServerSettings
    from llamacpp_server._endpoints import (
        chat_body,
    )
    from llamacpp_server._history import (
        find_needs,
        repair_history,
    )
    from llamacpp_server._replies import (
        ChatBodyDecoder,
        ChatStreamDecoder,
        CompletionBodyDecoder,
        CompletionStreamDecoder,
        event_failure,
        failure,
        fold_chat,
        fold_completion,
        parse_embeddings,
    )
    from llamacpp_server._schemas import (
        clean_tools,
        plain_tools,
        server_pattern,
    )
    from llamacpp_server.results import Health, LoraAdapter, Metrics, ModelCard, ServerProps, SlotAction, SlotState
    from llamacpp_server.settings import redact_url
    from llamacpp_server.transport import (
        encode,
    )
    from tests.langchain.behind_doors import StreamConverter, result
    from tests.langchain.behind_doors import to_wire as from_langchain
    from tests.llamaindex.behind_doors import ChatState, chat_response
    from tests.llamaindex.behind_doors import to_wire as from_llamaindex

SECRET = "hunter2hunter2"
# What the programs turn into an error that names the address.
UNREADABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError)

WORDS = """
role user assistant tool system developer function content text type image_url url data name id index
arguments tool_calls function_call tool_call_id reasoning_content reasoning choices message delta
finish_reason stop length usage prompt_tokens completion_tokens timings error code server_error logprobs token
bytes parameters properties object string array integer number boolean null items required enum const anyOf
oneOf allOf not $ref $defs definitions #/$defs/a #/$defs/b pattern ^a$ (?=x)[a-z]+ format date-time minLength
maxLength maxItems minimum additionalProperties description default title prefixItems nullable source base64
mime_type image/png text-plain file document tool_result tool_use input args audio video non_standard value a
b {} [] {
""".split()  # noqa: SIM905 (a list would take a page)


class Maker:
    """Values from bytes: small JSON in the words that the packages look for, and now and then anything."""

    def __init__(self, data: bytes) -> None:
        self.given = atheris.FuzzedDataProvider(data)

    def pick(self, things: Any) -> Any:
        return things[self.given.ConsumeIntInRange(0, len(things) - 1)]

    def text(self) -> str:
        if self.given.ConsumeIntInRange(0, 3):
            return str(self.pick(WORDS))
        return str(self.given.ConsumeUnicode(self.given.ConsumeIntInRange(0, 20)))

    def value(self, depth: int = 4) -> Any:
        kind = self.given.ConsumeIntInRange(0, 9 if depth else 6)
        if kind >= 8:
            return self.object(depth - 1)
        if kind == 7:
            return [self.value(depth - 1) for _ in range(self.given.ConsumeIntInRange(0, 3))]
        plain = (None, True, False, self.given.ConsumeInt(4), self.given.ConsumeRegularFloat())
        return self.text() if kind > 4 else plain[kind]

    def object(self, depth: int = 3) -> dict[str, Any]:
        return {self.text(): self.value(depth) for _ in range(self.given.ConsumeIntInRange(0, 5))}

    def list(self, make: Callable[[], Any], most: int = 5) -> list[Any]:
        return [make() for _ in range(self.given.ConsumeIntInRange(0, most))]


# -- targets


def outcome(decoder: Any, pieces: list[bytes]) -> tuple[list[Any], str]:
    """The deltas that came, and the error at the end if there was one."""
    deltas: list[Any] = []
    try:
        for piece in pieces:
            deltas += decoder.feed(piece)
        deltas += decoder.close()
    except LlamaServerError as error:
        partial = getattr(error, "partial", None)
        return deltas, f"{type(error).__name__} {error} {partial}"
    return deltas, ""


def stream(data: bytes) -> None:
    """Any bytes, in any pieces: the same reply or the same typed error; and both frameworks can show the deltas."""
    head, data = data[:4], data[4:]
    native = bool(head and head[0] & 1)
    decoder = CompletionStreamDecoder if native else ChatStreamDecoder
    edges = sorted({0, len(data), *(at % (len(data) + 1) for at in head)})
    unsplit, ending = outcome(decoder(), [data])
    parts, other = outcome(decoder(), [data[a:b] for a, b in itertools.pairwise(edges)])
    # When an error comes, those of the same piece are in its partial reply only.
    assert ending == other, (ending, other)
    if not ending:
        assert unsplit == parts
    if native:
        fold_completion(unsplit)
    else:
        show(unsplit)


def show(deltas: list[Any]) -> None:
    converter, state = StreamConverter(), ChatState()
    for delta in deltas:
        converter.add(delta)
        state.add(delta)
    converter.last()
    state.last()
    reply = fold_chat(deltas)
    result(reply)
    chat_response(reply)


def events(data: bytes) -> None:
    """Events with well-formed JSON of odd shapes."""
    maker = Maker(data)
    frames = []
    for _ in range(maker.given.ConsumeIntInRange(1, 5)):
        delta = {maker.text(): maker.value(3), "content": maker.value(1), "tool_calls": maker.value(3)}
        choice = {"index": maker.value(0), "delta": delta, "finish_reason": maker.value(0), "logprobs": maker.value(2)}
        chunk = maker.object(2) | {"choices": [choice]} if maker.given.ConsumeBool() else maker.value(4)
        frames.append(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    body = b"".join([*frames, b"data: [DONE]\n\n"])
    stream(bytes([0, 9, 40, 80]) + body)
    stream(bytes([1, 9, 40, 80]) + body)


def bodies(data: bytes) -> None:
    """Whole answers: those of each endpoint, and errors."""
    for decoder in (ChatBodyDecoder(), CompletionBodyDecoder()):
        deltas, ending = outcome(decoder, [data])
        if not ending and isinstance(decoder, ChatBodyDecoder):
            show(deltas)
    assert isinstance(failure(500, {}, data, "http://h"), LlamaServerError)
    assert isinstance(failure(307, {"location": data.decode("latin-1")}, data, "http://h"), LlamaServerError)
    text = data.decode("utf-8", "replace")
    Health.from_text(text)
    for read in (Metrics.from_text, parse_embeddings):
        _may_be_unreadable(read, data if read is parse_embeddings else text)


def answers(data: bytes) -> None:
    """The same with well-formed JSON of odd shapes."""
    maker = Maker(data)
    wire = maker.object(4) | ({"choices": maker.list(lambda: {"message": maker.object(3)})} if data[:1] < b"z" else {})
    bodies(json.dumps(wire).encode())
    assert isinstance(event_failure(wire.get("error", wire)), LlamaServerError)
    for kind in (ServerProps, SlotState, SlotAction, LoraAdapter, ModelCard):
        _may_be_unreadable(kind.from_wire, wire)


def _may_be_unreadable(read: Callable[[Any], Any], given: Any) -> None:
    with suppress(*UNREADABLE):
        read(given)


def url(data: bytes) -> None:
    """No address crashes the settings, and none shows the password that it holds."""
    maker = Maker(data)
    text = maker.given.ConsumeUnicode(60)
    _settings(text)
    pieces = [maker.given.ConsumeUnicode(8) for _ in range(4)]
    with_secret = f"{maker.pick(['http://', 'https://', ''])}{pieces[0]}:{SECRET}{pieces[1]}@{pieces[2]}/{pieces[3]}"
    shown = _settings(with_secret)
    assert SECRET not in shown, shown


def _settings(text: str) -> str:
    """All that is shown of settings with this address."""
    try:
        settings = ServerSettings(base_url=text)
    except ValueError as error:
        return str(error) + redact_url(text)
    assert ServerSettings(base_url=settings.base_url) == settings, "an address that changes when it is read again"
    return repr(settings) + str(settings) + redact_url(text)


def headers(data: bytes) -> None:
    """No line end or control character gets into a header."""
    maker = Maker(data)
    try:
        settings = ServerSettings(
            api_key=maker.given.ConsumeUnicode(12),
            headers={maker.given.ConsumeUnicode(8): maker.given.ConsumeUnicode(8)},
        )
    except ValueError:
        return
    for name, value in settings.request_headers().items():
        assert name.isascii() and value.isascii() and value.isprintable() and not set(name) & set("\r\n: ")


def schemas(data: bytes) -> None:
    """Whatever a schema is, cleaning it ends and gives JSON, twice too."""
    maker = Maker(data)
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": maker.object(5)}}]
    before = json.dumps(tools)
    cleaned, _ = clean_tools(tools)
    assert json.dumps(tools) == before, "the caller's schema was changed"
    encode(cleaned)
    encode(clean_tools(cleaned)[0])
    encode(plain_tools(cleaned)[0])


def patterns(data: bytes) -> None:
    """A regular expression is rewritten or given up, and what comes out is not rewritten again."""
    given = data.decode("utf-8", "replace")[:40]
    pattern = server_pattern(given)
    assert pattern is None or (pattern.startswith("^") and pattern.endswith("$")), pattern


def histories(data: bytes) -> None:
    """Any messages can be repaired or are refused with our own error, and repairing again changes nothing."""
    maker = Maker(data)
    roles = ["user", "assistant", "tool", "system"]
    messages: Any = maker.list(lambda: {"role": maker.pick(roles), **maker.object(3)})
    before = json.dumps(messages)
    try:
        repaired, _ = repair_history(messages)
    except LlamaServerError:
        return
    assert json.dumps(messages) == before, "the caller's messages were changed"
    assert repair_history(repaired)[0] == repaired
    program = find_needs(messages)
    try:
        next(program)
        while True:
            program.send(maker.given.ConsumeBool())
    except StopIteration:
        pass
    with suppress(LlamaServerError):
        encode(chat_body(ChatRequest(messages=messages)))


def langchain(data: bytes) -> None:
    """LangChain's messages become JSON, or an error of ours says which block can't be sent."""
    maker = Maker(data)
    messages: list[BaseMessage] = []
    with warnings.catch_warnings(action="ignore"):
        for _ in range(maker.given.ConsumeIntInRange(1, 3)):
            content = maker.list(lambda: maker.pick([maker.text, maker.object])())
            extra: dict[str, Any] = {"additional_kwargs": maker.object(2)}
            kind = maker.pick([HumanMessage, AIMessage, SystemMessage, ToolMessage, ChatMessage])
            extra |= {"tool_call_id": maker.text()} if kind is ToolMessage else {}
            extra |= {"role": maker.text()} if kind is ChatMessage else {}
            if kind is AIMessage:
                extra["tool_calls"] = maker.list(lambda: {"id": maker.text(), "name": "f", "args": maker.object(2)}, 2)
            try:
                messages.append(kind(content=content, **extra))
            except UNREADABLE:
                return  # LangChain itself refuses it
    _sendable(lambda: from_langchain(messages))


def llamaindex(data: bytes) -> None:
    """The same for LlamaIndex's; no file and no address is in them, as those would be read."""
    maker = Maker(data)
    kinds = ["text", "thinking", "tool_call", "citable", "citation", "cache", "image", "document"]
    messages = []
    for _ in range(maker.given.ConsumeIntInRange(1, 3)):
        blocks = maker.list(lambda: {"block_type": maker.pick(kinds), **_no_addresses(maker.object(2))}, 3)
        kwargs = {"tool_calls": maker.value(3), "tool_call_id": maker.value(0), "name": maker.value(0)}
        try:
            message = {"role": maker.pick(["user", "assistant", "tool", "system", "chatbot"]), "blocks": blocks}
            messages.append(IndexMessage.model_validate({**message, "additional_kwargs": kwargs}))
        except UNREADABLE:
            return  # LlamaIndex itself refuses it
    _sendable(lambda: from_llamaindex(messages, replay_thinking=True))


def _no_addresses(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if "url" not in name and "path" not in name}


def _sendable(convert: Callable[[], Any]) -> None:
    try:
        encode(chat_body(ChatRequest(messages=repair_history(convert())[0])))
    except LlamaServerError as error:
        assert str(error)


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (stream, events, bodies, answers, url, headers, schemas, patterns, histories, langchain, llamaindex)
}

REPLY = {"id": "chatcmpl-1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]}
CALL = {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHUNK = {"choices": [{"index": 0, "delta": {"content": "é\u2028"}}], "usage": {"prompt_tokens": 1}}
SEEDS: dict[str, list[bytes]] = {
    "stream": [
        b"\0\5\7\x20" + b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in (CHUNK, CHUNK))
        + b'data: {"choices":[{"delta":{"tool_calls":[' + json.dumps(CALL).encode() + b']}}]}\r\n\r\ndata: [DONE]\n\n',
        b'\1\5\7\x20data: {"content":"a","stop":false}\n\n: ping\n\ndata: {"content":"","stop":true}\n\n',
        b'\0\5\7\x20error: {"code":500,"message":"x"}\n\n',
    ],
    "bodies": [
        json.dumps(REPLY).encode(), b'{"error":{"message":"m","code":400}}', b'{"data":[{"index":0,"embedding":[1]}]}',
    ],
    "url": [b"http://localhost:8080/v1/", b"https://u:p@h:1/x?y#z"],
    "patterns": [rb"^\d{3}-[a-z]+$", rb"(?i)(a|b)*?\w", rb"[^\]-z]{2,}"],
}  # fmt: skip


# -- running them


def run_target(name: str, seconds: int, corpus: Path) -> None:
    """Runs one target in this process until its time is over; libFuzzer then ends the process."""
    logging.disable(logging.CRITICAL)
    found: set[str] = set()
    target = TARGETS[name]

    def one(data: bytes) -> None:
        try:
            target(data)
        except Exception as error:
            frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
            where = f"{type(error).__name__} at {' > '.join(frames[-3:])}"
            if where not in found:
                found.add(where)
                print(f"FOUND {name}: {where}: {str(error)[:400]!r} with {data!r}", flush=True)

    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(SEEDS.get(name, [])):
        (corpus / str(number)).write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-timeout=60", "-max_len=600", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], one)
    atheris.Fuzz()


def run_all(names: list[str], minutes: float, at_once: int) -> Iterator[str]:
    """One line for each target: how many inputs it had, and what was found."""
    seconds = int(minutes * 60 / len(names))
    with tempfile.TemporaryDirectory() as directory:
        waiting, running = list(names), dict[str, subprocess.Popen[str]]()
        while waiting or running:
            while waiting and len(running) < at_once:
                name = waiting.pop(0)
                argv = [sys.executable, "-m", "tests.fuzz", "--target", name, "--seconds", str(seconds)]
                running[name] = subprocess.Popen(
                    [*argv, "--corpus", f"{directory}/{name}"],
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=directory,
                )  # fmt: skip
            name = next(iter(running))
            output, _ = running.pop(name).communicate()
            units = [line.split()[-1] for line in output.splitlines() if "number_of_executed_units" in line]
            found = [line for line in output.splitlines() if line.startswith(("FOUND", "==", "SUMMARY"))]
            yield f"{name}: {seconds} s, {units[0] if units else '?'} inputs, {len(found)} findings"
            yield from found or ([] if units else output.splitlines()[-5:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="for all targets together")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.target:
        run_target(args.target, args.seconds, args.corpus)
    else:
        for line in run_all(args.only, args.minutes, args.at_once):
            print(line, flush=True)


if __name__ == "__main__":
    main()

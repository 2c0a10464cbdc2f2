"""Input and output of jobs with many requests."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llamacpp_server import LocalServer
from tests.faults.proxy import Fault, Pieces, Proxy


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write a file of JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_answers(path: Path) -> dict[str, Any]:
    """The lines of an output by the name of their request, each of which is there once."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["custom_id"] for line in found}) == len(found), "no line twice"
    return {line["custom_id"]: line for line in found}


def written(path: Path) -> int:
    """How many lines an output has."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


@contextmanager
def held_after(server: LocalServer, number: int) -> Iterator[str]:
    """The address of a proxy that passes on so many results, and then none, so that a job can't end meanwhile."""
    over, lock, results = threading.Event(), threading.Lock(), [0]

    def spoil(answer: bytes) -> Pieces:
        if b'"choices"' in answer or b'"embedding"' in answer:
            with lock:
                results[0] += max(1, answer.count(b'"embedding":'))
                held = results[0] > number
            if held:
                over.wait()
                return
        yield answer

    with Proxy(server.base_url, Fault("held", spoil)) as proxy:
        try:
            yield proxy.base_url
        finally:
            over.set()

"""The servers that the examples run on: yours (LLAMACPP_BASE_URL), or the embedded one on this repository's model."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from llamacpp_server import LocalServer

MODEL = Path(__file__).parent.parent / "models" / "tiny-chat.gguf"


@contextmanager
def chat_server() -> Iterator[str]:
    """The address of a server for chats."""
    if url := os.environ.get("LLAMACPP_BASE_URL"):
        yield url
        return
    # One thread: for a model of this size a second one only waits for the first.
    with LocalServer(MODEL, threads=1, parallel=2) as server:
        yield server.base_url


def needs(what: str) -> NoReturn:
    """End the program with one line about what it needs."""
    sys.exit(f"{Path(sys.argv[0]).name} needs {what}")


if __name__ == "__main__":
    with chat_server() as url:
        print(f"the other examples run on a server like this one: {url}")

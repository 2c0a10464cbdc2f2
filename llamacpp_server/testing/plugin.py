"""The pytest plugin: the fixture `scripted_llama_server`. Nothing is imported until a test uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .scripted_server import ScriptedServer


@pytest.fixture
def scripted_llama_server() -> Iterator[Callable[..., ScriptedServer]]:
    """Start servers with scripted replies: call it with the arguments of `ScriptedServer`.

    Servers stop at the end of the test. With `strict=True`, the test fails if a rule or turn was never used.
    """
    from . import ScriptedServer

    strict: list[ScriptedServer] = []
    with ExitStack() as stack:

        def start(*args: Any, **options: Any) -> ScriptedServer:
            is_strict = options.pop("strict", False)
            server = stack.enter_context(ScriptedServer(*args, **options))
            if is_strict:
                strict.append(server)
            return server

        yield start
    for server in strict:
        server.assert_used_up()

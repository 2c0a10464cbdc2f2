"""The pytest plugin: the fixture `scripted_llama_server`. Nothing is imported before a test asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .scripted_server import ScriptedServer


@pytest.fixture
def scripted_llama_server() -> Iterator[Callable[..., ScriptedServer]]:
    """Start servers that say what the test wrote: call it with the arguments of `ScriptedServer`.

    Servers end with the test. With `strict=True`, a rule or turn that was never spoken fails the test.
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

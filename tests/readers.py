"""A model that reads pages in a small context, for the tests of context budgets in both frameworks."""

from typing import Any

from llamacpp_server import LocalServer
from tests.models import Script, tool_call


def page_reader(scripted_server: Any, **more: Script) -> LocalServer:
    """A server whose model calls `look` when it is asked to look, and says what it read.

    Args:
        scripted_server: The fixture.
        **more: What it says to other beginnings of a message.
    """
    scripts = {
        "Look": Script(says=tool_call("look", '{"page": 7}')),
        **more,
        "tool": Script(says="It was a page about llamas."),
        "user": Script(says="Pages about llamas were read."),
    }
    server: LocalServer = scripted_server(scripts, ctx_size=4096, parallel=1)
    return server

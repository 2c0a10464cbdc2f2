"""What a prompt cache needs: each request of a session begins as the one before it, in its body and in its prompt."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

from llamacpp_server import ChatRequest, LlamaServerClient

_RENDERED = ("chat_template_kwargs", "reasoning_effort")
# Opens a thought in every prompt; it is not there later where the model had none.
_THOUGHT = "<think>\n"


def prompts(client: LlamaServerClient, bodies: Sequence[dict[str, Any]]) -> list[str]:
    """The prompts that the server's template makes of bodies, with what opens the answer."""
    rendered = []
    for body in bodies:
        params = {name: body[name] for name in _RENDERED if name in body}
        request = ChatRequest(messages=body["messages"], tools=body.get("tools", ()), params=params)
        rendered.append(client.apply_template(request))
    return rendered


def assert_grow(client: LlamaServerClient, bodies: Sequence[dict[str, Any]]) -> None:
    """That the bodies of one session are written alike, and each prompt starts with the whole one before it.

    Args:
        client: Of a server with the template to render them with.
        bodies: In their order.
    """
    # A request is repeated when the server has just closed the connection that it was sent on.
    bodies = [body for before, body in itertools.pairwise([{}, *bodies]) if body != before]
    first = bodies[0]
    for before, now in itertools.pairwise(bodies):
        assert list(now) == list(first), "fields in the same order"
        assert {**now, "messages": []} == {**first, "messages": []}
        # The text, so that the order of keys counts.
        one, other = (json.dumps(body["messages"])[:-1] for body in (before, now))
        assert json.dumps(now.get("tools")) == json.dumps(first.get("tools"))
        begins = other.startswith(one + ", ")
        assert begins, f"messages written otherwise: {one!r}, {other!r}"
    rendered = prompts(client, bodies)
    for one, other in itertools.pairwise(rendered):
        begins = other.startswith(one.removesuffix(_THOUGHT))
        assert begins, f"{one[-200:]!r} is now {other[len(one) - 200 : len(one) + 50]!r}"
        assert len(other) > len(one)

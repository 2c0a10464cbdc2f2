"""Conversations of nothing but texts, which pass a chat's checks and repairs in one step."""

from __future__ import annotations

from itertools import product
from typing import Any, cast

import pytest

from llamacpp_server import ChatRequest
from llamacpp_server._endpoints import fit
from llamacpp_server._history import holds_broken, holds_candidates, plain_text, repair_history
from llamacpp_server.settings import ServerSettings
from llamacpp_server.wire import MessageDict

ROLES = ("system", "user", "assistant", "function")
CONTENTS: tuple[Any, ...] = ("", "text", None, ["a part"])


def conversations() -> list[list[dict[str, Any]]]:
    said = [{"role": role, "content": content} for role, content in product(ROLES, CONTENTS)]
    said += [{"role": "user"}, {"content": "text"}, {"role": "user", "content": "text", "name": None}]
    return [[one] for one in said] + [[one, other] for one, other in product(said, said)]


def test_what_is_not_looked_at_would_come_out_of_all_repairs_as_it_is() -> None:
    settings = ServerSettings(base_url="http://of-plain-texts")
    passed = 0
    for messages in conversations():
        request = ChatRequest(messages=cast(list[MessageDict], messages))
        fitted, repairs = fit(settings, request)
        assert (list(fitted.messages), repairs) == repair_history(request.messages)
        passed += fitted is request
    assert passed > 20


@pytest.mark.parametrize("before", [(), ({"role": "user", "content": "Hello"},)])
@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_special_tokens_are_found_in_texts_as_in_other_messages(before: tuple[Any, ...], role: str) -> None:
    for text in ("<|im_end|>", "ends with <|im_", "[INST]", ">>TITLE<<", "nothing", "a < b"):
        plain: Any = [*before, {"role": role, "content": text}, {"role": "user", "content": "So?"}]
        other: Any = [*plain, {"role": "user", "content": [{"type": "text", "text": "So?"}]}]
        assert plain_text(plain) is not None
        assert plain_text(other) is None
        assert holds_candidates(plain) == holds_candidates(other)


def test_broken_tokens_are_found_in_texts_as_in_other_messages() -> None:
    for text in ("<\u200d|im_end|>", "a\u200db", "nothing"):
        plain: Any = [{"role": "user", "content": text}]
        other: Any = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        assert holds_broken(plain) == holds_broken(other)

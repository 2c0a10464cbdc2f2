"""Errors carry plain data: they survive pickling, tell what to do, and hold no key."""

import copy
import inspect
import pickle

import pytest

from llamacpp_server import (
    BadRequestError,
    ChatReply,
    ConnectionFailedError,
    ContextOverflowError,
    LlamaServerError,
    RequestTimeoutError,
    ServerBusyError,
    ServerLoadingError,
    StreamCutOffError,
    errors,
)
from llamacpp_server.replies import ChatChoice

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, LlamaServerError)]

DETAILS = {
    "url": "http://host/v1", "status": 418, "server_message": "words", "server_type": "kind", "remedy": "do that",
    "body": "raw",
}  # fmt: skip

OWN = {
    ConnectionFailedError: {"reason": "refused"},
    ServerBusyError: {"retry_after": 2.5},
    ContextOverflowError: {"n_prompt_tokens": 10, "n_ctx": 8},
}


def with_details(cls):
    error = cls("it failed", **DETAILS, **OWN.get(cls, {}))
    error.earlier = (ServerLoadingError("first"), ServerBusyError("then", retry_after=1))
    error.partial = ChatReply((ChatChoice("so far"),))
    return error


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_every_error_survives_a_pickle_and_a_copy(cls, again):
    error = with_details(cls)
    other = again(error)
    assert type(other) is cls
    assert str(other) == str(error)
    assert {**vars(other), "earlier": 0} == {**vars(error), "earlier": 0}
    assert [(type(e), str(e)) for e in other.earlier] == [(type(e), str(e)) for e in error.earlier]
    assert other.args == error.args == ("it failed",)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_text_has_what_where_and_the_way_out(cls):
    text = str(with_details(cls))
    for part in ("it failed", "HTTP 418", "http://host/v1", "do that", "2 earlier", "first"):
        assert part in text
    assert str(cls("only this")) == "only this"


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [(ConnectionFailedError, ConnectionError), (RequestTimeoutError, TimeoutError), (BadRequestError, ValueError),
     (ContextOverflowError, ValueError)],
)  # fmt: skip
def test_the_languages_own_class_catches_them_too(cls, builtin):
    with pytest.raises(builtin):
        raise cls("x")


def test_what_may_be_repeated():
    assert {cls for cls in CLASSES if cls.retryable} == {
        ConnectionFailedError, ServerLoadingError, ServerBusyError, StreamCutOffError,
    }  # fmt: skip


def test_every_class_is_exported_and_drawn_in_the_tree():
    assert {cls.__name__ for cls in CLASSES} == set(errors.__all__)
    assert errors.__doc__ is not None
    assert all(cls.__name__ in errors.__doc__ for cls in CLASSES)


class FrameworkError(Exception):
    """What a framework's own class looks like: it may want other things of its constructor."""

    def __init__(self, message, *, needed):
        super().__init__(message)
        self.needed = needed


@pytest.mark.parametrize("cls", CLASSES)
def test_recast_gives_the_same_error_as_a_class_that_a_framework_knows(cls):
    theirs = type(f"Their{cls.__name__}", (cls, FrameworkError), {})
    try:
        try:
            raise OSError("below")
        except OSError as below:
            raise with_details(cls) from below
    except LlamaServerError as error:
        other = error.recast(theirs)
        assert isinstance(other, theirs)
        assert isinstance(other, FrameworkError)
        assert str(other) == str(error)
        assert vars(other) == vars(error)
        assert other.__cause__ is error.__cause__
        assert other.__traceback__ is error.__traceback__
        assert other.__suppress_context__


def test_the_address_is_filled_in_once():
    error = BadRequestError("x").at("http://first")
    assert error.at("http://second").url == "http://first"

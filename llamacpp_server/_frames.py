"""Remove secrets from the frame variables that debuggers and error trackers show with an error.

An argument may be a key or hold a password, also one whose name is misspelled. So public functions that take settings
or request fields are decorated with `hides_arguments`, and the frames below them are emptied when an error passes. The
frames and their line numbers stay. Frames of the caller, and those of a framework between the caller and this package,
are theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, Final, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

_OURS: Final = ("llamacpp_server", "langchain_llamacpp_server", "llamaindex_llamacpp_server")
# What is called with our arguments; frames of the user's own code, such as callbacks and tools, keep their variables.
_LIBRARIES: Final = (
    *("httpx", "httpcore", "httpx2", "httpcore2", "pydantic", "langchain_core", "llama_index"),
    *("dataclasses", "json", "urllib"),
)
_EMPTIED: Final = frozenset((*_OURS, *_LIBRARIES))
# Errors that led to one another: a program may link thousands.
_MOST: Final = 32


def clear_frames(error: BaseException) -> None:
    """Empty the frames that an error passed, and those of the errors that led to it; running ones are left alone."""
    linked, seen = [error], set[int]()
    while linked and len(seen) < _MOST:
        one = linked.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        linked += [other for other in (one.__cause__, one.__context__) if other is not None]
        trace = one.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if str(frame.f_globals.get("__name__")).partition(".")[0] in _EMPTIED:
                with suppress(RuntimeError):  # it still runs
                    frame.clear()
            trace = trace.tb_next


def hides_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Remove a function's arguments from the frames of its exceptions; also for generators and coroutine functions."""
    for is_one, wrap in _WRAPPERS:
        if is_one(function):
            return cast(Callable[P, T], wrap(function))
    return cast(Callable[P, T], _plain(function))


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            del args, kwargs
            clear_frames(error)
            raise

    return call


def _coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except Exception as error:
            del args, kwargs
            clear_frames(error)
            raise

    return call


def _generator(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return (yield from function(*args, **kwargs))
        except Exception as error:
            del args, kwargs
            clear_frames(error)
            raise

    return call


def _async_generator(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            async with aclosing(function(*args, **kwargs)) as items:
                async for item in items:
                    yield item
        except Exception as error:
            del args, kwargs
            clear_frames(error)
            raise

    return call


_WRAPPERS: Final = (
    (iscoroutinefunction, _coroutine),
    (isgeneratorfunction, _generator),
    (isasyncgenfunction, _async_generator),
)

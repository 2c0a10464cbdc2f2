"""Writes the events that llama-server would."""

import json

TOP = {"id": "chatcmpl-x", "model": "m", "created": 7, "system_fingerprint": "b1-x"}
DONE = b"data: [DONE]\n\n"


def event(value):
    """One event of a stream."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()) + b"\n\n"


def chunk(delta=None, *, index=0, finish=None, **more):
    """A chunk of a chat."""
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    if "logprobs" in more:
        choice["logprobs"] = more.pop("logprobs")
    return event({**TOP, "object": "chat.completion.chunk", "choices": [choice], **more})


def role():
    """The chunk that opens an answer."""
    return chunk({"role": "assistant", "content": None})


def text(content, **more):
    """A piece of text."""
    return chunk({"content": content}, **more)


def call(index, arguments=None, *, id=None, name=None, choice=0):
    """A piece of a tool call, with the keys that are given."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fragment = {"index": index, "function": function, **({} if id is None else {"id": id, "type": "function"})}
    return chunk({"tool_calls": [fragment]}, index=choice)


def usage(prompt, completion, cached=None, **more):
    """The chunk with the counts, which has no choices."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    if cached is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": cached}
    return event({**TOP, "choices": [], "usage": counts, **more})

"""`response_format=Foo`: the object of an answer in its message, where ChatOpenAI puts it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from pydantic import BaseModel

from llamacpp_server import ChatChoice, UnfitAnswerError

from ._errors import unfit


def parsed(form: type[BaseModel] | None, messages: Sequence[AIMessage]) -> dict[str, Any]:
    """`{"parsed": object}` of an answer, given as one message or as its chunks; nothing for one that calls tools.

    Args:
        form: The class; None for no object.
        messages: The message or its chunks.

    Raises:
        UnfitAnswerError: When the answer is not one.
        TruncatedOutputError: When it was cut off.
    """
    calls = any(
        message.tool_calls or message.invalid_tool_calls or getattr(message, "tool_call_chunks", None)
        for message in messages
    )
    if form is None or calls:
        return {}
    from llamacpp_server.integration import StructuredAttempts  # few calls need it

    reasons = [reason for message in messages if (reason := message.response_metadata.get("finish_reason"))]
    reason = reasons[-1] if reasons else None
    tokens = [message.usage_metadata["output_tokens"] for message in messages if message.usage_metadata]
    thoughts = "".join(message.additional_kwargs.get("reasoning_content") or "" for message in messages)
    choice = ChatChoice("".join(str(message.text) for message in messages), thoughts, (), reason)
    # What was streamed or is one of several choices can't be asked for again.
    attempts = StructuredAttempts(
        form.__name__, ("json_schema",), form.model_validate_json, schema=form.model_json_schema(), repair_rounds=0
    )
    try:
        attempts.answered(choice, complete=False, tokens=tokens[-1] if tokens else None)
    except UnfitAnswerError as error:
        raise unfit(error, reason) from error.__cause__
    return {"parsed": attempts.value}


def with_parsed(form: type[BaseModel] | None, found: ChatResult) -> ChatResult:
    """The reply with the object of each of its messages."""
    for generation in found.generations if form is not None else ():
        message = generation.message
        if isinstance(message, AIMessage):
            message.additional_kwargs |= parsed(form, [message])
    return found


__all__ = ["parsed", "with_parsed"]

"""Structured output: schemas in all their forms, and the steps behind the model that turn its answer into objects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from operator import itemgetter
from typing import Any, Final, Literal, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1

from llamacpp_server.wire import MessageDict

from ._errors import BadRequestError as LangchainBadRequestError
from ._errors import MissingToolCallError, TruncatedOutputError

Schema = dict[str, Any] | type
Method = Literal["json_schema", "function_calling", "json_mode"]
METHODS: Final = ("json_schema", "function_calling", "json_mode")


def json_schema(schema: Schema, strict: bool | None = None) -> dict[str, Any]:
    """The value of `response_format` that makes the server hold an answer to a schema.

    Args:
        schema: A pydantic class (v1 or v2), a TypedDict, a JSON schema, an OpenAI function, tool or response format.
        strict: Passed on; the server holds every answer to its schema.
    """
    if isinstance(schema, dict) and schema.get("type") == "json_schema" and "json_schema" in schema:
        return schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        inner: dict[str, Any] = {"name": schema.__name__, "schema": schema.model_json_schema()}
    elif isinstance(schema, type) and issubclass(schema, BaseModelV1):
        inner = {"name": schema.__name__, "schema": schema.schema()}
    elif isinstance(schema, dict) and "schema" in schema and "properties" not in schema:
        inner = {"name": schema.get("name", "answer"), "schema": schema["schema"]}
    elif isinstance(schema, dict) and not _is_function(schema):
        inner = {"name": schema.get("title", "answer"), "schema": schema}
    else:
        function = convert_to_openai_tool(schema)["function"]
        inner = {"name": function["name"], "schema": function["parameters"]}
    if strict is not None:
        inner["strict"] = strict
    return {"type": "json_schema", "json_schema": inner}


def _is_function(schema: Mapping[str, Any]) -> bool:
    return "function" in schema or ("name" in schema and ("parameters" in schema or "input_schema" in schema))


def wire_format(given: Any) -> Any:
    """A `response_format`; a class or a bare schema in its place stands for itself, as with ChatOpenAI."""
    if isinstance(given, type):
        return json_schema(given)
    if isinstance(given, dict) and given.get("type") not in ("text", "json_object", "json_schema"):
        return json_schema(given)
    return given


def with_schema(messages: list[MessageDict], response_format: Mapping[str, Any]) -> list[MessageDict]:
    """The conversation with the schema of its answer in the system message.

    A grammar forces the form of an answer, and the model never sees the schema: neither descriptions nor what is next.
    """
    schema = (response_format.get("json_schema") or response_format).get("schema")
    if not schema:
        return messages
    text = f"Answer with a JSON object that follows this schema:\n{json.dumps(schema, ensure_ascii=False)}"
    first = messages[0] if messages else {}
    said = first.get("content")
    if first.get("role") != "system" or not isinstance(said, str):
        return [{"role": "system", "content": text}, *messages]
    return [{**first, "content": f"{said}\n\n{text}"}, *messages[1:]]


def build(
    model: Any, schema: Schema | None, method: str, include_raw: bool, strict: bool | None, kwargs: dict[str, Any]
) -> Runnable[Any, Any]:
    """The model, bound to its schema, with the parser behind it.

    Raises:
        ValueError: For an unknown method, or no schema where one is needed.
    """
    if method not in METHODS:
        raise LangchainBadRequestError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if schema is None and method != "json_mode":
        raise LangchainBadRequestError(f"method={method!r} needs a schema")
    asked = {"method": method} if strict is None else {"method": method, "strict": strict}
    kwargs = {**kwargs, "ls_structured_output_format": {"kwargs": asked, "schema": schema}}
    if method == "function_calling":
        name = convert_to_openai_tool(schema)["function"]["name"]  # type: ignore[arg-type]  # a TypedDict is a type
        # That a call is missing is for the parser to say: with `include_raw`, the raw message is wanted as well.
        bound = model.bind_tools([schema], tool_choice=name, strict=strict, check_forced_call=False, **kwargs)
        return _with_parser(bound, _checked("tool call") | _tool_parser(schema, name), include_raw)
    if method == "json_schema":
        bound = model.bind(response_format=json_schema(cast(Schema, schema), strict), **kwargs)
    else:
        # The server holds an "object" to a schema too, so nobody has to hope that the prompt explains it.
        held = {"schema": json_schema(schema)["json_schema"]["schema"]} if schema is not None else {}
        bound = model.bind(response_format={"type": "json_object", **held}, **kwargs)
    return _with_parser(bound, _checked("answer") | _json_parser(schema), include_raw)


def _json_parser(schema: Schema | None) -> Runnable[Any, Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticOutputParser(pydantic_object=schema)
    return JsonOutputParser()


def _tool_parser(schema: Any, name: str) -> Runnable[Any, Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticToolsParser(tools=[schema], first_tool_only=True)
    return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)


def _with_parser(bound: Runnable[Any, Any], parser: Runnable[Any, Any], include_raw: bool) -> Runnable[Any, Any]:
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    unparsed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([unparsed], exception_key="parsing_error")


def _checked(what: str) -> Runnable[Any, Any]:
    """A step that passes messages on as they come, and at their end says what no parser can: that they were cut off."""

    def check(messages: Iterator[Any]) -> Iterator[Any]:
        seen = _Seen(what)
        for message in messages:
            seen.add(message)
            yield message
        seen.check()

    async def acheck(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        seen = _Seen(what)
        async for message in messages:
            seen.add(message)
            yield message
        seen.check()

    return RunnableGenerator(check, acheck, name="check_whole")


class _Seen:
    """What is remembered of a message, or of its chunks, to judge it by at the end."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.finish_reason: str | None = None
        self.said = self.called = self.thought = False
        self.tokens: int | None = None

    def add(self, message: Any) -> None:
        if not isinstance(message, AIMessage):
            return
        self.finish_reason = message.response_metadata.get("finish_reason") or self.finish_reason
        self.said = self.said or bool(message.text.strip())
        self.called = self.called or bool(message.tool_calls or message.invalid_tool_calls)
        if isinstance(message, AIMessageChunk):
            self.called = self.called or bool(message.tool_call_chunks)
        self.thought = self.thought or bool(message.additional_kwargs.get("reasoning_content"))
        if message.usage_metadata:
            self.tokens = message.usage_metadata["output_tokens"]

    def check(self) -> None:
        if self.finish_reason == "length":
            raise TruncatedOutputError(
                f"the {self.what} was cut off after {self.tokens or 'the last possible'} tokens, before it was whole",
                remedy=_cut_off_remedy(self.thought and not (self.said or self.called)),
            )
        if self.what == "tool call" and not self.called:
            raise missing_call(self.finish_reason)


def _cut_off_remedy(all_thinking: bool) -> str:
    if all_thinking:
        return (
            "all of it went into thinking: raise max_tokens, turn thinking off"
            " (chat_template_kwargs={'enable_thinking': False}) or limit it (reasoning_budget_tokens)"
        )
    return "raise max_tokens, or give the server a longer context (-c)"


def missing_call(finish_reason: str | None) -> MissingToolCallError:
    """The error for a forced call that did not come."""
    error = MissingToolCallError(
        f"a tool call was forced and the model made none (finish_reason={finish_reason!r})",
        finish_reason=finish_reason,
    )
    error.remedy = (
        "the answer was cut off before the call: raise max_tokens, or turn thinking off or limit it"
        if finish_reason == "length"
        else "does the model's chat template know tools? `llamacpp-server check` tells"
    )
    return error


__all__ = ["METHODS", "Method", "Schema", "build", "json_schema", "missing_call", "wire_format", "with_schema"]

"""Convert schemas in all their forms to the model's parameters, for each method. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1

from llamacpp_server.integration import (
    CONSTRAINTS,
    LADDER,
    PartialReader,
    StructuredAttempts,
    Way,
    attempts_of,
    json_checker,
    require_all,
    schema_grammar,
    warn_once,
)

from ._errors import BadRequestError as LangchainBadRequestError
from ._tools import wire_tools

Schema = dict[str, Any] | type
Method = Literal["json_schema", "function_calling", "json_mode", "auto"]
_WAYS: Final[Mapping[str, tuple[Way, ...]]] = {
    "json_schema": ("json_schema",),
    "function_calling": ("tool",),
    "json_mode": ("json_object",),
    "auto": LADDER,
}


def json_schema(schema: Schema, strict: bool | None = None) -> dict[str, Any]:
    """The `response_format` with which the server enforces a schema.

    Args:
        schema: A pydantic class (v1 or v2), a TypedDict, a JSON schema, an OpenAI function, tool or response format.
        strict: True requires every property, as OpenAI does; passed on.
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
        function = wire_tools([schema])[0]["function"]
        inner = {"name": function["name"], "schema": function["parameters"]}
    if strict:
        inner["schema"] = require_all(inner["schema"])
    if strict is not None:
        inner["strict"] = strict
    return {"type": "json_schema", "json_schema": inner}


def _is_function(schema: Mapping[str, Any]) -> bool:
    return "function" in schema or ("name" in schema and ("parameters" in schema or "input_schema" in schema))


def wire_format(given: Any) -> Any:
    """Convert a class or a bare schema to a `response_format`, as ChatOpenAI does."""
    if isinstance(given, type):
        return json_schema(given)
    if isinstance(given, dict) and given.get("type") not in ("text", "json_object", "json_schema"):
        return json_schema(given)
    return given


@dataclass(frozen=True, slots=True)
class Goal:
    """A request for structured output, by any method.

    Attributes:
        model: The chat model.
        given: The schema as the caller gave it; None for any JSON.
        ways: How the answer may be held to it, in order.
        strict: Whether every property is required; None as in the schema.
        kwargs: Parameters of every call.
        repair_rounds: Maximum retries for an answer that does not match.
        schema_in_prompt: Whether the model is shown the schema.
    """

    model: Any
    given: Schema | None
    ways: tuple[Way, ...]
    strict: bool | None
    kwargs: Mapping[str, Any]
    repair_rounds: int
    schema_in_prompt: bool
    schema: dict[str, Any] | None = field(init=False)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        inner = json_schema(self.given, self.strict)["json_schema"] if self.given is not None else {}
        object.__setattr__(self, "schema", inner.get("schema"))
        object.__setattr__(self, "name", inner.get("name") or ("answer" if self.given is not None else "JSON"))

    def attempts(self, *, repair_rounds: int | None = None) -> StructuredAttempts[Any]:
        """A new answer to request."""
        info = self.model.known_server_info()  # never asked for: a server that drops tools is noticed by its answer
        ways = [way for way in self.ways if way != "tool" or info is None or info.tools is not False]
        return attempts_of(
            self.model,
            self.name,
            ways or self.ways,
            self._check(),
            call=self.kwargs,
            schema=self.schema,
            repair_rounds=self.repair_rounds if repair_rounds is None else repair_rounds,
            schema_in_prompt=self.schema_in_prompt,
        )

    def _check(self) -> Callable[[str], Any]:
        if isinstance(self.given, type) and issubclass(self.given, BaseModel):
            return self.given.model_validate_json
        if isinstance(self.given, type) and issubclass(self.given, BaseModelV1):
            return self.given.parse_raw
        return json_checker(self.schema if self.schema is not None else True)

    def bound(self, way: Way, *, schema_in_prompt: bool = False) -> Runnable[Any, Any]:
        """The model with the schema enforced by one of the methods."""
        kwargs = dict(self.kwargs)
        if schema_in_prompt and way != "tool":  # which the model sees
            kwargs["schema_in_prompt"] = self.schema
        if way == "tool":
            name = wire_tools([cast(Schema, self.given)])[0]["function"]["name"]
            if [kwargs.pop(given, None) for given in ("tools", "tool_choice") if given in kwargs]:
                warn_once(f"{self.name}: ignoring tools: with this method the answer is always a call of {name!r}")
            # That a call is missing is for the chain to say: with `include_raw`, the raw message is wanted as well.
            kwargs |= dict.fromkeys(
                self.model.given().keys() & set(CONSTRAINTS)
            )  # the server takes a tool or a constraint
            return cast(
                Runnable[Any, Any],
                self.model.bind_tools(
                    [self.given], tool_choice=name, strict=self.strict, check_forced_call=False, **kwargs
                ),
            )
        if way == "grammar":
            return cast(Runnable[Any, Any], self.model.bind(grammar=schema_grammar(self.schema or {}), **kwargs))
        if way == "json_schema":
            response_format = json_schema(cast(Schema, self.given), self.strict)
        else:
            # The server holds an "object" to a schema too, so nobody has to hope that the prompt explains it.
            response_format = {"type": "json_object", **({} if self.schema is None else {"schema": self.schema})}
        return cast(Runnable[Any, Any], self.model.bind(response_format=response_format, **kwargs))

    def reader(self, way: Way) -> Reader:
        """Build partial objects from a growing message."""
        of_class = isinstance(self.given, type) and is_basemodel_subclass(self.given)
        return Reader(self._object if of_class else None, of_call=way == "tool")

    def _object(self, data: Any) -> Any:
        given = cast(Any, self.given)
        return given.model_validate(data) if issubclass(given, BaseModel) else given.parse_obj(data)


class Reader:
    """Convert a growing message to an object whenever it has changed.

    Args:
        make: Makes the object of the data, and raises a ValueError where they are not enough yet; None gives the data.
        of_call: Whether the JSON is the arguments of a tool's call, and not the text.
    """

    def __init__(self, make: Callable[[Any], Any] | None, *, of_call: bool) -> None:
        self._reader: PartialReader[Any] = PartialReader(make or (lambda data: data))
        self._of_call = of_call
        self._text = ""
        self.gave = self._reader.gave

    def read(self, chunk: AIMessage) -> Any:
        """Return the object after one more chunk; None if it is unchanged, or there is none yet."""
        pieces = getattr(chunk, "tool_call_chunks", ()) if self._of_call else ()
        more = "".join(piece["args"] or "" for piece in pieces if not piece["index"]) if self._of_call else chunk.text
        if not more:
            return None
        self._text += more
        return self._reader.read(self._text)


def goal(model: Any, schema: Schema | None, method: str, strict: bool | None, kwargs: Mapping[str, Any]) -> Goal:
    """Arguments of `with_structured_output`.

    Raises:
        ValueError: For an unknown method, or no schema where one is needed.
    """
    if method not in _WAYS:
        raise LangchainBadRequestError(f"method must be one of {', '.join(_WAYS)}, not {method!r}")
    if schema is None and method != "json_mode":
        raise LangchainBadRequestError(f"method={method!r} needs a schema")
    kwargs = dict(kwargs)
    rounds, shown = kwargs.pop("repair_rounds", 1), bool(kwargs.pop("schema_in_prompt", False))
    asked = {"method": method} if strict is None else {"method": method, "strict": strict}
    kwargs["ls_structured_output_format"] = {"kwargs": asked, "schema": schema}
    return Goal(model, schema, _WAYS[method], strict, kwargs, rounds, shown)


__all__ = ["Goal", "Method", "Reader", "Schema", "goal", "json_schema", "wire_format"]

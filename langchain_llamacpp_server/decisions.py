"""`LlamaServerDecisions`: LangChain's decision models. Only hooks; the logic is in `llamacpp_server`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import Field, model_validator

from llamacpp_server import BadRequestError
from llamacpp_server.integration import (
    DecisionFields,
)

from ._argument_names import OpenAINames
from ._arguments import RERANKER
from ._content import part
from ._errors import langchain_errors
from ._messages import to_wire

try:
    from langchain_core.decisions import BaseDecisionModel, Choice, ClassifierResponse
except ImportError as error:
    raise ImportError(
        "LlamaServerDecisions needs langchain-core 1.8 or later: pip install -U langchain-core"
    ) from error

if TYPE_CHECKING:
    from langchain_core.decisions import Question, State

    from llamacpp_server.decisions import Decisions

__all__ = ["LlamaServerDecisions", "route_by"]

_UNNAMED: Final = "llama-server"
_BLOCKS: Final = ("image", "image_url", "audio", "input_audio", "video", "file")


class LlamaServerDecisions(OpenAINames, DecisionFields, BaseDecisionModel):
    """Decision model backed by a llama-server with a chat model, or with a decision model and `/v1/systemone`.

    Examples:
        >>> from langchain_core.decisions import Choice
        >>> model = LlamaServerDecisions(base_url="http://localhost:8080")
        >>> team = Choice(instructions="Which team?", criteria={"billing": None, "shipping": None})
        >>> model.invoke({"state": "My parcel is late.", "questions": {"team": team}}).choices["team"]  # doctest: +SKIP

    Works with `ModelRouterMiddleware`, `AutoModeMiddleware` and anything else that accepts a `BaseDecisionModel`. A
    state may contain messages at any depth; images are sent as images. `Box` questions are rejected. Async methods are
    native. Put several questions about one state into one call: they share its prompt in the server's cache.
    """

    model: str = Field(default="")
    """Name of the model; required by a router. "" leaves it to the server."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        return RERANKER.constructor(values, cls) if isinstance(values, dict) else values

    @property
    def _provider(self) -> str:
        return "llamacpp-server"

    def _classify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        with langchain_errors:
            found = self.client.decide(_json(state), _wire(questions), **self._options())
        return self._response(found)

    async def _aclassify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        with langchain_errors:
            found = await self.async_client.decide(_json(state), _wire(questions), **self._options())
        return self._response(found)

    def _options(self) -> dict[str, Any]:
        return {**self.decision_options(), "model": self.model or None}

    def _response(self, found: Decisions) -> ClassifierResponse:
        usage: dict[str, Any] = {
            "input_tokens": found.usage.prompt_tokens,
            "output_tokens": found.usage.completion_tokens,
        }
        if found.usage.cached_tokens is not None:
            usage["input_token_details"] = {"cache_read": found.usage.cached_tokens}
        answers = {name: _answer(answer) for name, answer in found.answers.items()}
        body = {"model": found.model or self.model or _UNNAMED, "answers": answers, "usage": usage}
        return ClassifierResponse.model_validate(body)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return False: connections are not part of a graph's saved state."""
        return False


def route_by(
    model: BaseDecisionModel,
    instructions: str,
    routes: Mapping[str, Any],
    *,
    state: Callable[[Any], Any] | None = None,
    min_confidence: float = 0.0,
    otherwise: str | None = None,
) -> Runnable[Any, str]:
    """Create the function of a LangGraph conditional edge, which returns the name of the most probable route.

    Examples:
        >>> router = route_by(model, "Who answers?", {"billing": "Payments", "human": None})  # doctest: +SKIP
        >>> graph.add_conditional_edges("start", router, ["billing", "human"])  # doctest: +SKIP

    Args:
        model: Any decision model.
        instructions: The question.
        routes: Names of nodes, with descriptions or None.
        state: The part of the graph's state to judge; None uses its last message, or the whole state if it has no
            messages.
        min_confidence: Minimum confidence; below it, `otherwise` is the route.
        otherwise: The route for unclear cases; None uses the most probable one anyway.
    """
    question = Choice(instructions=instructions, criteria=dict(routes))

    def request(given: Any) -> Any:
        return {"state": state(given) if state is not None else _last_message(given), "questions": {"route": question}}

    def chosen(response: ClassifierResponse) -> str:
        answer = response.choices["route"]
        return otherwise if otherwise is not None and answer.confidence < min_confidence else answer.choice

    def route(given: Any) -> str:
        return chosen(model.invoke(request(given)))

    async def aroute(given: Any) -> str:
        return chosen(await model.ainvoke(request(given)))

    return RunnableLambda(route, aroute, name="route_by")


def _last_message(given: Any) -> Any:
    messages = given.get("messages") if isinstance(given, Mapping) else getattr(given, "messages", None)
    return messages[-1] if messages else given


def _json(value: Any) -> Any:
    """A state with its messages and media blocks as the server reads them, at any depth."""
    if isinstance(value, BaseMessage):
        return [_without_ids(message) for message in to_wire([value])]
    if isinstance(value, Mapping):
        if value.get("type") in _BLOCKS:
            return part(dict(value))
        return {str(key): _json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [_json(entry) for entry in value]
        # One message may become several, and each is an entry of the list.
        return [
            inner
            for given, entry in zip(value, entries, strict=True)
            for inner in (entry if isinstance(given, BaseMessage) else [entry])
        ]
    return value


def _without_ids(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in ("id", "tool_call_id")}


def _wire(questions: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, question in questions.items():
        wire = dict(question) if isinstance(question, Mapping) else question.model_dump()
        if wire.get("type") == "box":
            raise BadRequestError(f"questions[{name!r}]: llama-server does not locate things in images (Box)")
        found[name] = wire
    return found


def _answer(answer: Any) -> dict[str, Any]:
    names = {"noul": ("noul",), "choice": ("choice", "probabilities", "confidence"),
             "score": ("score", "legend", "probabilities", "confidence")}[answer.type]  # fmt: skip
    return {"type": answer.type, **{name: getattr(answer, name) for name in names}}

"""Adapters that give each class the same tasks in its own framework, for the table of real models.

Each class keeps its own defaults, apart from greedy sampling and a limit of tokens; the method for objects is the JSON
schema where the class has one.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from pydantic import BaseModel, Field

from .clients import attribute

LIMIT = 120
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TURNS = ("result", "image", "unanswered", "other agent")
"""Kinds of turns of an agent: after a tool's result, after one with an image, after a call that was never answered,
and after another agent's answer."""


class Person(BaseModel):
    """A person that a text is about."""

    name: str = Field(description="the given name")
    age: int
    city: str | None = None


class Loose(BaseModel):
    """A person, of whom nothing has to be known."""

    name: str | None = None
    age: int | None = None
    city: str | None = None
    mood: Literal["happy", "sad", "neutral"] | None = None
    job: str | None = None


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class Peer(Protocol):
    """One class. Errors are those that its user gets."""

    name: str
    has_strict: bool

    def person(self, text: str) -> Person | None:
        """The object that a text is about; None where there is none."""

    def fields(self, text: str, *, strict: bool) -> dict[str, Any]:
        """The object that a text is about, of a form that requires no field."""

    def calls(self, text: str) -> list[str]:
        """Names of the tools that are called, where one has to be."""

    def turn(self, kind: str, city: str) -> str:
        """What the model says in the next turn of an agent."""

    def chat(self, texts: Sequence[str]) -> str:
        """The answer to the last of a conversation's texts, which are a user's and the model's in turn."""


class LangChainPeer:
    """A chat model of LangChain."""

    has_strict = True

    def __init__(self, llm: Any) -> None:
        self.name, self._llm = type(llm).__name__, llm
        self._form = llm.with_structured_output(Person, method="json_schema")
        self._loose = {
            strict: llm.with_structured_output(Loose, method="json_schema", **({"strict": True} if strict else {}))
            for strict in (False, True)
        }
        self._caller = llm.bind_tools([get_weather], tool_choice="get_weather")
        self._agent = llm.bind_tools([get_weather])

    def person(self, text: str) -> Person | None:
        """As in `Peer`."""
        found = self._form.invoke(text)
        return found if isinstance(found, Person) else None

    def fields(self, text: str, *, strict: bool) -> dict[str, Any]:
        """As in `Peer`."""
        return dict(self._loose[strict].invoke(text))

    def calls(self, text: str) -> list[str]:
        """As in `Peer`."""
        return [call["name"] for call in self._caller.invoke(text).tool_calls]

    def turn(self, kind: str, city: str) -> str:
        """As in `Peer`."""
        from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

        asked = HumanMessage(f"What is the weather in {city}?")
        call = AIMessage("", tool_calls=[{"name": "get_weather", "args": {"city": city}, "id": "call_1"}])
        said: Any = f"{city}: snow, 3 degrees"
        if kind == "image":
            url = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
            said = [{"type": "text", "text": said}, {"type": "image_url", "image_url": {"url": url}}]
        history = {
            "unanswered": [asked, call, HumanMessage("Never mind. What is the capital of France?")],
            "other agent": [HumanMessage(f"Write a sentence about {city}."), AIMessage(f"{city} is a city.", name="w")],
        }.get(kind, [asked, call, ToolMessage(said, tool_call_id="call_1")])
        return str(self._agent.invoke(history).content)

    def chat(self, texts: Sequence[str]) -> str:
        """As in `Peer`."""
        roles = ("user", "assistant") * len(texts)
        return str(self._llm.invoke([*zip(roles, texts, strict=False)]).content)


class LlamaIndexPeer:
    """An LLM of LlamaIndex."""

    has_strict = False

    def __init__(self, llm: Any) -> None:
        from llama_index.core.tools import FunctionTool

        self.name, self._llm = type(llm).__name__, llm
        self._tools = [FunctionTool.from_defaults(get_weather)]

    def person(self, text: str) -> Person | None:
        """As in `Peer`."""
        found = self._object(Person, text)
        return found if isinstance(found, Person) else None

    def fields(self, text: str, *, strict: bool) -> dict[str, Any]:
        """As in `Peer`; LlamaIndex has no `strict`."""
        return {} if strict else dict(self._object(Loose, text))

    def calls(self, text: str) -> list[str]:
        """As in `Peer`."""
        reply = self._llm.chat_with_tools(self._tools, user_msg=text, tool_required=True)
        calls = self._llm.get_tool_calls_from_response(reply, error_on_no_tool_call=False)
        return [call.tool_name for call in calls]

    def turn(self, kind: str, city: str) -> str:
        """As in `Peer`."""
        from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ToolCallBlock

        asked = ChatMessage(f"What is the weather in {city}?")
        block = ToolCallBlock(tool_call_id="call_1", tool_name="get_weather", tool_kwargs={"city": city})
        call = ChatMessage(role="assistant", blocks=[block])
        said: list[Any] = [TextBlock(text=f"{city}: snow, 3 degrees")]
        if kind == "image":
            said.append(ImageBlock(image=PIXEL))
        result = ChatMessage(role="tool", blocks=said, additional_kwargs={"tool_call_id": "call_1"})
        history = {
            "unanswered": [asked, call, ChatMessage("Never mind. What is the capital of France?")],
            "other agent": [
                ChatMessage(f"Write a sentence about {city}."),
                ChatMessage(f"{city} is a city.", role="assistant"),
            ],
        }.get(kind, [asked, call, result])
        return str(self._llm.chat_with_tools(self._tools, chat_history=history).message.content or "")

    def chat(self, texts: Sequence[str]) -> str:
        """As in `Peer`."""
        from llama_index.core.base.llms.types import ChatMessage

        roles = ("user", "assistant") * len(texts)
        messages = [ChatMessage(content=text, role=role) for role, text in zip(roles, texts, strict=False)]
        return str(self._llm.chat(messages).message.content or "")

    def _object(self, form: type[BaseModel], text: str) -> BaseModel:
        from llama_index.core.prompts import PromptTemplate

        found: BaseModel = self._llm.structured_predict(form, PromptTemplate("{text}"), text=text)
        return found


def chat_peers(base_url: str) -> dict[str, Peer]:
    """The classes that are installed, by name."""
    from langchain_llamacpp_server import ChatLlamaServer
    from llamaindex_llamacpp_server import LlamaServer

    common: dict[str, Any] = {"temperature": 0, "max_tokens": LIMIT}
    peers: list[Peer] = [LangChainPeer(ChatLlamaServer(base_url=base_url, **common))]
    if peer := attribute("langchain_openai", "ChatOpenAI"):
        peers.append(LangChainPeer(peer(base_url=f"{base_url}/v1", api_key="none", model="m", **common)))
    if peer := attribute("langchain_llama_cpp", "ChatLlama"):
        peers.append(LangChainPeer(peer(base_url=base_url, model="m", **common)))
    peers.append(LlamaIndexPeer(LlamaServer(base_url=base_url, **common)))
    if peer := attribute("llama_index.llms.openai_like", "OpenAILike"):
        openai = {"api_base": f"{base_url}/v1", "api_key": "none", "model": "m", "context_window": 4096}
        kinds = {"is_chat_model": True, "is_function_calling_model": True}
        peers.append(LlamaIndexPeer(peer(**openai, **kinds, **common)))
    return {peer.name: peer for peer in peers}


def embedding_peers(base_url: str) -> dict[str, Any]:
    """LangChain's and LlamaIndex's embedding classes that are installed: functions from texts to vectors, by name."""
    from langchain_llamacpp_server import LlamaServerEmbeddings
    from llamaindex_llamacpp_server import LlamaServerEmbedding

    ours: dict[str, Any] = {"base_url": base_url, "on_oversize": "truncate"}
    peers: dict[str, Any] = {"LlamaServerEmbeddings": LlamaServerEmbeddings(**ours).embed_documents}
    openai: dict[str, Any] = {"base_url": f"{base_url}/v1", "api_key": "none", "model": "m"}
    if peer := attribute("langchain_openai", "OpenAIEmbeddings"):
        peers["OpenAIEmbeddings"] = peer(**openai, check_embedding_ctx_length=False).embed_documents
    peers["LlamaServerEmbedding"] = LlamaServerEmbedding(**ours).get_text_embedding_batch
    if peer := attribute("llama_index.embeddings.openai_like", "OpenAILikeEmbedding"):
        liked = peer(model_name="m", api_base=f"{base_url}/v1", api_key="none")
        peers["OpenAILikeEmbedding"] = liked.get_text_embedding_batch
    return peers

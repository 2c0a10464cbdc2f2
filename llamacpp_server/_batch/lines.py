"""Convert batch lines (OpenAI's format or plain objects) to requests, and replies to lines in OpenAI's format.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [...]}}
    {"id": "b", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}
    {"id": "c", "prompt": "Once upon a time"}
    {"id": "d", "input": "A text to embed"}

A line without an id has the number of its line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, Literal

from ..errors import BadRequestError, LlamaServerError
from ..replies import ChatReply, CompletionReply, Usage
from ..requests import ChatRequest, CompletionRequest
from ..results import Embeddings
from ..sampling import SamplingFields
from ..vectors import EmbedRequest

Kind = Literal["chat", "completion", "embeddings"]
Request = ChatRequest | CompletionRequest | EmbedRequest

_KINDS: Final[dict[str, Kind]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embeddings",
}
_BY_FIELD: Final[dict[str, Kind]] = {"messages": "chat", "prompt": "completion", "input": "embeddings"}
# Characters by whose digests lines are grouped: for the prompt cache, those that begin alike follow each other.
_BEGINNINGS: Final = tuple(64 << n for n in range(8))
_DIGEST_SIZE: Final = 8
_CHAT_FIELDS: Final = ("tools", "tool_choice", "parallel_tool_calls")
# What the client decides: whole replies are streamed underneath.
_LEFT_OUT: Final = ("stream", "stream_options", "encoding_format")


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request of the file.

    Attributes:
        number: Number of the line, from 1.
        id: Its `custom_id` or `id`, else the number.
        kind: What is asked.
        body: The request's fields.
    """

    number: int
    id: str
    kind: Kind
    body: Mapping[str, Any]

    def key(self) -> bytes:
        """Sort key that groups lines with a common prefix; short, because there is one for each line."""
        beginning = self.body.get("messages") or self.body.get("prompt") or ""
        if self.kind == "embeddings":  # those that one request can ask
            beginning = sorted((name, str(value)) for name, value in self.body.items() if name != "input")
        tools = self.body.get("tools") or ""
        text = json.dumps([self.kind, self.body.get("model") or "", tools, beginning], ensure_ascii=False)
        return b"".join(_digest(text[:length]) for length in _BEGINNINGS)

    def mark(self) -> bytes:
        """Digest that shows whether the line has changed since the job began."""
        return _digest(self.id + self.digest())

    def digest(self) -> str:
        """Digest that shows whether a line is the one that was answered before."""
        return _digest(json.dumps([self.kind, self.body], sort_keys=True)).hex()

    def texts(self) -> Any:
        """Inputs to embed: a list, unless the line is invalid."""
        inputs = self.body["input"]
        return [inputs] if isinstance(inputs, str | Mapping) else inputs

    def joins(self, other: BatchLine) -> bool:
        """Whether one request can embed the texts of both lines."""
        if not self.kind == other.kind == "embeddings":
            return False
        mine, others = ({**line.body, "input": None} for line in (self, other))
        return mine == others and all(_are_texts(line.texts()) for line in (self, other))

    def request(self) -> Request:
        """Return the request for the client; unknown fields are sent unchanged."""
        body = {name: value for name, value in self.body.items() if name not in _LEFT_OUT}
        model = body.pop("model", None)
        if self.kind == "embeddings":
            dimensions = body.pop("dimensions", None)
            body.pop("input")
            return EmbedRequest(
                inputs=self.texts(),
                model=model,
                dimensions=dimensions,
                normalize="embd_normalize" not in body,  # the server does as the line says
                extra_body=body,
            )
        given = {name: body.pop(name) for name in _CHAT_FIELDS if name in body} if self.kind == "chat" else {}
        subject = body.pop("messages" if self.kind == "chat" else "prompt")
        known = SamplingFields.model_fields
        params = {name: body.pop(name) for name in list(body) if name in known}
        if self.kind == "chat":
            return ChatRequest(messages=subject, model=model, params=params, extra_body=body, **given)
        return CompletionRequest(prompt=subject, model=model, params=params, extra_body=body)


def _are_texts(inputs: Any) -> bool:
    return isinstance(inputs, list) and bool(inputs) and all(isinstance(text, str) and text for text in inputs)


def merged_request(lines: Sequence[BatchLine]) -> EmbedRequest:
    """Return one request for lines that can be combined."""
    request = lines[0].request()
    assert isinstance(request, EmbedRequest)  # noqa: S101 (for the type checker)
    return replace(request, inputs=[text for line in lines for text in line.texts()])


def split_embeddings(lines: Sequence[BatchLine], found: Embeddings) -> list[Embeddings]:
    """Split the answer to combined lines into each line's vectors. The server counts only the tokens of all of them."""
    parts, first = list[Embeddings](), 0
    for line in lines:
        count = len(line.texts())
        parts.append(Embeddings(found.vectors[first : first + count], found.model))
        first += count
    return parts


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_SIZE]


def read_line(raw: bytes, number: int) -> BatchLine:
    """Parse a line of the input.

    Raises:
        BadRequestError: For a line that is no request; names its number.
    """
    try:
        wire = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError:
        raise _line_error(number, "not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _line_error(number, f"not JSON ({type(error).__name__})") from None
    if not isinstance(wire, Mapping):
        raise _line_error(number, "not an object")
    name = wire.get("custom_id", wire.get("id"))
    if name is not None and (not isinstance(name, str | int) or isinstance(name, bool)):
        raise _line_error(number, "the id must be a string")
    body: Any = wire
    url = wire.get("url")
    if url is not None:
        body = wire.get("body")
        if not isinstance(url, str) or url not in _KINDS:
            raise _line_error(number, f"url must be one of {', '.join(_KINDS)}")
        if not isinstance(body, Mapping):
            raise _line_error(number, "body must be an object")
    kind = _KINDS[url] if url is not None else next((k for field, k in _BY_FIELD.items() if field in body), None)
    subject = next((field for field, k in _BY_FIELD.items() if k == kind), "")
    if kind is None or subject not in body:
        raise _line_error(number, "it has no messages, prompt or input" if kind is None else f"body has no {subject}")
    fields = {n: v for n, v in body.items() if url is not None or n not in ("id", "custom_id")}
    return BatchLine(number, str(number if name is None else name), kind, fields)


def _line_error(number: int, why: str) -> BadRequestError:
    return BadRequestError(f"line {number} of the batch file: {why}")


def output_line(line: BatchLine, reply: ChatReply | CompletionReply | Embeddings) -> dict[str, Any]:
    """Return the output line for a reply."""
    body: dict[str, Any]
    if isinstance(reply, Embeddings):
        data = [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(reply.vectors)]
        body = {"object": "list", "data": data, "model": reply.model, "usage": _usage(reply.usage)}
    else:
        key = "chat.completion" if isinstance(reply, ChatReply) else "text_completion"
        choices = [_choice(number, choice) for number, choice in enumerate(reply.choices)]
        body = {"object": key, "model": reply.start.model, "choices": choices, "usage": _usage(reply.usage)}
        if reply.start.id:
            body["id"] = reply.start.id
    return _line_fields(line) | {"response": {"status_code": 200, "body": body}, "error": None}


def failed(line: BatchLine, error: LlamaServerError) -> dict[str, Any]:
    """Return the output line for a failed request, with the server's words in its message."""
    details = {"type": type(error).__name__, "message": str(error), "retryable": bool(error.retryable)}
    return _line_fields(line) | {"response": None, "error": details | ({"code": error.status} if error.status else {})}


def _line_fields(line: BatchLine) -> dict[str, Any]:
    return {"custom_id": line.id, "request_digest": line.digest()}


def _choice(index: int, choice: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"index": index, "finish_reason": choice.finish_reason}
    if choice.logprobs is not None:
        found["logprobs"] = choice.logprobs
    if hasattr(choice, "text"):
        return found | {"text": choice.text}
    message: dict[str, Any] = {"role": "assistant", "content": choice.content}
    if choice.reasoning_content:
        message["reasoning_content"] = choice.reasoning_content
    if choice.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.tool_calls
        ]
    return found | {"message": message}


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    found: dict[str, Any] = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    found["total_tokens"] = usage.total_tokens
    if usage.cached_tokens is not None:
        found["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return found

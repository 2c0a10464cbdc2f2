"""The pytest plugin of `tests/upstream.py`: our models and our client in llama.cpp's own server tests.

It is loaded before their modules, and changes `utils`, which all of them import: the presets start models of ours,
nothing is downloaded, and with `UPSTREAM_WAY=client` their HTTP helper asks through `LlamaServerClient`. Requests that
the client has no method for (web pages, OPTIONS, bodies that its types can't hold) go out as before, and are counted.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import struct
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from llamacpp_server import (
    ChatRequest,
    CompletionRequest,
    InfillRequest,
    LlamaServerClient,
    LlamaServerError,
    MessagesRequest,
    Metrics,
    ResponsesRequest,
    Usage,
)
from llamacpp_server.sampling import ALIASES, SAMPLING_FIELDS

sys.modules.setdefault("wget", types.ModuleType("wget"))  # it would only download
import utils  # type: ignore[import-not-found]  # noqa: E402

Json = Any
MODELS, WAY = os.environ.get("UPSTREAM_MODELS", ""), os.environ.get("UPSTREAM_WAY", "plain")
plain_requests: Counter[str] = Counter()
_ports = itertools.count(int(os.environ.get("PORT", "8180")))
TEXT = {"tinyllama2", "tinyllama_infill", "stories15m_moe", "tinygemma3"}
ENCODERS = {"bert_bge_small": "encoder", "bert_bge_small_with_fa": "encoder", "jina_reranker_tiny": "reranker"}


class PlainOnly(Exception):
    """The client has no method for this request."""


# -- models


def put_models_in_place() -> None:
    """Have the presets start small models that are there."""
    for name in TEXT | ENCODERS.keys():
        setattr(utils.ServerPreset, name, staticmethod(_preset(name, getattr(utils.ServerPreset, name))))
    utils.ServerPreset.load_all = staticmethod(lambda: None)
    utils.download_file = lambda url, *_: os.path.join(MODELS, "lora.gguf" if "lora" in url.lower() else "text.gguf")
    utils.match_regex = lambda regex, text: isinstance(text, str)
    start = utils.ServerProcess.start

    def start_with_projector(self: Any, *args: Any, **kwargs: Any) -> None:
        self.ready = False  # until then it is asked as before
        # Another address for each: a stream that a failed test left open would hold its place in the client's queue.
        self.server_port = next(_ports)
        if getattr(self, "projector", None):
            os.environ["LLAMA_ARG_MMPROJ"] = self.projector
        try:
            start(self, *args, **kwargs)
        finally:
            os.environ.pop("LLAMA_ARG_MMPROJ", None)

    utils.ServerProcess.start = start_with_projector


def _preset(name: str, make: Callable[[], Any]) -> Callable[[], Any]:
    def made() -> Any:
        server = make()
        server.offline, server.model_hf_repo, server.model_hf_file = False, None, None
        server.model_file = os.path.join(MODELS, f"{ENCODERS.get(name, 'text')}.gguf")
        if name == "tinygemma3":
            server.projector = os.path.join(MODELS, "projector.gguf")
        return server

    return made


# -- values as the server's JSON


def usage_json(usage: Usage | None) -> Json:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def head_json(start: Any, kind: str) -> dict[str, Json]:
    return {
        "id": start.id,
        "object": kind,
        "created": start.created,
        "model": start.model,
        "system_fingerprint": start.system_fingerprint,
    }


def timings_json(timings: Any) -> Json:
    return {name: value for name, value in timings.as_dict().items() if name != "first_token_ms"}


def calls_json(calls: Any) -> Json:
    return [{"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls]


def chat_json(reply: Any) -> Json:
    choices = []
    for index, choice in enumerate(reply.choices):
        message: dict[str, Json] = {"role": "assistant", "content": choice.content}
        if choice.reasoning_content:
            message["reasoning_content"] = choice.reasoning_content
        if choice.tool_calls:
            message["tool_calls"] = calls_json(choice.tool_calls)
        made = {"index": index, "message": message, "finish_reason": choice.finish_reason}
        choices.append(made if choice.logprobs is None else {**made, "logprobs": choice.logprobs})
    body = {**reply.raw, **head_json(reply.start, "chat.completion"), "choices": choices}
    body["usage"] = usage_json(reply.usage)
    return body if reply.timings is None else {**body, "timings": timings_json(reply.timings)}


def completion_json(reply: Any) -> Json:
    choices = []
    for index, choice in enumerate(reply.choices):
        made = {"index": index, "text": choice.text, "finish_reason": choice.finish_reason, "logprobs": choice.logprobs}
        choices.append(made)
    body = {**reply.raw, **head_json(reply.start, "text_completion"), "choices": choices}
    return {**body, "usage": usage_json(reply.usage), "timings": timings_json(reply.timings)}


def native_json(reply: Any, ids: bool) -> Json:
    items = [
        {**choice.raw, "content": choice.text, "tokens": list(choice.tokens) if ids else [], "index": index}
        for index, choice in enumerate(reply.choices)
    ]
    return items[0] if len(items) == 1 else items


def chat_events(deltas: Iterator[Any], wants_usage: bool) -> Iterator[Json]:  # noqa: C901
    head: dict[str, Json] = {}
    begun: set[int] = set()
    for delta in deltas:
        if delta.start is not None:
            head = head_json(delta.start, "chat.completion.chunk")
        if delta.choice not in begun and not delta.progress:
            begun.add(delta.choice)
            first = {"index": delta.choice, "delta": {"role": "assistant", "content": None}, "finish_reason": None}
            yield {**head, "choices": [first]}
        rest = {**(delta.raw or {}), **head}
        if delta.progress is not None:
            rest["prompt_progress"] = {name: getattr(delta.progress, name) for name in delta.progress.__slots__}
        if delta.timings is not None:
            rest["timings"] = timings_json(delta.timings)
        piece: dict[str, Json] = {}
        for name in ("content", "reasoning_content"):
            if text := getattr(delta, name):
                piece[name] = text
        if delta.tool_calls:
            piece["tool_calls"] = [_fragment_json(fragment) for fragment in delta.tool_calls]
        if piece or delta.finish_reason or delta.logprobs or delta.progress:
            choice = {"index": delta.choice, "delta": piece, "finish_reason": delta.finish_reason}
            yield {**rest, "choices": [choice if delta.logprobs is None else {**choice, "logprobs": delta.logprobs}]}
        if delta.usage is not None and wants_usage:
            yield {**rest, "choices": [], "usage": usage_json(delta.usage)}


def _fragment_json(fragment: Any) -> Json:
    function = {"name": fragment.name} if fragment.name else {}
    function["arguments"] = fragment.arguments
    call: dict[str, Json] = {"index": fragment.call_index, "function": function}
    return {**call, "id": fragment.id, "type": "function"} if fragment.id else call


def completion_events(deltas: Iterator[Any], native: bool) -> Iterator[Json]:
    head: dict[str, Json] = {}
    for delta in deltas:
        if delta.start is not None:
            head = head_json(delta.start, "text_completion")
        event = {**(delta.raw or {})}
        if delta.timings is not None:
            event["timings"] = timings_json(delta.timings)
        if delta.progress is not None:
            event["prompt_progress"] = {name: getattr(delta.progress, name) for name in delta.progress.__slots__}
        if native:
            event |= {"content": delta.text, "index": delta.choice, "stop": delta.finish_reason is not None}
            event["tokens"] = list(delta.tokens)
            if delta.logprobs:
                event["completion_probabilities"] = delta.logprobs["content"]
        else:
            choice = {"index": delta.choice, "text": delta.text, "finish_reason": delta.finish_reason}
            event |= {**head, "choices": [{**choice, "logprobs": delta.logprobs}]}
            if delta.usage is not None:
                event["usage"] = usage_json(delta.usage)
        yield event


# -- bodies as requests


def request_of(kind: Callable[..., Any], data: Mapping[str, Json], names: Mapping[str, str]) -> Any:
    """A typed request: fields of the type, known parameters, and the rest in `extra_body`."""
    fields = {ours: data[theirs] for theirs, ours in names.items() if data.get(theirs) is not None}
    rest = {name: value for name, value in data.items() if name not in (*names, "stream", "stream_options")}
    params = {name: value for name, value in rest.items() if name in SAMPLING_FIELDS or name in ALIASES}
    extra = {name: value for name, value in rest.items() if name not in params and value is not None}
    try:
        return kind(**fields, params=params, extra_body=extra)
    except TypeError as error:
        raise PlainOnly from error


_CHAT = {name: name for name in ("messages", "tools", "tool_choice", "parallel_tool_calls", "model")}
_INFILL = {"input_prefix": "prefix", "input_suffix": "suffix", "prompt": "prompt", "model": "model"}


def chat_request(data: Mapping[str, Json]) -> ChatRequest:
    if not isinstance(data.get("messages"), list):
        raise PlainOnly
    request: ChatRequest = request_of(ChatRequest, data, _CHAT)
    return request


def completion_request(data: Mapping[str, Json], native: bool) -> CompletionRequest:
    if isinstance(data.get("prompt"), dict | None):
        raise PlainOnly
    # What makes the client ask the native endpoint.
    asked = {**data, "return_tokens": True} if native else data
    request: CompletionRequest = request_of(CompletionRequest, asked, {"prompt": "prompt", "model": "model"})
    return _streamed(request, data) if native else request


def infill_request(data: Mapping[str, Json]) -> InfillRequest:
    extra = [(entry.get("filename", "tmp"), entry["text"]) for entry in data.get("input_extra") or ()]
    rest = {name: value for name, value in data.items() if name != "input_extra"}
    request: InfillRequest = request_of(InfillRequest, {**rest, "extra": extra}, {**_INFILL, "extra": "extra"})
    return request


def _streamed(request: Any, data: Mapping[str, Json]) -> Any:
    return type(request)(
        prompt=request.prompt,
        model=request.model,
        params=request.params,
        extra_body={**request.extra_body, "stream": bool(data.get("stream"))},
    )


def plain_request(kind: Any, data: Mapping[str, Json], required: str) -> Any:
    if required not in data:
        raise PlainOnly
    known = {name: value for name, value in data.items() if name in kind.__dataclass_fields__}
    extra = {name: value for name, value in data.items() if name not in known and name != "stream"}
    return kind(**known, extra_body=extra)


# -- routes


def plain_answer(client: LlamaServerClient, method: str, path: str, query: dict[str, str], data: Json) -> Json:  # noqa: C901
    """The answer to a request, made of what a method of the client gave."""
    model = query.get("model") or (data.get("model") if isinstance(data, dict) else None)
    match method, path:
        case "GET", "/health" | "/v1/health":
            return {"status": client.health().message}
        case "GET", "/props":
            return client.props(model).raw
        case "GET", "/models" | "/v1/models":
            cards = client.models(reload="reload" in query)
            able = [{"name": card.id, "capabilities": list(card.capabilities)} for card in cards]
            return {"object": "list", "data": [card.raw for card in cards], "models": able}
        case "GET", "/slots":
            return [slot.raw for slot in client.slots(model, fail_when_busy="fail_on_no_slot" in query)]
        case "GET", "/metrics":
            return client.metrics(model)
        case "GET", "/lora-adapters":
            return [adapter.raw for adapter in client.lora_adapters(model)]
        case "POST", "/lora-adapters":
            client.set_lora_adapters({entry["id"]: entry["scale"] for entry in data})
            return {"success": True}
        case "GET", "/tools":
            return [tool.raw for tool in client.server_tools()]
        case "POST", "/tools" if set(data) <= {"tool", "params"} and {"tool", "params"} <= set(data):
            return client.call_server_tool(data["tool"], data["params"]).raw
        case "POST", "/models/load":
            client.load_model(data["model"])
            return {"success": True}
        case "POST", "/models/unload":
            client.unload_model(data["model"])
            return {"success": True}
        case "POST", "/chat/completions" | "/v1/chat/completions":
            return chat_json(client.chat(chat_request(data)))
        case "POST", "/chat/completions/input_tokens" | "/v1/chat/completions/input_tokens":
            return {"object": "response.input_tokens", "input_tokens": client.count_tokens(chat_request(data))}
        case "POST", "/apply-template":
            return {"prompt": client.apply_template(chat_request(data))}
        case "POST", "/completion" | "/completions":
            return native_json(client.complete(completion_request(data, True)), bool(data.get("return_tokens")))
        case "POST", "/v1/completions":
            return completion_json(client.complete(completion_request(data, False)))
        case "POST", "/infill":
            return native_json(client.infill(infill_request(data)), bool(data.get("return_tokens")))
        case "POST", "/responses" | "/v1/responses":
            return client.create_response(plain_request(ResponsesRequest, data, "input")).raw
        case "POST", "/responses/input_tokens" | "/v1/responses/input_tokens":
            count = client.count_response_tokens(plain_request(ResponsesRequest, data, "input"))
            return {"object": "response.input_tokens", "input_tokens": count}
        case "POST", "/v1/messages":
            return message_json(client.create_message(plain_request(MessagesRequest, data, "messages")))
        case "POST", "/v1/messages/count_tokens":
            return {"input_tokens": client.count_message_tokens(plain_request(MessagesRequest, data, "messages"))}
        case _:
            return small(client, method, path, query, data)


def small(client: LlamaServerClient, method: str, path: str, query: dict[str, str], data: Json) -> Json:  # noqa: C901
    """The routes of tokens, vectors, ranks, slots and streams."""
    match method, path:
        case "POST", "/tokenize" if isinstance(data.get("content"), str):
            given = {name: data[name] for name in ("add_special", "parse_special") if name in data}
            if data.get("with_pieces"):
                return {"tokens": [_piece_json(token) for token in client.tokenize_pieces(data["content"], **given)]}
            return {"tokens": client.tokenize(data["content"], **given)}
        case "POST", "/detokenize":
            return {"content": client.detokenize(data["tokens"])}
        case "POST", "/v1/embeddings":
            return embeddings_json(client, data)
        case "POST", "/embeddings" | "/embedding" if isinstance(data.get("content"), list):
            extra = {name: value for name, value in data.items() if name != "content"}
            vectors = client.embed_tokens(data["content"], extra_body=extra)
            return [{"index": index, "embedding": found} for index, found in enumerate(vectors)]
        case "POST", "/rerank" | "/v1/rerank" | "/reranking" | "/v1/reranking" if isinstance(data.get("query"), str):
            extra = {name: value for name, value in data.items() if name not in ("query", "documents", "top_n")}
            documents = data.get("documents") or []
            ranks = client.rerank(data["query"], documents, top_n=data.get("top_n"), extra_body=extra)
            if ranks.raw is None:
                raise PlainOnly
            return ranks.raw
        case "POST", _ if path.startswith("/slots/"):
            return slot_json(client, int(path.rpartition("/")[2]), query["action"], data or {})
        case "DELETE", "/v1/stream":
            client.stop_stream(query["conv_id"])
            return ""
        case "POST", "/v1/streams/lookup":
            return [{**_fields(state)} for state in client.find_streams(data["conversation_ids"])]
    raise PlainOnly


def slot_json(client: LlamaServerClient, slot: int, action: str, data: Mapping[str, Json]) -> Json:
    if action == "erase":
        return client.erase_slot(slot).raw
    act = {"save": client.save_slot, "restore": client.restore_slot}.get(action)
    if act is None or not isinstance(data.get("filename"), str):
        raise PlainOnly
    return act(slot, data["filename"]).raw


def embeddings_json(client: LlamaServerClient, data: Mapping[str, Json]) -> Json:
    given = data.get("input")
    inputs = given if isinstance(given, list) and not (given and isinstance(given[0], int)) else [given]
    if given is None or given == []:
        raise PlainOnly
    extra = {name: value for name, value in data.items() if name not in ("input", "model", "encoding_format")}
    if (form := data.get("encoding_format")) not in (None, "float", "base64"):
        extra["encoding_format"] = form
    found = client.embed(inputs, model=data.get("model"), extra_body=extra)
    vectors: list[Json] = found.vectors
    if form == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{len(one)}f", *one)).decode() for one in vectors]
    entries = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(vectors)]
    return {**found.raw, "data": entries, "model": found.model}


def message_json(reply: Any) -> Json:
    content = [{name: value for name, value in block.items() if name != "partial_json"} for block in reply.content]
    usage = reply.usage
    cached = usage.cached_tokens or 0
    counts = {"input_tokens": usage.prompt_tokens - cached, "output_tokens": usage.completion_tokens}
    return {
        "id": reply.id, "type": "message", "role": "assistant", "model": reply.model, "content": content,
        "stop_reason": reply.stop_reason, "stop_sequence": reply.stop_sequence,
        "usage": {**counts, "cache_read_input_tokens": cached},
    }  # fmt: skip


def _piece_json(token: Any) -> Json:
    try:
        return {"id": token.id, "piece": token.piece.decode()}
    except UnicodeDecodeError:
        return {"id": token.id, "piece": list(token.piece)}


def _fields(value: Any) -> dict[str, Json]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def events(client: LlamaServerClient, path: str, data: dict[str, Json]) -> Iterator[Json]:
    """The events of a streamed answer."""
    match path:
        case "/chat/completions" | "/v1/chat/completions":
            wants = bool((data.get("stream_options") or {}).get("include_usage"))
            return chat_events(client.stream_chat(chat_request(data)), wants)
        case "/completion" | "/completions":
            return completion_events(client.stream_complete(completion_request(data, True)), True)
        case "/v1/completions":
            return completion_events(client.stream_complete(completion_request(data, False)), False)
        case "/v1/responses" | "/responses":
            request = plain_request(ResponsesRequest, data, "input")
            return (event.raw for event in client.stream_response(request))
        case "/v1/messages":
            return (event.raw for event in client.stream_message(plain_request(MessagesRequest, data, "messages")))
    raise PlainOnly


# -- their helper


def put_client_in_place() -> None:
    """Have their HTTP helper ask through our client."""
    plain, plain_stream = utils.ServerProcess.make_request, utils.ServerProcess.make_stream_request

    def make_request(
        self: Any, method: str, path: str, data: Json = None, headers: Json = None, *more: Any, **named: Any
    ) -> Any:
        if not getattr(self, "ready", False):
            return plain(self, method, path, data, headers, *more, **named)
        url, parts = self.make_url("", named.get("host")), urlsplit(path)
        answer = utils.ServerResponse()
        answer.headers, answer.status_code = {}, 200
        try:
            with connected(url, headers) as client:
                answer.body = plain_answer(client, method, parts.path, dict(parse_qsl(parts.query)), data)
            if isinstance(answer.body, Metrics):
                answer.headers = {"Process-Start-Time-Unix": str(answer.body.started_at)}
                answer.body = answer.body.text
        except LlamaServerError as error:
            answer.status_code, answer.body = error.status or 400, body_of(error)
        except (PlainOnly, AttributeError, KeyError, TypeError) as error:
            plain_requests[f"{method} {parts.path} {error!r:.90}"] += 1
            return plain(self, method, path, data, headers, *more, **named)
        print("Response through the client", json.dumps(answer.body, default=str))
        return answer

    def make_stream_request(
        self: Any, method: str, path: str, data: Json = None, headers: Json = None, host: Json = None
    ) -> Iterator[Json]:
        try:
            with connected(self.make_url("", host), headers) as client:
                yield from events(client, urlsplit(path).path, data)
        except LlamaServerError as error:
            raise utils.ServerError(error.status or 400, body_of(error)) from error
        except PlainOnly:
            plain_requests[f"{method} {path} (stream)"] += 1
            yield from plain_stream(self, method, path, data, headers, host)

    utils.ServerProcess.make_request = make_request
    utils.ServerProcess.make_stream_request = make_stream_request


def connected(url: str, headers: Mapping[str, str | None] | None) -> LlamaServerClient:
    given = {name: value for name, value in (headers or {}).items() if value is not None}
    key = given.pop("Authorization", None)
    settings: dict[str, Any] = {"max_retries": 0, "wait_while_loading": False, "headers": given}
    if key is not None:
        settings["api_key"] = key.removeprefix("Bearer ")
    return LlamaServerClient(url, **settings)


def body_of(error: LlamaServerError) -> Json:
    """The server's words, or for what the client refuses itself, an error in their form."""
    try:
        return json.loads(error.body or "")
    except ValueError:
        kind = error.server_type or "invalid_request_error"
        return {"error": {"code": error.status or 400, "message": error.server_message or str(error), "type": kind}}


class AnyCount(int):
    """Equal to any count, in the place of one that depends on a downloaded model's tokens."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and other >= 0


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Replace counts of the downloaded models' tokens by their shape."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        for name in params.keys() & {"n_prompt", "n_prompt_expected", "n_cache", "n_predicted"}:
            params[name] = AnyCount(params[name])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what did not go through the client."""
    for what, count in plain_requests.most_common():
        terminalreporter.write_line(f"not through the client: {count} x {what}")


put_models_in_place()
if WAY == "client":
    put_client_in_place()

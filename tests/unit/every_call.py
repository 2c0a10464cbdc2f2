"""A reply of every endpoint, to be spoiled field by field, and the calls of the client that read it."""

import copy
import dataclasses
import json
import re
from typing import Any

import httpx

from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    Choice,
    CompletionRequest,
    EmbedRequest,
    Example,
    InfillRequest,
    LlamaServerClient,
    LlamaServerError,
    MessagesRequest,
    RankRequest,
    ResponsesRequest,
    Score,
)

USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CHAT = ChatRequest(messages=[USER])
UNSTREAMED = ChatRequest(messages=[USER], extra_body={"stream": False})
CHOICES = ChatRequest(messages=[USER], params={"choices": ["a", "b"]})
TIMINGS = {"cache_n": 0, "prompt_n": 1, "prompt_ms": 1.0, "predicted_n": 1, "predicted_ms": 1.0,
           "prompt_per_second": 1.0, "draft_n": 1}  # fmt: skip
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGE = {"role": "assistant", "content": "x", "reasoning_content": "y", "tool_calls": [CALL]}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 0},
         "completion_tokens_details": {"reasoning_tokens": 1}}  # fmt: skip
LIKELY = [{"id": 1, "token": "a", "logprob": -1.0}, {"id": 2, "token": "b", "logprob": -1.0}]
LOGPROBS = {"content": [{"id": 1, "token": "x", "logprob": -1.0, "bytes": [120], "top_logprobs": LIKELY}]}
PROGRESS = {"total": 1, "cache": 0, "processed": 1, "time_ms": 1}


def reply_of(choice):
    """A reply of `/v1/chat/completions` or `/v1/completions` with this choice."""
    wire = {"index": 0, "finish_reason": "stop", "logprobs": LOGPROBS, **choice}
    return {"id": "c1", "created": 1, "model": "m", "system_fingerprint": "b1", "choices": [wire], "usage": USAGE,
            "timings": TIMINGS, "prompt_progress": PROGRESS}  # fmt: skip


DELTAS = [reply_of({"delta": MESSAGE}), reply_of({"delta": {"content": "z"}})]
REPLY = reply_of({"message": MESSAGE})
REUSED = {**REPLY, "timings": {**TIMINGS, "prompt_n": 0}}
COMPLETION = reply_of({"text": "x"})
NATIVE = {
    "content": "x", "tokens": [1], "stop": True, "stop_type": "eos", "index": 0, "tokens_evaluated": 1,
    "tokens_predicted": 1, "timings": TIMINGS, "completion_probabilities": LOGPROBS["content"],
}  # fmt: skip
PROPS = {
    "total_slots": 1, "default_generation_settings": {"n_ctx": 10, "params": {"a": 1}}, "model_alias": "m",
    "model_path": "p", "build_info": "b1", "chat_template": "x", "chat_template_caps": {"supports_tools": True},
    "modalities": {"vision": True}, "is_sleeping": False, "role": "model",
}  # fmt: skip
CARD = {
    "id": "m", "aliases": ["n"], "status": {"value": "loaded", "failed": False, "exit_code": 1}, "capabilities": ["x"],
    "meta": {"n_ctx": 10, "n_ctx_train": 10, "n_embd": 1, "n_vocab": 1, "n_params": 1}, "context_length": 1,
    "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
}  # fmt: skip
CARDS = {"data": [CARD], "models": [{"name": "m", "capabilities": ["completion"]}]}
NATIVE_CARDS = {"data": [{**CARD, "architecture": {"output_modalities": ["decisions"]}}]}
SWAP = {"data": [{"id": "m"}]}
SLOT = {"id": 0, "is_processing": False, "n_ctx": 10, "id_task": 1, "next_token": [{"n_decoded": 1}]}
SAVED = {"id_slot": 0, "n_saved": 1, "n_written": 1, "timings": {"save_ms": 1}}
LORAS = [{"id": 0, "path": "a.gguf", "scale": 1.0}]
VECTORS = {"data": [{"index": 0, "embedding": [1.0]}], "model": "m", "usage": USAGE}
RANKS = {"results": [{"index": 0, "relevance_score": 1.0, "text": "x"}], "model": "m", "usage": USAGE}
TOOLS = [{"tool": "t", "type": "server", "permissions": {"write": True}, "definition": {"function": {
    "name": "t", "description": "d", "parameters": {"type": "object"}}}}]  # fmt: skip
STREAMS = [{"conversation_id": "c", "is_done": True, "total_bytes": 1, "started_at": 1, "completed_at": 1}]
RESPONSE = {"id": "r", "model": "m", "status": "completed", "output": [
    {"type": "message", "id": "i", "content": [{"type": "output_text", "text": "x"}]},
    {"type": "reasoning", "id": "j", "content": [{"type": "reasoning_text", "text": "x"}]},
    {"type": "function_call", "id": "k", "call_id": "c", "name": "f", "arguments": "{}"},
], "usage": {"input_tokens": 1, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 0}}}  # fmt: skip
RESPONSE_EVENTS = [
    {"type": "response.created", "response": {"id": "r", "model": "m", "status": "in_progress"}},
    {"type": "response.output_item.added", "item": RESPONSE["output"][0], "item_id": "i"},
    {"type": "response.output_text.delta", "item_id": "i", "delta": "x", "timings": TIMINGS},
    {"type": "response.reasoning_text.delta", "item_id": "j", "delta": "x", "prompt_progress": PROGRESS},
    {"type": "response.function_call_arguments.delta", "item_id": "k", "delta": "x"},
    {"type": "response.output_item.done", "item": RESPONSE["output"][2], "item_id": "k"},
    {"type": "response.completed", "response": RESPONSE, "timings": TIMINGS},
]
MESSAGE_EVENTS = [
    {"type": "message_start", "message": {"id": "m1", "model": "a", "usage": {"input_tokens": 3, "output_tokens": 0}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": "x"}},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "f"}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": "s"},
     "usage": {"output_tokens": 1, "cache_read_input_tokens": 1}},
    {"type": "message_stop"},
]  # fmt: skip
TRANSCRIPT = [
    {"type": "transcript.text.delta", "delta": "x"},
    {"type": "transcript.text.done", "text": "x", "usage": {"input_tokens": 9, "output_tokens": 3}},
]
MODEL_EVENTS = [
    {"model": "m", "event": "status_change", "data": {"status": "loading", "progress": {"stages": ["text_model"],
     "current": "text_model", "value": 0.5}}},
    {"model": "m", "event": "download_progress", "data": {"a": {"done": 1, "total": 2}}},
    {"type": "modelStatus", "data": json.dumps([{"id": "m", "state": "ready"}])},
]  # fmt: skip
DECIDED = {"model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}, "answers": {
    "t": {"type": "choice", "choice": "a", "probabilities": {"a": 0.5, "b": 0.5}},
    "s": {"type": "score", "score": 0, "mean": 0.5, "probabilities": {"0": 0.5, "1": 0.5}},
}}  # fmt: skip
QUESTIONS = {"t": Choice("Which?", ["a", "b"]), "s": Score("How?", ["bad", "good"])}
TOKENS = {"/tokenize": {"tokens": [1]}, "/apply-template": {"prompt": "x"}, "/detokenize": {"content": "a"},
          "/v1/models": CARDS}  # fmt: skip
# Both options would be spelled by one token here: refused, once all replies were read.
REFUSED = {"decide", "choice_probabilities", "load_model, watched"}
METRICS = "# TYPE llamacpp:tokens counter\nllamacpp:tokens 1\nllamacpp:ratio NaN\n"


class Events(list[Any]):
    """Events of a stream, whatever the request asked for."""

    end = "data: [DONE]\n\n"


class EndlessEvents(Events):
    """Events of a stream without an end mark."""

    end = ""


CHAT_STREAM = {"/v1/chat/completions": Events(DELTAS)}

# The method's name, what is called, and the replies by path. A path that is missing answers 404.
CALLS = {
    "chat": (lambda c: c.chat(CHAT), CHAT_STREAM),
    "chat, whole": (lambda c: c.chat(UNSTREAMED), {"/v1/chat/completions": REPLY}),
    "chat, whole where a stream was wanted": (lambda c: c.chat(CHAT), {"/v1/chat/completions": REPLY}),
    "chat, with tools": (
        lambda c: c.chat(ChatRequest(messages=[USER], tools=[TOOL], tool_choice="f")),
        {**CHAT_STREAM, "/props": PROPS},
    ),
    "chat, with choices": (lambda c: c.chat(CHOICES), CHAT_STREAM),
    "stream_chat": (lambda c: list(c.stream_chat(CHAT)), CHAT_STREAM),
    "stream_resumable_chat": (lambda c: list(c.stream_resumable_chat(CHAT, "k")), CHAT_STREAM),
    "resume_chat": (lambda c: list(c.resume_chat("k")), {"/v1/stream": Events(DELTAS)}),
    "complete": (
        lambda c: c.complete(CompletionRequest(prompt="x")),
        {"/v1/completions": Events([COMPLETION, COMPLETION])},
    ),
    "complete, whole": (
        lambda c: c.complete(CompletionRequest(prompt="x", extra_body={"stream": False})),
        {"/v1/completions": COMPLETION},
    ),
    "complete, native": (lambda c: c.complete(CompletionRequest(prompt="x")), {"/completion": Events([NATIVE])}),
    "complete, native and whole": (
        lambda c: c.complete(CompletionRequest(prompt="x", params={"return_tokens": True})),
        {"/completion": NATIVE},
    ),
    "stream_complete": (
        lambda c: list(c.stream_complete(CompletionRequest(prompt="x"))),
        {"/completion": Events([{**NATIVE, "stop": False}, NATIVE])},
    ),
    "infill": (lambda c: c.infill(InfillRequest(prefix="x", suffix="y")), {"/infill": Events([NATIVE])}),
    "stream_infill": (
        lambda c: list(c.stream_infill(InfillRequest(prefix="x", suffix="y"))),
        {"/infill": Events([NATIVE])},
    ),
    "end_reasoning": (
        lambda c: c.end_reasoning("c1"),
        {"/v1/chat/completions/control": {"success": True, "message": "x"}},
    ),
    "create_response": (
        lambda c: c.create_response(ResponsesRequest(input="x")),
        {"/v1/responses": Events(RESPONSE_EVENTS)},
    ),
    "stream_response": (
        lambda c: list(c.stream_response(ResponsesRequest(input="x"))),
        {"/v1/responses": Events(RESPONSE_EVENTS)},
    ),
    "count_response_tokens": (
        lambda c: c.count_response_tokens(ResponsesRequest(input="x")),
        {"/v1/responses/input_tokens": {"input_tokens": 1}},
    ),
    "create_message": (
        lambda c: c.create_message(MessagesRequest(messages=[USER])),
        {"/v1/messages": Events(MESSAGE_EVENTS)},
    ),
    "stream_message": (
        lambda c: list(c.stream_message(MessagesRequest(messages=[USER]))),
        {"/v1/messages": Events(MESSAGE_EVENTS)},
    ),
    "count_message_tokens": (
        lambda c: c.count_message_tokens(MessagesRequest(messages=[USER])),
        {"/v1/messages/count_tokens": {"input_tokens": 1}},
    ),
    "transcribe": (lambda c: c.transcribe(b"x"), {"/v1/audio/transcriptions": Events(TRANSCRIPT)}),
    "stream_transcription": (
        lambda c: list(c.stream_transcription(b"x")),
        {"/v1/audio/transcriptions": Events(TRANSCRIPT)},
    ),
    "find_streams": (lambda c: c.find_streams(["c"]), {"/v1/streams/lookup": STREAMS}),
    "stop_stream": (lambda c: c.stop_stream("c"), {"/v1/stream": {}}),
    "server_tools": (lambda c: c.server_tools(), {"/tools": TOOLS}),
    "call_server_tool": (lambda c: c.call_server_tool("t", {}), {"/tools": {"plain_text_response": "x", "error": ""}}),
    "stream_server_tool": (
        lambda c: list(c.stream_server_tool("t", {})),
        {"/tools": Events([{"chunk": "x"}, {"done": True, "error": "e"}])},
    ),
    "health": (lambda c: c.health(), {"/health": {"status": "ok"}}),
    "wait_until_ready": (lambda c: c.wait_until_ready(0), {"/v1/models": CARDS}),
    "models": (lambda c: c.models(), {"/v1/models": CARDS}),
    "model_name": (lambda c: c.model_name(), {"/v1/models": CARDS}),
    "props": (lambda c: c.props(), {"/props": PROPS}),
    "props, of a router": (lambda c: c.props(), {"/props": {**PROPS, "role": "router"}}),
    "info": (lambda c: c.info(), {"/v1/models": CARDS, "/props": PROPS}),
    "info, of a router": (lambda c: c.info(), {"/v1/models": CARDS, "/props": {**PROPS, "role": "router"}}),
    "slots": (lambda c: c.slots(), {"/slots": [SLOT]}),
    "save_slot": (lambda c: c.save_slot(0, "f"), {"/slots/0": SAVED}),
    "restore_slot": (lambda c: c.restore_slot(0, "f"), {"/slots/0": {**SAVED, "n_restored": 1, "n_read": 1}}),
    "erase_slot": (lambda c: c.erase_slot(0), {"/slots/0": {"id_slot": 0, "n_erased": 1}}),
    "lora_adapters": (lambda c: c.lora_adapters(), {"/lora-adapters": LORAS}),
    "set_lora_adapters": (lambda c: c.set_lora_adapters({"a": 1.0}), {"/lora-adapters": LORAS}),
    "metrics": (lambda c: c.metrics(), {"/metrics": METRICS}),
    "running_models": (lambda c: c.running_models(), {"/v1/models": CARDS}),
    "running_models, of llama-swap": (
        lambda c: c.running_models(),
        {"/v1/models": SWAP, "/running": {"running": [{"model": "m", "state": "ready"}]}},
    ),
    "load_model": (lambda c: c.load_model("m", 0), {"/models/load": {"success": True}, "/v1/models": CARDS}),
    "load_model, of llama-swap": (lambda c: c.load_model("m", 0), {"/v1/models": SWAP, "/upstream/m/health": "OK"}),
    "load_model, watched": (
        lambda c: c.with_settings(on_progress=lambda progress: None).load_model("m", 0),
        {"/models/load": {}, "/models/sse": EndlessEvents(MODEL_EVENTS), "/v1/models": {
            "data": [{**CARD, "status": {"value": "unloaded"}}]}},
    ),
    "unload_model": (
        lambda c: c.unload_model("m"),
        {"/models/unload": {"success": True}, "/v1/models": {"data": [{**CARD, "status": {"value": "unloaded"}}]}},
    ),
    "download_model": (lambda c: c.download_model("m"), {"/models": {"success": True}}),
    "delete_model": (lambda c: c.delete_model("m"), {"/models": {"success": True}}),
    "watch_models": (lambda c: list(c.watch_models()), {"/models/sse": EndlessEvents(MODEL_EVENTS)}),
    "prewarm": (lambda c: c.prewarm(CHAT), {"/v1/chat/completions": REPLY, "/props": PROPS}),
    "save_prompt": (lambda c: c.save_prompt(CHAT, "f"), {"/v1/chat/completions": REPLY, "/slots/0": SAVED}),
    "restore_prompt": (lambda c: c.restore_prompt(CHAT, "f"), {"/v1/chat/completions": REUSED, "/slots/0": SAVED}),
    "embed": (lambda c: c.embed(["x"]), {"/v1/embeddings": VECTORS}),
    "embed_tokens": (lambda c: c.embed_tokens(["x"]), {"/embeddings": [{"index": 0, "embedding": [[1.0]]}]}),
    "embed_texts": (
        lambda c: c.embed_texts(EmbedRequest(inputs=["x"], on_oversize="truncate")),
        {"/v1/embeddings": VECTORS, "/tokenize": {"tokens": [1, 2]}, "/v1/models": CARDS, "/props": PROPS},
    ),
    "rerank": (lambda c: c.rerank("q", ["x"]), {"/v1/rerank": RANKS}),
    "rerank, of TEI": (lambda c: c.rerank("q", ["x"]), {"/v1/rerank": [{"index": 0, "score": 1.0, "text": "x"}]}),
    "rank": (lambda c: c.rank(RankRequest(query="q", documents=["x"])), {"/v1/rerank": RANKS, "/props": PROPS}),
    "decide": (lambda c: c.decide("x", QUESTIONS, rotations=2), {**TOKENS, "/completion": NATIVE}),
    "decide, native": (
        lambda c: c.decide("x", QUESTIONS, engine="native"),
        {"/v1/systemone": DECIDED, "/v1/models": NATIVE_CARDS},
    ),
    "choice_probabilities": (lambda c: c.choice_probabilities(CHOICES), {**TOKENS, "/completion": NATIVE}),
    "calibrate": (
        lambda c: c.calibrate({"t": QUESTIONS["t"]}, [Example("x", {"t": "a"})], engine="native"),
        {"/v1/systemone": DECIDED, "/v1/models": NATIVE_CARDS},
    ),
    "tokenize": (lambda c: c.tokenize("x"), {"/tokenize": {"tokens": [1]}}),
    "tokenize_pieces": (lambda c: c.tokenize_pieces("x"), {"/tokenize": {"tokens": [{"id": 1, "piece": [120]}]}}),
    "detokenize": (lambda c: c.detokenize([1]), {"/detokenize": {"content": "x"}}),
    "apply_template": (lambda c: c.apply_template(CHAT), {"/apply-template": {"prompt": "x"}, "/props": PROPS}),
    "count_tokens": (lambda c: c.count_tokens(CHAT), {"/v1/chat/completions/input_tokens": {"input_tokens": 1}}),
    "fits": (
        lambda c: c.fits(CHAT),
        {"/v1/chat/completions/input_tokens": {"input_tokens": 1}, "/v1/models": CARDS, "/props": PROPS},
    ),
}  # fmt: skip

# What has no reply of its own: the batch is a loop over the other methods.
WITHOUT_REPLIES = {"batch_file", "close", "with_settings"}


def places(value, path=()):
    """The paths of all fields within a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def put(value, path, odd):
    """The value with another one at a path."""
    if not path:
        return odd
    value = copy.deepcopy(value)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = odd
    return value


def text_of(body):
    """A reply as it is sent, with its content type."""
    if isinstance(body, Events):
        lines = "".join(f"event: {event_name(event)}\ndata: {json.dumps(event)}\n\n" for event in body)
        return lines + body.end, "text/event-stream"
    if isinstance(body, str) and "\n" in body:
        return body, "text/plain"
    return json.dumps(body), "application/json"


def event_name(event):
    name = event.get("type") if isinstance(event, dict) else None
    return name if isinstance(name, str) and "\n" not in name else "message"


class StandIn:
    """A client whose server answers with the replies that it was given last."""

    def __init__(self):
        self.replies, self.status = {}, 200
        given = httpx.Client(transport=httpx.MockTransport(self.answer))
        self._client = LlamaServerClient(
            "http://127.0.0.1:1", http_client=given, max_retries=0, wait_while_loading=False, model="m"
        )
        self._number = 0

    def answer(self, request):
        if request.url.path not in self.replies:
            return httpx.Response(404, json={"error": {"code": 404, "message": "File Not Found"}})
        text, kind = text_of(self.replies[request.url.path])
        content = text.encode("utf-8", "replace")
        return httpx.Response(self.status, content=content, headers={"Content-Type": kind})

    def run(self, call, replies, status=200):
        """What a call returns, every attribute of it looked at; or the typed error that it raises."""
        self.replies, self.status = replies, status
        self._number += 1  # an address of its own, as what is known of a server is kept
        client = self._client.with_settings(base_url=f"http://host{self._number}:1")
        try:
            result = call(client)
        except LlamaServerError as error:
            str(error)
            repr(error)
            return error
        look_at(result)
        return result


def look_at(value, depth=0):
    """Reads every field and property of a result, as a program or a debugger would."""
    repr(value)
    if depth > 4 or isinstance(value, type):
        return
    if isinstance(value, list | tuple | set):
        for inner in value:
            look_at(inner, depth + 1)
    kind = type(value)
    if kind.__module__.startswith("llamacpp_server"):
        names = {name for cls in kind.__mro__ for name, held in vars(cls).items() if isinstance(held, property)}
        if dataclasses.is_dataclass(value):
            hash_free = {field.name for field in dataclasses.fields(value)}
            names |= hash_free - {"raw"}
        for name in names:
            look_at(getattr(value, name), depth + 1)


def public_methods():
    """The names of the client's public methods; both clients have the same."""
    names = {name for name in dir(LlamaServerClient) if not name.startswith("_")}
    other = {re.sub("^aclose$", "close", name) for name in dir(AsyncLlamaServerClient) if not name.startswith("_")}
    assert names and names == other
    return {name for name in names if callable(getattr(LlamaServerClient, name))}

"""The blocking client: one method for each endpoint of llama-server. Generated from `async_client.py`.

To change a method, change `async_client.py` and run `python scripts/generate_client.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ._batch import BatchSummary, run_batch
from ._endpoints import (
    chat,
    decide,
    embeddings,
    lora,
    other_apis,
    reranking,
    resumable,
    router,
    server,
    server_tools,
    slots,
)
from ._replies import (
    fold_transcription,
)
from .calibration import CalibrationReport, Example
from .chat import (
    ChatDelta,
    ChatReply,
    ChatRequest,
    CompletionDelta,
    CompletionReply,
    CompletionRequest,
    InfillRequest,
)
from .decisions import DecisionRequest, Decisions, Question
from .info import ServerInfo
from .messages import MessagesEvent, MessagesReply, MessagesRequest
from .progress import ModelEvent
from .responses import ResponsesEvent, ResponsesReply, ResponsesRequest
from .results import (
    Embeddings,
    Fit,
    Health,
    LoraAdapter,
    Metrics,
    ModelCard,
    PromptRead,
    Rankings,
    ServerProps,
    SlotAction,
    SlotPrompt,
    SlotState,
    StreamState,
    Token,
)
from .server_tools import ServerTool, ServerToolChunk, ServerToolOutput
from .settings import ServerSettings, hides_arguments
from .transcription import Transcription, TranscriptionEvent
from .transport import (
    Transport,
)
from .vectors import EmbedRequest, RankRequest

if TYPE_CHECKING:
    import os

    import httpx

    FilePath = str | os.PathLike[str]

__all__ = ["LlamaServerClient"]


class LlamaServerClient:
    """A client of llama-server. Safe to use from several threads, after a fork, and pickled.

    Examples:
        >>> with LlamaServerClient("http://localhost:8080") as client:  # doctest: +SKIP
        ...     for delta in client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "Hello"}])):
        ...         print(delta.content, end="")

    Args:
        base_url: Address of the server; None means `LLAMACPP_BASE_URL`, else http://localhost:8080, or port 9931 where
            nothing listens at 8080.
        settings: All settings at once.
        http_client: Used instead of connections of our own, and never closed by us.
        transport: Connections to share with other clients.
        **fields: Single fields of `ServerSettings`, such as `api_key` and `read_timeout`.

    Attributes:
        settings: The connection settings.

    Every method raises subclasses of `LlamaServerError`.
    """

    @hides_arguments
    def __init__(
        self,
        base_url: str | None = None,
        *,
        settings: ServerSettings | None = None,
        http_client: httpx.Client | None = None,
        transport: Transport | None = None,
        **fields: Any,
    ) -> None:
        if settings is None:
            settings = ServerSettings.from_env(base_url=base_url, **fields)
        elif base_url is not None or fields:
            given = fields if base_url is None else {"base_url": base_url, **fields}
            settings = settings.replace(**given)
        self.settings = settings
        self._transport = transport or Transport(http_client)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings!r})"

    @hides_arguments
    def with_settings(self, **changes: Any) -> Self:
        """A client with some settings changed that shares this one's connections."""
        other = copy.copy(self)
        other.settings = self.settings.replace(**changes)
        return other

    def close(self) -> None:
        """Close the connections; an `http_client` of yours stays open. Usable again afterwards."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- chat and completion

    def chat(self, request: ChatRequest) -> ChatReply:
        """Return a whole chat reply. Streams internally, so that the server notices a disconnect.

        Raises:
            LlamaServerError: As the type says; `partial` holds what came before a failure.
        """
        return self._transport.run(chat.chat(self.settings, request))

    def stream_chat(self, request: ChatRequest) -> Iterator[ChatDelta]:
        """Stream a chat reply. Close the iterator to stop early and free the server's slot."""
        return self._transport.stream(chat.stream_chat(self.settings, request))

    def complete(self, request: CompletionRequest | InfillRequest) -> CompletionReply:
        """A whole text completion (`/v1/completions`, or `/completion` on a build without it), or text for a gap."""
        return self._transport.run(server.complete(self.settings, request))

    def stream_complete(self, request: CompletionRequest | InfillRequest) -> Iterator[CompletionDelta]:
        """Stream a text completion."""
        return self._transport.stream(server.stream_complete(self.settings, request))

    def infill(self, request: InfillRequest) -> CompletionReply:
        """Fill in the middle between a prefix and a suffix; requires a model with fill-in-the-middle tokens."""
        return self._transport.run(server.infill(self.settings, request))

    def stream_infill(self, request: InfillRequest) -> Iterator[CompletionDelta]:
        """Stream the text of `infill`."""
        return self._transport.stream(server.stream_infill(self.settings, request))

    def end_reasoning(self, reply_id: str, *, model: str | None = None) -> None:
        """End the reasoning of a running reply that was requested with `reasoning_control=True`.

        Args:
            reply_id: `start.id` of the reply's first delta.
            model: The model that runs it (routers).

        Raises:
            BadRequestError: When no such reply runs, or it can't be controlled.
        """
        self._transport.run(server.end_reasoning(self.settings, reply_id, model))

    # -- the APIs of OpenAI and Anthropic beside chat completions

    def create_response(self, request: ResponsesRequest) -> ResponsesReply:
        """Return a whole reply of `/v1/responses`. Streams internally, so that the server notices a disconnect."""
        return ResponsesReply.from_events(list(self.stream_response(request)))

    def stream_response(self, request: ResponsesRequest) -> Iterator[ResponsesEvent]:
        """Stream the events of `/v1/responses`; the last one holds the whole reply."""
        return self._transport.stream(other_apis.stream_response(self.settings, request))

    def count_response_tokens(self, request: ResponsesRequest) -> int:
        """Count the prompt tokens of a request to `/v1/responses`; generates nothing."""
        return self._transport.run(other_apis.count_response_tokens(self.settings, request))

    def create_message(self, request: MessagesRequest) -> MessagesReply:
        """Return a whole reply of `/v1/messages`. Streams internally, so that the server notices a disconnect."""
        return MessagesReply.from_events(list(self.stream_message(request)))

    def stream_message(self, request: MessagesRequest) -> Iterator[MessagesEvent]:
        """Stream the events of `/v1/messages`."""
        return self._transport.stream(other_apis.stream_message(self.settings, request))

    def count_message_tokens(self, request: MessagesRequest) -> int:
        """Count the prompt tokens of a request to `/v1/messages`; generates nothing."""
        return self._transport.run(other_apis.count_message_tokens(self.settings, request))

    def transcribe(self, audio: bytes | Path, **fields: object) -> Transcription:
        """Transcribe a recording; requires an audio model (`--mmproj`). Arguments as in `stream_transcription`."""
        return fold_transcription(list(self.stream_transcription(audio, **fields)))

    def stream_transcription(self, audio: bytes | Path, **fields: object) -> Iterator[TranscriptionEvent]:
        """Stream the transcript of a recording; the last event holds all of it.

        Args:
            audio: A recording (wav, mp3 or flac), or the path of one.
            **fields: `language`, `prompt`, `temperature`, `max_tokens` and `model`; further ones are sent as they are.

        Raises:
            NotSupportedError: When the model does not hear.
        """
        return self._transport.stream(other_apis.stream_transcription(self.settings, audio, fields))

    # -- streams that outlive their connection, and tools that the server runs

    def stream_resumable_chat(self, request: ChatRequest, conversation_id: str) -> Iterator[ChatDelta]:
        """`stream_chat`, of which the server keeps a copy: `resume_chat` reads it after a broken connection.

        Leaving it early does not stop the server: `stop_stream` does. A new one with the same id ends the old one.
        """
        return self._transport.stream(resumable.stream_resumable_chat(self.settings, request, conversation_id))

    def resume_chat(self, conversation_id: str) -> Iterator[ChatDelta]:
        """Stream the reply of `stream_resumable_chat` again from its beginning.

        Raises:
            NotFoundError: When the server has no such stream any more; it keeps one for five minutes (b11549).
            BadRequestError: When the reply is longer than the 4 MiB that it keeps.
        """
        return self._transport.stream(resumable.resume_chat(self.settings, conversation_id))

    def find_streams(self, conversation_ids: Sequence[str]) -> list[StreamState]:
        """Find which resumable streams the server still has."""
        return self._transport.run(resumable.find_streams(self.settings, conversation_ids))

    def stop_stream(self, conversation_id: str) -> None:
        """Stop and discard a resumable stream; does nothing if there is none."""
        self._transport.run(resumable.stop_stream(self.settings, conversation_id))

    def server_tools(self) -> list[ServerTool]:
        """List the tools that the server runs itself; requires `--tools` or `--mcp-servers-config`."""
        return self._transport.run(server_tools.server_tools(self.settings))

    def call_server_tool(self, name: str, arguments: Mapping[str, Any], *, cwd: str | None = None) -> ServerToolOutput:
        """Run a tool on the server's machine. Never with arguments of a model that you would not run yourself.

        Args:
            name: As in `server_tools`.
            arguments: As its `parameters` say.
            cwd: Directory that it runs in, on the server's machine; None takes the server's own.
        """
        return self._transport.run(server_tools.call_server_tool(self.settings, name, arguments, cwd))

    def stream_server_tool(
        self, name: str, arguments: Mapping[str, Any], *, cwd: str | None = None
    ) -> Iterator[ServerToolChunk]:
        """Run a tool and stream its output; only `exec_shell_command` supports it (b11549)."""
        return self._transport.stream(server_tools.stream_server_tool(self.settings, name, arguments, cwd))

    # -- the server and its models

    def health(self) -> Health:
        """Check whether the server can answer; does not wait, and does not wake a sleeping model."""
        return self._transport.run(server.health(self.settings))

    def wait_until_ready(self, timeout: float | None = None) -> Health:
        """Wait while connections are refused or the model loads; any other failure is raised at once.

        Args:
            timeout: Seconds; None takes `load_timeout` of the settings.

        Raises:
            ConnectionFailedError: When nothing listened until the timeout.
            ServerLoadingError: When the model was still loading at the timeout.
        """
        return self._transport.run(server.wait_until_ready(self.settings, timeout))

    def models(self, *, reload: bool = False) -> list[ModelCard]:
        """List the server's models; a router lists those that are not loaded too.

        With `reload` it reads its directory or preset file again first, and unloads what is gone or changed (b11549).
        """
        return self._transport.run(server.models(self.settings, reload))

    def model_name(self) -> str:
        """Return the model of the settings, else a loaded model of the server, else its first one."""
        return self._transport.run(server.model_name(self.settings))

    def props(self, model: str | None = None) -> ServerProps:
        """Return the server's properties. Never makes a router load a model; does not wake a sleeping one."""
        return self._transport.run(server.props(self.settings, model))

    def info(self, model: str | None = None) -> ServerInfo:
        """Return what the server and its model support. Never loads or wakes a model."""
        return self._transport.run(server.info(self.settings, model))

    def slots(self, model: str | None = None, *, fail_when_busy: bool = False) -> list[SlotState]:
        """List the slots with their state; raises `ServerBusyError` with `fail_when_busy`. Wakes a sleeping model."""
        return self._transport.run(server.slots(self.settings, model, fail_when_busy))

    def save_slot(self, id_slot: int, filename: str, model: str | None = None) -> SlotAction:
        """Save a slot's cache to a plain file name in the server's `--slot-save-path`."""
        return self._transport.run(server.slot_action(self.settings, id_slot, "save", filename, model))

    def restore_slot(self, id_slot: int, filename: str, model: str | None = None) -> SlotAction:
        """Restore a slot's cache; requires a server with the same model and slot layout."""
        return self._transport.run(server.slot_action(self.settings, id_slot, "restore", filename, model))

    def erase_slot(self, id_slot: int, model: str | None = None) -> SlotAction:
        """Erase a slot's cache, but not its copy in the RAM cache; requires `--slot-save-path` as well (b11434)."""
        return self._transport.run(server.slot_action(self.settings, id_slot, "erase", None, model))

    def lora_adapters(self, model: str | None = None) -> list[LoraAdapter]:
        """List the LoRA adapters that the server has loaded."""
        return self._transport.run(lora.lora_adapters(self.settings, model))

    def set_lora_adapters(self, scales: Mapping[int | str, float]) -> None:
        """Set the default scale of each adapter, by name or id; those not named get 0."""
        self._transport.run(server.set_lora_adapters(self.settings, scales))

    def metrics(self, model: str | None = None) -> Metrics:
        """Return the server's counters and gauges; requires `--metrics`."""
        return self._transport.run(server.metrics(self.settings, model))

    def running_models(self) -> list[ModelCard]:
        """List the loaded and loading models of a router or llama-swap; of another server, all it has."""
        return self._transport.run(router.running_models(self.settings))

    def load_model(self, model: str, timeout: float | None = None) -> ModelCard:
        """Load a model of a router or llama-swap and wait for it; reports to `on_progress` of the settings.

        Args:
            model: Name or alias.
            timeout: Seconds; None takes `load_timeout` of the settings.

        Raises:
            ServerFaultError: When the load fails; raised at once.
            NotSupportedError: When the server has one model only.
        """
        return self._transport.run(router.load_model(self.settings, model, timeout))

    def unload_model(self, model: str) -> None:
        """Unload a model of a router or llama-swap, and wait until it is done."""
        self._transport.run(router.unload_model(self.settings, model))

    def download_model(self, model: str) -> None:
        """Start a router's download of a model such as `user/repo:Q4_K_M`; `watch_models` reports progress.

        A download that fails is told like one that ends well (b11434): look for the model in `models()`.
        """
        self._transport.run(router.download_model(self.settings, model))

    def delete_model(self, model: str) -> None:
        """Remove a model from disk that a router has downloaded; one that it did not is a `ServerFaultError`."""
        self._transport.run(router.delete_model(self.settings, model))

    def watch_models(self) -> Iterator[ModelEvent]:
        """Stream the model events of a router or llama-swap, without end; close it to stop."""
        return self._transport.stream(router.watch_models(self.settings))

    # -- the prompt cache

    def prewarm(self, request: ChatRequest) -> PromptRead:
        """Load a prompt into the server's cache ahead of time; generates one token.

        Later prompts that begin the same start where this ended: give the system message and the tools of an agent.

        Args:
            request: Messages and tools; a short message of the user is added where the messages end in no question.
                `chat_template_kwargs` and the like should be those of the requests to come.
        """
        return self._transport.run(slots.prewarm(self.settings, request))

    def save_prompt(self, request: ChatRequest, filename: str, *, id_slot: int = 0) -> SlotPrompt:
        """Read a prompt into a slot and save the slot's cache to a file, which outlives the server.

        For experts: what else was in the slot is lost, and it names a slot, with the danger told at `id_slot`.

        Args:
            request: As in `prewarm`.
            filename: A plain name in the server's `--slot-save-path`.
            id_slot: The slot; requests of this process wait for it, those of others can't.

        Raises:
            NotSupportedError: When the server has no `--slot-save-path`.
            BadRequestError: When the file holds less than the prompt.
        """
        return self._transport.run(slots.save_prompt(self.settings, request, filename, id_slot))

    def restore_prompt(self, request: ChatRequest, filename: str, *, id_slot: int = 0) -> SlotPrompt:
        """Restore a slot's cache from a file, and verify that a prompt reuses it by reading it there.

        For experts, as `save_prompt` is.

        Args:
            request: The prompt that the slot is meant for, as in `prewarm`; it may go on where the saved one ended.
            filename: A file of `save_prompt` or `save_slot`, of the same model and slot layout (b11434).
            id_slot: The slot; another than the one that was saved will do.

        Raises:
            BadRequestError: When the file can't be restored, or the prompt can use less than half of it.
        """
        return self._transport.run(slots.restore_prompt(self.settings, request, filename, id_slot))

    # -- vectors and ranks

    def embed(
        self, inputs: Sequence[Any], *, model: str | None = None, extra_body: Mapping[str, Any] | None = None
    ) -> Embeddings:
        """Embed inputs: one vector for each, in order; requires `--embeddings` and a pooling other than `none`.

        Args:
            inputs: Texts; or token lists, or `{"content": parts}` for a multimodal model.
            model: Name (routers).
            extra_body: Further fields, such as `embd_normalize`.

        Raises:
            ContextOverflowError: When one input is longer than a physical batch (`-ub`).
        """
        return self._transport.run(server.embed(self.settings, inputs, model, extra_body or {}))

    def embed_tokens(
        self, inputs: Sequence[Any], *, model: str | None = None, extra_body: Mapping[str, Any] | None = None
    ) -> list[list[list[float]]]:
        """Embed each token of each input, not normalized; requires `--embeddings` and `--pooling none`."""
        return self._transport.run(server.embed_tokens(self.settings, inputs, model, extra_body or {}))

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        model: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> Rankings:
        """Score how well each document answers the query, best first; requires `--reranking`.

        Args:
            query: The question.
            documents: Texts.
            top_n: How many to return; None returns all.
            model: Name (routers).
            extra_body: Further fields. `texts` in the place of documents asks in the form of TEI.
        """
        return self._transport.run(server.rerank(self.settings, query, documents, top_n, model, extra_body or {}))

    def embed_texts(self, request: EmbedRequest) -> Embeddings:
        """Embed any number of texts in batches; vectors are checked, overlong texts truncated or rejected.

        Raises:
            ContextOverflowError: For a text that is too long; `index` tells which.
            BadVectorError: For a vector that is none; `index` tells which.
        """
        return self._transport.run(embeddings.embed_texts(self.settings, request))

    def rank(self, request: RankRequest) -> Rankings:
        """Rank any number of documents, best first, in batches up to the server's slots; requires `--reranking`.

        Raises:
            ContextOverflowError: For a document that does not fit beside the query; `index` tells which.
        """
        return self._transport.run(reranking.rank(self.settings, request))

    # -- many requests

    def batch_file(
        self, source: FilePath, output: FilePath, *, concurrency: int | None = None, **options: Any
    ) -> BatchSummary:
        """Answer a file of requests, one JSON object a line, into another; a job that was stopped goes on.

        Args:
            source: Chats, completions, embeddings, in OpenAI's batch form or as an object of `id` and fields.
            output: Gets a line for each answer as it comes. What it has already is not sent again.
            concurrency: Requests at once; None takes the server's slots.
            **options: `retry_errors=True` repeats what failed, `on_progress` is called with a `BatchProgress`.

        Raises:
            BadRequestError: For a line that is no request, or an output of another job; nothing was sent then.
            ConnectionFailedError: When the server is gone. What was answered is in the file.
        """
        return run_batch(self, source, output, concurrency=concurrency, **options)

    # -- decisions

    def decide(self, state: Any, questions: Mapping[str, Question | Mapping[str, Any]], **options: Any) -> Decisions:
        """Answer typed questions about a state, with a probability for every option and without generating text.

        Examples:
            >>> question = Choice("Which team?", ["billing", "shipping"])  # doctest: +SKIP
            >>> client.decide("My parcel is late.", {"team": question}).choices["team"].choice  # doctest: +SKIP
            'shipping'

        Args:
            state: Text, or JSON; may hold images, where the server takes some.
            questions: By name: `Noul`, `Choice`, `Score`, or dicts of the server's form.
            **options: Further fields of `DecisionRequest`, such as `rotations` and `calibration`.

        Raises:
            BadRequestError: For a question that can't be asked; nothing was sent then.
            ContextOverflowError: When the state does not fit into a slot.
            NotSupportedError: For `engine="native"` when the model is not a decision model.
        """
        request = DecisionRequest(state=state, questions=questions, **options)
        return self._transport.run(decide.decide(self.settings, request))

    def choice_probabilities(self, request: ChatRequest) -> dict[str, float]:
        """Return the probability of each of a chat request's `choices`; they sum to 1. Generates nothing.

        Args:
            request: With `choices` in its `params`. Images and reasoning are not supported here.
        """
        return self._transport.run(decide.choice_probabilities(self.settings, request))

    def calibrate(
        self,
        questions: Mapping[str, Question | Mapping[str, Any]],
        examples: Sequence[Example],
        *,
        offsets: bool = False,
        **options: Any,
    ) -> CalibrationReport:
        """Fit temperatures for the answers of `decide` on labelled examples.

        Args:
            questions: As in `decide`.
            examples: States with the right answers; fifty or more.
            offsets: Also remove the model's preference for an option, per question.
            **options: Further fields of `DecisionRequest`. A calibration holds for the options that it was fitted with.

        Returns:
            The fit, with accuracy, Brier score and calibration error before and after on these examples.
        """
        request = DecisionRequest(state="", questions=questions, **options)
        return self._transport.run(decide.calibrate(self.settings, request, examples, offsets))

    # -- tokens and templates

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = True, model: str | None = None
    ) -> list[int]:
        """Tokenize text and return token IDs.

        Args:
            text: Any text.
            add_special: Whether to add what a prompt begins and ends with (BOS, EOS).
            parse_special: Whether the texts of special tokens in it become those tokens.
            model: Name (routers).
        """
        return self._transport.run(server.tokenize(self.settings, text, add_special, parse_special, model))

    def tokenize_pieces(
        self, text: str, *, add_special: bool = False, parse_special: bool = True, model: str | None = None
    ) -> list[Token]:
        """Tokenize text and return tokens with their bytes; arguments as in `tokenize`."""
        program = server.tokenize_pieces(self.settings, text, add_special, parse_special, model)
        return self._transport.run(program)

    def detokenize(self, tokens: Sequence[int], *, model: str | None = None) -> str:
        """Convert token IDs to text."""
        return self._transport.run(server.detokenize(self.settings, tokens, model))

    def apply_template(self, request: ChatRequest) -> str:
        """Render a chat request to a prompt with the chat template."""
        return self._transport.run(server.apply_template(self.settings, request))

    def count_tokens(self, request: ChatRequest) -> int:
        """Count the prompt tokens of a chat request with its tools; generates nothing."""
        return self._transport.run(server.count_tokens(self.settings, request))

    def fits(self, request: ChatRequest) -> Fit:
        """Check whether a chat request and its answer (`max_tokens`, else one token) fit in the context.

        Raises:
            NotSupportedError: When the server does not tell its context.
        """
        return self._transport.run(server.fits(self.settings, request))

"""Methods of the blocking client for generating text and for the server's tools; generated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._endpoints import (
    chat,
    other_apis,
    resumable,
    server,
    server_tools,
)
from .._frames import hides_arguments
from .._replies import (
    fold_transcription,
)
from ..messages import MessagesEvent, MessagesReply, MessagesRequest
from ..replies import ChatDelta, ChatReply, CompletionDelta, CompletionReply
from ..requests import ChatRequest, CompletionRequest, InfillRequest
from ..responses import ResponsesEvent, ResponsesReply, ResponsesRequest
from ..results import (
    StreamState,
)
from ..server_tools import ServerTool, ServerToolChunk, ServerToolOutput
from ..transcription import Transcription, TranscriptionEvent
from .base import Methods


class Generation(Methods):
    """Chats, completions, the other APIs, resumable streams, and the server's tools."""

    # -- chat and completion

    def chat(self, request: ChatRequest) -> ChatReply:
        """Return a whole chat reply. Streams internally, so that the server notices a disconnect.

        Raises:
            LlamaServerError: One of its subclasses; `partial` holds the part of the reply received before the failure.
        """
        return self.transport.run(chat.chat(self.settings, request))

    @hides_arguments
    def stream_chat(self, request: ChatRequest) -> Iterator[ChatDelta]:
        """Stream a chat reply. Close the iterator to stop early and free the server's slot."""
        return self.transport.stream(chat.stream_chat(self.settings, request))

    def complete(self, request: CompletionRequest | InfillRequest) -> CompletionReply:
        """Return a whole text completion (`/v1/completions`, else `/completion`), or the text for a gap."""
        return self.transport.run(server.complete(self.settings, request))

    @hides_arguments
    def stream_complete(self, request: CompletionRequest | InfillRequest) -> Iterator[CompletionDelta]:
        """Stream a text completion."""
        return self.transport.stream(server.stream_complete(self.settings, request))

    def infill(self, request: InfillRequest) -> CompletionReply:
        """Fill in the middle between a prefix and a suffix; requires a model with fill-in-the-middle tokens."""
        return self.transport.run(server.infill(self.settings, request))

    @hides_arguments
    def stream_infill(self, request: InfillRequest) -> Iterator[CompletionDelta]:
        """Stream the text of `infill`."""
        return self.transport.stream(server.stream_infill(self.settings, request))

    def end_reasoning(self, reply_id: str, *, model: str | None = None) -> None:
        """End the reasoning of a running reply that was requested with `reasoning_control=True`.

        Args:
            reply_id: `start.id` of the reply's first delta.
            model: Name of the model (routers).

        Raises:
            BadRequestError: If no such reply is running, or it can't be controlled.
        """
        self.transport.run(server.end_reasoning(self.settings, reply_id, model))

    # -- the APIs of OpenAI and Anthropic beside chat completions

    def create_response(self, request: ResponsesRequest) -> ResponsesReply:
        """Return a whole reply of `/v1/responses`. Streams internally, so that the server notices a disconnect."""
        return ResponsesReply.from_events(list(self.stream_response(request)))

    @hides_arguments
    def stream_response(self, request: ResponsesRequest) -> Iterator[ResponsesEvent]:
        """Stream the events of `/v1/responses`; the last one holds the whole reply."""
        return self.transport.stream(other_apis.stream_response(self.settings, request))

    def count_response_tokens(self, request: ResponsesRequest) -> int:
        """Count the prompt tokens of a request to `/v1/responses`; generates nothing."""
        return self.transport.run(other_apis.count_response_tokens(self.settings, request))

    def create_message(self, request: MessagesRequest) -> MessagesReply:
        """Return a whole reply of `/v1/messages`. Streams internally, so that the server notices a disconnect."""
        return MessagesReply.from_events(list(self.stream_message(request)))

    @hides_arguments
    def stream_message(self, request: MessagesRequest) -> Iterator[MessagesEvent]:
        """Stream the events of `/v1/messages`."""
        return self.transport.stream(other_apis.stream_message(self.settings, request))

    def count_message_tokens(self, request: MessagesRequest) -> int:
        """Count the prompt tokens of a request to `/v1/messages`; generates nothing."""
        return self.transport.run(other_apis.count_message_tokens(self.settings, request))

    @hides_arguments
    def transcribe(self, audio: bytes | Path, **fields: object) -> Transcription:
        """Transcribe a recording; requires an audio model (`--mmproj`). Arguments as in `stream_transcription`."""
        return fold_transcription(list(self.stream_transcription(audio, **fields)))

    @hides_arguments
    def stream_transcription(self, audio: bytes | Path, **fields: object) -> Iterator[TranscriptionEvent]:
        """Stream the transcript of a recording; the last event holds the whole text.

        Args:
            audio: A recording (wav, mp3 or flac), or its path.
            **fields: `language`, `prompt`, `temperature`, `max_tokens` and `model`; others are sent unchanged.

        Raises:
            NotSupportedError: If the model does not support audio.
        """
        return self.transport.stream(other_apis.stream_transcription(self.settings, audio, fields))

    # -- streams that outlive their connection, and tools that the server runs

    @hides_arguments
    def stream_resumable_chat(self, request: ChatRequest, conversation_id: str) -> Iterator[ChatDelta]:
        """Stream a chat reply that the server also stores, so that `resume_chat` can read it after a broken connection.

        Closing the iterator does not stop the server; call `stop_stream`. A new stream with the same ID ends the old
        one.
        """
        return self.transport.stream(resumable.stream_resumable_chat(self.settings, request, conversation_id))

    def resume_chat(self, conversation_id: str) -> Iterator[ChatDelta]:
        """Stream the reply of `stream_resumable_chat` again from its beginning.

        Raises:
            NotFoundError: If the server no longer has the stream; it keeps streams for five minutes (b11549).
            BadRequestError: If the reply exceeds the 4 MiB that the server keeps.
        """
        return self.transport.stream(resumable.resume_chat(self.settings, conversation_id))

    def find_streams(self, conversation_ids: Sequence[str]) -> list[StreamState]:
        """Find which resumable streams the server still has."""
        return self.transport.run(resumable.find_streams(self.settings, conversation_ids))

    def stop_stream(self, conversation_id: str) -> None:
        """Stop and discard a resumable stream; does nothing if there is none."""
        self.transport.run(resumable.stop_stream(self.settings, conversation_id))

    def server_tools(self) -> list[ServerTool]:
        """List the server's tools; requires `--tools` or `--mcp-servers-config`."""
        return self.transport.run(server_tools.server_tools(self.settings))

    @hides_arguments
    def call_server_tool(self, name: str, arguments: Mapping[str, Any], *, cwd: str | None = None) -> ServerToolOutput:
        """Run a tool on the server's machine. Check arguments written by a model first.

        Args:
            name: As in `server_tools`.
            arguments: As described by its `parameters`.
            cwd: Working directory on the server's machine; None uses the server's.
        """
        return self.transport.run(server_tools.call_server_tool(self.settings, name, arguments, cwd))

    @hides_arguments
    def stream_server_tool(
        self, name: str, arguments: Mapping[str, Any], *, cwd: str | None = None
    ) -> Iterator[ServerToolChunk]:
        """Run a tool and stream its output; only `exec_shell_command` supports it (b11549)."""
        return self.transport.stream(server_tools.stream_server_tool(self.settings, name, arguments, cwd))

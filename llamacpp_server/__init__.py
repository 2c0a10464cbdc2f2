"""llama.cpp's llama-server from Python: everything that it can do, typed. Knows no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .integration import (
    lazy,
)

if TYPE_CHECKING:
    from ._replies import (
        fold_chat,
        fold_completion,
    )
    from .async_client import AsyncLlamaServerClient
    from .calibration import Calibration, CalibrationReport, Example
    from .chat import (
        ChatChoice,
        ChatDelta,
        ChatReply,
        ChatRequest,
        CompletionChoice,
        CompletionDelta,
        CompletionReply,
        CompletionRequest,
        InfillRequest,
        MediaPolicy,
        PromptProgress,
        Repair,
        ReplyStart,
        Timings,
        ToolCall,
        ToolCallFragment,
        Usage,
    )
    from .client import LlamaServerClient
    from .controls import ThinkingControl
    from .decisions import Choice, Decisions, Noul, Score
    from .diagnostics import (
        CacheReport,
        CacheTurn,
    )
    from .errors import (
        AuthenticationFailedError,
        BadRequestError,
        BadVectorError,
        ConnectionFailedError,
        ContextOverflowError,
        LlamaServerError,
        MalformedReplyError,
        MissingToolCallError,
        NotFoundError,
        NotSupportedError,
        RequestTimeoutError,
        ServerBusyError,
        ServerFaultError,
        ServerLoadingError,
        StreamCutOffError,
        UnfitAnswerError,
        UnreadableOutputError,
    )
    from .info import ServerInfo
    from .integration import (
        LlamaServerTokenizer,
    )
    from .local import (
        LocalModel,
        LocalServer,
        LocalServerError,
        find_models,
    )
    from .messages import MessagesEvent, MessagesReply, MessagesRequest
    from .progress import ModelEvent, Progress, ProgressBar
    from .responses import ResponsesEvent, ResponsesReply, ResponsesRequest
    from .results import (
        Embeddings,
        Fit,
        Health,
        LoraAdapter,
        Metrics,
        ModelCard,
        PromptRead,
        Ranking,
        ServerProps,
        SlotAction,
        SlotPrompt,
        SlotState,
        Token,
    )
    from .sampling import SamplingFields
    from .settings import DEFAULT_BASE_URL, ServerSettings, WaitState
    from .transcription import Transcription, TranscriptionEvent
    from .vectors import EmbedRequest, RankRequest, ScoreScale

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_BASE_URL",
    "AsyncLlamaServerClient",
    "AuthenticationFailedError",
    "BadRequestError",
    "BadVectorError",
    "CacheReport",
    "CacheTurn",
    "Calibration",
    "CalibrationReport",
    "ChatChoice",
    "ChatDelta",
    "ChatReply",
    "ChatRequest",
    "Choice",
    "CompletionChoice",
    "CompletionDelta",
    "CompletionReply",
    "CompletionRequest",
    "ConnectionFailedError",
    "ContextOverflowError",
    "Decisions",
    "EmbedRequest",
    "Embeddings",
    "Example",
    "Fit",
    "Health",
    "InfillRequest",
    "LlamaServerClient",
    "LlamaServerError",
    "LlamaServerTokenizer",
    "LocalModel",
    "LocalServer",
    "LocalServerError",
    "LoraAdapter",
    "MalformedReplyError",
    "MediaPolicy",
    "MessagesEvent",
    "MessagesReply",
    "MessagesRequest",
    "Metrics",
    "MissingToolCallError",
    "ModelCard",
    "ModelEvent",
    "NotFoundError",
    "NotSupportedError",
    "Noul",
    "Progress",
    "ProgressBar",
    "PromptProgress",
    "PromptRead",
    "RankRequest",
    "Ranking",
    "Repair",
    "ReplyStart",
    "RequestTimeoutError",
    "ResponsesEvent",
    "ResponsesReply",
    "ResponsesRequest",
    "SamplingFields",
    "Score",
    "ScoreScale",
    "ServerBusyError",
    "ServerFaultError",
    "ServerInfo",
    "ServerLoadingError",
    "ServerProps",
    "ServerSettings",
    "SlotAction",
    "SlotPrompt",
    "SlotState",
    "StreamCutOffError",
    "ThinkingControl",
    "Timings",
    "Token",
    "ToolCall",
    "ToolCallFragment",
    "Transcription",
    "TranscriptionEvent",
    "UnfitAnswerError",
    "UnreadableOutputError",
    "Usage",
    "WaitState",
    "find_models",
    "fold_chat",
    "fold_completion",
]

# Nothing is imported before it is asked for: whoever only embeds does not pay for grammars and local servers.
__getattr__, __dir__ = lazy(
    __name__,
    {
        "_replies.fold": (
            "fold_chat",
            "fold_completion",
        ),
        "async_client": ("AsyncLlamaServerClient",),
        "diagnostics.cache_report": (
            "CacheReport",
            "CacheTurn",
        ),
        "chat": (
            "ChatChoice",
            "ChatDelta",
            "ChatReply",
            "ChatRequest",
            "CompletionChoice",
            "CompletionDelta",
            "CompletionReply",
            "CompletionRequest",
            "InfillRequest",
            "MediaPolicy",
            "PromptProgress",
            "Repair",
            "ReplyStart",
            "Timings",
            "ToolCall",
            "ToolCallFragment",
            "Usage",
        ),
        "calibration": ("Calibration", "CalibrationReport", "Example"),
        "client": ("LlamaServerClient",),
        "controls": ("ThinkingControl",),
        "decisions": ("Choice", "Decisions", "Noul", "Score"),
        "errors": (
            "AuthenticationFailedError",
            "BadRequestError",
            "BadVectorError",
            "ConnectionFailedError",
            "ContextOverflowError",
            "LlamaServerError",
            "MalformedReplyError",
            "MissingToolCallError",
            "NotFoundError",
            "NotSupportedError",
            "RequestTimeoutError",
            "ServerBusyError",
            "ServerFaultError",
            "ServerLoadingError",
            "StreamCutOffError",
            "UnfitAnswerError",
            "UnreadableOutputError",
        ),
        "info": ("ServerInfo",),
        "local.server": (
            "LocalModel",
            "LocalServer",
            "LocalServerError",
            "find_models",
        ),
        "messages": ("MessagesEvent", "MessagesReply", "MessagesRequest"),
        "progress": (
            "ModelEvent",
            "Progress",
            "ProgressBar",
        ),
        "responses": ("ResponsesEvent", "ResponsesReply", "ResponsesRequest"),
        "results": (
            "Embeddings",
            "Fit",
            "Health",
            "LoraAdapter",
            "Metrics",
            "ModelCard",
            "PromptRead",
            "Ranking",
            "ServerProps",
            "SlotAction",
            "SlotPrompt",
            "SlotState",
            "Token",
        ),
        "sampling": ("SamplingFields",),
        "settings": (
            "DEFAULT_BASE_URL",
            "ServerSettings",
            "WaitState",
        ),
        "transcription": ("Transcription", "TranscriptionEvent"),
        "integration.tokenizer": ("LlamaServerTokenizer",),
        "vectors": (
            "EmbedRequest",
            "RankRequest",
            "ScoreScale",
        ),
    },
)

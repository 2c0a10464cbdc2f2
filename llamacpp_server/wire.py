"""Types of the JSON on the wire; names only at run time.

Read from llama.cpp b11434 (`tools/server/server-common.cpp`, `server-task.cpp`, `server-context.cpp`) and checked on a
running server. Every key may be missing on another build, so decoders read with `.get`.

A chat stream, one event a line (`data: ` and the blank lines between are left out)::

    {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],
     "created":1795174294,"id":"chatcmpl-x","model":"m","system_fingerprint":"b11434-x","object":"chat.completion.chunk"}
    {"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"Hm"}}], ...}
    {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Hel"}}], ...}
    {"choices":[{"finish_reason":null,"index":0,"delta":{"tool_calls":[{"index":0,"id":"QLvE","type":"function",
     "function":{"name":"get_w","arguments":"{"}}]}}], ...}
    {"choices":[{"finish_reason":"tool_calls","index":0,"delta":{}}], ...}
    {"choices":[], "usage":{...}, "timings":{...}, ...}
    [DONE]
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
    "AudioPartDict",
    "AudioSourceDict",
    "ContentPartDict",
    "FileDict",
    "FilePartDict",
    "FunctionCallDict",
    "FunctionDict",
    "ImagePartDict",
    "ImageUrlDict",
    "LogprobsDict",
    "MessageDict",
    "TextPartDict",
    "TokenLogprobDict",
    "ToolCallDict",
    "ToolDict",
    "VideoPartDict",
]


class TextPartDict(TypedDict):
    """A piece of text within a message."""

    type: Literal["text"]
    text: str


class ImageUrlDict(TypedDict):
    """Where an image is: a data URL, base64, or an address that the *server* fetches."""

    url: str


class ImagePartDict(TypedDict):
    """An image; the server needs `--mmproj`."""

    type: Literal["image_url"]
    image_url: ImageUrlDict


class AudioSourceDict(TypedDict, total=False):
    """Sound: base64 `data`, or a `url`. The server finds the format itself."""

    data: str
    url: str
    format: str


class AudioPartDict(TypedDict):
    """A piece of audio; the server needs an audio `--mmproj`."""

    type: Literal["input_audio"]
    input_audio: AudioSourceDict


class VideoPartDict(TypedDict):
    """A video; the server needs `--mmproj`, and ffmpeg on its host."""

    type: Literal["input_video"]
    input_video: AudioSourceDict


class FileDict(TypedDict, total=False):
    """A file: a data URL, or where it is."""

    file_data: str
    filename: str


class FilePartDict(TypedDict):
    """A file of any kind, in OpenAI's shape. The client makes a part of it that the server knows."""

    type: Literal["file"]
    file: FileDict


ContentPartDict = TextPartDict | ImagePartDict | AudioPartDict | VideoPartDict | FilePartDict


class FunctionCallDict(TypedDict):
    """The function a call names; `arguments` is JSON text."""

    name: str
    arguments: str


class ToolCallDict(TypedDict):
    """A tool call within an assistant's message."""

    id: str
    type: Literal["function"]
    function: FunctionCallDict


class MessageDict(TypedDict, total=False):
    """A message of a conversation. `role` is passed to the template as it is."""

    role: str
    content: str | list[ContentPartDict] | None
    reasoning_content: str
    tool_calls: list[ToolCallDict]
    tool_call_id: str
    name: str


class FunctionDict(TypedDict, total=False):
    """A tool's name, description and JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool


class ToolDict(TypedDict):
    """A tool. The server refuses any other `type` with a 500."""

    type: Literal["function"]
    function: FunctionDict


class TokenLogprobDict(TypedDict, total=False):
    """One token's probability; with `post_sampling_probs` the keys are `prob` and `top_probs`."""

    id: int
    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list[dict[str, Any]]
    prob: float
    top_probs: list[dict[str, Any]]


class LogprobsDict(TypedDict, total=False):
    """Log probabilities, one entry a token (tokens that share one character are merged)."""

    content: list[TokenLogprobDict]

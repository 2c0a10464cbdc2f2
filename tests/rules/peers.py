"""Arguments of the classes that people come from, in `tests/corpus/peer_arguments.json`.

`python -m tests.rules.peers` writes those of the packages below that an environment has, and keeps the others. They
don't all fit into ours: LlamaIndex's need an older `openai` than langchain-openai, and llama-cpp-python is compiled.
"""

import importlib
import inspect
import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "corpus" / "peer_arguments.json"
PEERS = {
    "langchain_openai.ChatOpenAI": "langchain-openai",
    "langchain_openai.OpenAIEmbeddings": "langchain-openai",
    "langchain_openai.OpenAI": "langchain-openai",
    "langchain_ollama.ChatOllama": "langchain-ollama",
    "langchain_ollama.OllamaEmbeddings": "langchain-ollama",
    "langchain_ollama.OllamaLLM": "langchain-ollama",
    "llama_index.llms.openai_like.OpenAILike": "llama-index-llms-openai-like",
    "llama_index.llms.openai.OpenAI": "llama-index-llms-openai",
    "llama_index.embeddings.openai_like.OpenAILikeEmbedding": "llama-index-embeddings-openai-like",
    "llama_index.embeddings.openai.OpenAIEmbedding": "llama-index-embeddings-openai",
    "llama_index.llms.ollama.Ollama": "llama-index-llms-ollama",
    "llama_index.embeddings.ollama.OllamaEmbedding": "llama-index-embeddings-ollama",
    "llama_index.postprocessor.jinaai_rerank.JinaRerank": "llama-index-postprocessor-jinaai-rerank",
    "llama_index.postprocessor.cohere_rerank.CohereRerank": "llama-index-postprocessor-cohere-rerank",
    "llama_index.core.postprocessor.SentenceTransformerRerank": "llama-index-core",
    "langchain_community.chat_models.ChatLlamaCpp": "langchain-community",
    "langchain_community.llms.LlamaCpp": "langchain-community",
    "langchain_community.embeddings.LlamaCppEmbeddings": "langchain-community",
    "langchain_llama_cpp.ChatLlama": "langchain-llama-cpp",
    "llama_index.llms.llama_cpp.LlamaCPP": "llama-index-llms-llama-cpp",
}


def read() -> dict[str, dict[str, Any]]:
    """For each class its package, version and arguments."""
    peers: dict[str, dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))
    return peers


def arguments_of(path: str) -> list[str]:
    """Fields, their aliases, and the parameters of constructors that name some."""
    module, _, name = path.rpartition(".")
    peer = getattr(importlib.import_module(module), name)
    names = {written for field, of in peer.model_fields.items() for written in (field, of.alias or field)}
    for cls in peer.__mro__:
        if cls.__module__.startswith("llama_index.core") or "__init__" not in vars(cls):
            continue
        parameters = [one for one in inspect.signature(cls.__init__).parameters.values() if one.name != "self"]
        names |= {one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)}
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            break
    return sorted(name for name in names if name not in ("args", "data"))


if __name__ == "__main__":
    found = read()
    for path, of in PEERS.items():
        with suppress(ImportError):
            found[path] = {"package": f"{of} {version(of)}", "arguments": arguments_of(path)}
    PATH.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

"""Registration of this package's classes in LangChain's tables."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from langchain_core.load.serializable import Serializable


def register() -> None:
    """Register this package's classes for LangChain's `init_chat_model` and `init_embeddings`.

    Afterwards, `init_chat_model("llamacpp:any-name", base_url=...)` returns a `ChatLlamaServer`. This writes to private
    tables of the `langchain` package, which has no public API for it, so it is done only on request.

    Raises:
        RuntimeError: If this version of `langchain` has no such tables.
    """
    import langchain.chat_models.base
    import langchain.embeddings.base

    for module, model in (
        (langchain.chat_models.base, "ChatLlamaServer"),
        (langchain.embeddings.base, "LlamaServerEmbeddings"),
    ):
        table = getattr(module, "_BUILTIN_PROVIDERS", None)
        if not isinstance(table, dict):
            raise RuntimeError(
                f"this version of langchain does not support registering providers; use {model} directly"
            )
        for name in ("llamacpp", "llamacpp_server"):
            table[name] = (__package__, model, _make)


def _make(cls: Callable[..., Any], **kwargs: Any) -> Any:
    return cls(**kwargs)


def let_load_find(model: type[Serializable]) -> None:
    """Allow `langchain_core.load.load(..., allowed_objects="all")` to create a class.

    LangChain lists its own partners there. A program that imports this module has chosen to have this one, and
    `valid_namespaces` still has to name the package.
    """
    loading = import_module("langchain_core.load.load")  # the package hides the module behind its function
    path = tuple(model.lc_id())
    loading.ALL_SERIALIZABLE_MAPPINGS[path] = path
    getattr(loading, "_default_class_paths_cache", {}).pop("all", None)

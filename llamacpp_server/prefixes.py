"""Query and document prefixes of known embedding models.

Trained with these texts in front, such models retrieve much worse without them, and nothing fails: that is why they
are here by name. From the model cards, read 2026-11-20:

- `nomic` (nomic-embed-text v1, v1.5, v2-moe): "the text prompt must include a task instruction prefix"
  (https://huggingface.co/nomic-ai/nomic-embed-text-v1.5).
- `e5` (e5-*, e5-*-v2, multilingual-e5-*): "query: " and "passage: " for retrieval; without them "you will see a
  performance degradation" (https://huggingface.co/intfloat/e5-large-v2).
- `e5-instruct` (multilingual-e5-large-instruct): the query is instructed, documents are not
  (https://huggingface.co/intfloat/multilingual-e5-large-instruct).
- `bge` (bge-*-en, bge-*-en-v1.5; bge-m3 wants nothing): https://huggingface.co/BAAI/bge-large-en-v1.5.
- `mxbai` (mxbai-embed-large-v1): the same words as bge, for queries only
  (https://mixedbread.ai/docs/embeddings/mxbai-embed-large-v1).
- `embeddinggemma`: "task: {task description} | query: " and "title: {title | none} | text: "
  (https://ai.google.dev/gemma/docs/embeddinggemma/model_card).
- `qwen3` (Qwen3-Embedding-*): `config_sentence_transformers.json` of the models; no space behind "Query:", and
  documents as they are (https://huggingface.co/Qwen/Qwen3-Embedding-0.6B).
- `snowflake-arctic` (v1 and v1.5) has the words of bge, `snowflake-arctic-v2` has "query: "; both for queries only
  (https://huggingface.co/Snowflake/snowflake-arctic-embed-l-v2.0).
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, get_args

__all__ = ["PREFIXES", "PrefixFamily", "Prefixes", "family_of"]

PrefixFamily = Literal[
    "nomic",
    "e5",
    "e5-instruct",
    "bge",
    "mxbai",
    "embeddinggemma",
    "qwen3",
    "snowflake-arctic",
    "snowflake-arctic-v2",
    "none",
]
"""Names of families of embedding models; `none` is a model that wants no prefix."""


class Prefixes(NamedTuple):
    """Texts put in front.

    Attributes:
        query: In front of what is searched for.
        document: In front of what is found.
    """

    query: str
    document: str


_SENTENCE = "Represent this sentence for searching relevant passages: "
_TASK = "Instruct: Given a web search query, retrieve relevant passages that answer the query"

PREFIXES: Final[dict[PrefixFamily, Prefixes]] = {
    "nomic": Prefixes("search_query: ", "search_document: "),
    "e5": Prefixes("query: ", "passage: "),
    "e5-instruct": Prefixes(f"{_TASK}\nQuery: ", ""),
    "bge": Prefixes(_SENTENCE, ""),
    "mxbai": Prefixes(_SENTENCE, ""),
    "embeddinggemma": Prefixes("task: search result | query: ", "title: none | text: "),
    "qwen3": Prefixes(f"{_TASK}\nQuery:", ""),
    "snowflake-arctic": Prefixes(_SENTENCE, ""),
    "snowflake-arctic-v2": Prefixes("query: ", ""),
    "none": Prefixes("", ""),
}

assert set(PREFIXES) == set(get_args(PrefixFamily))  # noqa: S101 (two lists of the same names)

# The first that fits is taken.
_NAMES: Final[dict[PrefixFamily, str]] = {
    "nomic": r"nomic-embed-text",
    "e5-instruct": r"multilingual-e5-\w+-instruct",
    "e5": r"(?<![a-z0-9])e5-(?:small|base|large)",
    "bge": r"bge-(?:small|base|large)-en",
    "mxbai": r"mxbai-embed-large",
    "embeddinggemma": r"embedding-?gemma",
    "qwen3": r"qwen3-embedding",
    "snowflake-arctic-v2": r"arctic-embed-[a-z]+-v2",
    "snowflake-arctic": r"arctic-embed",
}


def family_of(model: str) -> PrefixFamily | None:
    """The family that a model's name (or file name) belongs to; None for one that is not known.

    Examples:
        >>> family_of("nomic-embed-text-v1.5.Q8_0.gguf")
        'nomic'
    """
    return next((family for family, words in _NAMES.items() if re.search(words, model, re.IGNORECASE)), None)

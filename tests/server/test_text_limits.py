"""Texts that are too long to embed: the error names the limit that holds."""

from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import ContextOverflowError, LocalServer
from tests.models import build_random_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_random_encoder(tmp_path_factory.mktemp("models") / "encoder.gguf", rank_head=False)


@pytest.mark.parametrize(
    ("options", "limit", "words"),
    [
        ({"ubatch_size": 256, "ctx_size": 512}, 256, ["-ub", "-c / -np"]),
        ({"ubatch_size": 512, "ctx_size": 256}, 256, ["shorten the text", "-c / -np"]),
        # The context is that of the training, 512, so a larger -c would not help.
        ({"ubatch_size": 2048, "batch_size": 2048, "ctx_size": 4096}, 512, ["shorten the text", "trained for"]),
    ],
)
def test_the_error_of_a_long_text_names_the_limit_that_holds(
    encoder: Path, options: dict[str, Any], limit: int, words: list[str]
) -> None:
    with LocalServer(encoder, embeddings=True, parallel=1, **options) as server, server.client() as client:
        with pytest.raises(ContextOverflowError) as failure:
            client.embed(["a" * (limit + 100)])
        assert failure.value.n_ctx == limit
        assert all(word in str(failure.value.remedy) for word in words)
        assert "conversation" not in str(failure.value.remedy)

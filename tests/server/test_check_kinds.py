"""`check` advises on what a server is: an embedder is not told to get a chat template."""

import pytest

from llamacpp_server import LlamaServerClient, LocalServer
from llamacpp_server.diagnostics import Finding, preflight


def found(server: LocalServer) -> dict[str, Finding]:
    with LlamaServerClient(server.base_url) as client:
        return {finding.name: finding for finding in preflight(client)}


@pytest.mark.parametrize(
    ("fixture", "kind", "without"),
    [
        ("embedding_server", "not supported by an embedder", ("tools", "thinking", "audio")),
        ("rerank_server", "not supported by a reranker", ("tools", "thinking", "audio", "images")),
    ],
)
def test_what_a_kind_of_model_never_has_comes_without_advice(
    fixture: str, kind: str, without: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    findings = found(request.getfixturevalue(fixture))
    for name in without:
        assert (findings[name].status, findings[name].detail, findings[name].remedy) == ("off", kind, None)
    assert findings["chat"].status == "off"
    assert (
        findings["chat"].remedy
        == "this server runs an embedding or reranking model; start one with a chat model, without --embeddings"
    )


def test_a_chat_model_keeps_its_advice(chat_server: LocalServer) -> None:
    assert "--mmproj" in (found(chat_server)["images"].remedy or "")

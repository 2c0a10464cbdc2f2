"""The Python of the README runs as it stands there, on real servers: only addresses differ, and nothing is chance."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import LocalServer

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "tiny-chat.gguf"
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(serve: Any, embedding_server: LocalServer, rerank_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the block with these words in it, and gives its names, and under "values" those of its expressions."""
    chat = serve(MODEL, parallel=2, ctx_size=8192).base_url
    monkeypatch.setenv("LLAMACPP_BASE_URL", chat)
    others = {"8080": chat, "8081": embedding_server.base_url, "8082": rerank_server.base_url}

    def run(words: str, **names: Any) -> dict[str, Any]:
        (block,) = [block for block in BLOCKS if words in block]
        block = re.sub(r"http://localhost:(\d+)", lambda match: others[match[1]], block)
        block = block.replace("LlamaServer()", "LlamaServer(temperature=0)")
        tree = ast.parse(block.replace('"model.gguf"', repr(str(MODEL))))
        names["values"] = {}
        exec(compile(_KeepValues().visit(tree), "README.md", "exec"), names)
        return names

    return run


class _KeepValues(ast.NodeTransformer):
    """Has the values of expressions kept by their code."""

    def visit_Expr(self, node: ast.Expr) -> ast.Assign:
        kept = ast.parse(f"values[{ast.unparse(node.value)!r}] = 0").body[0]
        assert isinstance(kept, ast.Assign)
        kept.value = node.value
        return ast.fix_missing_locations(ast.copy_location(kept, node))


def of(names: dict[str, Any], words: str) -> Any:
    """The value of the one expression with these words in it."""
    (value,) = [value for code, value in names["values"].items() if words in code]
    return value


def test_every_block_is_run_here() -> None:
    runs = re.findall(r"^    names = run\(", Path(__file__).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(runs) == len(BLOCKS)


def test_the_first_lines(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("llm.stream(")
    assert names["llm"].temperature == 0
    assert capsys.readouterr().out.strip()


def test_langchain(run: Run) -> None:
    names = run('reply.additional_kwargs["reasoning_content"]')
    assert of(names, "reply.text").strip()
    assert of(names, "reasoning_content").strip()
    assert of(names, "usage_metadata")["input_token_details"]["cache_read"] >= 0
    assert of(names, "timings")["predicted_n"] > 0
    assert isinstance(of(names, "with_structured_output").invoke("Ada is 36 years old."), names["Person"])
    asked = of(names, "bind_tools").invoke("Tell me a story.")
    assert [call["name"] for call in asked.tool_calls] == ["get_weather"]
    assert of(names, "choices=").text in ("yes", "no")
    assert of(names, "dry_multiplier").text


def test_langchain_rag(run: Run) -> None:
    names = run("similarity_search")
    assert len(names["best"]) == 2
    assert names["best"][0].metadata["relevance_score"] >= names["best"][1].metadata["relevance_score"]
    assert of(names, "Once upon a time").strip()


def test_llamaindex(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("as_query_engine")
    assert [block.block_type for block in of(names, "blocks")] == ["thinking", "text"]
    assert isinstance(of(names, "as_structured_llm").raw, names["Guest"])
    assert capsys.readouterr().out.strip()
    for model in ("llm", "embed_model", "rerank"):
        names[model].close()


def test_the_server_itself(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("with LocalServer(")
    assert capsys.readouterr().out.strip()
    context, tokens, slots, metrics = of(names, "n_ctx")
    assert (context, len(slots)) == (4096, 2)
    assert tokens > 0
    assert metrics
    names["client"].close()

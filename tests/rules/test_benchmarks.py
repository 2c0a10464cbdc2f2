"""The benchmarks run, with one tiny round each. What they measure is not asserted: a busy machine is no defect."""

import re
import subprocess
import sys

import pytest

from benchmarks.__main__ import MEASUREMENTS
from benchmarks.real_models import Figures
from tests.rules.packages import ROOT

# The peers beside ours are measured where they are installed.
OURS = {
    "stream_cpu": ("ChatLlamaServer", "LlamaServer", "LangChain alone", "LlamaIndex alone"),
    "first_chunk": ("llamacpp_server", "ChatLlamaServer", "LlamaServer"),
    "agents": ("raw", "ChatLlamaServer", "LlamaServer"),
    "concurrency": ("llamacpp_server", "ChatLlamaServer", "LlamaServer"),
    "threads": ("llamacpp_server", "ChatLlamaServer", "LlamaServer"),
    "batch": ("ChatLlamaServer",),
    "embedding_cpu": ("bare decode", "LlamaServerEmbeddings (LangChain)", "LlamaServerEmbedding (LlamaIndex)"),
    "rerank_cpu": ("bare request", "LlamaServerReranker (LangChain)", "LlamaServerRerank (LlamaIndex)"),
    "import_time": ("langchain_llamacpp_server",),
    "admission": ("ChatLlamaServer",),
    "corpus": ("LlamaServerEmbeddings (LangChain)", "LlamaServerEmbedding (LlamaIndex)"),
    "decisions": ("decide, letters", "decide, words", "generate with choices="),
}


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_each_gives_a_table_with_our_rows():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    sections = run.stdout.split("\n## ")[1:]
    assert len(sections) == len(MEASUREMENTS)
    for name, text in zip(MEASUREMENTS, sections, strict=True):
        for client in OURS[name]:
            rows = [line for line in text.splitlines() if f"| {client} |" in line]
            assert rows, f"no row of {client} in {name}"
            assert all(re.search(r"\| [0-9.]+ \|", row) for row in rows)


def test_a_stopped_run_on_real_models_goes_on_where_it_was(tmp_path):
    kept, measured = tmp_path / "figures.json", []

    def measure(value):
        def work():
            measured.append(value)
            return value

        return work

    first = Figures(kept, "1.0, 20 texts")
    assert first.get("A", "calls", measure(3)) == 3
    again = Figures(kept, "1.0, 20 texts")
    assert [again.get("A", "calls", measure(4)), again.get("B", "calls", measure(5))] == [3, 5]
    other = Figures(kept, "1.0, 2 texts")
    assert other.get("A", "calls", measure(6)) == 6
    assert measured == [3, 5, 6]
    other.drop()
    assert not kept.exists()

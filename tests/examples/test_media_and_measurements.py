"""The examples about images, gaps, probabilities and measurements run, on servers that can do what they show."""

from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from examples import images, infill, logprobs, observability
from llamacpp_server import LocalServer
from tests.media import picture

MODEL = Path(__file__).parents[2] / "models" / "tiny-chat.gguf"


@pytest.fixture
def tiny(serve: Any) -> LocalServer:
    server: LocalServer = serve(MODEL, parallel=2, ctx_size=8192)
    return server


def test_images(vision_server: LocalServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "red.webp").write_bytes(picture("red", "WEBP"))
    images.main(vision_server.base_url, str(tmp_path / "red.webp"))
    said = capsys.readouterr().out
    assert said.startswith("the server sees\nLangChain, ")
    assert "converted image/webp, which the server does not support, to image/jpeg" in said
    assert "LlamaIndex, " in said


def test_infill(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    infill.main(serve("fim.gguf", parallel=1, ctx_size=1024).base_url)
    said = capsys.readouterr().out
    assert said.count(infill.PREFIX) == said.count(infill.SUFFIX) == 2


def test_logprobs(tiny: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    logprobs.main(tiny.base_url)
    *tokens, least = capsys.readouterr().out.strip().split("\n")
    assert len(tokens) > 3
    assert all(line.count("%") == 4 for line in tokens)
    assert least.startswith("the least sure of ")


def test_observability(tiny: LocalServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    observability.main(tiny.base_url)
    data = reader.get_metrics_data()
    assert data is not None
    found = {one.name: one.data.data_points[0] for one in data.resource_metrics[0].scope_metrics[0].metrics}
    assert found["gen_ai.server.time_to_first_token"].count == 2
    assert found["gen_ai.server.time_per_output_token"].sum > 0
    said = capsys.readouterr().out
    assert "from the cache; build" in said
    assert ", 0 from the cache" not in said.split("\n")[3]
    provider.shutdown()

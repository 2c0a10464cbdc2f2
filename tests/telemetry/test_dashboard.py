"""Each metric that the dashboard for Grafana asks for exists: the server's on a live server, ours in the SDK."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider

from llamacpp_server import LocalServer
from llamacpp_server.telemetry import instrument, uninstrument

DASHBOARD = Path(__file__).parents[2] / "docs/assets/grafana-llamacpp-server.json"
QUERIES = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
UNITS = {"s": "_seconds"}


def asked(pattern: str) -> set[str]:
    found = {name for query in QUERIES for name in re.findall(pattern, query)}
    assert found
    return found


class Noting(NoOpMeterProvider):
    """Notes the series of each instrument, by the rules of OpenTelemetry for Prometheus."""

    def __init__(self) -> None:
        self.series: set[str] = set()

    def get_meter(self, *args: Any, **kwargs: Any) -> Any:
        provider = self

        class Meter(NoOpMeter):
            def create_histogram(self, name: str, unit: str = "", *args: Any, **kwargs: Any) -> Any:
                provider.note(name, unit, ("bucket", "count", "sum"))
                return super().create_histogram(name)

            def create_counter(self, name: str, unit: str = "", *args: Any, **kwargs: Any) -> Any:
                provider.note(name, unit, ("total",))
                return super().create_counter(name)

        return Meter("noting")

    def note(self, name: str, unit: str, ends: tuple[str, ...]) -> None:
        self.series |= {name.replace(".", "_") + UNITS.get(unit, "") + f"_{end}" for end in ends}


def test_the_servers_metrics_of_the_dashboard_are_those_of_a_live_server(models_dir: Path) -> None:
    with LocalServer(models_dir / "random.gguf", metrics=True) as server, server.client() as client:
        assert asked(r"llamacpp:(\w+)") <= set(client.metrics().values)


@pytest.mark.parametrize("word", ["gen_ai_client_", "llamacpp_client_"])
def test_our_metrics_of_the_dashboard_are_those_that_we_record(word: str) -> None:
    meters = Noting()
    instrument(meter_provider=meters)
    uninstrument()
    assert asked(rf"\b{word}\w+") <= meters.series

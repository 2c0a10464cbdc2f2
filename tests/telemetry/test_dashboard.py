"""Each metric that the dashboard for Grafana asks for exists: the server's on a live server, ours in the SDK."""

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from llamacpp_server import ChatRequest, ContextOverflowError, LocalServer
from llamacpp_server.telemetry import instrument, uninstrument
from tests.waiting import LONG, wait_until_queued

DASHBOARD = Path(__file__).parents[2] / "docs/assets/grafana-llamacpp-server.json"
PANELS = json.loads(DASHBOARD.read_text())["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
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


def recorded_labels(reader: InMemoryMetricReader) -> dict[str, set[str]]:
    """Labels of each series, as Prometheus names them."""
    found = dict[str, set[str]]()
    data = reader.get_metrics_data()
    assert data is not None
    for scope in data.resource_metrics[0].scope_metrics:
        for metric in scope.metrics:
            name = metric.name.replace(".", "_") + UNITS.get(metric.unit or "", "")
            labels = found.setdefault(name, set())
            for point in metric.data.data_points:
                labels |= {label.replace(".", "_") for label in point.attributes or ()}
    return found


@pytest.mark.usefixtures("patient")
def test_the_labels_by_which_the_dashboard_sums_are_those_that_we_record(scripted_server: Any) -> None:
    server, reader = scripted_server({"user": "Yes."}, parallel=1, ctx_size=2048), InMemoryMetricReader()
    broken: Any = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "It is."},
    ]
    instrument(meter_provider=MeterProvider([reader]))
    try:
        with server.client(max_concurrency=1) as client:
            running = client.stream_chat(ChatRequest(messages=broken[:1], params={"max_tokens": 3}))
            next(running)
            request = ChatRequest(messages=broken, params={"max_tokens": 3})
            waiting = threading.Thread(target=client.chat, args=[request])
            waiting.start()
            wait_until_queued(server)
            list(running)
            waiting.join(LONG)
            assert not waiting.is_alive()
            with pytest.raises(ContextOverflowError):
                client.chat(ChatRequest(messages=[{"role": "user", "content": "Hi " * 5000}]))
    finally:
        uninstrument()
    labels = recorded_labels(reader)
    for query in QUERIES:
        name = re.search(r"\b(gen_ai_client\w+?|llamacpp_client\w+?)(_total|_bucket|_count|_sum)\b", query)
        if name is None:
            continue
        groups = re.findall(r"by \(([^)]*)\)", query)
        used = {word.strip() for group in groups for word in group.split(",")} | set(re.findall(r"\{(\w+)", query))
        if name[1] != "llamacpp_client_retries":  # nothing was sent twice here
            assert used - {"le"} <= labels[name[1]], query


def test_the_panels_stand_side_by_side_and_ask_the_data_source_that_is_chosen() -> None:
    dashboard, seen = json.loads(DASHBOARD.read_text()), set[tuple[int, int]]()
    assert dashboard["schemaVersion"] >= 36, "data sources are objects"
    assert [variable["type"] for variable in dashboard["templating"]["list"]] == ["datasource"]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & seen, panel["title"]
        assert at["x"] + at["w"] <= 24
        seen |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")

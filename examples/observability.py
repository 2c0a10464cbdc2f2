"""The server's timings as OpenTelemetry metrics, with names from the GenAI conventions. Needs opentelemetry-sdk.

Spans come from any instrumentation of LangChain, without any code; see docs/observability.md.
"""

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult

from examples.servers import chat_server, needs
from langchain_llamacpp_server import ChatLlamaServer

try:
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
except ImportError:
    needs("OpenTelemetry: pip install opentelemetry-sdk")


class ServerMetrics(BaseCallbackHandler):
    """Records the time to the first token and the time for each further token."""

    def __init__(self) -> None:
        meter = metrics.get_meter("llamacpp-server")
        self.first = meter.create_histogram("gen_ai.server.time_to_first_token", unit="s")
        self.others = meter.create_histogram("gen_ai.server.time_per_output_token", unit="s")

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        metadata = response.generations[0][0].message.response_metadata  # type: ignore[union-attr]
        timings, whose = metadata["timings"], {"gen_ai.response.model": metadata["model_name"]}
        self.first.record(timings["first_token_ms"] / 1000, whose)
        self.others.record(timings["predicted_per_token_ms"] / 1000, whose)
        speed, read, cached = timings["predicted_per_second"], timings["prompt_n"], timings["cache_n"]
        build = metadata["system_fingerprint"]
        print(f"{speed:.0f} tokens a second; {read} tokens read, {cached} from the cache; build {build}")


def main(base_url: str) -> None:
    llm = ChatLlamaServer(base_url=base_url, max_tokens=50, callbacks=[ServerMetrics()])
    for question in ("Hello! My name is Ada.", "Hello! My name is Ada."):
        print(llm.invoke(question).text)


if __name__ == "__main__":
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())]))
    with chat_server() as server:
        main(server)

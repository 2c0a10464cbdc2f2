"""The page of the server's routes, made from the clients: `python -m tests.rules.routes` writes it, a test compares."""

import ast
import inspect
import re
from pathlib import Path
from typing import NamedTuple

from llamacpp_server import AsyncLlamaServerClient
from tests.upstream import BY_DESIGN

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "routes.md"
_HEAD = """\
# Routes

The routes of llama-server b11549, the client methods that use them (sync and async), the arguments of those methods,
and a test of each route on a real server. Fields of chats and completions are listed in
[request fields](request-fields.md); pass any other field in `extra_body`.
"""

_UPSTREAM = """\
## llama.cpp's own tests

`make test-upstream` runs the server tests of llama.cpp twice on a llama-server binary: with plain HTTP and with the
client in place of their HTTP helper. They come from the source package of `xllamacpp`. Every test that passes with
plain HTTP must pass with the client, except for these, which differ by design:
"""


class Route(NamedTuple):
    """A route of the server.

    Attributes:
        verb: HTTP method.
        path: As the clients ask for it.
        methods: The clients' methods that do.
        test: File and name of a test on a real server.
        aliases: Other paths of the same route.
        note: What a reader has to know.
    """

    verb: str
    path: str
    methods: tuple[str, ...]
    test: str
    aliases: tuple[str, ...] = ()
    note: str = ""


_CLIENT, _MORE, _APIS = "server/test_client.py::", "server/test_streams_and_tools.py::", "server/test_other_apis.py::"
_ROUTER, _DECISIONS = "server/test_router.py::", "server/test_decisions.py::"
ROUTES = (
    Route("POST", "/v1/chat/completions", ("chat", "stream_chat", "prewarm", "save_prompt", "restore_prompt"),
          "server/test_client_chat.py::test_deltas_add_up_to_the_unstreamed_reply", ("/chat/completions",)),
    Route("POST", "/v1/chat/completions/control", ("end_reasoning",),
          "server/test_client_chat.py::test_thinking_is_ended_while_it_runs"),
    Route("POST", "/v1/chat/completions/input_tokens", ("count_tokens", "fits"),
          f"{_CLIENT}test_counted_tokens_are_those_of_the_request", ("/chat/completions/input_tokens",)),
    Route("POST", "/v1/completions", ("complete", "stream_complete"), f"{_CLIENT}test_every_shape_of_prompt"),
    Route("POST", "/completion", ("complete", "stream_complete"),
          f"{_CLIENT}test_native_answers_end_each_on_their_own", ("/completions",),
          "with `return_tokens`, and on builds without `/v1/completions`"),
    Route("POST", "/infill", ("infill", "stream_infill"), f"{_CLIENT}test_text_between_texts"),
    Route("POST", "/v1/responses", ("create_response", "stream_response"),
          f"{_APIS}test_the_events_of_a_response_add_up_to_it", ("/responses",)),
    Route("POST", "/v1/responses/input_tokens", ("count_response_tokens",),
          f"{_APIS}test_tokens_of_a_response_are_counted_as_they_are_read", ("/responses/input_tokens",)),
    Route("POST", "/v1/messages", ("create_message", "stream_message"),
          f"{_APIS}test_the_events_of_a_message_add_up_to_it"),
    Route("POST", "/v1/messages/count_tokens", ("count_message_tokens",),
          f"{_APIS}test_the_usage_of_a_message_counts_cached_tokens_once"),
    Route("POST", "/v1/audio/transcriptions", ("transcribe", "stream_transcription"),
          f"{_APIS}test_a_recording_is_sent_as_a_file_and_its_tokens_are_counted", ("/audio/transcriptions",),
          "the test's model writes nonsense; `response_format` must be `json` (b11549)"),
    Route("POST", "/v1/embeddings", ("embed_texts", "embed"), f"{_CLIENT}test_vectors_in_the_order_of_the_texts"),
    Route("POST", "/embeddings", ("embed_tokens",), f"{_MORE}test_each_token_of_a_text_has_a_vector", ("/embedding",)),
    Route("POST", "/v1/rerank", ("rank", "rerank"), f"{_CLIENT}test_documents_best_first",
          ("/rerank", "/reranking", "/v1/reranking"),
          "`extra_body={\"texts\": [...]}` sends the request in TEI's format"),
    Route("POST", "/v1/systemone", ("decide",),
          f"{_DECISIONS}test_both_engines_give_the_same_probabilities_for_the_same_letters"),
    Route("POST", "/tokenize", ("tokenize", "tokenize_pieces"), f"{_CLIENT}test_special_tokens_are_parsed_when_asked"),
    Route("POST", "/detokenize", ("detokenize",), f"{_CLIENT}test_a_text_becomes_tokens_and_a_text_again"),
    Route("POST", "/apply-template", ("apply_template",), f"{_CLIENT}test_the_prompt_as_the_template_writes_it"),
    Route("GET", "/v1/stream", ("resume_chat",), f"{_MORE}test_a_reply_can_be_read_again_after_it_was_read"),
    Route("DELETE", "/v1/stream", ("stop_stream",), f"{_MORE}test_a_stopped_stream_frees_its_slot_and_is_forgotten"),
    Route("POST", "/v1/streams/lookup", ("find_streams",), f"{_MORE}test_a_reply_can_be_read_again_after_it_was_read",
          (), "the streams of `stream_resumable_chat`"),
    Route("GET", "/tools", ("server_tools",), f"{_MORE}test_the_tools_of_a_server_are_listed_with_their_schemas"),
    Route("POST", "/tools", ("call_server_tool", "stream_server_tool"),
          f"{_MORE}test_a_tool_runs_on_the_servers_machine"),
    Route("GET", "/health", ("health", "wait_until_ready"), f"{_CLIENT}test_it_is_healthy_and_ready", ("/v1/health",)),
    Route("GET", "/props", ("props", "info"), f"{_CLIENT}test_its_properties"),
    Route("GET", "/metrics", ("metrics",), f"{_CLIENT}test_its_metrics_are_numbers_that_grow"),
    Route("GET", "/slots", ("slots",), f"{_MORE}test_a_busy_server_says_so_when_a_free_slot_is_asked_for"),
    Route("POST", "/slots/{id}", ("save_slot", "restore_slot", "erase_slot"),
          f"{_CLIENT}test_a_slot_is_saved_restored_and_erased"),
    Route("GET", "/lora-adapters", ("lora_adapters",), "server/test_lora.py::test_names_are_those_of_the_files"),
    Route("POST", "/lora-adapters", ("set_lora_adapters",), "server/test_lora.py::test_scales_of_all_requests",
          (), "not on a router, because the request can't name a model (b11549)"),
    Route("GET", "/v1/models", ("models", "model_name", "running_models"), f"{_CLIENT}test_its_model", ("/models",)),
    Route("POST", "/models", ("download_model",), f"{_ROUTER}test_a_download_is_watched",
          (), "the test replays recorded events: no test downloads"),
    Route("DELETE", "/models", ("delete_model",),
          f"{_MORE}test_a_router_lists_a_model_that_was_added_once_it_reads_its_directory_again",
          (), "the test checks the error for a model that was not downloaded: no test downloads"),
    Route("POST", "/models/load", ("load_model",), f"{_ROUTER}test_loading_and_unloading_are_reported"),
    Route("POST", "/models/unload", ("unload_model",), f"{_ROUTER}test_loading_and_unloading_are_reported"),
    Route("GET", "/models/sse", ("watch_models",), f"{_ROUTER}test_events_are_watched"),
)  # fmt: skip
UNUSED = {
    "POST /props": "reports success but changes nothing (b11549)",
    "GET, POST /cors-proxy": "serves the server's web page",
    "POST $AIP_PREDICT_ROUTE": "Vertex AI's wrapper for the routes above",
    "GET / and its files, OPTIONS": "for browsers",
}
# Of llama-swap, which the methods for routers know too.
OTHER_SERVERS = {"/running", "/api/events", "/api/models/unload/{}", "/upstream/{}/health"}


def paths_in_code() -> set[str]:
    """Paths below a server that the programs name; what is put into one is `{}`."""
    found = set()
    for path in sorted((ROOT / "llamacpp_server").glob("*/*.py")):
        if path.parent.name in ("_endpoints", "transport"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
            for node in ast.walk(tree):
                if id(node) not in docs | inner and re.fullmatch(r"/[a-z][\w/{}-]*", text := _text(node)):
                    found.add(text)
    return found


def calls_in_code() -> set[tuple[str, str]]:
    """HTTP method and path of each `Call` that is written with both as texts."""
    found = set()
    for path in sorted((ROOT / "llamacpp_server" / "_endpoints").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Call":
                given = {keyword.arg: _text(keyword.value) for keyword in node.keywords}
                if given.get("method") and given.get("path"):
                    found.add((given["method"], given["path"]))
    return found


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def page() -> str:
    """The page."""
    lines = [_HEAD, "| route | methods | arguments | test | notes |", "|---|---|---|---|---|"]
    for route in ROUTES:
        aliases = f"also {', '.join(f'`{alias}`' for alias in route.aliases)}" if route.aliases else ""
        note = "; ".join(filter(None, (route.note, aliases)))
        methods = ", ".join(f"`{name}`" for name in route.methods)
        taken = ", ".join(f"`{name}`" for name in dict.fromkeys(_taken(route.methods))) or "nothing"
        file, _, test = route.test.partition("::")
        shown = f"{test.removeprefix('test_').replace('_', ' ')} (`{file}`)"
        lines.append(f"| {route.verb} `{route.path}` | {methods} | {taken} | {shown} | {note} |")
    lines += ["", "Not used, with the reason:", "", "| route | reason |", "|---|---|"]
    lines += [f"| {route} | {reason} |" for route, reason in UNUSED.items()]
    lines += ["", _UPSTREAM, "| test | reason |", "|---|---|"]
    lines += [f"| `{name}` | {reason} |" for name, reason in BY_DESIGN.items()]
    return "\n".join([*lines, ""])


def _taken(methods: tuple[str, ...]) -> list[str]:
    """What the methods take: the types of whole requests, and names of single arguments."""
    taken = []
    for name in methods:
        for parameter in list(inspect.signature(getattr(AsyncLlamaServerClient, name)).parameters.values())[1:]:
            taken += str(parameter.annotation).split(" | ") if parameter.name == "request" else [parameter.name]
    return taken


if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")

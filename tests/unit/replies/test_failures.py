"""Status, headers and body of an answer -> the one error that it means.

The rows are the server's own words, of b11434 and of older builds, and what stands between a client and it.
"""

import json
import time

import pytest

from llamacpp_server import (
    AuthenticationFailedError,
    BadRequestError,
    ContextOverflowError,
    LlamaServerError,
    MalformedReplyError,
    NotFoundError,
    NotSupportedError,
    ServerBusyError,
    ServerFaultError,
    ServerLoadingError,
    UnreadableOutputError,
)
from llamacpp_server._replies import (
    event_failure,
    failure,
    not_this_api,
)

URL = "http://localhost:8080/v1/chat/completions"

INVALID, SERVER, NOT_SUPPORTED = "invalid_request_error", "server_error", "not_supported_error"

# status, error.type, words, class, a part of the remedy
ROWS = [
    # -- the request
    (400, INVALID, "Field 'n': Value must be between 1 and 4", BadRequestError, None),
    (400, INVALID, "Field 'temperature': [json.exception.type_error.302] type must be number, but is string",
     BadRequestError, None),
    (400, INVALID, "Invalid tool_choice: any", BadRequestError, None),
    (400, INVALID, "Failed to initialize samplers: failed to parse grammar", BadRequestError, "grammar"),
    (400, INVALID, "Unable to generate parser for this template. Automatic parser generation failed: JSON schema "
     "error at #: unrecognized type wat", BadRequestError, "JSON schema"),
    (400, INVALID, "Prompt contains invalid tokens", BadRequestError, None),
    (400, INVALID, "unsupported content[].type", BadRequestError, None),
    (400, INVALID, "Failed to load image or audio file", BadRequestError, None),
    (400, INVALID, "model name is missing from the request", BadRequestError, "name a model"),
    (400, INVALID, "model name=two is not running", ServerLoadingError, "--models-max"),
    (400, INVALID, "model is not running", BadRequestError, None),
    (400, INVALID, "model is not loaded", BadRequestError, None),
    (400, INVALID, "model 'zz' not found", NotFoundError, "models()"),
    (400, INVALID, "Cannot use custom grammar constraints with tools.", BadRequestError, None),
    (422, None, "unprocessable", BadRequestError, None),
    # -- the caller's mistakes that come as 500
    (500, SERVER, "Failed to parse tools: unknown type", BadRequestError, None),
    (500, SERVER, "Failed to parse messages: Missing 'role'", BadRequestError, None),
    (500, SERVER, "[json.exception.type_error.302] type must be string, but is null", BadRequestError, None),
    (500, SERVER, "Cannot use both json_schema and grammar", BadRequestError, None),
    (500, SERVER, "Either \"json_schema\" or \"grammar\" can be specified, but not both", BadRequestError, None),
    (500, SERVER, "Unknown reasoning format: xml", BadRequestError, None),
    (500, SERVER, "vector::_M_range_check: __n (which is 1000000) >= this->size() (which is 265)", BadRequestError,
     None),
    (500, SERVER, "cannot make GET request: Could not establish connection", BadRequestError, None),
    (500, SERVER, "Invalid base64 value", BadRequestError, None),
    (500, SERVER, "[json.exception.out_of_range.403] key 'role' not found", BadRequestError, None),
    (500, SERVER, "Failed to parse tool call arguments as JSON: [json.exception.parse_error.101]", BadRequestError,
     "arguments"),
    (500, SERVER, "Conversation roles must alternate user/assistant/user/assistant/...", BadRequestError, "template"),
    (500, SERVER, "Jinja Exception: System role not supported", BadRequestError, "template"),
    # -- what the server was not started with
    (500, SERVER, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
     NotSupportedError, "--mmproj"),
    (500, SERVER, "audio input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
     NotSupportedError, "--mmproj"),
    (500, SERVER, "tools param requires --jinja flag", NotSupportedError, "--jinja"),
    (500, SERVER, "tool_choice param requires --jinja flag", NotSupportedError, "--jinja"),
    (501, NOT_SUPPORTED, "This server does not support embeddings. Start it with `--embeddings`", NotSupportedError,
     "--embeddings"),
    (501, NOT_SUPPORTED, "This server does not support reranking. Start it with `--reranking`", NotSupportedError,
     "--reranking"),
    (500, SERVER, "the current context does not support logits computation. skipping", NotSupportedError, "chat model"),
    (501, NOT_SUPPORTED, "This server does not support metrics endpoint. Start it with `--metrics`", NotSupportedError,
     "--metrics"),
    (501, NOT_SUPPORTED, "This server does not support slots action. Start it with `--slot-save-path`",
     NotSupportedError, "--slot-save-path"),
    (501, NOT_SUPPORTED, "This server does not support slots endpoint. Start it with `--slots`", NotSupportedError,
     None),
    (501, NOT_SUPPORTED, "Infill is not supported by this model: prefix token is missing. ", NotSupportedError,
     "fill-in-the-middle"),
    (400, INVALID, "Pooling type 'none' is not OAI compatible. Please use a different pooling type", NotSupportedError,
     "--pooling"),
    (403, "feature_disabled", "this feature is disabled", NotSupportedError, None),
    (403, "feature_disabled", "not for everybody", NotSupportedError, None),
    # -- the key
    (401, "authentication_error", "Invalid API Key", AuthenticationFailedError, "LLAMACPP_API_KEY"),
    (403, None, "forbidden", AuthenticationFailedError, "api_key"),
    # -- the endpoint
    (404, "not_found_error", "File Not Found", NotFoundError, "base_url"),
    # -- now is a bad time
    (503, "unavailable_error", "Loading model", ServerLoadingError, None),
    (503, "unavailable_error", "no slot available", ServerBusyError, None),
    (429, None, "Too Many Requests", ServerBusyError, None),
    # -- the server's own failures
    (500, SERVER, "The model produced output that does not match the expected peg-native format", UnreadableOutputError,
     "reasoning_format"),
    (500, SERVER, "Failed to parse input at pos 12: {", UnreadableOutputError, "reasoning_format"),
    (500, SERVER, "got exception: Unexpected empty grammar stack after accepting piece: \\nhello (278)",
     UnreadableOutputError, "retry"),
    (500, SERVER, "model name=broken failed to load", ServerFaultError, None),
    (500, SERVER, "something new", ServerFaultError, None),
    (502, None, "Bad Gateway", ServerFaultError, "gateway"),
]  # fmt: skip


def body_of(status, kind, words):
    return json.dumps({"error": {"code": status, "message": words, **({"type": kind} if kind else {})}}).encode()


@pytest.mark.parametrize(("status", "kind", "words", "expected", "remedy"), ROWS)
def test_words_and_status_of_an_answer(status, kind, words, expected, remedy):
    body = body_of(status, kind, words)
    error = failure(status, {}, body, URL)
    assert type(error) is expected
    assert (error.status, error.url, error.server_message, error.server_type) == (status, URL, words, kind)
    assert words in str(error)
    assert f"HTTP {status}" in str(error)
    assert URL in str(error)
    assert error.body == body.decode()
    assert remedy is None or (error.remedy is not None and remedy in error.remedy and remedy in str(error))


@pytest.mark.parametrize(("status", "kind", "words", "expected", "remedy"), ROWS)
def test_the_same_words_in_the_middle_of_a_stream(status, kind, words, expected, remedy):
    error = event_failure({"code": status, "message": words, "type": kind})
    assert type(error) is expected
    assert (error.status, error.server_message, error.server_type) == (None, words, kind)
    assert remedy is None or (error.remedy is not None and remedy in error.remedy)


def test_only_what_a_repeat_can_help_is_called_retryable():
    retryable = {expected for *_, expected, _ in ROWS if expected.retryable}
    assert retryable == {ServerLoadingError, ServerBusyError}


def test_a_shared_context_that_is_full_means_busy():
    body = {"error": {"message": "Context size has been exceeded."}}
    error = failure(500, {}, json.dumps(body).encode(), URL)
    assert (type(error), error.shared_context, "-np N" in error.remedy) == (ServerBusyError, True, True)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "body", "needed", "room"),
    [
        (400, {"message": "request (3024 tokens) exceeds the available context size (1024 tokens), try increasing it",
               "type": "exceed_context_size_error", "n_prompt_tokens": 3024, "n_ctx": 1024}, 3024, 1024),
        (400, {"message": "request (3024 tokens) exceeds the available context size (1024 tokens), try increasing it"},
         3024, 1024),
        (400, {"message": "new words", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}, 9, 8),
        (500, {"message": "request (5 tokens) exceeds the available context size (4 tokens)",
               "type": "exceed_context_size_error", "n_prompt_tokens": 5, "n_ctx": 4}, 5, 4),
        (400, {"message": "the request exceeds the available context size. try increasing the context size or enable "
               "context shift", "type": INVALID}, None, None),
        (500, {"message": "context shift is disabled"}, None, None),
        (500, {"message": "input (702 tokens) is too large to process. increase the physical batch size (current batch "
               "size: 512)", "type": SERVER}, 702, 512),
        (500, {"message": "input is too large to process. increase the physical batch size"}, None, None),
        # the fields win over the words; values of another type are passed over
        (400, {"message": "request (5 tokens) exceeds the available context size (4 tokens)", "n_prompt_tokens": 6,
               "n_ctx": 3}, 6, 3),
        (400, {"message": "prompt is too long", "n_prompt_tokens": "9", "n_ctx": 8}, None, 8),
        (400, {"message": "prompt is too long", "n_prompt_tokens": 9, "n_ctx": -1}, 9, None),
    ],
)  # fmt: skip
def test_an_overflow_says_by_how_much_where_the_server_does(status, body, needed, room):
    error = failure(status, {}, json.dumps({"error": body}).encode(), URL)
    assert type(error) is ContextOverflowError
    assert (error.n_prompt_tokens, error.n_ctx) == (needed, room)
    assert (error.server_message, error.server_type) == (body["message"], body.get("type"))
    assert body["message"] in str(error)
    assert error.remedy is not None
    assert "-ub" in error.remedy if "too large" in body["message"] else "-c" in error.remedy


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        # builds of early 2024
        (503, b'{"status":"loading model"}', ServerLoadingError, "loading model"),
        (503, b'{"status":"no slot available","slots_idle":0,"slots_processing":4}', ServerBusyError, "no slot"),
        (500, b'{"status":"error"}', ServerFaultError, "error"),
        (503, b'{"error":{"code":503,"message":"Loading model"}}', ServerLoadingError, "Loading model"),
        (404, b'{"error":{"message":"Not Found"}}', NotFoundError, "Not Found"),
        # other shapes of error
        (400, b'{"error":"plain words"}', BadRequestError, "plain words"),
        (400, b'{"detail":"from FastAPI"}', BadRequestError, "from FastAPI"),
        (400, b'{"message":"bare"}', BadRequestError, "bare"),
        (400, b'{"error":null}', BadRequestError, "error"),
        (400, b'{"error":["x"]}', BadRequestError, "x"),
        (400, b'[1,2]', BadRequestError, "[1,2]"),
        # no JSON at all
        (500, b"proxy error: Could not establish connection", ServerFaultError, "proxy error: Could not"),
        (500, b"Internal Server Error", ServerFaultError, "Internal Server Error"),
        (502, b"<html><head><title>502 Bad Gateway</title></head></html>", ServerFaultError, "HTML page"),
        (503, b"<!DOCTYPE html><h1>Service Unavailable</h1>", ServerBusyError, "HTML page"),
        (404, b"<html>not here</html>", NotFoundError, "HTML page"),
        (401, b"", AuthenticationFailedError, "key"),
        (404, b"", NotFoundError, "no such endpoint"),
        (501, b"", NotSupportedError, "not supported"),
        (400, b"", BadRequestError, "rejected"),
        (500, b"", ServerFaultError, "without an error message"),
        (503, b"", ServerBusyError, "busy"),
        (500, b'{"error":{"mess', ServerFaultError, '{"error":{"mess'),
        (500, b"\xff\xfe\x00", ServerFaultError, "\ufffd"),
    ],
)  # fmt: skip
def test_bodies_of_old_builds_of_other_shapes_and_of_no_shape(status, body, expected, words):
    error = failure(status, {}, body, URL)
    assert type(error) is expected
    assert words in str(error)
    assert error.status == status


@pytest.mark.parametrize("body", [b"<html>502</html>", b"<!doctype html>x", b"  <html>"])
def test_a_page_of_html_is_not_shown_as_the_servers_words(body):
    error = failure(502, {}, body, URL)
    assert "<" not in str(error)
    assert error.body == body.decode()


@pytest.mark.parametrize("status", [300, 301, 308])
def test_a_redirect_is_named_with_its_target(status):
    error = failure(status, {"location": "https://host/v1"}, b"moved", URL)
    assert type(error) is MalformedReplyError
    assert error.remedy == "use https://host/v1 as base_url"
    assert "redirects are not followed, to protect the API key" in str(error)
    assert (error.status, error.url, error.body) == (status, URL, "moved")


def test_a_redirect_to_nowhere_is_an_error_too():
    assert "redirects to another address" in str(failure(302, {}, b"", URL))


def test_a_resumable_stream_that_is_gone_is_to_be_sent_again():
    address = "http://localhost:8080/v1/stream"
    gone = failure(404, {}, b"", address)
    assert isinstance(gone, NotFoundError)
    assert "find_streams" in (gone.remedy or "")
    for status, url in ((500, address), (404, URL)):
        assert "find_streams" not in str(failure(status, {}, b"", url))


@pytest.mark.parametrize(
    "said", ["words", {"message": "words"}, {"detail": "words"}, {"status": "words"},
             {"message": "words", "status": "error"}]
)  # fmt: skip
def test_the_words_of_the_server_are_found_in_each_of_its_shapes(said):
    assert failure(400, {}, json.dumps({"error": said}).encode(), URL).server_message == "words"
    assert event_failure(said).server_message == "words"
    if isinstance(said, dict):
        assert failure(400, {}, json.dumps(said).encode(), URL).server_message == "words"


def test_an_error_without_words_shows_the_body_and_invents_none():
    body = b'{"error": {"message": "", "type": 5}}'
    error = failure(500, {}, body, URL)
    assert (error.server_message, error.server_type) == (body.decode(), None)
    assert "without an error message" in str(event_failure({"message": None, "type": 5}))


def test_an_error_event_without_a_status_is_a_fault_of_the_server():
    assert type(event_failure({"message": "boom"})) is ServerFaultError
    assert type(event_failure({"message": "boom", "code": 200})) is ServerFaultError


def test_a_remedy_is_given_only_where_one_is_known():
    assert failure(500, {}, b"boom", URL).remedy is None
    assert failure(503, {}, b'{"error": "Loading model"}', URL).remedy is None


@pytest.mark.parametrize(("found", "raw"), [("12: {", "{"), ("7:" + "x" * 5000, "x" * 5000), ("3", None)])
def test_what_the_parser_of_the_server_stumbled_over_is_kept(found, raw):
    words = f"Failed to parse input at pos {found}"
    error = failure(500, {}, json.dumps({"error": {"message": words}}).encode(), URL)
    assert isinstance(error, UnreadableOutputError)
    assert error.raw == raw
    as_text = failure(500, {}, words.encode(), URL)
    assert isinstance(as_text, UnreadableOutputError)
    assert as_text.raw == (raw and raw[: 600 - len("Failed to parse input at pos 7:")])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("0", 0.0), ("1.5", 1.5), ("-3", 0.0), ("soon", None), ("nan", None), ("", None)],
)
@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_retry_after_is_read_as_seconds(status, text, seconds):
    error = failure(status, {"retry-after": text}, b"busy", URL)
    assert isinstance(error, ServerBusyError)
    assert error.retry_after == seconds


def test_retry_after_is_read_as_a_date_by_the_clock_of_the_server():
    at = {"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert failure(429, at, b"busy", URL).retry_after == 30.0  # type: ignore[attr-defined]
    assert failure(429, {"retry-after": at["retry-after"]}, b"busy", URL).retry_after == 0.0  # type: ignore[attr-defined]  # long gone
    without_zone = {**at, "retry-after": "Wed, 21 Oct 2015 07:28:45 -0000"}
    assert failure(429, without_zone, b"busy", URL).retry_after == 45.0  # type: ignore[attr-defined]
    assert failure(429, {"retry-after": "Wed, 99 Oct 2015 07:28:30 GMT"}, b"busy", URL).retry_after is None  # type: ignore[attr-defined]


def test_retry_after_in_milliseconds_is_read_first():
    assert failure(429, {"retry-after-ms": "1500", "retry-after": "9"}, b"busy", URL).retry_after == 1.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens", (5000, 4096)),
        ("maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.", (5000, 4096)),
        ("litellm.ContextWindowExceededError: litellm.BadRequestError: too long", (None, None)),
        ("The prompt (5000 tokens) exceeds the available context size (4096 tokens)", (5000, 4096)),
    ],
)
def test_an_overflow_in_the_words_of_others_is_one(words, numbers):
    body = json.dumps({"error": {"message": words, "code": 400}}).encode()
    error = failure(400, {}, body, URL)
    assert isinstance(error, ContextOverflowError)
    assert (error.n_prompt_tokens, error.n_ctx) == numbers


# What other servers say, and gateways in front of them pass on: the error, prompt tokens and room, where both are said.
OVERFLOWS = {
    "openai": ({"message": "Your input exceeds the context window of this model. Please adjust your input."}, None),
    "openai, limit": ({"message": "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted "
                       "in 300000 tokens.", "code": "context_length_exceeded"}, (300000, 272000)),
    "vllm": ({"message": "The decoder prompt (length 9000) is longer than the maximum model length of 4096. Make sure "
              "that `max_model_len` is no smaller than that."}, (9000, 4096)),
    "vllm, fit": ({"message": "The prompt (total length 9000) is too long to fit into the model (context length 4096)"},
                  (9000, 4096)),
    "vllm, only": ({"message": "You passed 9001 input tokens and requested 100 output tokens. However, the model's "
                    "context length is only 4096 tokens."}, None),
    "litellm": ({"message": "too much", "code": "ContextWindowExceededError"}, None),
    "anthropic": ({"type": "invalid_request_error", "message": "prompt is too long: 215000 tokens > 200000 maximum"},
                  (215000, 200000)),
    "anthropic, sum": ({"message": "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"},
                       None),
    "ollama": ("the input length exceeds the context length", None),
    "tgi": ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens "
            "and 1000 `max_new_tokens`", None),
    "tei": ("Input validation error: `inputs` must have less than 512 tokens. Given: 600", (600, 512)),
    "sglang": ({"message": "The input (9000 tokens) is longer than the model's context length (4096 tokens)."},
               (9000, 4096)),
    "lm studio": ("Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with "
                  "context length of only 4096 tokens, which is not enough.", (9000, 4096)),
    "lm studio, reached": ("Reached context length of 4096 tokens with model (arch: llama)", None),
    "gemini": ({"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."},
               (1200000, 1048576)),
    "bedrock": ({"message": "Input is too long for requested model."}, None),
    "cohere": ({"message": "too many tokens: total number of tokens (prompt and prediction) cannot exceed 4081 - "
                "received 5500."}, (5500, 4081)),
    "mlx": ("Prompt length 9000 exceeds context window 4096", (9000, 4096)),
    "tabby": ({"message": "Prompt length 9000 is greater than max_seq_len 4096"}, (9000, 4096)),
    "aphrodite": ({"message": "Input prompt (9000 tokens) is too long and exceeds limit of 4096"}, (9000, 4096)),
    "xai": ("This model's maximum prompt length is 131072 but the request contains 537812 tokens.", (537812, 131072)),
    "fastapi": ({"detail": "This model's maximum context length is 4096 tokens."}, None),
}  # fmt: skip


@pytest.mark.parametrize("whose", OVERFLOWS)
def test_an_overflow_of_other_servers_is_one_with_any_status_and_in_a_stream(whose):
    said, numbers = OVERFLOWS[whose]
    body = json.dumps({"error": said}).encode()
    for error in (event_failure(said), *(failure(status, {}, body, URL) for status in (400, 413, 422, 500))):
        assert isinstance(error, ContextOverflowError)
        assert (error.n_prompt_tokens, error.n_ctx) == (numbers or (None, None))
        assert error.code == "context_length_exceeded"


@pytest.mark.parametrize("words", [
    "Rate limit reached for tokens per minute. Limit 8192, requested 10010",
    "max_tokens is too large: 100000. This model supports at most 4096 completion tokens",
    "Payload too large",
    "the model field is too long",
])  # fmt: skip
def test_other_limits_are_bad_requests(words):
    error = failure(400, {}, json.dumps({"error": {"message": words}}).encode(), URL)
    assert type(error) is BadRequestError


def test_the_code_of_openai_for_an_overflow_is_known():
    body = json.dumps({"error": {"message": "too long", "code": "context_length_exceeded"}}).encode()
    assert isinstance(failure(400, {}, body, URL), ContextOverflowError)


@pytest.mark.parametrize(
    ("status", "words", "reached"),
    [
        (502, "Bad Gateway", False),
        (521, "error code: 521", False),
        (500, "proxy error: Could not establish connection", False),
        (500, "proxy error: Failed to read connection", True),
        (500, "boom", True),
        (504, "Gateway Timeout", True),
        (503, "upstream connect error or disconnect/reset before headers. reset reason: connection termination", True),
    ],
)
def test_a_server_that_a_gateway_did_not_reach_is_distinguished_from_one_that_failed(status, words, reached):
    error = failure(status, {}, json.dumps({"error": {"message": words}}).encode(), URL)
    assert isinstance(error, ServerFaultError)
    assert error.reached is reached


@pytest.mark.parametrize("reason", ["connection failure", "remote connection failure", "overflow"])
def test_a_503_of_a_gateway_that_reached_nobody_is_retried_as_busy(reason):
    words = f"upstream connect error or disconnect/reset before headers. reset reason: {reason}"
    assert isinstance(failure(503, {}, words.encode(), URL), ServerBusyError)


@pytest.mark.parametrize("status", [504, 524])
def test_a_gateway_that_waited_too_long_is_named_with_the_remedy(status):
    assert "raise its timeout, or stream" in str(failure(status, {}, b"<html>Gateway Time-out</html>", URL))


def test_ten_megabytes_of_an_error_are_read_quickly():
    started = time.monotonic()
    for words in ("(1 tokens) " * 900_000, "x" * 10_000_000, "(" * 10_000_000):
        body = json.dumps({"error": {"message": words}}).encode()
        assert len(str(failure(400, {}, body, URL))) < 2000
    assert time.monotonic() - started < 15


def test_a_long_body_is_kept_in_part():
    error = failure(500, {}, b"x" * 100_000, URL)
    assert error.body is not None
    assert len(error.body) == 2000
    assert len(str(error)) < 1000


@pytest.mark.parametrize("details", ["words", None, 17, ["a"], {}, {"message": None}, {"code": "500", "message": 3}])
def test_an_error_event_of_any_shape_is_an_error(details):
    error = event_failure(details)
    assert isinstance(error, LlamaServerError)
    assert str(error)


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"<!doctype html><html>", "text/html; charset=utf-8"), (b"\n <html>", ""), (b"hello", "text/html"),
     (b"<!DOCTYPE HTML>", "text/plain")],
)  # fmt: skip
def test_a_web_page_at_200_is_called_one(body, kind):
    error = not_this_api(body, kind, URL, 203)
    assert type(error) is MalformedReplyError
    assert (error.status, error.url) == (203, URL)
    assert "got an HTML page instead of a llama-server response" in str(error)
    assert "base_url" in str(error)
    assert error.body == body.decode()


def test_other_words_at_200_are_shown():
    error = not_this_api(b'{"half":', "application/json", URL)
    assert '{"half":' in str(error)
    assert (error.status, error.url, error.body) == (200, URL, '{"half":')
    assert "check that base_url points to llama-server" in (error.remedy or "")
    assert not_this_api(b"\xff", "", URL).body == "\ufffd"

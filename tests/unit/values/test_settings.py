"""Where the server is, the key and the patience: `ServerSettings`."""

import copy
import dataclasses
import json
import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from llamacpp_server import DEFAULT_BASE_URL, ServerSettings
from llamacpp_server.settings import PLACEHOLDER_KEYS, normalize_base_url, redact_url

KEY = "sk-verysecret-4711"


@pytest.mark.parametrize(
    ("given_url", "root"),
    [
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("localhost:8080", "http://localhost:8080"),
        ("  http://localhost:8080/v1/ \n", "http://localhost:8080"),
        ("http://host/v1", "http://host"),
        ("http://host/v1/", "http://host"),
        ("http://host/v1//", "http://host"),
        ("http://host/v1/chat/completions", "http://host"),
        ("http://host/v1/chat/completions/input_tokens", "http://host"),
        ("http://host/chat/completions/", "http://host"),
        ("http://host/v1/completions", "http://host"),
        ("http://host/completion", "http://host"),
        ("http://host/v1/embeddings", "http://host"),
        ("http://host/embedding", "http://host"),
        ("http://host/v1/rerank", "http://host"),
        ("http://host/reranking", "http://host"),
        ("http://host/v1/models", "http://host"),
        ("http://host/health", "http://host"),
        ("http://host/props", "http://host"),
        ("https://host/llama/v1", "https://host/llama"),
        ("https://host/llama", "https://host/llama"),
        ("https://host/api/v1/chat/completions", "https://host/api"),
        ("https://host/v1beta", "https://host/v1beta"),
        ("https://host/my-models", "https://host/my-models"),
        ("http://[::1]:8080/v1", "http://[::1]:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("http://127.0.0.1:8080?x=1#top", "http://127.0.0.1:8080"),
        ("http://user:pw@host:1/v1", "http://user:pw@host:1"),
        ("unix:///run/llama.sock", "http+unix://%2Frun%2Fllama.sock"),
        ("unix:/run/llama.sock", "http+unix://%2Frun%2Fllama.sock"),
        ("unix:///run/Llama Server.sock/v1/", "http+unix://%2Frun%2FLlama%20Server.sock"),
        ("unix:./llama.sock", "http+unix://.%2Fllama.sock"),
        ("http+unix://%2Frun%2Fllama.sock/v1", "http+unix://%2Frun%2Fllama.sock"),
        ("http+unix://%2Frun%2Fllama.sock/prefix/v1", "http+unix://%2Frun%2Fllama.sock/prefix"),
    ],
)
def test_base_url_is_reduced_to_the_servers_root(given_url, root):
    assert normalize_base_url(given_url) == root
    assert ServerSettings(base_url=given_url).base_url == root


@pytest.mark.parametrize(
    "bad",
    ["", "   ", "/v1", "http://", "http:///v1", "ftp://host", "file:///etc/passwd", "unix:", "unix:///", "http+unix://",
     "http://host:port", "http://host:99999", "http://two words", "http://[::1", "http://[zz]:80", "http://host\x7f",
     "http://us/er:12?word@host", "http://host/x#a@b"],
)  # fmt: skip
def test_a_base_url_without_a_host_is_refused_and_the_right_form_is_shown(bad):
    with pytest.raises(ValueError, match=r"base_url .*") as caught:
        ServerSettings(base_url=bad)
    assert type(caught.value) is ValueError


@given(
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z]{1,8}(\.[a-z]{2,3})?", fullmatch=True),
    st.none() | st.integers(1, 65535),
    st.from_regex(r"(/[a-uw-z]{1,6}){0,2}", fullmatch=True).filter(lambda p: not p.endswith(("/models", "/slots"))),
    st.sampled_from(["", "/", "/v1", "/v1/", "/v1/chat/completions", "/v1/embeddings/"]),
)
def test_every_suffix_leads_to_the_same_root(scheme, host, port, prefix, suffix):
    root = f"{scheme}://{host}" + (f":{port}" if port else "") + prefix
    if prefix.rsplit("/", 1)[-1] in ("props", "health", "infill", "rerank"):
        return  # an api-prefix with an endpoint's name can't be told from the endpoint
    assert normalize_base_url(root + suffix) == root
    assert normalize_base_url(normalize_base_url(root + suffix)) == root


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:secret@host:80/v1?api_key=secret#secret", "http://host:80/v1"),
        ("http://user:se@cret@host/x", "http://host/x"),
        ("http://secret@host", "http://host"),
        ("user:secret@host:80", "host:80"),
        ("http://user:sec/ret@host", "http://host"),
        ("http://host/a@b", "http://host/a@b"),
        ("http://host/a@b?mail=c@d", "http://host/a@b"),
        # Such a path can't be told from a password with a slash in it.
        ("http://host:80/a@b", "http://b"),
        ("http://user:12/secret@host/x", "http://host/x"),
        ("http://user:12?secret@host/x", "http://host/x"),
        ("http:///user:secret\x00@host/x", "http://host/x"),
        ("user:secret://x@host", "host"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_shown_addresses_have_no_credentials(url, shown):
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    "bad", ["http://user:secret@host:port", "user:secret@ho st", "http://u:secret/x@host:1", "http://u:x#secret@h"]
)
def test_the_error_for_a_bad_base_url_shows_no_password(bad):
    with pytest.raises(ValueError, match="base_url") as caught:
        ServerSettings(base_url=bad)
    messages = []
    error: BaseException | None = caught.value
    while error is not None:
        messages.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert "secret" not in " ".join(messages)


@given(*[st.text(max_size=6)] * 4, st.sampled_from(["http://", "https://", ""]))
def test_no_address_however_odd_shows_the_password_in_it(user, before, after, host, scheme):
    url = f"{scheme}{user}:{before}hunter2{after}@{host}"
    shown = redact_url(url)
    try:
        settings = ServerSettings(base_url=url)
    except ValueError as error:
        shown += str(error)
    else:
        shown += repr(settings) + redact_url(settings.base_url) + settings.address("/v1/models", {})
    assert "hunter2" not in shown


def test_user_and_password_of_an_address_are_sent_as_a_header_and_the_key_next_to_them():
    settings = ServerSettings(base_url="http://us%20er:p%40ss@host/x", api_key=KEY)
    assert settings.request_headers() == {"Authorization": "Basic dXMgZXI6cEBzcw==", "X-Api-Key": KEY}
    assert settings.address("/v1/models", {"a": "1"}) == "http://host/x/v1/models?a=1"


def test_the_environment_fills_what_is_not_given():
    environ = {"LLAMACPP_BASE_URL": "http://env:1/v1", "LLAMACPP_API_KEY": KEY, "LLAMACPP_MODEL": "qwen"}
    settings = ServerSettings.from_env(environ)
    assert (settings.base_url, settings.model) == ("http://env:1", "qwen")
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == KEY


def test_what_is_given_wins_over_the_environment_and_none_means_not_given():
    environ = {"LLAMACPP_BASE_URL": "http://env:1", "LLAMACPP_API_KEY": "env", "LLAMACPP_MODEL": "env"}
    settings = ServerSettings.from_env(environ, base_url="http://given", api_key=None, model="mine", read_timeout=None)
    assert (settings.base_url, settings.model, settings.read_timeout) == ("http://given", "mine", None)
    assert settings.request_headers() == {"Authorization": "Bearer env"}


def test_an_empty_variable_counts_as_unset():
    settings = ServerSettings.from_env({"LLAMACPP_BASE_URL": "", "LLAMACPP_API_KEY": "", "LLAMACPP_MODEL": ""})
    assert (settings.base_url, settings.api_key, settings.model) == (DEFAULT_BASE_URL, None, None)


def test_keys_of_other_services_are_never_read():
    others = {"OPENAI_API_KEY": KEY, "LLAMA_API_KEY": KEY, "API_KEY": KEY, "OPENAI_BASE_URL": "http://openai"}
    settings = ServerSettings.from_env(others)
    assert settings == ServerSettings()
    assert settings.request_headers() == {}


def test_the_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("LLAMACPP_BASE_URL", "http://from-process:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("LLAMACPP_API_KEY", raising=False)
    settings = ServerSettings.from_env()
    assert (settings.base_url, settings.api_key) == ("http://from-process:9", None)


@pytest.mark.parametrize("placeholder", [*sorted(PLACEHOLDER_KEYS), "No-Key", " none ", "EMPTY"])
@pytest.mark.parametrize("wrap", [str, SecretStr])
def test_placeholder_keys_are_not_sent(placeholder, wrap):
    settings = ServerSettings(api_key=wrap(placeholder))
    assert settings.api_key is None
    assert "Authorization" not in settings.request_headers()


def test_a_real_key_is_sent_as_bearer_and_beats_a_header_of_the_same_name():
    settings = ServerSettings(api_key=KEY, headers={"Authorization": "Bearer other", "X-Team": "blue"})  # type: ignore[arg-type]
    assert settings.request_headers() == {"Authorization": f"Bearer {KEY}", "X-Team": "blue"}


def test_the_key_shows_nowhere(caplog):
    settings = ServerSettings(base_url=f"http://user:{KEY}@host", api_key=SecretStr(KEY))
    again = pickle.loads(pickle.dumps(settings))
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("llamacpp_server").warning("settings: %s %r", settings, settings.api_key)
    shown = [
        repr(settings), str(settings), f"{settings}", repr(again), repr(copy.deepcopy(settings)),
        repr(settings.replace(model="x")), repr([settings]), caplog.text, repr(settings.api_key),
        json.dumps(dataclasses.asdict(settings)["api_key"], default=str),
    ]  # fmt: skip
    assert KEY not in " ".join(shown)


def test_a_pickle_keeps_the_key_because_a_worker_needs_it():
    again = pickle.loads(pickle.dumps(ServerSettings(api_key=SecretStr(KEY))))
    assert again.request_headers() == {"Authorization": f"Bearer {KEY}"}
    assert again == ServerSettings(api_key=SecretStr(KEY))


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {"X-A": "1\r\nX-Evil: 1"}},
        {"headers": {"X-A\r\nX-Evil": "1"}},
        {"headers": {"X A": "1"}},
        {"headers": {"": "1"}},
        {"headers": {"X-Ä": "1"}},
        {"headers": {"X-A": "ünicode"}},
        {"headers": {"X-A": "nul\x00"}},
        {"api_key": f"{KEY}\r\nX-Evil: 1"},
        {"api_key": f"{KEY}\n"},
    ],
)
def test_header_injection_is_refused_at_once_without_showing_the_value(fields):
    with pytest.raises(ValueError, match="header") as caught:
        ServerSettings(**fields)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["connect_timeout", "read_timeout", "total_timeout", "load_timeout", "max_retries"]
)  # fmt: skip
@pytest.mark.parametrize("bad", [-1, -0.001, float("nan")])
def test_negative_patience_is_refused(name, bad):
    with pytest.raises(ValueError, match=name):
        ServerSettings(**{name: bad})


def test_zero_and_none_are_values_and_the_defaults_are_the_documented_ones():
    settings = ServerSettings(connect_timeout=0, read_timeout=None, total_timeout=None, max_retries=0, load_timeout=0)
    assert (settings.connect_timeout, settings.read_timeout, settings.max_retries, settings.load_timeout) == (
        0,
        None,
        0,
        0,
    )
    default = ServerSettings()
    assert (default.connect_timeout, default.read_timeout, default.total_timeout) == (5.0, 600.0, None)
    assert (default.wait_while_loading, default.wait_while_refused) == (True, False)


@pytest.mark.parametrize("bad", [0, -1, 1.5, "all", "slot", float("nan")])
def test_a_concurrency_that_lets_nothing_through_is_refused(bad):
    with pytest.raises(ValueError, match="max_concurrency"):
        ServerSettings(max_concurrency=bad)


@pytest.mark.parametrize("good", ["slots", None, 1, 64])
def test_concurrency_is_the_slots_a_number_or_unlimited(good):
    assert ServerSettings(max_concurrency=good).max_concurrency == good


def test_replace_changes_one_thing_and_checks_it():
    settings = ServerSettings(base_url="http://a", model="m", read_timeout=1)
    changed = settings.replace(base_url="http://b/v1")
    assert (changed.base_url, changed.model, changed.read_timeout) == ("http://b", "m", 1)
    assert settings.base_url == "http://a"
    with pytest.raises(ValueError, match="read_timeout"):
        settings.replace(read_timeout=-1)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServerSettings().base_url = "http://elsewhere"  # type: ignore[misc]

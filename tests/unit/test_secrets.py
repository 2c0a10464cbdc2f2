"""Secrets of another type, misspelt arguments and bad values: no message, no input and no frame shows a secret."""

import traceback

import pytest
from pydantic import BaseModel, ValidationError

import langchain_llamacpp_server as langchain
import llamaindex_llamacpp_server as llamaindex
from llamacpp_server import AsyncLlamaServerClient, LlamaServerClient, LocalServer, ServerSettings

SECRET = "sk-verysecret-4711"
MODELS = [
    getattr(package, name)
    for package in (langchain, llamaindex)
    for name in package.__all__
    if "api_key" in getattr(getattr(package, name), "model_fields", {})
]
# Both of the frameworks' own frames and ours; not those of this file, which has to hold the secret.
REFUSED = {
    "misspelt": {"temperatur": 1, "api_key": SECRET},
    "misspelt beside an address": {"api_kye": SECRET, "base_url": f"http://user:{SECRET}@host"},
    "a list": {"api_key": [SECRET]},
    "a dict": {"api_key": {SECRET: SECRET}},
    "headers that are a list": {"default_headers": [SECRET]},
    "a header that is a list": {"default_headers": {"X-Mine": [SECRET]}},
    "an address that is a list": {"base_url": [f"http://user:{SECRET}@host"]},
    "a body that is text": {"extra_body": SECRET},
    "another field": {"api_key": SECRET, "max_retries": "many"},
    "all at once": {
        "default_headers": SECRET,
        "default_query": SECRET,
        "api_key": [SECRET],
        "read_timeout": {"": SECRET},
    },
}


def shown(error: BaseException) -> str:
    """All that a log, a debugger and an error tracker show of an error."""
    text = repr(error) + "".join(traceback.format_exception_only(error))
    if isinstance(error, ValidationError):
        text += str(error.errors()) + error.json()
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.StackSummary.extract(traceback.walk_tb(cause.__traceback__), capture_locals=True)
        text += str([frame.locals for frame in frames if frame.filename != __file__])
        cause = cause.__cause__ or cause.__context__
    return text


def test_every_model_class_is_tried():
    assert len(MODELS) == 11


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("given", REFUSED)
def test_a_model_that_is_refused_shows_no_secret(model: type[BaseModel], given: str):
    with pytest.raises(ValidationError) as made:
        model(**REFUSED[given])
    with pytest.raises(ValidationError) as validated:
        model.model_validate(REFUSED[given])
    assert SECRET not in shown(made.value)
    assert SECRET not in str(validated.value) + str(validated.value.errors()) + validated.value.json()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_error_names_the_argument_and_what_was_meant(model: type[BaseModel]):
    with pytest.raises(ValidationError, match=r"'max_retrys'.*did you mean 'max_retries'"):
        model(max_retrys=1, api_key=SECRET)
    with pytest.raises(ValidationError, match=r"max_retries\n.*valid integer.*'many'"):
        model(max_retries="many", api_key=SECRET)
    with pytest.raises(ValidationError, match=r"base_url[\s\S]*string"):
        model(base_url=1, api_key=SECRET)


BAD = {
    "a key with a line end": {"api_key": SECRET + "\r\nX-Admin: 1"},
    "a key that is a list": {"api_key": [SECRET]},
    "a key that is bytes": {"api_key": SECRET.encode()},
    "an address with a password": {"base_url": f"http://user:{SECRET}@no host"},
    "an address that is a list": {"base_url": [SECRET]},
    "a header with a line end": {"headers": {"X-Mine": SECRET + "\n"}},
    "a header that is bytes": {"headers": {"X-Mine": SECRET.encode()}},
    "headers that are text": {"headers": SECRET},
    "a misspelt field": {"api_kye": SECRET},
}
MAKERS = {
    "settings": lambda **given: ServerSettings(**given),
    "settings of the environment": lambda **given: ServerSettings.from_env({}, **given),
    "changed settings": lambda **given: ServerSettings().replace(**given),
    "a client": lambda **given: LlamaServerClient(**given),
    "an async client": lambda **given: AsyncLlamaServerClient(**given),
    "a client with settings": lambda **given: LlamaServerClient(settings=ServerSettings(), **given),
    "a changed client": lambda **given: LlamaServerClient().with_settings(**given),
}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("given", BAD)
def test_settings_that_are_refused_show_no_secret(make: str, given: str):
    with pytest.raises((ValueError, TypeError)) as caught:
        MAKERS[make](**BAD[given])
    assert SECRET not in shown(caught.value)


def test_a_key_in_the_environment_with_a_line_end_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LLAMACPP_API_KEY", SECRET + "\n")
    with pytest.raises(ValueError, match="Authorization") as caught:
        LlamaServerClient()
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("given", [{"api_key": SECRET + "\n"}, {"base_url": f"http://user:{SECRET}@no host"},
                                   {"default_headers": {"X-Mine": SECRET + "\n"}}], ids=str)  # fmt: skip
def test_a_model_whose_secret_can_not_be_sent_shows_it_nowhere(model: type[BaseModel], given: dict[str, str]):
    with pytest.raises(ValueError, match=r"base_url|header") as caught:
        _ = model(**given).client  # type: ignore[attr-defined]  # all models have it
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("given", [{"api_key": [SECRET]}, {"api_kye": SECRET}], ids=["a list", "misspelt"])
def test_a_local_server_that_is_refused_shows_no_secret(given: dict[str, object]):
    with pytest.raises((ValueError, TypeError)) as caught:
        LocalServer("model.gguf", **given)  # type: ignore[arg-type]  # that is the fault
    assert SECRET not in shown(caught.value)

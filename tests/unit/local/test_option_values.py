"""Values of other types for the arguments and options of a local server: refused by name, before a process starts."""

import json
import os
import pickle
import typing
from pathlib import Path

import pytest
import xllamacpp
from llama_index.core.schema import TextNode

from llamacpp_server import BadRequestError, LocalServer
from llamacpp_server.local import OPTIONS as TABLE
from llamacpp_server.local import LocalServerError, LocalServerOptions, running_servers

TINY = Path(__file__).parents[3] / "models" / "tiny-chat.gguf"
SECRET = "sk-verysecret-4711"


def fail(*given):
    """What every method of a hostile object does."""
    raise RuntimeError(SECRET)


METHODS = ("repr", "str", "iter", "bool", "fspath", "index", "len", "eq")
Hostile = type("Hostile", (), {f"__{name}__": fail for name in METHODS})


class Count:
    """As numpy's integers are: no int, but one can be made of it."""

    def __index__(self):
        return 2


ENDLESS = {}
ENDLESS["a"] = ENDLESS
ODD = (
    True, 5, -1, 0.5, float("nan"), float("inf"), 10**400, "", "hi", "--flag", "a\0b", "a\nb", "\ud800", b"x", object(),
    Hostile(), [], [None], ["a\0b"], [Hostile()], {}, {"a": object()}, {1: 2}, ENDLESS, {1, 2}, lambda: 0, (1, 2),
    TextNode(text="x"), 2**40, SECRET * 1000,
)  # fmt: skip
OPTIONS = sorted(typing.get_type_hints(LocalServerOptions))
ARGUMENTS = ["model", "binary", "extra_args", "load_timeout", "backend"]


@pytest.mark.parametrize("name", [*OPTIONS, *ARGUMENTS])
def test_any_value_of_an_option_is_taken_or_refused_by_name(name):
    for odd in ODD:
        given = {"model": TINY, name: odd}
        try:
            server = LocalServer(**given)
        except (BadRequestError, LocalServerError) as error:
            assert name in str(error) or "router" in str(error) or "not an executable" in str(error)
            assert SECRET not in str(error)
        except ValueError as error:
            assert name in str(error)
        except Exception as error:
            if type(error).__name__ != "NotSupportedError":  # the wheel or the program is missing
                raise
        else:
            json.dumps([str(value) for value in server._options.values()])
            repr(server)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("port", 65536, "port must be an int from 0 to 65535, not 65536"),
        ("port", True, "port must be an int from 0 to 65535, not True"),
        ("port", SECRET, "port must be an int from 0 to 65535, not str"),
        ("ctx_size", "4k", "ctx_size must be an int of 32 bits, not str"),
        ("parallel", 2**40, "parallel must be an int of 32 bits, not 1099511627776"),
        ("metrics", "off", "metrics must be True or False, not str"),
        ("flash_attn", "yes", "flash_attn must be 'on' or 'off' or 'auto', not str"),
        ("temp", float("nan"), "temp must be a finite number, not float"),
        ("host", "", "host must not be empty or contain white space"),
        ("host", "127.0.0.1\n", "host must not be empty or contain white space"),
        ("api_prefix", "llama", "api_prefix must begin with / and be the path of an address"),
        ("api_key", f"{SECRET}\r\nX-Admin: 1", "api_key must hold printable ASCII characters only"),
        ("extra_args", "--metrics", "extra_args must be a list of strings"),
        ("load_timeout", float("nan"), "load_timeout must be a number of seconds from 0, not float"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_the_refusal_says_what_the_option_takes_and_shows_no_text(name, value, words):
    with pytest.raises(BadRequestError) as refused:
        LocalServer(TINY, **{name: value})
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)


def test_numbers_of_other_libraries_are_taken_as_numbers():
    assert LocalServer(TINY, parallel=Count())._options["parallel"] == 2


def test_no_dump_of_a_local_server_shows_its_keys():
    server = LocalServer(TINY, api_key=SECRET, hf_token=SECRET)
    shown = [repr(server), str(vars(server)), str(server._options), f"{server!r}"]
    with pytest.raises((TypeError, AttributeError)) as refused:
        pickle.dumps(server)
    assert SECRET not in "".join([*shown, str(refused.value)])


def test_a_model_that_is_a_pipe_or_a_directory_is_refused_instead_of_awaited(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path / "pipe.gguf", tmp_path):
        with pytest.raises(LocalServerError, match="model is not a file"):
            LocalServer(path).start()
    for name in ("slot_save_path", "media_path"):
        with pytest.raises(LocalServerError, match=f"{name} is not a directory"):
            LocalServer(TINY, **{name: TINY}).start()


@pytest.mark.parametrize(
    "change",
    [{"pid": "1"}, {"pid": -1}, {"pid": 0}, {"pid": 1.5}, {"guard": "../../etc"}, {"base_url": {}}, {"more": 1}, None],
    ids=str,
)
def test_an_entry_that_is_not_one_of_a_running_server_is_left_out(tmp_path, monkeypatch, change):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert running_servers() == []
    entry = {"pid": os.getpid(), "guard": os.getpid(), "base_url": "http://127.0.0.1:1", "model": "m", "key": "k"}
    file = tmp_path / "llamacpp-server" / "1.json"
    file.write_text(json.dumps(entry))
    assert [server.model for server in running_servers()] == ["m"]
    file.write_text("[" * 100_000 if change is None else json.dumps({**entry, **change}))
    assert running_servers() == []


def test_numbers_may_come_as_text():
    with LocalServer(TINY, ctx_size="1024", parallel="1", temp=" 0.5 ", port="0") as server:
        props = server.client().props()
    assert props.n_ctx == 1024
    assert props.raw["default_generation_settings"]["params"]["temperature"] == 0.5


@pytest.mark.parametrize("name", OPTIONS)
def test_a_number_with_decimals_of_the_wheel_may_have_decimals(name):
    default = xllamacpp.CommonParams()
    for part in (TABLE[name].attribute or "-").lstrip("-").partition(":")[0].split("."):
        default = getattr(default, part, None)
    if isinstance(default, float):
        assert LocalServer(TINY, **{name: 0.5}).backend == "embedded"

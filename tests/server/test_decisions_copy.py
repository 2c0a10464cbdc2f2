"""`LocalServer(decisions=True)`, and both engines beside each other: native on the copy, logits on the original."""

import os
import shutil
from pathlib import Path
from threading import Barrier, Thread

import pytest

from llamacpp_server import Choice, LocalServer, NotSupportedError, Noul, Score
from llamacpp_server.local import LocalServerError, write_decisions_copy

TINY = Path(__file__).parents[2] / "models" / "tiny-chat.gguf"
QUESTIONS = {
    "team": Choice("Which team should handle this?", {"billing": "Payments", "shipping": "Parcels", "other": None}),
    "quoted": Choice("Which?", ["a 'b'", 'c "d"', "e\\f", "🙂", "{{ x }}"]),
    "urgent": Noul("Is this urgent?", true="it is for today", false="it can wait"),
    "level": Score("How urgent is it?", ["calm", "soon", "now"]),
}
STATES = ["My parcel has not arrived, and I need it today!", {"from": "Ann", "lines": ["I paid twice.", 2]}, "é 🙂 'x'"]
SMALL = {"ctx_size": 4096, "parallel": 1, "threads": 1, "warmup": False, "flash_attn": "off"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "llamacpp-server" / "decisions"


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_both_engines_agree_native_on_the_copy_and_logits_on_the_original(cache):
    with LocalServer(TINY, **SMALL) as original, LocalServer(TINY, decisions=True, **SMALL) as copy:
        chat, decider = original.client(), copy.client()
        for state in STATES:
            native = decider.decide(state, QUESTIONS, engine="native")
            logits = chat.decide(state, QUESTIONS, labels="letters")
            assert (native.engine, logits.engine) == ("native", "logits")
            for name in ("team", "quoted"):
                assert native.choices[name].probabilities == pytest.approx(logits.choices[name].probabilities, abs=0.05)
                assert native.choices[name].choice == logits.choices[name].choice
        # The server labels every answer by letters, yes and no as well; the other engine has words and numbers there.
        assert native.scores["level"].legend == logits.scores["level"].legend
        assert 0 <= native.nouls["urgent"].noul <= 1


def test_a_local_server_with_decisions_serves_a_kept_copy_and_still_chats(cache):
    with LocalServer(TINY, decisions=True, **SMALL) as server:
        assert server.client().model_name() == "tiny-chat"
        found = server.client().decide(STATES[0], QUESTIONS)
        assert found.engine == "native"
        assert "tiny-chat" in found.model
    (kept,) = cache.iterdir()
    before = kept.stat()
    with LocalServer(TINY, decisions=True, **SMALL):
        pass
    assert names(cache) == [kept.name]
    assert kept.stat().st_ino == before.st_ino
    assert kept.stat().st_mtime_ns == before.st_mtime_ns


def test_a_changed_model_gets_a_new_copy_in_the_place_of_the_old_one(cache, tmp_path):
    model = tmp_path / "my [model].gguf"
    shutil.copy(TINY, model)
    first = LocalServer(model, decisions=True, **SMALL)
    with first:
        (old,) = names(cache)
    os.utime(model, ns=(1, 1))
    with LocalServer(model, decisions=True, **SMALL) as server:
        assert server.client().decide("x", {"q": Noul("?")}).engine == "native"
        (new,) = names(cache)
    assert old != new


def test_a_model_that_is_a_decision_model_needs_no_copy(cache, tmp_path):
    copy = write_decisions_copy(TINY, tmp_path / "own.gguf")
    with LocalServer(copy, decisions=True, **SMALL) as server:
        assert server.client().decide("x", {"q": Noul("?")}).engine == "native"
    assert not cache.exists()


def test_servers_that_start_at_once_write_one_complete_copy(cache):
    servers = [LocalServer(TINY, decisions=True, **SMALL) for _ in range(3)]
    start = Barrier(len(servers))

    def run(server):
        start.wait()
        server.start()

    threads = [Thread(target=run, args=(server,)) for server in servers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engines = [server.client().decide("x", {"q": Noul("?")}).engine for server in servers]
    finally:
        for server in servers:
            server.stop()
    assert engines == ["native"] * 3
    assert len(names(cache)) == 1


def test_decisions_require_a_chat_model_in_a_file(cache, models_dir, tmp_path):
    with pytest.raises(LocalServerError, match="no chat template"):
        LocalServer(models_dir / "encoder.gguf", decisions=True, **SMALL).start()
    with pytest.raises(LocalServerError, match="not found"):
        LocalServer(tmp_path / "missing.gguf", decisions=True, **SMALL).start()
    assert not cache.exists() or names(cache) == []


@pytest.mark.binary
@pytest.mark.parametrize("model", [None, "org/repo:Q8_0"])
def test_a_router_or_a_download_has_no_decisions_copy(model):
    with pytest.raises(NotSupportedError, match="decisions=True requires a GGUF file"):
        LocalServer(model, decisions=True)


def test_a_server_with_decisions_is_not_reused_for_one_without(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    deciding = {**SMALL, "decisions": True, "reuse": True}
    with LocalServer(TINY, reuse=True, **SMALL) as first, LocalServer(TINY, **deciding) as second:
        assert second.base_url != first.base_url
        with LocalServer(TINY, **deciding) as third:
            assert third.base_url == second.base_url

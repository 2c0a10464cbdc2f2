"""On a real router that holds one model at a time, what can wait does not swap the model that others use."""

import threading
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import ChatRequest, LlamaServerClient, LocalServer
from tests.models import Script, build_scripted
from tests.waiting import wait_until_queued

pytestmark = pytest.mark.binary


@pytest.fixture
def router(tmp_path: Path) -> Any:
    model, preset = tmp_path / "talker.gguf", tmp_path / "models.ini"
    build_scripted(model, {"Talk": Script(says=["so "], endless=True), "user": Script(says="Yes.")})
    preset.write_text("".join(f"[{name}]\nmodel = {model}\n\n" for name in ("main", "titles")))
    with LocalServer(models_preset=preset, models_max=1, ctx_size=2048, parallel=1, threads=1) as server:
        yield server


def chat(model: str, text: str, most: int) -> ChatRequest:
    return ChatRequest(messages=[{"role": "user", "content": text}], model=model, params={"max_tokens": most})


def loaded(client: LlamaServerClient) -> list[str]:
    return [card.id for card in client.models() if card.status == "loaded"]


@pytest.mark.usefixtures("patient")
def test_a_title_waits_until_nobody_needs_the_model_that_is_loaded(router: LocalServer) -> None:
    ended, found = list[str](), dict[str, list[str]]()

    def ask(client: LlamaServerClient, name: str, request: ChatRequest) -> None:
        client.chat(request)
        ended.append(name)
        found[name] = loaded(client)

    with router.client() as client:
        titles = client.with_settings(priority="background")
        stream = client.stream_chat(chat("main", "Talk", 400))
        next(stream)
        jobs = [
            threading.Thread(target=ask, args=(client, "first", chat("main", "Hello", 4))),
            threading.Thread(target=ask, args=(titles, "title", chat("titles", "Hello", 4))),
            threading.Thread(target=ask, args=(client, "second", chat("main", "Hi", 4))),
        ]
        jobs[0].start()
        wait_until_queued(router, 1, "main")
        jobs[1].start()
        wait_until_queued(router, 1, "titles")
        jobs[2].start()
        wait_until_queued(router, 2, "main")
        assert loaded(client) == ["main"]
        list(stream)
        for job in jobs:
            job.join(60)
    assert ended == ["first", "second", "title"]
    assert (found["first"], found["title"]) == (["main"], ["titles"])

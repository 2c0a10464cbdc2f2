"""Copies, pickles, threads, event loops, secrets, and leaving in the middle."""

import asyncio
import copy
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from workflows.errors import WorkflowCancelledByUser

from llamaindex_llamacpp_server import LlamaServer
from tests.waiting import wait_until_busy

HELLO = [ChatMessage(content="Hello")]


@pytest.fixture
def slow_llm(make_llm, slow_server):
    return make_llm(slow_server, thinking=False)


def _use(llm: LlamaServer) -> str:
    return llm.chat(HELLO).message.content


def test_it_can_be_copied_and_pickled_after_use(make_llm, thinker):
    llm = make_llm(thinker, temperature=0.5, api_key="sesame", default_headers={"X-A": "b"})
    text = _use(llm)
    asyncio.run(llm.achat(HELLO))
    _ = llm.metadata, llm.tokenizer("x")
    others = [
        pickle.loads(pickle.dumps(llm)),
        copy.deepcopy(llm),
        copy.copy(llm),
        llm.model_copy(update={"top_k": 1}),
        LlamaServer.from_dict(llm.to_dict()),
        LlamaServer.from_json(llm.to_json()),
    ]
    for other in others:
        assert other.temperature == 0.5
        assert _use(other) == text
        assert other.tokenizer("x") == llm.tokenizer("x")
        other.close()
    assert others[0].api_key.get_secret_value() == others[1].api_key.get_secret_value() == "sesame"
    assert others[4].api_key is None
    assert others[3].top_k == 1
    assert others[4].to_dict() == llm.to_dict()


def test_no_secret_is_in_any_dump():
    llm = LlamaServer(
        base_url="http://user:sesame@localhost:9/v1",
        api_key="sesame",
        default_headers={"Authorization": "sesame"},
        default_query={"key": "sesame"},
    )
    shown = (repr(llm), str(llm), llm.to_json(), str(llm.to_dict()), str(llm.model_dump()), llm.model_dump_json())
    assert not [text for text in shown if "sesame" in text]
    assert json.loads(llm.to_json())["class_name"] == "LlamaServer"


def test_one_event_loop_after_another(make_llm, thinker):
    llm = make_llm(thinker, max_retries=0)
    for _ in range(4):
        assert asyncio.run(llm.achat(HELLO)).message.content == "The answer is 42."


def test_event_loops_in_threads(make_llm, thinker):
    llm = make_llm(thinker, max_retries=0)

    async def several() -> list[str]:
        responses = await asyncio.gather(*(llm.acomplete("Hello") for _ in range(3)))
        return [response.text for response in responses]

    with ThreadPoolExecutor(3) as pool:
        texts = [text for future in [pool.submit(asyncio.run, several()) for _ in range(4)] for text in future.result()]
        texts += [response.text for response in pool.map(llm.complete, ["Hello"] * 4)]
    assert texts == ["The answer is 42."] * 16


def test_leaving_a_stream_frees_the_slot(slow_llm, slow_server, idle):
    stream = slow_llm.stream_chat(HELLO)
    next(stream)
    stream.close()
    idle(slow_server)
    stream = slow_llm.stream_complete("Hello")
    next(stream)
    del stream
    idle(slow_server)
    for _ in slow_llm.stream_complete("Hello", formatted=True):
        break
    idle(slow_server)


async def test_leaving_an_awaited_stream_frees_the_slot(slow_llm, slow_server, idle):
    """LlamaIndex's own wrapper leaves closing to the event loop, which must be free to run meanwhile."""
    stream = await slow_llm.astream_chat(HELLO)
    await anext(stream)
    await stream.aclose()
    await asyncio.to_thread(idle, slow_server)
    stream = await slow_llm.astream_complete("Hello")
    await anext(stream)
    del stream
    await asyncio.to_thread(idle, slow_server)
    await slow_llm.aclose()


@pytest.mark.parametrize("method", ["achat", "acomplete"])
async def test_cancelling_frees_the_slot(slow_llm, slow_server, idle, method):
    """Also of calls that give the whole answer, because they stream underneath."""
    given = HELLO if method == "achat" else "Hello"
    task = asyncio.create_task(getattr(slow_llm, method)(given))
    await asyncio.to_thread(wait_until_busy, slow_server)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    idle(slow_server)
    await slow_llm.aclose()


class Asking(Workflow):
    """A workflow of one step."""

    @step
    async def ask(self, event: StartEvent) -> StopEvent:
        return StopEvent(result=await event.llm.achat(HELLO))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LlamaIndex's agents give several, as in test_agents.py
@pytest.mark.parametrize("kind", ["workflow", "agent"])
async def test_a_cancelled_workflow_frees_the_slot(slow_llm, slow_server, idle, kind):
    if kind == "agent":
        handler = FunctionAgent(llm=slow_llm, tools=[]).run(user_msg="Hello")
    else:
        handler = Asking(timeout=60).run(llm=slow_llm)
    await asyncio.to_thread(wait_until_busy, slow_server)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    await asyncio.to_thread(idle, slow_server)
    await slow_llm.aclose()


def test_a_stream_can_be_left_in_another_thread(slow_llm, slow_server, idle):
    stream = slow_llm.stream_chat(HELLO)
    next(stream)
    thread = threading.Thread(target=stream.close)
    thread.start()
    thread.join()
    idle(slow_server)


def test_an_error_that_a_stream_ends_with_reaches_the_caller(make_llm, models_dir):
    from llamacpp_server import LocalServer, StreamCutOffError
    from tests.models import Script, build_scripted

    model = build_scripted(models_dir / "dies.gguf", Script(says=["word "], endless=True))
    server = LocalServer(model, parallel=1, ctx_size=8192, threads=1, warmup=False).start()
    llm = make_llm(server, thinking=False)
    stream = llm.stream_chat(HELLO)
    next(stream)
    server.stop()
    with pytest.raises(StreamCutOffError) as caught:
        list(stream)
    assert caught.value.partial.content.startswith("word ")

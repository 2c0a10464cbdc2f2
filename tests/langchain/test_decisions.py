"""`LlamaServerDecisions` on a real server: as LangChain's middleware and graphs use it."""

import base64
import pickle
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AutoModeMiddleware, ModelChoice, ModelRouterMiddleware
from langchain_core import exceptions as core
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.decisions import BaseDecisionModel, Box, Choice, Noul, NoulCriteria, Score
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

import llamacpp_server
from langchain_llamacpp_server import ChatLlamaServer, LlamaServerDecisions, route_by
from llamacpp_server import Calibration, LocalServer
from tests.langchain.conftest import OSLO, ROME, get_weather
from tests.media import picture
from tests.models import build_table

# Yes is three times as likely as no; the first of several options is the likeliest.
TABLE = {"\n": {"A": 0.5, "B": 0.2, "C": 0.1, "y": 0.06, "n": 0.02, "0": 0.06, "1": 0.02, "b": 0.03, "s": 0.01}}
BETA = pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
QUESTIONS: dict[str, Any] = {
    "team": Choice(instructions="Which team?", criteria={"billing": "Payments", "shipping": None, "other": None}),
    "urgent": Noul(instructions="Is it urgent?", criteria=NoulCriteria(true="today")),
    "mood": Score(instructions="How upset?", criteria=["calm", "furious"]),
}


@pytest.fixture(scope="module")
def server(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> LocalServer:
    path = build_table(tmp_path_factory.mktemp("decisions") / "table.gguf", TABLE)
    started: LocalServer = serve(path, parallel=2, ctx_size=16384)
    return started


@pytest.fixture
def model(server: LocalServer) -> LlamaServerDecisions:
    return LlamaServerDecisions(base_url=server.base_url, labels="letters")


async def test_answers_are_langchains_own_and_awaited_ones_are_equal(model: LlamaServerDecisions) -> None:
    assert isinstance(model, BaseDecisionModel)
    request: Any = {"state": "My parcel is late.", "questions": QUESTIONS}
    found = model.invoke(request)
    assert found.choices["team"].choice == "billing"
    assert found.choices["team"].probabilities == pytest.approx(
        {"billing": 5 / 8, "shipping": 2 / 8, "other": 1 / 8}, abs=1e-3
    )
    assert found.nouls["urgent"].noul == pytest.approx(0.75, abs=1e-3)
    assert found.scores["mood"].legend == {0: "calm", 1: "furious"}
    assert found.scores["mood"].score == pytest.approx(0.25, abs=1e-3)
    assert found.model
    awaited = await model.ainvoke(request)
    assert awaited.answers == found.answers
    assert [one.answers for one in model.batch([request, request])] == [found.answers] * 2


def test_usage_reports_cached_tokens(model: LlamaServerDecisions) -> None:
    found = model.invoke({"state": "word " * 300, "questions": QUESTIONS})
    assert found.usage is not None
    assert found.usage["output_tokens"] == 3
    assert found.usage["input_tokens"] > 4000
    assert found.usage["input_token_details"]["cache_read"] > 2500


def test_fields_reach_the_server(server: LocalServer) -> None:
    flat = LlamaServerDecisions(
        base_url=server.base_url, labels="letters", calibration=Calibration({"choice": 50.0}), rotations=3
    )
    found = flat.invoke({"state": "x", "questions": QUESTIONS}).choices["team"].probabilities
    assert list(found.values()) == pytest.approx([1 / 3] * 3, abs=0.01)
    with pytest.raises(core.ModelInvalidRequestError, match="not a decision model"):
        LlamaServerDecisions(base_url=server.base_url, engine="native").invoke({"state": "x", "questions": QUESTIONS})


def test_a_state_may_hold_messages_at_any_depth(model: LlamaServerDecisions) -> None:
    call = AIMessage("", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "1"}])
    messages = [
        SystemMessage("s"),
        HumanMessage([{"type": "text", "text": "h"}]),
        call,
        ToolMessage("r", tool_call_id="1"),
    ]
    for state in (messages, {"deep": {"messages": messages, "n": 1, "none": None}}, HumanMessage("h")):
        assert model.invoke({"state": state, "questions": QUESTIONS}).choices["team"].choice == "billing"


def test_an_image_in_a_message_is_sent_as_an_image(vision_server: LocalServer, model: LlamaServerDecisions) -> None:
    def asked(colour: str) -> Any:
        block = {"type": "image", "base64": base64.b64encode(picture(colour)).decode(), "mime_type": "image/png"}
        eyes = LlamaServerDecisions(base_url=vision_server.base_url, labels="letters")
        state = {"messages": [HumanMessage([block, {"type": "text", "text": "?"}])]}
        return eyes.invoke({"state": state, "questions": QUESTIONS}).choices["team"].probabilities

    assert asked("red") != asked("blue")


def test_an_invalid_question_raises_langchains_error_and_ours(model: LlamaServerDecisions) -> None:
    for questions in ({}, {"box": Box(instructions="Where?")}, {"q": {"type": "odd"}}):
        with pytest.raises(core.ModelInvalidRequestError) as caught:
            model.invoke({"state": "x", "questions": questions})
        assert isinstance(caught.value, llamacpp_server.BadRequestError)
    with pytest.raises(core.ContextOverflowError):
        model.invoke({"state": "word " * 3000, "questions": QUESTIONS})


async def test_one_input_of_a_batch_that_fails_leaves_the_others_their_answers(model: LlamaServerDecisions) -> None:
    good: Any = {"state": "x", "questions": QUESTIONS}
    inputs: list[Any] = [
        good,
        {"state": "word " * 20000, "questions": QUESTIONS},
        {"state": "x", "questions": {}},
        good,
    ]
    expected = model.invoke(good).answers
    for found in (
        model.batch(inputs, return_exceptions=True),
        await model.abatch(inputs, return_exceptions=True),
    ):
        assert [found[0].answers, found[3].answers] == [expected] * 2
        assert isinstance(found[1], core.ContextOverflowError)
        assert isinstance(found[2], core.ModelInvalidRequestError)
    with pytest.raises(core.ModelInvalidRequestError):
        model.batch([good, inputs[2]])


def test_a_misspelt_argument_is_an_error() -> None:
    with pytest.raises(ValueError, match="did you mean"):
        LlamaServerDecisions(rotation=2)  # type: ignore[call-arg]


def test_copies_by_pickle_decide_the_same_and_show_no_key(model: LlamaServerDecisions) -> None:
    request: Any = {"state": "x", "questions": QUESTIONS}
    assert pickle.loads(pickle.dumps(model)).invoke(request).answers == model.invoke(request).answers
    assert "sk-1" not in repr(LlamaServerDecisions(api_key="sk-1"))


class Recorder(BaseCallbackHandler):
    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []
        self.ended = 0

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.metadata.append(kwargs["metadata"])

    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.ended += 1


def test_tracers_see_the_run(model: LlamaServerDecisions) -> None:
    recorder = Recorder()
    model.invoke({"state": "x", "questions": QUESTIONS}, config={"callbacks": [recorder]})
    assert recorder.metadata[0]["ls_provider"] == "llamacpp-server"
    assert recorder.ended == 1


# -- what LangChain builds on it


def delete_file(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


@BETA
@pytest.mark.parametrize(("yes", "blocked"), [(0.06, True), (0.001, False)])
def test_auto_mode_blocks_what_the_model_finds_risky(
    scripted_server: Any, tmp_path: Any, yes: float, blocked: bool
) -> None:
    table = {"\n": {**TABLE["\n"], "y": yes}}
    caller = scripted_server({"heaven": OSLO + ROME, "tool": "Done.", "user": "Hello."})
    judge = LocalServer(build_table(tmp_path / "judge.gguf", table), ctx_size=8192, parallel=1, threads=1, warmup=False)
    with judge:
        guard = AutoModeMiddleware(
            tools=["get_weather"], classifier=LlamaServerDecisions(base_url=judge.start().base_url)
        )
        agent: Any = create_agent(ChatLlamaServer(base_url=caller.base_url), [get_weather], middleware=[guard])
        messages = agent.invoke({"messages": [("user", "How is heaven?")]})["messages"]
    results = [message for message in messages if isinstance(message, ToolMessage)]
    assert len(results) == 2
    assert [("blocked" in str(message.content)) for message in results] == [blocked] * 2


@BETA
async def test_the_model_router_takes_the_model_that_is_chosen(
    server: LocalServer, talker: LocalServer, scripted_server: Any
) -> None:
    first = ChatLlamaServer(base_url=talker.base_url)
    second = ChatLlamaServer(base_url=scripted_server("I am the second.").base_url)
    choices = {
        "talk": ModelChoice(model=second, criteria="Small talk"),
        "work": ModelChoice(model=first, criteria="Work"),
    }
    classifier = LlamaServerDecisions(base_url=server.base_url, labels="letters")
    router: Any = ModelRouterMiddleware(choices=choices, instructions="Which model?", classifier=classifier)
    agent: Any = create_agent(first, [], middleware=[router])
    for reply in (
        agent.invoke({"messages": [("user", "Hello")]}),
        await agent.ainvoke({"messages": [("user", "Hello")]}),
    ):
        assert reply["messages"][-1].content == "I am the second."


def test_route_by_is_the_function_of_a_conditional_edge(model: LlamaServerDecisions) -> None:
    class State(TypedDict):
        messages: Annotated[list[Any], add_messages]

    def graph(**options: Any) -> Any:
        built = StateGraph(State)
        built.add_node("triage", lambda state: {})
        for name in ("billing", "human"):
            built.add_node(name, lambda state, name=name: {"messages": [AIMessage(name)]})
            built.add_edge(name, END)
        built.add_edge(START, "triage")
        router = route_by(model, "Who answers?", {"billing": "Payments", "human": None}, **options)
        built.add_conditional_edges("triage", router, ["billing", "human"])
        return built.compile()

    def last(found: Any) -> Any:
        return found["messages"][-1].content

    start = {"messages": [HumanMessage("Where is my money?")]}
    assert last(graph().invoke(start)) == "billing"
    assert last(graph(min_confidence=0.9, otherwise="human").invoke(start)) == "human"
    assert last(graph(state=lambda state: "anything").invoke(start)) == "billing"


async def test_a_chat_with_choices_has_their_probabilities(server: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=server.base_url, temperature=0)
    options: dict[str, Any] = {"choices": ["billing", "shipping", "A"], "choice_probabilities": True}
    for reply in (llm.invoke("Which team?", **options), await llm.ainvoke("Which team?", **options)):
        shares = reply.response_metadata["choice_probabilities"]
        assert shares == pytest.approx({"billing": 3 / 54, "shipping": 1 / 54, "A": 50 / 54}, abs=1e-3)
        assert reply.content == "A"
    assert "choice_probabilities" not in llm.invoke("Which team?", choices=["billing", "A"]).response_metadata
    with pytest.raises(core.ModelInvalidRequestError, match="choices"):
        llm.invoke("Which team?", choice_probabilities=True, max_tokens=1)

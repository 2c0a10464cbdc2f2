"""What streams are made of is equal in every way to what LlamaIndex's constructors make."""

import copy
import pickle

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LogProb, TextBlock, ToolCallBlock

from tests.llamaindex.behind_doors import quick_call, quick_message, quick_response, quick_text

TEXT = TextBlock(text="x")
CALL = ToolCallBlock(tool_call_id="i", tool_name="f", tool_kwargs='{"a')
DETAILS = {"tool_calls": [{"id": "i"}]}
MESSAGE = ChatMessage(role="assistant", blocks=[TEXT, CALL], additional_kwargs=DETAILS)
PROBS = [[LogProb(token="x", logprob=-1.0, bytes=[120])]]


@pytest.mark.parametrize(
    ("quick", "made"),
    [
        (quick_text("x"), TEXT),
        (quick_call("i", "f", '{"a'), CALL),
        (quick_message([TEXT, CALL], DETAILS), MESSAGE),
        (
            quick_response(MESSAGE, "x", {"id": 1}, {"a": 1}, PROBS),
            ChatResponse(message=MESSAGE, delta="x", raw={"id": 1}, additional_kwargs={"a": 1}, logprobs=PROBS),
        ),
    ],
)
def test_equal_to_the_constructors(quick, made):
    assert quick == made
    assert repr(quick) == repr(made)
    assert quick.model_dump() == made.model_dump()
    assert quick.model_dump_json() == made.model_dump_json()
    assert quick.model_dump(exclude_unset=True) == made.model_dump(exclude_unset=True)
    assert pickle.loads(pickle.dumps(quick)) == copy.deepcopy(quick) == quick.model_copy() == made
    assert list(quick.__dict__) == list(made.__dict__)
    assert type(made).model_validate(quick) == made


def test_each_is_of_its_own():
    one, other = quick_message([], {}), quick_message([], {})
    one.blocks.append(TEXT)
    one.additional_kwargs["a"] = 1
    one.role = "user"  # type: ignore[assignment]
    assert (other.blocks, other.additional_kwargs, other.role) == ([], {}, "assistant")

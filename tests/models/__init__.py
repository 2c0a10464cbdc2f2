"""Models made for tests in milliseconds: random, scripted, with eyes and ears, and an encoder."""

from llamacpp_server.testing import CHAT_TEMPLATE, PLAIN_TEMPLATE, SECOND_SPELLINGS, Script, build_scripted, tool_call
from tests.models.projector import build_projector
from tests.models.random_models import build_lora, build_random, build_random_encoder
from tests.models.table_model import build_table

__all__ = [
    "CHAT_TEMPLATE",
    "PLAIN_TEMPLATE",
    "SECOND_SPELLINGS",
    "Script",
    "build_lora",
    "build_projector",
    "build_random",
    "build_random_encoder",
    "build_scripted",
    "build_table",
    "tool_call",
]

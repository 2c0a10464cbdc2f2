"""Convert the server's description of its model to LangChain's profile. Pure."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.language_models import ModelProfile

from llamacpp_server import ServerInfo


def profile(info: ServerInfo, *, urls: bool) -> ModelProfile:
    """The profile; what the server does not say is left out.

    Args:
        info: The server.
        urls: Whether addresses of images may be fetched.
    """
    thinks = None if info.thinking is None else info.thinking != "none"
    keys: dict[str, Any] = {
        "name": info.model,
        "max_input_tokens": info.n_ctx,
        "max_output_tokens": info.n_ctx,
        "text_inputs": True,
        "image_inputs": info.vision,
        "image_url_inputs": info.vision if urls else False,
        "image_tool_message": info.vision,
        "audio_inputs": info.audio,
        "video_inputs": info.video,
        "pdf_inputs": False,
        "pdf_tool_message": False,
        "text_outputs": True,
        "image_outputs": False,
        "audio_outputs": False,
        "video_outputs": False,
        "reasoning_output": thinks,
        "reasoning_effort_levels": None if info.efforts is None else list(info.efforts),
        "reasoning_effort_default": info.default_effort,
        "tool_calling": info.tools,
        "tool_choice": info.tools,
        "tool_call_streaming": info.tools,
        "mid_conversation_system_messages": info.late_system,
        "mid_conversation_tools": False,
        "structured_output": True,
        "temperature": True,
    }
    # An older langchain-core warns of keys that it does not know.
    known = ModelProfile.__annotations__
    return cast(ModelProfile, {name: value for name, value in keys.items() if value is not None and name in known})

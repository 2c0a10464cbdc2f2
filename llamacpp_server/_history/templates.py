"""Repairs that only some chat templates need, in the order in which they are tried and applied.

Each takes the messages and a function that notes the repair. The templates named are those of llama.cpp b11434.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .._values import short_id

Message = dict[str, Any]
Note = Callable[[str, str], None]
Step = Callable[[list[Message], Note], list[Message]]

NO_RESULT: Final = "No result: the call was not carried out."
EMPTY: Final = "(empty)"
NO_ANSWER: Final = "(no answer)"
START: Final = "(start)"
CONTINUE: Final = "Continue."
FOLLOWS: Final = "(see the next message)"
MEDIA_PARTS: Final = frozenset({"image_url", "input_audio", "input_video"})
_NOTE: Final = "[System note] "
_KNOWN_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})


def answered_calls(messages: list[Message], note: Note) -> list[Message]:
    """Each call has a result (some templates refuse a history that goes on without)."""
    answered: list[Message] = []
    waiting: dict[str, str] = {}

    def answer() -> None:
        for call_id, name in waiting.items():
            note(f"messages[{len(answered)}]", f"added a placeholder result for unanswered tool call {name!r}")
            answered.append({"role": "tool", "tool_call_id": call_id, "name": name, "content": NO_RESULT})
        waiting.clear()

    for message in messages:
        if message.get("role") != "tool":
            answer()
        answered.append(message)
        waiting.pop(message.get("tool_call_id", ""), None)
        if message.get("role") == "assistant":
            waiting |= {call["id"]: call["function"]["name"] for call in message.get("tool_calls", ())}
    answer()
    return answered


def _roles(messages: list[Message], note: Note) -> list[Message]:
    """Convert `developer` and other roles than the usual four (refused by Granite, Phi, Apertus)."""
    for at, message in enumerate(messages):
        role = message.get("role")
        if not isinstance(role, str) or role not in _KNOWN_ROLES:
            messages[at] = {**message, "role": "system" if role == "developer" else "user"}
            note(f"messages[{at}]", f"replaced role {role!r} with {messages[at]['role']!r}")
    return messages


def _late_system(messages: list[Message], note: Note) -> list[Message]:
    """Merge leading system messages; convert later ones to user messages, so that the prompt's start stays the same."""
    kept: list[Message] = []
    for at, message in enumerate(messages):
        if message.get("role") != "system" or not kept:
            kept.append(message)
        elif len(kept) == 1 and kept[0].get("role") == "system":
            note(f"messages[{at}]", "merged a second system message into the first")
            kept[0] = joined(kept[0], message)
        else:
            note(f"messages[{at}]", "converted a later system message to a user message")
            kept.append({**message, "role": "user", "content": _prefixed(_NOTE, message.get("content"))})
    return kept


def _call_ids(messages: list[Message], note: Note) -> list[Message]:
    """Ids of nine letters and digits (Mistral's templates); the same id always becomes the same."""
    for at, message in enumerate(messages):
        if "tool_calls" in message:
            calls = [{**call, "id": _nine(call.get("id", ""))} for call in message["tool_calls"]]
            if calls != message["tool_calls"]:
                note(f"messages[{at}]", "replaced tool call ids with nine letters and digits")
                messages[at] = {**message, "tool_calls": calls}
        if "tool_call_id" in message and _nine(message["tool_call_id"]) != message["tool_call_id"]:
            messages[at] = {**message, "tool_call_id": _nine(message["tool_call_id"])}
    return messages


def _nine(given: object) -> str:
    given = given if isinstance(given, str) else str(given)
    if len(given) == 9 and given.isascii() and given.isalnum():
        return given
    return short_id(given)


def _thinking_with_calls(messages: list[Message], note: Note) -> list[Message]:
    """Move text next to reasoning and calls into the reasoning (gpt-oss accepts only one of them)."""
    for at, message in enumerate(messages):
        text = message.get("content")
        if message.get("tool_calls") and message.get("reasoning_content") and isinstance(text, str) and text:
            note(f"messages[{at}]", "moved text that accompanied reasoning and tool calls into the reasoning")
            messages[at] = {**message, "content": "", "reasoning_content": f"{message['reasoning_content']}\n\n{text}"}
    return messages


def _channel_tags(messages: list[Message], note: Note) -> list[Message]:
    """Marks of gpt-oss's own format in what an assistant said."""
    for at, message in enumerate(messages):
        for key in ("content", "reasoning_content"):
            text = message.get(key)
            if message.get("role") == "assistant" and isinstance(text, str) and "<|channel|>" in text:
                note(f"messages[{at}]", "removed a channel tag of the template from the text")
                messages[at] = message = {**message, key: text.replace("<|channel|>", "")}
    return messages


def _orphan_results(messages: list[Message], note: Note) -> list[Message]:
    """Convert results without a call to user messages, after the results that have one.

    Mistral's, MiniMax's, Kimi's and gpt-oss's templates refuse them.
    """
    calls: set[str] = set()
    kept: list[Message] = []
    orphans: list[Message] = []
    for at, message in enumerate(messages):
        if message.get("role") == "tool":
            if message.get("tool_call_id") in calls:
                kept.append(message)
            else:
                note(f"messages[{at}]", "converted a tool result without a call to a user message")
                orphans.append(_as_user(message))
            continue
        kept += [*orphans, message]
        orphans = []
        calls = {call.get("id", "") for call in message.get("tool_calls", ())}
    return [*kept, *orphans]


def _single_calls(messages: list[Message], note: Note) -> list[Message]:
    """Split parallel calls into several messages, each with its result (Llama 3)."""
    split: list[Message] = []
    results: dict[str, Message] = {}
    for at, message in enumerate(messages):
        if message.get("role") == "tool" and message.get("tool_call_id") in results:
            results[message["tool_call_id"]].setdefault("results", []).append(message)
            continue
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            split.append(message)
            results = {}
            continue
        note(f"messages[{at}]", f"split {len(calls)} parallel tool calls into separate messages")
        parts = [{**message, "tool_calls": [call]} for call in calls]
        for later in parts[1:]:
            later["content"] = ""
            later.pop("reasoning_content", None)
        results = {call["id"]: part for call, part in zip(calls, parts, strict=True)}
        split.extend(parts)
    return [one for message in split for one in (_without_results(message), *message.get("results", ()))]


def _without_results(message: Message) -> Message:
    return {key: value for key, value in message.items() if key != "results"}


def _empty_content(messages: list[Message], note: Note) -> list[Message]:
    """Fill empty messages (Mistral's templates)."""
    for at, message in enumerate(messages):
        if not message.get("content") and not message.get("tool_calls"):
            note(f"messages[{at}]", "added a placeholder to an empty message")
            messages[at] = {**message, "content": NO_ANSWER if message.get("role") == "assistant" else EMPTY}
    return messages


def _system_to_user(messages: list[Message], note: Note) -> list[Message]:
    """A template without a system role (Gemma 2); llama-server does it itself, but not for every content."""
    for at, message in enumerate(messages):
        if message.get("role") == "system":
            note(f"messages[{at}]", "converted a system message to a user message")
            messages[at] = {**message, "role": "user"}
    return messages


def _tools_to_text(messages: list[Message], note: Note) -> list[Message]:
    """Convert calls and results to text, for a template that supports neither."""
    for at, message in enumerate(messages):
        if message.get("role") == "tool":
            note(f"messages[{at}]", "converted a tool result to a user message")
            messages[at] = _as_user(message)
        elif message.get("tool_calls"):
            note(f"messages[{at}]", "converted tool calls to text")
            calls = "\n".join(
                f"[Call of {c['function']['name']}: {c['function']['arguments']}]" for c in message["tool_calls"]
            )
            messages[at] = {**{k: v for k, v in message.items() if k != "tool_calls"}, "content": calls}
            if message.get("content"):
                messages[at] = joined({**messages[at], "content": message["content"]}, messages[at])
    return messages


def _first_user(messages: list[Message], note: Note) -> list[Message]:
    """Make the user speak first, after the system message (Llama 3, Mistral, Gemma)."""
    speakers = [at for at, message in enumerate(messages) if message.get("role") in ("user", "assistant", "tool")]
    start = speakers[0] if speakers else len(messages)
    if speakers and messages[start]["role"] == "user":
        return messages
    note(f"messages[{start}]", "added a user message at the start")
    return [*messages[:start], {"role": "user", "content": START}, *messages[start:]]


def _same_role(messages: list[Message], note: Note) -> list[Message]:
    """Merge consecutive messages of one role (Gemma, Mistral, Phi and others require roles to alternate)."""
    merged: list[Message] = []
    for at, message in enumerate(messages):
        before = merged[-1] if merged else {}
        same = before.get("role") == message.get("role") and message.get("role") in ("user", "assistant")
        if same and not before.get("tool_calls"):
            note(f"messages[{at}]", f"merged into the previous {message['role']} message")
            merged[-1] = joined(before, message)
        else:
            merged.append(message)
    return merged


def _alternate(messages: list[Message], note: Note) -> list[Message]:
    """An answer between a user's messages that have only calls and results between them (Mistral's templates)."""
    filled: list[Message] = []
    spoke = ""
    for at, message in enumerate(messages):
        role = message.get("role", "")
        if role == "user" and spoke == "user" and filled[-1].get("role") == "tool":
            note(f"messages[{at}]", "added an assistant message between tool results and the user message")
            filled.append({"role": "assistant", "content": NO_ANSWER})
        if role == "user" or (role == "assistant" and not message.get("tool_calls")):
            spoke = role
        filled.append(message)
    return filled


def _trailing_assistant(messages: list[Message], note: Note) -> list[Message]:
    """Add a user message after a final answer, for templates in which reasoning and prefill exclude each other."""
    if not messages or messages[-1].get("role") != "assistant":
        return messages
    note(f"messages[{len(messages)}]", "added a user message, because this template can't continue an answer")
    return [*messages, {"role": "user", "content": CONTINUE}]


def _result_media(messages: list[Message], note: Note) -> list[Message]:
    """Move images and audio out of results, for a template that drops or rewrites results and loses their place.

    They follow in a user message after the results.
    """
    moved: list[Message] = []
    waiting: list[Any] = []
    for at, message in enumerate(messages):
        parts = message.get("content")
        if message.get("role") != "tool":
            moved += [{"role": "user", "content": waiting}] if waiting else []
            waiting = []
        elif isinstance(parts, list) and (media := [part for part in parts if part.get("type") in MEDIA_PARTS]):
            note(f"messages[{at}]", "moved the images and audio of a tool result to a user message after it")
            waiting += [{"type": "text", "text": _prefix_of(message).strip()}, *media]
            texts = [part["text"] for part in parts if part.get("type") == "text"]
            message = {**message, "content": "\n".join(texts) or FOLLOWS}
        moved.append(message)
    return [*moved, *([{"role": "user", "content": waiting}] if waiting else [])]


TEMPLATE_REPAIRS: Final[Mapping[str, Step]] = {
    "unanswered_calls": answered_calls,
    "result_media": _result_media,
    "roles": _roles,
    "late_system": _late_system,
    "call_ids": _call_ids,
    "thinking_with_calls": _thinking_with_calls,
    "channel_tags": _channel_tags,
    "orphan_results": _orphan_results,
    "single_calls": _single_calls,
    "empty_content": _empty_content,
    "first_user": _first_user,
    "trailing_assistant": _trailing_assistant,
    "system_to_user": _system_to_user,
    "same_role": _same_role,
    "alternate": _alternate,
    "tools_to_text": _tools_to_text,
    "same_role_again": _same_role,
}


# -- text and parts


def _parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _prefixed(words: str, content: Any) -> Any:
    return f"{words}{content or ''}" if not isinstance(content, list) else [{"type": "text", "text": words}, *content]


def joined(one: Message, other: Message) -> Message:
    """Two messages of one role as one."""
    joined = {**other, **one}
    first, second = one.get("content"), other.get("content")
    if isinstance(first, list) or isinstance(second, list):
        joined["content"] = [*_parts(first), *_parts(second)]
    else:
        joined["content"] = "\n\n".join(str(text) for text in (first, second) if text)
    thoughts = [m["reasoning_content"] for m in (one, other) if m.get("reasoning_content")]
    if thoughts:
        joined["reasoning_content"] = "\n\n".join(map(str, thoughts))
    if calls := [*one.get("tool_calls", ()), *other.get("tool_calls", ())]:
        joined["tool_calls"] = calls
    return joined


def _as_user(result: Message) -> Message:
    return {"role": "user", "content": _prefixed(_prefix_of(result), result.get("content"))}


def _prefix_of(result: Message) -> str:
    name = f" of {result['name']}" if result.get("name") else ""
    return f"[Result{name}] "

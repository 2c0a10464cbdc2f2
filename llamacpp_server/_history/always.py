"""Conversations that can't wedge a chat template.

One bad message is sent again with every later turn, so a conversation that a template refuses once it refuses for
ever. What every server refuses is repaired always. What only some templates refuse is repaired when the template in
front of us has refused: `find_needs` finds the fewest repairs with which it takes the messages, and that answer holds
for the template from then on.

A repair looks at a message and those before it, and never at the turn it is made in, so an old message comes out the
same on every later turn and the prompt's cache stays good. (The end of the messages is the exception: a call without a
result gets one there, an answer is followed by a turn of the user, or two become one that is continued.)

Results of tools may hold what the server can't read: a tool's author decides that, not the program that sends them.
JSON becomes text there, and media that can't be read become a note, instead of an error. What a user says stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

from .._values import short_id
from ..errors import BadRequestError
from ..replies import Repair
from ..requests import enabled_repairs
from ..wire import MessageDict
from .blocks import READ_PARTS, known_blocks
from .plain import PlainMessages, is_plain_answer, text_of_object
from .templates import MEDIA_PARTS, TEMPLATE_REPAIRS, answered_calls, joined

Message = dict[str, Any]
Note = Callable[[str, str], None]

TOOL_ROLES: Final = frozenset({"tool", "function"})
_MEDIA: Final[Mapping[str, str]] = {
    "image_url": "image",
    "image": "image",
    "input_image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "input_video": "video",
    "video_url": "video",
    "video": "video",
    "file": "file",
    "document": "file",
}
_TEXTS: Final = ("text", "title", "name", "source", "url", "uri")
_JSON: Final = ("json", "value", "data")


def readable_results(messages: list[Message], note: Note) -> list[Message]:
    """JSON and other providers' blocks in tool results as text."""
    return [
        _readable(at, message, note) if isinstance(message.get("content"), list) else message
        for at, message in enumerate(messages)
    ]


def _readable(at: int, message: Message, note: Note) -> Message:
    parts = message.get("content")
    if not isinstance(parts, list) or message.get("role") not in TOOL_ROLES:
        return message
    ready = []
    for number, part in enumerate(parts):
        if isinstance(part, Mapping) and part.get("type") == "text" and not isinstance(part.get("text"), str):
            note(f"messages[{at}].content[{number}]", "replaced a text block in a tool result that is not a string")
            said = part.get("text")
            ready.append({**part, "text": "" if said is None else _json(said)})
            continue
        if not isinstance(part, Mapping) or part.get("type") in READ_PARTS:
            ready.append(part)
            continue
        note(
            f"messages[{at}].content[{number}]",
            f"replaced a {str(part.get('type'))[:40]!r} block in a tool result with text",
        )
        ready.append({"type": "text", "text": _as_text(part)})
    if ready != parts and all(isinstance(part, Mapping) and part.get("type") == "text" for part in ready):
        return {**message, "content": "\n".join(str(part.get("text", "")) for part in ready)}
    return {**message, "content": ready}


def without_media(messages: list[Message], kinds: Collection[str], note: Note) -> list[Message]:
    """Notes in place of the media of tool results that the model can't read.

    Args:
        messages: Not changed.
        kinds: What the model can't read: `image`, `audio`, `video`.
        note: Takes each place, and what was done there.
    """
    changed = []
    for at, message in enumerate(messages):
        parts = message.get("content")
        if message.get("role") not in TOOL_ROLES or not isinstance(parts, list):
            changed.append(message)
            continue
        ready = []
        for number, part in enumerate(parts):
            kind = _MEDIA.get(str(part.get("type"))) if isinstance(part, Mapping) else None
            if kind in kinds:
                note(
                    f"messages[{at}].content[{number}]",
                    f"replaced {kind} content that the model can't read with a note",
                )
                part = unreadable(part, f"this model can't read {_PLURAL[str(kind)]}")
            ready.append(part)
        if ready != parts and all(isinstance(part, Mapping) and part.get("type") == "text" for part in ready):
            message = {**message, "content": "\n".join(part["text"] for part in ready)}
        else:
            message = {**message, "content": ready}
        changed.append(message)
    return changed


_PLURAL: Final = {"image": "images", "audio": "audio", "video": "videos"}


def unreadable(part: Mapping[str, Any], why: str) -> dict[str, Any]:
    """A text in place of a part: what it was, and why the model does not see it."""
    return {"type": "text", "text": f"[{_mime_type(part)}: {why}]"}


def _mime_type(part: Mapping[str, Any]) -> str:
    """The type of a part's data, as far as it says so."""
    kind = str(part.get("type"))
    for place in (part, part.get("source"), part.get(kind)):
        if isinstance(place, str):
            place = {"url": place}
        if not isinstance(place, Mapping):
            continue
        for key in ("mime_type", "media_type", "mimeType"):
            if isinstance(found := place.get(key), str) and found:
                return found[:80]
        for key in ("url", "file_data", "data"):
            if isinstance(found := place.get(key), str) and found.startswith("data:"):
                return found[5:85].partition(";")[0].partition(",")[0] or _MEDIA.get(kind, kind)
    return _MEDIA.get(kind, kind)[:40]


def _as_text(part: Mapping[str, Any]) -> str:
    kind = str(part.get("type"))
    if kind in _MEDIA:
        return str(unreadable(part, "llama-server can't read it")["text"])
    if kind == "json":
        return _json(next((part[key] for key in _JSON if key in part), part))
    if texts := list(_texts(part)):
        return "\n".join(texts)
    if any(key in part for key in ("base64", "blob", "data", "file_id")):
        return str(unreadable(part, "llama-server can't read it")["text"])
    return _json(part)


def _texts(part: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a block that holds some, such as a search result or an embedded resource."""
    inner = part.get("content", part.get("resource"))
    items = inner if isinstance(inner, list) else [inner]
    texts = [item if isinstance(item, str) else item.get("text") for item in items if isinstance(item, str | Mapping)]
    if not any(isinstance(text, str) and text for text in (*texts, part.get("text"))):
        return
    yield from (str(part[key]) for key in _TEXTS if isinstance(part.get(key), str) and part[key])
    yield from (text for text in texts if isinstance(text, str) and text)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


Step = Callable[[list[Message], Note], list[Message]]

YOUR_TURN: Final = "It is your turn now."
STAND_IN: Final = "..."
_ONLY_DICTS: Final = frozenset({dict})
RAW_ARGUMENTS: Final = "invalid_arguments"
"""The key under which the model sees what it wrote as arguments that were no JSON object."""


def repair_history(
    messages: Sequence[MessageDict],
    needs: Collection[str] = (),
    *,
    wanted: bool | Collection[str] = True,
    continues: bool = False,
) -> tuple[list[MessageDict], tuple[Repair, ...]]:
    """Messages that no server refuses, and that a template with these needs takes; and what was done.

    Args:
        messages: The conversation; not changed.
        needs: What the template needs besides, of `TEMPLATE_REPAIRS`; see `find_needs`.
        wanted: Which repairs may be done at all; see `enabled`.
        continues: Whether an answer at the end is to be continued.
    """
    if type(messages) is PlainMessages and wanted is True and not needs and _ends_in_a_turn(messages):
        return messages, ()
    allowed = enabled_repairs(REPAIRS, wanted) - ({"own_turn"} if continues else set())
    steps = {**ALWAYS, **{name: step for name, step in TEMPLATE_REPAIRS.items() if name in needs}}
    repairs = list[Repair]()
    current: list[Message] = [dict(message) for message in messages]
    for name, step in steps.items():
        if name in allowed:
            current = step(current, lambda where, what, name=name: repairs.append(Repair(name, where, what)))  # type: ignore[misc]  # mypy can't type a lambda's default
    return cast(list[MessageDict], current), tuple(repairs)


def _ends_in_a_turn(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a model is to answer what the messages end with, and not to continue an answer."""
    return bool(messages) and messages[-1]["role"] != "assistant"


def find_needs(
    messages: Sequence[MessageDict],
    known: Collection[str] = (),
    *,
    wanted: bool | Collection[str] = True,
    continues: bool = False,
) -> Generator[list[MessageDict], bool, frozenset[str] | None]:
    """Finds what a template needs: yields messages to try, is sent whether they were taken, and returns the needs.

    To be used when the template has refused the messages as repaired with the known needs. It tries at most twice as
    many conversations as there are repairs. The answer is None when none of them helps.
    """
    needs = frozenset(known)
    repaired_for = partial(repair_history, messages, wanted=wanted, continues=continues)
    tried, _ = repaired_for(needs)
    for name in TEMPLATE_REPAIRS:
        repaired, _ = repaired_for(needs | {name})
        if repaired == tried:
            continue
        needs, tried = needs | {name}, repaired
        if (yield tried):
            break
    else:
        return None
    for name in sorted(needs - set(known)):
        repaired, _ = repaired_for(needs - {name})
        if repaired == tried or (yield repaired):
            needs -= {name}
            tried = repaired
    return needs


def well_formed(
    messages: Sequence[MessageDict], needs: Collection[str] = (), *, continues: bool = False
) -> list[MessageDict]:
    """The same conversation with stand-ins for values that no template can render, and with every constant repair.

    Where the server takes it and not the messages themselves, the messages are at fault and not its template.
    """
    proper = [cast(MessageDict, _proper(message)) for message in messages]
    return repair_history(proper, needs, continues=continues)[0]


def _proper(message: Mapping[str, Any]) -> Message:
    proper: Message = {key: value for key, value in message.items() if key not in ("tool_call_id", "name")}
    for key in ("tool_call_id", "name"):
        if message.get(key) is not None:
            proper[key] = str(message[key])
    for key in ("content", "reasoning_content"):
        if not isinstance(value := proper.get(key, ""), str | None):
            proper[key] = [_proper_part(part) for part in value] if isinstance(value, list) else STAND_IN
    calls = message.get("tool_calls")
    if isinstance(calls, list | tuple):
        proper["tool_calls"] = [_proper_call(call) for call in calls if isinstance(call, Mapping)]
    return proper


def _proper_part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, Mapping) else None
    known = kind in MEDIA_PARTS or (kind == "text" and isinstance(part.get("text"), str))
    return part if known else {"type": "text", "text": STAND_IN}


def _proper_call(call: Mapping[str, Any]) -> dict[str, Any]:
    full = _complete_call(call)
    function = full["function"]
    full["function"] = {"name": str(function["name"]), "arguments": _object_text(function["arguments"])}
    return {**full, **({"id": str(call["id"])} if call.get("id") is not None else {})}


# -- what is always done


def _fields(messages: list[Message], note: Note) -> list[Message]:
    """Nulls, missing fields and roles of the past, which servers answer with 400 or 500. Changes the dicts given."""
    cleaned = []
    for at, message in enumerate(messages):
        clean = message
        if None in message.values():
            clean = {key: value for key, value in message.items() if value is not None}
        if clean.get("role") == "function":
            note(f"messages[{at}]", "replaced the old role `function` with `tool`")
            clean["role"] = "tool"
        call = clean.pop("function_call", None)
        if call is not None and isinstance(call, Mapping) and not clean.get("tool_calls"):
            note(f"messages[{at}]", "replaced the old `function_call` with `tool_calls`")
            clean["tool_calls"] = [{"type": "function", "function": dict(call)}]
        if "tool_calls" in clean and not clean["tool_calls"]:
            del clean["tool_calls"]
        calls = clean.get("tool_calls", ())
        of_dicts = type(calls) is list and _ONLY_DICTS.issuperset(map(type, calls))
        if calls and not (
            of_dicts or (isinstance(calls, list | tuple) and all(isinstance(one, Mapping) for one in calls))
        ):
            raise BadRequestError(f"messages[{at}]: tool_calls must be a list of objects, not {calls!r:.80}")
        if isinstance(clean.get("content"), list):
            clean["content"] = [part for part in clean["content"] if part]
        clean.setdefault("content", "")
        cleaned.append(clean)
    return cleaned


def _arguments(messages: list[Message], note: Note) -> list[Message]:
    """Arguments that are no JSON object are a 500 for every request that repeats them (b11434)."""
    for at, message in enumerate(messages):
        if "tool_calls" in message:
            if is_plain_answer(message) and all(map(_has_object, message["tool_calls"])):
                continue
            calls = [_complete_call(call) for call in message["tool_calls"]]
            for number, call in enumerate(calls):
                given = call["function"]["arguments"]
                call["function"]["arguments"] = _object_text(given)
                if call["function"]["arguments"] != given and given:
                    note(f"messages[{at}].tool_calls[{number}]", "wrapped arguments that are not a JSON object")
            messages[at] = {**message, "tool_calls": calls}
    return messages


def _complete_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a call with all the fields that the server demands."""
    given = call.get("function")
    function = {k: v for k, v in given.items() if v is not None} if isinstance(given, Mapping) else {}
    full = {key: value for key, value in call.items() if value is not None}
    return {**full, "type": "function", "function": {"name": "unknown", "arguments": "", **function}}


def _object_text(given: Any) -> Any:
    """Arguments as they are when they are an object; else an object that shows them."""
    if isinstance(given, Mapping):
        return given
    if isinstance(given, str) and not given.strip():
        return "{}"
    if isinstance(given, str) and text_of_object(given) is not None:
        return given
    raw = given if isinstance(given, str) else json.dumps(given, default=str)
    return json.dumps({RAW_ARGUMENTS: raw.encode("utf-8", "replace").decode()}, ensure_ascii=False)


def _has_object(call: Mapping[str, Any]) -> bool:
    return text_of_object(call["function"]["arguments"]) is not None


def _missing_ids(messages: list[Message], note: Note) -> list[Message]:
    """A call without an id gets one made of its words, and a result without one that of the call it must answer."""
    seen: dict[str, int] = {}
    open_calls: list[str] = []
    for at, message in enumerate(messages):
        if "tool_calls" in message:
            calls = []
            for call in message["tool_calls"]:
                words = f"{call['function']['name']} {call['function']['arguments']}"
                seen[words] = seen.get(words, 0) + 1
                if not call.get("id"):
                    note(f"messages[{at}]", "added a missing tool call id")
                calls.append({**call, "id": call.get("id") or short_id(f"{words} {seen[words]}")})
            open_calls = [call["id"] for call in calls]
            messages[at] = {**message, "tool_calls": calls}
        elif message.get("role") == "tool":
            answered = message.get("tool_call_id") or (open_calls[0] if open_calls else None)
            if answered in open_calls:
                open_calls.remove(answered)
            if answered and not message.get("tool_call_id"):
                note(f"messages[{at}]", "added the id of the preceding call to a tool result without one")
                messages[at] = {**message, "tool_call_id": answered}
    return messages


def _open_end(messages: list[Message], note: Note) -> list[Message]:
    """A history that ends in a call is refused by every server.

    One that goes on without results stays as it is, unless the template refuses it: models answer the next turn better
    without being told of a call that was not carried out.
    """
    last = messages[-1] if messages else {}
    return answered_calls(messages, note) if last.get("role") == "assistant" and last.get("tool_calls") else messages


def _own_turn(messages: list[Message], note: Note) -> list[Message]:
    """The server continues an answer at the end; a model that is to answer another one needs a turn of its own."""
    if not messages or messages[-1].get("role") != "assistant" or messages[-1].get("tool_calls"):
        return messages
    note(
        f"messages[{len(messages)}]",
        "added a user message, because the server would otherwise continue the last answer",
    )
    return [*messages, {"role": "user", "content": YOUR_TURN}]


def _two_endings(messages: list[Message], note: Note) -> list[Message]:
    """The server continues one answer that the messages end with, and refuses two (b11434)."""
    while len(messages) > 1 and all(message.get("role") == "assistant" for message in messages[-2:]):
        note(f"messages[{len(messages) - 1}]", "merged into the previous answer, because the server continues only one")
        messages = [*messages[:-2], joined(messages[-2], messages[-1])]
    return messages


ALWAYS: Final[Mapping[str, Step]] = {
    "blocks": known_blocks,
    "fields": _fields,
    "tool_results": readable_results,
    "invalid_arguments": _arguments,
    "missing_ids": _missing_ids,
    "unanswered_calls": _open_end,
    "own_turn": _own_turn,
    "two_endings": _two_endings,
}
REPAIRS: Final = tuple(dict.fromkeys((*ALWAYS, *TEMPLATE_REPAIRS)))
"""The names of all repairs."""

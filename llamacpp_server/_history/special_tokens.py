"""Texts of others that hold a model's own special tokens, broken up so that they can't forge turns.

llama-server parses the whole rendered prompt for special tokens, whoever wrote which part of it (b11434): a web page
with `<|im_end|>` in it ends the turn that it is quoted in. So an invisible character, a zero-width joiner, goes behind
the first character of each such token in what users, tools and earlier replies say. The text reads the same and is
tokenized as text. System messages, and an answer that the server is to continue, are the program's own.

Candidates are found by their form, since no endpoint lists a vocabulary; which of them are special is asked of the
server. Tags that only the template writes (`<tool_call>`) count too. Reasoning tags in the text of an earlier reply are
kept: a framework may store its reasoning there, and they end no turn.

Items are the messages of the Responses and Messages APIs, of which the server makes those of a chat (b11549). All of
their texts are searched, since each may end up in the prompt.

Tools are words of others too, as servers of tools (MCP) write them. By their names calls are known, so a name can't be
broken up: a tool whose name holds such a token is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from .._values import content_key, of_key
from ..errors import BadRequestError
from ..replies import Repair
from ..wire import MessageDict, ToolDict
from .plain import PlainMessages

Message = dict[str, Any]

JOINER: Final = "\u200d"
NAME: Final = "special_tokens"

_ANGLED: Final = re.compile(r"<[^<>\s]{1,80}>")
_SQUARE: Final = re.compile(r"\[[A-Za-z_/|][^\[\]\s]{0,79}\]")
# MiniMax's `]~b]`, `[e~[` and `]<]image[>[`, Falcon's `>>TITLE<<`, OLMo's `|||EMAIL_ADDRESS|||`; they may overlap.
_ODD: Final = (
    ("~", re.compile(r"(?=([\[\]][a-z!~]{1,8}[\[\]]))")),
    ("]<]", re.compile(r"(?=(\]<\][^\[\]<>\s]{1,40}\[>\[))")),
    (">>", re.compile(r"(?=(>>[A-Z_]{1,40}<<))")),
    ("|||", re.compile(r"(?=(\|\|\|[A-Z_]{1,40}\|\|\|))")),
)
# What a text ends with may be completed by what the template writes behind it, such as the bracket of a list.
_UNFINISHED: Final = (
    ("<", re.compile(r"<[^<>\s]{1,79}\Z"), ">"),
    ("[", re.compile(r"\[[A-Za-z_/|][^\[\]\s]{0,78}\Z"), "]"),
)
# Each with a sign without which a text need not be searched.
_FORMS: Final = (("<", _ANGLED), ("[", _SQUARE), *_ODD)
# Of a call of a tool and of its function, whose keys are no words of others.
_CALL: Final = frozenset({"id", "type", "index", "function"})
_FUNCTION: Final = frozenset({"name", "arguments"})
# In a template square brackets are mostly Jinja's.
_SQUARE_TAG: Final = re.compile(r"\[(?:/?[A-Z_]{3,}|\|[^\s\[\]|]+\|)\]")
_OPEN_TAG: Final = re.compile(r"<[A-Za-z_]{2,40}=")
# What is special to known models, for servers that can't be asked.
_USUAL: Final = re.compile(
    r"<[|\uff5c].*>|<.*[|\uff5c]>|</?s>|<(?:bos|eos|unk|pad|sop|eop)>|<(?:start|end)_of_(?:turn|image)>"
    r"|\[/?[A-Z_]{3,}\]|\[\|.*\|\]|\[gMASK\]|[\[\]].*~.*[\[\]]"
)
_THINKING: Final = re.compile("think|thought|reason", re.IGNORECASE)
_MEDIA_MARKER: Final = "<__media__>"
_BROKEN: Final = re.compile(f"(?<=[<\\[\\]>|]){JOINER}")
_MOST_TAGS: Final = 512
# Bytes of tools beyond which they are searched for each request, rather than remembered.
_LONGEST_KEPT: Final = 200_000
_PROGRAMS_OWN: Final = frozenset({"system", "developer"})


def _has_sign(text: str) -> bool:
    """Whether a text may hold a candidate, finished or not. Each look takes a tenth of a pattern's time."""
    return "<" in text or "[" in text or "~" in text or ">>" in text or "|||" in text


def candidates_of(text: str) -> set[str]:
    """Parts of a text that look like a special token."""
    found = {token for sign, form in _FORMS if sign in text for token in form.findall(text)}
    return found | _unfinished(text)


def _unfinished(text: str) -> set[str]:
    """The incomplete candidate at the end of a text, which more text could complete."""
    end = text[-80:]
    return {begun[0] + closing for sign, form, closing in _UNFINISHED if sign in end and (begun := form.search(end))}


def holds_candidates(messages: Sequence[MessageDict], tools: Sequence[ToolDict] = ()) -> bool:
    """Whether anything in user, tool and earlier assistant messages looks like a special token."""
    if (written := _plain_text(messages)) is not None and not _has_sign(written):
        messages = ()
        if not tools:
            return False
    return any(
        any(sign in text and form.search(text) for sign, form in _FORMS) or _unfinished(text)
        for text in _texts_of_others(messages, tools)
    )


def _plain_text(messages: Sequence[object]) -> str | None:
    """All texts of messages with only text and calls; None for other messages. On the path of each one of each request.

    Arguments without a backslash say as JSON what they say as values, so that they need no decoding.
    """
    if type(messages) is PlainMessages:
        return messages.text
    texts = []
    for message in messages:
        if type(message) is not dict:
            return None
        for key, value in message.items():
            if type(value) is str:
                texts.append(value)
            elif value is not None:
                if key != "tool_calls" or type(value) is not list or (called := _written_calls(value)) is None:
                    return None
                texts += called
    return "\n".join(texts)


def _written_calls(calls: list[object]) -> list[str] | None:
    texts: list[str] = []
    for call in calls:
        if type(call) is not dict or not call.keys() <= _CALL or type(function := call.get("function")) is not dict:
            return None
        arguments = function.get("arguments")
        if not function.keys() <= _FUNCTION or type(arguments) is not str or "\\" in arguments:
            return None
        texts += (arguments, str(function.get("name")), str(call.get("id")))
    return texts


def candidates_in(messages: Sequence[MessageDict], tools: Sequence[ToolDict] = ()) -> set[str]:
    """Everything in user, tool and earlier assistant messages that looks like a special token."""
    found = set[str]()
    for text in _texts_of_others(messages, tools):
        found |= candidates_of(text)
    return found


def candidates_in_items(items: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> set[str]:
    """`candidates_in` for the items and tools of the Responses and Messages APIs."""
    found = set[str]()
    for at, item in enumerate(items):
        if not _is_own(items, at):
            for text in _strings(item, of_item=True):
                found |= candidates_of(text)
    for text in _texts_to_search(tools):
        found |= candidates_of(text)
    return found


def _texts_of_others(messages: Sequence[MessageDict], tools: Sequence[ToolDict]) -> Iterator[str]:
    for at, message in enumerate(messages):
        plain = (text := _plain_text((message,))) is not None and not _has_sign(text)
        if not plain and not _is_own(messages, at):
            yield from _texts(message)
    yield from _texts_to_search(tools)


def _texts_to_search(tools: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """The texts of tools that may hold a token; most programs send the same tools with each request."""
    if not tools:
        return ()
    key = content_key(tools)
    return _texts_of_tools(tools) if key is None or len(key) > _LONGEST_KEPT else _kept_texts(key)


@lru_cache(maxsize=64)
def _kept_texts(key: bytes) -> tuple[str, ...]:
    return _texts_of_tools(of_key(key))


def _texts_of_tools(tools: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    texts = (text for tool in tools for text in _strings(tool))
    return tuple(text for text in texts if JOINER in text or _has_sign(text))


def template_tags(template: str) -> frozenset[str]:
    """The tags that a chat template writes, and the beginnings of those that hold a name (`<function=`)."""
    found = {_MEDIA_MARKER, *_ANGLED.findall(template), *_SQUARE_TAG.findall(template), *_OPEN_TAG.findall(template)}
    for sign, form in _ODD:
        if sign in template:
            found.update(form.findall(template))
    return frozenset(sorted(found)[:_MOST_TAGS])


def is_tag(token: str, tags: frozenset[str]) -> bool:
    """Whether a candidate is one of a template's tags."""
    return token in tags or ("=" in token and token[: token.index("=") + 1] in tags)


def is_usual(token: str) -> bool:
    """Whether a candidate looks like the special tokens of known models."""
    return _USUAL.fullmatch(token) is not None


def special_among(candidates: Iterable[str], parsed: Iterable[str], unparsed: Iterable[str]) -> set[str]:
    """The candidates that the tokenizer parses specially.

    Args:
        candidates: Those in question.
        parsed: The pieces of a text that holds them all, tokenized with `parse_special`.
        unparsed: The pieces of the same text without.
    """
    special = {piece for piece in set(parsed) - set(unparsed) if piece in candidates_of(piece)}
    return {token for token in candidates if token in special or any(piece in token for piece in special)}


def break_tokens(
    messages: Sequence[MessageDict], special: Collection[str], tags: Collection[str]
) -> tuple[list[Any], tuple[Repair, ...]]:
    """Return the messages with their special tokens broken up, and the repairs; the same on every turn.

    Args:
        messages: The conversation; not changed.
        special: The candidates that are special tokens of the model.
        tags: Those that are tags of the template.
    """
    return _break_each(messages, {*special, *tags}, lambda message, tokens: _message(dict(message), tokens), "messages")


def break_items(
    items: Sequence[Mapping[str, Any]], special: Collection[str], tags: Collection[str], where: str
) -> tuple[list[Any], tuple[Repair, ...]]:
    """`break_tokens` for items; `where` is their field in the request."""
    return _break_each(items, {*special, *tags}, _item, where)


def _break_each(
    messages: Sequence[Any], tokens: Collection[str], change: Callable[[Any, Collection[str]], Message], where: str
) -> tuple[list[Any], tuple[Repair, ...]]:
    broken: list[Any] = []
    repairs: list[Repair] = []
    for at, message in enumerate(messages):
        if _is_own(messages, at):
            broken.append(message)
            continue
        done = change(message, tokens)
        broken.append(done)
        if done != message:
            what = "broke up the model's special tokens in the text, so that it can't end its turn"
            repairs.append(Repair(NAME, f"{where}[{at}]", what))
    return broken, tuple(repairs)


def break_tools(
    tools: Sequence[Mapping[str, Any]], special: Collection[str], tags: Collection[str]
) -> tuple[list[Any], tuple[Repair, ...]]:
    """The tools with special tokens broken up in all but their names, as `break_tokens` does it.

    Raises:
        BadRequestError: For a name that holds one.
    """
    tokens, broken = {*special, *tags}, list[Any]()
    repairs: list[Repair] = []
    for at, tool in enumerate(tools):
        function = tool["function"] if isinstance(tool.get("function"), Mapping) else tool
        if any(token in str(function.get("name")) for token in tokens):
            raise BadRequestError(
                f"the name of tools[{at}] holds a special token of the model, and could forge a turn",
                remedy="rename the tool, or leave it out",
            )
        done = {key: value if key == "name" else _values(value, tokens) for key, value in function.items()}
        changed: Mapping[str, Any] = done if function is tool else {**tool, "function": done}
        broken.append(tool if done == function else changed)
        if done != function:
            what = "broke up the model's special tokens in the tool's description, so that it can't end its turn"
            repairs.append(Repair(NAME, f"tools[{at}]", what))
    return broken, tuple(repairs)


def joined_again(text: str, before: str = "") -> str:
    """Restore broken tokens in a text; `before` is the text before it."""
    return _BROKEN.sub("", before[-1:] + text)[len(before[-1:]) :] if JOINER in text else text


def holds_broken(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> bool:
    """Whether any message or tool contains broken tokens, which the model may repeat."""
    if (written := _plain_text(messages)) is not None and JOINER not in written:
        messages = ()
        if not tools:
            return False
    said = any(
        _BROKEN.search(text)
        for message in messages
        if not ((written := _plain_text((message,))) is not None and JOINER not in written)
        for text in _texts(message)
        if JOINER in text
    )
    return said or any(_BROKEN.search(text) for text in _texts_to_search(tools) if JOINER in text)


def holds_joiners(value: Any) -> bool:
    """Whether any text of a JSON value contains broken tokens: `holds_broken` for the Responses and Messages APIs."""
    return any(JOINER in text and _BROKEN.search(text) for text in _strings(value))


def _is_own(messages: Sequence[Any], at: int) -> bool:
    """Whether a message is trusted: a system message, or an answer that the server is to continue."""
    message = messages[at]
    role = message.get("role") if isinstance(message, Mapping) else "system"
    if isinstance(role, str) and role in _PROGRAMS_OWN:
        return True
    return at == len(messages) - 1 and role == "assistant" and not _has_calls(message)


def _has_calls(message: Mapping[str, Any]) -> bool:
    if message.get("tool_calls"):
        return True
    blocks = message.get("content")
    blocks = blocks if isinstance(blocks, list | tuple) else ()
    return any(isinstance(block, Mapping) and block.get("type") == "tool_use" for block in blocks)


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    """All texts of a message that a template may write."""
    for key in ("content", "reasoning_content", "name", "tool_call_id"):
        if isinstance(text := message.get(key), str):
            yield text
        elif key == "content" and isinstance(text, list):
            yield "".join(part["text"] for part in text if _is_text(part))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list | tuple) else ():
        yield from _strings(_decoded(call))
    if "function_call" in message:
        yield from _strings(_decoded({"function": message["function_call"]}))


def _is_text(part: object) -> bool:
    """Whether a part is text: `text` in a chat, with other names in the Responses API."""
    return isinstance(part, Mapping) and "text" in str(part.get("type")) and isinstance(part.get("text"), str)


def _strings(value: Any, *, of_item: bool = False) -> Iterator[str]:
    """All texts in a value, names of fields too.

    Args:
        value: Any JSON.
        of_item: Whether lists of parts also count as the text that they add up to, and arguments as their values.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strings(key)
            yield from _strings(inner, of_item=of_item)
        if of_item:
            yield from _strings(_hidden_in(value.get("arguments")))
    elif isinstance(value, list | tuple):
        if of_item:
            yield "".join(part["text"] for part in value if _is_text(part))
        for inner in value:
            yield from _strings(inner, of_item=of_item)


def _decoded(call: Any) -> Any:
    """A call, with its arguments also as values: the server decodes them, and a template writes each on its own."""
    function = call.get("function") if isinstance(call, Mapping) else None
    given = function.get("arguments") if isinstance(function, Mapping) else None
    return call if (value := _hidden_in(given)) is None else [call, value]


def _hidden_in(arguments: Any) -> Any:
    """Value of a JSON text; None for anything else."""
    if not isinstance(arguments, str):
        return None
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return None


# -- breaking


def _message(message: Message, tokens: Collection[str]) -> Message:
    said = tokens
    if message.get("role") == "assistant":
        said = [token for token in tokens if not _THINKING.search(token)]
    if isinstance(content := message.get("content"), str):
        message["content"] = _broken(content, said)
    elif isinstance(content, list):
        message["content"] = _parts(content, said)
    for key in ("reasoning_content", "name", "tool_call_id"):
        if isinstance(text := message.get(key), str):
            message[key] = _broken(text, tokens)
    if isinstance(calls := message.get("tool_calls"), list | tuple):
        message["tool_calls"] = [_call(call, tokens) if isinstance(call, Mapping) else call for call in calls]
    if isinstance(call := message.get("function_call"), Mapping):
        message["function_call"] = _function(call, tokens)
    return message


def _item(item: Mapping[str, Any], tokens: Collection[str]) -> dict[str, Any]:
    said = [token for token in tokens if not _THINKING.search(token)] if item.get("role") == "assistant" else tokens
    content = {"content": _inner(item["content"], tokens, said)} if "content" in item else {}
    return {**_fields_of_item({**item, **dict.fromkeys(content)}, tokens), **content}


def _inner(value: Any, tokens: Collection[str], said: Collection[str]) -> Any:
    """A value within an item; `said` are the tokens to break up in its own texts, `tokens` those further inside."""
    if isinstance(value, str):
        return _broken(value, said)
    if isinstance(value, Mapping):
        return _fields_of_item(value, tokens)
    if isinstance(value, list | tuple):
        return [_part_of_item(part, tokens, said) for part in _parts(list(value), said)]
    return value


def _fields_of_item(fields: Mapping[Any, Any], tokens: Collection[str]) -> dict[Any, Any]:
    return {
        _values(key, tokens): _arguments(inner, tokens) if key == "arguments" else _inner(inner, tokens, tokens)
        for key, inner in fields.items()
    }


def _part_of_item(part: Any, tokens: Collection[str], said: Collection[str]) -> Any:
    if not _is_text(part):
        return _inner(part, tokens, said)
    return {**_fields_of_item(part, tokens), "text": part["text"]}  # the text is broken up already


def _broken(text: str, tokens: Collection[str]) -> str:
    return _with_joiners(text, _places(text, tokens))


def _places(text: str, tokens: Collection[str]) -> list[int]:
    """Insert the break after the first character of each token, found as the server finds it."""
    places = set[int]()
    for token in tokens:
        at = text.find(token)
        while at >= 0:
            places.add(at + 1)
            at = text.find(token, at + 1)
        if token[-1] in ">]" and text.endswith(token[:-1]):
            places.add(len(text) - len(token) + 2)
    return sorted(places)


def _with_joiners(text: str, places: Sequence[int]) -> str:
    if not places:
        return text
    return JOINER.join(text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True))


def _parts(parts: list[Any], tokens: Collection[str]) -> list[Any]:
    """Break up tokens in a message's parts: templates join their texts, so a token may span several parts."""
    places = _places("".join(part["text"] for part in parts if _is_text(part)), tokens)
    if not places:
        return parts
    broken, start = [], 0
    for part in parts:
        if _is_text(part):
            end = start + len(part["text"])
            own = [place - start for place in places if start < place <= end]
            part, start = {**part, "text": _with_joiners(part["text"], own)}, end
        broken.append(part)
    return broken


def _call(call: Mapping[str, Any], tokens: Collection[str]) -> dict[str, Any]:
    return {
        key: _function(value, tokens) if key == "function" and isinstance(value, Mapping) else _values(value, tokens)
        for key, value in call.items()
    }


def _function(function: Mapping[str, Any], tokens: Collection[str]) -> dict[str, Any]:
    return {
        key: _arguments(value, tokens) if key == "arguments" else _values(value, tokens)
        for key, value in function.items()
    }


def _arguments(given: Any, tokens: Collection[str]) -> Any:
    value = _hidden_in(given)
    if value is None:
        return _values(given, tokens)
    broken = _values(value, tokens)
    return given if broken == value else json.dumps(broken, ensure_ascii=False)


def _values(value: Any, tokens: Collection[str]) -> Any:
    if isinstance(value, str):
        return _broken(value, tokens)
    if isinstance(value, Mapping):
        return {_values(key, tokens): _values(inner, tokens) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_values(inner, tokens) for inner in value]
    return value

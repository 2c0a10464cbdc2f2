"""No text of `llamacpp-server --help` is cut off, and every command and option has one."""

import argparse
import re
from collections.abc import Iterator

import pytest

from llamacpp_server.cli import parser as command_line

# A text that ends in one of these goes on somewhere else.
CUT = re.compile(
    r"(?:\b(?:a|an|the|and|or|of|to|for|by|with|in|on|at|from|is|are|has|have|use|see|that|which)|[,;:(\[-])$", re.I
)


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, and the one above them."""
    top = command_line()
    below = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return {"": top, **below.choices}


def texts(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """The text of a command, and of each of its options."""
    yield parser.prog, parser.description or ""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            yield action.dest, action.help or ""


def trouble(text: str) -> str | None:
    """What is wrong with a text, or None."""
    bare = text.strip().rstrip(".")
    if not bare:
        return "empty"
    if CUT.search(bare):
        return "cut off"
    return "brackets" if any(text.count(a) != text.count(b) for a, b in ("()", "[]")) or "[]" in text else None


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Listen on a port.", None),
        ("", "empty"),
        ("Use --list-devices to see a.", "cut off"),
        ("Names, separated by.", "cut off"),
        ("On-demand reading of certain tensors, for", "cut off"),
        ("Use full-size SWA cache [].", "brackets"),
    ],
)
def test_the_rule_finds_a_text_that_is_cut(text: str, wrong: str | None) -> None:
    assert trouble(text) == wrong


@pytest.mark.parametrize("command", commands())
def test_no_text_of_the_help_is_cut_off(command: str) -> None:
    found = {name: f"{wrong}: {text}" for name, text in texts(commands()[command]) if (wrong := trouble(text))}
    assert found == {}

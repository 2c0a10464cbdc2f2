"""Patterns for the server's grammar, read back as what they are: expressions over the JSON text of a string."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server._schemas import (
    server_pattern,
)


def json_text(value):
    """The text between the quotes, with the short escapes that a grammar's patterns know."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


def matches(pattern, value):
    return re.fullmatch(server_pattern(pattern)[1:-1], json_text(value)) is not None


@pytest.mark.parametrize("pattern", ["^[a-z]+$", "^[A-Za-z0-9_-]{1,64}$", "^abc$", "^(a|b)$", "^[0-9]{4}-[0-9]{2}$"])
def test_what_every_build_reads_stays_as_it_was(pattern):
    assert server_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "written"),
    [
        (r"^\d{4}$", "^[0-9]{4}$"),
        (r"^(?:a|b)?$", "^(a|b)?$"),
        (r"^(?P<year>\d+)$", "^([0-9]+)$"),
        (r"^(|x)$", "^(|x)$"),
        (r"^a\.*$", r"^a(\.)*$"),
        (r"\Aa\Z", "^a$"),
        (r'^"$', r'^\\"$'),
        (r"^a{2,5000}$", "^(a){2,}$"),
        ("^é+$", "^(é)+$"),
        (r"^\w-\^$", r"^[0-9A-Z_a-z]-\^$"),
        (r"^[\^-]$", r"^[\x2D\x5E]$"),
    ],
)
def test_the_rest_is_spelled_out(pattern, written):
    assert server_pattern(pattern) == written


@pytest.mark.parametrize(
    "pattern",
    [
        "^(?=.*[A-Z]).+$",
        "^(?!x)y$",
        "(?<=a)b",
        r"^(a|b)\1$",
        r"\bfoo\b",
        r"^\p{L}$",
        "(?i)abc",
        "^(a",
        "^a)$",
        "^[a",
        "^(a*)*$",
        "^a{3000}$",
        "a^b",
        "a$b",
        "^a**$",
        "^*$",
        "^a{x}$",
        r"^\x00$",
        "^[z-a]$",
        "(" * 60 + "a" + ")" * 60,
    ],
)
def test_what_no_grammar_can_say_is_none(pattern):
    assert server_pattern(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (r"\.json$", ["a.json", 'with "quotes".json', "back\\slash.json"], ["a.json5", ".jso"]),
        ("foo|^bar$", ["a foo b", "bar"], ["bars", ""]),
        (r"^[^/]+$", ["ab", 'say "hi"', "a\\b", "new\nline"], ["a/b", ""]),
        (r"^.*$", ["", 'say "hi"', "tab\t"], ["new\nline"]),
        (r"^\S+\s\S+$", ["a b", "a\tb", "a\nb"], ["ab", "a  b"]),
        (r'^"[^"]*"$', ['"quoted"', '""'], ['"a"b"', "plain"]),
        (r"^[A-Z]:\\[^\\]*$", ["C:\\dir"], ["C:\\a\\b", "C:/dir"]),
        (r"^(https?://.*)?$", ["", "http://a", "https://"], ["ftp://a"]),
        ("", ["", "anything"], []),
        ("^[äöü]+é*$", ["äöé", "ü"], ["é", "a"]),
        (r"^[\w.+-]+@[\w-]+(\.[\w-]+)+$", ["a.b+c@d.e", "x@y-z.co.uk"], ["a@b", "@b.c"]),
    ],
)
def test_it_matches_the_json_text_of_the_same_strings(pattern, yes, no):
    assert [value for value in yes if not matches(pattern, value)] == []
    assert [value for value in no if matches(pattern, value)] == []


# Strings that are hard for a grammar are likely, and so are those that match.
_TEXT = st.text(alphabet=st.sampled_from('ab01-_.^"\\/\n\t ]['), max_size=6)
_ATOM = st.sampled_from(
    [
        "a",
        "0",
        r"\d",
        r"\w",
        r"\s",
        r"\S",
        "[ab]",
        "[^a]",
        r"[^\d\"]",
        ".",
        r"\.",
        r"\\",
        '"',
        "(a|b)",
        "(?:0|)",
        r"\n",
        "-",
    ]
)
_PIECE = st.builds(str.__add__, _ATOM, st.sampled_from(["", "", "*", "+", "?", "{2}", "{0,2}"]))
_PATTERN = st.builds(
    lambda start, pieces, end: start + "".join(pieces) + end,
    st.sampled_from(["^", ""]),
    st.lists(_PIECE, max_size=4),
    st.sampled_from(["$", ""]),
)


@given(_PATTERN, _TEXT)
def test_any_pattern_matches_what_the_original_matches(pattern, value):
    if server_pattern(pattern) is not None:
        anchored = re.sub(r"\$$", r"\\Z", pattern)  # Python's `$` also matches before a last newline; ECMA's does not
        assert matches(pattern, value) == (re.search(anchored, value, re.ASCII) is not None)


@given(_PATTERN)
def test_what_was_written_is_read_as_it_is(pattern):
    written = server_pattern(pattern)
    if written is not None:
        re.compile(written)
        assert written[0] == "^"
        assert written[-1] == "$"

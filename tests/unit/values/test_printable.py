"""What a server, a model or a file writes can't steer a terminal, forge a log line or hide in a message."""

import io
import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server import BadRequestError, LlamaServerError
from llamacpp_server import _notices as notices
from llamacpp_server._printable import one_line, printable

HOSTILE = "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202etxt\u2066\r\nINFO forged\u2028\u0085\U000e0041\ud800"


@given(st.text(st.characters(codec=None)))
def test_no_line_of_ours_holds_a_character_that_steers(text):
    shown = one_line(text)
    assert one_line(shown) == shown
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u202d\u202e\u2066\u2067" for char in shown)


def test_text_that_is_fit_to_be_shown_stays_as_it_is():
    text = 'Grüße, 日本語, 🦙👩\u200d💻, "quotes", C:\\path, עברית'
    assert one_line(text) == printable(text) == text
    assert printable("two\n\tlines") == "two\n\tlines"


def test_an_error_shows_a_servers_text_escaped_and_keeps_its_words_as_they_came():
    error = BadRequestError(f"llama-server says: {HOSTILE}", server_message=HOSTILE, remedy=f"use {HOSTILE}")
    for text in (str(error), error.message, repr(error), str(pickle.loads(pickle.dumps(error)))):
        assert len(text.splitlines()) == 1
        assert "\\x1b]0;pwned\\x07" in text.replace("\\\\", "\\")
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert error.server_message == HOSTILE


def test_a_message_that_was_changed_later_is_shown_escaped_as_well():
    error = LlamaServerError("plain")
    error.message += HOSTILE
    assert "\x1b" not in str(error)


@pytest.fixture
def log(fresh_notices):
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    notices.logger.addHandler(handler)
    yield written
    notices.logger.removeHandler(handler)


def test_a_log_line_is_one_line(log):
    notices.warn_once(f"repaired {HOSTILE}")
    assert len(log.getvalue().splitlines()) == 1
    assert "\x1b" not in log.getvalue()


def test_what_was_said_once_is_remembered_up_to_a_bound(log):
    for number in range(3 * notices._MOST_SAID):
        notices.warn_once(f"number {number}")
        notices.warn_once(f"number {number}")
    assert len(log.getvalue().splitlines()) == 3 * notices._MOST_SAID
    assert len(notices._said) <= notices._MOST_SAID

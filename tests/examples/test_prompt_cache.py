"""The example of the prompt cache says what it promises, on the embedded server."""

import re

import pytest

from examples import prompt_cache


def test_the_stable_session_reads_nothing_again_and_the_clock_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    prompt_cache.main()
    said = capsys.readouterr().out
    assert re.search(r"read ahead: (\d+) of \1 tokens in \d+ ms; again: 1\n", said)
    again = [int(row.split()[-1]) for row in re.findall(r"^ +\d  stable .*$", said, re.MULTILINE)]
    assert len(again) == 3
    assert max(again) <= 16
    assert said.count("messages[0]: system's content") == 2
    assert "turn 5, 6: a clock or a counter in the system prompt" in said

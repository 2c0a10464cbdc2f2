"""Public names and signatures don't change without a line in the changelog."""

import pytest

from tests.rules.public_api import PATH, digest, lines, written


def test_public_names_and_signatures_are_those_that_are_written_down():
    listed = PATH.read_text(encoding="utf-8").splitlines()[1:]
    assert listed == list(lines()), "python -m tests.rules.public_api, after a line in CHANGELOG.md"


def test_the_list_shows_fields_methods_of_private_bases_and_functions():
    found = list(lines())
    assert "llamacpp_server.ChatRequest" in found
    assert any(line.startswith("class langchain_llamacpp_server.ChatLlamaServer(") for line in found)
    assert any(line.startswith("    def tokenize(") for line in found)
    assert any(line.startswith("    async def tokenize(") for line in found)
    assert any(line.startswith("    base_url: ") for line in found)


def test_a_changed_api_is_not_written_with_an_unchanged_changelog():
    before = written("", "a changelog", ["x"])
    assert written(before, "a changelog", ["x"]) == before
    with pytest.raises(SystemExit, match=r"CHANGELOG\.md"):
        written(before, "a changelog", ["x", "y"])
    after = written(before, "another changelog", ["x", "y"])
    assert after.splitlines()[1:] == ["x", "y"]
    assert digest("another changelog") in after

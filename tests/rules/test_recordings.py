"""The pictures of a terminal in the README show what the commands print today: `python -m scripts.record_terminal`."""

import html
import re
from pathlib import Path

import pytest

from llamacpp_server import LocalServer
from llamacpp_server.cli import main

ROOT = Path(__file__).parents[2]


def shown(name: str) -> str:
    """The text of a picture."""
    svg = (ROOT / "docs" / "assets" / f"{name}.svg").read_text(encoding="utf-8")
    lines = re.findall(r"<text[^>]*>(.*?)</text>", svg)
    return html.unescape("\n".join(lines)).replace("\xa0", " ")


def test_the_demo_prints_the_titles_of_its_recording() -> None:
    code = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    titles = re.findall(r'title\("(.*?)"\)', code)
    assert len(titles) >= 4
    assert [title for title in titles if title not in shown("demo")] == []


def test_check_prints_the_lines_of_its_recording(capsys: pytest.CaptureFixture[str]) -> None:
    with LocalServer(ROOT / "models" / "tiny-chat.gguf", threads=1, parallel=2) as server:
        main(["check", "--base-url", server.base_url])
    lines = [re.sub(r"\d+ ms|http:\S+|b\d+-\S+", "", line).rstrip() for line in capsys.readouterr().out.splitlines()]
    recorded = shown("check")
    assert len(lines) > 10
    assert [line for line in lines if line.strip() and line not in recorded] == []


@pytest.mark.parametrize("name", ["demo", "check"])
def test_a_recording_fetches_nothing(name: str) -> None:
    svg = (ROOT / "docs" / "assets" / f"{name}.svg").read_text(encoding="utf-8")
    assert re.findall(r"url\(\"?http|@import|<image", svg) == []

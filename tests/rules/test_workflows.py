"""What CI may do: only actions that are pinned by a digest, and only reading."""

import re

import pytest
from _pytest.mark.expression import Expression

from tests.rules.packages import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_its_actions_and_reads_only(path):
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)] == []
    assert re.search(r"^permissions:\n  contents: read$", text, re.MULTILINE)
    assert len(re.findall(r"timeout-minutes:", text)) >= len(re.findall(r"runs-on:", text)) - ("publish:" in text)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_names_each_job_once_and_runs_commands_that_exist(path):
    text = path.read_text(encoding="utf-8")
    jobs = re.findall(r"^  ([\w-]+):$", text.split("\njobs:\n")[1], re.MULTILINE)
    assert jobs and sorted(jobs) == sorted(set(jobs))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {name for name in re.findall(r"run: make ([\w-]+)", text)} <= targets


def test_ci_tests_every_python_that_is_offered():
    offered = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tested = re.search(r"matrix: \{python: \[(.*?)\]\}", (ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert tested is not None
    assert re.findall(r"3\.\d+", tested[1]) == offered


def test_every_test_runs_in_ci_whatever_its_marks():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    daily = re.search(r"^DAILY := (.*)$", makefile, re.MULTILINE)
    assert daily is not None
    commands = []
    for name in re.findall(r"^make (\S+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE):
        recipe = re.search(rf"^{name}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        chosen = re.findall(r'pytest -m ("[^"]*"|\w+)', recipe[1]) if recipe else []
        commands += [Expression.compile(one.strip('"').replace("$(DAILY)", daily[1])) for one in chosen]
    for marks in ({}, {"long"}, {"long", "alone"}, {"binary"}, {"long", "binary"}, {"notebook"}, {"site"}):
        assert any(command.evaluate(lambda name, marks=marks, **_: name in marks) for command in commands), marks
    assert all("long" in (ROOT / path).read_text() for path in with_mark("alone")), "`alone` goes with `long`"


def with_mark(name):
    """The test files that use a mark."""
    return [path for path in (ROOT / "tests").rglob("test_*.py") if f"pytest.mark.{name}" in path.read_text()]


def test_a_failed_test_is_not_run_again():
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in (".ci/run", "Makefile", "pyproject.toml"))
    assert "rerun" not in text

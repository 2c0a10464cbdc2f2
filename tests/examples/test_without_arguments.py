"""Every example runs without arguments on the embedded server, or says in one line what it needs."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted(path.stem for path in (Path(__file__).parents[2] / "examples").glob("[!_]*.py"))
NEEDS = {"images": "a server with --mmproj", "infill": "a fill-in-the-middle model", "lora": "a model and its adapters"}
# It sets OpenTelemetry's global provider, which lasts as long as the process.
OWN_PROCESS = {"observability"}


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    monkeypatch.delitem(sys.modules, f"examples.{name}", raising=False)
    runpy.run_module(f"examples.{name}", run_name="__main__")


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - set(NEEDS) - OWN_PROCESS - {"router"}))
def test_runs(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(name, monkeypatch)
    assert capsys.readouterr().out.strip()


@pytest.mark.binary
def test_the_router_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run("router", monkeypatch)
    assert "LlamaIndex asks second" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(OWN_PROCESS))
def test_runs_in_a_process_of_its_own(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert "gen_ai.server.time_to_first_token" in done.stdout


@pytest.mark.parametrize("name", NEEDS)
def test_says_in_one_line_what_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        run(name, monkeypatch)
    assert str(ended.value).startswith(f"{name}.py needs ")
    assert NEEDS[name] in str(ended.value)
    assert "\n" not in str(ended.value)


def test_every_example_is_in_the_readme() -> None:
    readme = Path(__file__).parents[2] / "examples" / "README.md"
    assert sorted(re.findall(r"^\| \[(\w+)\]", readme.read_text(encoding="utf-8"), re.MULTILINE)) == EXAMPLES

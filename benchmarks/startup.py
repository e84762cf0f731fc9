"""How long `understudy --help` takes: least and median of ten runs of the installed command.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 10


def main() -> None:
    """Print one row."""
    command = Path(sys.executable).with_name("understudy")
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run([str(command), "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    print("| command | least, s | median, s |\n|---|---|---|")
    print(f"| understudy --help | {min(seconds):.2f} | {statistics.median(seconds):.2f} |")


if __name__ == "__main__":
    main()

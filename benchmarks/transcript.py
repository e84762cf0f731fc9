"""The demo from nothing, timed, and its transcript put into the READMEs as it really was.

python -m benchmarks.transcript            # prints the transcript and how long the first and the second demo took
python -m benchmarks.transcript --write    # and puts it between the marks in README.md and README.zh-CN.md
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARKS = ("<!-- transcript: written by `python -m benchmarks.transcript` -->", "<!-- end of transcript -->")


def demo(folder: Path) -> tuple[str, float]:
    """(what it printed, seconds) of one demo without a terminal; its store is in `folder`."""
    began = time.monotonic()
    command = [sys.executable, "-m", "understudy.cli", "demo", "--folder", str(folder / "store")]
    environment = {**os.environ, "COLUMNS": "110", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"the demo ended with {done.returncode}:\n{done.stdout[-3000:]}")
    text = "\n".join(
        line.rstrip() for line in done.stdout.replace(str(folder), ".").replace(str(ROOT), ".").splitlines()
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip(), time.monotonic() - began


def main() -> None:
    """Run it twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the transcript into the READMEs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        text, first = demo(Path(scratch))
        _, second = demo(Path(scratch))
    print(text)
    print(f"\n| demo | seconds |\n|---|---|\n| first | {first:.0f} |\n| second | {second:.0f} |")
    for path in (ROOT / "README.md", ROOT / "README.zh-CN.md") if options.write else ():
        old = path.read_text(encoding="utf-8")
        start, end = old.index(MARKS[0]) + len(MARKS[0]), old.index(MARKS[1])
        path.write_text(f"{old[:start]}\n```text\n{text}\n```\n{old[end:]}", encoding="utf-8")


if __name__ == "__main__":
    main()

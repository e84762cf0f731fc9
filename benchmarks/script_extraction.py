"""Extraction of scripts: speeches right in speaker and words, and megabytes a second on one core.

    python -m benchmarks.script_extraction FOLDER [--runs 9] [--hard]

FOLDER holds plays as `NAME.txt` with `NAME.gold.jsonl`, a `{"speaker", "text"}` for each speech in order. A speech
counts when speaker (whatever its case) and words (spaces collapsed) are both the gold's. The rate is UTF-8 bytes
through decode and parse in a plain loop, median of the runs, in seconds of this process's CPU time. `--hard` adds long
and hostile texts made here, whose rate shows that parsing stays linear. Exit 1 where a play's F1 is below 0.99.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

from understudy.corpus import decode
from understudy.script import parse

LEAST_F1 = 0.99
Speeches = Counter[tuple[str, str]]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--hard", action="store_true")
    options = parser.parse_args()
    plays = [path for path in sorted(options.folder.glob("*.txt")) if path.with_suffix(".gold.jsonl").exists()]
    if not plays:
        print(f"{options.folder}: no *.txt with its *.gold.jsonl", file=sys.stderr)
        return 2
    scores = []
    print("| play | speeches | precision | recall | F1 | MB/s |\n|---|---|---|---|---|---|")
    for path in plays:
        data = path.read_bytes()
        gold, found = read_gold(path.with_suffix(".gold.jsonl")), read_play(data)
        precision, recall, f1 = score(gold, found)
        scores.append(f1)
        shown = f"{precision:.4f} | {recall:.4f} | {f1:.4f} | {rate(data, options.runs):.1f}"
        print(f"| {path.stem} | {gold.total()} | {shown} |")
    if options.hard:
        print("\n| text | MB | MB/s |\n|---|---|---|")
        for name, text in hard_texts(plays).items():
            data = text.encode()
            print(f"| {name} | {len(data) / 1e6:.1f} | {rate(data, 1):.1f} |")
    return int(min(scores) < LEAST_F1)


def read_gold(path: Path) -> Speeches:
    """The speeches that a play holds; rows of another kind, if the file has kinds, are left out."""
    rows = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
    return Counter(key(row["speaker"], row["text"]) for row in rows if row.get("kind", "speech") == "speech")


def read_play(data: bytes) -> Speeches:
    """The speeches that the parser finds."""
    lines = parse(decode(data).text, "play")
    return Counter(key(line.speaker or "", line.text) for line in lines if line.kind == "speech")


def key(speaker: str, text: str) -> tuple[str, str]:
    """What two speeches must share to be the same."""
    return " ".join(speaker.split()).casefold(), " ".join(text.split())


def score(gold: Speeches, found: Speeches) -> tuple[float, float, float]:
    """Precision, recall and F1; a speech found twice but written once counts once."""
    right = (gold & found).total()
    precision, recall = right / max(1, found.total()), right / max(1, gold.total())
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def rate(data: bytes, runs: int) -> float:
    """Median MB of UTF-8 a second of CPU time."""
    size = len(decode(data).text.encode())
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        parse(decode(data).text, "play")
        seconds.append(time.process_time() - started)
    return size / statistics.median(seconds) / 1e6


def hard_texts(plays: list[Path], size: int = 1_000_000) -> dict[str, str]:
    """Long and hostile texts of about `size` characters."""
    chinese = "林姑娘（推门进来）：快起来！太阳都照到炉子了！\n阿福：嘿嘿，我没睡，他说：“我在看面粉。”\n"
    whole = decode(plays[0].read_bytes()).text
    return {
        f"{plays[0].stem} 50 times": whole * 50,
        "Chinese speeches": chinese * (size // len(chinese)),
        "one row of 5 million letters": "x" * (5 * size),
        "one speech of a million words": "ADAM: hi\nADAM: " + "word " * size,
        "( only": "(" * size,
        "( ) only": "()" * (size // 2),
        "directions only": "A: " + "(a) " * (size // 4),
        "colons only": ":" * size,
        "glued speakers": "甲甲：好\n" * 3 + "甲甲：" + "好。甲甲：" * (size // 5),
        "names only": "".join(f"NAME{number}: hi\n" for number in range(size // 14)),
        "open brackets on every row": "A (a\n" * (size // 5),
        "lists of characters": "Personen\n" * (size // 9),
        "line ends only": "a" + "\r" * size,
    }


if __name__ == "__main__":
    sys.exit(main())

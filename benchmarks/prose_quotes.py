"""Prose: quotes found and attributed by rules, against novels in which people have marked who says what.

    python -m benchmarks.prose_quotes FOLDER [--novels FOLDER] [--misses NAME]

FOLDER holds a folder for each novel as the Project Dialogism Novel Corpus lays it out: `novel_text.txt`,
`quotation_info.csv` and `character_info.csv`. Spans are the words between marks, exact to the character, a joined
speech taken apart at its directions. The cast given to the parser is the names and aliases of `character_info.csv`; a
quote is right when the line over its first span names the same character, and committed when its speaker is in the
cast at all.
`--novels` adds the rate on a folder of plain novels, with the longest quote found. `--misses` prints quotes of one
novel that are wrong. Exit 1 where a bar is missed: span F1 0.95, 65 % of all quotes right, 88 % of the committed.
"""

from __future__ import annotations

import argparse
import ast
import csv
import sys
import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from understudy.corpus import decode
from understudy.lines import Line
from understudy.prose import parse

BARS = (0.95, 0.65, 0.88)
Span = tuple[int, int]


@dataclass
class Score:
    """Counts of one novel, or of all."""

    spans: int = 0
    found: int = 0
    both: int = 0
    quotes: int = 0
    committed: int = 0
    right: int = 0
    outside: int = 0
    """Named somebody who is not in the cast."""
    methods: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    ranked: list[tuple[float, bool]] = field(default_factory=list)
    """Confidence of each committed quote, and whether it is right."""

    def add(self, other: Score) -> None:
        """Take another novel's counts in."""
        for name in ("spans", "found", "both", "quotes", "committed", "right", "outside"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.methods += other.methods
        self.wrong += other.wrong
        self.ranked += other.ranked

    @property
    def figures(self) -> tuple[float, float, float]:
        """Span F1, share of all quotes right, share of the committed right."""
        f1 = 2 * self.both / max(1, self.spans + self.found)
        return f1, self.right / max(1, self.quotes), self.right / max(1, self.committed)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--novels", type=Path)
    parser.add_argument("--misses", default="")
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.folder.glob("*/quotation_info.csv"))
    if not folders:
        print(f"{options.folder}: no */quotation_info.csv", file=sys.stderr)
        return 2
    total = Score()
    print("| novel | spans | span F1 | quotes | committed | right of all | right of committed | outside | MB/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for folder in folders:
        one, rate = score(folder, options.misses == folder.name)
        total.add(one)
        print(row(folder.name, one, f"{rate:.1f}"))
    print(row("all", total, ""))
    print("\n| method | quotes | right |\n|---|---|---|")
    for method, count in total.methods.most_common():
        print(f"| {method} | {count} | {1 - total.wrong[method] / count:.3f} |")
    print("\n| confidence at least | coverage | right |\n|---|---|---|")
    for least in (0.5, 0.7, 0.8, 0.9, 0.95):
        kept = [right for confidence, right in total.ranked if confidence >= least]
        print(f"| {least} | {len(kept) / max(1, total.quotes):.3f} | {sum(kept) / max(1, len(kept)):.3f} |")
    if options.novels:
        print_rates(sorted(options.novels.glob("*.txt")))
    return int(any(got < bar for got, bar in zip(total.figures, BARS, strict=True)))


def row(name: str, one: Score, rate: str) -> str:
    """One row of the first table."""
    f1, right, committed = one.figures
    share = one.committed / max(1, one.quotes)
    return (
        f"| {name} | {one.spans} | {f1:.3f} | {one.quotes} | {share:.3f} | {right:.3f} | {committed:.3f} "
        f"| {one.outside} | {rate} |"
    )


def score(folder: Path, misses: bool) -> tuple[Score, float]:
    """The counts of one novel, and MB of UTF-8 a second of CPU time."""
    text = (folder / "novel_text.txt").read_text("utf-8")
    owners = {
        alias: row["Main Name"]
        for row in read_csv(folder / "character_info.csv")
        for alias in (*sorted(ast.literal_eval(row["Aliases"])), row["Main Name"])
    }
    started = time.process_time()
    lines = parse(text, folder.name.lower(), owners)
    rate = len(text.encode()) / (time.process_time() - started) / 1e6
    ids = {alias.casefold(): owner for alias, owner in owners.items()}
    speeches = [line for line in lines if line.kind == "speech"]
    starts = [line.start for line in speeches]
    found = {span for line in speeches for span in spans_of(line)}
    one = Score(found=len(found))
    gold: set[Span] = set()
    for quote in read_csv(folder / "quotation_info.csv"):
        own = [trimmed(text, *span) for span in ast.literal_eval(quote["quoteByteSpans"])]
        gold.update(own)
        one.quotes += 1
        middle = sum(own[0]) // 2
        at = bisect_right(starts, middle) - 1
        line = speeches[at] if at >= 0 and speeches[at].end >= middle else None
        judge(one, quote, line, ids, misses)
    one.spans, one.both = len(gold), len(gold & found)
    if misses:
        for name, spans in (("missed", gold - found), ("extra", found - gold)):
            for start, end in sorted(spans)[:40]:
                print(f"{name}: {text[start - 12 : start]!r} [{text[start:end]!r}] {text[end : end + 12]!r}")
    return one, rate


def judge(one: Score, quote: dict[str, str], line: Line | None, ids: dict[str, str], misses: bool) -> None:
    """Count one quote."""
    method = line.method if line else "not found"
    one.methods[method] += 1
    named = ids.get((line.speaker or "").casefold()) if line else None
    right = named == quote["speaker"]
    one.right += right
    one.wrong[method] += not right
    one.outside += bool(line and line.speaker and not named)
    if line and named:
        one.committed += 1
        one.ranked.append((line.confidence, right))
    if misses and not right and (named or (line and line.speaker)):
        said = f"{quote['referringExpression'][:50]!r} {quote['quoteText'][:70]!r}"
        print(f"{quote['quoteID']} {method} {line.speaker if line else None} != {quote['speaker']}: {said}")


def spans_of(line: Line) -> list[Span]:
    """The stretches of words of a speech, between marks."""
    edges = [line.start]
    for direction in line.directions:
        edges += [int(direction["start"]), int(direction["end"])]
    edges.append(line.end)
    return list(zip(edges[::2], edges[1::2], strict=True))


def trimmed(text: str, start: int, end: int) -> Span:
    """A span without space at its ends."""
    body = text[start:end]
    return start + len(body) - len(body.lstrip()), end - len(body) + len(body.rstrip())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def print_rates(paths: list[Path]) -> None:
    """Quotes, attributed share, longest quote and rate of plain novels, without a cast."""
    print("\n| novel | MB | speeches | with a speaker | longest | MB/s |\n|---|---|---|---|---|---|")
    for path in paths:
        data = path.read_bytes()
        text = decode(data).text
        started = time.process_time()
        lines = parse(text, "novel")
        rate = len(text.encode()) / (time.process_time() - started) / 1e6
        speeches = [line for line in lines if line.kind == "speech"]
        known = sum(line.speaker is not None for line in speeches) / max(1, len(speeches))
        longest = max((line.end - line.start for line in speeches), default=0)
        print(f"| {path.stem} | {len(data) / 1e6:.1f} | {len(speeches)} | {known:.3f} | {longest} | {rate:.1f} |")


if __name__ == "__main__":
    sys.exit(main())

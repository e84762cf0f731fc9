"""Prose: quotes found and attributed by rules, against novels in which people have marked who says what.

    python -m benchmarks.prose_quotes FOLDER [--litbank FOLDER] [--novels FOLDER] [--misses NAME]

FOLDER holds a folder for each novel as the Project Dialogism Novel Corpus lays it out: `novel_text.txt`,
`quotation_info.csv` and `character_info.csv`. Spans are the words between marks, exact to the character, a joined
speech taken apart at its directions. The cast given to the parser is the names and aliases of `character_info.csv`; a
quote is right when the line over its first span names the same character, and committed when its speaker is in the
cast at all.
`--litbank` scores LitBank's excerpts (`*.txt`, `*.ann`; tokenised, a sentence a row): spans exact by tokens, quotation
marks aside. Every second file was developed on and the others were not read; both halves are printed.
`--novels` scores plain Chinese novels, named by their title, with a short cast each: who is found to speak, the longest
quote, quotes that reach over a chapter heading, and the rate. `--misses` prints what is wrong in one novel.
Exit 1 where a bar is missed: span F1 0.95 on the novels and on LitBank, 65 % of all quotes right, 88 % of the
committed, no quote over a heading.
"""

from __future__ import annotations

import argparse
import ast
import csv
import re
import sys
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.litbank import judge_excerpt, read_excerpt, spans_of, split_of
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
    parser.add_argument("--litbank", type=Path)
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
    print_curve(total)
    good = all(got >= bar for got, bar in zip(total.figures, BARS, strict=True))
    if options.litbank:
        good &= print_litbank(sorted(options.litbank.glob("*.txt"))) >= BARS[0]
    if options.novels:
        good &= print_chinese(sorted(options.novels.glob("*.txt"))) == 0
    return int(not good)


def print_curve(total: Score) -> None:
    """Coverage against precision by the least confidence that is believed."""
    print("\n| confidence at least | committed | right of all | right of committed |\n|---|---|---|---|")
    for least in (0.0, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97):
        kept = [right for confidence, right in total.ranked if confidence >= least]
        share, right = len(kept) / max(1, total.quotes), sum(kept) / max(1, total.quotes)
        print(f"| {least} | {share:.3f} | {right:.3f} | {sum(kept) / max(1, len(kept)):.3f} |")


def print_litbank(paths: list[Path]) -> float:
    """Span F1 and speakers of both halves; the F1 of all."""
    print("\n| LitBank | files | quotes | found | exact | precision | recall | F1 | tag right |\n" + "|---" * 9 + "|")
    every = Counter[str]()
    for name, half in zip(("developed on", "not read"), split_of(paths), strict=True):
        counts = Counter[str](files=len(half))
        for path in half:
            one = judge_excerpt(read_excerpt(path), cast=True)
            tagged = [right for *_, method, _, right in one.judged if method == "verb"]
            counts.update(quotes=one.spans, found=one.found, both=one.both, tags=len(tagged), right=sum(tagged))
        print(litbank_row(name, counts))
        every.update(counts)
    print(litbank_row("all", every))
    return 2 * every["both"] / max(1, every["quotes"] + every["found"])


def litbank_row(name: str, c: Counter[str]) -> str:
    """One row of LitBank's table."""
    f1 = 2 * c["both"] / max(1, c["quotes"] + c["found"])
    precision, recall = c["both"] / max(1, c["found"]), c["both"] / max(1, c["quotes"])
    return (
        f"| {name} | {c['files']} | {c['quotes']} | {c['found']} | {c['both']} | {precision:.3f} | {recall:.3f} "
        f"| {f1:.4f} | {c['right'] / max(1, c['tags']):.3f} |"
    )


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
    lines, rate = timed(text, folder.name.lower(), owners)
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


def timed(text: str, work: str, names: Mapping[str, str]) -> tuple[list[Line], float]:
    """The lines and the better of two rates, in MB of UTF-8 a second of CPU time."""
    seconds = []
    lines: list[Line] = []
    for _ in range(2):
        started = time.process_time()
        lines = parse(text, work, names)
        seconds.append(time.process_time() - started)
    return lines, len(text.encode()) / min(seconds) / 1e6


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


def trimmed(text: str, start: int, end: int) -> Span:
    """A span without space at its ends."""
    body = text[start:end]
    return start + len(body) - len(body.lstrip()), end - len(body) + len(body.rstrip())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CASTS = {
    "三国演义": "曹操/操/孟德 刘备/玄德 关羽/关公/云长 张飞/飞 诸葛亮/孔明 孙权/权 周瑜/瑜 赵云/子龙 司马懿/懿 吕布/布",
    "水浒传": "宋江/宋公明 武松/武二 鲁智深/智深 林冲 李逵 吴用 卢俊义 燕青 柴进 杨志",
    "红楼梦": "贾宝玉/宝玉 林黛玉/黛玉 薛宝钗/宝钗 王熙凤/凤姐/凤姐儿 贾母 王夫人 袭人 平儿 贾政 探春 湘云 刘姥姥",
    "西游记": "孙悟空/悟空/行者/大圣 唐僧/三藏/唐三藏 猪八戒/八戒/呆子 沙僧/沙和尚 观音/菩萨 玉帝 如来",
}
"""A few people of each novel with names that the text uses."""
_CHAPTER = re.compile(r"(?m)^[\s\u3000]*第[〇零一二三四五六七八九十百]{1,5}回")


def print_chinese(paths: list[Path]) -> int:
    """Quotes of plain novels, who says them, the longest one and the rate; how many reach over a chapter heading."""
    print("\n| novel | MB | speeches | with a speaker | by its cast | longest | over a heading | MB/s |")
    print("|---|---|---|---|---|---|---|---|")
    over = 0
    for path in paths:
        data = path.read_bytes()
        text = decode(data).text
        names = {name: group.split("/")[0] for group in CASTS.get(path.stem, "").split() for name in group.split("/")}
        lines, rate = timed(text, "novel", names)
        speeches = [line for line in lines if line.kind == "speech"]
        known = sum(line.speaker is not None for line in speeches) / max(1, len(speeches))
        ours = sum(line.speaker in names for line in speeches) / max(1, len(speeches))
        longest = max((line.end - line.start for line in speeches), default=0)
        heads = [match.start() for match in _CHAPTER.finditer(text)]
        across = sum(bisect_right(heads, line.end) > bisect_right(heads, line.start) for line in speeches)
        over += across
        print(
            f"| {path.stem} | {len(data) / 1e6:.1f} | {len(speeches)} | {known:.3f} | {ours:.3f} | {longest} "
            f"| {across} | {rate:.1f} |"
        )
    return over


if __name__ == "__main__":
    sys.exit(main())

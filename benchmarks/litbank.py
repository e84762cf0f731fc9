"""LitBank's excerpts of a hundred novels: quotations and their speakers, by token offsets."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from understudy.lines import Line
from understudy.prose import parse

Span = tuple[int, int]
MARKS = frozenset("\"“”‘’'`«»—-")
"""Tokens at the ends of a quotation that are its marks: the corpus counts them in, the parser leaves them out."""


@dataclass(frozen=True)
class Excerpt:
    """One file: text with one sentence a row, tokens apart by one space."""

    name: str
    text: str
    tokens: list[Span]
    """Offsets of each token in the text."""
    quotes: list[tuple[str, Span, str]]
    """Id, first and last token (included, marks too), speaker."""


def read_excerpt(path: Path) -> Excerpt:
    """A file and the annotation beside it."""
    text = path.read_text("utf-8")
    tokens: list[Span] = []
    rows: list[int] = []
    at = 0
    for row in text.split("\n"):
        rows.append(len(tokens))
        tokens += [(at + match.start(), at + match.end()) for match in re.finditer(r"[^ ]+", row)]
        at += len(row) + 1
    spans: list[tuple[str, Span]] = []
    speakers: dict[str, str] = {}
    for row in path.with_suffix(".ann").read_text("utf-8").splitlines():
        cells = row.split("\t")
        if cells[0] == "QUOTE":
            first, first_token, last, last_token = map(int, cells[2:6])
            spans.append((cells[1], (rows[first] + first_token, rows[last] + last_token)))
        elif cells[0] == "ATTRIB":
            speakers[cells[1]] = cells[2]
    name = path.stem.removesuffix("_brat")
    return Excerpt(name, text, tokens, [(quote, span, speakers[quote]) for quote, span in spans])


def names_of(excerpt: Excerpt) -> dict[str, str]:
    """The speakers by their labels, written as a name."""
    return {written(label): label for _, _, label in excerpt.quotes}


def written(label: str) -> str:
    """`Mr__Bennet-3` as `Mr. Bennet`."""
    plain = label.rsplit("-", 1)[0]
    for title in ("Mr", "Mrs", "Ms", "Dr", "St"):
        plain = re.sub(rf"\b{title}__", f"{title}. ", plain)
    return " ".join(plain.replace("_s_", "'s_").replace("_", " ").split())


def bare(excerpt: Excerpt, span: Span) -> Span:
    """First and last token of a quotation without its marks."""
    first, last = span
    while first < last and MARKS.issuperset(excerpt.text[slice(*excerpt.tokens[first])]):
        first += 1
    while last > first and MARKS.issuperset(excerpt.text[slice(*excerpt.tokens[last])]):
        last -= 1
    return first, last


def spans_of(line: Line) -> list[Span]:
    """The stretches of words of a speech, between marks."""
    edges = [line.start]
    for direction in line.directions:
        edges += [int(direction["start"]), int(direction["end"])]
    edges.append(line.end)
    return list(zip(edges[::2], edges[1::2], strict=True))


@dataclass
class Found:
    """What the parser makes of one excerpt."""

    spans: int
    found: int
    both: int
    quotes: int = 0
    committed: int = 0
    right: int = 0
    missed: list[Span] = field(default_factory=list)
    extra: list[Span] = field(default_factory=list)
    judged: list[tuple[str, str, str | None, str, float, bool]] = field(default_factory=list)
    """Id, speaker, the one given, method, confidence, right."""


def judge_excerpt(excerpt: Excerpt, cast: bool) -> Found:
    """Spans exact by tokens; speakers, where they are to be named, under the best one-to-one map of names to labels."""
    lines = [
        line for line in parse(excerpt.text, "litbank", names_of(excerpt) if cast else ()) if line.kind == "speech"
    ]
    starts = [start for start, _ in excerpt.tokens]
    ours: dict[Span, Line] = {}
    for line in lines:
        for start, end in spans_of(line):
            first = bisect_right(starts, start) - 1
            last = bisect_left(starts, end) - 1
            if last >= first:
                ours[bare(excerpt, (first, last))] = line
    gold = {bare(excerpt, span): (quote, label) for quote, span, label in excerpt.quotes}
    both = gold.keys() & ours.keys()
    one = Found(len(gold), len(ours), len(both), len(gold))
    one.missed, one.extra = sorted(gold.keys() - both), sorted(ours.keys() - both)
    pairs = []
    for span, (quote, label) in gold.items():
        line = ours.get(span) or _over(ours, span)
        pairs.append((quote, label, line))
    ids = names_of(excerpt) if cast else {}
    ids = {name.casefold(): label for name, label in ids.items()}
    owner = _matched(
        Counter((who.casefold(), label) for _, label, line in pairs if line and (who := line.speaker)), ids
    )
    for quote, label, line in pairs:
        who = line.speaker if line else None
        right = who is not None and owner.get(who.casefold()) == label
        one.right += right
        one.committed += who is not None
        one.judged.append(
            (quote, label, who, line.method if line else "not found", line.confidence if line else 0, right)
        )
    return one


def _over(ours: dict[Span, Line], span: Span) -> Line | None:
    middle = sum(span) / 2
    return next((line for (first, last), line in ours.items() if first <= middle <= last), None)


def _matched(counts: Counter[tuple[str, str]], ids: dict[str, str]) -> dict[str, str]:
    """Labels by names: those of the cast, then the most frequent pairs, each name and each label once."""
    owner = {who: ids[who] for who, _ in counts if who in ids}
    taken = set(owner.values())
    for (who, label), _ in counts.most_common():
        if who not in owner and label not in taken:
            owner[who] = label
            taken.add(label)
    return owner


def split_of(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Files to develop on and files to report on: every second one in the order of their names; the two with dialogue
    dashes both to develop on, as there are no others.
    """
    ordered = sorted(paths, key=lambda path: path.name)
    dashed = [path for path in ordered if path.name.startswith(("4217_", "4300_"))]
    mine = [path for path in ordered[::2] if path not in dashed] + dashed
    return mine, [path for path in ordered[1::2] if path not in dashed]

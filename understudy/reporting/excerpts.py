"""Stretches of a source text with the spans in it that became lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

AROUND = 160
"""Characters shown before and after a span."""
MOST = 3000
"""Characters of one excerpt."""
GAP = 600
"""Spans farther apart than this are shown in excerpts of their own."""

Span = tuple[int, int, bool]
"""Start, end (code points in the work), and whether it is what is learned."""


def clusters(spans: Iterable[Span]) -> list[list[Span]]:
    """Spans in the order of the text, those near each other together."""
    found: list[list[Span]] = []
    for span in sorted(set(spans)):
        near = found and span[0] - found[-1][-1][1] <= GAP and span[1] - found[-1][0][0] <= MOST
        if near:
            found[-1].append(span)
        else:
            found.append([span])
    return found


def excerpt(text: str, spans: Sequence[Span]) -> dict[str, Any]:
    """One excerpt: {"start", "end", "pieces": [{"text", "mark"}]} with mark "", "line" or "own".

    The pieces join to `text[start:end]`. A span that is not within the text raises ValueError.
    """
    if any(not 0 <= start <= end <= len(text) for start, end, _ in spans):
        raise ValueError("a span does not lie within the text")
    start = _at_blank(text, max(0, spans[0][0] - AROUND), -1)
    end = _at_blank(text, min(len(text), spans[-1][1] + AROUND), 1)
    if end - start > MOST + 2 * AROUND:
        end = spans[0][0] + MOST
    pieces: list[dict[str, str]] = []
    at = start
    for first, last, own in spans:
        first, last = max(first, at), min(last, end)
        if first >= last:
            continue
        if first > at:
            pieces.append({"text": text[at:first], "mark": ""})
        pieces.append({"text": text[first:last], "mark": "own" if own else "line"})
        at = last
    if at < end:
        pieces.append({"text": text[at:end], "mark": ""})
    return {"start": start, "end": end, "pieces": pieces}


def _at_blank(text: str, at: int, step: int) -> int:
    """The next place from `at` on at which a word ends, within 40 characters."""
    for distance in range(40):
        place = at + step * distance
        if place <= 0 or place >= len(text):
            return min(max(place, 0), len(text))
        if text[place].isspace():
            return place
    return at


def spans_of(rows: Iterable[Mapping[str, Any]], persona: str | None) -> list[Span]:
    """Spans of lines-table rows; those of `persona` are its own."""
    return [(int(row["start"]), int(row["end"]), bool(persona) and row["persona"] == persona) for row in rows]

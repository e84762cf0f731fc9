"""Directions within a speech or a cue: what they say, where they stand, and the words left when they are gone."""

from __future__ import annotations

from itertools import pairwise

from understudy.layout import OPENING, brackets

_STOPS = frozenset(".,;:…，。；：")


def join_pieces(pieces: list[str]) -> str:
    """Words on both sides of a removed direction, without a space left before a full stop or a comma."""
    joined = [pieces[0]]
    for before, after in pairwise(pieces):
        if after.lstrip()[:1] in _STOPS and before.strip() and after.strip():
            joined[-1] = joined[-1].rstrip()
            joined.append(after.lstrip())
        else:
            split = before[-1:].isalnum() and after[:1].isalnum() and before[-1:].isascii()
            joined.append(" " + after if split else after)
    return "".join(joined)


def directions_of_cue(at: int, part: str) -> list[dict[str, int | str]]:
    """Directions between a name and its colon: in brackets, or bare (`ORGON, à part`)."""
    group = part.strip()
    if not group:
        return []
    words = group[1:-1]
    if group[0] in OPENING and group[-1] in OPENING[group[0]] and not any(mark in words for mark in OPENING):
        start = at + part.index(group[0])
        return [{"start": start, "end": start + len(group), "text": " ".join(words.split()).strip("*_ ")}]
    return [direction_at(at, group, part) for group in brackets(part) or [(0, len(part))]]


def direction_at(base: int, group: tuple[int, int], text: str) -> dict[str, int | str]:
    """A direction at (start, end) of `text`, which stands at `base` in the work."""
    first, last = group
    return {"start": base + first, "end": base + last, "text": inner_words(text[first:last])}


def inner_words(group: str) -> str:
    """What a direction says, without its brackets and marks."""
    words = " ".join(group.split()).strip("*_ ").lstrip("△▲◎※ ")
    if words and words[0] in OPENING and brackets(words) == [(0, len(words))]:
        words = words[1:-1].strip("*_ ")
    return words.lstrip("[(").strip("_ ")

"""Quoted speech in prose: paragraphs, and the words that stand between marks.

    flat = flatten(text)
    for paragraph in paragraphs(flat): ...
    found = quotes(flat, paragraphs(flat))

Straight and curly marks, corner brackets, guillemets in both directions, low and high marks, single marks where a work
hardly uses double ones, and dialogue dashes. A mark within an open quote nests and stays among its words. What is never
closed ends with its paragraph, or goes on where the next mark closes it; it never reaches over another opening mark.
Everything is one pass over the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from understudy.speech_words import DASH_TAG

CLOSE_WITHIN = 3000
"""A quote that its paragraph leaves open is closed by a mark at most this many characters further on."""


class Paragraph(NamedTuple):
    """Offsets in the work, without the space around; `blank` when an empty row stands before it."""

    start: int
    end: int
    blank: bool


class Quote(NamedTuple):
    """Words at [start, end), with their marks [outer, outer_end)."""

    start: int
    end: int
    outer: int
    outer_end: int
    paragraph: int
    closed: bool
    goes_on: bool
    """Whether it carries on the quote before it, which the paragraph above left open."""


_ENDS = '.!?…。！？．~～—–-"”’」』»:：;；)）】*'
_TERMINAL = frozenset("。！？…．～~!?.；;—」』）)")
_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uff00-\uffef]")


def is_han(char: str) -> bool:
    """A Chinese or Japanese character, or a full-width mark."""
    return "\u3000" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\uff00" <= char <= "\uffef"


def paragraphs(flat: str) -> list[Paragraph]:
    """The paragraphs of a flattened text: rows, or rows joined up to an empty one where the text is hard-wrapped."""
    rows: list[tuple[int, int, int]] = []
    at = 0
    for line in flat.split("\n"):
        body = line.strip()
        indent = len(line) - len(line.lstrip()) if body else 0
        rows.append((at + indent, at + indent + len(body), indent))
        at += len(line) + 1
    wrapped, indented = _wrapping(flat, rows)
    found: list[Paragraph] = []
    blank = True
    for start, end, indent in rows:
        if start == end:
            blank = True
            continue
        if found and wrapped and not blank and not (indented and indent):
            found[-1] = found[-1]._replace(end=end)
        else:
            found.append(Paragraph(start, end, blank))
        blank = False
    return found


def _wrapping(flat: str, rows: list[tuple[int, int, int]]) -> tuple[bool, bool]:
    """Whether rows that follow each other are one paragraph, and whether an indent begins a new one."""
    followed = goes_on = indents = blanks = 0
    for (start, end, _), (after, after_end, indent) in pairwise(rows[:4001]):
        if start == end:
            continue
        if after == after_end:
            blanks += 1
            continue
        followed += 1
        indents += indent > 0
        goes_on += flat[end - 1] not in _ENDS and end - start < 200 and not is_han(flat[end - 1])
        goes_on += is_han(flat[end - 1]) and flat[end - 1] not in "。！？…：；" and end - start < 60
    wrapped = followed > 0 and goes_on > 0.3 * followed
    return wrapped, wrapped and blanks < 0.2 * followed and 0.02 * followed < indents < 0.7 * followed


@dataclass(frozen=True, slots=True)
class Style:
    """Which marks open and close quotes in one work."""

    pattern: re.Pattern[str]
    openers: frozenset[str]
    closers: frozenset[str]
    dash: bool
    """Whether a dash at the start of a paragraph opens a speech."""


_PAIRS = {"“": "d", "”": "d", '"': "d", "„": "d", "«": "g", "»": "g", "「": "k", "」": "k", "『": "w", "』": "w"}
_FAMILY = {**_PAIRS, "‘": "s", "’": "s", "'": "s", "＂": "d", "〝": "d", "〞": "d", "〟": "d"}
_DASHED = re.compile(r"(?m)^[^\S\n]*(?:[—–―]{1,2}|--|-(?=\s))[^\S\n]*(?=[^\W\d_]|[¡¿…\"«])")
_SINGLE = re.compile(r"(?<![\w’'])'(?=[^\W_])")


def style_of(flat: str) -> Style:
    """The marks of a work, by what it uses most."""
    doubles = sum(flat.count(mark) for mark in '"“„«「『〝＂')
    opening, closing = set("“「『«〝"), set("”」』»〞〟")
    marks = '"“”„«»「」『』＂〝〞〟'
    if flat.count("„") > 0.3 * flat.count("“"):
        opening, closing = (opening | {"„"}) - {"“"}, closing | {"“"}
    if re.search(r"(?:^|\s)»\w", flat) and len(re.findall(r"»\w", flat)) > len(re.findall(r"«\w", flat)):
        opening, closing = (opening | {"»"}) - {"«"}, (closing | {"«"}) - {"»"}
    dashes = 0 if flat.count("—") + flat.count("–") + flat.count("-") + flat.count("―") < 3 else _count(_DASHED, flat)
    if flat.count("‘") > 2 * doubles:
        opening, closing, marks = opening | {"‘"}, closing | {"’"}, marks + "‘’"
    elif flat.count("'") > 2 * doubles and (singles := _count(_SINGLE, flat)) > 2 * doubles and singles > 2:
        marks += "'"
    return Style(
        re.compile(f"[{marks}]"), frozenset(opening), frozenset(closing), dashes > 2 and dashes > doubles * 0.5
    )


def _count(pattern: re.Pattern[str], flat: str) -> int:
    return sum(1 for _ in pattern.finditer(flat))


def quotes(flat: str, parts: list[Paragraph]) -> list[Quote]:
    """Every outermost quote in the order of the text, words in marks that nobody says among them."""
    style = style_of(flat)
    found: list[Quote] = []
    until, left_open = 0, False
    for number, part in enumerate(parts):
        if part.end <= until:
            continue
        if style.dash and (match := _DASHED.match(flat, part.start, part.end)):
            found += _dashed(flat, part, number, match.end())
            left_open = False
            continue
        own = _marked(flat, part, number, max(part.start, until), style)
        if own and left_open and flat[part.start : own[0].outer].strip() == "":
            own[0] = own[0]._replace(goes_on=True)
        left_open = bool(own) and not own[-1].closed
        if left_open and (end := _closed_later(flat, parts, number, style)):
            own[-1] = own[-1]._replace(end=end, outer_end=end + 1, closed=True)
            until, left_open = end + 1, False
        found += [quote for quote in (_trimmed(flat, each) for each in own) if quote.end > quote.start]
    return found


def _trimmed(flat: str, quote: Quote) -> Quote:
    start, end = quote.start, quote.end
    while start < end and flat[start].isspace():
        start += 1
    while end > start and flat[end - 1].isspace():
        end -= 1
    return quote._replace(start=start, end=end)


def _closed_later(flat: str, parts: list[Paragraph], number: int, style: Style) -> int:
    """Where a quote left open by its paragraph is closed, if the very next mark closes it."""
    begin = parts[number].end
    match = style.pattern.search(flat, begin, begin + CLOSE_WITHIN)
    if match is None or (match.group() not in style.closers and match.group() != '"'):
        return 0
    at = match.start()
    last = bisect_left(parts, at, lo=number, key=lambda part: part.end)
    if last >= len(parts) or last == number or any(part.blank for part in parts[number + 2 : last + 1]):
        return 0
    if match.group() == '"' and (at == parts[last].start or not _closes(flat, at, parts[last])):
        unpaired = flat.count('"', parts[last].start, parts[last].end) % 2 == 1
        return at if unpaired and not parts[last].blank and at > parts[last].start else 0
    if parts[last].blank and match.group() not in style.closers:
        return 0
    return at


def _closes(flat: str, at: int, part: Paragraph) -> bool:
    before = flat[at - 1]
    after = flat[at + 1] if at + 1 < part.end else " "
    return before in _TERMINAL or (not before.isspace() and (after.isspace() or after in ",.;:!?)—-"))


def _marked(flat: str, part: Paragraph, number: int, begin: int, style: Style) -> list[Quote]:
    """The quotes of one paragraph by its marks."""
    marks = [(match.start(), match.group()) for match in style.pattern.finditer(flat, begin, part.end)]
    if not marks:
        return []
    opened = sum(mark in style.openers for _, mark in marks)
    straight = sum(mark == '"' and flat[at - 1 : at] in _TERMINAL for at, mark in marks if at)
    nests = opened <= straight + sum(mark in style.closers for _, mark in marks)
    found: list[Quote] = []
    stack: list[str] = []
    outer = 0
    for at, mark in marks:
        opens = _opening(flat, at, mark, part, stack, style)
        if opens is None:
            continue
        if opens:
            if stack and not nests and _FAMILY[mark] == _FAMILY[stack[0]] and mark in style.openers:
                found.append(_cut_short(flat, outer, at, number))
                stack.clear()
            if stack and mark == stack[-1] and mark in "\"'":
                found.append(_cut_short(flat, outer, at, number))
                stack.clear()
            if not stack:
                outer = at
            stack.append(mark)
        elif stack and _FAMILY[mark] in map(_FAMILY.__getitem__, stack):
            while stack and _FAMILY[stack.pop()] != _FAMILY[mark]:
                pass
            if not stack:
                found.append(Quote(outer + 1, at, outer, at + 1, number, True, False))
    if stack:
        found.append(Quote(outer + 1, part.end, outer, part.end, number, False, False))
    return found


def _opening(flat: str, at: int, mark: str, part: Paragraph, stack: list[str], style: Style) -> bool | None:
    """Whether a mark opens a quote, by its shape, else by what stands beside it; None where it does neither."""
    if mark in style.openers:
        return True
    before = flat[at - 1] if at > part.start else " "
    after = flat[at + 1] if at + 1 < part.end else " "
    if mark in "’'":
        if before.isalnum() and (after.isalnum() or (before == "s" and after == " ")):
            return None
        if mark == "'" and not before.isalnum() and not after.isspace() and before not in ".,!?;:—-":
            return None if stack else True
        return False
    if mark in style.closers:
        return False
    if is_han(before) or is_han(after):
        if not stack:
            return None if before in "！？!?…" else True
        if stack[-1] == '"':
            return False
        return before not in _TERMINAL and before != "，" and before in "：:说道曰问"
    left, right = before.isspace() or before in "([{—–-‘'_*", not after.isspace()
    if left and right and not (stack and before in "—–-"):
        return True
    if not left and (not right or not after.isalnum()):
        return False
    return not stack


_LAST_END = re.compile(r".*[.!?。！？…．,，]", re.DOTALL)


def _cut_short(flat: str, outer: int, at: int, number: int) -> Quote:
    """A quote whose closing mark is missing, before another one opens: it ends with its last whole sentence."""
    body = flat[outer + 1 : at]
    match = _LAST_END.match(body.rstrip(" ：:∶，,\n"))
    end = outer + 1 + (match.end() if match else len(body.rstrip()))
    return Quote(outer + 1, end, outer, end, number, True, False)


def _dashed(flat: str, part: Paragraph, number: int, begin: int) -> list[Quote]:
    """The speech of a paragraph that a dash opens, without what tells who speaks."""
    found: list[Quote] = []
    start, outer = begin, part.start
    for match in DASH_TAG.finditer(flat, begin, part.end):
        if match.start() < start:
            continue
        found.append(Quote(start, match.start("tag"), outer, match.start("tag"), number, True, False))
        start = outer = match.end()
    if start < part.end:
        found.append(Quote(start, part.end, outer, part.end, number, True, False))
    return found

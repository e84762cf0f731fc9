"""Running text in works and stretches: one work up to its limit, and pieces of it small enough to parse.

What takes memory is the parsing, many times the text: so a long work is parsed in stretches of four million
characters, cut at a heading or between paragraphs. Hardly a novel is that long; what a name means in one stretch, it
means in the work. With eight million, a Chinese work of 60 MB takes 1.2 GB; with four, 0.8 GB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from understudy.errors import CorpusError
from understudy.prose import is_heading
from understudy.reading.source import MOST_TEXT, too_large
from understudy.stage_words import is_heading as is_stage_heading

STRETCH = 4_000_000
"""Characters that are parsed at a time, and of one row at most."""
SLICE = 1 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some of a work's text, where it begins in the file's, and whether its work goes on from the one before."""

    work: str
    text: str
    start: int
    goes_on: bool = False


def stretches(texts: Iterable[str], name: str, cut: bool, where: str, most: int = MOST_TEXT) -> Iterator[Stretch]:
    """The stretches of a file's text, works of at most `most` bytes of UTF-8.

    A larger file raises CorpusError, or with `cut` is cut at its headings into works `<name>.1`, `<name>.2`, ...
    """
    start = 0
    for number, (text, last) in enumerate(_works(texts, cut, where, most), start=1):
        work = name if last and number == 1 else f"{name}.{number}"
        yield from _within(text, work, start, where)
        start += len(text)


def _works(texts: Iterable[str], cut: bool, where: str, most: int) -> Iterator[tuple[str, bool]]:
    """(text of a work, whether it is the last)."""
    held: list[str] = []
    size = 0
    for piece in texts:
        for part in _sliced(piece):
            grown = utf8_size(part)
            if size + grown > most:
                if not cut:
                    raise CorpusError(f"{where}: {too_large(most)}")
                whole = "".join(held)
                held.clear()
                at = last_heading(whole, len(whole))
                if at <= 0:
                    raise CorpusError(f"{where}: {too_large(most)}: no heading in {most >> 20} MB to cut it at")
                yield whole[:at], False
                held.append(whole[at:])
                size = utf8_size(held[0])
            held.append(part)
            size += grown
    yield "".join(held), True


def limited(texts: Iterable[str], cut: bool, where: str, most: int = MOST_TEXT) -> Iterator[str]:
    """The pieces of a text as they are; CorpusError as `stretches` raises it, where they are too much."""
    for text, _ in _works(texts, cut, where, most):
        yield text


def _sliced(piece: str) -> Iterator[str]:
    if len(piece) <= SLICE:
        yield piece
        return
    for start in range(0, len(piece), SLICE):
        yield piece[start : start + SLICE]


def utf8_size(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _within(text: str, work: str, start: int, where: str) -> Iterator[Stretch]:
    at = 0
    while len(text) - at > STRETCH:
        end = _best_cut(text, at, at + STRETCH)
        if end <= at:
            raise CorpusError(f"{where}: holds a row of more than {STRETCH // 1_000_000} million characters")
        yield Stretch(work, text[at:end], start + at, at > 0)
        at = end
    yield Stretch(work, text[at:] if at else text, start + at, at > 0)


def _best_cut(text: str, at: int, end: int) -> int:
    """Before the last heading in the last quarter, else after the last empty row there, else after the last row."""
    late = at + 3 * (end - at) // 4
    heading = last_heading(text, end, late)
    if heading > late:
        return heading
    blank = max(text.rfind("\n\n", late, end), text.rfind("\r\n\r\n", late, end) + 2)
    if blank > late:
        return blank + 2
    return max(text.rfind("\n", at, end), text.rfind("\r", at, end)) + 1


def last_heading(text: str, end: int, first: int = 0) -> int:
    """Where the last row before `end` begins that is a heading; 0 where there is none behind `first`."""
    while end > first:
        begin = text.rfind("\n", first, end) + 1
        if begin <= first:
            return 0
        row = text[begin : begin + 200].split("\n", 1)[0].strip()
        if row and (row.startswith(("# ", "## ", "### ")) or is_stage_heading(row) or is_heading(row)):
            return begin
        end = begin - 1
    return 0

"""The text layer of a PDF as paragraphs: page headers and numbers gone, words put together again at line ends.

A PDF knows rows at places on a page and no paragraphs. A paragraph begins below a gap, at an indent, after a short row
that ends a sentence, or where a name with a colon opens a speech; every other row goes on with the one above it.
"""

from __future__ import annotations

import logging
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any

from understudy.errors import CorpusError
from understudy.reading.source import MOST_TEXT, Source, too_large
from understudy.wording import one_line

MOST_PAGES = 20_000
LEAST_LETTERS = 20
"""A page with fewer letters than this has no text layer worth the name."""

OFTEN = 3
"""What stands at the same edge of so many pages is a header."""


@dataclass(slots=True)
class Row:
    """A row of a page: where its first letter stands, in points, and its text."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Pages:
    """What was found in a PDF."""

    text: str
    pages: int
    without_text: int


def pdf_text(source: Source, cut: bool = False) -> Pages:
    """The text of a PDF. CorpusError where it is encrypted, damaged, cut off, or has no text layer."""
    where = source.location
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        pages = _pages(source.seekable(), where, cut)
    except CorpusError:
        raise
    except Exception as error:  # noqa: BLE001 - of a damaged file pypdf raises whatever its bytes lead to
        said = one_line(error, 160)
        raise CorpusError(f"{where}: is a damaged PDF ({type(error).__name__}: {said})") from None
    empty = sum(sum(len(row.text) for row in page) < LEAST_LETTERS for page in pages)
    if not any(row.text for page in pages for row in page):
        raise CorpusError(f"{where}: has no text layer ({len(pages)} scanned pages); run OCR on it first")
    if empty > 0.9 * len(pages) and len(pages) - empty < 5 and empty > 5:
        raise CorpusError(f"{where}: has no text layer on {empty} of {len(pages)} pages; run OCR on it first")
    return Pages("".join(paragraphs(without_headers(pages))), len(pages), empty)


def _pages(file: IO[bytes], where: str, cut: bool) -> list[list[Row]]:
    from pypdf import PdfReader

    file.seek(max(0, file.seek(0, 2) - 65536))
    if b"%%EOF" not in file.read():
        raise CorpusError(f"{where}: is a PDF that is cut off (it has no end mark); fetch it again")
    file.seek(0)
    reader = PdfReader(file, strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        raise CorpusError(f"{where}: is an encrypted PDF; save it without a password")
    count = len(reader.pages)
    if count > MOST_PAGES:
        raise CorpusError(f"{where}: has {count:,} pages; a book has {MOST_PAGES:,} at most")
    found: list[list[Row]] = []
    size = 0
    for page in reader.pages:
        found.append(_rows(page))
        size += sum(len(row.text) for row in found[-1])
        if size > MOST_TEXT * (4 if cut else 1):
            raise CorpusError(f"{where}: {too_large()}")
    return found


def _rows(page: Any) -> list[Row]:
    rows: list[Row] = []
    opened = False

    def visit(text: str, cm: Sequence[float], tm: Sequence[float], *_: object) -> None:
        nonlocal opened
        x = tm[4] * cm[0] + tm[5] * cm[2] + cm[4]
        y = tm[4] * cm[1] + tm[5] * cm[3] + cm[5]
        for number, part in enumerate(text.split("\n")):
            if number:
                opened = False
            if not part:
                continue
            if opened:
                rows[-1].text += part
            elif part.strip():
                rows.append(Row(x, y, part))
                opened = True

    page.extract_text(visitor_text=visit)
    for row in rows:
        row.text = re.sub(r"[ \t\xa0]+", " ", row.text).strip().translate(_LIGATURES)
    return [row for row in rows if row.text]


_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\0": ""})

# Headers and page numbers -------------------------------------------------------------------------------------------

_NUMBER = re.compile(
    r"[\[(—–\- ]*(?:(?:page|seite|p\.)\s*)?(?:\d{1,4}|[ivxlc]{1,7})(?:\s*(?:/|of|von)\s*\d{1,4})?[\])—–\- ]*$",
    re.IGNORECASE,
)


def without_headers(pages: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """The pages without the rows that are not part of the text: page numbers, and what stands at a page's edge.

    A running header comes again on three pages at least, at the same height and apart from the text.
    """
    step = _line_step(pages)
    edges = [_edges(page, step) for page in pages]
    seen = Counter(key for page in edges for key in {key for _, key in page})
    kept: list[list[Row]] = []
    for page, edge in zip(pages, edges, strict=True):
        drop = {id(row) for row, key in edge if seen[key] >= OFTEN or _NUMBER.match(row.text)}
        kept.append([row for row in page if id(row) not in drop])
    return kept


def _line_step(pages: Sequence[Sequence[Row]]) -> float:
    """The usual distance between two rows, in points."""
    steps = [
        round(above.y - below.y, 1)
        for page in pages[:200]
        for above, below in pairwise(page)
        if 4 < above.y - below.y < 60
    ]
    return statistics.median_low(steps) if steps else 12.0


def _edges(page: Sequence[Row], step: float) -> list[tuple[Row, tuple[str, int]]]:
    """The outermost rows of a page that stand apart from the rest, with what makes two of them the same."""
    ordered = sorted(page, key=lambda row: -row.y)
    found: list[Row] = []
    for rows in (ordered, ordered[::-1]):
        for row, inner in pairwise(rows[:3]):
            if abs(row.y - inner.y) <= 1:
                found.append(row)
                continue
            if abs(row.y - inner.y) < 1.3 * step and not _NUMBER.match(row.text):
                break
            found.append(row)
            break
    return [(row, (re.sub(r"\d+", "#", row.text.casefold()), round(row.y / 3))) for row in found]


# Paragraphs ---------------------------------------------------------------------------------------------------------

_CUE = re.compile(
    r"(?:[^\W\d_][^\W\d_.'’ -]{0,30}(?: [^\W\d_]{1,20}){0,2}(?: ?\([^()]{1,60}\))?[:：]"
    r"|[^\W\d_a-z]{2,}(?:[ '’-][^\W\d_a-z]{1,}){0,3}\.?$)"
)
_HYPHEN = re.compile(r"([^\W\d_]+)[-\u2010\u00ad]$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_HAN = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef“”‘’…—]")
_TERMINAL = '.!?…。！？"”’»」』:：)）'
_OPENS = '"“‘«„「『—–'


def paragraphs(pages: Sequence[Sequence[Row]]) -> Iterator[str]:
    """The paragraphs of the pages, an empty row between them; rows of verse or of a script keep their ends."""
    rows = [row for page in pages for row in page]
    lengths = sorted(len(row.text) for row in rows)
    full = lengths[int(0.85 * len(lengths))] if lengths else 0
    step = _line_step(pages)
    words = _words(rows)
    above: Row | None = None
    for page in pages:
        left = _left(page)
        first = True
        for row in page:
            if above is not None:
                yield _joint(above, row, left, full, step, first, words)
            ends = _HYPHEN.search(row.text)
            yield row.text[:-1] if ends else row.text
            above, first = row, False
    yield "\n"


def _left(page: Sequence[Row]) -> float:
    """The margin of a page: the leftmost place where a seventh of its rows begin; in dialogue most are indented."""
    places = Counter(round(row.x / 2) * 2 for row in page)
    return min((place for place, count in places.items() if count > 0.14 * len(page)), default=0.0)


def _words(rows: Sequence[Row]) -> frozenset[str]:
    return frozenset(word.casefold() for row in rows for word in _WORD.findall(row.text))


def _joint(above: Row, row: Row, left: float, full: int, step: float, turned: bool, words: frozenset[str]) -> str:
    """What stands between two rows: nothing, a space, a hyphen, a line end or an empty row."""
    ends = _HYPHEN.search(above.text)
    broken = bool(ends) and row.text[0].islower()
    gap = above.y - row.y
    indented = row.x > left + 5 and (above.x <= left + 5 or above.text[-1] in _TERMINAL)
    new = ""
    if not broken:
        if (not turned and (gap > 1.45 * step or gap < -1)) or (
            indented and (above.text[-1] in _TERMINAL or row.text[0] in _OPENS or not turned)
        ):
            new = "\n\n"
        elif _CUE.match(row.text) or (above.text[-1] in _TERMINAL and len(above.text) < 0.75 * full):
            new = "\n\n" if turned else "\n"
        elif len(above.text) < 0.55 * full and not (row.text[0].islower() and above.text[-1] not in _TERMINAL):
            new = "\n"
    if new:
        return ("-" if ends else "") + new
    if ends:
        if not broken:
            return "- " if not row.text[0].isalpha() else "-"
        after = _WORD.match(row.text)
        tail = after[0].casefold() if after else ""
        head = ends[1].casefold()
        whole = above.text[-1] == "-" and head + tail not in words and f"{head}-{tail}" in words
        return "-" if whole else ""
    return "" if _HAN.match(above.text[-1]) and _HAN.match(row.text[0]) and _HAN_CHAR.search(above.text) else " "


_HAN_CHAR = re.compile(r"[\u3400-\u9fff]")

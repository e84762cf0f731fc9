"""Quotes in text that a tool has cut into tokens, one sentence a row: `" Yes , " said Anna .`

Such text has lost its paragraphs, and a straight mark stands alone, so that nothing beside it tells whether it opens or
closes. A mark is read by what was open before it and by its place in the row: sentences end with closing marks and
begin with opening ones, so that a lost mark spoils no more than its own sentence. Paragraphs are made up again: a row
that opens a quote begins one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from understudy.quotes import Paragraph, Quote
from understudy.speech_words import VERBS

LONGEST = 4000
"""A quote that nothing closes within this many characters ends with its first sentence."""
_SAMPLE = 60_000
_MARK = re.compile(r"(?<!\S)(?P<mark>[“”\"‘’'`]{1,3})(?=\s|$)|(?<!\S)(?P<glued>[“\"‘])(?=\w)")
_ELISION = re.compile(r"['‘]\s(?:em|tis|twas|twere|twill|t|til|till|bout|cause|im|ere|ee|er|un|cept)\b")
_PUNCTUATION = frozenset((*".,!?;:…—–)]*_-", "--", "----", "...", "...."))
_CLOSERS = frozenset("”’")
_DASH = re.compile(r"(?:[—–―]|--)(?=\s)")


def is_tokenised(flat: str) -> bool:
    """Whether commas stand apart from the word before them."""
    sample = flat[:_SAMPLE]
    commas = sample.count(",")
    return commas > 2 and sample.count(" ,") > 0.9 * commas


@dataclass(slots=True)
class _Row:
    start: int
    end: int
    marks: list[tuple[int, int, str]]


def read_tokenised(flat: str) -> tuple[list[Paragraph], list[Quote]]:
    """The paragraphs as they may have been, and every outermost quote."""
    rows = [
        _Row(m.start(), m.end(), [(k.start(), k.end(), k.group()) for k in _MARK.finditer(flat, m.start(), m.end())])
        for m in re.finditer(r"\S[^\n]*", flat)
    ]
    dashed = [row for row in rows if _DASH.match(flat, row.start) or _LATER_DASH.search(flat, row.start, row.end)]
    doubles, singles = _pairs(flat, rows, '"“', '"”'), _pairs(flat, rows, "'‘`", "'’")
    if len(dashed) > 2 and len(dashed) > 3 * max(doubles, singles):
        spans = _dashed(flat, rows)
    else:
        spans = _Flow(flat, rows, '"“”`' if doubles >= singles else "'‘’`").spans()
    return _assembled(flat, rows, spans)


def _pairs(flat: str, rows: list[_Row], openers: str, closers: str) -> int:
    """Quotes that marks of one family may open and close; an apostrophe that stands alone does neither."""
    opened = closed = 0
    for row in rows:
        for start, end, mark in row.marks:
            before = flat[row.start : start].rstrip()[-1:]
            if mark[0] in openers and (not before or before in ",.:!?-—–\"'“‘") and end < row.end:
                opened += 1
            elif mark[0] in closers and before in ",.!?-—–\"'”’":
                closed += 1
    return min(opened, closed)


@dataclass(slots=True)
class _Span:
    outer: int
    start: int
    end: int
    outer_end: int
    closed: bool
    goes_on: bool


class _Flow:
    """One pass over the marks of one family."""

    def __init__(self, flat: str, rows: list[_Row], family: str) -> None:
        self.flat, self.rows, self.family = flat, rows, family
        self.single = "'" in family
        self.found: list[_Span] = []
        self.open: tuple[int, int, int, bool] | None = None
        """Row, start and end of the opening mark, and whether it carries a quote on."""
        self.depth = 0
        """Curly marks open within it."""
        self.stray: tuple[int, int, int, bool] | None = None
        """A mark at the end of a row that closes nothing: it may open what the next row says."""

    def spans(self) -> list[_Span]:
        """The quotes."""
        for number, row in enumerate(self.rows):
            for start, end, mark in row.marks:
                if any(char in self.family for char in mark) and not _ELISION.match(self.flat, start):
                    self._take(number, row, start, end, mark)
            if self.open and row.end - self.open[1] > LONGEST:
                self._cut(self.open[0])
        if self.open:
            self._cut(self.open[0] if len(self.rows) - self.open[0] > 30 else len(self.rows) - 1)
        return self.found

    def _take(self, number: int, row: _Row, start: int, end: int, mark: str) -> None:
        before = self.flat[row.start : start].rsplit(None, 1)[-1:]
        word = before[0] if before else ""
        begins, ends = start == row.start, end == row.end
        after = self.flat[end + 1 : end + 2]
        if self.open is None:
            self._take_closed((number, start, end, False), word, begins, ends or after.islower(), mark)
            return
        opens = any(char in "“‘`" for char in mark if char in self.family)
        if opens or (begins and not ends and not after.islower() and not set(mark) <= _CLOSERS):
            goes_on = number > self.open[0] and begins
            if opens and not begins:
                self.depth += mark[0] == "“"
                return
            self._cut(number - 1 if number > self.open[0] else number)
            self.open = (number, start, end, goes_on)
        elif mark == '"' and number > self.open[0] and word.isalnum() and after.isalnum():
            self._cut(self.open[0])
            self.open = (number, start, end, False)
        elif self.depth and mark == "”" and not ends:
            self.depth -= 1
        elif self._may_close(word, begins, end):
            self._close(start, end)

    def _take_closed(self, here: tuple[int, int, int, bool], word: str, begins: bool, closes: bool, mark: str) -> None:
        """A mark where nothing is open."""
        number, start, end, _ = here
        ends = end == self.rows[number].end
        if self.stray and number - self.stray[0] < 6 and closes and not begins and word in _PUNCTUATION:
            self.open, self.stray = self.stray, None
            self._close(start, end)
        elif self._may_open(word, begins, ends, mark):
            self.open, self.stray = here, None
        elif ends and mark in "\"'":
            self.stray = here

    def _close(self, start: int, end: int) -> None:
        if self.open:
            self.found.append(_Span(self.open[1], self.open[2], start, end, True, self.open[3]))
        self.open, self.depth = None, 0

    def _may_open(self, word: str, begins: bool, ends: bool, mark: str) -> bool:
        if set(mark) <= _CLOSERS or (mark == "'" and not (begins or word in _PUNCTUATION or word.lower() in VERBS)):
            return False
        if any(char in "“‘`" for char in mark):
            return True
        return begins or not ends or word not in _PUNCTUATION

    def _may_close(self, word: str, begins: bool, end: int) -> bool:
        if begins or not self.single or word in _PUNCTUATION or word[-1:] in ".!?,;" or self.open is None:
            return True
        follows = self.flat[end : end + 2].strip()
        return self.flat[self.open[1] - 2 : self.open[1] - 1].isalnum() or (bool(follows) and follows in ".,;:-–—)")

    def _cut(self, number: int) -> None:
        """End the open quote with a row."""
        if self.open is None:
            return
        outer, opened = self.open[1], self.open[2]
        end = max(self.rows[number].end, opened)
        self.found.append(_Span(outer, opened, end, end, False, self.open[3]))
        self.open, self.depth = None, 0


_TOLD = re.compile(
    r"\b(?:[Hh]e|[Ss]he|[Tt]hey|[Hh]is|[Hh]er|him|[Tt]heir|them|was|were|had|said|went|came|took|stood|sat|ran|began|made"
    r"|gave|saw|held|felt|put|spoke|told|bent|broke|threw|swept|drew|shook|laid|fell|rose|lay|kept|\w{2,}ed)\b"
)
_SPOKEN = re.compile(
    r"\b(?:I|you|me|my|your|we|us|our|is|are|am|do|does|has|have|will|can|ca|wo|must|let|this|now|not)\b|[’']s\s(?!\w+\s\w+ed)"
    r"|[’'](?:re|ll|ve|m)\b|n[’']t\b|[?!]\s*$",
    re.IGNORECASE,
)
_ACTS = re.compile(
    r"(?:He|She|They|[A-Z]\w+(?: [A-Z]\w+)?|The \w+)\s(?:\w+ly\s)?(?:\w+ed|said|was|were|had|went|came|took|stood|sat"
    r"|ran|began|made|gave|saw|held|felt|put|spoke|told|bent|broke)\b"
)


def _dashed(flat: str, rows: list[_Row]) -> list[_Span]:
    """Speech behind dashes: the sentences up to one that tells, and again behind a tag."""
    found: list[_Span] = []
    inside = tagged = False
    for row in rows:
        match = _DASH.match(flat, row.start) or _LATER_DASH.search(flat, row.start, row.end)
        body = flat[row.start : row.end]
        spoken, told = len(_SPOKEN.findall(body)), len(_TOLD.findall(body))
        if match and "—" not in body[2:6]:
            begin = match.end() - len(match.group().lstrip(": "))
            found += _until_tag(flat, begin, row.end)
            inside, tagged = found[-1].outer_end == row.end, found[-1].outer_end != row.end
        elif inside and body[0].islower():
            inside, tagged = False, True
        elif inside and not _ACTS.match(body) and spoken >= told:
            found[-1].end = found[-1].outer_end = row.end
        elif tagged and not _ACTS.match(body) and spoken > told:
            found.append(_Span(row.start, row.start, row.end, row.end, True, False))
            inside, tagged = True, False
        else:
            inside = tagged = False
    return found


_LATER_DASH = re.compile(r":\s(?:[—–―]|--)(?=\s)")
_TAG = re.compile(
    r"(?<=[,!?.])\s(?=(?:(?:he|she|they|I|[A-Z]\w+(?:\s[A-Z]\w+)?|the\s\w+)\s(?:\w+ly\s)?(?:"
    + "|".join(sorted(VERBS))
    + r")|(?:"
    + "|".join(sorted(VERBS))
    + r")\s(?:he|she|they|I|[A-Z]\w+|the\s\w+))\b)"
)
_BACK = re.compile(r"[.,:]\s")


def _until_tag(flat: str, begin: int, end: int) -> list[_Span]:
    """The speech from a dash on, and again behind a tag where the sentence goes on."""
    opened = begin + (2 if flat[begin] == "-" else 1)
    tag = _TAG.search(flat, opened, end)
    if tag is None:
        return [_Span(begin, opened, end, end, True, False)]
    return [_Span(begin, opened, tag.start(), tag.start(), True, False)]


def _assembled(flat: str, rows: list[_Row], spans: list[_Span]) -> tuple[list[Paragraph], list[Quote]]:
    """Paragraphs that begin where a row opens a quote or tells on behind one, and the quotes with their numbers."""
    openers, closers = {span.outer for span in spans}, {span.outer_end for span in spans}
    parts: list[Paragraph] = []
    until = -1
    i = 0
    for row in rows:
        while i < len(spans) and spans[i].outer < row.start:
            until = max(until, spans[i].outer_end)
            i += 1
        told = bool(parts) and flat[row.start].isupper() and parts[-1].end in closers
        if not parts or ((row.start in openers or told) and row.start >= until):
            parts.append(Paragraph(row.start, row.end, False))
        else:
            parts[-1] = parts[-1]._replace(end=row.end)
    found: list[Quote] = []
    number = 0
    for span in spans:
        while parts[number].end <= span.outer:
            number += 1
        start, end = span.start, span.end
        while start < end and flat[start].isspace():
            start += 1
        while end > start and flat[end - 1].isspace():
            end -= 1
        if end > start:
            found.append(Quote(start, end, span.outer, span.outer_end, number, span.closed, span.goes_on))
    return parts, found

"""Which rows of a script are cues, headings, directions, speech or front matter: decided over the whole work.

A row alone cannot say whether `Adam:` names a speaker or a sentence goes on after its colon. A work can: names come
back, they are set in one style, and most works give each speech its own row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from understudy.layout import OPENING, READERS, Cue, Row, bracketed
from understudy.stage_words import (
    is_cast_list,
    is_han,
    is_heading,
    is_name,
    is_of_book,
    is_setting,
    is_titled,
    is_upper,
)


class Mark(IntEnum):
    """What a row is."""

    BLANK = 0
    TEXT = 1
    CUE = 2
    DIRECTION = 3
    HEADING = 4
    FRONT = 5


class Reading(NamedTuple):
    """A work's rows with their marks; `cues[i]` is set where `marks[i]` is CUE."""

    layout: str
    marks: list[Mark]
    cues: list[Cue | None]
    names: Mapping[str, int]
    """How often each who speaks stands where a cue may stand, lists of characters included."""
    loose: bool
    """Speeches stand below a blank row under their cue, or go on after one."""
    square: bool
    """Square brackets belong to the words (`MARGRETH [MARIE]`), not to directions."""


_ENTRANCE = re.compile(
    r"_?(?:(?:re-?)?enter\s+(?:(?-i:[A-Z])|the\b|an?\b|two\b|three\b|other\b)"
    r"|(?:exit|exeunt|manent|manet)\b[^?!]{0,120}$|(?:flourish|alarums?)\b[^?!]{0,120}$)",
    re.IGNORECASE,
)
_ENDED = re.compile(r"[.!?…。！？”\"»)）\]】—–\-~～]$")


def read(page: Sequence[Row], layout: str, known: frozenset[str] = frozenset()) -> Reading:
    """Mark every row. `known` are names sure to be speakers, whatever their count."""
    marks, cues, names = _look(page, layout)
    for name in known & names.keys():
        names[name] += 3
    _mark_front(page, layout, marks, cues, names)
    judge = _Judge(layout, page, marks, cues, names)
    judge.settle()
    _unlist(page, marks, cues, names)
    _mark_headings(page, marks)
    _pass_dashes(page, cues)
    spoken = {cue.name for cue in cues if cue}
    square = any("[" in name for name in spoken)
    return Reading(layout, marks, cues, {name: names[name] for name in spoken}, judge.loose, square)


def _look(page: Sequence[Row], layout: str) -> tuple[list[Mark], list[Cue | None], Counter[str]]:
    reader = READERS[layout]
    verdicts: dict[str, Mark] = {}
    names: Counter[str] = Counter()
    marks: list[Mark] = []
    cues: list[Cue | None] = []
    under = False  # the row below a name that is known by now holds what it says
    for _, body in page:
        if not body:
            marks.append(Mark.BLANK)
            cues.append(None)
            under = False
            continue
        if under and body[0] not in OPENING:
            marks.append(Mark.TEXT)
            cues.append(None)
            under = False
            continue
        cue = None
        under = False
        if _is_direction(body):
            mark = Mark.HEADING if is_heading(body) else Mark.DIRECTION
        else:
            mark, cue = Mark.TEXT, reader(body)
            if cue is None:
                if is_heading(body):
                    mark = Mark.HEADING
            else:
                name = cue.name
                verdict = verdicts.get(name)
                if verdict is None:
                    verdict = verdicts[name] = _verdict(name, layout)
                if verdict is Mark.CUE and (len(names) > 2 or layout == "block" or not is_of_book(name)):
                    names[name] += 1
                    under = layout == "block" and names[name] > 2 and name.isupper()
                else:
                    mark, cue = Mark.DIRECTION if verdict is Mark.CUE else verdict, None
        marks.append(mark)
        cues.append(cue)
    return marks, cues, names


def _verdict(name: str, layout: str) -> Mark:
    """What the words of a candidate allow: a cue, a heading, the setting of a scene, or nothing but text."""
    if not name:
        return Mark.TEXT
    if is_heading(name):
        return Mark.HEADING
    if layout != "block" and is_setting(name):
        return Mark.DIRECTION
    return Mark.CUE if is_name(name) else Mark.TEXT


_UNKNOWN = re.compile(r"[\[(（【][^\w]*[\])）】][.:：]?")


def _is_direction(body: str) -> bool:
    if body[0] in "([（【〔［*_":
        return bracketed(body) and not _UNKNOWN.fullmatch(body)
    return body[0] in "△▲◎※" or (body[0] in "EeRrMFA_" and len(body) < 200 and _ENTRANCE.match(body) is not None)


class _Answers(dict[str, bool]):
    """What a question says of each name, asked once."""

    def __init__(self, question: Callable[[str], bool]) -> None:
        super().__init__()
        self.question = question

    def __missing__(self, name: str) -> bool:
        answer = self[name] = self.question(name)
        return answer


class _Judge:
    """Turns candidates into cues, or back into text, by what the whole work does."""

    def __init__(
        self, layout: str, page: Sequence[Row], marks: list[Mark], cues: list[Cue | None], names: Counter[str]
    ) -> None:
        self.layout, self.page, self.marks, self.cues, self.names = layout, page, marks, cues, names
        self.upper, self.titled = _Answers(is_upper), _Answers(is_titled)
        repeated = [(name, count) for name, count in names.items() if count > 1] or list(names.items())
        if layout == "block":
            repeated = [(name, count) for name, count in repeated if self.upper[name] or count > 2]
        total = sum(count for _, count in repeated)
        capitals = sum(count for name, count in repeated if self.upper[name])
        self.capitals = capitals > 0.7 * total if layout != "block" else capitals > 0.25 * total and capitals > 0
        self.many = names.total() > 4
        self.tight = marks.count(Mark.BLANK) < 0.1 * len(marks)
        self.loose = layout == "block" and self._is_loose()
        self.run_on = self._run_on()
        self.settled = self.run_on < 0.02 and total > 3
        """Each speech has its own row, so that whatever opens a row with a colon after it is a cue."""
        sure = (index for index, cue in enumerate(cues) if cue and self._sure(cue.name))
        self.first = next(sure, 0)

    def _sure(self, name: str) -> bool:
        return self.names[name] > 1 and (self.upper[name] if self.capitals else self.titled[name])

    def _is_loose(self) -> bool:
        """Whether most speeches of a block layout stand below a blank row."""
        above = below = 0
        for index, cue in enumerate(self.cues[:-1]):
            if cue and self._sure(cue.name):
                below += self.marks[index + 1] is Mark.BLANK
                above += 1
        return below > 0.6 * above

    def _run_on(self) -> float:
        """Rows that carry a speech on, for each row that opens one."""
        opened = carried = 0
        above = False
        for mark, cue in zip(self.marks, self.cues, strict=True):
            if cue and (self.upper[cue.name] or (not self.capitals and self.titled[cue.name])):
                opened += 1
                above = True
            elif cue is None or cue.name[0].islower() or self.layout == "block":
                above = above and mark is Mark.TEXT
                carried += above
        return carried / max(opened, 1)

    def settle(self) -> None:
        """Mark the cues; a candidate that is none becomes text again."""
        previous_cue = False
        for index, cue in enumerate(self.cues):
            if cue is None:
                previous_cue = False
                continue
            if self.layout == "block":
                spoken = self._block(index, cue, previous_cue)
            else:
                spoken = self._inline(index, cue)
            if spoken:
                self.marks[index] = Mark.CUE
            else:
                self.cues[index] = None
            previous_cue = spoken

    def _inline(self, index: int, cue: Cue) -> bool:
        name, body = cue.name, self.page[index].body
        count, upper, titled = self.names[name], self.upper[name], self.titled[name]
        if self.layout == "dot":
            return upper if self.capitals else titled and (count > 2 or (count > 1 and self.run_on < 0.5))
        if cue.speech >= len(body) and self._next(index) is Mark.BLANK and count == 1:
            return False
        if upper:
            return True
        if _UNKNOWN.fullmatch(name):
            return count > 1
        if self.settled and index > self.first:
            return not name[0].islower() or count > 2
        if count > 1:
            if titled:
                return not self.capitals or count > 3 or self.run_on < 0.1
            return count > 2 and len(name.split()) <= 2 and self.run_on < 0.5
        if not titled or (self.capitals and self.run_on > 0.02):
            return False
        if index < self.first and self._next(index) is Mark.BLANK:
            return False  # a preface, where nobody known has spoken yet
        above = self.page[index - 1].body if index else ""
        short = len(name) <= 24 and len(name.split()) <= 3
        return self.run_on < 0.05 or (short and (not above or _ENDED.search(above) is not None))

    def _block(self, index: int, cue: Cue, previous_cue: bool) -> bool:
        name = cue.name
        below = self._next(index)
        above = self.marks[index - 1] if index else Mark.BLANK
        if not self.loose and (below in (Mark.BLANK, Mark.HEADING) or below is None):
            return False
        if self.capitals:
            if not (self.upper[name] or _UNKNOWN.fullmatch(name)):
                return False
            if previous_cue and not self.loose:
                return False
            follower = self.cues[index + 1] if index + 1 < len(self.cues) else None
            if follower and self._sure(follower.name) and not self.loose:
                return False
            return self.names[name] > 1 or above is not Mark.TEXT or self.tight
        return (
            self.titled[name]
            and not previous_cue
            and (above is not Mark.TEXT or (self.tight and self.names[name] > 2))
            and (self.names[name] > 2 - is_han(name) or cue.directions_end > cue.directions or self.many)
        )

    def _next(self, index: int) -> Mark | None:
        return self.marks[index + 1] if index + 1 < len(self.marks) else None


_SAYS = re.compile(r"[:：!?！？“”\"«»„]")


def _mark_headings(page: Sequence[Row], marks: list[Mark]) -> None:
    """A short row by itself, two blank rows above it and one below, is a heading whatever its words."""
    for index, mark in enumerate(marks):
        if mark is not Mark.TEXT or len(page[index].body) > 100:
            continue
        alone = index + 1 >= len(marks) or marks[index + 1] is Mark.BLANK
        if (
            alone
            and not _SAYS.search(page[index].body)
            and all(above < 0 or marks[above] is Mark.BLANK for above in (index - 1, index - 2))
        ):
            marks[index] = Mark.HEADING


def _pass_dashes(page: Sequence[Row], cues: list[Cue | None]) -> None:
    """Where most speeches begin with a dash (`ORGON. — Oui.`), the dash belongs to the cue."""
    dashed = [
        index for index, cue in enumerate(cues) if cue and page[index].body[cue.speech : cue.speech + 1] in _DASHES
    ]
    if len(dashed) <= 0.6 * sum(cue is not None for cue in cues):
        return
    for index in dashed:
        cue, body = cues[index], page[index].body
        if cue and cue.speech < len(body):
            past = body[cue.speech :].lstrip("—–- ")
            cues[index] = cue._replace(speech=len(body) - len(past))


_DASHES = ("—", "–", "-")


_LONGEST_LIST = 400
"""Rows of a list of characters, at most."""


def _mark_front(
    page: Sequence[Row], layout: str, marks: list[Mark], cues: list[Cue | None], names: Counter[str]
) -> None:
    """Lists of characters are front matter up to the next heading, or to where the first of the listed speaks."""
    end = 0
    for index, (_, body) in enumerate(page):
        cue = cues[index]
        if index < end or not 0 < len(body) < 60 or (cue is not None and names[cue.name] > 3):
            continue
        if body[-1] not in ",;!?" and is_cast_list(body):
            end = _end_of_list(layout, marks, cues, names, index + 1)
            for row in range(index, end):
                if marks[row] is not Mark.BLANK:
                    marks[row], cues[row] = Mark.FRONT, None


def _end_of_list(layout: str, marks: list[Mark], cues: list[Cue | None], names: Counter[str], start: int) -> int:
    listed: set[str] = set()
    blank = start
    last = min(len(marks), start + _LONGEST_LIST)
    for index in range(start, last):
        mark, cue = marks[index], cues[index]
        if mark is Mark.HEADING:
            return index
        if mark is Mark.BLANK:
            blank = index
        elif cue:
            speaks = layout == "block" and blank == index - 1 and names[cue.name] > 2 and is_upper(cue.name)
            if cue.name in listed or (speaks and index + 1 < last and marks[index + 1] is not Mark.BLANK):
                return blank if blank > start else index
            listed.add(cue.name)
    return blank if listed and blank > start else start


def _unlist(page: Sequence[Row], marks: list[Mark], cues: list[Cue | None], names: Counter[str]) -> None:
    """Three names or more before the first heading, each once and again after it, are a list of characters too."""
    first = next((i for i, mark in enumerate(marks) if mark is Mark.HEADING and page[i].body[0] != "#"), 0)
    before = [cue.name for cue in cues[:first] if cue]
    if len(before) >= 3 and len(set(before)) == len(before) and all(names[name] > 1 for name in before):
        for row in range(first):
            if marks[row] is Mark.CUE:
                marks[row], cues[row] = Mark.FRONT, None

"""How scripts are set on the page: rows, headings, brackets, and the cue that names who speaks.

A *cue* is the part of a row that names the speaker (`NAME:`, `NAME (leise).`). Four layouts differ in it:

    colon   NAME (direction): speech        also full-width, `；` for `：`, **NAME:**, name and speech on two rows
    block   NAME (direction).               alone on its row, the speech in the rows below
    dot     NAME (direction). Speech        on one row
    tab     NAME<tab>speech

Every pattern here is anchored at the start of a row and bounded, so reading stays linear in the length of the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from understudy.stage_words import is_han, is_heading, is_name, is_titled, is_upper

LAYOUTS = ("colon", "block", "dot", "tab")
SAMPLE_ROWS = 150
"""Rows in each of the three stretches looked at to detect a layout; a work keeps one."""


OPENING = {"(": ")）", "（": "）)", "[": "]］", "［": "］]", "【": "】", "〔": "〕"}
"""Opening brackets, and what may close each."""


class Row(NamedTuple):
    """One row without its surrounding space; `start` is its offset in the work."""

    start: int
    body: str


class Cue(NamedTuple):
    """Offsets count from the start of the row; the directions of the cue lie in [directions, directions_end)."""

    name: str
    directions: int
    directions_end: int
    speech: int


def flatten(text: str) -> str:
    """The same number of characters, every kind of line end made a newline, marks that do not print made spaces."""
    if "\r" in text:
        text = text.replace("\r\n", " \n").replace("\r", "\n")
    return text.translate(_BREAKS) if any(mark in text for mark in _UNUSUAL) else text


_UNUSUAL = "\v\f\x85\u2028\u2029\ufeff\u200b"
_BREAKS = str.maketrans(dict.fromkeys("\v\f\x85\u2028\u2029", "\n") | dict.fromkeys("\ufeff\u200b", " "))


def rows(flat: str) -> list[Row]:
    """The rows of a flattened text, blank ones included (with an empty body).

    A bracket that opens a row and closes in one of the next rows makes them one.
    """
    found: list[Row] = []
    start, joined = 0, 0
    lines = flat.split("\n")
    for number, line in enumerate(lines):
        body = line.strip()
        if joined:
            joined -= 1
            first = found[-1].start
            found[-1] = Row(first, flat[first : start + len(line)].rstrip())
        elif not body:
            found.append(Row(start, body))
        else:
            indent = len(line) - len(line.lstrip()) if line[0] != body[0] else 0
            found.append(Row(start + indent, body))
            if ("(" in body or "（" in body or body[0] in OPENING) and _open_at_end(body):
                joined = _rows_to_close(lines, number)
        start += len(line) + 1
    return found


def _open_at_end(body: str) -> bool:
    if max(body.rfind("("), body.rfind("（")) > max(body.rfind(")"), body.rfind("）")):
        return True
    return body[0] in OPENING and not any(mark in body for mark in OPENING[body[0]])


def _rows_to_close(lines: list[str], number: int) -> int:
    """How many rows below belong to the bracket left open: none if another opens, a name speaks or it never closes."""
    for more, line in enumerate(lines[number + 1 : number + 13], start=1):
        if not line.strip():
            return 0
        match = _BRACKET.search(line)
        before = line[: match.start()] if match else line
        if ":" in before or "：" in before:
            return 0
        if match:
            return 0 if match.group() in OPENING else more
    return 0


# Brackets -------------------------------------------------------------------------------------------------------

_SAME = dict(zip("(（)）[［]］【】〔〕", "(())[[]]【】〔〕", strict=True))
_BRACKET = re.compile(r"[()（）\[\]［］【】〔〕]")
_CLOSES = {"(": ")", "[": "]", "【": "】", "〔": "〕"}


def brackets(text: str) -> list[tuple[int, int]]:
    """Outermost balanced bracket groups as (start, end); a full-width bracket may close a half-width one."""
    groups: list[tuple[int, int]] = []
    stack: list[tuple[str, int]] = []
    waiting: Counter[str] = Counter()
    for match in _BRACKET.finditer(text):
        mark = _SAME[match.group()]
        if mark in _CLOSES:
            stack.append((_CLOSES[mark], match.start()))
            waiting[_CLOSES[mark]] += 1
        elif waiting[mark]:
            closed, start = stack.pop()
            waiting[closed] -= 1
            while closed != mark:  # what was opened inside and never closed is text
                closed, start = stack.pop()
                waiting[closed] -= 1
            while groups and groups[-1][0] > start:
                groups.pop()
            groups.append((start, match.end()))
    return groups


def bracketed(body: str) -> bool:
    """Whether the whole row is one or more bracket groups and nothing else but space and marks."""
    if body[0] not in OPENING and body[0] not in "*_":
        return False
    last = body.rstrip(" .。*_")
    if not last or last[-1] not in ")）]］】〕":
        return False
    rest, at = [], 0
    for start, end in brackets(body):
        rest.append(body[at:start])
        at = end
    rest.append(body[at:])
    return at > 0 and not "".join(rest).strip(" .。,，*_-–—")


# Cues -----------------------------------------------------------------------------------------------------------

_ROUND = r"[(（][^()（）]{0,400}(?:[(（][^()（）]{0,200}[)）][^()（）]{0,400})?[)）]"
_GROUP = rf"(?:{_ROUND}|【[^】]{{0,300}}】|〔[^〕]{{0,300}}〕|\[[^\]]{{0,300}}\])"
_COLON = re.compile(
    r"(?:[>•\-]\s+)?[*_]{0,3}([^:：∶；;(（【〔\[*]{1,60}|\[[^\]]{0,40}\]|【[^】]{1,20}】)"
    rf"((?:\s*[*_]{{0,3}}{_GROUP}){{0,4}})[*_]{{0,3}}\s*([:：∶；])[*_]{{0,3}}\s*"
)
_STOPPED = r"[^:：；;!?！？。…“”\"()（）\[\]\n]{0,40}?"
_DOT = re.compile(rf"([^\W\d_]{_STOPPED}|\d{{1,2}}\. [^\W\d_]{_STOPPED})((?:\s*{_GROUP}){{0,3}})\.\s+(?=\S)")
_TAB = re.compile(r"([^\t]{1,40}?)[:：.]?[ ]?\t\s*(?=\S)")
_TAIL = re.compile(rf"([^()（）]{{1,70}}?)[.:：,]?((?:\s*{_GROUP}){{1,3}})$")


def _colon(body: str) -> Cue | None:
    match = _COLON.match(body)
    if match is None:
        return None
    name, colon, speech = match[1].strip(), match.start(3), match.end()
    if not name or (match[3] == "；" and not is_han(name)):
        return None
    if match[3] == ":" and (body.startswith("//", speech) or body[colon - 1 : colon + 2 : 2].isdigit()):
        return None  # an address, or the time of day
    return _cue(name, match.start(2), match.end(2), speech, body)


def _block(body: str) -> Cue | None:
    last = body[-1]
    if len(body) > (500 if last in ").）】〕*_" else 70) or last in '!?,;…–—-"”“«»！？，；。':
        return None
    core, at = body, 0
    if last in "*_" or body[0] in "*_":
        core = body.strip("*_ ")
        at = body.find(core)
        last = core[-1:]
    if last in ".:" and not core.endswith(".."):
        core = core[:-1]
        last = core[-1:]
    match = _TAIL.match(core) if last and last in ")）】〕" else None
    if match is None:
        return _cue(core, at + len(core), at + len(core), len(body), body) if 0 < len(core) <= 70 else None
    return _cue(match[1], at + match.start(2), at + match.end(2), len(body), body)


_SQUARE = re.compile(r"\s*\[([^\]]*)\]")
_MANNER = re.compile(
    r"aside|beiseite|exit|exeunt|enter|apart|à part|off|v\.?o\.?|o\.?s\.?|cont['’]?d?\.?", re.IGNORECASE
)
_AND = re.compile(r"(?:und|and|et|y|e|и|oder|or|ou)\b")


def _cue(name: str, directions: int, directions_end: int, speech: int, body: str) -> Cue:
    """A cue with what belongs to the name told from what is a direction.

    `LOUIS [WOYZECK]`: brackets set as the name is are part of it. `ORGON, à part`: small letters after a name in
    capitals are a direction.
    """
    name = name.strip().rstrip(".").rstrip()
    if not name.isprintable() or "  " in name:
        name = " ".join(name.split())
    if directions < directions_end and (match := _SQUARE.match(body, directions, directions_end)):
        inner = match[1]
        alike = is_upper(inner) if is_upper(name) else inner[:1].isupper() and not is_upper(inner)
        if alike and not _MANNER.fullmatch(inner.strip(" .")):
            return Cue(f"{name} {match.group().strip()}", match.end(), directions_end, speech)
    elif "," in name:
        head, _, tail = name.partition(",")
        manner = tail.strip()
        if manner[:1].islower() and len(head) > 2 and head.isupper() and not _AND.match(manner):
            at = body.find(manner)
            return Cue(head, at, max(directions_end, at + len(manner)), speech)
    return Cue(name, directions, directions_end, speech)


def _dot(body: str) -> Cue | None:
    match = _DOT.match(body) if ". " in body[:200] else None
    if match is None:
        return None
    return _cue(match[1], match.start(2), match.end(2), match.end(), body)


def _tab(body: str) -> Cue | None:
    match = _TAB.match(body) if "\t" in body else None
    return _cue(match[1], match.end(1), match.end(1), match.end(), body) if match else None


READERS: dict[str, Callable[[str], Cue | None]] = {"colon": _colon, "block": _block, "dot": _dot, "tab": _tab}


def detect(page: Sequence[Row]) -> str:
    """The layout whose cues name the same speakers again and again; `colon` where nothing speaks for another."""
    sample = _sample(page)
    clear = 0.3 * sum(map(bool, sample))  # most rows of a script are cues, or stand below one
    scores = {}
    for layout in LAYOUTS:
        reader = READERS[layout]
        names: Counter[str] = Counter()
        for index, body in enumerate(sample):
            cue = reader(body) if body else None
            if cue and (layout != "block" or _may_stand_alone(sample, index, cue.name)):
                names[cue.name] += 1
        scores[layout] = _score(layout, names)
        if scores[layout] > max(clear, 3):
            return layout
    return max(scores, key=lambda layout: scores[layout])


def _sample(page: Sequence[Row]) -> list[str]:
    """The whole page, or three stretches of it."""
    if len(page) <= 3 * SAMPLE_ROWS:
        return [row.body for row in page]
    starts = (len(page) // 20, len(page) // 2, len(page) - SAMPLE_ROWS)
    return [row.body for start in starts for row in page[start : start + SAMPLE_ROWS]]


def _may_stand_alone(sample: list[str], index: int, name: str) -> bool:
    """Whether a row by itself can be a cue: something stands below it, and it is set apart by space or capitals."""
    if not any(sample[index + 1 : index + 3]):
        return False
    return (
        index == 0
        or not sample[index - 1]
        or name.isupper()
        or (len(name) < 30 and all(sample[max(0, index - 9) : index]))
    )


def _score(layout: str, names: Counter[str]) -> float:
    """Names that come back count whole, single ones a little; names in mixed case are weak evidence without a colon."""
    score = 0.0
    for name, count in names.items():
        if layout == "block" and count == 1 and not name.isupper():
            continue
        if not is_name(name) or is_heading(name):
            continue
        if layout == "colon":
            plausible = is_upper(name) or is_titled(name) or (count >= 3 and len(name.split()) <= 2)
            score += (count if count > 1 else 0.4) * (1.0 if plausible else 0.2)
        elif is_upper(name) or layout == "tab":
            score += count if count > 1 else 0.3
        elif is_titled(name) and (count > 2 or (count > 1 and is_han(name))):
            score += 0.5 * count
    return score

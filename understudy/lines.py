"""From marked rows to lines: speeches cut where a second speaker begins, directions taken out of the words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from understudy.cues import Mark, Reading
from understudy.directions import direction_at, directions_of_cue, inner_words, join_pieces
from understudy.layout import OPENING, Cue, Row, brackets

SCENE_SPEECHES = 40
"""A work without headings is cut into scenes of this many speeches."""


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance, direction, heading or narration; offsets are code points in the decoded work."""

    line_id: str
    """`work:index`."""
    work: str
    scene: str
    """`work#n`; a scene is never split between training and test."""
    index: int
    kind: str
    """`speech`, `direction`, `heading` or `narration`."""
    speaker: str | None
    """As written in the text, without the mark that ends it."""
    persona: str | None
    text: str
    """Without directions, spaces collapsed."""
    directions: tuple[dict[str, int | str], ...]
    """`{"start", "end", "text"}` in the order of the text; one in the cue lies before `start`."""
    start: int
    end: int
    method: str
    confidence: float


_COLONS = re.compile(r"[:：∶；]")
_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_HAN_BREAK = re.compile(
    r"(?<=[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef“”…—])[^\S\n]*\n\s*(?=[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef“”…—])"
)
_BEFORE_GLUED = frozenset(".!?…。！？”\"»)）]】—～~–-’'」』")
_LEADS_IN = frozenset("对问跟和与向叫喊给告诉请是说道让把被到见找于及为替像以从在的、，,：:；;")
_SPOKEN = re.compile(
    r"[?!]|\b(?:i|my|me|you|your|we|our|us|ich|mich|mir|mein(?:e[rnms]?)?|du|dich|dir|dein(?:e[rnms]?)?|wir|uns|unser\w*|euch|euer|eure\w*"
    r"|je|j|moi|mon|ma|mes|tu|toi|ton|nous|vous|votre|vos|я|меня|мне|мы|нас|ты|тебя|вы|вас|io|mi|noi|voi|yo|nosotros)\b",
    re.IGNORECASE,
)
_AGAIN = re.compile(
    r"[\s（(【\[]*(?:续|續|cont(?:inued|['’]?d|\.)?|fortsetzung|fortgesetzt|suite)[\s.）)】\]]*$", re.IGNORECASE
)
_EXIT = re.compile(r"[\[(]\s*_?(?:exit|exeunt|enter|re-enter|aside)\b[^\[\]()\n]*$", re.IGNORECASE)
"""A direction whose bracket is never closed, as old editions print them at the end of a speech."""


class _SceneNames(dict[int, str]):
    """`work#n` of each scene, made once."""

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work

    def __missing__(self, scene: int) -> str:
        name = self[scene] = f"{self.work}#{scene}"
        return name


class Stage:
    """Walks the marked rows once and lets lines go out in the order of the text."""

    def __init__(self, flat: str, work: str, page: list[Row], reading: Reading) -> None:
        self.flat, self.work, self.page, self.reading = flat, work, page, reading
        self.out: list[Line] = []
        self.scene, self.scenes, self.spoken, self.total = 0, 0, 0, 0
        self.seen: dict[str, int] = {}
        self.scenes_named = _SceneNames(work)
        self.glue = {name for name in reading.names if len(name) <= 40}
        self.lengths = sorted({len(name) for name in self.glue}, reverse=True)
        marks = reading.marks
        first = next((i for i, mark in enumerate(marks) if mark is Mark.CUE), len(marks))
        self.headed = Mark.HEADING in marks[first:]
        self.openings = [mark for mark in OPENING if mark in flat]
        self.colons = [mark for mark in ":：∶；" if mark in flat] if reading.layout == "colon" and self.glue else []
        self.doubled = "  " in flat
        self.opened: Cue | None = None
        self.cue_row = Row(0, "")
        self.start = self.end = 0
        self.held: list[Row] = []
        self.narration: tuple[int, int] | None = None
        self.manners: set[str] = set()
        self.aside = self._brackets_are_directions()

    def _brackets_are_directions(self) -> bool:
        """False where directions stand in the cues and hardly ever within a speech: then a bracket there is spoken."""
        in_cues = alone = 0
        for row, mark, cue in zip(self.page, self.reading.marks, self.reading.cues, strict=True):
            if cue is not None:
                if cue.directions_end > cue.directions:
                    in_cues += 1
                    self.manners.add(row.body[cue.directions : cue.directions_end].casefold().strip(" .()（）*_"))
            elif mark is Mark.DIRECTION or mark is Mark.HEADING:
                alone += row.body.count("(") + row.body.count("（")
        within = self.flat.count("(") + self.flat.count("（") - in_cues - alone
        return in_cues < 10 or within > 0.15 * in_cues

    def lines(self) -> list[Line]:
        """Every line of the work, in the order of the text."""
        gap = 0
        for row, mark, cue in zip(self.page, self.reading.marks, self.reading.cues, strict=True):
            if mark is Mark.BLANK:
                gap += 1
                continue
            if self.opened is not None and self._carries_on(row, mark, gap):
                pass
            elif self.narration and mark is Mark.TEXT and gap == 0:
                self.narration = (self.narration[0], row.start + len(row.body))
            else:
                self._close()
                self._begin(row, mark, cue)
            gap = 0
        self._close()
        return self.out

    def _begin(self, row: Row, mark: Mark, cue: Cue | None) -> None:
        end = row.start + len(row.body)
        if cue is not None:
            self.opened, self.cue_row = cue, row
            self.start, self.end = row.start + cue.speech, end
        elif mark is Mark.DIRECTION:
            self._direction(row)
        elif mark is Mark.HEADING:
            self._heading(row)
        elif mark is Mark.FRONT:
            self._plain("narration", row.start, end)
        else:
            self.narration = (row.start, end)

    def _close(self) -> None:
        if self.narration:
            self._plain("narration", *self.narration)
            self.narration = None
        if self.opened is not None:
            self._speech(self.cue_row, self.opened, self.start, self.end)
            self.opened = None
        for row in self.held:
            self._direction(row)
        self.held.clear()

    def _carries_on(self, row: Row, mark: Mark, gap: int) -> bool:
        """Whether a row belongs to the open speech; a direction is held until words follow it, or none do."""
        if mark is Mark.TEXT and (gap == 0 or self._goes_on(row, gap)):
            if self.end == self.start and not self.held:
                self.start = row.start
            self.held.clear()
            self.end = row.start + len(row.body)
            return True
        if mark is Mark.DIRECTION and (gap == 0 or self.reading.loose):
            self.held.append(row)
            return True
        return False

    def _goes_on(self, row: Row, gap: int) -> bool:
        """Whether a paragraph without a cue, below blank rows, carries the speech above it on."""
        if self.reading.loose:
            return gap <= 2
        if gap > 1 or self.end <= self.start:
            return False
        return row.body[0].islower() or self.flat[self.end - 1] in ",;:，、；："

    def _emit(
        self,
        kind: str,
        speaker: str | None,
        text: str,
        directions: list[dict[str, int | str]],
        start: int,
        end: int,
        method: str,
        confidence: float,
    ) -> None:
        index = len(self.out)
        self.out.append(
            Line(
                f"{self.work}:{index}",
                self.work,
                self.scenes_named[self.scene],
                index,
                kind,
                speaker,
                None,
                text,
                tuple(directions),
                start,
                end,
                method,
                confidence,
            )
        )

    def _plain(self, kind: str, start: int, end: int) -> None:
        self._emit(kind, None, self._collapse(self.flat[start:end]), [], start, end, self.reading.layout, 0.9)

    def _direction(self, row: Row) -> None:
        end = row.start + len(row.body)
        self._emit("direction", None, inner_words(row.body), [], row.start, end, self.reading.layout, 0.95)

    def _heading(self, row: Row) -> None:
        if self.headed:
            key = _AGAIN.sub("", row.body).strip(" .。")
            if key != row.body.strip(" .。") and key in self.seen:
                self.scene = self.seen[key]
            elif self.spoken:
                self.scenes += 1
                self.scene = self.scenes
            self.spoken = 0
            self.seen[key] = self.scene
        self._emit(
            "heading",
            None,
            self._collapse(row.body.strip("#* ")),
            [],
            row.start,
            row.start + len(row.body),
            self.reading.layout,
            0.95,
        )

    def _speech(self, row: Row, cue: Cue, start: int, end: int) -> None:
        directions: list[dict[str, int | str]] = []
        if cue.directions_end > cue.directions:
            at = row.start + cue.directions
            part = self.flat[at : row.start + cue.directions_end]
            directions = directions_of_cue(at, part)
        name, method = cue.name, self.reading.layout
        confidence = 0.98 if self.reading.names[name] > 1 else 0.8
        segment = self.flat[start:end]
        for mark in self.colons:
            if mark in segment:
                break
        else:
            self._cut(name, start, end, directions, method, confidence)
            return
        base = start
        for cut in self._glued(segment):
            self._cut(name, start, base + cut.at, directions, method, confidence)
            directions = directions_of_cue(base + cut.directions, segment[cut.directions : cut.directions_end])
            name, method, confidence, start = cut.name, "glued", 0.9 if cut.sure else 0.6, base + cut.speech
        self._cut(name, start, end, directions, method, confidence)

    def _cut(
        self, name: str, start: int, end: int, directions: list[dict[str, int | str]], method: str, confidence: float
    ) -> None:
        """One speech with brackets in it: those that are directions come out of its words."""
        segment = self.flat[start:end]
        for mark in self.openings:
            if mark in segment:
                break
        else:
            self._say(name, start, end, self._collapse(segment), directions, method, confidence)
            return
        pieces: list[str] = []
        at = 0
        groups = brackets(segment)
        if match := _EXIT.search(segment, groups[-1][1] if groups else 0):
            groups.append(match.span())
        for first, last in groups:
            if self._is_direction(segment, first, last):
                directions.append(direction_at(start, (first, last), segment))
                pieces.append(segment[at:first].rstrip("*_") if segment[last : last + 1] in "*_" else segment[at:first])
                at = last
        pieces.append(segment[at:].lstrip("*_") if at and segment[at : at + 1] in "*_" else segment[at:])
        text = " ".join(join_pieces(pieces).split()) if at else self._collapse(segment)
        self._say(name, start, end, text, directions, method, confidence)

    def _is_direction(self, segment: str, first: int, last: int) -> bool:
        mark, content = segment[first], segment[first + 1 : last - 1]
        if mark in "【〔" or _HAN.search(content):
            return True
        if not any(c.isalpha() for c in content):
            return False
        if mark in "[［":
            return not self.reading.square
        if self._known(content):
            return True
        before, after = segment[max(0, first - 40) : first].rstrip()[-1:], segment[last : last + 3].lstrip()[:1]
        if not self.aside:
            return False
        if not before:
            return True
        within = before not in ".!?…–—-:" and (after.islower() or after in ",;")
        return _SPOKEN.search(content) is None and not (within and content.count(" ") > 2)

    def _known(self, content: str) -> bool:
        return content.casefold().strip(" .") in self.manners

    def _glued(self, segment: str) -> Iterator[_Glued]:
        """Where another speaker of the work begins within a speech."""
        for match in _COLONS.finditer(segment):
            colon = match.start()
            end = colon
            while end > 0 and segment[end - 1] in " \u3000*":
                end -= 1
            names_end = end
            if end and segment[end - 1] in ")）】":
                opened = max(segment.rfind(mark, max(0, end - 200), end) for mark in "(（【")
                if opened < 0:
                    continue
                names_end = opened
            head = segment[max(0, names_end - 40) : names_end].rstrip(" *")
            name = next((head[-n:] for n in self.lengths if n <= len(head) and head[-n:] in self.glue), None)
            if name is None:
                continue
            at = max(0, names_end - 40) + len(head) - len(name)
            sure = _opens(segment, at, name)
            if sure is None or (not sure and (match.group() == "；" or self.reading.names[name] < 3)):
                continue
            speech = colon + 1
            while speech < len(segment) and segment[speech].isspace():
                speech += 1
            yield _Glued(name, at, names_end, end, speech, sure)

    def _say(
        self,
        name: str,
        start: int,
        end: int,
        text: str,
        directions: list[dict[str, int | str]],
        method: str,
        confidence: float,
    ) -> None:
        while end > start and self.flat[end - 1].isspace():
            end -= 1
        if not text:
            words = " ".join(str(direction["text"]) for direction in directions)
            if words:
                self._emit("direction", name, words, directions, start, end, method, confidence)
            return
        if not self.headed and self.total and self.total % SCENE_SPEECHES == 0:
            self.scene = self.total // SCENE_SPEECHES
        self.total += 1
        self.spoken += 1
        self._emit("speech", name, text, directions, start, end, method, confidence)

    def _collapse(self, text: str) -> str:
        if not self.doubled and text.isprintable():
            return text.strip()
        if "\n" in text and _HAN.search(text):
            text = _HAN_BREAK.sub("", text)
        return " ".join(text.split())


class _Glued(NamedTuple):
    """Offsets within the speech that holds the second cue."""

    name: str
    at: int
    directions: int
    directions_end: int
    speech: int
    sure: bool


def _opens(segment: str, at: int, name: str) -> bool | None:
    """Whether a name within a speech opens another one: True after a sentence, False perhaps, None if it does not."""
    if at == 0:
        return True
    before = segment[:at].rstrip()[-2:] if segment[at - 1].isspace() else segment[max(0, at - 2) : at]
    if not before:
        return True
    if before[-1] in _BEFORE_GLUED:
        return True if _HAN.search(name) or segment[at - 1].isspace() or before[-1] in ")）】]" else None
    if not _HAN.search(name) or len(name) < 2 or not _HAN.search(before[-1]) or before[-1] in _LEADS_IN:
        return None
    return False

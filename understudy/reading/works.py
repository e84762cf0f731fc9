"""The works of a document, parsed: who says what in each, piece by piece, so that no file needs more than its share.

    for chunk in read_works(document, "emma", How(kind="auto", names={"Emma": "emma"}), where):
        chunk.lines, or chunk.reason why there are none

Offsets count in the text of the whole file: its own where it is plain text, else the chunks' texts put together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from understudy.errors import CorpusError
from understudy.lines import Line
from understudy.prose import parse as parse_prose
from understudy.prose import read_work
from understudy.reading.documents import Document
from understudy.reading.entries import Entry, Scribe
from understudy.reading.stretches import stretches
from understudy.reading.tables import TableRow
from understudy.script import speech_share

LINES_AT_ONCE = 20_000
SHOWN = 200
"""Characters that are kept of what is set aside."""


@dataclass(frozen=True, slots=True)
class How:
    """How running text is parsed; see `prose.read_work`."""

    kind: str = "auto"
    layout: str = "auto"
    names: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    silent: bool = False
    """Take a text in which nobody is found to speak as one of narration, instead of setting it aside."""


@dataclass(slots=True)
class Chunk:
    """Some of a work: its text and the lines in it, or the reason why it is set aside."""

    work: str
    text: str
    """The text that was parsed; empty for a row that holds none."""
    start: int
    """Where `text` begins in the text of the whole file."""
    kind: str = ""
    """`script` or `prose`."""
    lines: list[Line] = field(default_factory=list)
    reason: str = ""
    shown: str = ""
    """The beginning of what is set aside."""
    silent: bool = False
    """Whether nobody was found to speak in it; see `How`."""


def read_works(document: Document, name: str, how: How, where: str) -> Iterator[Chunk]:
    """The chunks of a document in the order of its text. CorpusError where the file as a whole cannot be read."""
    if document.entries is not None:
        yield from _entries(document.entries, name, document.format)
        for row in document.details.pop("rows_aside", ()):
            yield Chunk(f"{name}.{row.number}", "", 0, reason=row.reason, shown=row.text[:SHOWN])
    elif document.rows is not None:
        yield from _rows(document.rows, name, how)
    else:
        yield from _running(document.texts or (), name, how, where)


def _running(texts: Iterable[str], name: str, how: How, where: str) -> Iterator[Chunk]:
    numbers = _Numbers()
    kind: str | None = None
    for stretch in stretches(texts, name, how.cut, where):
        if not stretch.goes_on:
            numbers, kind = _Numbers(), None
        found, lines = read_work(stretch.text, stretch.work, kind or how.kind, how.layout, how.names)
        if found is None and kind is None and how.silent:
            told = numbers.moved(parse_prose(stretch.text, stretch.work, how.names), stretch.start)
            yield Chunk(stretch.work, stretch.text, stretch.start, "prose", told, silent=True)
            continue
        if found is None and kind is None:
            reason = unspoken(how.kind, speech_share(lines, len(stretch.text)))
            yield Chunk(stretch.work, stretch.text, stretch.start, reason=reason, shown=stretch.text[:SHOWN].strip())
            continue
        kind = kind or found
        yield Chunk(stretch.work, stretch.text, stretch.start, kind or "", numbers.moved(lines, stretch.start))


def _rows(rows: Iterable[TableRow], name: str, how: How) -> Iterator[Chunk]:
    start = 0
    for row in rows:
        work = f"{name}.{row.number}"
        if row.reason:
            yield Chunk(work, "", start, reason=row.reason, shown=row.text[:SHOWN])
            continue
        written = row.text if row.text.endswith("\n") else f"{row.text}\n"
        done = 0
        try:
            for chunk in _running((written,), work, how, "row"):
                chunk.lines = [_moved(line, start, 0, _scene(line)) for line in chunk.lines]
                chunk.start += start
                done += len(chunk.text)
                yield chunk
        except CorpusError as error:
            reason = str(error).removeprefix("row: ")
            yield Chunk(work, written[done:], start + done, reason=reason, shown=written[:SHOWN])
        start += len(written)


def _entries(entries: Iterable[Entry], name: str, form: str) -> Iterator[Chunk]:
    scribe = Scribe(name, form)
    texts: list[str] = []
    lines: list[Line] = []
    start = 0
    for entry in entries:
        text, line = scribe.add(entry)
        texts.append(text)
        if line is not None:
            lines.append(line)
        if len(lines) >= LINES_AT_ONCE:
            yield Chunk(name, "".join(texts), start, "script", lines)
            start, texts, lines = scribe.at, [], []
    if lines:
        yield Chunk(name, "".join(texts), start, "script", lines)


class _Numbers:
    """Carries indexes and scenes on from one stretch of a work to the next."""

    def __init__(self) -> None:
        self.index = self.scene = 0

    def moved(self, lines: list[Line], start: int) -> list[Line]:
        """The lines as of the whole file: offsets from its beginning, and of their work the next index and scene."""
        index, scene = self.index, self.scene
        last = scene
        found = lines
        if start or index or scene:
            found = []
            for line in lines:
                number = scene + _scene(line)
                last = max(last, number)
                found.append(_moved(line, start, index, number))
        elif lines:
            last = max(map(_scene, lines))
        self.index, self.scene = index + len(lines), last + 1
        return found


def _scene(line: Line) -> int:
    return int(line.scene.rpartition("#")[2])


def _moved(line: Line, start: int, index: int, scene: int) -> Line:
    directions = tuple(
        {**one, "start": int(one["start"]) + start, "end": int(one["end"]) + start} for one in line.directions
    )
    number = line.index + index
    return Line(
        f"{line.work}:{number}",
        line.work,
        f"{line.work}#{scene}",
        number,
        line.kind,
        line.speaker,
        line.persona,
        line.text,
        directions,
        line.start + start,
        line.end + start,
        line.method,
        line.confidence,
    )


def unspoken(kind: str, share: float) -> str:
    """Why nobody is found to speak in a text."""
    if kind == "prose":
        return "no quoted speech in it; give a novel with quotes, or a script (NAME: line)"
    return (
        f"no script (`NAME: line`, or `NAME.` above it): {share:.0%} of it is speech, and no prose with quotes; if it "
        "is one, say `kind: script` and its layout, or `kind: prose`, in the recipe's corpus entry"
    )

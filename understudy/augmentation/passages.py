"""Passages: a work's rows as text again, for a model to read, and as plain text for continued pretraining.

A passage lies within one scene. What a model reads names every speaker (`BRAM: Ahoy!`), also in prose, where the tag
that says so was taken out of the line; the plain text has quotation marks there instead, and the cues of a script.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from understudy.conversation import Row, Scene
from understudy.letters import letters

_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_PROSE = frozenset(("verb", "beat", "pronoun", "alternation", "open", "llm", "model", "vocative"))
"""Methods by which speakers of prose are known."""


@dataclass(frozen=True)
class Passage:
    """Some rows of one scene in a row."""

    work: str
    scene: str
    number: int
    """Of the passages of its scene, from 0."""
    rows: tuple[Row, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """line_id of every row."""
        return tuple(row["line_id"] for row in self.rows)

    def script(self) -> str:
        """As a model reads it: a row a line, every speech with its speaker."""
        return "\n".join(script_row(row) for row in self.rows)

    def plain(self) -> str:
        """As a reader of the work sees it, as far as rows can tell."""
        return "".join(_joined(self.rows)).strip()


def passages(scenes: Iterable[Scene], chars: int) -> list[Passage]:
    """Whole rows in pieces of about `chars` characters, never across scenes; a longer row is a passage of its own."""
    found: list[Passage] = []
    for scene in scenes:
        current: list[Row] = []
        size = number = 0
        for row in scene.rows:
            if not row["text"].strip():
                continue
            length = len(row["text"])
            if current and size + length > chars and not (_glued(current[-1], row) and size < 2 * chars):
                found.append(Passage(scene.work, scene.name, number, tuple(current)))
                number, size, current = number + 1, 0, []
            current.append(row)
            size += length
        if current:
            found.append(Passage(scene.work, scene.name, number, tuple(current)))
    return found


def script_row(row: Row) -> str:
    """One row as a model reads it."""
    text = row["text"].strip()
    if row["kind"] == "speech":
        return f"{row['speaker'] or '?'}: {text}"
    return f"({text})" if row["kind"] == "direction" else text


def quoted_lines(quote: str, rows: Sequence[Row]) -> tuple[str, ...] | None:
    """line_id of the rows in which `quote` stands, letter by letter; None where it does not.

    Case, blanks and punctuation do not matter: models straighten quotation marks. Speakers' names may be part of it.
    """
    wanted = letters(quote)
    if not wanted:
        return None
    parts = [letters(script_row(row)) for row in rows]
    at = "".join(parts).find(wanted)
    if at < 0:
        return None
    found, start = [], 0
    for row, part in zip(rows, parts, strict=True):
        if start < at + len(wanted) and start + len(part) > at:
            found.append(row["line_id"])
        start += len(part)
    return tuple(found)


def _joined(rows: Sequence[Row]) -> Iterator[str]:
    before: Row | None = None
    for row in rows:
        text = _plain_row(row)
        if before is not None:
            yield _between(before, row, text)
        yield text
        before = row


def _plain_row(row: Row) -> str:
    if row["kind"] == "speech":
        if row.get("method") in _PROSE:
            return _told(row)
        colon = "：" if _HAN.search(row["text"]) else ": "
        return f"{row['speaker']}{colon}{row['text'].strip()}" if row["speaker"] else row["text"].strip()
    text = row["text"].strip()
    if row["kind"] == "direction":
        return f"（{text}）" if _HAN.search(text) else f"({text})"
    return text


def _told(row: Row) -> str:
    """A speech of prose in marks, with the tag that parts it where it stood."""
    text, at = row["text"].strip(), 0
    pieces: list[str] = []
    tags: list[str] = []
    for direction in row.get("directions") or ():
        # The tag's place counts from the speech's start, marks included; the words lie as close together as the text.
        cut = _word_end(text, int(direction["start"]) - row["start"] - sum(len(tag) + 2 for tag in tags))
        if at < cut < len(text):
            pieces.append(text[at:cut].strip())
            tags.append(str(direction["text"]).strip())
            at = cut
    pieces.append(text[at:].strip())
    out = f"“{pieces[0]}”"
    for tag, piece in zip(tags, pieces[1:], strict=True):
        comma = "," if piece[:1].islower() and tag[-1:].isalpha() else ""
        out += f"{tag}“{piece}”" if _HAN.search(piece) else f" {tag}{comma} “{piece}”"
    return out


def _word_end(text: str, near: int) -> int:
    """The blank, or the mark of a Chinese sentence, nearest to a place; that place itself where there is none."""
    near = max(0, min(len(text), near))
    for distance in range(12):
        for place in (near - distance, near + distance):
            if 0 < place < len(text) and (text[place].isspace() or text[place - 1] in "，。！？；：、…"):
                return place
    return near


def _between(before: Row, row: Row, text: str) -> str:
    if before["kind"] == "heading" or row["kind"] == "heading":
        return "\n\n"
    if _glued(before, row):
        return "" if _HAN.match(text.lstrip("“")) else " "
    return "\n"


def _glued(before: Row, row: Row) -> bool:
    """Whether two rows of prose stand in one paragraph: words and the tag or the beat around them."""
    prose = {before["kind"], row["kind"]} <= {"speech", "narration"} and "start" in row
    return (
        prose and not {before.get("method"), row.get("method")}.isdisjoint(_PROSE) and row["start"] - before["end"] <= 2
    )

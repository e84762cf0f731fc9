"""What a format that knows who speaks says, entry by entry, and how it is written down as a text with lines.

    scribe = Scribe("emma", "tei")
    for entry in entries:
        text, line = scribe.add(entry)          # text grows `text.txt`; the line's offsets count in it

A speech is a row `NAME: words (direction) words`; a heading `# Act I`; a direction `(She goes.)`.
"""

from __future__ import annotations

from dataclasses import dataclass

from understudy.lines import SCENE_SPEECHES, Line


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a format says."""

    kind: str
    """`speech`, `direction`, `heading` or `narration`."""
    pieces: tuple[tuple[str, bool], ...]
    """(words, whether they are a direction), in order."""
    speaker: str | None = None
    confidence: float = 0.99


class Scribe:
    """Writes entries as text and lines of one work; offsets count from the first text that it wrote."""

    def __init__(self, work: str, method: str) -> None:
        self.work, self.method = work, method
        self.at = self.index = 0
        self.scene = self.spoken = self.total = 0
        self.headed = False

    def add(self, entry: Entry) -> tuple[str, Line | None]:
        """(text, line); no line where an entry holds no words."""
        pieces = [(" ".join(words.split()), direction) for words, direction in entry.pieces]
        pieces = [(words, direction) for words, direction in pieces if words]
        if not pieces:
            return "", None
        if entry.kind == "speech" and all(direction for _, direction in pieces):
            return self._shown(pieces, entry, "direction")
        if entry.kind == "speech":
            return self._speech(pieces, entry)
        return self._shown(pieces, entry, entry.kind)

    def _shown(self, pieces: list[tuple[str, bool]], entry: Entry, kind: str) -> tuple[str, Line]:
        words = " ".join(words for words, _ in pieces)
        if kind == "heading":
            if self.spoken:
                self.scene += 1
            self.spoken, self.headed = 0, True
        written = f"# {words}" if kind == "heading" else f"({words})" if kind == "direction" else words
        line = self._line(kind, entry, words, (), self.at, self.at + len(written))
        return self._advance(f"{written}\n\n"), line

    def _speech(self, pieces: list[tuple[str, bool]], entry: Entry) -> tuple[str, Line]:
        if not self.headed and self.total and self.total % SCENE_SPEECHES == 0:
            self.scene = self.total // SCENE_SPEECHES
        self.total += 1
        self.spoken += 1
        written = f"{entry.speaker}: " if entry.speaker else ""
        start = self.at + len(written)
        directions: list[dict[str, int | str]] = []
        for number, (words, direction) in enumerate(pieces):
            if number:
                written += " "
            if direction:
                at = self.at + len(written)
                directions.append({"start": at, "end": at + len(words) + 2, "text": words})
                written += f"({words})"
            else:
                written += words
        text = " ".join(words for words, direction in pieces if not direction)
        line = self._line("speech", entry, text, tuple(directions), start, self.at + len(written))
        return self._advance(f"{written}\n\n"), line

    def _line(
        self,
        kind: str,
        entry: Entry,
        text: str,
        directions: tuple[dict[str, int | str], ...],
        start: int,
        end: int,
    ) -> Line:
        index = self.index
        self.index += 1
        scene = f"{self.work}#{self.scene}"
        identity = f"{self.work}:{index}"
        speaker = entry.speaker
        sure = entry.confidence
        return Line(
            identity, self.work, scene, index, kind, speaker, None, text, directions, start, end, self.method, sure
        )

    def _advance(self, written: str) -> str:
        self.at += len(written)
        return written

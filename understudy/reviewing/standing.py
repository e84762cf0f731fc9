"""How the rows of tables stand under an overlay: what was decided about each, and what applies to nothing.

standing = Standing(tables, samples_tables)
standing.under(overlay)             # afterwards: standing.lines, standing.samples, standing.stale, standing.lost
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from understudy import overlay
from understudy.conversation import Conversation
from understudy.dataset import conversation_of
from understudy.overlay import Decision, Overlay
from understudy.reviewing.lists import compute, place_of

if TYPE_CHECKING:
    import pyarrow as pa


class Standing:
    """Tables of lines and of conversations, with the decisions of an overlay on top."""

    def __init__(self, tables: Sequence[pa.Table], samples_tables: Sequence[pa.Table]):
        self.tables, self.samples_tables = tables, samples_tables
        self.overlay = Overlay()
        self.lines: dict[str, str] = {}
        """What was decided, by line_id."""
        self.samples: dict[str, str] = {}
        """What was decided, by conversation_id."""
        self.stale = 0
        """Decisions that apply to nothing."""
        self.lost: dict[str, int] = {}
        """Decisions in works that are not there, by work."""

    def under(self, decided: Overlay) -> None:
        """Look at everything anew, with these decisions on top."""
        self.overlay = decided
        self.lines, self.samples = self._statuses()

    def _statuses(self) -> tuple[dict[str, str], dict[str, str]]:
        """What was decided, by line_id and by conversation_id; also counts what applies to nothing."""
        lines: dict[str, str] = {}
        self.stale = 0
        for table in self.tables:
            works = self.overlay.works & set(table["work"].unique().to_pylist())
            if works:
                rows = [row for row in table.to_pylist() if row["work"] in works]
                after, stale = self.overlay.apply_to_lines(rows)
                self.stale += len(stale)
                left = {row["line_id"]: row for row in after}
                for row in rows:
                    if status := _line_status(row, left.get(row["line_id"])):
                        lines[row["line_id"]] = status
        works = {work for table in self.tables for work in table["work"].unique().to_pylist()}
        self.lost = self.overlay.lost_works(works)
        samples: dict[str, str] = {}
        met: set[tuple[str, str]] = set()
        people = self.overlay.personas()
        for number, table in enumerate(self.samples_tables if people else ()):
            own = [self.conversation(number, row) for row in range(table.num_rows)]
            own = [one for one in own if one.persona in people]
            decided, _ = self.overlay.apply_to_conversations(own)
            for one, (_, status) in zip(own, decided, strict=True):
                if status:
                    samples[one.conversation_id] = status
                    met.add((one.persona, overlay.said_digest(one)))
        self.stale += len(self.overlay.conversations - met)
        return lines, samples

    def restate(self, kind: str, place: str) -> None:
        """The status of one row after a decision about it; a whole work takes too long to look at."""
        if kind == "lines":
            number, row = place_of(place, self.tables)
            window, position = self.window(number, row, 1)
            line_id = window[position]["line_id"]
            status = _line_status(window[position], self.decided_line(number, window, position))
            _put(self.lines, line_id, status)
        else:
            one = self.conversation(*place_of(place, self.samples_tables))
            _put(self.samples, one.conversation_id, self.overlay.apply_to_conversations([one])[0][0][1])

    def decided_line(self, number: int, window: Sequence[Mapping[str, Any]], position: int) -> dict[str, Any] | None:
        """A row with its decisions, or None where it was dropped."""
        here = window[position]
        digest = overlay.text_digest(str(here["text"] or ""))
        same = [one for one in self.overlay.decisions if one.work == here["work"] and one.digest == digest]
        # Seen through a window, a decision about the same words elsewhere in the work would be taken for this row's.
        own = [one for one in same if not self._stands_elsewhere(number, one, here)]
        after, _ = Overlay(tuple(own)).apply_to_lines([dict(row) for row in window])
        return next((row for row in after if row["line_id"] == here["line_id"]), None)

    def _stands_elsewhere(self, number: int, one: Decision, here: Mapping[str, Any]) -> bool:
        if (one.start, one.end) == (here["start"], here["end"]):
            return False
        table = self.tables[number]
        at = zip(("work", "start", "end"), (one.work, one.start, one.end), strict=True)
        for name, value in at:
            table = table.filter(compute().equal(table[name], value))
        return any(overlay.text_digest(str(text or "")) == one.digest for text in table["text"].to_pylist())

    def window(self, number: int, row: int, around: int) -> tuple[list[dict[str, Any]], int]:
        """Rows of the same work around a row, and where it is among them."""
        start = max(0, row - around)
        rows = self.tables[number].slice(start, row - start + around + 1).to_pylist()
        here = rows[row - start]
        kept = [one for one in rows if one["work"] == here["work"]]
        return kept, kept.index(here)

    def conversation(self, number: int, row: int) -> Conversation:
        """A row of a table of conversations, as it came."""
        return conversation_of(self.samples_tables[number].slice(row, 1).to_pylist()[0])


def _line_status(before: Mapping[str, Any], after: Mapping[str, Any] | None) -> str:
    if after is None:
        return "drop"
    status = str(after.get("review") or "")
    if status == "edit" and after["text"] == before["text"]:
        return "fix"
    return status


def _put(statuses: dict[str, str], name: str, status: str) -> None:
    if status:
        statuses[name] = status
    else:
        statuses.pop(name, None)

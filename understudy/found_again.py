"""Where a line that somebody decided on stands now, after its text was read again."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from understudy.overlay import Decision

LONG_ENOUGH = 12
"""A moved line without a known neighbour is taken for the same only when it has so many letters and occurs once."""


def text_digest(text: str) -> str:
    """16 hex digits over the words of a line."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Places:
    """Finds the line that a decision is about among the rows of its work."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]):
        self.digests = [text_digest(str(row["text"] or "")) for row in rows]
        self.rows = [(int(row.get("start") or 0), int(row.get("end") or 0)) for row in rows]
        self.by_digest: dict[str, list[int]] = {}
        for position, digest in enumerate(self.digests):
            self.by_digest.setdefault(digest, []).append(position)
        self.letters = [sum(map(str.isalnum, str(row["text"] or ""))) for row in rows]

    def of_all(self, decisions: Sequence[Decision]) -> list[int | str]:
        """`of` each; where two claim one line, it is that which stands where it stood, else neither."""
        places = [self.of(one) for one in decisions]
        claims = Counter(places)
        return [
            place
            if isinstance(place, str) or claims[place] == 1 or self.rows[place] == (one.start, one.end)
            else "ambiguous"
            for one, place in zip(decisions, places, strict=True)
        ]

    def of(self, one: Decision) -> int | str:
        """The row's position, or why there is none."""
        same = self.by_digest.get(one.digest, [])
        for position in same:
            if self.rows[position] == (one.start, one.end):
                return position
        if not same:
            meets = any(start < one.end and end > one.start for start, end in self.rows)
            return "changed" if meets else "gone"
        scores = {position: self._known_neighbours(position, one) for position in same}
        best = max(scores.values())
        likely = [position for position in same if scores[position] == best]
        if len(likely) > 1:
            return "ambiguous"
        sure = best > 0 or (len(same) == 1 and self.letters[likely[0]] >= LONG_ENOUGH)
        return likely[0] if sure else "ambiguous"

    def _known_neighbours(self, position: int, one: Decision) -> int:
        around = (self.digests[position - 1] if position else "", (*self.digests, "")[position + 1])
        return sum(bool(was) and was == now for was, now in zip((one.before, one.after), around, strict=True))

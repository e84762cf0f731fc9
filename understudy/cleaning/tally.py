"""What cleaning did: every dropped row with its reason, how many by reason, and a few examples of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.cleaning.config import Source
from understudy.conversation import Conversation

EXAMPLES = 5
EXAMPLE_CHARS = 200


@dataclass
class Tally:
    """Collects, in the order of the rules, what they drop and mend."""

    persona: str
    dropped: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the dropped table."""
    mended: Counter[str] = field(default_factory=Counter)
    by_source: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def add(self, source: Source, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of the dropped table that somebody else made."""
        for row in rows:
            self.dropped.append({"source": source, "conversation": None, **row})
            self._count(source, row["reason"], str(row["text"] or ""))

    def drop(self, source: Source, one: Conversation, reason: str, text: str | None = None, note: str = "") -> None:
        """A conversation, or of it the one answer `text`, is not to be learned; `note`: what gave it away."""
        said = "\n".join(m.content for m in one.messages if m.loss) if text is None else text
        self.dropped.append(
            {
                "persona": self.persona,
                "work": one.provenance.work,
                "scene": one.scene,
                "lines": list(one.provenance.lines),
                "text": said,
                "reason": reason,
                "source": source,
                "conversation": one.conversation_id,
            }
        )
        self._count(source, reason, said, note)

    def malformed(self, source: Source, unit: str, row: Any, reason: str) -> None:
        """A row that is no conversation or no line."""
        self.dropped.append(
            {
                "persona": self.persona,
                "work": unit,
                "scene": None,
                "lines": [],
                "text": _written(row),
                "reason": "malformed",
                "source": source,
                "conversation": None,
            }
        )
        self._count(source, "malformed", _written(row), reason)

    def mend(self, source: Source, reason: str, before: str, after: str) -> None:
        """An answer was put right."""
        self.mended[reason] += 1
        self.by_source.setdefault(source, Counter())["mended"] += 1
        self._example(f"mended: {reason}", before, after)

    def _count(self, source: Source, reason: str, text: str, note: str = "") -> None:
        self.by_source.setdefault(source, Counter())["dropped"] += 1
        self._example(reason, text, note)

    def _example(self, reason: str, text: str, note: str) -> None:
        kept = self.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES:
            shown = {"text": text[:EXAMPLE_CHARS], **({"note": note[:EXAMPLE_CHARS]} if note else {})}
            kept.append(shown)

    @property
    def reasons(self) -> Counter[str]:
        """Dropped rows by reason."""
        return Counter(row["reason"] for row in self.dropped)


def _written(row: Any) -> str:
    """A malformed row as text that can be stored."""
    return ascii(row)[: 4 * EXAMPLE_CHARS]

"""What `understudy run --plan` says: a line for each stage, and what they come to together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SUMMED = ("skipped", "todo", "calls", "cached", "tokens_in", "tokens_out", "money", "seconds", "disk_bytes")
WHOLE = ("rows", "calls", "cached", "tokens_in", "tokens_out", "disk_bytes")
WIDTHS = {"skipped": 7, "to do": 6, "rows": 9, "calls": 8, "tokens": 11, "money": 9, "time": 8, "disk": 8}


@dataclass
class Stage:
    """What one stage would do."""

    stage: str
    skipped: int = 0
    """Units that are up to date."""
    why: str = ""
    """Why units are skipped, or the stage as a whole."""
    todo: int = 0
    """Units that would be made."""
    rows: float = 0
    """That would be made: lines, accepted conversations, conversations, training conversations, scores or personas."""
    calls: float = 0
    """New model calls; those that the journal answers are `cached`."""
    cached: float = 0
    tokens_in: float = 0
    tokens_out: float = 0
    money: float = 0
    seconds: float = 0
    seconds_by: str = ""
    disk_bytes: float = 0
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """JSON values; counts are whole numbers."""
        found = {name: round(value) if name in WHOLE else value for name, value in asdict(self).items()}
        return {**found, "money": round(self.money, 4), "seconds": round(self.seconds, 1)}


@dataclass(frozen=True)
class Plan:
    """The whole plan."""

    recipe: str
    sample: Mapping[str, Any]
    """How much of the texts was read for it."""
    stages: Sequence[Stage]

    @property
    def total(self) -> Stage:
        """All stages together; rows of different kinds are not added."""
        total = Stage("total")
        for stage in self.stages:
            for name in SUMMED:
                setattr(total, name, getattr(total, name) + getattr(stage, name))
        return total

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        stages = [stage.as_json() for stage in self.stages]
        return {"recipe": self.recipe, "sample": dict(self.sample), "stages": stages, "total": self.total.as_json()}

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield " ".join([f"{'stage':<9}", *(name.rjust(width) for name, width in WIDTHS.items())])
        for stage in (*self.stages, self.total):
            cells = (
                f"{stage.skipped:,}",
                f"{stage.todo:,}",
                "" if stage.stage == "total" else f"{stage.rows:,.0f}",
                f"{stage.calls:,.0f}",
                f"{stage.tokens_in + stage.tokens_out:,.0f}",
                f"{stage.money:,.2f}",
                _time(stage.seconds),
                _size(stage.disk_bytes),
            )
            row = (cell.rjust(width) for cell, width in zip(cells, WIDTHS.values(), strict=True))
            yield " ".join([f"{stage.stage:<9}", *row])
        for stage in self.stages:
            yield from (f"{stage.stage}: {note}" for note in _notes(stage))


def _notes(stage: Stage) -> Iterator[str]:
    if stage.skipped:
        yield f"{stage.skipped:,} up to date, skipped ({stage.why})"
    elif stage.why:
        yield stage.why
    if round(stage.cached):
        yield f"{stage.cached:,.0f} more calls are answered in the journal and cost nothing"
    if stage.todo and stage.seconds_by:
        yield f"time {stage.seconds_by}"
    yield from stage.notes


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _size(size_bytes: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"

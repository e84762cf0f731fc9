"""Which recipients and occasions go together: a table by hand, ratings by a model, and what follows from both.

    given = read_table(step, files)         # by hand: YAML or CSV, or in the recipe
    grid = merged(step, given, notes)       # ratings fill what it does not hold
    grid.suits(recipient, occasion)

Scores go from 1 (nobody would) to 5 (natural). A cell of the table wins over a rating; a pair without either is made.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.augmentation.job import Note
from understudy.augmentation.steps import MatrixStep
from understudy.errors import InputError

HAND, MODEL, NOBODY = "hand", "model", ""
_WORDS = {"yes": 5, "true": 5, "是": 5, "√": 5, "no": 1, "false": 1, "否": 1, "x": 1, "×": 1}
Table = dict[tuple[str, str], int]


@dataclass(frozen=True)
class Grid:
    """Scores by recipient and occasion, with where they come from."""

    recipients: tuple[str, ...]
    occasions: tuple[str, ...]
    scores: Mapping[tuple[str, str], int]
    sources: Mapping[tuple[str, str], str]
    """`hand` or `model`; a pair that is not in it has no score."""
    least: int

    def suits(self, recipient: str, occasion: str) -> bool:
        """Whether the pair is made; one without a score is."""
        return self.scores.get((recipient, occasion), self.least) >= self.least

    def counts(self) -> dict[str, int]:
        """Pairs in all, made, left out, given by hand, rated, and without a score."""
        pairs = [(recipient, occasion) for recipient in self.recipients for occasion in self.occasions]
        sources = [self.sources.get(pair, NOBODY) for pair in pairs]
        made = sum(self.suits(*pair) for pair in pairs)
        return {
            "pairs": len(pairs),
            "made": made,
            "unsuitable": len(pairs) - made,
            "by_hand": sources.count(HAND),
            "rated": sources.count(MODEL),
            "open": sources.count(NOBODY),
        }

    def as_json(self) -> dict[str, Any]:
        """What `suitability.json` holds: axes, scores (null: none), sources, least, counts."""
        rows = [[self.scores.get((r, o)) for o in self.occasions] for r in self.recipients]
        sources = [[self.sources.get((r, o), NOBODY) for o in self.occasions] for r in self.recipients]
        return {
            "recipients": list(self.recipients),
            "occasions": list(self.occasions),
            "scores": rows,
            "sources": sources,
            "least": self.least,
            "counts": self.counts(),
        }

    def as_csv(self) -> bytes:
        """A table to correct and give back as `suitability.table`; a byte order mark for spreadsheets."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["", *self.occasions])
        for recipient in self.recipients:
            writer.writerow([recipient, *(self.scores.get((recipient, o), "") for o in self.occasions)])
        return out.getvalue().encode("utf-8-sig")


def read_table(step: MatrixStep, files: Mapping[str, bytes]) -> Table:
    """The scores that a person gave; InputError names a cell that is no score, or a name that is on no axis."""
    table = step.suitability.table
    where = f"augment.{step.name}.suitability"
    if table is None:
        return {}
    if isinstance(table, str):
        where = table
        table = _parsed(files[table], table)
    recipients, occasions = _names(step)
    found: Table = {}
    for recipient, row in table.items():
        _known(recipient, recipients, "recipient", where)
        for occasion, value in row.items():
            _known(occasion, occasions, "occasion", where)
            score = _score(value, f"{where}: {recipient}, {occasion}")
            if score is not None:
                found[recipient, occasion] = score
    return found


def merged(step: MatrixStep, given: Table, notes: Iterable[Note]) -> Grid:
    """The table by hand over the ratings in `notes` (`{"recipient": name, "scores": {occasion: 1..5}}`)."""
    recipients, occasions = _names(step)
    scores: Table = {}
    for note in notes:
        recipient = note.value["recipient"]
        scores.update({(recipient, occasion): score for occasion, score in note.value["scores"].items()})
    sources = {**dict.fromkeys(scores, MODEL), **dict.fromkeys(given, HAND)}
    return Grid(recipients, occasions, {**scores, **given}, sources, step.suitability.least)


def unrated(step: MatrixStep, given: Table) -> dict[str, list[str]]:
    """The occasions, by recipient, of which the table says nothing."""
    recipients, occasions = _names(step)
    found = {r: [o for o in occasions if (r, o) not in given] for r in recipients}
    return {recipient: missing for recipient, missing in found.items() if missing}


def _names(step: MatrixStep) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(one.name for one in step.recipients), tuple(one.name for one in step.occasions)


def _parsed(raw: bytes, where: str) -> dict[str, dict[str, Any]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{where}: is not UTF-8 text; save it as UTF-8") from None
    if where.lower().endswith((".yaml", ".yml", ".json")):
        from understudy.recipe_yaml import parse_yaml

        value = parse_yaml(text, where)
        if not isinstance(value, dict) or not all(isinstance(row, dict) for row in value.values()):
            raise InputError(f"{where}: must hold scores by recipient and occasion, such as `Mother: {{birthday: 5}}`")
        return value
    dialect = "\t" if where.lower().endswith(".tsv") else ","
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=dialect) if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise InputError(f"{where}: must have a row of occasions, and a row for each recipient")
    occasions = [cell.strip() for cell in rows[0][1:]]
    found: dict[str, dict[str, Any]] = {}
    for row in rows[1:]:
        cells = [cell.strip() for cell in row[1:]]
        if len(cells) > len(occasions):
            raise InputError(f"{where}: row {row[0]!r} has {len(cells)} cells under {len(occasions)} occasions")
        found[row[0].strip()] = {o: c for o, c in zip(occasions, cells, strict=False) if o and c}
    return found


def _known(name: str, names: Sequence[str], what: str, where: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(str(name), names, 1, 0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names[:8])}"
        raise InputError(f"{where}: {name!r} is no {what} of the step; {hint}")


def _score(value: Any, where: str) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return 5 if value else 1
    number = _WORDS.get(str(value).strip().lower())
    if number is None and str(value).strip().isdecimal():
        number = int(str(value))
    if number is None or not 1 <= number <= 5:
        raise InputError(f"{where}: {value!r} is no score; give 1 (nobody would) to 5 (natural), yes, no, or nothing")
    return number

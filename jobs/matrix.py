"""The evaluation matrix: whose lines become likelier under whose adapter, and how sure that is.

A cell holds, for each held-out conversation of its row's persona, the negative log-likelihood (nats) that its column
gives to the persona's tokens, and how many these are. Columns are the bare base, the base with the persona's system
text, and adapters with that same text. A value is nats per token over the whole row: lower is likelier.

Intervals are 95 % percentile intervals of a bootstrap over conversations, with the same draws for every column of a
row, so that differences within a row are paired. Draws depend on the seed and the row's name alone: another persona in
the cast changes none of them. Column-centred values (less the column's mean over all rows that have it) take away that
one adapter may be good at everything: what is left is for whom it is better than for others.

NumPy only; the picture is in jobs/picture.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

BASE, PROMPTED = "(base)", "(prompted)"
"""Column names that no persona can have."""
_CHUNK = 2_000


@dataclass(frozen=True)
class Cell:
    """One column's score of one persona's held-out conversations, in the order of their ids."""

    conversations: tuple[str, ...]
    nll: tuple[float, ...]
    """Summed over the persona's tokens of each conversation, in nats."""
    tokens: tuple[int, ...]

    @property
    def value(self) -> float:
        """Nats per token over all conversations."""
        return float(sum(self.nll) / max(1, sum(self.tokens)))


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; with a single conversation there is no interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Verdict:
    """What a row says of its persona."""

    persona: str
    conversations: int
    tokens: int
    base: float
    prompted: float
    own: float
    gain: Estimate
    """Prompted base less own adapter, paired, in nats per token: above zero the adapter is better."""
    beats_prompted: bool
    """The whole interval of `gain` is above zero."""
    best: str
    """The adapter with the lowest value in the row."""
    own_best: bool
    """The own adapter is that one, and below base and prompted base."""

    @property
    def prompt_only(self) -> bool:
        """Whether the persona is better offered as its card on the base alone."""
        return not self.beats_prompted

    @property
    def text(self) -> str:
        """One line for a person."""
        gain = _interval(self.gain)
        if self.beats_prompted:
            said = f"beats the prompted base by {gain} nats per token"
        else:
            worse = "is worse than" if self.gain.value < 0 else "is not clearly better than"
            unsure = " (one held-out conversation is too few to tell)" if self.gain.low is None else ""
            said = (
                f"does not beat the prompted base: it {worse} it, {gain} nats per token{unsure}; prompt-only is offered"
            )
        other = "" if self.best == self.persona else f"; the adapter of {self.best} is better on these lines"
        return f"{self.persona}: the adapter {said}{other}"


@dataclass(frozen=True)
class Matrix:
    """All rows and columns; cells that were not asked for are missing."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    raw: dict[str, dict[str, Estimate]]
    """By row and column."""
    centred: dict[str, dict[str, Estimate]]
    verdicts: dict[str, Verdict]

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "unit": "nats per token of the persona, lower is likelier",
            "rows": list(self.rows),
            "columns": list(self.columns),
            "raw": _plain(self.raw),
            "centred": _plain(self.centred),
            "verdicts": {name: verdict_json(verdict) for name, verdict in self.verdicts.items()},
        }


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON values, with its line of text."""
    return {**asdict(verdict), "prompt_only": verdict.prompt_only, "text": verdict.text}


def measure(cells: Mapping[str, Mapping[str, Cell]], bootstrap: int = 1000, seed: int = 0) -> Matrix:
    """The matrix of cells by row and column; a row is a persona and must have its own, BASE and PROMPTED columns.

    `bootstrap` is the number of resamples. Raises ValueError when the cells of a row are of different conversations.
    """
    rows = tuple(cells)
    adapters = [*rows, *sorted({name for row in cells.values() for name in row} - {*rows, BASE, PROMPTED})]
    columns = (BASE, PROMPTED, *adapters)
    draws = {name: resample(name, cells[name], bootstrap, seed) for name in rows}
    raw: dict[str, dict[str, Estimate]] = {name: {} for name in rows}
    centred: dict[str, dict[str, Estimate]] = {name: {} for name in rows}
    for column in columns:
        having = [name for name in rows if column in cells[name]]
        if not having:
            continue
        mean = float(np.mean([cells[name][column].value for name in having]))
        mean_draws = np.mean([draws[name][column] for name in having], axis=0)
        sure = all(len(cells[name][column].conversations) > 1 for name in having)
        for name in having:
            cell, drawn = cells[name][column], draws[name][column]
            raw[name][column] = _estimate(cell.value, drawn, len(cell.conversations) > 1)
            centred[name][column] = _estimate(cell.value - mean, drawn - mean_draws, sure)
    verdicts = {name: _verdict(name, cells[name], draws[name]) for name in rows}
    return Matrix(rows, columns, raw, centred, verdicts)


def judge(persona: str, cells: Mapping[str, Cell], bootstrap: int = 1000, seed: int = 0) -> Verdict:
    """The verdict of one row by itself; the same as `measure` gives for it."""
    return _verdict(persona, cells, resample(persona, cells, bootstrap, seed))


def resample(row: str, cells: Mapping[str, Cell], bootstrap: int, seed: int) -> dict[str, np.ndarray]:
    """Nats per token of each column in `bootstrap` resamples of the row's conversations, shape (bootstrap,)."""
    ids = {cell.conversations for cell in cells.values()}
    if len(ids) != 1:
        raise ValueError(f"{row}: its cells are of different conversations")
    count = len(next(iter(ids)))
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed} {row}".encode()).digest()[:8], "big"))
    found: dict[str, list[np.ndarray]] = {column: [] for column in cells}
    for start in range(0, bootstrap, _CHUNK):
        times = rng.multinomial(count, np.full(count, 1 / count), size=min(_CHUNK, bootstrap - start))
        for column, cell in cells.items():
            tokens = np.maximum(1, times @ np.array(cell.tokens, dtype=float))
            found[column].append(times @ np.array(cell.nll, dtype=float) / tokens)
    return {column: np.concatenate(parts) for column, parts in found.items()}


def others_of(persona: str, cast: Sequence[str], most: int, seed: int) -> list[str]:
    """The other adapters that a row compares against: all, or in a larger cast a sample of `most`.

    Each other persona is drawn by its own hash, so one more in the cast takes at most one other's place.
    """
    others = [name for name in cast if name != persona]
    if len(others) <= most:
        return others
    order = sorted(others, key=lambda name: hashlib.sha256(f"{seed} {persona} {name}".encode()).digest())
    kept = set(order[:most])
    return [name for name in others if name in kept]


def table(matrix: Matrix, most_columns: int = 12) -> str:
    """The matrix as text: a line a persona, the values of each cell where the cast is small, and the verdicts."""
    lines = _grid("nats per token, lower is likelier; * own adapter", matrix, matrix.raw, most_columns)
    if len(matrix.rows) > 1:
        lines += ["", *_grid("less each column's mean", matrix, matrix.centred, most_columns)]
    lines += ["", *(verdict.text for verdict in matrix.verdicts.values())]
    return "\n".join(lines) + "\n"


def _grid(title: str, matrix: Matrix, values: Mapping[str, Mapping[str, Estimate]], most: int) -> list[str]:
    """A larger cast shows own adapter and best other instead of a column for each."""
    small = len(matrix.columns) <= most
    heads = list(matrix.columns) if small else [BASE, PROMPTED, "own", "best other"]
    body: list[list[str]] = []
    for row in matrix.rows:
        found = values[row]
        others = {name: e for name, e in found.items() if name not in (row, BASE, PROMPTED)}
        best = min(others, key=lambda name: others[name].value, default=None)
        shown = heads if small else [BASE, PROMPTED, row, best]
        body.append([_shown(found.get(name or ""), own=small and name == row) for name in shown])
        if not small and best:
            body[-1][-1] += f" {best}"
    first = max(len(name) for name in (*matrix.rows, "persona"))
    widths = [max(len(text) for text in column) for column in zip(heads, *body, strict=True)]
    lines = [title]
    for name, cells in [("persona", heads), *zip(matrix.rows, body, strict=True)]:
        parts = [text.rjust(width) for text, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([name.ljust(first), *parts]).rstrip())
    return lines


def _shown(estimate: Estimate | None, own: bool) -> str:
    if estimate is None:
        return "-"
    half = "" if estimate.low is None or estimate.high is None else f" ±{(estimate.high - estimate.low) / 2:.2f}"
    return f"{estimate.value:.3f}{half}{'*' if own else ' '}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:+.3f}"
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"


def _estimate(value: float, draws: np.ndarray, sure: bool) -> Estimate:
    if not sure:
        return Estimate(value, None, None)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def _verdict(persona: str, cells: Mapping[str, Cell], draws: Mapping[str, np.ndarray]) -> Verdict:
    own, prompted, base = cells[persona], cells[PROMPTED], cells[BASE]
    difference = prompted.value - own.value
    gain = _estimate(difference, draws[PROMPTED] - draws[persona], len(own.conversations) > 1)
    # A tie goes to the own adapter: an untrained one is everyone's equal.
    adapters = [persona, *(name for name in cells if name not in (persona, BASE, PROMPTED))]
    best = min(adapters, key=lambda name: cells[name].value)
    return Verdict(
        persona=persona,
        conversations=len(own.conversations),
        tokens=int(sum(own.tokens)),
        base=base.value,
        prompted=prompted.value,
        own=own.value,
        gain=gain,
        beats_prompted=gain.low is not None and gain.low > 0,
        best=best,
        own_best=best == persona and own.value < min(base.value, prompted.value),
    )


def _plain(values: Mapping[str, Mapping[str, Estimate]]) -> dict[str, dict[str, dict[str, float | None]]]:
    return {row: {column: asdict(estimate) for column, estimate in found.items()} for row, found in values.items()}

"""Numbers as charts need them: bins, shares, steps of a funnel, colours of a heatmap."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

LENGTH_EDGES = (0, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
"""Characters; the last bin is open."""
CONFIDENCE_BINS = 10


def length_bins(lengths: Iterable[int]) -> dict[str, Any]:
    """How many texts have how many characters: {"bins": [{"label", "count"}], "count", "median", "most"}."""
    found = sorted(lengths)
    counts = [0] * len(LENGTH_EDGES)
    for length in found:
        counts[_bin(length)] += 1
    labels = [f"{low}-{high - 1}" for low, high in pairwise(LENGTH_EDGES)]
    bins = [{"label": label, "count": n} for label, n in zip([*labels, f"{LENGTH_EDGES[-1]}+"], counts, strict=True)]
    while len(bins) > 1 and not bins[-1]["count"]:
        bins.pop()
    median = found[len(found) // 2] if found else 0
    return {"bins": bins, "count": len(found), "median": median, "most": found[-1] if found else 0}


def _bin(length: int) -> int:
    return max(i for i, edge in enumerate(LENGTH_EDGES) if length >= edge or not i)


def confidence_bins(pairs: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """By method, how many lines have which confidence, in tenths: [{"method", "count", "bins", "mean"}]."""
    bins: dict[str, list[int]] = {}
    sums: dict[str, float] = {}
    for method, confidence in pairs:
        sure = min(1.0, max(0.0, confidence))
        own = bins.setdefault(method, [0] * CONFIDENCE_BINS)
        own[min(CONFIDENCE_BINS - 1, int(sure * CONFIDENCE_BINS + 1e-9))] += 1
        sums[method] = sums.get(method, 0.0) + sure
    ranked = sorted(bins, key=lambda method: (-sum(bins[method]), method))
    return [
        {"method": m, "count": sum(bins[m]), "bins": bins[m], "mean": round(sums[m] / sum(bins[m]), 3)} for m in ranked
    ]


def funnel(steps: Sequence[tuple[str, int, str]]) -> list[dict[str, Any]]:
    """Steps (name, count, what is said beside it) with their share of the first and of the step before, in 0..1."""
    found: list[dict[str, Any]] = []
    for name, count, note in steps:
        first = found[0]["count"] if found else count
        before = found[-1]["count"] if found else count
        found.append(
            {
                "name": name,
                "count": count,
                "note": note,
                "share": min(1.0, count / first) if first else 0.0,
                "kept": count / before if before else 0.0,
            }
        )
    return found


def heat(value: float | None, low: float, high: float) -> str:
    """A colour for `value` between `low` (blue) and `high` (orange), readable on light and dark; "" for none."""
    if value is None or math.isnan(value):
        return ""
    at = 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
    hue = 212 if at < 0.5 else 28
    return f"hsl({hue} 75% 50% / {abs(at - 0.5) * 1.5:.2f})"


def ledger_rows(records: Iterable[tuple[str, str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """(stage, unit, ledger) as rows of one table with a total at the end; none where no model was called."""
    names = ("calls", "cached", "requests", "retries", "set_aside", "tokens_in", "tokens_out", "money")
    names += ("paid_before_money",)  # what earlier runs paid for the answers that came out of the journal
    rows: list[dict[str, Any]] = []
    for stage, unit, ledger in records:
        own = {name: _number(ledger.get(name)) for name in names}
        if any(own.values()):
            rows.append({"stage": stage, "unit": unit, **own})
    if rows:
        total = {name: round(sum(row[name] for row in rows), 6) for name in names}
        rows.sort(key=lambda row: (-row["money"], -row["calls"], row["stage"], row["unit"]))
        rows.append({"stage": "total", "unit": "", **total})
    return rows


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0

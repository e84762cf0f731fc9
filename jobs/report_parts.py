"""Parts of a report: what was left out, grids, the evaluation, overlap, rights, samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobs.report_tables import LinesSeen, Made, Sources, Tables, chosen_lines, compute
from understudy.errors import MissingError, StoreError
from understudy.store import Store
from understudy.wording import counted

EXAMPLES = 5
EXAMPLE_CHARS = 400
EXAMPLE_UNITS = 40
"""Units of a stage whose tables are opened for examples."""
MOST_GRIDS = 8
MOST_CELLS = 40
"""Rows and columns of a heatmap."""
MOST_MESSAGE_CHARS = 4000


class _Reasons:
    """Reasons with their counts and examples, the most frequent first."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, where: str, reason: str, count: int) -> None:
        one = self.found.setdefault((where, reason), {"where": where, "reason": reason, "count": 0, "examples": []})
        one["count"] += count

    def example(self, where: str, reason: str, text: str, note: str = "") -> dict[str, Any] | None:
        """The example, or None where there are enough of them (or nothing of that reason was counted)."""
        one = self.found.get((where, reason))
        if one is None or len(one["examples"]) >= EXAMPLES:
            return None
        item: dict[str, Any] = {"text": text[:EXAMPLE_CHARS], "note": note[:EXAMPLE_CHARS], "links": []}
        one["examples"].append(item)
        return item

    def lacks(self, where: str) -> bool:
        return any(one["where"] == where and len(one["examples"]) < EXAMPLES for one in self.found.values())

    def ranked(self) -> list[dict[str, Any]]:
        return sorted(
            (one for one in self.found.values() if one["count"]),
            key=lambda one: (-one["count"], one["where"], one["reason"]),
        )


def left_out(
    store: Store,
    made: Mapping[str, Made],
    sources: Sources,
    seen: LinesSeen,
    lines: Tables,
    set_aside: Mapping[str, str],
    seed: int,
) -> list[dict[str, Any]]:
    """Everything that did not come through, by stage and reason, with counts and examples."""
    reasons = _Reasons()
    for unit, problem in sorted(set_aside.items()):
        reasons.add("extract: files", "could not be read", 1)
        reasons.example("extract: files", "could not be read", problem, unit)
    _speeches(reasons, sources, seen, lines, seed)
    _imported(store, reasons, made["extract"])
    _generated(store, reasons, made["augment"])
    _curated(store, reasons, sources, made["curate"])
    return reasons.ranked()


def _speeches(reasons: _Reasons, sources: Sources, seen: LinesSeen, lines: Tables, seed: int) -> None:
    pc = compute()
    where = "extract: speeches"
    nobody = lambda table: pc.and_(pc.is_null(table["speaker"]), pc.is_null(table["persona"]))
    other = lambda table: pc.and_(pc.is_valid(table["speaker"]), pc.is_null(table["persona"]))
    for reason, count, wanted in (
        ("left open: nothing tells who speaks", seen.speeches - seen.attributed, nobody),
        ("said by somebody who is not in the cast", seen.attributed - seen.of_the_cast, other),
    ):
        if not count:
            continue
        reasons.add(where, reason, count)
        for row in chosen_lines(lines, wanted, EXAMPLES, seed):
            item = reasons.example(where, reason, row["text"], row["speaker"] or "")
            if item is not None:
                sources.link(item, None, [row["line_id"]])


def _imported(store: Store, reasons: _Reasons, extract: Made) -> None:
    where = "extract: imported conversations"
    for unit in extract.with_file("dropped.parquet")[:EXAMPLE_UNITS]:
        for row in _rows(store, f"{extract.keys[unit]}/dropped.parquet"):
            reasons.add(where, str(row["reason"]), 1)
            reasons.example(where, str(row["reason"]), str(row["text"] or ""), unit)


def _generated(store: Store, reasons: _Reasons, augment: Made) -> None:
    for record in augment.records.values():
        for reason, count in _counted(record.counts.get("reasons")):
            reasons.add(f"augment: {record.counts.get('kind', '')}", reason, count)
    for unit in augment.with_file("set_aside.parquet")[:EXAMPLE_UNITS]:
        where = f"augment: {augment.records[unit].counts.get('kind', '')}"
        if augment.records[unit].counts.get("set_aside") and reasons.lacks(where):
            for row in _rows(store, f"{augment.keys[unit]}/set_aside.parquet"):
                said = "\n".join(message["content"] for message in row["messages"] or ())
                note = " · ".join(filter(None, (unit, row["job_id"], row["detail"])))
                reasons.example(where, row["reason"], said or row["raw"] or "", note)


def _curated(store: Store, reasons: _Reasons, sources: Sources, curate: Made) -> None:
    for record in curate.records.values():
        for reason, count in _counted(record.counts.get("dropped")):
            reasons.add("curate", reason, count)
        for reason, count in _counted(record.counts.get("mended")):
            reasons.add("curate: put right", reason, count)
        examples = record.counts.get("examples")
        for reason, found in examples.items() if isinstance(examples, Mapping) else ():
            where = "curate: put right" if reason.startswith("mended: ") else "curate"
            for one in found:
                if where != "curate":
                    became = f"became: {one.get('note', '')}"
                    reasons.example(where, reason.removeprefix("mended: "), one["text"], became)
                elif one.get("note"):
                    reasons.example(where, reason, one["text"], one["note"])
    for unit in curate.with_file("dropped.parquet")[:EXAMPLE_UNITS]:
        if sum(n for _, n in _counted(curate.records[unit].counts.get("dropped"))) and reasons.lacks("curate"):
            for row in _rows(store, f"{curate.keys[unit]}/dropped.parquet"):
                item = reasons.example("curate", row["reason"], row["text"] or "", unit)
                if item is not None and row["lines"]:
                    sources.link(item, row["persona"], row["lines"])


def _counted(value: Any) -> list[tuple[str, int]]:
    return [(str(k), v) for k, v in value.items() if isinstance(v, int)] if isinstance(value, Mapping) else []


def _rows(store: Store, key: str) -> list[dict[str, Any]]:
    """The first 2,000 rows of a table, or none where it cannot be read."""
    try:
        return store.read_table(key).slice(0, 2000).to_pylist()
    except StoreError:
        return []


def augmented_grids(store: Store, augment: Made) -> list[dict[str, Any]]:
    """A heatmap for each matrix step: scores where there are some, and how many texts were accepted."""
    found: list[dict[str, Any]] = []
    for unit, record in augment.records.items():
        if record.counts.get("kind") != "matrix" or len(found) >= MOST_GRIDS:
            continue
        accepted = _accepted_cells(store, f"{augment.keys[unit]}/conversations.parquet")
        scored = None
        if "suitability.json" in record.outputs:
            try:
                scored = store.get_json(f"{augment.keys[unit]}/suitability.json")
            except StoreError:
                scored = None
        found.append(_scored_grid(unit, scored, accepted) if scored else _counted_grid(unit, accepted))
    return [grid for grid in found if grid["rows"]]


def _accepted_cells(store: Store, key: str) -> dict[tuple[str, str], int]:
    cells: dict[tuple[str, str], int] = {}
    try:
        scenes = store.read_table(key)["scene"].to_pylist()
    except StoreError:
        return {}
    for scene in scenes:
        parts = str(scene).split("/")
        if len(parts) == 3:  # recipient/occasion/style; a name with a slash in it is in no grid
            cells[parts[0], parts[1]] = cells.get((parts[0], parts[1]), 0) + 1
    return cells


def _scored_grid(unit: str, scored: Mapping[str, Any], accepted: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    occasions = scored["occasions"][:MOST_CELLS]
    rows = []
    for name, scores, marks in list(zip(scored["recipients"], scored["scores"], scored["sources"], strict=True))[
        : 2 * MOST_CELLS
    ]:
        cells = [
            {
                "value": score,
                "hand": mark == "hand",
                "shown": f"{'' if score is None else score} {_times(accepted.get((name, occasion)))}".strip(),
            }
            for occasion, score, mark in zip(occasions, scores, marks, strict=False)
        ]
        rows.append({"name": name, "cells": cells})
    counts = scored["counts"]
    said = (
        f"{counts['made']} of {counted(counts['pairs'], 'pair')} {'is' if counts['made'] == 1 else 'are'} made "
        f"(score {scored['least']} or more); "
        f"{counted(counts['by_hand'], 'score')} by hand (framed), {counts['rated']} by a model; ×n: accepted texts"
    )
    return {"unit": unit, "said": said, "occasions": occasions, "rows": rows, "low": 1, "high": 5}


def _counted_grid(unit: str, accepted: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    recipients = list(dict.fromkeys(recipient for recipient, _ in accepted))[: 2 * MOST_CELLS]
    occasions = list(dict.fromkeys(occasion for _, occasion in accepted))[:MOST_CELLS]
    rows = [
        {
            "name": recipient,
            "cells": [
                {"value": n, "hand": False, "shown": _times(n)}
                for n in (accepted.get((recipient, occasion)) for occasion in occasions)
            ],
        }
        for recipient in recipients
    ]
    most = max(accepted.values(), default=1)
    return {"unit": unit, "said": "accepted texts", "occasions": occasions, "rows": rows, "low": -most, "high": most}


def _times(count: int | None) -> str:
    return f"×{count}" if count else ""


def evaluation_of(store: Store, recipe: str) -> dict[str, Any] | None:
    """The evaluation matrix as a heatmap, or None where the whole cast was not evaluated."""
    try:
        matrix = store.get_json(f"runs/{recipe}/evaluate/matrix.json")
    except MissingError:
        return None
    columns = matrix["columns"][: MOST_CELLS + 2]
    rows = []
    values: list[float] = []
    for name in matrix["rows"][: 2 * MOST_CELLS]:
        cells = []
        for column in columns:
            raw, centred = matrix["raw"][name].get(column), matrix["centred"][name].get(column)
            less = centred["value"] if centred else None
            values += [less] if less is not None else []
            shown = f"{raw['value']:.3f}" if raw else ""
            title = f"{column}: {less:+.3f} less the column's mean" if less is not None else ""
            cells.append({"shown": shown, "centred": less, "own": name == column, "title": title})
        rows.append({"name": name, "cells": cells})
    most = max((abs(value) for value in values), default=1.0) or 1.0
    verdicts = [str(verdict["text"]) for verdict in matrix["verdicts"].values()]
    return {
        "unit": matrix["unit"],
        "columns": columns,
        "rows": rows,
        "low": -most,
        "high": most,
        "verdicts": verdicts[: 2 * MOST_CELLS],
    }


def overlap_rows(curate: Made) -> list[dict[str, Any]]:
    """By persona, what of its held-out text is in training; the largest share first."""
    found = []
    for persona, record in curate.records.items():
        report = record.counts.get("overlap")
        if isinstance(report, Mapping):
            names = ("heldout_ngrams", "in_training", "share", "exchanges", "examples")
            sizes = f"{report.get('words', '?')} words or {report.get('han', '?')} characters"
            found.append({"persona": persona, "sizes": sizes, **{name: report.get(name) or 0 for name in names}})
    return sorted(found, key=lambda row: (-row["share"], row["persona"]))


def rights_rows(made: Iterable[Made]) -> list[dict[str, Any]]:
    """Each right once, with the units that stand on it."""
    units: dict[tuple[str, ...], list[str]] = {}
    for one in made:
        for unit, record in one.records.items():
            for right in record.rights:
                key = tuple(str(right.get(name, "")) for name in ("source", "licence", "holder", "note"))
                units.setdefault(key, []).append(unit)
    found = []
    for (source, licence, holder, note), names in units.items():
        kept = list(dict.fromkeys(names))
        more = f" and {len(kept) - 12} more" if len(kept) > 12 else ""
        said = ", ".join(kept[:12]) + more
        found.append({"source": source, "licence": licence, "holder": holder, "note": note, "units": said})
    return found


def sample_of(row: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    """One conversation as the page shows it, linked to its lines."""
    origin = row["provenance"]
    messages: Sequence[Mapping[str, Any]] = row["messages"]
    item: dict[str, Any] = {
        "id": row["conversation_id"],
        "persona": row["persona"],
        "split": row["split"],
        "method": origin["method"],
        "model": origin.get("model"),
        "prompt": origin.get("prompt"),
        "seed": origin.get("seed"),
        "messages": [
            {
                "role": message["name"] or message["role"],
                "content": (message["content"] or "")[:MOST_MESSAGE_CHARS],
                "loss": bool(message["loss"]),
            }
            for message in messages
        ],
    }
    return sources.link(item, row["persona"], origin["lines"] or ())

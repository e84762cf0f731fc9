"""The report of a recipe: what became of its texts, what it cost, and samples with their places in the sources.

    runs/<recipe>/report.html      self-contained, for a browser
    runs/<recipe>/report.json      the same as data

Read from the records and tables of each stage's newest outputs; of a large production a seeded part is looked at, and
the page says so. `run_recipe` writes it at the end of every run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.report_parts import augmented_grids, evaluation_of, left_out, overlap_rows, rights_rows, sample_of
from jobs.report_tables import (
    LinesSeen,
    Made,
    Sources,
    Tables,
    chosen_lines,
    compute,
    drawn_conversations,
    learned_lengths,
)
from jobs.stage import StageResult, package_versions
from understudy.corpus import find_works
from understudy.errors import CorpusError, InputError, StoreError
from understudy.recipe import Recipe
from understudy.reporting.figures import confidence_bins, funnel, ledger_rows, length_bins
from understudy.reporting.page import render
from understudy.store import Store
from understudy.wording import counted

STAGES = ("extract", "augment", "curate", "train", "evaluate", "publish")
SEED = 0
SAMPLES = 24
UNSURE = 8
MOST_SPEAKERS = 40
SHOWN_VERSIONS = ("understudy-cast", "python", "ray", "torch")


@dataclass(frozen=True, slots=True)
class Written:
    """Where a report is."""

    html: str
    """URI or path."""
    seconds: float
    size_bytes: int


def run_report(
    recipe: Recipe, out: Path | None = None, results: Sequence[StageResult] = (), seed: int = SEED
) -> Written:
    """Write the report of what `recipe` made last, into the store or to `out`; InputError when there is nothing yet.

    `results`: what the stages of this run said; without, the page does not say what was made now.
    """
    began = time.time()
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    report = gather(recipe, store, results, seed)
    report["seconds"] = round(time.time() - began, 3)
    data = render(report).encode("utf-8", "replace")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(data)
        return Written(str(out), time.time() - began, len(data))
    key = f"runs/{recipe.name}/report"
    store.put_json(f"{key}.json", report)
    store.put(f"{key}.html", data)
    return Written(store.uri_of(f"{key}.html"), time.time() - began, len(data))


def gather(recipe: Recipe, store: Store, results: Sequence[StageResult], seed: int) -> dict[str, Any]:
    """The report as a JSON document."""
    made = {stage: Made.of(store, recipe.name, stage) for stage in STAGES}
    if not any(one.records for one in made.values()):
        raise InputError(f"{recipe.name}: nothing was made yet; run `understudy run` with this recipe first")
    lines = Tables.of(store, made["extract"], "lines.parquet", seed)
    talks = Tables.of(store, made["curate"], "conversations.parquet", seed)
    seen = LinesSeen.of(lines)
    sources = Sources(store, made["extract"], _works(recipe))
    set_aside = _set_aside(store, recipe, results)
    reasons = left_out(store, made, sources, seen, lines, set_aside, seed)
    talk = _talk(talks)
    samples = [sample_of(row, sources) for row in drawn_conversations(talks, SAMPLES, seed)]
    unsure = _unsure(lines, sources, seed)
    speakers, more = _speakers(seen)
    return {
        "recipe": recipe.name,
        "base": recipe.model.base,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: v for name, v in package_versions().items() if name in SHOWN_VERSIONS},
        "notes": _notes(lines, talks),
        "seed": seed,
        "set_aside": set_aside,
        "funnels": _funnels(made, lines, seen, talk),
        "reasons": reasons,
        "speakers": speakers,
        "more_speakers": more,
        "lengths": _lengths(seen, talk),
        "confidence": [_labelled(one) for one in confidence_bins(seen.confidence)],
        "suitability": augmented_grids(store, made["augment"]),
        "evaluation": evaluation_of(store, recipe.name),
        "stages": _stages(made, results),
        "ledger": ledger_rows(_ledgers(made)),
        "overlap": overlap_rows(made["curate"]),
        "rights": rights_rows(made.values()),
        "samples": samples,
        "unsure": unsure,
        "conversations": _of_records(made["curate"], "conversations").total(),
        "excerpts": sources.excerpts(),
    }


@dataclass(frozen=True)
class _Talk:
    """What conversations are made of: how many by method, learned characters by persona and method."""

    methods: Counter[str]
    learned: Mapping[str, Sequence[int]]


def _talk(tables: Tables) -> _Talk:
    methods: Counter[str] = Counter()
    learned: dict[str, list[int]] = {}
    for persona in sorted(tables.by_unit):
        found, lengths = learned_lengths(tables.by_unit[persona])
        methods.update(found)
        learned[persona] = lengths
    return _Talk(methods, learned)


def _works(recipe: Recipe) -> list[Any]:
    try:
        return find_works(recipe)
    except (CorpusError, StoreError):
        return []  # texts that are gone take only their excerpts with them


def _set_aside(store: Store, recipe: Recipe, results: Sequence[StageResult]) -> dict[str, str]:
    """Files that extract could not read, with reasons: of this run, else as the last report knew them."""
    for result in results:
        if result.stage == "extract":
            return dict(result.details.get("set_aside", {}))
    try:
        return dict(store.get_json(f"runs/{recipe.name}/report.json")["set_aside"])
    except (StoreError, KeyError, TypeError, ValueError):
        return {}


def _notes(lines: Tables, talks: Tables) -> list[str]:
    found = []
    for tables, what in ((lines, "works"), (talks, "personas")):
        if not tables.whole:
            seen, total = len(tables.by_unit), tables.total
            found.append(
                f"Of {total:,} {what}, {seen:,} were drawn and looked at; what is counted in rows is of these."
            )
    return found


def _of_records(made: Made, name: str) -> Counter[str]:
    """A mapping of numbers in the records' counts, added up."""
    total: Counter[str] = Counter()
    for record in made.records.values():
        value = record.counts.get(name)
        if isinstance(value, Mapping):
            total.update({k: v for k, v in value.items() if isinstance(v, int)})
    return total


def _sum(made: Made, name: str) -> int:
    return sum(int(record.counts.get(name) or 0) for record in made.records.values())


def _funnels(made: Mapping[str, Made], lines: Tables, seen: LinesSeen, talk: _Talk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def add(name: str, steps: Sequence[tuple[str, int, str]]) -> None:
        if any(count for _, count, _ in steps):
            found.append({"name": name, "steps": funnel(steps)})

    extract, augment, curate = made["extract"], made["augment"], made["curate"]
    texts = counted(len(extract.with_file("lines.parquet")), "work")
    add("Texts", [("characters", _sum(extract, "characters"), texts)])
    add(
        "Lines",
        [
            ("lines", seen.kinds.total(), ", ".join(f"{n:,} {kind}" for kind, n in seen.kinds.most_common())),
            ("speeches", seen.speeches, ""),
            ("with a speaker", seen.attributed, f"{seen.speeches - seen.attributed:,} left open"),
            ("of the cast", seen.of_the_cast, f"{seen.attributed - seen.of_the_cast:,} by others"),
        ],
    )
    turns, dropped = _of_records(curate, "turns"), _of_records(curate, "dropped")
    answers = turns.total() + dropped.total()
    why = ", ".join(f"{n:,} {reason}" for reason, n in dropped.most_common(4) if n)
    drafts = _sum(augment, "accepted") + _sum(augment, "set_aside")
    add(
        "Written by models",
        [
            ("calls", _sum(augment, "calls"), f"{_sum(augment, 'cached'):,} answered before"),
            ("drafts", drafts, ""),
            ("accepted", _sum(augment, "accepted"), ""),
        ],
    )
    add(
        "Answers",
        [
            ("answers of the cast", answers, "a speech or several in a row, generated and imported ones too"),
            ("kept to learn or to test", turns.total(), why),
            ("to learn", turns["train"], f"{turns['heldout']:,} held out"),
        ],
    )
    talks = _of_records(curate, "conversations")
    made_by = ", ".join(f"{n:,} {method}" for method, n in talk.methods.most_common(8))
    in_scenes = counted(_sum(curate, "heldout_scenes"), "scene")
    add(
        "Conversations",
        [
            ("conversations", talks.total(), made_by),
            ("train", talks["train"], f"{talks['heldout']:,} held out, in {in_scenes}"),
        ],
    )
    return found


def _speakers(seen: LinesSeen) -> tuple[list[dict[str, Any]], int]:
    by_name: Counter[tuple[str, str]] = Counter()
    for (speaker, persona), n in seen.speakers.items():
        by_name[(speaker or persona or "(left open)", persona)] += n
    ranked = by_name.most_common()
    most = ranked[0][1] if ranked else 1
    shown = [
        {"name": name, "persona": persona, "lines": n, "share": n / most}
        for (name, persona), n in ranked[:MOST_SPEAKERS]
    ]
    return shown, max(0, len(ranked) - MOST_SPEAKERS)


def _lengths(seen: LinesSeen, talk: _Talk) -> list[dict[str, Any]]:
    found = []
    if seen.lengths:
        found.append({"name": "speeches", **length_bins(seen.lengths)})
    every = [length for lengths in talk.learned.values() for length in lengths]
    if every:
        found.append({"name": "learned answers", **length_bins(every)})
    if len(talk.learned) > 1:
        ranked = sorted(talk.learned, key=lambda persona: (-len(talk.learned[persona]), persona))
        found += [{"name": f"learned answers of {name}", **length_bins(talk.learned[name])} for name in ranked[:6]]
    return found


def _labelled(one: dict[str, Any]) -> dict[str, Any]:
    bins = [{"label": f".{tenth}" if tenth else "0", "count": n} for tenth, n in enumerate(one["bins"])]
    return {**one, "labelled": bins}


def _stages(made: Mapping[str, Made], results: Sequence[StageResult]) -> list[dict[str, Any]]:
    now = {result.stage: len(result.made) for result in results}
    return [
        {
            "stage": stage,
            "units": len(one.records),
            "made": now.get(stage) if results else None,
            "seconds": _seconds(one),
        }
        for stage, one in made.items()
        if one.records
    ]


def _seconds(made: Made) -> float:
    """What the stage's units took; units of one training group have the same start and count once."""
    longest: dict[str, float] = {}
    if made.stage != "train":
        return sum(record.seconds for record in made.records.values())
    for record in made.records.values():
        longest[record.started] = max(record.seconds, longest.get(record.started, 0.0))
    return sum(longest.values())


def _ledgers(made: Mapping[str, Made]) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    for stage, one in made.items():
        for unit, record in one.records.items():
            ledger = record.counts.get("ledger")
            if isinstance(ledger, Mapping):
                yield stage, unit, ledger


def _unsure(lines: Tables, sources: Sources, seed: int) -> list[dict[str, Any]]:
    """Speeches with a speaker of whom the reader was not sure."""
    pc = compute()

    def wanted(table: Any) -> Any:
        return pc.and_(pc.less(table["confidence"], 0.8), pc.is_valid(table["speaker"]))

    found = []
    for row in sorted(chosen_lines(lines, wanted, UNSURE, seed), key=lambda row: row["confidence"]):
        shown = {name: row[name] for name in ("line_id", "speaker", "persona", "text", "method")}
        item = {**shown, "confidence": round(row["confidence"], 2)}
        found.append(sources.link(item, row["persona"], [row["line_id"]]))
    return found

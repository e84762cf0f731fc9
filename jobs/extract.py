"""The extract stage: files of any usual format to lines, one Parquet table per file, over any number of files.

    runs/<recipe>/extract/<fingerprint>/lines.parquet           who says what, with offsets into the text
    runs/<recipe>/extract/<fingerprint>/text.txt                the text itself, where the file is not plain text
    runs/<recipe>/extract/<fingerprint>/dropped.parquet         rows and chapters set aside, with their reasons
    runs/<recipe>/extract/<fingerprint>/conversations.parquet   instead of lines, of `kind: conversations`

With `extract.llm` a model reads on where the rules end (jobs/attribute.py): its output is another one of this stage,
with refused.parquet for what of its answers was not believed. What the rules made stays, and is remembered as
`extract/rules`: an edit of `extract.llm` parses nothing again.

A file's fingerprint covers its bytes, how it is read, and which persona each of its speakers is: an alias by which
nobody speaks in a script changes nothing there. In prose a name tells who speaks, so every name that holds in the work
counts. A file that cannot be read is set aside with its reason; the rest goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.attempt import attempt
from jobs.attribute import attributed, check_reader, keeps_silent
from jobs.cast import remember_speakers
from jobs.extract_work import RULES, CastNames, Task, extract_work, given_up, hear_work, rules_latest
from jobs.shares import shares_of
from jobs.spread import spread
from jobs.stage import StageResult, say, write_latest
from understudy.corpus import Work, check_columns, find_works
from understudy.errors import CorpusError, StoreError
from understudy.persona import cast_entries, cast_entry_persona, check_answerers
from understudy.recipe import AutoCastEntry, Recipe
from understudy.script import idle_patterns, owners, plays
from understudy.store import Store

__all__ = ["CastNames", "Task", "extract_work", "run_extract"]

CHECKED_HERE_BYTES = 64 << 20
"""Works that seem up to date are checked in this process when they are smaller than this together."""
CPUS = 1.0
"""Of one worker: parsing takes a core as long as it lasts."""


def run_extract(recipe: Recipe, force: bool = False) -> StageResult:
    """Extract every work of `recipe`'s corpus; works that did not change are skipped.

    Raises CorpusError when a path matches nothing, or when no work could be read at all.
    """
    began = time.time()
    check_reader(recipe)
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    plain = tasks_of(recipe, store, force)
    cast = _cast_names(recipe, store, plain)
    _warn_of_idle_patterns(cast, [task.work for task in plain])
    tasks = with_cast(plain, cast, keeps_silent(recipe))
    with attempt(store, recipe.name, "extract"):
        good, bad = _extracted(recipe, store, tasks)
    units = {result["work"]: result["fingerprint"] for result in good}
    details = {"set_aside": {result["work"]: result["problem"] for result in bad}} if bad else {}
    made = tuple(result["work"] for result in good if not result["skipped"])
    totals = _totals(good, len(bad))
    return StageResult("extract", store, recipe.name, units, made, totals, time.time() - began, details)


def _extracted(
    recipe: Recipe, store: Store, tasks: Sequence[Task]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every work read and kept: results of those that could be, by name, and of the others."""
    results: list[dict[str, Any]] = []
    for result in _each(extract_work, tasks, recipe):
        if "fatal" in result:
            raise StoreError(result["fatal"])
        results.append(result)
        _report(result, len(results), len(tasks))
    bad = [result for result in results if result["problem"]]
    good = sorted((result for result in results if not result["problem"]), key=lambda result: result["work"])
    if good:
        write_latest(store, recipe.name, RULES, {result["work"]: result["fingerprint"] for result in good})
    if recipe.extract.llm is not None:
        read = list(attributed(recipe, store, {task.work.name: task for task in tasks}, good))
        bad += [result for result in read if result["problem"]]
        good = sorted((result for result in read if not result["problem"]), key=lambda result: result["work"])
    if bad and not good:
        more = f" (and {len(bad) - 1} more works)" if len(bad) > 1 else ""
        raise CorpusError(f"{bad[0]['problem']}{more}")
    skipped = sum(result["skipped"] for result in good)
    if skipped:
        say("extract", f"{skipped} of {len(tasks)} works up to date, skipped")
    write_latest(store, recipe.name, "extract", {result["work"]: result["fingerprint"] for result in good})
    return good, bad


def works_of(recipe: Recipe) -> list[Work]:
    """The recipe's texts.

    CorpusError where it has none and nothing else to make conversations of; ColumnError for a column that is not there.
    """
    works = find_works(recipe)
    if not works and not recipe.augment:
        raise CorpusError(f"{recipe.name}: the corpus is empty; add `corpus: [{{path: TEXT}}]`, or steps to `augment`")
    check_columns(works)
    return works


def _totals(good: Sequence[dict[str, Any]], bad: int) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for result in good:
        own = result["counts"]
        counts.update({name: own.get(name, 0) for name in ("lines", "speeches", "unassigned", "conversations")})
        aside = own.get("set_aside", 0)
        counts["rows_set_aside"] += sum(aside.values()) if isinstance(aside, dict) else aside
        for name in ("asked", "attributed", "found", "calls", "cached"):
            counts[name] += own.get("llm", {}).get(name, 0)
    kept = {name: counts[name] for name in ("lines", "speeches", "unassigned")}
    named = ("conversations", "rows_set_aside", "asked", "attributed", "found", "calls", "cached")
    more = {name: counts[name] for name in named if counts[name]}
    return {"works": len(good), "set_aside": bad, **kept, **more}


def _cast_names(recipe: Recipe, store: Store, tasks: Sequence[Task]) -> tuple[CastNames, ...]:
    ranked: list[tuple[str, int]] | None = None
    if isinstance(recipe.cast, AutoCastEntry):
        counts: Counter[str] = Counter()
        for heard in _each(hear_work, tasks, recipe):
            if "fatal" in heard:
                raise StoreError(heard["fatal"])
            counts.update(heard["speakers"])
        ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        remember_speakers(recipe, store, ranked)
    return named_cast(recipe, ranked)


def named_cast(recipe: Recipe, ranked: list[tuple[str, int]] | None) -> tuple[CastNames, ...]:
    """The cast by its names; `ranked`: who speaks and how much, for an automatic one.

    RecipeError where a file of conversations is given to nobody in the cast.
    """
    personas = [cast_entry_persona(entry, recipe) for entry in cast_entries(recipe, ranked)]
    check_answerers(recipe, personas)
    return tuple(CastNames(p.name, p.display_name, p.aliases, p.works) for p in personas)


def tasks_of(recipe: Recipe, store: Store, force: bool) -> list[Task]:
    """A task for each of `works_of`, with nobody's names in it yet."""
    layout = recipe.extract.layout
    return [Task(recipe.name, store, one, one.entry.layout or layout, (), force) for one in works_of(recipe)]


def with_cast(plain: Sequence[Task], cast: Sequence[CastNames], silent: bool) -> list[Task]:
    """The tasks with the names that hold in each; two personas that claim one name are refused before any work."""
    tasks: list[Task] = []
    shared: dict[tuple[CastNames, ...], tuple[CastNames, ...]] = {}
    everywhere = all(one.works == ("*",) for one in cast)
    for task in plain:
        own = tuple(cast) if everywhere else _in_work(cast, task.work)
        if own not in shared:
            owners(own, task.work.name)
        # Hundreds of personas in thousands of works are held once, not once a work.
        tasks.append(replace(task, cast=shared.setdefault(own, own), silent=silent))
    return tasks


def _in_work(cast: Sequence[CastNames], work: Work) -> tuple[CastNames, ...]:
    """Those whose names hold in a work, by its id or its file."""
    return tuple(replace(one, works=("*",)) for one in cast if plays(one, work.name, work.location))


def _warn_of_idle_patterns(cast: Sequence[CastNames], works: Sequence[Work]) -> None:
    files = [(work.name, work.location) for work in works]
    idle = [f"{pattern!r} of {one.name}" for one in cast for pattern in idle_patterns(one, files)] if files else []
    if idle:
        more = f" (and {len(idle) - 3} more)" if len(idle) > 3 else ""
        names = ", ".join(work.name for work in works[:5])
        say("extract", f"warning: `works` {', '.join(idle[:3])}{more} matches no work; there are: {names}")


def _each(what: Callable[[Task], dict[str, Any]], tasks: Sequence[Task], recipe: Recipe) -> Iterator[dict[str, Any]]:
    """One row per task, in any order, as each is done."""
    if not tasks or _all_current(tasks):
        yield from map(what, tasks)
        return
    import ray

    from cluster import runtime

    runtime.start()
    runtime.quiet_data()
    asked = recipe.resources.extract
    shares_of("extract", asked, len(tasks), ray.cluster_resources())
    sizes = [_size(task.work.location) for task in tasks]
    yield from spread(what, tasks, sizes, asked.cpus or CPUS, asked.workers, given_up)


def _size(location: str) -> int:
    """Bytes of a local file, 0 of an object."""
    try:
        return 0 if "://" in location else Path(location).stat().st_size
    except OSError:
        return 0  # it is set aside when it is opened


def _all_current(tasks: Sequence[Task]) -> bool:
    """Whether every work was extracted before and the texts are small: then starting Ray takes longer than to look."""
    latest = rules_latest(tasks[0].store, tasks[0].recipe)
    if tasks[0].force or any(task.work.name not in latest or "://" in task.work.location for task in tasks):
        return False
    return sum(_size(task.work.location) for task in tasks) < CHECKED_HERE_BYTES


def _report(result: dict[str, Any], number: int, total: int) -> None:
    if result["problem"] and total == 1:
        return  # it becomes the error of the whole stage
    if result["problem"]:
        say("extract", f"[{number}/{total}] set aside: {result['problem']}")
    elif not result["skipped"]:
        say("extract", f"[{number}/{total}] {result['work']}: {_told(result['counts'])}")


def _told(counts: dict[str, Any]) -> str:
    if counts["kind"] == "conversations":
        return f"{counts['conversations']} conversations, {counts['set_aside']} rows set aside"
    read = counts["encoding"]["name"] if counts["format"]["name"] == "text" else counts["format"]["name"]
    aside = sum(counts.get("set_aside", {}).values())
    more = f", {aside:,} rows set aside" if aside else ""
    text = f"{counts['speeches']} speeches, {counts['unassigned']} of them by nobody in the cast{more}"
    return f"{text}; {counts['method']}, {read}"

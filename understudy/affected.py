"""What was made from a work: every output, adapter version and alias of a store that goes back to it.

    found = affected(store, "the-lamp-on-the-quay")
    found.outputs, found.versions, found.staged

Records say what went in and what came out, by digest; an output belongs to a work when one of its inputs is what
another such output gave. That finds everything that was ever made and is still in the store, not only the newest, over
all recipes and also what another recipe made of the same text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from understudy.catalog import Catalog
from understudy.errors import InputError, MissingError
from understudy.record import RECORD_NAME, Record, digest_of, read_record
from understudy.release import State
from understudy.store import Store

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
STAGES = ("extract", "augment", "curate", "train", "evaluate", "publish")
MIXED = re.compile(r"mix:\d+:(.+)")
"""How an input is called that is mixed in: by the entry's number and the source's name."""
_READERS = 16


@dataclass(frozen=True)
class Output:
    """One finished output of a stage."""

    key: str
    stage: str
    recipe: str
    unit: str
    current: bool
    """Whether it is what its recipe has now; else it is left from before."""

    def as_json(self) -> dict[str, Any]:
        """As printed."""
        return {"stage": self.stage, "recipe": self.recipe, "unit": self.unit, "key": self.key, "current": self.current}


@dataclass(frozen=True)
class Version:
    """One published version."""

    persona: str
    version: str
    aliases: tuple[str, ...]
    """The aliases that show it now; none: it is published, but not on stage."""

    def as_json(self) -> dict[str, Any]:
        """As printed."""
        return {"persona": self.persona, "version": self.version, "aliases": list(self.aliases)}


@dataclass(frozen=True)
class Affected:
    """Everything made from one work."""

    work: str
    outputs: tuple[Output, ...]
    versions: tuple[Version, ...]
    rights: tuple[dict[str, str], ...] = field(default=())
    """What the records say of the work's source and licence."""

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "work": self.work,
            "rights": [dict(one) for one in self.rights],
            "outputs": [one.as_json() for one in self.outputs],
            "versions": [one.as_json() for one in self.versions],
        }


def affected(store: Store, work: str) -> Affected:
    """Everything in the store that goes back to `work`, a work of any recipe or the name of a mixed-in source.

    InputError with the nearest name when no output of the store knows it.
    """
    records = _records(store)
    roots = {key for key, record in records.items() if record.stage == "extract" and record.unit == work}
    roots |= {key for key, record in records.items() if work in _mixed(record)}
    if not roots:
        raise InputError(f"--work {work}: {_nearest(work, records)}")
    made = _closure(records, roots)
    latest = {key for stage in STAGES for key in _latest(store, {r.recipe for r in records.values()}, stage)}
    outputs = [Output(key, (r := records[key]).stage, r.recipe, r.unit, key in latest) for key in made]
    order = {stage: n for n, stage in enumerate(STAGES)}
    outputs.sort(key=lambda one: (order.get(one.stage, len(order)), one.recipe, one.unit, one.key))
    rights = {digest_of(one): one for key in sorted(roots) for one in records[key].rights}
    return Affected(work, tuple(outputs), _versions(Catalog(store).refresh(), made), tuple(rights.values()))


def _records(store: Store) -> dict[str, Record]:
    """Every finished output's record, by the output's key."""
    keys = [key.removesuffix(f"/{RECORD_NAME}") for key in store.keys("runs") if key.endswith(f"/{RECORD_NAME}")]
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda key: read_record(store, key), keys)
        return {key: record for key, record in zip(keys, found, strict=True) if record is not None}


def _closure(records: Mapping[str, Record], roots: Iterable[str]) -> set[str]:
    """The roots and everything that one of their outputs, or an output of those, went into."""
    readers: dict[str, set[str]] = {}
    for key, record in records.items():
        for digest in record.inputs.values():
            readers.setdefault(digest, set()).add(key)
    made: set[str] = set()
    todo = list(roots)
    while todo:
        key = todo.pop()
        if key not in made:
            made.add(key)
            todo += [reader for digest in _given(records[key]) for reader in readers.get(digest, ())]
    return made


def _given(record: Record) -> set[str]:
    """The digests by which later stages know what this output gave; an empty table is nothing."""
    views = record.counts.get("views")
    given = {*record.outputs.values(), *(views.values() if isinstance(views, dict) else ())}
    if set(ADAPTER_FILES) <= set(record.outputs):
        given.add(digest_of({name: record.outputs[name] for name in ADAPTER_FILES}))
    return {digest for digest in given if isinstance(digest, str) and not digest.startswith("0:")}


def _mixed(record: Record) -> set[str]:
    """Names of the sources that were mixed in."""
    return {found[1] for name in record.inputs if (found := MIXED.fullmatch(name))}


def _latest(store: Store, recipes: Iterable[str], stage: str) -> Iterable[str]:
    for recipe in recipes:
        try:
            units = store.get_json(f"runs/{recipe}/{stage}/latest.json")
        except MissingError:
            continue
        yield from (f"runs/{recipe}/{stage}/{fp}" for fp in units.values())


def _versions(state: State, made: set[str]) -> tuple[Version, ...]:
    found = []
    for persona, releases in sorted(state.versions.items()):
        shown = state.aliases.get(persona, {})
        for version, release in releases.items():
            if release.record is not None and release.record.removesuffix(f"/{RECORD_NAME}") in made:
                aliases = tuple(sorted(name for name, alias in shown.items() if alias.release.version == version))
                found.append(Version(persona, version, aliases))
    return tuple(found)


def _nearest(work: str, records: Mapping[str, Record]) -> str:
    works = {record.unit for record in records.values() if record.stage == "extract"}
    works |= {name for record in records.values() for name in _mixed(record)}
    near = difflib.get_close_matches(work, works, 1, 0.4)
    if near:
        return f"nothing was made from it; did you mean {near[0]}?"
    return f"nothing was made from it; works: {', '.join(sorted(works)[:12]) or 'none yet'}"

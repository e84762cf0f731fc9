"""What curate reads: lines, imported and generated conversations, with the digests by which a persona is up to date.

A persona's part of each is known without opening a table: the records say what each persona sees of it. Only works
about whose lines a person decided something are opened, to see whom the decisions touch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.attempt import unfinished
from jobs.stage import finished_record, read_latest, say
from understudy.cleaning.config import Made
from understudy.cleaning.sound import rows_of
from understudy.dataset import check_version
from understudy.errors import InputError
from understudy.line_samples import Setting
from understudy.overlay import Overlay, lines_digest
from understudy.overlay import read as read_overlay
from understudy.persona import Persona
from understudy.prompts import system_text
from understudy.recipe import CastEntry, Recipe
from understudy.record import Record
from understudy.samples import Offer
from understudy.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

Rights = list[dict[str, str]]
MOST_KEPT_BYTES = 128 << 20


@dataclass(frozen=True)
class Part:
    """One table, as far as one persona is concerned."""

    key: str
    digest: str
    rights: Rights = field(default_factory=list)
    strays: bool = False
    """Whether rows that name no persona are this persona's to set aside."""
    rows: int = 0
    """Of the table, as far as its record says; those of others are read too."""


@dataclass
class Parts:
    """Everything that one persona is made of."""

    lines: dict[str, Part] = field(default_factory=dict)
    """By work."""
    imported: dict[str, Part] = field(default_factory=dict)
    generated: dict[str, Part] = field(default_factory=dict)
    review: dict[str, str] = field(default_factory=dict)
    """Digest by work of what decisions change for this persona; under an empty name that of its conversations."""

    def __bool__(self) -> bool:
        return bool(self.lines or self.imported or self.generated)

    @property
    def rows(self) -> int:
        """How many rows of tables are read for it."""
        return sum(part.rows for kind in (self.lines, self.imported, self.generated) for part in kind.values())


class Tables:
    """Rows of tables, the last tables kept: the personas of one play read the same ones one after another."""

    def __init__(self, store: Store, kept_bytes: int = MOST_KEPT_BYTES):
        self.store, self.kept_bytes = store, kept_bytes
        self._kept: dict[str, pa.Table] = {}

    def rows(self, key: str) -> Iterator[Any]:
        """The rows of a table, one after another; StoreError when it is damaged or newer than this version."""
        if key not in self._kept:
            table = self.store.read_table(key)
            check_version(table, self.store.uri_of(key))
            while self._kept and sum(one.nbytes for one in self._kept.values()) + table.nbytes > self.kept_bytes:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = table
        return rows_of(self._kept[key])


@dataclass
class Sources:
    """What curate reads for every persona, and what a person decided about it."""

    tables: Tables
    overlay: Overlay
    parts: dict[str, Parts]
    stale: list[dict[str, Any]] = field(default_factory=list)
    """Decisions about lines that are not there any more as they were."""
    unfinished: dict[str, str] = field(default_factory=dict)
    """What is to be told of stages that began and did not end since, by stage."""
    met: set[str] = field(default_factory=set)
    """Works of which lines were decided on, as far as the corpus has them."""

    def tell_unfinished(self, stage: str) -> None:
        """Say it where `stage` reads what another left that began again since and did not end."""
        for other, text in self.unfinished.items():
            if other != stage:
                say(stage, text)

    @property
    def lost_works(self) -> dict[str, int]:
        """How many things were decided on in works that the corpus does not have (any more)."""
        return self.overlay.lost_works(self.met)

    def of(self, persona: str) -> Parts:
        """What there is of one persona."""
        return self.parts.get(persona) or Parts()

    def lines(self, persona: str) -> Iterator[Any]:
        """Rows of the works in which the persona speaks, one work after another, as extraction left them."""
        return (row for part in self.of(persona).lines.values() for row in self.tables.rows(part.key))

    def offers(self, persona: str) -> list[Offer]:
        """Conversations that others made for the persona."""
        own = self.of(persona)
        found = [
            Offer("imported", unit, row)
            for unit, part in own.imported.items()
            for row in self.tables.rows(part.key)
            if (name := _owner(row)) == persona or (part.strays and not name)
        ]
        made: Made = "generated"
        found += [Offer(made, unit, row) for unit, part in own.generated.items() for row in self.tables.rows(part.key)]
        return found


def sources_of(store: Store, recipe: Recipe, cast: tuple[CastEntry, ...]) -> Sources:
    """What extract and augment left for `recipe`; InputError names the command that has to run before."""
    sources = Sources(Tables(store), read_overlay(store, recipe.name), {})
    latest = read_latest(store, recipe.name, "extract") if recipe.corpus else {}
    if recipe.corpus and not latest:
        raise InputError(f"{recipe.name}: extract has not been run; run `understudy extract` with this recipe first")
    for stage, there in (("extract", latest), ("augment", recipe.augment)):
        if there and (text := unfinished(store, recipe.name, stage)):
            sources.unfinished[stage] = text
    for unit in sorted(latest):
        key, record = finished_record(store, recipe.name, "extract", unit, "understudy extract")
        if "conversations.parquet" in record.outputs:
            _add_imported(sources, unit, key, record)
        else:
            _add_lines(sources, unit, key, record)
    for persona in cast:
        _add_generated(sources, store, recipe, persona.name)
        if digest := sources.overlay.conversations_digest(persona.name):
            sources.parts.setdefault(persona.name, Parts()).review[""] = digest
    return sources


def setting_of(recipe: Recipe, persona: Persona, overlay: Overlay | None = None) -> Setting:
    """What a persona's data set depends on besides its rows; the language is the one that all of the corpus is in."""
    known = {entry.language for entry in recipe.corpus} - {"auto"}
    names = (persona.display_name, *persona.aliases)
    language = known.pop() if len(known) == 1 else ""
    return Setting(persona.name, recipe.curate, system_text(persona), names, language, overlay or Overlay())


def _add_lines(sources: Sources, work: str, key: str, record: Record) -> None:
    table = f"{key}/lines.parquet"
    views = dict(record.counts["views"])
    # Rows of a table and parts of a cut text are works of their own: `<unit>.<number>`.
    if any(one == work or one.startswith(f"{work}.") for one in sources.overlay.works):
        before = list(sources.tables.rows(table))
        sources.met |= {row["work"] for row in before} & sources.overlay.works
        after, stale = sources.overlay.apply_to_lines(before)
        sources.stale += stale
        gained = {row["persona"] for row in after if row["persona"]} - views.keys()
        views |= dict.fromkeys(gained, record.outputs["lines.parquet"])
        for persona in views:
            if digest := lines_digest(persona, before, after):
                sources.parts.setdefault(persona, Parts()).review[work] = digest
    for persona, digest in views.items():
        sources.parts.setdefault(persona, Parts()).lines[work] = Part(
            table, digest, record.rights, rows=int(record.counts.get("lines") or 0)
        )


def _add_imported(sources: Sources, unit: str, key: str, record: Record) -> None:
    views: Mapping[str, str] = record.counts["views"]
    first = min(views, default="")
    for persona, digest in views.items():
        part = Part(f"{key}/conversations.parquet", digest, record.rights, persona == first, _rows(record))
        sources.parts.setdefault(persona, Parts()).imported[unit] = part


def _add_generated(sources: Sources, store: Store, recipe: Recipe, persona: str) -> None:
    latest = read_latest(store, recipe.name, "augment") if recipe.augment else {}
    for step in recipe.augment:
        unit = f"{persona}:{step.name}"
        if unit not in latest:
            continue
        key, record = finished_record(store, recipe.name, "augment", unit, "understudy augment")
        digest = record.outputs.get("conversations.parquet")
        if digest is not None:
            part = Part(f"{key}/conversations.parquet", digest, record.rights, rows=_rows(record))
            sources.parts.setdefault(persona, Parts()).generated[unit] = part


def _rows(record: Record) -> int:
    return int(record.counts.get("conversations") or record.counts.get("accepted") or 0)


def check_augmented(store: Store, recipe: Recipe, cast: tuple[CastEntry, ...]) -> None:
    """InputError when a step of the recipe was not run for one of these personas."""
    latest = read_latest(store, recipe.name, "augment") if recipe.augment else {}
    for step in recipe.augment:
        for entry in cast:
            wanted = step.personas is None or entry.name in step.personas
            if wanted and f"{entry.name}:{step.name}" not in latest:
                missing = f"{entry.name}:{step.name}"
                raise InputError(
                    f"{missing}: augment has not been run; run `understudy augment` with this recipe first"
                )


def _owner(row: Any) -> str:
    """Whom a row belongs to; an empty string when it names nobody."""
    name = row.get("persona") if isinstance(row, Mapping) else None
    return name if isinstance(name, str) else ""

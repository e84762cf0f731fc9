"""The curate stage: lines to conversations, one dataset per persona.

    runs/<recipe>/curate/<fingerprint>/conversations.parquet   what training and evaluation read, both splits
    runs/<recipe>/curate/<fingerprint>/dropped.parquet         every row that a filter kept out, with its reason

A persona's inputs are the works in which it speaks, seen as it sees them (`dataset.persona_view`): another persona's
alias changes nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.cast import chosen_cast
from jobs.stage import StageResult, Unit, finished_record, read_latest, say, split_done, write_latest
from understudy.base import TINY
from understudy.dataset import check_version, conversations_table, curate, dropped_table
from understudy.errors import InputError, PersonaError
from understudy.lexicon import unknown_share
from understudy.recipe import CurateConfig, Recipe
from understudy.record import digest_of, table_digest
from understudy.store import Store

VERSION = 1
MOST_FOREIGN = 0.1
"""With more words than this that the embedded base does not know, its persona will not make sense."""


def run_curate(recipe: Recipe, personas: tuple[str, ...] = (), force: bool = False) -> StageResult:
    """Curate the cast of `recipe`, or only `personas`; a persona without changed lines is skipped.

    Raises PersonaError when a persona has no line, or nothing to learn is left of its lines.
    """
    began = time.time()
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    views, rights = _views(store, recipe)
    everyone = chosen_cast(recipe, store, ())
    cast = chosen_cast(recipe, store, personas)
    units = [_unit(recipe, entry.name, views.get(entry.name, {}), rights) for entry in cast]
    todo, done = split_done(store, units, force)
    for unit in todo:
        record = _curate_one(store, recipe.curate, unit, views[unit.name])
        counts = record["turns"]
        dropped = sum(record["dropped"].values())
        say(
            "curate",
            f"{unit.name}: {counts['train']} answers to learn, {counts['heldout']} held out, {dropped} dropped",
        )
    if todo and recipe.model.base == TINY:
        _warn_of_foreign_words(store, todo)
    if done:
        say("curate", f"{len(done)} of {len(units)} personas up to date, skipped")
    write_latest(store, recipe.name, "curate", {u.name: u.fingerprint for u in units}, [e.name for e in everyone])
    per_persona = {unit.name: unit.record(store) for unit in units}
    counts = {name: record.counts for name, record in per_persona.items() if record}
    made = tuple(unit.name for unit in todo)
    return StageResult(
        "curate", store, recipe.name, {u.name: u.fingerprint for u in units}, made, counts, time.time() - began
    )


def _warn_of_foreign_words(store: Store, todo: Sequence[Unit]) -> None:
    """The toy base can only say what it has words for: tell whose lines it will not carry."""
    for unit in todo:
        rows = store.read_table(f"{unit.key}/conversations.parquet").to_pylist()
        said = "\n".join(message["content"] for row in rows for message in row["messages"] if message["loss"])
        share = unknown_share(said)
        if share > MOST_FOREIGN:
            text = f"{unit.name}: the toy base does not know {share:.0%} of these words, so expect no sense of it"
            say("curate", f"{text}; a real base: model.base=Qwen/Qwen3-0.6B")


Views = dict[str, dict[str, tuple[str, str]]]
"""By persona and work: (key of the lines table, digest of the persona's view of it)."""


def _views(store: Store, recipe: Recipe) -> tuple[Views, dict[str, list[dict[str, str]]]]:
    """What each persona sees of which work, and the rights by work."""
    latest = read_latest(store, recipe.name, "extract")
    if not latest:
        raise InputError(f"{recipe.name}: extract has not been run; run `understudy extract` with this recipe first")
    views: Views = {}
    rights: dict[str, list[dict[str, str]]] = {}
    for work in sorted(latest):
        key, record = finished_record(store, recipe.name, "extract", work, "understudy extract")
        rights[work] = record.rights
        for persona, digest in record.counts["views"].items():
            views.setdefault(persona, {})[work] = (f"{key}/lines.parquet", digest)
    return views, rights


def _unit(
    recipe: Recipe,
    persona: str,
    view: Mapping[str, tuple[str, str]],
    rights: Mapping[str, list[dict[str, str]]],
) -> Unit:
    if not view:
        raise PersonaError(f"{persona}: has no line in any work; check its aliases with `understudy recipe new TEXT`")
    inputs = {work: digest for work, (_, digest) in view.items()}
    config: dict[str, Any] = {"persona": persona, **recipe.curate.model_dump(mode="json")}
    kept = {digest_of(one): one for work in view for one in rights[work]}
    return Unit(recipe.name, "curate", VERSION, persona, config, inputs, tuple(kept.values()))


def _curate_one(
    store: Store, config: CurateConfig, unit: Unit, view: Mapping[str, tuple[str, str]]
) -> Mapping[str, Any]:
    started = time.time()
    rows: list[dict[str, Any]] = []
    for key, _ in view.values():
        table = store.read_table(key)
        check_version(table, store.uri_of(key))
        rows.extend(table.to_pylist())
    curated = curate(
        rows,
        unit.name,
        window=config.window,
        heldout=config.heldout,
        seed=config.seed,
        min_chars=config.min_chars,
        max_repeats=config.max_repeats,
    )
    if not curated.counts["turns"]["train"]:
        raise PersonaError(
            f"{unit.name}: nothing to learn is left of {curated.counts['lines']} lines; see curate.min_chars"
        )
    outputs = {}
    tables = (
        ("conversations", conversations_table(curated.conversations)),
        ("dropped", dropped_table(curated.dropped)),
    )
    for name, table in tables:
        store.write_table(f"{unit.key}/{name}.parquet", table)
        outputs[f"{name}.parquet"] = table_digest(table)
    return unit.finish(store, outputs, curated.counts, started).counts

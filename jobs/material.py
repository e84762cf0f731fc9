"""What an augmentation step may see of a persona: its training scenes, read from what extract left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.mix import load
from jobs.stage import finished_record, read_latest
from understudy.augmentation.everyday import gathered
from understudy.augmentation.job import Material
from understudy.augmentation.steps import AnyStep, RestyleStep
from understudy.conversation import exchanges, scenes, split
from understudy.corpus import read_bytes
from understudy.dataset import check_version, persona_view
from understudy.errors import InputError
from understudy.persona import Persona
from understudy.recipe import CurateConfig, MixEntry, Recipe
from understudy.record import digest_of
from understudy.stage_words import is_han
from understudy.store import Store

TOLD_BY = 200
"""Lines that tell the language of a persona."""
HAN_SHARE = 0.3
"""With so many Chinese characters among the letters a text is Chinese; a name alone in it does not count."""


@dataclass(frozen=True, slots=True)
class View:
    """One work as one persona sees it."""

    work: str
    key: str
    """The lines table in the store."""
    digest: str
    """Of what the persona sees of it."""
    whole: str
    """Of the whole table, with what is told around the speeches."""
    rights: tuple[Mapping[str, str], ...]


def views_of(store: Store, recipe: Recipe) -> dict[str, list[View]]:
    """By persona, the works in which it has lines; InputError when the recipe has texts that were not extracted."""
    latest = read_latest(store, recipe.name, "extract")
    if recipe.corpus and not latest:
        raise InputError(f"{recipe.name}: extract has not been run; run `understudy extract` with this recipe first")
    found: dict[str, list[View]] = {}
    for work in sorted(latest) if recipe.corpus else ():
        key, record = finished_record(store, recipe.name, "extract", work, "understudy extract")
        if "lines.parquet" not in record.outputs:
            continue
        table = f"{key}/lines.parquet"
        for persona, digest in record.counts["views"].items():
            found.setdefault(persona, []).append(
                View(work, table, digest, record.outputs["lines.parquet"], tuple(record.rights))
            )
    return found


def material_of(
    store: Store, persona: Persona, views: Sequence[View], config: CurateConfig, step: AnyStep, recipe: Recipe
) -> Material:
    """The material of one step and persona; scenes that curate holds out are left away."""
    files = _files(step, recipe)
    rows: list[dict[str, Any]] = []
    for view in views if step.reads_lines else ():
        table = store.read_table(view.key)
        check_version(table, store.uri_of(view.key))
        whole = table.to_pylist()
        by_id = {row["line_id"]: row for row in whole}
        # Where a row stands and its tags are no part of the view, but passages of prose are put together by them.
        rows.extend({**by_id[row["line_id"]], **row} for row in persona_view(whole, persona.name))
    cut = scenes(rows, persona.name)
    splits = split(cut, config.heldout, config.seed)
    kept = tuple(scene for scene in cut if splits.get(scene.key) != "heldout")
    found = tuple(exchange for scene in kept for exchange in exchanges(scene, persona.name, config.window))
    said = [row["text"] for exchange in found for row in exchange.reply]
    return Material(persona, language_of(step, persona, said), kept, found, files)


def language_of(step: AnyStep, persona: Persona, said: Sequence[str]) -> str:
    """The step's own word, else `zh` or `en` by the letters of what the step or the persona says."""
    if step.language != "auto":
        return step.language
    own = step.texts() or said[:TOLD_BY] or (persona.system_prompt, persona.greeting, persona.description)
    return "zh" if _is_chinese([*own, persona.display_name]) else "en"


def file_digests(step: AnyStep, recipe: Recipe) -> dict[str, str]:
    """Digest by path of the files that a step reads."""
    return {path: digest_of(data.hex()) for path, data in _files(step, recipe).items()}


def _files(step: AnyStep, recipe: Recipe) -> dict[str, bytes]:
    found = {path: read_bytes(_located(recipe, path)) for path in step.files()}
    if isinstance(step, RestyleStep) and step.dataset:
        entry = MixEntry(dataset=step.dataset, split=step.split)
        found[step.source()] = gathered(load(recipe, entry, f"augment.{step.name}"), step.source(), step.column)
    return found


def _located(recipe: Recipe, path: str) -> str:
    return path if "://" in path else str(recipe.path_of(path))


def _is_chinese(texts: Iterable[str]) -> bool:
    letters = [char for text in texts for char in text if char.isalpha()]
    return bool(letters) and sum(map(is_han, letters)) > HAN_SHARE * len(letters)

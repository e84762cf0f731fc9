"""What an augmentation step may see of a persona: its training scenes, read from what extract left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.stage import finished_record, read_latest
from understudy.augmentation.job import Material
from understudy.augmentation.steps import AnyStep
from understudy.conversation import exchanges, scenes, split
from understudy.corpus import read_bytes
from understudy.dataset import check_version, persona_view
from understudy.errors import InputError
from understudy.persona import Persona
from understudy.recipe import CurateConfig, Recipe
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
        for persona, digest in record.counts["views"].items():
            found.setdefault(persona, []).append(View(work, f"{key}/lines.parquet", digest, tuple(record.rights)))
    return found


def material_of(
    store: Store, persona: Persona, views: Sequence[View], config: CurateConfig, step: AnyStep, recipe: Recipe
) -> Material:
    """The material of one step and persona; scenes that curate holds out are left away."""
    files = {path: read_bytes(_located(recipe, path)) for path in step.files()}
    rows: list[dict[str, Any]] = []
    for view in views if step.reads_lines else ():
        table = store.read_table(view.key)
        check_version(table, store.uri_of(view.key))
        rows.extend(persona_view(table.to_pylist(), persona.name))
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
    return {path: digest_of(read_bytes(_located(recipe, path)).hex()) for path in step.files()}


def _located(recipe: Recipe, path: str) -> str:
    return path if "://" in path else str(recipe.path_of(path))


def _is_chinese(texts: Iterable[str]) -> bool:
    letters = [char for text in texts for char in text if char.isalpha()]
    return bool(letters) and sum(map(is_han, letters)) > HAN_SHARE * len(letters)

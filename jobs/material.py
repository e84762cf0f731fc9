"""What an augmentation step may see of a persona: its training scenes, read from what extract left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jobs.curate_sources import Sources, setting_of
from jobs.mix import load
from understudy.augmentation.everyday import gathered
from understudy.augmentation.job import Material
from understudy.augmentation.steps import AnyStep, RestyleStep
from understudy.cleaning.sound import conversation_or_reason
from understudy.conversation import Conversation, exchanges, scenes, split
from understudy.corpus import read_bytes
from understudy.dataset import persona_view
from understudy.persona import Persona
from understudy.recipe import MixEntry, Recipe
from understudy.record import digest_of, read_record
from understudy.samples import drawn, may_be_held_out
from understudy.stage_words import is_han
from understudy.store import Store

TOLD_BY = 200
"""Lines that tell the language of a persona."""
HAN_SHARE = 0.3
"""With so many Chinese characters among the letters a text is Chinese; a name alone in it does not count."""


def inputs_of(store: Store, sources: Sources, step: AnyStep, persona: str) -> dict[str, str]:
    """Digest by name of everything of the persona's that a step depends on, a person's corrections too."""
    own = sources.of(persona)
    found: dict[str, str] = {}
    for work, part in own.lines.items() if step.reads_lines else ():
        # What is told around the speeches is no part of a persona's view: a step that reads it depends on all of it.
        found[work] = _whole(store, part.key) if step.reads_narration else part.digest
        if work in own.review:
            found[f"review:{work}"] = own.review[work]
    for unit, part in own.imported.items() if step.reads_lines else ():
        found[f"imported:{unit}"] = part.digest
    if step.reads_lines and own.imported and persona in sources.overlay.personas():
        changed = [[a.conversation_id, b.conversation_id, do] for a, b, do in _decided(sources, persona) if do]
        if changed := [one for one in changed if one[2] == "drop" or one[0] != one[1]]:
            found["review:imported"] = digest_of(changed)
    return found


def rights_of(sources: Sources, step: AnyStep, persona: str) -> tuple[dict[str, str], ...]:
    """Source, licence, holder and note of what a step reads of the persona."""
    own = sources.of(persona)
    parts = [*own.lines.values(), *own.imported.values()] if step.reads_lines else []
    return tuple({digest_of(one): one for part in parts for one in part.rights}.values())


def material_of(sources: Sources, persona: Persona, step: AnyStep, recipe: Recipe) -> Material:
    """The material of one step and persona; what curate holds out is left away."""
    config, name = recipe.curate, persona.name
    whole: list[dict[str, Any]] = [dict(row) for row in sources.lines(name)] if step.reads_lines else []
    if sources.overlay.works:
        whole, _ = sources.overlay.apply_to_lines(whole)
    by_id = {row["line_id"]: row for row in whole}
    # Where a row stands and its tags are no part of the view, but passages of prose are put together by them.
    rows = [{**by_id[row["line_id"]], **row} for row in persona_view(whole, name)]
    cut = scenes(rows, name)
    splits = split(cut, config.heldout, config.seed)
    kept = tuple(scene for scene in cut if splits.get(scene.key) != "heldout")
    found = tuple(exchange for scene in kept for exchange in exchanges(scene, name, config.window))
    imported = tuple(_imported(sources, persona, recipe)) if step.reads_lines else ()
    said = [row["text"] for exchange in found for row in exchange.reply]
    said += [message.content for one in imported for message in one.messages if message.loss]
    return Material(persona, language_of(step, persona, said), kept, found, imported, _files(step, recipe))


def _whole(store: Store, key: str) -> str:
    record = read_record(store, key.rpartition("/")[0])
    return record.outputs["lines.parquet"] if record else ""


def _imported(sources: Sources, persona: Persona, recipe: Recipe) -> list[Conversation]:
    """Conversations that somebody made for the persona, as decided, but for those that curate may hold out."""
    setting = setting_of(recipe, persona, sources.overlay)
    hidden = may_be_held_out(setting, sources.lines(persona.name), sources.offers(persona.name))
    left = {after.conversation_id: after for _, after, do in _decided(sources, persona.name) if do != "drop"}
    return sorted(
        (one for identity, one in left.items() if identity not in hidden),
        key=lambda one: (drawn(recipe.curate.seed, one.conversation_id), one.conversation_id),
    )


def _decided(sources: Sources, persona: str) -> list[tuple[Conversation, Conversation, str]]:
    """The persona's imported conversations as they came and as a person decided, with `keep`, `drop`, `edit` or ""."""
    offers = (offer for offer in sources.offers(persona) if offer.source == "imported")
    read = [one for offer in offers if not isinstance(one := conversation_or_reason(offer.row), str)]
    decided, _ = sources.overlay.apply_to_conversations(read, persona)
    return [(before, after, do) for before, (after, do) in zip(read, decided, strict=True)]


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

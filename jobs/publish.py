"""The publish stage: trained adapters become immutable versions in the catalog, a whole cast with one entry.

    runs/<recipe>/publish/<fingerprint>/release.json      what was published of one persona

Each PEFT folder is copied, sealed (understudy/adapter.py) and stored under the digest that names it; then one entry of
the catalog's log shows all of them. Killed before that entry nothing has changed for anybody; run again it goes on.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jobs.cast import chosen_cast
from jobs.stage import (
    StageResult,
    Unit,
    curated_conversations,
    fingerprints,
    finished_record,
    read_latest,
    say,
    split_done,
    write_latest,
)
from understudy.adapter import seal
from understudy.base import Base, resolve
from understudy.cards import CardFile, read_card_file
from understudy.catalog import Catalog
from understudy.conversation import Conversation
from understudy.errors import InputError
from understudy.names import user_name
from understudy.persona import Persona, cast_entry_persona
from understudy.recipe import Recipe
from understudy.record import digest_of
from understudy.release import Entry, Release, prompt_version, weight_of
from understudy.store import Store

VERSION = 1
QUESTIONS = 4
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

PromptOnly = Literal["offer", "always", "never"]


def run_publish(recipe: Recipe, personas: tuple[str, ...] = (), force: bool = False) -> StageResult:
    """Publish the cast of `recipe`, or only `personas`, with one entry; what is published as it is now is skipped.

    Skipped also when someone has since moved the alias by hand: a rollback is not undone by running the recipe again.
    Raises InputError when a persona was not evaluated.
    """
    began = time.time()
    folder = Path(recipe.folder or ".")
    store = Store.open(recipe.store, folder)
    base = resolve(recipe.model, folder)
    everyone = chosen_cast(recipe, store, ())
    entries = chosen_cast(recipe, store, personas)
    cast = {entry.name: cast_entry_persona(entry, recipe) for entry in entries}
    files = {e.name: read_card_file(recipe.path_of(e.card)) for e in entries if e.card}
    units = [_unit(store, recipe, base, persona, files.get(persona.name)) for persona in cast.values()]
    todo, done = split_done(store, units, force)
    # What was published once is on stage only as long as nothing else was published after it.
    latest = read_latest(store, recipe.name, "publish")
    todo += [unit for unit in done if latest.get(unit.name) != unit.fingerprint]
    done = [unit for unit in done if latest.get(unit.name) == unit.fingerprint]
    if done:
        say("publish", f"{len(done)} of {len(units)} personas up to date, skipped")
    if todo:
        _publish(store, recipe, base, [(unit, cast[unit.name]) for unit in todo], files)
    write_latest(store, recipe.name, "publish", fingerprints(units), [entry.name for entry in everyone])
    return StageResult.of("publish", store, recipe.name, units, todo, began)


def _unit(store: Store, recipe: Recipe, base: Base, persona: Persona, file: CardFile | None) -> Unit:
    _, trained = finished_record(store, recipe.name, "train", persona.name, "understudy train")
    _, evaluated = finished_record(store, recipe.name, "evaluate", persona.name, "understudy evaluate")
    config = {
        "persona": persona.name,
        "card": digest_of(persona.to_card()),
        "template_kwargs": dict(recipe.model.template_kwargs),
        **recipe.publish.model_dump(mode="json"),
    }
    if file is not None and not file.bare:
        config["card_file"] = file.digest
    inputs = {name: trained.outputs[name] for name in ADAPTER_FILES}
    if evaluated.inputs["adapter"] != digest_of(inputs):
        raise InputError(f"{persona.name}: its newest adapter was not evaluated; run `understudy evaluate` first")
    inputs |= {"base": base.identity, "evaluation": evaluated.outputs["evaluation.json"]}
    return Unit(recipe.name, "publish", VERSION, persona.name, config, inputs, tuple(trained.rights))


def _publish(
    store: Store, recipe: Recipe, base: Base, todo: Sequence[tuple[Unit, Persona]], files: Mapping[str, CardFile]
) -> None:
    started = time.time()
    config = recipe.publish
    catalog = Catalog(store)
    with tempfile.TemporaryDirectory(prefix="understudy-publish-") as scratch:
        for unit, persona in todo:
            if unit.name in files:
                catalog.put_card_file(catalog.put_card(persona.to_card()), files[unit.name])
        items = [_item(store, recipe, persona, Path(scratch) / persona.name) for _, persona in todo]
        releases, entry = publish_cast(
            catalog,
            items,
            base,
            recipe.model.template_kwargs,
            alias=config.alias,
            weight=weight_of(config.alias, config.weight),
            prompt_only=config.prompt_only,
            who=user_name(),
        )
    shown = f"entry {entry.n}" if entry else "unchanged"
    for (unit, _), release in zip(todo, releases, strict=True):
        store.put_json(f"{unit.key}/release.json", release.model_dump(mode="json"))
        counts = {"version": release.version, "prompt_only": release.prompt_only, "entry": entry.n if entry else None}
        unit.finish(store, {"release.json": digest_of(release.model_dump(mode="json"))}, counts, started)
        advice = f"; {release.advice}" if release.advice else ""
        say("publish", f"{unit.name}@{config.alias} -> {release.version} ({shown}){advice}")


def _item(store: Store, recipe: Recipe, persona: Persona, folder: Path) -> Item:
    key, trained = finished_record(store, recipe.name, "train", persona.name, "understudy train")
    _, evaluated = finished_record(store, recipe.name, "evaluate", persona.name, "understudy evaluate")
    folder.mkdir()
    for name in ADAPTER_FILES:
        (folder / name).write_bytes(store.get(f"{key}/{name}"))
    scores = evaluated.counts
    questions = persona.questions or _suggested(curated_conversations(store, recipe.name, persona.name))
    return Item(
        persona,
        folder,
        beats_prompt=not scores["prompt_only"],
        scores={name: scores[name] for name in ("base", "prompted", "own", "gain") if name in scores},
        questions=questions,
        record=f"{key}/record.json",
        rights=tuple(trained.rights),
    )


def _suggested(conversations: Sequence[Conversation]) -> tuple[str, ...]:
    """Questions that others ask the persona in the work: what a visitor may ask first."""
    heard = [
        message.content.split("\n")[-1] for one in conversations for message in one.messages if message.role == "user"
    ]
    asked = [text for text in heard if text.endswith(("?", "？")) and 8 <= len(text) <= 60]
    return tuple(dict.fromkeys(asked))[:QUESTIONS]


@dataclass(frozen=True, slots=True)
class Item:
    """One persona to publish."""

    persona: Persona
    folder: Path | None
    """What training left (PEFT files); None publishes the prompt alone."""
    beats_prompt: bool | None = None
    """Whether evaluation found the adapter better than the prompted base; None when it was not evaluated."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    questions: tuple[str, ...] = ()
    """What a visitor may ask first; empty: the card's."""
    record: str | None = None
    """Store key of the record of the adapter's training."""
    rights: tuple[dict[str, str], ...] = ()
    """Source, licence, holder and note of what it was trained on."""


def publish_cast(
    catalog: Catalog,
    items: Sequence[Item],
    base: Base,
    template_kwargs: Mapping[str, Any],
    *,
    alias: str | None = "current",
    weight: int = 100,
    prompt_only: PromptOnly = "offer",
    who: str = "",
) -> tuple[list[Release], Entry | None]:
    """Store every adapter and card, then publish all with one entry; None when the alias shows just this already.

    An adapter that does not beat the prompted base is published with advice that says so (`offer`; `PERSONA@prompt`
    is always there to talk to), replaced by the prompt alone (`always`), or published without a word (`never`).
    """
    kwargs = dict(template_kwargs)
    releases = [release_of(catalog, item, base, kwargs, prompt_only) for item in items]
    entry = catalog.publish(releases, alias, weight, who)
    return releases, entry


def release_of(
    catalog: Catalog, item: Item, base: Base, template_kwargs: dict[str, Any], prompt_only: PromptOnly
) -> Release:
    """The release of one persona, its card and adapter already in the store."""
    card = catalog.put_card(item.persona.to_card())
    weak = item.beats_prompt is False
    release = Release(
        persona=item.persona.name,
        version=prompt_version(card, base.identity, template_kwargs),
        base_name=base.served_name if Path(base.name).is_absolute() else base.name,
        base_identity=base.identity,
        card=card,
        template_kwargs=template_kwargs,
        questions=item.questions or item.persona.questions,
        scores=dict(item.scores),
        record=item.record,
    )
    if item.folder is None or (weak and prompt_only == "always"):
        return release
    with tempfile.TemporaryDirectory(prefix="understudy-publish-") as scratch:
        folder = Path(shutil.copytree(item.folder, Path(scratch) / item.persona.name))
        seal(
            folder,
            persona=item.persona.name,
            base_name=release.base_name,
            base_identity=base.identity,
            template_kwargs=template_kwargs,
            scores=dict(item.scores),
            record=item.record,
            rights=item.rights,
        )
        manifest, digest = catalog.put_adapter(folder)
    name = item.persona.name
    advice = f"the adapter does not beat the prompted base on held-out lines; {name}@prompt is the card alone"
    return release.model_copy(
        update={
            "version": manifest.version,
            "manifest": digest,
            "rank": manifest.rank,
            "advice": advice if weak and prompt_only == "offer" else None,
        }
    )

"""A persona's drafted card: the one that an augment step of kind `cards` left, else one made of real lines alone."""

from __future__ import annotations

from typing import Any

from jobs.cast import chosen_cast
from jobs.curate_sources import sources_of
from jobs.material import material_of
from jobs.stage import read_latest
from understudy.augmentation import cards
from understudy.augmentation.steps import CardsStep
from understudy.errors import PersonaError
from understudy.persona import cast_entry_persona
from understudy.recipe import Recipe
from understudy.record import output_key, read_record
from understudy.store import Store


def drafted_card(recipe: Recipe, store: Store, name: str) -> tuple[dict[str, Any], str]:
    """(card, how it was made) of one persona of the cast; the person's own fields are in it as they are.

    InputError when extract has not been run, PersonaError when the persona is unknown or says nothing.
    """
    [entry] = chosen_cast(recipe, store, (name,))
    latest = read_latest(store, recipe.name, "augment")
    for step in recipe.augment:
        fingerprint = latest.get(f"{name}:{step.name}")
        if isinstance(step, CardsStep) and step.endpoint and fingerprint:
            key = output_key(recipe.name, "augment", fingerprint)
            if (record := read_record(store, key)) and "card.json" in record.outputs:
                return store.get_json(f"{key}/card.json"), f"augment step {step.name}"
    persona = cast_entry_persona(entry, recipe)
    step = CardsStep(kind="cards", name="cards", endpoint=None)
    material = material_of(sources_of(store, recipe, ()), persona, step, recipe)
    if not material.exchanges:
        raise PersonaError(f"{name}: has no line to draft a card from; check its aliases with `understudy recipe new`")
    return cards.finish(step, material, [])["card.json"], "real lines, no model"

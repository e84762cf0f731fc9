"""The cast that a stage works on: from the recipe, or for `cast: auto` from what extract found."""

from __future__ import annotations

from understudy.errors import MissingError, PersonaError
from understudy.persona import cast_entries, chosen
from understudy.recipe import AutoCastEntry, CastEntry, Recipe
from understudy.store import Store, json_bytes


def chosen_cast(recipe: Recipe, store: Store, personas: tuple[str, ...]) -> tuple[CastEntry, ...]:
    """The recipe's cast, narrowed to `personas` where some are named; PersonaError for an unknown or empty one."""
    if isinstance(recipe.cast, AutoCastEntry):
        try:
            speakers = [(str(name), int(lines)) for name, lines in store.get_json(_key(recipe))]
        except MissingError:
            speakers = None
        entries = cast_entries(recipe, speakers)
    else:
        entries = cast_entries(recipe)
    if not entries:
        raise PersonaError(
            f"{recipe.name}: the cast is empty; add entries to `cast`, or `cast: {{auto: {{min_lines: 80}}}}`"
        )
    return chosen(entries, personas)


def remember_speakers(recipe: Recipe, store: Store, speakers: list[tuple[str, int]]) -> None:
    """Keep what an automatic cast is made of, for the stages behind extract."""
    store.put(_key(recipe), json_bytes([list(pair) for pair in speakers]))


def _key(recipe: Recipe) -> str:
    return f"runs/{recipe.name}/extract/speakers.json"

"""Cards that augmentation drafted, beside the cast's own: what each field cites, and taking one over.

A field is written into the card file of the cast entry only while it still is what the person saw: an edit made
meanwhile is never overwritten. An entry without a card gets a new file beside the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.cards import CardFile, as_version, card_data, read_card_file, write_card_file
from understudy.errors import InputError, UnderstudyError
from understudy.persona import Persona, cast_entries
from understudy.recipe import AutoCastEntry, Recipe
from understudy.reviewing.outputs import finished
from understudy.store import Store

TEXTS = ("description", "personality", "scenario", "first_mes", "mes_example")
LISTS = ("alternate_greetings",)
BOOK = "character_book"
FIELDS = (*TEXTS, *LISTS, BOOK)
"""What a draft can fill, in the order in which it is shown."""


class ChangedError(InputError):
    """The card is not what the person saw any more."""


def drafts(store: Store, recipe: Recipe, cast: Mapping[str, Persona]) -> list[dict[str, Any]]:
    """Drafted cards: {"unit", "persona", "file", "fields": [{"field", "draft", "current", "citations", "state"}]}.

    State is `open` (the card has nothing there), `accepted` (the same), or `own` (the card says something else).
    """
    found = []
    for unit in finished(store, recipe.name, "augment"):
        if "card.json" not in unit.record.outputs:
            continue
        persona = unit.name.partition(":")[0]
        data = card_data(store.get_json(f"{unit.key}/card.json"))
        path = card_path(recipe, persona)
        current = _current(path, cast.get(persona))
        citations = _citations(data)
        fields = []
        for name in FIELDS:
            draft = _entries(data) if name == BOOK else data.get(name)
            if draft and (name in citations or name == BOOK):
                own = _entries(current) if name == BOOK else current.get(name)
                state = "accepted" if own == draft else "own" if own else "open"
                shown = {"field": name, "draft": draft, "current": own or None, "state": state}
                fields.append({**shown, "citations": citations.get(name, [])})
        found.append({"unit": unit.name, "persona": persona, "file": str(path), "fields": fields})
    return found


def accept(store: Store, recipe: Recipe, cast: Mapping[str, Persona], given: Mapping[str, Any]) -> dict[str, Any]:
    """Write one field into the persona's card: `given` has unit, field, value (as the person left it) and was.

    Answers {"file", "note"}. ChangedError when the card's field is not `was` any more, InputError for what does not
    hold.
    """
    unit = next((one for one in finished(store, recipe.name, "augment") if one.name == given.get("unit")), None)
    name, value = given.get("field"), given.get("value")
    if unit is None or "card.json" not in unit.record.outputs or name not in FIELDS:
        raise InputError("review: there is no such draft")
    if problem := _problem(str(name), value):
        raise InputError(f"review: {name} {problem}")
    persona = unit.name.partition(":")[0]
    path = card_path(recipe, persona)
    file = _file(path, cast.get(persona))
    data = card_data(file.card)
    own = _entries(data) if name == BOOK else data.get(name)
    if (own or None) != (given.get("was") or None):
        raise ChangedError(f"{path}: {name} was changed meanwhile; look at it again")
    draft = card_data(store.get_json(f"{unit.key}/card.json"))
    write_card_file(path, _with(file, str(name), value, _citations(draft).get(str(name))))
    return {"file": str(path), "note": _note(recipe, persona, path)}


def card_path(recipe: Recipe, persona: str) -> Path:
    """The card file of a persona; the one that it would get where it has none."""
    if not isinstance(recipe.cast, AutoCastEntry):
        for entry in cast_entries(recipe):
            if entry.name == persona and entry.card:
                return recipe.path_of(entry.card)
    return recipe.path_of(f"cards/{persona}.json")


def _note(recipe: Recipe, persona: str, path: Path) -> str:
    """What is left to do for the card to count."""
    named = not isinstance(recipe.cast, AutoCastEntry) and any(
        entry.name == persona and entry.card for entry in cast_entries(recipe)
    )
    return "" if named else f"add `card: cards/{path.name}` to {persona} in the recipe's cast"


def _file(path: Path, persona: Persona | None) -> CardFile:
    if path.exists():
        return read_card_file(path)
    if persona is None:
        raise InputError(f"{path.stem}: is not in the cast any more")
    return CardFile(persona.to_card())


def _current(path: Path, persona: Persona | None) -> Mapping[str, Any]:
    try:
        return card_data(_file(path, persona).card)
    except UnderstudyError:
        return {}  # a card that cannot be read is said when something is accepted into it


def _with(file: CardFile, name: str, value: Any, citations: Any) -> CardFile:
    """The card with one field replaced, and with what that field cites."""
    card = as_version(file.card, "v2") if "data" not in file.card else dict(file.card)
    data = dict(card["data"])
    if name == BOOK:
        book = data.get(BOOK)
        data[BOOK] = {**(book if isinstance(book, dict) else {"extensions": {}}), "entries": value}
    else:
        data[name] = value
    if citations:
        extensions = dict(data.get("extensions") or {})
        own = dict(extensions.get("understudy") or {})
        before = own.get("citations")
        own["citations"] = {**(before if isinstance(before, dict) else {}), name: citations}
        data["extensions"] = {**extensions, "understudy": own}
    return CardFile({**card, "data": data}, file.assets, file.image)


def _problem(name: str, value: Any) -> str:
    if name in TEXTS:
        return "" if isinstance(value, str) and value.strip() else "must be text"
    if not isinstance(value, list) or not value:
        return "must be a list"
    if name in LISTS:
        return "" if all(isinstance(one, str) and one.strip() for one in value) else "must be a list of texts"
    whole = all(isinstance(one, dict) and isinstance(one.get("content"), str) and one.get("keys") for one in value)
    return "" if whole else "must be a list of entries with keys and content"


def _entries(data: Mapping[str, Any]) -> list[Any]:
    book = data.get(BOOK)
    entries = book.get("entries") if isinstance(book, dict) else None
    return entries if isinstance(entries, list) else []


def _citations(data: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """By field, statements with their line_ids; a lorebook's entries carry their own."""
    extensions = data.get("extensions")
    own = extensions.get("understudy") if isinstance(extensions, dict) else None
    drafted = own.get("drafted") if isinstance(own, dict) else None
    fields = drafted.get("fields") if isinstance(drafted, dict) else None
    found = own.get("citations") if isinstance(own, dict) else None
    kept = {n: c for n, c in found.items() if isinstance(c, list)} if isinstance(found, dict) else {}
    if isinstance(fields, list):
        kept = {name: cited for name, cited in kept.items() if name in fields}
    lore = []
    for entry in _entries(data):
        inner = (entry.get("extensions") or {}).get("understudy") if isinstance(entry, dict) else None
        if isinstance(inner, dict) and inner.get("citations"):
            lore.append({"text": str(entry.get("content", "")), "lines": list(inner["citations"])})
    return {**kept, **({BOOK: lore} if lore else {})}

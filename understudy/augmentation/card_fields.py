"""A drafted card as Character Card V2: what a person wrote stays, what is empty is filled and cites its lines.

card = free_card(persona, scenes)       # without a model: greetings and example messages from real lines
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from understudy.augmentation.chosen import GREETINGS, Chosen, example_text, examples, greetings, weight
from understudy.conversation import Scene
from understudy.letters import letters
from understudy.persona import Persona

LISTS = ("description", "habits", "relations", "scenario", "greetings", "examples", "lore")
"""What notes on a character hold, each a list of statements."""
MOST_EXAMPLES = 6
LEAST_GREETING = 4
"""Letters (a Chinese character counts as three)."""

Statement = Mapping[str, Any]
Notes = Mapping[str, Sequence[Statement]]


def free_card(persona: Persona, scenes: Iterable[Scene]) -> dict[str, Any]:
    """The persona's card with greetings and example messages from its real lines where it has none; no model."""
    return filled_card(persona, scenes, {}, {}, None, 0)


def merged(found: Sequence[Notes]) -> dict[str, list[Statement]]:
    """The statements of several notes by list, the same words once."""
    out: dict[str, list[Statement]] = {name: [] for name in LISTS}
    for name in LISTS:
        seen: set[str] = set()
        for notes in found:
            for item in notes.get(name, ()):
                said = letters(f"{item.get('text', '')}{item.get('reply', '')}")
                if said not in seen:
                    seen.add(said)
                    out[name].append(item)
    return out


def filled_card(
    persona: Persona,
    scenes: Iterable[Scene],
    notes: Notes,
    dropped: Mapping[str, int],
    prompt: str | None,
    lore: int,
) -> dict[str, Any]:
    """The persona's own card with its empty fields filled: from `notes`, and greetings and examples also from lines.

    `extensions.understudy.citations` has, for each field that was filled, a list of {"text", "lines"};
    `extensions.understudy.drafted` says by which prompt (None: no model) and what was dropped.
    """
    card = persona.to_card()
    data: dict[str, Any] = card["data"]
    cited: dict[str, list[dict[str, Any]]] = {}
    scenes = tuple(scenes)

    def fill(field: str, value: Any, statements: Sequence[Statement]) -> None:
        if value and not data.get(field):
            data[field] = value
            cited[field] = [{"text": one["text"], "lines": list(one["lines"])} for one in statements]

    told = {name: list(notes.get(name, ())) for name in LISTS}
    fill(
        "description",
        "\n".join(filter(None, (_sentences(told["description"]), _sentences(told["relations"], "\n")))),
        [*told["description"], *told["relations"]],
    )
    fill("personality", _sentences(told["habits"]), told["habits"])
    fill("scenario", _sentences(told["scenario"]), told["scenario"])
    opening = _openings(told["greetings"], scenes, persona)
    if opening and not data.get("first_mes"):
        fill("first_mes", opening[0]["text"], opening[:1])
        opening = opening[1:]
    opening = [one for one in opening if one["text"] != data.get("first_mes")][: GREETINGS - 1]
    fill("alternate_greetings", [one["text"] for one in opening], opening)
    shown = _examples(told["examples"], scenes, persona)
    fill("mes_example", example_text(shown), [{"text": one.text, "lines": one.lines} for one in shown])
    _fill_book(data, persona, told["lore"][:lore])
    extensions = dict(data.get("extensions") or {})
    own = dict(extensions.get("understudy") or {})
    before = own.get("citations")
    own["citations"] = {**(before if isinstance(before, dict) else {}), **cited}
    own["drafted"] = {"prompt": prompt, "fields": sorted(cited), "dropped": dict(sorted(dropped.items()))}
    data["extensions"] = {**extensions, "understudy": own}
    return card


def _sentences(statements: Sequence[Statement], between: str = "") -> str:
    """Statements as one text: sentences of Chinese follow each other, others have a blank between."""
    text = ""
    for one in statements:
        said = one["text"].strip()
        if said and said[-1].isalnum():
            said += "." if said[-1].isascii() else "。"
        gap = between or (" " if text and text[-1].isascii() else "")
        text += f"{gap if text else ''}{said}"
    return text


def _openings(drafted: Sequence[Statement], scenes: Sequence[Scene], persona: Persona) -> list[Statement]:
    """The drafted greetings, filled up with real ones."""
    found: list[Statement] = [one for one in drafted if weight(one["text"]) >= LEAST_GREETING][:GREETINGS]
    if len(found) < GREETINGS:
        real = [{"text": one.text, "lines": one.lines} for one in greetings(scenes, persona.name)]
        found += [one for one in real if one["text"] not in {held["text"] for held in found}]
    return found[: GREETINGS + 1]


def _examples(drafted: Sequence[Statement], scenes: Sequence[Scene], persona: Persona) -> list[Chosen]:
    if drafted:
        return [Chosen(one["reply"].strip(), one["user"].strip(), tuple(one["lines"])) for one in drafted][
            :MOST_EXAMPLES
        ]
    return examples(scenes, persona.name)


def _fill_book(data: dict[str, Any], persona: Persona, lore: Sequence[Statement]) -> None:
    book = data.get("character_book")
    if not lore or (isinstance(book, dict) and book.get("entries")):
        return
    entries = [
        {
            "keys": [key.strip() for key in one["keys"] if key.strip()],
            "content": one["text"].strip(),
            "extensions": {"understudy": {"citations": list(one["lines"])}},
            "enabled": True,
            "insertion_order": number,
            "case_sensitive": False,
            "name": one["keys"][0].strip(),
            "id": number,
            "comment": "",
            "selective": False,
            "secondary_keys": [],
            "constant": False,
            "position": "before_char",
        }
        for number, one in enumerate(lore)
    ]
    kept = book if isinstance(book, dict) else {"name": persona.display_name, "extensions": {}}
    data["character_book"] = {**kept, "entries": entries}

"""A persona: who speaks, and how it is shown and prompted.

A Character Card (V1, V2, V3) goes in and out without loss: fields that we do not know stay in `card` and come back as
they were. What a cast entry says wins over its card.
"""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, JsonValue

from understudy.cards import SUFFIXES, card_data, is_nested, read_card
from understudy.errors import PersonaError, RecipeError
from understudy.names import expanded, is_name, slug

if TYPE_CHECKING:
    from understudy.recipe import AutoCast, CastEntry, Recipe

SPEC = "chara_card_v2"
# What a card may set for sampling: exactly what the chat API takes, so a misspelt key is found here and not in service.
# A range of integers is one of whole numbers.
SAMPLING = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (-1, 1_000_000),
    "min_p": (0.0, 1.0),
    "max_tokens": (1, 1_000_000),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.0, 10.0),
    "seed": (0, 2**63 - 1),
}


class Persona(BaseModel):
    """One character, resolved from a cast entry and its card."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Persona id = served model name."""
    display_name: str
    aliases: tuple[str, ...] = ()
    works: tuple[str, ...] = ("*",)
    description: str = ""
    personality: str = ""
    scenario: str = ""
    system_prompt: str = ""
    greeting: str = ""
    """What the persona says first (`first_mes`)."""
    greetings: tuple[str, ...] = ()
    """Other openings (`alternate_greetings`)."""
    example_messages: str = ""
    """`mes_example`, as written in the card."""
    sampling: dict[str, float | int] = {}
    """Defaults for requests that do not say otherwise (`extensions.understudy.sampling`)."""
    questions: tuple[str, ...] = ()
    """Suggested questions for a chat page (`extensions.understudy.questions`)."""
    card: dict[str, JsonValue] = {}
    """The card as it came, unknown fields included; empty when there was none."""

    @classmethod
    def from_card(cls, card: dict[str, Any], name: str | None = None, where: str = "card") -> Persona:
        """A persona from a Character Card V2 or V3 (a V1 card's flat fields are read as well).

        Raises PersonaError naming `where` and the field that does not hold.
        """
        if not isinstance(card, dict):
            raise PersonaError(f"{where}: a character card is a JSON object; found {type(card).__name__}")
        spec = card.get("spec")
        if spec is not None and not (str(spec).startswith("chara_card_v") and is_nested(card)):
            raise PersonaError(f"{where}: spec {spec!r} without a data object is no character card; expected {SPEC}")
        data = card_data(card)
        for field in ("name", "description", "personality", "scenario", "first_mes", "mes_example", "system_prompt"):
            if not isinstance(data.get(field, ""), str):
                raise PersonaError(f"{where}: {field} must be text; found {type(data[field]).__name__}")
        shown = str(data.get("name", "")).strip()
        if not shown:
            raise PersonaError(f"{where}: the card has no name; add data.name")
        extensions = _object(data.get("extensions"), f"{where}: extensions")
        own = _object(extensions.get("understudy"), f"{where}: extensions.understudy")
        return cls(
            name=name or slug(shown),
            display_name=shown,
            description=data.get("description", ""),
            personality=data.get("personality", ""),
            scenario=data.get("scenario", ""),
            system_prompt=data.get("system_prompt", ""),
            greeting=data.get("first_mes", ""),
            greetings=_texts(data.get("alternate_greetings"), f"{where}: alternate_greetings"),
            example_messages=data.get("mes_example", ""),
            sampling=_sampling(own.get("sampling"), where),
            questions=_texts(own.get("questions"), f"{where}: extensions.understudy.questions"),
            card=card,
        )

    @property
    def called(self) -> str:
        """What `{{char}}` stands for: the nickname of a V3 card, else the display name."""
        nickname = card_data(self.card).get("nickname")
        return nickname.strip() if isinstance(nickname, str) and nickname.strip() else self.display_name

    def to_card(self) -> dict[str, Any]:
        """A card of the version that came in, else V2; what came with it and was not changed goes out as it was."""
        came = self.card if is_nested(self.card) else {"data": dict(self.card)}
        inner = came.get("data")
        data: dict[str, Any] = dict(inner) if isinstance(inner, dict) else {}
        fields: dict[str, Any] = {
            "name": self.display_name,
            "description": self.description,
            "personality": self.personality,
            "scenario": self.scenario,
            "first_mes": self.greeting,
            "mes_example": self.example_messages,
            "system_prompt": self.system_prompt,
            "alternate_greetings": list(self.greetings),
        }
        blank: dict[str, Any] = {"creator_notes": "", "post_history_instructions": "", "tags": [], "creator": ""}
        for key, value in {**blank, "character_version": "", **fields}.items():
            if key in fields or key not in data:
                data[key] = value
        extensions = dict(data.get("extensions") or {})
        own = dict(extensions.get("understudy") or {})
        for key, value in (("sampling", dict(self.sampling)), ("questions", list(self.questions))):
            if value or key in own:
                own[key] = value
        if own:
            extensions["understudy"] = own
        data["extensions"] = extensions
        rest = {k: v for k, v in came.items() if k != "data"}
        return {"spec": SPEC, "spec_version": "2.0", **rest, "data": data}


def cast_entry_persona(entry: CastEntry, recipe: Recipe) -> Persona:
    """The persona of one cast entry: its card, with what the entry itself says on top."""
    if entry.card is not None:
        path = recipe.path_of(entry.card)
        persona = Persona.from_card(read_card(path), entry.name, str(path))
    else:
        persona = Persona(name=entry.name, display_name=entry.display_name or entry.name)
    own: dict[str, Any] = {"aliases": entry.aliases, "works": entry.works}
    if entry.display_name is not None:
        own["display_name"] = entry.display_name
    if entry.system_prompt is not None:
        own["system_prompt"] = entry.system_prompt
    if entry.greeting is not None:
        own["greeting"] = entry.greeting
    return persona.model_copy(update=own)


def cast_entries(recipe: Recipe, speakers: list[tuple[str, int]] | None = None) -> tuple[CastEntry, ...]:
    """The cast of a recipe as entries: its list, what its file or glob holds, or (with `speakers`) the automatic one.

    `speakers`: (speaker as written, number of lines), needed for `cast: {auto: ...}` only.
    """
    from understudy.recipe import AutoCastEntry

    if isinstance(recipe.cast, tuple):
        return recipe.cast
    if isinstance(recipe.cast, AutoCastEntry):
        if speakers is None:
            raise PersonaError("cast: auto needs the lines of the corpus; run `understudy extract` first")
        return _automatic(speakers, recipe.cast.auto)
    return _cast_files(recipe, recipe.cast)


def check_answerers(recipe: Recipe, cast: Iterable[Persona]) -> None:
    """RecipeError where a file of conversations is given to nobody in the cast."""
    names = {one.name for one in cast}
    for entry in recipe.corpus:
        if entry.persona and entry.persona not in names:
            raise RecipeError(f"corpus {entry.path}: persona {entry.persona!r} is not in the cast; add it there")


def _automatic(speakers: list[tuple[str, int]], auto: AutoCast) -> tuple[CastEntry, ...]:
    """The speakers with most lines, all forms of a name together under the one that is written most."""
    from understudy.aliases import propose
    from understudy.recipe import CastEntry
    from understudy.script import name_key

    spellings: dict[str, Counter[str]] = {}
    for shown, lines in speakers:
        if key := name_key(shown):
            spellings.setdefault(key, Counter())[shown] += lines
    found = {max(sorted(of), key=of.__getitem__): of.total() for of in spellings.values()}
    ranked = propose(found)[: auto.top]
    # An id is a name too: one that another speaker bears would claim what that speaker says.
    borne = {name_key(name): name_key(one.name) for one in propose(found) for name in (one.name, *one.aliases)}
    entries: list[CastEntry] = []
    for one in ranked:
        if one.lines >= auto.min_lines:
            shown, key = one.name, name_key(one.name)
            ids = (slug(shown) if n == 1 else f"{slug(shown)[:60]}-{n}" for n in itertools.count(1))
            name = next(each for each in ids if borne.get(name_key(each), key) == key)
            borne[name_key(name)] = key
            entries.append(CastEntry(name=name, display_name=shown, aliases=(shown, *one.aliases)))
    if not entries:
        best = f"{ranked[0].name} has {ranked[0].lines}" if ranked else "the corpus has no speakers"
        raise PersonaError(f"cast: no speaker has {auto.min_lines} lines ({best}); lower cast.auto.min_lines")
    return tuple(entries)


def _cast_files(recipe: Recipe, pattern: str) -> tuple[CastEntry, ...]:
    import glob

    from understudy.recipe import CastEntry

    paths = [Path(p) for p in sorted(glob.glob(str(recipe.path_of(pattern)), recursive=True))]  # noqa: PTH207 - may be absolute
    if not paths:
        raise PersonaError(
            f"cast: {recipe.path_of(pattern)} matches no file; name a cast list (YAML) or cards (JSON, PNG, CHARX)"
        )
    entries: list[CastEntry] = []
    for path in paths:
        if path.suffix.lower() in SUFFIXES:
            persona = Persona.from_card(read_card(path), None, str(path))
            name = path.stem if is_name(path.stem) else persona.name
            entries.append(CastEntry(name=name, aliases=(persona.display_name,), card=str(path.resolve())))
            continue
        for entry in _listed(path):
            card = str((path.parent / expanded(entry.card, str(path))).resolve()) if entry.card else None
            entries.append(entry.model_copy(update={"card": card}))
    names = [entry.name for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise PersonaError(f"cast: {twice} occurs twice in {pattern}; each persona needs a name of its own")
    return tuple(entries)


def _listed(path: Path) -> tuple[CastEntry, ...]:
    """The entries of a cast list, with the checks and the words of a cast that stands in a recipe."""
    from understudy.recipe_yaml import parse_yaml, validated

    try:
        listed = parse_yaml(path.read_text("utf-8-sig"), str(path))
    except UnicodeDecodeError:
        raise PersonaError(f"{path}: is not UTF-8 text; a cast is a list of entries (YAML), or cards (JSON)") from None
    except IsADirectoryError:
        raise PersonaError(f"{path}: is a folder; name a cast list (YAML), or its cards with {path}/*.json") from None
    except OSError as error:
        raise PersonaError(f"{path}: cannot be read ({error.strerror})") from None
    except RecipeError as error:
        raise PersonaError(str(error)) from None
    listed = listed.get("cast") if isinstance(listed, dict) else listed
    if not isinstance(listed, list):
        raise PersonaError(f"{path}: holds no list; a cast file is a list of entries such as `- {{name: adam}}`")
    try:
        cast = validated({"name": "cast", "cast": listed}, str(path)).cast
    except RecipeError as error:
        raise PersonaError(str(error)) from None
    assert isinstance(cast, tuple)
    return cast


def chosen(entries: tuple[CastEntry, ...], names: tuple[str, ...]) -> tuple[CastEntry, ...]:
    """The entries named by `--persona`; all when none is; PersonaError with the nearest name when one is unknown."""
    known = [entry.name for entry in entries]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.4)
            hint = f"did you mean {near[0]}?" if near else f"the cast is: {', '.join(known[:12])}"
            raise PersonaError(f"--persona {name}: is not in the cast; {hint}")
    return tuple(entry for entry in entries if not names or entry.name in names)


def _object(value: Any, where: str) -> dict[str, Any]:
    """A JSON object; some programs write an empty one as `[]`, and a missing one as null."""
    if value and not isinstance(value, dict):
        raise PersonaError(f"{where} must be an object; found {type(value).__name__}")
    return value or {}


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise PersonaError(f"{where}: must be a list of texts")
    return tuple(value)


def _sampling(value: Any, where: str) -> dict[str, float | int]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PersonaError(f"{where}: extensions.understudy.sampling must be an object")
    for key, number in value.items():
        if key not in SAMPLING:
            near = difflib.get_close_matches(key, SAMPLING, 1, 0.4)
            hint = f"did you mean {near[0]}?" if near else f"valid: {', '.join(SAMPLING)}"
            raise PersonaError(f"{where}: unknown sampling key {key}; {hint}")
        low, high = SAMPLING[key]
        if isinstance(low, int) and isinstance(number, float):
            raise PersonaError(f"{where}: sampling {key} must be a whole number; found {number!r}")
        if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
            raise PersonaError(f"{where}: sampling {key} must be a number from {low} to {high}; found {number!r}")
    return dict(value)

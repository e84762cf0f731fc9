"""Reading recipes: YAML to a `Recipe`, with every refusal in one line that names file, key and remedy."""

from __future__ import annotations

import difflib
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from understudy.errors import RecipeError
from understudy.recipe import SCHEMA_VERSION, Recipe

MOST_DEPTH = 64
MOST_VALUES = 1_000_000
"""A recipe with more values than this, aliases written out, is no recipe."""
_PLAIN = {
    r"valid (tuple|array)": "list",
    r"(valid dictionary or instance of \w+|an object|valid dictionary)": "mapping of keys",
    r"a mapping": "mapping",
}


def read_recipe(path: Path, overrides: list[str]) -> Recipe:
    """The recipe at `path` with overrides; what `understudy.recipe.load` calls."""
    if path.is_dir():
        raise RecipeError(f"{path}: is a folder; name the recipe's YAML file")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in _yaml_files(path.parent)], 1, 0.5)
        hint = f"; did you mean {path.parent / near[0]}?" if near else "; `understudy recipe new TEXT` writes one"
        raise RecipeError(f"{path}: no such recipe{hint}") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    data = parse_yaml(text, str(path))
    if data is None:
        raise RecipeError(f"{path}: is empty; `understudy recipe new TEXT` writes a recipe")
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: must be a mapping of keys such as name, corpus, cast; found {_kind(data)}")
    typed = {}
    for override in overrides:
        _apply(data, override)
        key, _, value = override.partition("=")
        typed[key.strip()] = value
    version = data.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RecipeError(f"{path}: schema_version {version} is newer than {SCHEMA_VERSION}; upgrade understudy")
    if "folder" in data:
        raise RecipeError(f"{path}: unknown key folder; relative paths belong to the recipe's own folder")
    recipe = validated(data, str(path), typed)
    return recipe.model_copy(update={"folder": str(path.resolve().parent)})


def parse_yaml(text: str, where: str) -> Any:
    """YAML 1.2 to plain values; tags, duplicate keys and several documents are refused in one line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.events import (
        AliasEvent,
        MappingEndEvent,
        MappingStartEvent,
        ScalarEvent,
        SequenceEndEvent,
        SequenceStartEvent,
    )

    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    try:
        aliases = depth = 0
        for event in YAML(typ="safe", pure=True).parse(io.StringIO(text)):
            tag = getattr(event, "ctag", None)
            if isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent) and tag is not None and str(tag):
                raise RecipeError(
                    f"{where}:{event.start_mark.line + 1}: YAML tag {tag} is not allowed; write the plain value"
                )
            depth += isinstance(event, MappingStartEvent | SequenceStartEvent)
            depth -= isinstance(event, MappingEndEvent | SequenceEndEvent)
            if depth > MOST_DEPTH:
                raise RecipeError(f"{where}:{event.start_mark.line + 1}: is nested {depth} deep; write it flatter")
            # A few nested aliases can unfold to gigabytes.
            aliases += isinstance(event, AliasEvent)
            if aliases > 100:
                raise RecipeError(
                    f"{where}:{event.start_mark.line + 1}: more than 100 YAML aliases; write the values out"
                )
        loaded = yaml.load(io.StringIO(text))
        _unfolded(loaded, where, "", (), {})
        return loaded
    except DuplicateKeyError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else "?"
        raise RecipeError(f"{where}:{line}: {str(error.problem).split(' with value')[0]}; keep one of them") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        at = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{where}{at}: not valid YAML: {error.problem or error.context}") from None
    except (YAMLError, RecursionError, ValueError) as error:
        raise RecipeError(f"{where}: not valid YAML: {' '.join(str(error).split())[:160]}") from None


def _unfolded(value: Any, where: str, path: str, above: tuple[int, ...], known: dict[int, int]) -> int:
    """How many values there are with every alias written out.

    RecipeError for a key that is no text, a value that holds itself by an alias, and aliases that unfold without end.
    """
    if not isinstance(value, dict | list):
        return 1
    if id(value) in above:
        raise RecipeError(f"{where}: {path or 'an alias'}: a YAML alias stands within its own value; write it out")
    if id(value) in known:
        return known[id(value)]
    odd = [key for key in value if not isinstance(key, str)] if isinstance(value, dict) else []
    if odd:
        shown = f"{odd[0]!r}"[:60]
        raise RecipeError(f"{where}: key {shown}{f' in {path}' if path else ''}: is not text; write it in quotes")
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    steps = ((inner, f"{path}.{key}".lstrip(".")) for key, inner in inside)
    total = 1 + sum(_unfolded(inner, where, step, (*above, id(value)), known) for inner, step in steps)
    if total > MOST_VALUES:
        raise RecipeError(f"{where}: {path or 'it'}: its YAML aliases unfold to more than {MOST_VALUES:,} values")
    known[id(value)] = total
    return total


def _apply(data: dict[str, Any], override: str) -> None:
    """Set one `a.b.c=value` in `data`; a list of named things (the cast) is entered by name or by number."""
    key, sign, value = override.partition("=")
    path = key.strip().split(".")
    if not sign or not all(path):
        raise RecipeError(f"override {override!r}: write it as key=value, such as train.epochs=5")
    parsed = parse_yaml(value, f"override {key}") if value.strip() else None
    here: Any = data
    for depth, step in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(here, list):
            here = _member(here, step, override, ".".join(path[:depth]))
            if last:
                raise RecipeError(
                    f"override {override!r}: names an entry; add the field to set, such as {key}.FIELD=value"
                )
        elif not isinstance(here, dict):
            raise RecipeError(f"override {override!r}: {'.'.join(path[:depth])} is {_kind(here)} and has no key {step}")
        elif last:
            here[step] = parsed
        else:
            if here.get(step) is None:
                here[step] = {}
            here = here[step]


def _member(entries: list[Any], step: str, override: str, at: str) -> Any:
    for entry in entries:
        if isinstance(entry, dict) and entry.get("name") == step:
            return entry
    if step.isdecimal() and int(step) < len(entries):
        return entries[int(step)]
    names = [str(e["name"]) for e in entries if isinstance(e, dict) and "name" in e]
    near = difflib.get_close_matches(step, names, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names[:8]) or 'none'}"
    raise RecipeError(f"override {override!r}: {at} has no entry {step}; {hint}")


def validated(data: dict[str, Any], where: str, overrides: dict[str, str] | None = None) -> Recipe:
    """Strict validation: "8" is no number and `true` no seed. An override is typed by its field: where that is text,
    `model.revision=1234567` means the text.
    """
    bad = _not_finite(data)
    if bad:
        raise RecipeError(f"{where}: {bad}: NaN and infinity are not allowed; give a number")
    overrides = dict(overrides or {})
    for _ in range(len(overrides) + 1):
        try:
            # JSON mode: lists become tuples while everything else stays strict.
            return Recipe.model_validate_json(json.dumps(data, default=str), strict=True)
        except ValidationError as error:
            retyped = [".".join(_loc(p["loc"], data)) for p in error.errors() if p["type"] == "string_type"]
            texts = {key: overrides[key] for key in retyped if key in overrides}
            if not texts:
                raise RecipeError(f"{where}: {_first_problem(error, data)}") from None
            for key in texts:
                raw = overrides.pop(key)
                _apply(data, f"{key}={json.dumps(raw)}")
    raise RecipeError(f"{where}: the overrides cannot be typed by the recipe's fields")


def _not_finite(value: Any, path: str = "") -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((bad for k, v in items if (bad := _not_finite(v, f"{path}.{k}".lstrip(".")))), None)


def _first_problem(error: ValidationError, data: Any) -> str:
    """The most telling of pydantic's errors as one line; unknown keys come with the nearest valid one."""
    problems = error.errors(include_url=False)
    # A union reports every branch; the error deepest in the document is the branch that the person meant.
    problem = max(problems, key=lambda p: (len(_loc(p["loc"], data)), p["type"] == "extra_forbidden"))
    loc = _loc(problem["loc"], data)
    key = ".".join(loc)
    if problem["type"] == "extra_forbidden":
        fields = _fields_at(loc[:-1], data)
        near = difflib.get_close_matches(loc[-1], fields, 1, 0.4)
        hint = f"did you mean {near[0]}?" if near else f"valid: {', '.join(fields)}"
        return f"unknown key {key}; {hint}"
    if problem["type"] == "missing":
        return f"{key} is missing; add it"
    if problem["type"].startswith("union_tag"):
        kinds = [kind for model in _models_at(loc) for kind in _kinds_of(model)]
        return _unknown_kind(key, problem.get("ctx", {}), kinds)
    message = problem["msg"].removeprefix("Value error, ")
    for pydantic_words, words in _PLAIN.items():
        message = re.sub(pydantic_words, words, message)
    found = problem.get("input")
    shown = (
        f", found {found!r}"[:80] if isinstance(found, str | int | float | bool | None) else f", found {_kind(found)}"
    )
    return (
        f"{key}: {message[0].lower()}{message[1:]}{'' if problem['type'] == 'value_error' else shown}"
        if key
        else message
    )


def _unknown_kind(key: str, told: Mapping[str, Any], kinds: list[str]) -> str:
    tag = told.get("tag")
    if tag is None:
        return f"{key}.kind is missing; add one of {', '.join(kinds)}"
    near = difflib.get_close_matches(tag, kinds, 1, 0.4)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(kinds)}"
    return f"{key}.kind: there is no kind {tag!r}; {hint}"


def _loc(loc: tuple[str | int, ...], data: Any) -> list[str]:
    """Pydantic's location without the names of union branches; entries of a list by their name."""
    path: list[str] = []
    here = data
    for step in loc:
        if isinstance(here, dict) and (step in here or step in _fields_at(path)):
            path.append(str(step))
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int):
            here = here[step] if step < len(here) else None
            path.append(
                str(here["name"]) if isinstance(here, dict) and isinstance(here.get("name"), str) else str(step)
            )
        elif isinstance(here, dict) and step == here.get("kind"):
            continue  # pydantic's name of the chosen member of a union
        elif isinstance(here, dict) and not str(step).endswith("]") and str(step)[:1].islower() and step == loc[-1]:
            path.append(str(step))
    return path


def _fields_at(path: list[str], data: Any = None) -> list[str]:
    """The valid keys of the recipe part at `path`."""
    return [name for model in _models_at(path, data) for name in model.model_fields if name != "folder"]


def _models_at(path: list[str], data: Any = None) -> list[type[BaseModel]]:
    """The recipe parts that may stand at `path`; a step that is no field is an entry's name, number or key.

    Where parts of several kinds may stand, the `kind` that `data` names tells which it is.
    """
    models: list[type[BaseModel]] = [Recipe]
    for step in path:
        fields = [model.model_fields[step] for model in models if step in model.model_fields]
        if fields:
            models = [inner for field in fields for inner in _models_in(field.annotation)]
        data = _entered(data, step)
        kind = data.get("kind") if isinstance(data, dict) else None
        models = [model for model in models if kind in _kinds_of(model)] or models
    return models


def _entered(data: Any, step: str) -> Any:
    if isinstance(data, list):
        named = (entry for entry in data if isinstance(entry, dict) and entry.get("name") == step)
        return next(named, data[int(step)] if step.isdecimal() and int(step) < len(data) else None)
    return data.get(step) if isinstance(data, dict) else None


def _kinds_of(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _yaml_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]) if folder.is_dir() else []


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return {dict: "a mapping", list: "a list", str: f"the text {value!r}"[:60]}.get(type(value), repr(value)[:60])

"""What a model's reply has to be: JSON that a schema describes, and how to get there.

    text -> strict JSON, else JSON out of the text (fences, thinking, chatter), else repaired; then the schema

Neither `read_answer` nor `read_cut_answer`, for a reply that ended at its length limit, ever raises; `correction` is
the one more question that a model gets when its answer does not fit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from understudy.record import canonical
from understudy.wording import shortened

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_OPEN_FENCE = re.compile(r"```[a-zA-Z]*\s*\n")
CUT = "cut at max_tokens: raise it, or ask for less"
MAX_DEPTH = 64
"""A reply nested deeper than this is damage, and recursion in every reader after us."""

TEXT = {"type": "string", "minLength": 1}
"""Schema of a text that is not empty."""


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """An object whose `properties` are all required, and no others allowed."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def list_schema(name: str, properties: Mapping[str, Any], least: int = 1, most: int | None = None) -> dict[str, Any]:
    """An object with one list `name` of objects whose `properties` (JSON Schemas) are all required."""
    items = object_schema(properties)
    listed: dict[str, Any] = {"type": "array", "items": items, "minItems": least}
    if most is not None:
        listed["maxItems"] = most
    return object_schema({name: listed})


def read_answer(text: str, schema: Mapping[str, Any]) -> tuple[Any, str]:
    """(value, "") when `text` holds JSON that fits `schema`, else (None, why not)."""
    if not text.strip():
        return None, "the reply is empty"
    problem = "the reply holds no JSON"
    for candidate in _candidates(text):
        value, said = _checked(candidate, schema)
        if not said:
            return value, ""
        problem = said
    return None, problem


def read_cut_answer(text: str, schema: Mapping[str, Any]) -> tuple[Any, str]:
    """`read_answer` for a reply that was cut: what stands there whole, and nothing that is half said.

    That is the JSON where all of it is there, else the finished elements of its outermost list, where they fit.
    """
    plain = _THINKING.sub("", text)
    fence = _OPEN_FENCE.search(plain)
    kept = "" if "<think" in plain else _finished(plain[fence.end() :] if fence else plain)
    try:
        value = json.loads(kept, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None, CUT
    value, problem = _checked(value, schema)
    return (None, CUT) if problem else (value, "")


def correction(messages: Sequence[Mapping[str, str]], text: str, problem: str) -> tuple[Mapping[str, str], ...]:
    """The conversation with the reply and what was wrong with it: one more try."""
    ask = (
        f"That does not fit: {problem}. Answer again with one JSON value that fits the schema, and nothing else: "
        "no explanation, no code fence."
    )
    return (*messages, {"role": "assistant", "content": text[:20_000]}, {"role": "user", "content": ask})


def response_format(schema: Mapping[str, Any], way: str) -> dict[str, Any]:
    """The request field for `way`: json_schema, json_object or none."""
    if way == "json_schema":
        named = {"name": "answer", "schema": dict(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    return {"response_format": {"type": "json_object"}} if way == "json_object" else {}


def with_schema(messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    """The messages with the schema written out, for a server that takes none."""
    told = (
        "Answer with one JSON value that fits this JSON Schema, and nothing else:\n" + canonical(dict(schema)).decode()
    )
    first, *rest = messages
    if first["role"] == "system":
        return ({"role": "system", "content": f"{first['content']}\n\n{told}"}, *rest)
    return ({"role": "system", "content": told}, first, *rest)


def schema_problem(schema: Any) -> str:
    """Why `schema` is no JSON Schema that can be used here, or ""."""
    return _schema_problem(canonical(schema))


@lru_cache(maxsize=256)
def _schema_problem(raw: bytes) -> str:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    schema = json.loads(raw)
    if not isinstance(schema, dict):
        return "the schema is not an object"
    if _depth(schema) > MAX_DEPTH:
        return f"the schema is nested deeper than {MAX_DEPTH}"
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"the schema does not hold: {shortened(error.message)}"
    outside = [one for one in _references(schema) if not one.startswith("#")]
    return (
        f"the schema refers to {shortened(outside[0])}; only references into itself (#/...) are followed"
        if outside
        else ""
    )


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [value for name, value in schema.items() if name in ("$ref", "$dynamicRef") and isinstance(value, str)]
        return own + [one for value in schema.values() for one in _references(value)]
    return [one for value in schema for one in _references(value)] if isinstance(schema, list) else []


def _candidates(text: str) -> list[Any]:
    """Values that the text may mean, the strictest reading first."""
    from json_repair import repair_json

    plain = _THINKING.sub("", text).strip()
    found: list[Any] = []
    texts = [plain, *(one.strip() for one in _FENCE.findall(plain))]
    for one in texts:
        try:
            found.append(json.loads(one, parse_constant=_no_constant))
        except (ValueError, RecursionError):
            continue
    if not found:
        for one in reversed(texts):
            start = min((at for at in (one.find("{"), one.find("[")) if at >= 0), default=-1)
            if start < 0:
                continue
            try:
                value = repair_json(one[start:], return_objects=True, skip_json_loads=True)
            except (ValueError, RecursionError, TypeError, IndexError):
                continue
            if value not in ("", [], {}):
                found.append(value)
    return found


def _finished(text: str) -> str:
    """JSON that breaks off, closed behind its last outermost list or finished element of one; empty without one."""
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=len(text))
    opened: list[str] = []
    end, closing = start, ""
    quoted = skip = False
    for at in range(start, len(text)):
        char = text[at]
        if quoted:
            quoted, skip = skip or char != '"', not skip and char == "\\"
            ended = not quoted
        elif char in "{[":
            opened.append(char)
            ended = False
        elif char in "}]":
            if not opened or opened.pop() + char not in ("{}", "[]"):
                return ""
            if not opened:
                return text[start : at + 1]
            ended = True
        else:
            quoted, ended = char == '"', char == ","
        lists = opened.count("[")
        if ended and (lists == 1 if opened[-1] == "[" else char == "]" and not lists):
            end = at if char == "," else at + 1
            closing = "".join("]" if one == "[" else "}" for one in reversed(opened))
    return text[start:end] + closing


def _checked(value: Any, schema: Mapping[str, Any]) -> tuple[Any, str]:
    if _depth(value) > MAX_DEPTH:
        return None, f"the reply is nested deeper than {MAX_DEPTH}"
    try:
        canonical(value)
    except (ValueError, UnicodeEncodeError):
        return None, "the reply holds what no JSON can hold (NaN, or half a character)"
    try:
        error = next(_validator(canonical(dict(schema))).iter_errors(value), None)
    except Exception as broken:  # noqa: BLE001 - a pattern or a reference of the schema that only now shows as wrong
        return None, f"the schema cannot be checked: {shortened(str(broken))}"
    if error is None:
        return value, ""
    where = ".".join(map(str, error.absolute_path))
    return None, f"{where}: {shortened(error.message)}" if where else shortened(error.message)


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Validator:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    return Draft202012Validator(json.loads(schema), registry=Registry())


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level and deepest <= MAX_DEPTH + 1:
        deepest += 1
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return deepest


def _no_constant(text: str) -> Any:
    raise ValueError(text)

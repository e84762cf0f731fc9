"""Prompts: plain templates by language, filled without surprises.

A template is a `Template` with a system text (instructions, never to be quoted in a reply) and a user text (what the
reply may use), for each language that it knows; another language gets the English one and is told what to write in.
Values are put in by name: braces inside a value stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.persona import Persona
from understudy.prompts import system_text

_FIELD = re.compile(r"\{(\w+)\}")
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
LANGUAGES = {
    "en": "English",
    "zh": "Chinese",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "ru": "Russian",
    "pt": "Portuguese",
}


@dataclass(frozen=True)
class Template:
    """The two messages of a call, by language."""

    system: Mapping[str, str]
    user: Mapping[str, str]

    def messages(self, language: str, **values: Any) -> tuple[dict[str, str], ...]:
        """System and user message with `values` put in; KeyError names a field that has none."""
        key = base_language(language)
        known = key if key in self.system else "en"
        system = filled(self.system[known], values)
        if known != key:
            system = f"{system}\nWrite in {LANGUAGES.get(key, key)}."
        return (
            {"role": "system", "content": system.strip()},
            {"role": "user", "content": filled(self.user[known], values).strip()},
        )


def filled(text: str, values: Mapping[str, Any]) -> str:
    """`text` with each `{name}` replaced by its value, in one pass; KeyError where a name has none."""
    return _FIELD.sub(lambda found: str(values[found[1]]), text)


def base_language(language: str) -> str:
    """`zh` of `zh-Hans-CN`."""
    return re.split("[-_]", language, maxsplit=1)[0].lower()


def portrait(persona: Persona) -> str:
    """The persona as a prompt describes it: name and system text."""
    text = system_text(persona).strip()
    return text if persona.display_name in text else f"{persona.display_name}: {text}"


def numbered(texts: Sequence[str]) -> str:
    """`1. ...` a line each."""
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))


def dialogue(pairs: Sequence[tuple[str, str]], you: str, name: str) -> str:
    """Exchanges as a script: what is said to the persona by `you`, and the answer by `name`; blank lines between."""
    return "\n\n".join(f"{you}: {heard}\n{name}: {said}" for heard, said in pairs)


def plain_reply(text: str) -> str:
    """A reply without what models put around it: thoughts, a code fence, one pair of quotation marks."""
    text = _THOUGHT.sub("", text).strip()
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1].strip()
    for opening, closing in ('""', "“”", "「」", "『』"):
        if len(text) > 2 and text[0] == opening and text[-1] == closing:
            inner = text[1:-1]
            if opening not in inner and closing not in inner:
                text = inner.strip()
    return text

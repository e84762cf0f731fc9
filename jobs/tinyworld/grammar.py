"""Templates of the toy world: `{a|b}` chooses, `<list>` draws from a word list, nothing else is special."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ruamel.yaml import YAML

_CHOICE = re.compile(r"\{([^{}]*)\}")
_DRAW = re.compile(r"<([a-z_]+)>")


def expand(template: str, rng: random.Random, lists: Mapping[str, Sequence[str]] | None = None) -> str:
    """One text of `template`; inner braces are chosen first, then lists are drawn, spaces collapsed."""
    text = template
    while "{" in text:
        text = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), text)
    if lists is not None:
        while _DRAW.search(text):
            text = _DRAW.sub(lambda match: rng.choice(lists[match.group(1)]), text)
    return re.sub(r" +", " ", text).strip().replace(" ,", ",").replace(" ?", "?").replace(" .", ".")


def lines(block: str) -> list[str]:
    """The templates of a YAML block, one a line."""
    return [line.strip() for line in block.splitlines() if line.strip()]


def read(name: str) -> dict:
    """A data file of this package."""
    with (Path(__file__).parent / name).open(encoding="utf-8") as file:
        return YAML(typ="safe", pure=True).load(file)


def capital(text: str) -> str:
    """`text` with its first letter raised."""
    return text[:1].upper() + text[1:]


def article(noun: str) -> str:
    """`noun` with `a` or `an` by its first letter."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"

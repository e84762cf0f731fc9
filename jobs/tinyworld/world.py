"""The text of the toy world as one endless, seeded stream of documents."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from jobs.tinyworld import chinese, dialogue, prose

VERSION = 2
"""Raised by hand when the generator's text changes in kind."""

SHARES = {"dialogue": 0.37, "talk": 0.26, "prose": 0.26, "chinese": 0.10, "chinese_tale": 0.01}
"""Share of documents of each kind; plain talk is short, so its share of the tokens is much smaller."""


@dataclass(frozen=True)
class Document:
    """A conversation as (role, content) pairs, or a running text in `text`."""

    kind: str
    messages: tuple[tuple[str, str], ...] = ()
    text: str = ""


def documents(seed: int, start: int = 0) -> Iterator[Document]:
    """Endless documents; number i depends on (seed, i) alone, so any stretch can be made again by itself."""
    kinds, weights = list(SHARES), list(SHARES.values())
    number = start
    while True:
        rng = random.Random(f"{seed}:{number}")
        kind = rng.choices(kinds, weights=weights)[0]
        if kind == "dialogue":
            yield Document(kind, messages=tuple(dialogue.conversation(rng)))
        elif kind == "talk":
            yield Document(kind, messages=tuple(dialogue.plain_talk(rng)))
        elif kind == "chinese":
            yield Document(kind, messages=tuple(chinese.conversation(rng)))
        else:
            yield Document(kind, text=prose.prose(rng) if kind == "prose" else chinese.tale(rng))
        number += 1


def digest() -> str:
    """sha256 over the generator's own files: which generator made a text."""
    folder = Path(__file__).parent
    total = sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".yaml"):
            total.update(f"{path.relative_to(folder).as_posix()}\n".encode())
            total.update(path.read_bytes())
    return total.hexdigest()

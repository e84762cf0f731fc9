"""How much of a text the embedded toy base has words for: a list of words, no model."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

WORDS = Path(__file__).parent / "assets" / "tiny" / "words.txt"
"""One `word count` a line, most frequent first: words of the generated text in lower case, Chinese by character."""

_WORD = re.compile(r"[^\W\d_\u3400-\u9fff]+(?:'[^\W\d_\u3400-\u9fff]+)*|[\u3400-\u9fff]")


def words(text: str) -> list[str]:
    """The words of `text` in lower case, Chinese by character; digits and marks are not words."""
    return [match.group().lower() for match in _WORD.finditer(text.replace("\u2019", "'"))]


@cache
def known(path: Path = WORDS) -> frozenset[str]:
    """The words that the toy base has seen."""
    return frozenset(line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def unknown_share(text: str) -> float:
    """Share of the running words of `text` that the toy base never saw, 0.0 to 1.0; a text without words has 0.0."""
    found = words(text)
    if not found:
        return 0.0
    vocabulary = known()
    return sum(word not in vocabulary for word in found) / len(found)


def unknown_words(text: str) -> list[str]:
    """The words of `text` that the toy base never saw, each once, in order."""
    vocabulary = known()
    return list(dict.fromkeys(word for word in words(text) if word not in vocabulary))

"""The nearest of many short texts, by TF-IDF over words and character n-grams; no model, no vectors to keep.

    nearest = Nearest(lines)
    for position, likeness in nearest.to("Do you like the rain?", 4): ...

Latin words count as words and as their three-letter pieces, so `sailing` is near `sail`; Chinese by single characters
and pairs. Rare features weigh more. Two hundred thousand lines take some seconds to index and milliseconds to ask.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import log, sqrt

_WORD = re.compile(r"[^\W_\u3040-\u30ff\u3400-\u9fff]+|[\u3040-\u30ff\u3400-\u9fff]+")
_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


def features(text: str) -> Counter[str]:
    """Words and their three-letter pieces, Chinese characters and pairs, each with how often it occurs."""
    found: Counter[str] = Counter()
    for match in _WORD.finditer(text.casefold()):
        word = match.group()
        if _HAN.match(word):
            found.update(word)
            found.update(word[i : i + 2] for i in range(len(word) - 1))
        else:
            found[f" {word} "] += 1
            if len(word) > 3:
                found.update(word[i : i + 3] for i in range(len(word) - 2))
    return found


class Nearest:
    """An index of texts, asked for those with the greatest cosine to another text."""

    def __init__(self, texts: Sequence[str]) -> None:
        """O(characters) in time and memory."""
        self.size = len(texts)
        counted = [features(text) for text in texts]
        held = Counter(feature for one in counted for feature in one)
        self.idf = {feature: log((1 + self.size) / (1 + number)) + 1 for feature, number in held.items()}
        self.postings: dict[str, list[tuple[int, float]]] = {}
        for position, one in enumerate(counted):
            weights = self._weights(one)
            for feature, weight in weights.items():
                self.postings.setdefault(feature, []).append((position, weight))

    def _weights(self, counted: Counter[str]) -> dict[str, float]:
        """Log frequency times rarity, of length 1; features that no indexed text has are left out."""
        raw = {f: (1 + log(n)) * self.idf[f] for f, n in counted.items() if f in self.idf}
        norm = sqrt(sum(weight * weight for weight in raw.values()))
        return {feature: weight / norm for feature, weight in raw.items()} if norm else {}

    def to(self, text: str, most: int) -> list[tuple[int, float]]:
        """(position, likeness in 0..1) of at most `most` texts that share anything with `text`, nearest first."""
        scores: dict[int, float] = {}
        for feature, weight in self._weights(features(text)).items():
            for position, held in self.postings[feature]:
                scores[position] = scores.get(position, 0.0) + weight * held
        return sorted(scores.items(), key=lambda one: (-one[1], one[0]))[:most]

    def centrality(self) -> list[float]:
        """How like the others each text is: its mean cosine to the rest, in the order given; O(characters)."""
        if self.size < 2:
            return [0.0] * self.size
        total = {feature: sum(weight for _, weight in held) for feature, held in self.postings.items()}
        likeness = [0.0] * self.size
        for feature, held in self.postings.items():
            for position, weight in held:
                likeness[position] += weight * (total[feature] - weight)
        return [value / (self.size - 1) for value in likeness]

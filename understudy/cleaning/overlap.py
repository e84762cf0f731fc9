"""What of the held-out answers occurs in training, by pieces of a few words, and the conversations that carry it.

    held = HeldOut.of(heldout_conversations, words=8, han=12)
    held.leak(conversation)     a piece of a held-out answer that this conversation contains, or nothing
    held.report(training)       share of the held-out pieces that occur in training, with examples

Pieces are n tokens in a row of one held-out answer: words, or characters where a text is mostly Han. A shorter answer
is found by its whole exchange instead. Questions do not count: many are asked in the same form.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from understudy.conversation import Conversation
from understudy.letters import letters

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
EXAMPLES = 5


def tokens(text: str) -> list[str]:
    """Words without case and punctuation; every Han or kana character is one."""
    return _TOKEN.findall(text.casefold())


def mostly_han(text: str, found: list[str]) -> bool:
    """Whether more than half of the tokens are Han characters."""
    return not text.isascii() and 2 * len(_HAN.findall(text)) > len(found)


def grams(text: str, words: int, han: int) -> Iterator[str]:
    """Pieces of `words` tokens, or of `han` where the text is mostly Han, in order."""
    found = tokens(text)
    size = han if mostly_han(text, found) else words
    for start in range(len(found) - size + 1):
        yield " ".join(found[start : start + size])


def exchanges_of(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """(what was said to the persona, its learned answer) without case, spaces and punctuation."""
    heard: list[str] = []
    for message in conversation.messages:
        if message.role == "user":
            heard.append(message.content)
        elif message.role == "assistant":
            if message.loss:
                yield letters("\n".join(heard)), letters(message.content)
            heard = []


@dataclass(frozen=True)
class HeldOut:
    """The held-out pieces and exchanges, each with the conversation that it comes from."""

    pieces: Mapping[str, str]
    exchanges: Mapping[tuple[str, str], str]
    words: int
    han: int

    @classmethod
    def of(cls, conversations: Iterable[Conversation], words: int = 8, han: int = 12) -> HeldOut:
        """Every learned answer of these conversations."""
        pieces: dict[str, str] = {}
        exchanges: dict[tuple[str, str], str] = {}
        for one in conversations:
            for message in one.messages:
                if message.loss:
                    for gram in grams(message.content, words, han):
                        pieces.setdefault(gram, one.conversation_id)
            for exchange in exchanges_of(one):
                exchanges.setdefault(exchange, one.conversation_id)
        return cls(pieces, exchanges, words, han)

    def without(self, pieces: Collection[str]) -> HeldOut:
        """The same without some pieces."""
        left = {piece: identity for piece, identity in self.pieces.items() if piece not in pieces}
        return replace(self, pieces=left) if pieces else self

    def pieces_in(self, conversation: Conversation) -> list[str]:
        """The distinct held-out pieces that a conversation contains, in order; system texts do not count."""
        if not self.pieces:
            return []
        said = (message.content for message in conversation.messages if message.role != "system")
        return list(dict.fromkeys(g for text in said for g in grams(text, self.words, self.han) if g in self.pieces))

    def leak(self, conversation: Conversation) -> str:
        """The first held-out piece or exchange that a conversation contains; an empty string when there is none."""
        if found := self.pieces_in(conversation):
            return found[0]
        return next((f"{a} / {b}" for a, b in exchanges_of(conversation) if (a, b) in self.exchanges), "")

    def report(self, training: Iterable[tuple[str, Conversation]]) -> dict[str, Any]:
        """Of (source, conversation): share of held-out pieces in training, whole exchanges, by source, and examples."""
        seen: dict[str, tuple[str, str]] = {}
        repeated = 0
        for source, one in training:
            for piece in self.pieces_in(one):
                seen.setdefault(piece, (source, one.conversation_id))
            if self.exchanges:
                repeated += sum(exchange in self.exchanges for exchange in exchanges_of(one))
        examples = [
            {"text": piece, "heldout": self.pieces[piece], "training": identity, "source": source}
            for piece, (source, identity) in list(seen.items())[:EXAMPLES]
        ]
        return {
            "words": self.words,
            "han": self.han,
            "heldout_ngrams": len(self.pieces),
            "in_training": len(seen),
            "share": round(len(seen) / len(self.pieces), 6) if self.pieces else 0.0,
            "exchanges": repeated,
            "by_source": dict(sorted(Counter(source for source, _ in seen.values()).items())),
            "examples": examples,
        }

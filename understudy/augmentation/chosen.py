"""What a card can have without a model: greetings and example messages chosen from a persona's real lines.

Typical lines are those most like the persona's others (mean TF-IDF cosine over words and character n-grams); a greeting
is one that opens a scene or calls somebody, an example one whose cue can stand alone. Both keep to length bounds, and
no two that are chosen say much the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from understudy.augmentation.nearest import Nearest
from understudy.conversation import Exchange, Scene, exchanges

GREETINGS, EXAMPLES = 3, 4
LEAST, MOST = 12, 220
"""Letters of a greeting or an example's answer; a Chinese character counts as three."""
LEAST_CUE, MOST_CUE = 6, 220
ALIKE = 0.35
"""Two lines with a cosine above this are the same for a reader."""
CONSIDERED = 2000
"""Exchanges of a part that are looked at, evenly over it."""

_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_CALLS = re.compile(
    r"[!?！？]|\b(?:you|your|welcome|hello|come|sit|good (?:day|morning|evening))\b|[你您请来坐]", re.IGNORECASE
)
_NEEDS_MORE = re.compile(
    r"^(?:and|but|or|so|because|then|yes|no|nor|that|it|he|she|they|him|her|them)\b"
    r"|^(?:但|可是|不过|所以|因为|然后|而且|是的|不是|他|她|它|那个|这个|正是|也)",
    re.IGNORECASE,
)
"""A line that begins so hangs on what was said before it."""


@dataclass(frozen=True)
class Chosen:
    """One choice: what is said, what it answers (empty for a greeting), and the lines it stands in."""

    text: str
    cue: str
    lines: tuple[str, ...]


def weight(text: str) -> int:
    """Length as a reader feels it: letters and digits, a Chinese character as three."""
    return sum(3 if _HAN.match(char) else 1 for char in text if char.isalnum())


def whole(text: str) -> str:
    """A line as it stands alone: the comma that led to a tag in prose becomes a full stop."""
    text = text.strip()
    return text[:-1] + ("。" if text[-1] == "，" else ".") if text[-1:] in (",", "，") else text


def _asks(text: str) -> bool:
    return text.rstrip()[-1:] in ("?", "？")


def greetings(scenes: Iterable[Scene], persona: str, most: int = GREETINGS) -> list[Chosen]:
    """At most `most` lines that can open a talk, the best first."""
    found = _exchanges(scenes, persona)
    kept = [one for one in found if LEAST <= weight(one.reply[0]["text"]) <= MOST]
    texts = [whole(one.reply[0]["text"]) for one in kept]
    first = _first_of_scene(found)
    scored = []
    for (text, one), typical in zip(zip(texts, kept, strict=True), _relative(texts), strict=True):
        opens = 1.0 * (one.reply[0]["line_id"] in first) + 0.5 * bool(_CALLS.search(text))
        hangs = 1.5 * bool(_NEEDS_MORE.match(text)) + 0.7 * bool(one.before and _asks(one.before[-1]["text"]))
        hangs += 0.5 * weight(text) / MOST  # a short greeting leaves room for an answer
        scored.append((typical + opens - hangs, Chosen(text, "", (one.reply[0]["line_id"],))))
    return _different(scored, most)


def examples(scenes: Iterable[Scene], persona: str, most: int = EXAMPLES) -> list[Chosen]:
    """At most `most` real exchanges that show how the persona answers, the most typical first."""
    kept = []
    for one in _exchanges(scenes, persona):
        if not one.before or len({row["speaker"] for row in one.before}) > 1:
            continue
        cue, reply = ("\n".join(whole(row["text"]) for row in rows) for rows in (one.before, one.reply))
        if LEAST_CUE <= weight(cue) <= MOST_CUE and LEAST <= weight(reply) <= MOST:
            ids = tuple(row["line_id"] for row in (*one.before, *one.reply))
            kept.append(Chosen(reply, cue, ids))
    scores = _relative([one.text for one in kept])
    asked = (0.5 * _asks(one.cue) for one in kept)
    return _different([(score + more, one) for score, more, one in zip(scores, asked, kept, strict=True)], most)


def example_text(chosen: Sequence[Chosen]) -> str:
    """`mes_example` of a card: `<START>`, `{{user}}: ...`, `{{char}}: ...`."""
    return "\n".join(f"<START>\n{{{{user}}}}: {one.cue}\n{{{{char}}}}: {one.text}" for one in chosen)


def _exchanges(scenes: Iterable[Scene], persona: str) -> list[Exchange]:
    found = [one for scene in scenes for one in exchanges(scene, persona, 8)]
    step = max(1, -(-len(found) // CONSIDERED))
    return found[::step]


def _first_of_scene(found: Sequence[Exchange]) -> set[str]:
    first: dict[tuple[str, str], str] = {}
    for one in found:
        first.setdefault(one.scene, one.reply[0]["line_id"])
    return set(first.values())


def _relative(texts: Sequence[str]) -> list[float]:
    """Centrality with 1.0 for the most typical text."""
    central = Nearest(texts).centrality()
    top = max(central, default=0.0)
    return [value / top if top else 0.0 for value in central]


def _different(scored: Sequence[tuple[float, Chosen]], most: int) -> list[Chosen]:
    """The best ones, none much like another that was taken before."""
    order = sorted(range(len(scored)), key=lambda i: (-scored[i][0], i))
    index = Nearest([one.text for _, one in scored])
    taken: list[int] = []
    for i in order:
        if len(taken) == most:
            break
        near = dict(index.to(scored[i][1].text, len(scored)))
        if all(near.get(other, 0.0) < ALIKE for other in taken):
            taken.append(i)
    return [scored[i][1] for i in taken]

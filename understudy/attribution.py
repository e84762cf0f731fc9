"""Who says each quote: what stands beside it, then the course of the dialogue around it.

Quotes that share a paragraph and do not contradict each other are one *turn*. A turn with a name beside a speech verb
is settled. The others are settled together, run by run: every sequence of speakers of a run of turns close to each
other is weighed by the habits of written dialogue that it keeps (the next paragraph is somebody else, the one after it
is the first again, nobody calls themselves by name, `she` is a woman who was spoken of, who acts beside a quote says
it). The share that a speaker of a turn has of all these weights is the confidence; a turn whose best speaker has too
little stays open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp
from operator import mul
from typing import NamedTuple

from understudy.mentions import Cast, Course
from understudy.speech_words import OWNERS
from understudy.tags import Hint

OTHER = ""
"""Somebody who is not among the candidates."""
SURE = 0.6
"""The share of the weights that the best speaker of a turn must have."""
CANDIDATES = 6
UNLIKELY = 4.5
"""A candidate that fits so much worse than the best one is no longer one."""
NEAR_TURNS = 6
NEAR_PARAGRAPHS = 3
"""Turns further apart than this are two runs."""


class Said(NamedTuple):
    """Who says a quote, as written in the text."""

    speaker: str | None
    method: str
    """`verb`, `beat`, `alternation`, `pronoun` or `open`."""
    confidence: float


@dataclass(slots=True)
class Turn:
    """Quotes of one speaker within one paragraph, or carried on through several."""

    quotes: list[int]
    first: int
    """Paragraph in which it begins."""
    last: int
    start: int
    """Offset in the work."""
    hint: Hint | None = None
    beat: Hint | None = None
    called: set[str] = field(default_factory=set)
    """Whom it addresses by name."""
    named: set[str] = field(default_factory=set)
    """Whom it speaks of."""
    to: str = ""
    """Gender of the one it addresses as `sir` or `madam`."""
    told: bool = False
    """Whether narration stands right before it, in its paragraph or as the paragraph above."""
    candidates: list[str] = field(default_factory=list)
    local: list[float] = field(default_factory=list)
    genders: list[str] = field(default_factory=list)
    """Of the candidates."""
    scene: int = 0


def settle(turns: Sequence[Turn], cast: Cast, course: Course, same: float) -> list[Said]:
    """The speaker of each turn; `same` is what it costs that one speaker has two paragraphs in a row."""
    found: list[Said] = []
    begin = 0
    for i in range(1, len(turns) + 1):
        if i == len(turns) or _apart(turns[i - 1], turns[i]) > NEAR_PARAGRAPHS:
            found += _settle_run(turns[begin:i], turns[max(0, begin - 3) : begin], found, cast, course, same)
            begin = i
    return found


def _apart(before: Turn, after: Turn) -> int:
    """Paragraphs between two turns without speech; a scene's end is far."""
    return 99 if before.scene != after.scene else max(0, after.first - before.last - 1)


def _settle_run(
    run: Sequence[Turn], before: Sequence[Turn], earlier: Sequence[Said], cast: Cast, course: Course, same: float
) -> list[Said]:
    _candidates(run, before, earlier, cast, course)
    if all(len(turn.candidates) == 1 for turn in run):
        return [_said(turn, [1.0], cast) for turn in run]
    return [_said(turn, shares, cast) for turn, shares in zip(run, _shares(run, same), strict=True)]


def _candidates(
    run: Sequence[Turn], before: Sequence[Turn], earlier: Sequence[Said], cast: Cast, course: Course
) -> None:
    """Who may say each turn of a run, and how well what stands beside it fits each of them."""
    fixed = [cast.id_of(turn.hint.name) if turn.hint and turn.hint.kind == "name" else "" for turn in run]
    from_before: list[str] = []
    if before and before[-1].scene == run[0].scene:
        from_before = [cast.id_of(said.speaker) for said in earlier[-3:] if said.speaker]
    for i, turn in enumerate(run):
        if fixed[i]:
            turn.candidates, turn.local, turn.genders = [fixed[i]], [0.0], [cast.gender(fixed[i])]
            continue
        if turn.hint and turn.hint.gender == "p":
            turn.candidates, turn.local, turn.genders = [OTHER], [0.0], [""]
            continue
        present = course.at(turn.start)
        near = sorted(range(max(0, i - NEAR_TURNS), min(len(run), i + NEAR_TURNS + 1)), key=lambda j: abs(j - i))
        pool: list[str] = [cast.id_of(turn.beat.name)] if turn.beat and turn.beat.name else []
        gender = (turn.hint or turn.beat or Hint("", "", "")).gender
        if gender in ("m", "f") and turn.hint is not None:
            pool += [who for who in present if cast.gender(who) == gender][:2]
            if not present:
                pool += [who for who in course.often if cast.gender(who) == gender][:1]
        pool += [fixed[j] for j in near if fixed[j]]
        for j in near[:5]:
            pool += sorted(run[j].called)
            beat = run[j].beat
            if beat is not None and beat.name:
                pool.append(cast.id_of(beat.name))
        pool += [*list(present)[:3], *from_before[::-1]]
        options = [who for who in dict.fromkeys(pool) if who in cast.written][:CANDIDATES]
        weights = [
            _fit(turn, who, gender, present, cast, who in from_before or who in fixed)
            + W["often"] * course.often.get(who, -4.0)
            for who in options
        ]
        least = max([*weights, W["other"]]) - UNLIKELY
        kept = [(who, weight) for who, weight in zip(options, weights, strict=True) if weight > least]
        turn.candidates = [*(who for who, _ in kept), OTHER]
        turn.local = [*(weight for _, weight in kept), W["other"]]
        turn.genders = [*map(cast.gender, turn.candidates[:-1]), ""]


W = {
    "other": -0.9,
    "speaks": 1.0,
    "right_gender": 0.2,
    "no_gender": -1.2,
    "wrong_gender": -6.0,
    "first": 1.8,
    "second": 0.9,
    "told_first": 0.9,
    "beat": 3.2,
    "not_beat": -0.4,
    "called": -4.5,
    "named": -1.6,
    "answers": 1.6,
    "asked": 1.3,
    "back": 1.6,
    "back1": 0.8,
    "back2": 0.3,
    "near_same": 0.0,
    "to_wrong": -1.5,
    "often": 0.2,
    "elder": 1.8,
    "owner": -2.3,
}
"""What each habit weighs, as a natural logarithm."""


def _fit(turn: Turn, who: str, gender: str, present: dict[str, float], cast: Cast, speaks: bool) -> float:
    weight = 0.0 if speaks else -W["speaks"]
    own = cast.gender(who)
    strong = turn.hint is not None
    if gender in ("m", "f"):
        part = W["right_gender"] if own == gender else W["no_gender"] if not own else W["wrong_gender"]
        weight += part * (1.0 if strong else 0.5)
        fitting = [other for other in present if cast.gender(other) in (gender, "")]
        if who in fitting[:2]:
            weight += W["first" if fitting[0] == who else "second"] * (1.0 if strong else 0.5)
    elif not strong and turn.told and present and next(iter(present)) == who:
        weight += W["told_first"]
    if turn.beat and turn.beat.name and (turn.hint is None or turn.hint.kind == "pronoun"):
        weight += W["beat"] if cast.id_of(turn.beat.name) == who else W["not_beat"]
    if turn.hint is not None and turn.hint.kind == "relation":
        weight += _kinship(turn.hint.name, who, present, cast)
    if who in turn.called:
        weight += W["called"]
    if who in turn.named:
        weight += W["named"]
    return weight


_ELDERS = frozenset(("mother", "father", "aunt", "uncle", "mamma", "papa", "parent", "wife", "husband", "lady"))


def _kinship(phrase: str, who: str, present: dict[str, float], cast: Cast) -> float:
    """How well `her mother` fits somebody: an elder bears a title, and nobody is kin of themselves."""
    owner, _, noun = phrase.lower().partition(" ")
    weight = 0.0
    if noun in _ELDERS and cast.titled(who):
        weight += W["elder"]
    if (own := OWNERS.get(owner)) in ("m", "f") and cast.gender(who) == own:
        nearest = next((other for other in present if cast.gender(other) == own), "")
        weight += W["owner"] if nearest == who else 0.0
    return weight


def _shares(run: Sequence[Turn], same: float) -> list[list[float]]:
    """The share of each candidate of each turn, over all sequences of speakers (forward and backward sums)."""
    ahead: list[dict[tuple[int, int], float]] = []
    steps: list[list[list[list[float]]]] = []
    for i, turn in enumerate(run):
        local = [exp(weight) for weight in turn.local]
        if i == 0:
            ahead.append(_scaled({(0, b): weight for b, weight in enumerate(local)}))
            steps.append([])
            continue
        pairs = _pairs(run[i - 1], turn, same, local)
        older = run[i - 2].candidates if i > 1 else [OTHER]
        bonus = exp(_returns(run, i))
        table = []
        for z in older:
            factors = [bonus if who and z == who else 1.0 for who in turn.candidates]
            table.append([[weight * factor for weight, factor in zip(row, factors, strict=True)] for row in pairs])
        steps.append(table)
        sums: dict[tuple[int, int], float] = {}
        for (z, a), weight in ahead[-1].items():
            for b, step in enumerate(table[z][a]):
                sums[a, b] = sums.get((a, b), 0.0) + weight * step
        ahead.append(_scaled(sums))
    behind = dict.fromkeys(ahead[-1], 1.0)
    found: list[list[float]] = []
    for i in range(len(run) - 1, -1, -1):
        totals = [0.0] * len(run[i].candidates)
        for (a, b), weight in ahead[i].items():
            totals[b] += weight * behind[a, b]
        whole = sum(totals) or 1.0
        found.append([total / whole for total in totals])
        if i:
            table = steps[i]
            width = range(len(run[i].candidates))
            rows = [[behind[a, b] for b in width] for a in range(len(run[i - 1].candidates))]
            behind = _scaled({(z, a): sum(map(mul, table[z][a], rows[a])) for z, a in ahead[i - 1]})
    return found[::-1]


def _scaled(sums: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    top = max(sums.values()) or 1.0
    return {key: value / top for key, value in sums.items()}


def _pairs(before: Turn, turn: Turn, same: float, local: Sequence[float]) -> list[list[float]]:
    """How well each speaker of a turn follows each speaker of the one before, and fits the turn."""
    apart = _apart(before, turn)
    cost = same if apart == 0 else W["near_same"] if apart == 1 else 0.0
    if turn.hint is not None and turn.hint.kind == "same":
        cost = 3.0
    near = apart < 2
    answers = [W["answers"] if near and b in before.called else 0.0 for b in turn.candidates]
    table = []
    opposite = {"m": "f", "f": "m"}
    unfit = [W["to_wrong"] if near and before.to and opposite[before.to] == own else 0.0 for own in turn.genders]
    answers = [one + other for one, other in zip(answers, unfit, strict=True)]
    for a, own in zip(before.candidates, before.genders, strict=True):
        asked = W["asked"] if near and a in turn.called else 0.0
        if near and turn.to and opposite[turn.to] == own:
            asked += W["to_wrong"]
        row = []
        for b, own, answer in zip(turn.candidates, local, answers, strict=True):
            stays = (cost if a else -0.3) if a == b else 0.0
            row.append(own * exp(stays + answer + asked))
        table.append(row)
    return table


def _returns(run: Sequence[Turn], i: int) -> float:
    """What it earns that the speaker before the last one speaks again."""
    if i < 2:
        return 0.0
    apart = _apart(run[i - 2], run[i - 1]) + _apart(run[i - 1], run[i])
    apart += run[i].told and apart == 0
    return W["back"] if apart == 0 else W["back1"] if apart == 1 else W["back2"]


def _said(turn: Turn, shares: Sequence[float], cast: Cast) -> Said:
    if turn.hint and turn.hint.kind == "name":
        return Said(cast.spoken(turn.hint.name), "verb", 0.95)
    best = max(range(len(shares)), key=shares.__getitem__)
    who, share = turn.candidates[best], round(min(shares[best], 0.99), 3)
    if not who or share < SURE:
        if turn.hint and turn.hint.kind in ("relation", "described"):
            return Said(turn.hint.name, "verb", 0.6)
        return Said(None, "open", share if who else 0.5)
    if turn.hint and turn.hint.kind in ("pronoun", "relation", "described"):
        method = "pronoun"
    elif turn.beat and turn.beat.name and cast.id_of(turn.beat.name) == who:
        method = "beat"
    else:
        method = "alternation"
    return Said(cast.shown(who), method, share)

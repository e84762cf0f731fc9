"""Who says each quote: what stands beside it, then the course of the dialogue around it.

Quotes that share a paragraph and do not contradict each other are one *turn*. A turn with a name beside a speech verb
is settled. The others are settled together, run by run: a run of turns close to each other is given the sequence of
speakers that breaks the fewest habits of written dialogue (the next paragraph is somebody else, the one after it is
the first again, nobody calls themselves by name, `she` is a woman, who acts beside a quote says it). A turn stays open
where the second best speaker fits about as well as the best.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import NamedTuple

from understudy.speech_words import FUNCTION, OWNERS, PRONOUNS
from understudy.tags import Hint, gender_of

OTHER = ""
"""Somebody who is not among the candidates."""
MARGIN = 1.2
"""By how much the best speaker of a turn must fit better than the next one."""
CANDIDATES = 6
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
    candidates: list[str] = field(default_factory=list)
    local: list[float] = field(default_factory=list)
    scene: int = 0


class Cast:
    """Names as written to the one they belong to; genders by title, else by the pronouns that follow a name."""

    def __init__(self, names: Mapping[str, str], told: Counter[str]) -> None:
        self.given = bool(names)
        self.ids = {name.casefold(): owner.casefold() for name, owner in names.items()}
        self.written: dict[str, Counter[str]] = {}
        self.votes: dict[str, Counter[str]] = {}
        short = {name.casefold() for name in told}
        longer: dict[str, set[str]] = {}
        for name in short:
            for part in {name.split(" ")[0], name.split(" ")[-1]} - {name}:
                if part in short and " " not in part:
                    longer.setdefault(part, set()).add(name)
        for part, whole in longer.items():
            if len(whole) == 1 and part not in self.ids and next(iter(whole)) not in self.ids:
                self.ids[part] = self.ids[next(iter(whole))] = part

    def id_of(self, name: str) -> str:
        """Who bears a name; the name itself where nobody is known to."""
        key = name.casefold()
        return self.ids.get(key, key)

    def write(self, name: str) -> str:
        """Note a name as the text has it, and return whose it is."""
        who = self.id_of(name)
        self.written.setdefault(who, Counter())[name] += 1
        return who

    def shown(self, who: str) -> str:
        """The name by which the text calls somebody most."""
        return self.written[who].most_common(1)[0][0]

    def gender(self, who: str) -> str:
        """`m`, `f` or nothing."""
        for name in self.written.get(who, ()):
            if gender := gender_of(name):
                return gender
        votes = self.votes.get(who)
        if votes and (top := votes.most_common(1)[0])[1] >= 2 and top[1] >= 0.7 * votes.total():
            return top[0]
        return ""


_NAME = (
    r"(?P<d>\b(?:[Tt]he|[Aa]n?|[Hh]is|[Hh]er|[Mm]y)\s+[a-z]+(?:\s+[a-z]+)?)"
    r"|(?P<name>(?:(?:Mr|Mrs|Ms|Dr|St)\.\s+)?[^\W\d_a-zß-öø-ÿ][\w’'-]*(?:\s+[^\W\d_a-zß-öø-ÿ][\w’'-]*)*)"
)
_CALLED = re.compile(_NAME)
_SEEN = re.compile(_NAME + r"|\b(?P<m>he|his|him|himself)\b|\b(?P<f>she|her|herself)\b")


def read_narration(text: str, at: int, cast: Cast, known: set[str], seen: list[tuple[int, str]]) -> None:
    """Add the people whom a stretch of narration names to `seen`, and the pronouns behind them to their votes."""
    last = ""
    for match in _SEEN.finditer(text):
        group = match.lastgroup or ""
        if group in "mf" and group:
            if last:
                cast.votes.setdefault(last, Counter())[group] += 1
                last = ""
            continue
        name = " ".join(match.group().split())
        who = _known_in(name, cast, known) if group == "name" else _described_in(name, cast, known)
        if who:
            seen.append((at + match.start(), who))
            last = who
        else:
            first = name.split(" ", 1)[0].lower()
            if first in OWNERS and OWNERS[first] in ("m", "f"):
                if last:
                    cast.votes.setdefault(last, Counter())[OWNERS[first]] += 1
                last = ""
            elif group == "d":
                continue
            elif first in PRONOUNS and PRONOUNS[first] in ("m", "f"):
                if last:
                    cast.votes.setdefault(last, Counter())[PRONOUNS[first]] += 1
                last = ""
            elif first not in FUNCTION:
                last = ""


_OWNER = re.compile(r"['’]s?$")


def _known_in(name: str, cast: Cast, known: set[str]) -> str:
    name = _OWNER.sub("", name)
    if (who := cast.id_of(name)) in known or (who := cast.id_of("the " + name)) in known:
        return who
    words = name.split(" ")
    if len(words) > 1 and words[0].lower().rstrip(".") not in ("mr", "mrs", "miss", "ms", "lady", "sir", "dr"):
        for part in (" ".join(words[1:]), words[0]):
            if (who := cast.id_of(part)) in known:
                return who
    return ""


def _described_in(phrase: str, cast: Cast, known: set[str]) -> str:
    for part in (phrase, phrase.rsplit(" ", 1)[0]):
        if (who := cast.id_of(part)) in known:
            return who
    return ""


_CALLED_AT_END = re.compile(r"[\s\"'’”_*]*(?:[,.!?;:…—–]|--|$)")
_CALLED_AFTER = re.compile(
    r"(?:^|[,;!?.—–-]|\b(?:dear|dearest|poor|oh|o|ah|well|yes|no|and|but|dear little))[\s\"'_*]*$", re.IGNORECASE
)


def read_quote(text: str, turn: Turn, cast: Cast, known: set[str]) -> None:
    """Whom a quote addresses and of whom it speaks."""
    for match in _CALLED.finditer(text):
        start = match.start()
        if match.lastgroup == "d":
            if who := _described_in(" ".join(match.group().split()), cast, known):
                turn.named.add(who)
            continue
        words = match.group().split()
        while words and words[0].lower() in FUNCTION:
            start += len(words[0]) + 1
            words = words[1:]
        who = _known_in(" ".join(words), cast, known) if words else ""
        if not who:
            continue
        ahead = text[max(0, start - 16) : start]
        if _CALLED_AT_END.match(text, match.end()) and _CALLED_AFTER.search(ahead):
            turn.called.add(who)
        else:
            turn.named.add(who)
    turn.named -= turn.called


def settle(turns: Sequence[Turn], cast: Cast, seen: Sequence[tuple[int, str]], same: float) -> list[Said]:
    """The speaker of each turn; `same` is what it costs that one speaker has two paragraphs in a row."""
    found: list[Said] = []
    begin = 0
    for i in range(1, len(turns) + 1):
        if i == len(turns) or _apart(turns[i - 1], turns[i]) > NEAR_PARAGRAPHS:
            found += _settle_run(turns[begin:i], turns[max(0, begin - 3) : begin], found, cast, seen, same)
            begin = i
    return found


def _apart(before: Turn, after: Turn) -> int:
    """Paragraphs between two turns without speech; a scene's end is far."""
    return 99 if before.scene != after.scene else max(0, after.first - before.last - 1)


def _settle_run(
    run: Sequence[Turn],
    before: Sequence[Turn],
    earlier: Sequence[Said],
    cast: Cast,
    seen: Sequence[tuple[int, str]],
    same: float,
) -> list[Said]:
    _candidates(run, before, earlier, cast, seen)
    if all(len(turn.candidates) == 1 for turn in run):
        return [_said(turn, turn.candidates[0], 9.0, cast) for turn in run]
    return [_said(turn, best, margin, cast) for turn, (best, margin) in zip(run, _best(run, same), strict=True)]


def _candidates(
    run: Sequence[Turn],
    before: Sequence[Turn],
    earlier: Sequence[Said],
    cast: Cast,
    seen: Sequence[tuple[int, str]],
) -> None:
    """Who may say each turn of a run, and how well what stands beside it fits each of them."""
    fixed = [cast.id_of(turn.hint.name) if turn.hint and turn.hint.kind == "name" else "" for turn in run]
    from_before: list[str] = []
    if before and before[-1].scene == run[0].scene:
        from_before = [cast.id_of(said.speaker) for said in earlier[-3:] if said.speaker]
    for i, turn in enumerate(run):
        if fixed[i]:
            turn.candidates, turn.local = [fixed[i]], [0.0]
            continue
        if turn.hint and turn.hint.gender == "p":
            turn.candidates, turn.local = [OTHER], [0.0]
            continue
        recent = _recent(seen, turn.start)
        near = sorted(range(max(0, i - NEAR_TURNS), min(len(run), i + NEAR_TURNS + 1)), key=lambda j: abs(j - i))
        pool: list[str] = [cast.id_of(turn.beat.name)] if turn.beat and turn.beat.name else []
        pool += [fixed[j] for j in near if fixed[j]]
        for j in near[:5]:
            pool += sorted(run[j].called)
            beat = run[j].beat
            if beat is not None and beat.name:
                pool.append(cast.id_of(beat.name))
        pool += recent[:3] + from_before[::-1]
        gender = (turn.hint or turn.beat or Hint("", "", "")).gender
        options = [who for who in dict.fromkeys(pool) if who in cast.written][:CANDIDATES]
        weights = [_fit(turn, who, gender, recent, cast, who in from_before or who in fixed) for who in options]
        turn.candidates = [*options, OTHER]
        turn.local = [*weights, -1.6]


def _recent(seen: Sequence[tuple[int, str]], at: int) -> list[str]:
    """Who was named in narration before an offset, the last one first."""
    low, high = 0, len(seen)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if seen[middle][0] < at else (low, middle)
    return list(dict.fromkeys(who for place, who in reversed(seen[max(0, low - 8) : low]) if at - place < 2500))


def _fit(turn: Turn, who: str, gender: str, recent: Sequence[str], cast: Cast, speaks: bool) -> float:
    weight = 0.0 if speaks else -0.8
    own = cast.gender(who)
    if gender in ("m", "f"):
        strong = turn.hint is not None
        weight += (0.5 if own == gender else -0.6 if not own else -6.0) * (1.0 if strong else 0.5)
        fitting = [other for other in recent if cast.gender(other) in (gender, "")]
        if fitting and fitting[0] == who:
            weight += 0.8
    if turn.beat and turn.beat.name and (turn.hint is None or turn.hint.kind == "pronoun"):
        weight += 2.6 if cast.id_of(turn.beat.name) == who else -0.4
    if who in turn.called:
        weight -= 6.0
    if who in turn.named:
        weight -= 1.3
    return weight


def _best(run: Sequence[Turn], same: float) -> list[tuple[str, float]]:
    """The best speaker of each turn of a run and its margin, by max-marginals over pairs of neighbours."""
    ahead: list[dict[tuple[int, int], float]] = []
    steps: list[list[list[list[float]]]] = []
    for i, turn in enumerate(run):
        if i == 0:
            ahead.append({(0, b): weight for b, weight in enumerate(turn.local)})
            steps.append([])
            continue
        pairs = _pairs(run[i - 1], turn, same)
        older = run[i - 2].candidates if i > 1 else [OTHER]
        bonus = _returns(run, i)
        table = [
            [
                [
                    pairs[a][b]
                    + turn.local[b]
                    + (bonus if turn.candidates[b] and older[z] == turn.candidates[b] else 0)
                    for b in range(len(turn.candidates))
                ]
                for a in range(len(run[i - 1].candidates))
            ]
            for z in range(len(older))
        ]
        steps.append(table)
        scores: dict[tuple[int, int], float] = {}
        for (z, a), score in ahead[-1].items():
            for b, weight in enumerate(table[z][a]):
                total = score + weight
                if total > scores.get((a, b), -1e9):
                    scores[a, b] = total
        ahead.append(scores)
    behind = dict.fromkeys(ahead[-1], 0.0)
    found: list[tuple[str, float]] = []
    for i in range(len(run) - 1, -1, -1):
        marginals = [-1e9] * len(run[i].candidates)
        for (a, b), score in ahead[i].items():
            marginals[b] = max(marginals[b], score + behind[a, b])
        order = sorted(range(len(marginals)), key=lambda b: -marginals[b])
        margin = marginals[order[0]] - marginals[order[1]] if len(order) > 1 else 9.0
        found.append((run[i].candidates[order[0]], margin))
        if i:
            table = steps[i]
            behind = {
                (z, a): max(weight + behind[a, b] for b, weight in enumerate(table[z][a])) for z, a in ahead[i - 1]
            }
    return found[::-1]


def _pairs(before: Turn, turn: Turn, same: float) -> list[list[float]]:
    """How well each speaker of a turn follows each speaker of the one before."""
    apart = _apart(before, turn)
    cost = same if apart == 0 else -0.6 if apart == 1 else 0.0
    if turn.hint is not None and turn.hint.kind == "same":
        cost = 3.0
    table = []
    for a in before.candidates:
        row = []
        for b in turn.candidates:
            weight = cost if a == b and a else -0.3 if a == b else 0.0
            if b in before.called and apart < 2:
                weight += 1.6
            if a in turn.called and apart < 2:
                weight += 1.0
            row.append(weight)
        table.append(row)
    return table


def _returns(run: Sequence[Turn], i: int) -> float:
    """What it earns that the speaker before the last one speaks again."""
    if i < 2:
        return 0.0
    apart = _apart(run[i - 2], run[i - 1]) + _apart(run[i - 1], run[i])
    return 1.6 if apart == 0 else 0.8 if apart == 1 else 0.3


def _said(turn: Turn, who: str, margin: float, cast: Cast) -> Said:
    if turn.hint and turn.hint.kind == "name":
        return Said(turn.hint.name, "verb", 0.95)
    confidence = round(0.5 + 0.45 * (1 - exp(-margin / 2.5)), 3)
    if not who or margin < MARGIN:
        if turn.hint and turn.hint.kind in ("relation", "described"):
            return Said(turn.hint.name, "verb", 0.6)
        return Said(None, "open", confidence if who else 0.5)
    if turn.hint and turn.hint.kind in ("pronoun", "relation", "described"):
        method = "pronoun"
    elif turn.beat and turn.beat.name and cast.id_of(turn.beat.name) == who:
        method = "beat"
    else:
        method = "alternation"
    return Said(cast.shown(who), method, confidence)

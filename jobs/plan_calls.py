"""How many model calls a run would make: what its stages would ask, less what the journal holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.augment_calls import call_of
from jobs.calls import Call
from jobs.curate_sources import Sources
from jobs.embedded import identity_here
from jobs.journal import Journal
from jobs.llm import endpoints_of
from jobs.lookup import Lookup
from jobs.material import material_of
from jobs.plan_asking import Asking, seconds_at
from jobs.questions import key_at
from jobs.records import Damage, read_payload, scan
from jobs.report_tables import Made
from understudy.augmentation.card_fields import LISTS
from understudy.augmentation.job import Job, Material, Note
from understudy.augmentation.judging import verdict_messages
from understudy.augmentation.kinds import kind_of
from understudy.augmentation.steps import AnyStep, CardsStep, FactsStep, StyleStep
from understudy.errors import StoreError
from understudy.persona import Persona
from understudy.recipe import Recipe
from understudy.stage_words import is_han
from understudy.store import Store

MOST_JOBS = 20_000
"""Jobs of one unit whose prompts are looked at; of more, the rest count as the mean."""
MOST_SEGMENT_BYTES = 64 << 20
ACCEPTED = 0.85
"""Of the drafts, where no former record says."""
SECONDS_A_CALL = 2.0
"""Where no former record says."""
REPLY_TOKENS = {"questions": 25, "cards": 700, "boundaries": 40, "restyle": 60}
DRAFT_TOKENS = 60
VERDICT_TOKENS = 40
SUMS = ("calls", "journaled", "judged", "tokens_in", "tokens_out", "money", "rows")


@dataclass
class Calls:
    """The calls of one unit or of a stage."""

    calls: float = 0
    journaled: float = 0
    """Of them answered before."""
    judged: float = 0
    tokens_in: float = 0
    tokens_out: float = 0
    money: float = 0
    rows: float = 0
    """Conversations that will be accepted."""
    notes: list[str] = field(default_factory=list)

    @property
    def new(self) -> float:
        """Calls that are paid for, judges too."""
        return self.calls - self.journaled + self.judged

    def add(self, other: Calls) -> None:
        """Add another unit's."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.notes += [note for note in other.notes if note not in self.notes]

    def grow(self, factor: float) -> None:
        """What was counted stands for `factor` times as much."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) * factor)


class Journals:
    """What the journal holds, without touching it; with `asking`, a few answers more."""

    def __init__(self, store: Store, asking: Asking | None = None):
        self.store, self.asking = store, asking
        self.known: dict[str, tuple[Lookup, dict[bytes, dict[str, Any]]]] = {}

    def answered(self, model: str, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The payloads of those of the keys that are answered."""
        if model not in self.known:
            self.known[model] = self._opened(model)
        lookup, fresh = self.known[model]
        raw = {bytes.fromhex(key): key for key in keys}
        found = {key: fresh[key] for key in raw.keys() & fresh.keys()}
        with suppress(StoreError):
            found.update(lookup.find(list(raw.keys() - found.keys())))
        return {raw[key]: payload for key, payload in found.items() if not payload.get("open")}

    def _opened(self, model: str) -> tuple[Lookup, dict[bytes, dict[str, Any]]]:
        journal = Journal(self.store, model).current()
        fresh: dict[bytes, dict[str, Any]] = {}
        room = MOST_SEGMENT_BYTES
        for key in self.store.keys(f"{journal.prefix}/log"):
            if key.endswith(".seg") and room > 0:
                data = self.store.get(key)
                room -= len(data)
                fresh.update((entry.key, read_payload(entry.payload)) for entry in scan(data, Damage()))
        return Lookup(journal), fresh


@dataclass(frozen=True)
class Former:
    """What former records of a kind of step say."""

    accepted: float = ACCEPTED
    tokens_in: float | None = None
    """A request."""
    tokens_out: float | None = None
    seconds: float | None = None
    """A request, with all that went on beside it."""

    @classmethod
    def of(cls, augment: Made) -> dict[str, Former]:
        """By kind of step; `` for all kinds together."""
        sums: dict[str, Counter[str]] = {}
        spans: dict[str, dict[str, float]] = {}
        for record in augment.records.values():
            counts = record.counts
            kind, ledger = str(counts.get("kind", "")), counts.get("ledger") or {}
            for name in (kind, ""):
                own = sums.setdefault(name, Counter())
                own.update({n: float(counts.get(n) or 0) for n in ("accepted", "set_aside")})
                own.update({n: float(ledger.get(n) or 0) for n in ("requests", "tokens_in", "tokens_out")})
                # Units of one run are asked together: a run lasts as long as its longest unit.
                runs = spans.setdefault(name, {})
                if ledger.get("requests"):
                    runs[record.started] = max(record.seconds, runs.get(record.started, 0.0))
        return {name: cls._of(own, sum(spans[name].values())) for name, own in sums.items()}

    @classmethod
    def _of(cls, own: Counter[str], seconds: float) -> Former:
        drafts, requests = own["accepted"] + own["set_aside"], own["requests"]
        accepted = own["accepted"] / drafts if drafts else ACCEPTED
        if not requests:
            return cls(accepted)
        return cls(accepted, own["tokens_in"] / requests, own["tokens_out"] / requests, seconds / requests)


def calls_of(
    recipe: Recipe,
    sources: Sources,
    persona: Persona,
    step: AnyStep,
    journals: Journals,
    former: Mapping[str, Former],
    share: float,
) -> Calls:
    """What one step asks for one persona; `share` of its lines are in `sources`."""
    material = material_of(sources, persona, step, recipe)
    known = former.get(step.kind) or Former(former[""].accepted if "" in former else ACCEPTED)
    kind = kind_of(step.kind)
    notes: list[Note] = []
    total = Calls()
    for number in range(kind.rounds(step, material)):
        planned = kind.plan(step, replace(material, round=number), notes)
        jobs = list(islice(planned, MOST_JOBS))
        more = 1 + sum(1 for _ in planned) / max(1, len(jobs))
        asked = [(call_of(job), _reply_tokens(step, job)) for job in jobs]
        found = asked_of(recipe, step.endpoint, asked, journals, known)
        found.rows = sum(_drafts(step, job) for job in jobs)
        if share < 1 and step.reads_lines:
            more *= _factor(step, material, number, found.calls, share)
        found.grow(more)
        total.add(found)
        if number == 0 and isinstance(step, CardsStep):
            nothing = {"kept": {name: [] for name in LISTS}, "dropped": {}, "said": {}}
            notes = [Note(f"chunk-{n}", nothing) for n in range(max(1, round(found.calls)))]
        elif number == 0 and kind.rounds(step, material) > 1:
            total.notes.append(f"{step.name}: ratings decide which pairs are made; counted as if all were")
    total.rows *= known.accepted
    if step.judge:
        total.add(_judged(recipe, step, material, total))
    return total


def asked_of(
    recipe: Recipe, endpoint: str | None, asked: Sequence[tuple[Call, float]], journals: Journals, known: Former
) -> Calls:
    """Calls, each with a guess of the tokens of its reply, as they would be made.

    Tokens are those of a former run where there was one; else counted by letters, and put right by what the journal
    says of those that are answered already.
    """
    found = Calls(calls=len(asked))
    keys: dict[str, dict[str, Any]] = {}
    known_as: list[set[str]] = [set() for _ in asked]
    for one in {one.model: one for one in endpoints_of(recipe, endpoint).values()}.values():
        identity = identity_here(one, Path(recipe.folder or "."))
        by_model = [key_at(one, call, identity) for call, _ in asked]
        for names, key in zip(known_as, by_model, strict=True):
            names.add(key)
        keys = max(keys, journals.answered(one.model, by_model), key=len)
    sizes = [(tokens_in(call), said) for call, said in asked]
    here = {key: size for names, size in zip(known_as, sizes, strict=True) for key in names} if keys else {}
    new = [size for names, size in zip(known_as, sizes, strict=True) if not names & keys.keys()]
    if new and endpoint and journals.asking and journals.asking.wants(endpoint):
        unknown = [call for names, (call, _) in zip(known_as, asked, strict=True) if not names & keys.keys()]
        journals.asking.ask(endpoint, unknown)
        journals.known.clear()
        return asked_of(recipe, endpoint, asked, journals, known)
    found.journaled = len(asked) - len(new)
    for at, name, own in ((0, "in", known.tokens_in), (1, "out", known.tokens_out)):
        guessed = sum(here[key][at] for key in keys)
        told = sum(float(payload.get(name) or 0) for payload in keys.values())
        sum_new = sum(one[at] for one in new)
        tokens = sum_new * told / guessed if told and guessed else len(new) * own if own else sum_new
        setattr(found, f"tokens_{name}", tokens)
    found.money = money_of(recipe, endpoint, found.tokens_in, found.tokens_out)
    return found


def _judged(recipe: Recipe, step: AnyStep, material: Material, drafts: Calls) -> Calls:
    """The verdicts on drafts; those on replies in the journal are in it too."""
    own = verdict_messages(material.persona, (), "", material.language)
    said = drafts.tokens_out / max(1.0, drafts.new)
    found = Calls(judged=drafts.rows * (1 - drafts.journaled / max(1.0, drafts.calls)))
    found.tokens_in = found.judged * (tokens_in(Call(own)) + said + VERDICT_TOKENS)
    found.tokens_out = found.judged * VERDICT_TOKENS
    found.money = money_of(recipe, step.judge, found.tokens_in, found.tokens_out)
    return found


def _factor(step: AnyStep, material: Material, number: int, calls: float, share: float) -> float:
    """By how much more lines make more calls: not at all where the step has a number of its own."""
    if not calls or number:
        return 1.0
    half = replace(material, scenes=material.scenes[::2], exchanges=material.exchanges[::2], round=number)
    fewer = sum(1 for _ in islice(kind_of(step.kind).plan(step, half, []), MOST_JOBS))
    if fewer >= 0.9 * calls:
        return 1.0
    most = step.chunks if isinstance(step, CardsStep) else step.passages if isinstance(step, FactsStep) else None
    return min(calls / share, float(most)) / calls if most else 1 / share


def _drafts(step: AnyStep, job: Job) -> float:
    if isinstance(step, CardsStep) or "rate" in job.meta:
        return 0
    if isinstance(step, StyleStep):
        return float(job.meta.get("count", step.per_call))
    return 0.8 * step.per_passage if isinstance(step, FactsStep) else 1


def _reply_tokens(step: AnyStep, job: Job) -> float:
    bounds = job.meta.get("bounds")
    most = job.sampling.get("max_tokens")
    guess = REPLY_TOKENS.get(step.kind, DRAFT_TOKENS * max(1.0, _drafts(step, job)))
    if bounds:
        asked = str(job.messages[-1]["content"])
        guess = sum(bounds) / 2 * tokens_of(asked) / max(1, len(asked))
    return min(guess, most) if most else guess


def money_of(recipe: Recipe, endpoint: str | None, tokens_in: float, tokens_out: float) -> float:
    """By the recipe's prices; several endpoints by their weights."""
    found = endpoints_of(recipe, endpoint).values()
    weight = sum(one.weight for one in found) or 1.0
    return sum(one.weight / weight * one.prices.cost(tokens_in, tokens_out) for one in found)


def seconds_of(
    recipe: Recipe, calls: float, former: Mapping[str, Former], asking: Asking | None = None
) -> tuple[float, str]:
    """(seconds of so many new calls, where that is from)."""
    room = sum(one.max_in_flight for one in recipe.endpoints.values()) or 1
    if asking and (answer_s := asking.answer_s) is not None:
        made = sum(map(len, asking.taken.values()))
        return seconds_at(calls, answer_s, room), f"by {made} calls made now, {answer_s:.2f} s each"
    rate = former[""].seconds if "" in former else None
    if rate is not None:
        return calls * rate, "by former records"
    assumed = SECONDS_A_CALL * calls / max(1.0, min(room, calls, 64))
    return assumed, f"assumed: {SECONDS_A_CALL:g} s a call, 64 at once (`--ask 8` tries some)"


def tokens_in(call: Call) -> float:
    """Of a call's messages."""
    return sum(tokens_of(str(message["content"])) for message in call.messages)


def tokens_of(text: str) -> float:
    """About so many tokens: four letters one, a Chinese character 0.7."""
    han = sum(map(is_han, text)) if not text.isascii() else 0
    return (len(text) - han) / 4 + 0.7 * han

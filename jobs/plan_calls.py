"""How many model calls a run would make: the steps' own plans, less what the journal holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from jobs.augment_calls import call_of
from jobs.calls import key_of
from jobs.curate_sources import Sources
from jobs.journal import Journal, Lookup
from jobs.material import material_of
from jobs.records import Damage, scan
from jobs.report_tables import Made
from understudy.augmentation.card_fields import LISTS
from understudy.augmentation.job import Job, Material, Note
from understudy.augmentation.kinds import kind_of
from understudy.augmentation.steps import AnyStep, CardsStep, FactsStep, StyleStep
from understudy.errors import StoreError
from understudy.persona import Persona
from understudy.recipe import Endpoint, Recipe
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
        for name in ("calls", "journaled", "judged", "tokens_in", "tokens_out", "money", "rows"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.notes += [note for note in other.notes if note not in self.notes]


class Journals:
    """Which calls the journal holds, without touching it."""

    def __init__(self, store: Store):
        self.store = store
        self.known: dict[str, tuple[Lookup, set[bytes]]] = {}

    def held(self, model: str, keys: Sequence[str]) -> int:
        """How many of the keys are answered."""
        lookup, fresh = self.known.setdefault(model, self._opened(model))
        raw = [bytes.fromhex(key) for key in keys]
        try:
            found = {key for key, payload in lookup.find(raw).items() if not payload.get("open")}
        except StoreError:
            found = set()
        return sum(key in found or key in fresh for key in raw)

    def _opened(self, model: str) -> tuple[Lookup, set[bytes]]:
        journal = Journal(self.store, model).current()
        fresh: set[bytes] = set()
        room = MOST_SEGMENT_BYTES
        for key in self.store.keys(f"{journal.prefix}/log"):
            if key.endswith(".seg") and room > 0:
                data = self.store.get(key)
                room -= len(data)
                fresh.update(entry.key for entry in scan(data, Damage()))
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
    known = former.get(step.kind) or former.get("") or Former()
    kind = kind_of(step.kind)
    notes: list[Note] = []
    total = Calls()
    for number in range(kind.rounds(step, material)):
        jobs = kind.plan(step, replace(material, round=number), notes)
        counted = _counted(recipe, step, jobs, journals, known)
        if share < 1 and step.reads_lines:
            factor = _factor(step, material, number, counted.calls, share)
            for name in ("calls", "journaled", "tokens_in", "tokens_out", "rows"):
                setattr(counted, name, getattr(counted, name) * factor)
        total.add(counted)
        if number == 0 and isinstance(step, CardsStep):
            nothing = {"kept": {name: [] for name in LISTS}, "dropped": {}, "said": {}}
            notes = [Note(f"chunk-{n}", nothing) for n in range(max(1, round(counted.calls)))]
        elif number == 0 and kind.rounds(step, material) > 1:
            total.notes.append(f"{step.name}: ratings decide which pairs are made; counted as if all were")
    total.rows *= known.accepted
    if step.judge:
        total.judged = total.rows
        total.tokens_in += total.judged * 400
        total.tokens_out += total.judged * 40
    total.money = _money(recipe, step.endpoint, total.tokens_in, total.tokens_out)
    return total


def _counted(recipe: Recipe, step: AnyStep, jobs: Iterator[Job], journals: Journals, known: Former) -> Calls:
    found = Calls()
    models = _models(recipe, step.endpoint)
    looked = list(islice(jobs, MOST_JOBS))
    more = sum(1 for _ in jobs)
    if not looked:
        return found
    for model in models:
        held = journals.held(model, [key_of(model, call_of(job)) for job in looked])
        found.journaled = max(found.journaled, held)
    paid = 1 - found.journaled / len(looked)
    tokens_in = sum(tokens_of(str(message["content"])) for job in looked for message in job.messages) / len(looked)
    tokens_out = sum(_reply_tokens(step, job) for job in looked) / len(looked)
    found.calls = len(looked) + more
    found.journaled *= found.calls / len(looked)
    found.tokens_in = found.calls * paid * (known.tokens_in or tokens_in)
    found.tokens_out = found.calls * paid * (known.tokens_out or tokens_out)
    found.rows = sum(_drafts(step, job) for job in looked) * found.calls / len(looked)
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
    if bounds:
        return sum(bounds) / 2 / 3
    most = job.sampling.get("max_tokens")
    guess = REPLY_TOKENS.get(step.kind, DRAFT_TOKENS * max(1.0, _drafts(step, job)))
    return min(guess, most) if most else guess


def _models(recipe: Recipe, endpoint: str | None) -> list[str]:
    return sorted({one.model for one in _endpoints(recipe, endpoint)})


def _endpoints(recipe: Recipe, endpoint: str | None) -> list[Endpoint]:
    if endpoint == "all":
        return list(recipe.endpoints.values())
    return [recipe.endpoints[endpoint]] if endpoint in recipe.endpoints else []


def _money(recipe: Recipe, endpoint: str | None, tokens_in: float, tokens_out: float) -> float:
    """By the recipe's prices; several endpoints by their weights."""
    found = _endpoints(recipe, endpoint)
    weight = sum(one.weight for one in found) or 1.0
    each = [one.weight / weight * (tokens_in * one.prices.input + tokens_out * one.prices.output) for one in found]
    return sum(each) / 1e6


def seconds_of(recipe: Recipe, calls: float, former: Mapping[str, Former]) -> tuple[float, str]:
    """(seconds of so many new calls, where that is from)."""
    rate = former[""].seconds if "" in former else None
    if rate is not None:
        return calls * rate, "former records"
    room = sum(one.max_in_flight for one in recipe.endpoints.values()) or 1
    return SECONDS_A_CALL * calls / max(1.0, min(room, calls, 64)), f"assumed {SECONDS_A_CALL:g} s a call, 64 at once"


def tokens_of(text: str) -> float:
    """About so many tokens: four letters one, a Chinese character 0.7."""
    han = sum(map(is_han, text)) if not text.isascii() else 0
    return (len(text) - han) / 4 + 0.7 * han

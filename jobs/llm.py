"""One way to call a model: extraction, augmentation and judging all come through here.

    service = Service.of(recipe, store, "augment")
    answers = answer_all(service, [Call(({"role": "user", "content": "Who are you?"},))])    # in order
    table = answer_rows(service, rows)          # Ray Data: `call` (JSON) in, the same rows with `answer` (JSON) out
    for row in each(service, table): ...        # its rows, and errors as they are meant for people
    record.counts["ledger"] = service.ledger()

An answered call is in the journal (jobs/journal.py) before its row moves on, and whoever asks the same again gets it
from there: a stage that is killed, edited or repeated pays only for what is new. Bad calls and bad replies are data: an
Answer with a reason. What ends a run is BudgetReached, EndpointError and EndpointDownError, each one line.
"""

from __future__ import annotations

import contextvars
import fcntl
import itertools
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import stage as stages
from jobs.caller import Caller, Plan
from jobs.calls import Answer, Call
from jobs.endpoint_calls import EndpointError
from jobs.journal import Journal, host, is_held, run_lock
from jobs.ledger import BudgetReached, Meter, line, summary
from jobs.questions import answered_already
from jobs.throttle import EndpointDownError
from understudy.errors import RecipeError
from understudy.recipe import Budget, Endpoint, Recipe
from understudy.record import digest_of
from understudy.store import Store

if TYPE_CHECKING:
    from ray.data import Dataset

IN_PROCESS_CALLS = 2000
"""`answer_all` starts Ray for more calls than this: fewer are answered before it would be up."""
SAY_EVERY_S = 5.0

_METERS: dict[tuple[str, str], Meter] = {}
_NUMBER = itertools.count()


@dataclass(frozen=True)
class Service:
    """Where a stage's calls go; fit to travel."""

    recipe: str
    stage: str
    store: Store
    endpoints: tuple[tuple[str, Endpoint], ...]
    budget: Budget = field(default_factory=Budget)
    folder: str = "."
    """What a relative path of an embedded model is relative to."""
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    """Tells the ledgers of one process apart."""

    @classmethod
    def of(cls, recipe: Recipe, store: Store, stage: str, endpoint: str = "main") -> Service:
        """The service of a stage: `endpoint` is a name in `recipe.endpoints`, or "all" of them by weight.

        RecipeError when there is no such endpoint.
        """
        chosen = tuple(endpoints_of(recipe, endpoint).items())
        if not chosen:
            known = ", ".join(recipe.endpoints) or "none"
            raise RecipeError(
                f"{recipe.name}: {stage} calls endpoint {endpoint!r}, and endpoints has {known}; add "
                f"`endpoints: {{{endpoint}: {{base_url: http://localhost:8000/v1, model: NAME}}}}`"
            )
        if len(chosen) > 1 and any(one.engine == "vllm" for _, one in chosen):
            raise RecipeError(f"{recipe.name}: endpoint all: vllm inside the job cannot share; name one endpoint")
        return cls(recipe.name, stage, store, chosen, recipe.budget, recipe.folder or ".")

    @property
    def models(self) -> tuple[str, ...]:
        """The models that may answer."""
        return tuple(dict.fromkeys(endpoint.model for _, endpoint in self.endpoints))

    @property
    def embedded(self) -> bool:
        """Whether the model runs inside the job."""
        return self.endpoints[0][1].engine == "vllm"

    def meter(self) -> Meter:
        """What counts and limits the calls of this recipe in this process, all its stages together."""
        return _METERS.setdefault((self.store.uri, self.recipe), Meter(self.budget))

    def plan(self, processes: int = 1) -> Plan:
        """Journals opened for a run: call it once, right before the calls."""
        run = run_name(self.store.uri)
        journals = tuple(Journal(self.store, model).opened(run) for model in self.models)
        limited = any(value is not None for value in self.budget.model_dump().values())
        plan = Plan(self.name, run, self.endpoints, journals, limited, processes)
        if not self.embedded:
            return plan
        from jobs.embedded import base_of

        return replace(plan, identity=base_of(self.endpoints[0][1], Path(self.folder)).identity)

    def ledger(self) -> dict[str, Any]:
        """What this service's calls came to so far: calls, cached, requests, retries, tokens, money; for records."""
        from jobs.answer_rows import pull

        pull(self.meter())
        totals = self.meter().total(self.name)
        totals["lost"] = self.meter().lost(self.name)
        return summary(totals)


def answer_all(service: Service, calls: Sequence[Call]) -> list[Answer]:
    """The answers, in order. BudgetReached, EndpointError or EndpointDownError end it; what came is kept."""
    if not calls:
        return []
    plan = service.plan() if len(calls) <= IN_PROCESS_CALLS else None
    if plan is None or (service.embedded and not answered_already(plan, calls)):
        from jobs.answer_rows import answer_list

        return answer_list(service, calls)
    with calling(service, plan) as caller:
        return caller.submit(calls).result()


@contextmanager
def calling(service: Service, plan: Plan) -> Iterator[Caller]:
    """What answers calls in this process, for the length of the block; the ledger is said live."""
    meter = service.meter()

    async def report(*arguments: Any) -> tuple[float, str]:
        return meter.report(*arguments)

    caller = Caller(plan, report, f"d{next(_NUMBER)}")
    try:
        with live(service):
            yield caller
    finally:
        caller.close()


def answer_rows(service: Service, rows: Dataset) -> Dataset:
    """Rows with a column `call` (Call.as_json), and any others, in; the same with `answer` (Answer.as_json) out.

    Nothing runs before the result is read; read it with `each`, so that what ends a run arrives as its own error.
    """
    from jobs.answer_rows import answered

    return answered(service, rows)


def each(service: Service, rows: Dataset) -> Iterator[dict[str, Any]]:
    """The rows of `answer_rows` as they come, with the ledger said live.

    BudgetReached, EndpointError and EndpointDownError arrive as themselves, not as Ray wraps them.
    """
    from jobs.answer_rows import plainly

    with live(service), plainly():
        yield from rows.iter_rows()


class live:  # noqa: N801 - reads as a block
    """For the length of the block, the ledger is said every few seconds, and what endpoints want said at once."""

    def __init__(self, service: Service):
        self._service = service
        self._stop = threading.Event()
        context = contextvars.copy_context()  # the stage's listener hears us too
        self._thread = threading.Thread(target=context.run, args=(self._watch,), name="ledger", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        from jobs.answer_rows import pull

        meter, began, said_at, before = self._service.meter(), time.monotonic(), time.monotonic(), ""
        while True:
            ended = self._stop.wait(0.5)
            pull(meter)
            for text in meter.snapshot()[1]:
                stages.say(self._service.stage, text)
            now = time.monotonic()
            text = line(meter.total(self._service.name), now - began)
            # A short run says its ledger once, at its end, and only when it called anybody.
            due = now > said_at + SAY_EVERY_S or (ended and meter.total(self._service.name)["requests"])
            if due and text != before:
                stages.say(self._service.stage, text)
                before, said_at = text, now
            if ended:
                return


def endpoints_of(recipe: Recipe, endpoint: str | None) -> dict[str, Endpoint]:
    """The endpoints behind a name, by their own names: one, with "all" every one, none where there is no such name."""
    return {name: one for name, one in recipe.endpoints.items() if endpoint in (name, "all")}


def models_of(recipe: Recipe, endpoint: str | None) -> list[str]:
    """What makes the answers of the endpoints behind a name what they are: models, with a digest of requests' options.

    For fingerprints: a server that moves makes nothing again, another model or `top_k` does.
    """
    found: set[str] = set()
    for one in endpoints_of(recipe, endpoint).values():
        options: dict[str, Any] = dict(one.options)
        if one.engine == "vllm":  # its other options say how it runs
            from jobs.embedded import WHAT_IS_SAID

            options = {name: value for name, value in options.items() if name in WHAT_IS_SAID}
        found.add(f"{one.model} {digest_of(options)[:16]}" if options else one.model)
    return sorted(found)


@cache
def run_name(store_uri: str) -> str:
    """This process as the driver of a run; its lock is held until it ends, however it ends."""
    name = f"{host()}={os.getpid()}-{secrets.token_hex(3)}"
    path = run_lock(Store(store_uri), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f"{host()}=*.lock"):
        if not is_held(old):
            old.unlink(missing_ok=True)
    descriptor = os.open(path.with_suffix(".new"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    path.with_suffix(".new").rename(path)
    return name


__all__ = [
    "Answer",
    "BudgetReached",
    "Call",
    "EndpointDownError",
    "EndpointError",
    "Service",
    "answer_all",
    "answer_rows",
    "each",
]

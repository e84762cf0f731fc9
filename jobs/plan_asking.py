"""A few of a run's calls, made while it is planned: how long an answer takes, and how long it is.

    journals = Journals(home, Asking(recipe, home, most=8))      # `understudy run RECIPE --plan --ask 8`

They are paid for, and kept in the journal: a run that asks the same does not pay again. Their tokens put right what the
plan guesses of the others, as those of every answer in the journal do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median

from jobs.calls import Call
from jobs.llm import BudgetReached, Service, calling
from jobs.throttle import FIRST_LIMIT
from understudy.recipe import Recipe
from understudy.store import Store

CALL_S = 0.0022
"""Processor time of a call, its prompt and its checks: more than one thread answers no faster."""


@dataclass
class Asking:
    """At most `most` calls of each endpoint, one after another."""

    recipe: Recipe
    store: Store
    most: int
    taken: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each answer, by endpoint."""

    def wants(self, endpoint: str) -> bool:
        """Whether calls of this endpoint are still to be made."""
        if endpoint in self.taken or not self.most:
            return False
        names = self.recipe.endpoints if endpoint == "all" else {endpoint: None}
        return all(self.recipe.endpoints[name].engine != "vllm" for name in names)

    def ask(self, endpoint: str, calls: Sequence[Call]) -> None:
        """Make some of these, from all parts of them; errors of the endpoint end the plan as they would end a run."""
        service = Service.of(self.recipe, self.store, "plan", endpoint)
        taken = self.taken[endpoint] = []
        chosen = calls[:: max(1, len(calls) // self.most)][: self.most]
        # A budget that is reached ends the asking, not the plan.
        with suppress(BudgetReached), calling(service, service.plan()) as caller:
            for call in chosen:
                began = time.perf_counter()
                [answer] = caller.submit([call]).result()
                if not answer.cached:
                    taken.append(time.perf_counter() - began)

    @property
    def answer_s(self) -> float | None:
        """Seconds of an answer, without the first one's, which finds no connection; None where none was made."""
        own = [seconds for taken in self.taken.values() for seconds in taken[1:] or taken]
        return median(own) if own else None


def seconds_at(calls: float, answer_s: float, in_flight: int) -> float:
    """What calls take whose answers come after `answer_s`: more and more at once, up to `in_flight`."""
    seconds, left, limit = 0.0, calls, float(min(FIRST_LIMIT, in_flight))
    while left > limit < in_flight:
        left, seconds, limit = left - limit, seconds + answer_s, min(2 * limit, float(in_flight))
    return max(seconds + answer_s * max(1.0, left / limit), CALL_S * calls) if calls else 0.0

"""What calls cost, and where they stop: one Meter a run, one Tally a process that calls.

A Tally counts and asks for permits; a Meter adds up the tallies of all processes and gives permits within the budget.
Tallies report totals, not differences: a report that is lost or repeated does no harm.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from understudy.errors import UnderstudyError
from understudy.recipe import Budget

CHUNK = 32
"""Permits that one process gets at a time where something is limited."""
GUESS_TOKENS = 500
"""Tokens of a call, as long as none has come back."""
COUNTED = ("calls", "cached", "requests", "retries", "corrections", "set_aside", "tokens_in", "tokens_out", "lost")
PAID_BEFORE = ("paid_before_tokens_in", "paid_before_tokens_out")
"""Of the answers that came out of the journal, which an earlier run paid for."""


class BudgetReached(UnderstudyError):  # noqa: N818 - nothing went wrong
    """A limit of the recipe's budget is reached; finished answers are kept, the same command goes on."""


@dataclass
class Report:
    """What a process has done so far."""

    service: str
    totals: dict[str, float] = field(default_factory=dict)
    in_flight: int = 0
    at: float = 0.0
    allowed: float = 0.0
    """Requests that this process may have started in all."""


class Meter:
    """Adds up reports and gives permits; lives in the driver, or as an actor when several processes call."""

    def __init__(self, budget: Budget | None = None, reports: Mapping[str, Report] | None = None):
        self.budget = budget or Budget()
        self.reports: dict[str, Report] = dict(reports or {})
        self.messages: list[str] = []

    def report(
        self, caller: str, service: str, totals: dict[str, float], in_flight: int, want: int, said: list[str]
    ) -> tuple[float, str]:
        """Take a process's totals; (requests that it may have started in all, why no more are given or "")."""
        mine = self.reports.setdefault(caller, Report(service))
        mine.totals, mine.in_flight, mine.at = totals, in_flight, time.time()
        self.messages.extend(said)
        if not want:
            mine.allowed = totals.get("requests", 0.0)  # what it does not need, others may
            return mine.allowed, ""
        room, why = self._room()
        given = max(0, min(want, CHUNK, int(room)))
        mine.allowed = max(mine.allowed, totals.get("requests", 0.0)) + given
        waiting = any(one.in_flight or one.allowed > one.totals.get("requests", 0.0) for one in self.reports.values())
        return mine.allowed, "" if given or waiting else why

    def _room(self) -> tuple[float, str]:
        """Requests that still fit into the budget, counting those under way at their mean; and what is full."""
        spent = self.total()
        promised = sum(max(one.allowed, one.totals.get("requests", 0.0)) for one in self.reports.values())
        open_calls = promised - spent["requests"] + sum(one.in_flight for one in self.reports.values())
        finished = max(0.0, spent["requests"] - sum(one.in_flight for one in self.reports.values()))
        room, why = float("inf"), ""
        if self.budget.requests is not None:
            room, why = self.budget.requests - promised, f"requests: {self.budget.requests}"
        tokens = spent["tokens_in"] + spent["tokens_out"]
        for limit, used, guess, name in (
            (self.budget.tokens, tokens, GUESS_TOKENS, "tokens"),
            (self.budget.money, spent["money"], 0.0, "money"),
        ):
            if limit is None:
                continue
            each = used / finished if finished and used else guess
            left = limit - used
            fits = left / each - open_calls if each else float(CHUNK)
            if fits < 1 and left > 0 and not open_calls:
                fits = 1.0
            if fits < room:
                room, why = fits, f"{name}: {limit:g}"
        return room, why

    def total(self, service: str | None = None) -> defaultdict[str, float]:
        """Sums over the processes (of one service)."""
        found: defaultdict[str, float] = defaultdict(float)
        for one in self.reports.values():
            if service is None or one.service == service:
                for name, value in one.totals.items():
                    found[name] += value
        return found

    def lost(self, service: str, quiet_s: float = 5.0) -> int:
        """Requests under way in processes of which nothing is heard any more: perhaps paid for nothing."""
        late = time.time() - quiet_s
        return sum(one.in_flight for one in self.reports.values() if one.service == service and one.at < late)

    def snapshot(self) -> tuple[dict[str, Report], list[str]]:
        """All reports, and the lines that processes want said (once)."""
        said, self.messages = self.messages, []
        return self.reports, said

    def peek(self) -> tuple[dict[str, Report], list[str]]:
        """All reports, and nothing said."""
        return self.reports, []

    def restore(self, reports: Mapping[str, Report]) -> None:
        """Take back what an earlier life of this meter knew of processes that have not reported since."""
        for caller, one in reports.items():
            self.reports.setdefault(caller, one)


Reporter = Callable[[str, str, dict[str, float], int, int, list[str]], Awaitable[tuple[float, str]]]


class Tally:
    """The counts of one process; asks for permits before requests are sent."""

    def __init__(self, caller: str, service: str, limited: bool, reporter: Reporter):
        self.caller, self.service, self.limited, self.reporter = caller, service, limited, reporter
        self.totals: defaultdict[str, float] = defaultdict(float)
        self.in_flight = 0
        self.waiting = 0
        self.allowed = 0.0
        self.stopped = ""
        self.said: list[str] = []
        self.halt: Exception | None = None
        """Why this process calls no more."""
        self.busy: set[Any] = set()
        """Tasks that hold a request, or a reply that is not on disk yet."""
        self._asking = False

    async def permit(self) -> None:
        """Return when one more request may be sent, and count it; BudgetReached when none may."""
        import asyncio

        if self.halt is not None:
            raise self.halt.with_traceback(None)  # the way of every call that met it would be kept
        self.waiting += 1
        try:
            while self.limited and self.totals["requests"] >= self.allowed:
                if self.stopped:
                    self.halt = self.halt or BudgetReached(stop_line(self.stopped))
                    raise self.halt.with_traceback(None)
                if self._asking:
                    await asyncio.sleep(0.01)
                    continue
                self._asking = True
                before = self.allowed
                try:
                    await self.sync(self.waiting)
                finally:
                    self._asking = False
                if self.allowed <= before and not self.stopped:
                    await asyncio.sleep(0.05)  # others hold what is left; they may give it back
            self.totals["requests"] += 1
            self.in_flight += 1
            self.busy.add(asyncio.current_task())
        finally:
            self.waiting -= 1

    async def sync(self, want: int = 0) -> None:
        """Report, and take over what the meter gives."""
        said, self.said = self.said, []
        allowed, why = await self.reporter(
            self.caller, self.service, dict(self.totals), self.in_flight, want or self.waiting, said
        )
        if self.limited:
            self.allowed = allowed
            self.stopped = why


def stop_line(why: str) -> str:
    """The one line of a clean stop."""
    return (
        f"budget reached ({why}); finished answers are kept: raise `budget` or run the same command again, "
        "and it goes on from here"
    )


def summary(totals: Mapping[str, float]) -> dict[str, Any]:
    """A ledger for people and records: whole numbers, the cached share, money to six places."""
    whole = {name: int(totals.get(name, 0)) for name in (*COUNTED, *PAID_BEFORE)}
    calls = whole["calls"]
    return {
        **whole,
        "cached_share": round(whole["cached"] / calls, 4) if calls else 0.0,
        "money": round(float(totals.get("money", 0.0)), 6),
        "paid_before_money": round(float(totals.get("paid_before_money", 0.0)), 6),
    }


def own_part(whole: Mapping[str, float], new: int, of_new: int, old: int, of_old: int) -> dict[str, float]:
    """What of a ledger a part of its calls counts as its own, so that parts add up to the whole.

    By its share of the new calls (`new` of `of_new`), and of those answered before (`old` of `of_old`) for what was
    paid before. Without `calls` and `cached`, which whoever made them counts exactly.
    """
    share = new / max(1, of_new)
    before = old / of_old if of_old else share
    return {
        name: value * (before if name.startswith("paid_before") else share)
        for name, value in whole.items()
        if name not in ("calls", "cached", "cached_share")
    }


def line(totals: Mapping[str, float], seconds: float) -> str:
    """The ledger as one line of progress."""
    ledger = summary(totals)
    done = int(totals.get("answered", 0)) + ledger["cached"]
    rate = int(totals.get("answered", 0)) / max(seconds, 1e-9)
    text = f"calls {done} ({ledger['cached']} from the journal), {rate:.1f}/s"
    text += f", {ledger['retries']} retries, {ledger['tokens_in']} tokens in, {ledger['tokens_out']} out"
    text += f", money {ledger['money']:.4f}" if ledger["money"] else ""
    return text + (f", {ledger['set_aside']} set aside" if ledger["set_aside"] else "")

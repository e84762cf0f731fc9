"""How hard an endpoint is pushed: calls in flight, pauses, and how many repeats it is worth.

    limit      doubles every round trip until the endpoint first asks to slow down, then grows by 1 or 2 % a round trip
    slow down  a share of 429, 503 or 529 among the latest takes a part off the limit; Retry-After is kept, bounded
    breaker    when nothing but failures comes back, one call at a time asks whether it is back; the others wait
    repeats    each answer earns one, on top of a start of 100; where none is left, repeats come one a second

One Throttle belongs to one endpoint in one process, and to that process's event loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from understudy.errors import UnderstudyError

Outcome = Literal["ok", "slow", "failed", "refused", "unsent"]
"""slow: the endpoint asks for fewer calls; failed: no usable answer; refused: an answer, and it is no; unsent: nothing
was asked, or nobody waited for the answer, which says nothing about the endpoint."""

FIRST_LIMIT = 32
LEAST_SHARE = 64
"""The limit never falls below 1/64 of the most (and never below 1)."""
WINDOW, FLOOD = 50, 10
"""Answers that a step back is decided on; so many slow-downs at once decide it sooner."""
SLOW_SHARE = 0.15
"""So many slow-downs in a window are chance, or the price of finding the limit."""
MOST_RETRY_AFTER_S = 60.0
GROWTH = 0.02
FAILURES_IN_A_ROW = 20
SLOW_FOR_S = 20.0
"""An endpoint that does nothing but ask to slow down for so long counts as down."""
BACKOFF_S, MOST_BACKOFF_S = 0.25, 20.0
PROBE_S, MOST_PROBE_S = 1.0, 30.0
FREE_REPEATS, REPEATS_PER_ANSWER = 100.0, 1.0
NEVER_ANSWERED_S = 30.0
"""An endpoint that has never answered is rather a wrong address than an outage."""


class EndpointDownError(UnderstudyError):
    """An endpoint answers nothing for longer than its patience; finished answers stay."""


class Throttle:
    """The gate before one endpoint."""

    def __init__(self, name: str, most: int, patience_s: float, say: Callable[[str], None], seed: int | None = None):
        """`most`: calls in flight at most; `say` gets a line when the endpoint pauses and when it is back."""
        self.name, self.most, self.patience_s, self.say = name, most, patience_s, say
        self.limit = float(min(most, FIRST_LIMIT))
        self.in_flight = 0
        self.answered = 0
        """Good answers so far."""
        self._growing_fast = True
        self._random = random.Random(seed)
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._round_trip_s = 0.25
        self._window_began = time.monotonic()
        self._window = [0, 0]
        self._stepped_at = -1e9
        self._hold_until = 0.0
        self._in_a_row = 0
        self._slow_since: float | None = None
        self._last_failure = ""
        self._ever_answered = False
        self._down_since: float | None = None
        self._probing = False
        self._probe_at = 0.0
        self._probe_s = PROBE_S
        self._repeats = FREE_REPEATS
        self._next_free_repeat = 0.0

    @property
    def is_down(self) -> bool:
        """Whether the breaker is open."""
        return self._down_since is not None

    @property
    def room(self) -> float:
        """Free places as a share of the limit, less than 0 where calls wait; -inf while it is down or wants quiet."""
        if self.is_down or time.monotonic() < self._hold_until:
            return float("-inf")
        return 1.0 - (self.in_flight + len(self._waiters)) / max(1.0, self.limit)

    async def enter(self) -> bool:
        """Wait for a place; True when this call is the one that asks whether the endpoint is back.

        EndpointDownError when it stayed away for longer than the patience.
        """
        while True:
            now = time.monotonic()
            if self.is_down:
                self._check_patience(now)
                if not self._probing and now >= self._probe_at:
                    self._probing = True
                    self.in_flight += 1
                    return True
                await asyncio.sleep(min(0.5, max(0.02, self._probe_at - now)))
            elif now < self._hold_until:
                await asyncio.sleep(self._hold_until - now + self._random.random() * 0.05)
            elif self.in_flight < int(self.limit):
                self.in_flight += 1
                return False
            else:
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                try:
                    await waiter
                finally:
                    if not waiter.done():
                        waiter.cancel()

    def leave(
        self, outcome: Outcome, probe: bool, took_s: float, retry_after_s: float | None = None, said: str = ""
    ) -> None:
        """Give the place back and tell how it went."""
        self.in_flight -= 1
        now = time.monotonic()
        if probe:
            self._probing = False
        if outcome == "unsent":
            self._wake()
            return
        if outcome in ("ok", "refused"):
            self._answered(now)
        else:
            self._failed(now, probe, said, outcome == "slow")
        self._window[0] += 1
        self._window[1] += outcome == "slow"
        if outcome == "ok":
            self._round_trip_s += 0.1 * (took_s - self._round_trip_s)
            step = 1.0 if self._growing_fast else max(1.0, GROWTH * self.limit) / self.limit
            self.limit = min(float(self.most), self.limit + step)
            self.answered += 1
            self._repeats = min(FREE_REPEATS, self._repeats + REPEATS_PER_ANSWER)
        self._look_at_window(now, retry_after_s)
        self._wake()

    async def before_repeat(self, tries: int, retry_after_s: float | None) -> None:
        """Wait before a call is sent again for the `tries`-th time (from 1), and pay for it from the budget."""
        wait = self._random.random() * min(MOST_BACKOFF_S, BACKOFF_S * 2**tries)
        if retry_after_s is not None:
            wait = min(MOST_RETRY_AFTER_S, retry_after_s) * (1 + 0.1 * self._random.random()) + wait * 0.1
        if self._repeats >= 1:
            self._repeats -= 1
        else:
            now = time.monotonic()
            self._next_free_repeat = max(now, self._next_free_repeat) + 1.0
            wait = max(wait, self._next_free_repeat - now)
        await asyncio.sleep(wait)

    def _look_at_window(self, now: float, retry_after_s: float | None) -> None:
        """Step back where too many of the latest answers asked for it."""
        count, slow = self._window
        share = slow / count
        flood = slow >= FLOOD and share > 0.5
        if not flood and (count < max(WINDOW, self.limit) or now < self._window_began + self._round_trip_s):
            return
        # What was sent before the last step back says nothing about it.
        if share > SLOW_SHARE and now > self._stepped_at + 1.2 * self._round_trip_s:
            floor = max(1.0, self.most / LEAST_SHARE)
            self.limit = max(floor, min(self.limit, float(self.in_flight + 1)) * (1 - min(0.5, max(0.2, share))))
            self._growing_fast = False
            self._stepped_at = now
            if flood and retry_after_s:
                self._hold_until = now + min(MOST_RETRY_AFTER_S, retry_after_s)
        self._window_began, self._window = now, [0, 0]

    def _answered(self, now: float) -> None:
        self._in_a_row = 0
        self._slow_since = None
        self._ever_answered = True
        if self._down_since is not None:
            self.say(f"endpoint {self.name}: is back after {now - self._down_since:.0f} s")
            self._down_since, self._probe_s = None, PROBE_S
            self.limit = min(self.limit, float(FIRST_LIMIT))
            self._growing_fast = True

    def _failed(self, now: float, probe: bool, said: str, slow: bool) -> None:
        self._last_failure = said
        if not slow:
            self._in_a_row += 1
        elif self._slow_since is None:
            self._slow_since = now
        elif now > self._slow_since + SLOW_FOR_S:  # a quota that is used up asks to slow down for ever
            self._in_a_row = FAILURES_IN_A_ROW
        if self._down_since is None and self._in_a_row >= FAILURES_IN_A_ROW:
            self._down_since = now
            self._probe_at = now + self._probe_s
            self.say(f"endpoint {self.name}: answers nothing ({said}); waiting until it does")
        elif probe:
            self._probe_s = min(MOST_PROBE_S, self._probe_s * 2)
            self._probe_at = now + self._probe_s * (0.5 + self._random.random() / 2)

    def _check_patience(self, now: float) -> None:
        patience = self.patience_s if self._ever_answered else min(self.patience_s, NEVER_ANSWERED_S)
        if self._down_since is not None and now > self._down_since + patience:
            raise EndpointDownError(
                f"endpoint {self.name}: has answered nothing for {now - self._down_since:.0f} s "
                f"({self._last_failure}); see to it and run the same command again (finished answers are kept)"
            )

    def _wake(self) -> None:
        free = int(self.limit) - self.in_flight
        while free > 0 and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1


def retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header (a number or an HTTP date), bounded; None when there is none to read."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    if seconds != seconds:
        return None
    return min(MOST_RETRY_AFTER_S, max(0.0, seconds))

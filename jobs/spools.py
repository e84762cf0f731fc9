"""What killed processes of other machines leave behind, where the store is no folder: the end of a writer's records is
in the spool of its machine alone, all before it in the store.

Before a run begins, every machine sends what lies in its spool; so does a process that starts to answer, for one that
was killed beside it. And whoever gets a lost process's rows looks for what that one sent (jobs/peers.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from jobs.caller import Caller
from jobs.journal import Journal, locked
from understudy.errors import StoreError

MACHINES_S = 30.0
"""A machine that takes longer to send its spool is not waited for."""
LOOK_EVERY_S, AGAIN_EVERY_S = 1.0, 5.0
QUIET_S = 1.5
"""Processes report twice a second: one that does not for so long is taken for lost (a look too many does no harm)."""
GONE_S = 60.0
"""After so long nothing more comes from a lost process's machine."""


def collect_here(journals: Sequence[Journal], run: str) -> None:
    """Send what killed writers left in this machine's spool; segments of `run` also stay for its processes here."""
    for journal in journals:
        if journal.store.is_local or not any(journal.folder.glob("*.seg")):
            continue
        with locked(journal.folder.parent / "compact.lock"), suppress(StoreError):  # else the next one sends it
            journal.collect(run, keep=True)


def collect_elsewhere(journals: Sequence[Journal], run: str) -> None:
    """`collect_here` on every other machine of the cluster that this process is connected to."""
    if all(journal.store.is_local for journal in journals):
        return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    task = ray.remote(collect_here)
    asked = [
        task.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(journals, run)
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here
    ]
    if asked:
        ray.wait(asked, num_returns=len(asked), timeout=MACHINES_S)


class Lost:
    """Watches for processes of the run that report no more, and has their answers found."""

    def __init__(self, caller: Caller, meter: Any):
        """`meter`: the actor to which the run's processes report."""
        self.caller, self.meter = caller, meter
        self._next = 0.0
        self._read_at: dict[str, float] = {}

    async def look(self) -> None:
        """Read what newly lost processes sent; those of the last minute again, since more may come from their spool."""
        plan, now = self.caller.plan, time.monotonic()
        if plan.store.is_local or now < self._next:
            return
        self._next = now + LOOK_EVERY_S
        reports, _ = await self.meter.peek.remote()
        latest = max((time.time(), *(one.at for one in reports.values())))  # clocks differ a little
        due = [
            name
            for name, one in reports.items()
            if plan.made < one.at < latest - QUIET_S
            and name != self.caller.tally.caller
            and (name not in self._read_at or (now > self._read_at[name] + AGAIN_EVERY_S and one.at > latest - GONE_S))
        ]
        if due:
            self._read_at.update(dict.fromkeys(due, now))
            await asyncio.to_thread(self.caller.look_for, due)

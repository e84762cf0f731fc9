"""Calls by the million: Ray Data over actors that each answer hundreds at a time.

Rows that the journal knows cost one look into it. While it is small every actor looks for itself; where it is large the
rows are first brought together by the first bits of their key, so that each partition of it is read once. An actor that
is killed leaves its segment behind, and whoever gets its rows reads that first (jobs/peers.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.caller import Caller, Plan
from jobs.calls import Answer, Call, read_call
from jobs.journal import Journal, host, is_held, part_of, run_lock
from jobs.ledger import BudgetReached, Meter
from jobs.lookup import Lookup
from jobs.questions import questions_of, set_aside
from jobs.spools import Lost, collect_elsewhere, collect_here
from understudy.errors import InputError, UnderstudyError

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

    from jobs.llm import Service

BLOCK_ROWS = 1024
"""Rows of one task; a killed actor's tasks run again, and find its answers in its last segments."""
BATCH_ROWS = 256
IN_FLIGHT_AN_ACTOR = 256
JOIN_RECORDS = 1_000_000
"""A journal with more records than this is joined by partition instead of looked into by every actor."""
LEAST_JOIN_BITS = 10
WATCH_S = 0.1
LAST_REPLIES_S = 15.0
OTHERS_S = 60.0

_REMOTE: dict[int, Any] = {}
"""The actor that stands for a Meter of this process, by the Meter's id."""


def answered(service: Service, rows: Dataset, join_records: int | None = None) -> Dataset:
    """`answer_rows`; `join_records` replaces JOIN_RECORDS."""
    import ray

    from cluster import runtime

    runtime.start()
    runtime.quiet_data()
    # Wrapped as Ray Data does it, an error of ours arrives without its class; and it is said by whoever reads the rows.
    rows.context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    most = sum(endpoint.max_in_flight for _, endpoint in service.endpoints)
    cpus = int(ray.cluster_resources().get("CPU", 1))
    actors = max(1, min(-(-most // IN_FLIGHT_AN_ACTOR), cpus))
    collect_elsewhere([Journal(service.store, model) for model in service.models], "")
    plan = service.plan(actors)
    placed: dict[str, Any] = {"num_cpus": 0.1}
    if service.embedded:
        from jobs.embedded import base_of, engine_spec

        endpoint, folder = service.endpoints[0][1], Path(service.folder)
        spec = engine_spec(endpoint, base_of(endpoint, folder), folder)
        plan, actors, placed = replace(plan, engine=spec), spec.engines, dict(spec.placed)
    rows = rows.repartition(target_num_rows_per_block=BLOCK_ROWS)
    if sum(one.records for one in plan.journals) > (JOIN_RECORDS if join_records is None else join_records):
        rows = _joined(plan, rows)
    return rows.map_batches(
        Answering,
        fn_constructor_args=(plan, _remote(service.meter())),
        batch_format="pyarrow",
        batch_size=BATCH_ROWS,
        zero_copy_batch=True,
        # Engines that find no room yet may come later; what answers through the network has room at once.
        compute=ray.data.ActorPoolStrategy(
            min_size=1 if service.embedded else actors,
            max_size=actors,
            max_tasks_in_flight_per_actor=8 if service.embedded else 4,
            max_concurrent_calls_per_actor=4 if service.embedded else 2,
        ),
        **placed,
    )


def table_of(items: Sequence[dict[str, Any]]) -> Dataset:
    """Rows at hand as a table, in blocks fit for `answered`.

    Ray Data's own two hundred blocks cost a task each to pass on, and calls waited for their rows at half the speed.
    """
    import ray.data

    return ray.data.from_items(list(items), override_num_blocks=max(1, -(-len(items) // BLOCK_ROWS)))


def answer_stream(service: Service, calls: Iterable[Call]) -> Iterator[tuple[int, Answer]]:
    """(position, answer) of each call through Ray, as they come."""
    from cluster import runtime
    from jobs.llm import each

    runtime.start()
    runtime.quiet_data()
    items = [{"row": number, "call": call.as_json()} for number, call in enumerate(calls)]
    for row in each(service, answered(service, table_of(items))):
        yield row["row"], Answer.of(row["answer"])


def answer_list(service: Service, calls: Sequence[Call]) -> list[Answer]:
    """`answer_all` through Ray."""
    found = dict(answer_stream(service, calls))
    return [found[position] for position in sorted(found)]


class Answering:
    """What runs in an actor: a Caller behind Ray Data's batches."""

    def __init__(self, plan: Plan, meter: Any):
        async def report(*arguments: Any) -> tuple[float, str]:
            return await meter.report.remote(*arguments)

        collect_here(plan.journals, plan.run)
        self.caller = Caller(plan, report, f"w{os.getpid()}-{secrets.token_hex(2)}")
        self.meter = meter
        self.lost = Lost(self.caller, meter)
        if plan.run.split("=")[0] == host():
            threading.Thread(
                target=_end_with_the_driver, args=(plan, self.caller), name="driver-watch", daemon=True
            ).start()

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with its answers."""
        import pyarrow as pa

        calls, known = _calls_of(batch)
        await self.lost.look()
        try:
            answers = await asyncio.wrap_future(self.caller.submit(calls, known))
        except BudgetReached:
            await self._others()
            raise
        column = pa.array([answer.as_json() for answer in answers], type=pa.string())
        return _without(batch, ("answer", "_known", "_part")).append_column("answer", column)

    async def _others(self) -> None:
        """The first error ends the whole run: let other actors' calls under way reach their journals first."""
        until = time.monotonic() + OTHERS_S
        while time.monotonic() < until:
            reports, _ = await self.meter.peek.remote()
            if not any(one.in_flight and one.at > time.time() - 5 for one in reports.values()):
                return
            await asyncio.sleep(0.2)


def _calls_of(batch: pa.Table) -> tuple[list[Call | Answer], dict[str, dict[str, Any]] | None]:
    column = batch.column("call").to_pylist() if "call" in batch.column_names else [None] * batch.num_rows
    calls: list[Call | Answer] = []
    for text in column:
        call, problem = read_call(text)
        calls.append(set_aside(problem) if call is None else call)
    if "_known" not in batch.column_names:
        return calls, None
    known: dict[str, dict[str, Any]] = {}
    for text in batch.column("_known").to_pylist():
        if text:
            key, payload = json.loads(text)
            known[key] = payload
    return calls, known


def _without(batch: pa.Table, names: Sequence[str]) -> pa.Table:
    kept = [name for name in batch.column_names if name not in names]
    return batch.select(kept) if len(kept) < len(batch.column_names) else batch


def _end_with_the_driver(plan: Plan, caller: Caller) -> None:
    """Workers outlive a killed driver by a moment: they call nobody any more, and keep what is still on its way."""
    lock = run_lock(plan.store, plan.run)
    while is_held(lock):
        time.sleep(WATCH_S)
    caller.tally.halt = UnderstudyError("the driver is gone")
    until = time.monotonic() + LAST_REPLIES_S
    while caller.tally.busy and time.monotonic() < until:
        time.sleep(0.02)
    for child in multiprocessing.active_children():  # an engine would live on, with its GPU
        child.kill()
    os._exit(1)


# -- a large journal --------------------------------------------------------------------------------------------------


def _joined(plan: Plan, rows: Dataset) -> Dataset:
    """Rows with `_known`: their journal record as JSON, or "". Memory: one partition of rows and of its index."""
    most = max(one.bits for journal in plan.journals for one in journal.generations)
    bits = max(LEAST_JOIN_BITS, most)
    keyed = rows.map_batches(partial(_add_part, plan=plan, bits=bits), batch_format="pyarrow", zero_copy_batch=True)
    return keyed.groupby("_part").map_groups(partial(_add_known, plan=plan), batch_format="pyarrow")


def _add_part(batch: pa.Table, plan: Plan, bits: int) -> pa.Table:
    import pyarrow as pa

    questions = questions_of(plan, _calls_of(batch)[0])
    parts = [part_of(bytes.fromhex(one.key), bits) if one.key else 0 for one in questions]
    return batch.append_column("_part", pa.array(parts, type=pa.int32()))


def _add_known(group: pa.Table, plan: Plan) -> pa.Table:
    import pyarrow as pa

    questions = questions_of(plan, _calls_of(group)[0])
    known: dict[str, dict[str, Any]] = {}
    for journal in plan.journals:
        keys = [bytes.fromhex(one.key) for one in questions if one.key and one.model == journal.model]
        known.update({key.hex(): payload for key, payload in Lookup(journal).find(keys).items()})
    column = [json.dumps([one.key, known[one.key]]) if one.key in known else "" for one in questions]
    return group.append_column("_known", pa.array(column, type=pa.string()))


# -- meters and errors across processes -------------------------------------------------------------------------------


def _remote(meter: Meter) -> Any:
    """An actor in place of `meter`, which goes on from its counts; made once."""
    import ray

    if id(meter) in _REMOTE:
        with contextlib.suppress(Exception):
            ray.get(_REMOTE[id(meter)].peek.remote(), timeout=10)
            return _REMOTE[id(meter)]
    # A meter that is killed comes back with what it was made with, and the driver tells it the rest.
    actor: Any = ray.remote(Meter).options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
    reports = {name: replace(one) for name, one in meter.reports.items()}
    _REMOTE[id(meter)] = actor.remote(meter.budget, reports)
    return _REMOTE[id(meter)]


def pull(meter: Meter) -> None:
    """Bring the driver's meter up to date with the actor that stands for it, if there is one."""
    actor = _REMOTE.get(id(meter))
    if actor is None:
        return
    import ray

    try:
        reports, said = ray.get(actor.snapshot.remote(), timeout=5)
        missing = {name: one for name, one in meter.reports.items() if name not in reports}
        if missing:
            actor.restore.remote(missing)
    except Exception:  # noqa: BLE001 - the cluster is gone or busy: what was known stands
        return
    meter.reports.update(reports)
    meter.messages.extend(said)


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Errors of ours, raised in a worker and wrapped by Ray, as themselves."""
    try:
        yield
    except Exception as error:
        ours = _ours(error)
        if ours is None:
            raise
        raise ours from None


def _ours(error: BaseException) -> UnderstudyError | None:
    """The error of ours in a chain; Ray's copy of one, of a class made for it, only where there is no other."""
    seen: list[BaseException] = [error]
    for one in seen:
        for inner in (getattr(one, "cause", None), one.__cause__, one.__context__):
            if isinstance(inner, BaseException) and inner not in seen and len(seen) < 32:
                seen.append(inner)
    found = [one for one in seen if isinstance(one, UnderstudyError)]
    plain = next((one for one in found if type(one).__name__ in _NAMES), None)
    if plain is not None:
        return type(plain)(str(plain).splitlines()[0])  # Ray Data adds its own advice
    return _again(found[0]) if found else None


_NAMES = ("BudgetReached", "EndpointError", "EndpointDownError", "StoreError", "MissingError")


def _again(error: UnderstudyError) -> UnderstudyError:
    """Ray makes a class of its own of an error's class; only the line is wanted."""
    kind = InputError if isinstance(error, InputError) else UnderstudyError
    for base in type(error).__mro__:
        if base.__name__ in _NAMES:
            kind = base
            break
    return kind(str(error).strip().splitlines()[-1].split(": ", 1)[-1] if "\n" in str(error) else str(error))

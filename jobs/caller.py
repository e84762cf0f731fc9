"""One process that answers calls: journal first, then the endpoint, then the journal again; a reply is on disk before
its row moves on.

    caller = Caller(plan, reporter)
    answers = caller.submit(calls).result()

It has a thread and event loop of its own, so that Ray Data's loop, a stage's main thread and a test use it alike.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from jobs.calls import Answer, Call
from jobs.endpoint_calls import EndpointError, Reply, Server
from jobs.journal import Journal
from jobs.ledger import Reporter, Tally
from jobs.lookup import Lookup
from jobs.peers import Peers
from jobs.questions import Question, questions_of
from jobs.records import Writer
from understudy.answers import correction, read_answer, read_cut_answer
from understudy.errors import StoreError
from understudy.recipe import Endpoint
from understudy.store import Store
from understudy.wording import one_line

if TYPE_CHECKING:
    from jobs.embedded import EngineSpec

Known = dict[str, dict[str, Any]]
"""Journal payload by key (hex)."""
COUNTED = "counted"
"""In a payload: this run's ledger has its tokens."""
RECENT = 4096
"""Answers at hand for a question that comes again soon."""
REPORT_S = 0.5
SETTLE_S = 120.0


@dataclass(frozen=True)
class Plan:
    """What a process needs to answer calls; fit to travel."""

    service: str
    run: str
    endpoints: tuple[tuple[str, Endpoint], ...]
    journals: tuple[Journal, ...]
    """One for each model."""
    limited: bool
    processes: int = 1
    """Among how many the endpoints' `max_in_flight` is divided."""
    identity: str = ""
    """Of the embedded base, where the model runs inside the job."""
    engine: EngineSpec | None = None
    """How such an engine is started; None where every call is known to be in the journal."""
    made: float = field(default_factory=time.time)

    @property
    def store(self) -> Store:
        """Where the journals are."""
        return self.journals[0].store


class Answers(Protocol):
    """What a call is put to: a server (jobs/endpoint_calls.py) or an engine in this process (jobs/embedded.py)."""

    @property
    def room(self) -> float:
        """Free places as a share of all."""
        ...

    @property
    def weight(self) -> float:
        """As in the recipe."""
        ...

    async def ask(self, call: Call, messages: Sequence[Mapping[str, str]]) -> Reply:
        """The reply to `messages` under the call's schema and sampling."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class Caller:
    """Answers calls in one process."""

    def __init__(self, plan: Plan, reporter: Reporter, caller: str):
        """`caller` names this process in segments and reports."""
        self.plan = plan
        self.tally = Tally(caller, plan.service, plan.limited, reporter)
        self._loop = asyncio.new_event_loop()
        self._lookups = {journal.model: Lookup(journal) for journal in plan.journals}
        self.peers = {one.model: Peers(one.folder, plan.run, f"{plan.run}.{caller}") for one in plan.journals}
        self._writers: dict[str, Writer] = {}
        self._recent: OrderedDict[str, Answer] = OrderedDict()
        self._pending: dict[str, asyncio.Future[Answer]] = {}
        self._servers: dict[str, list[Answers]] = {}
        self._turns: dict[Answers, float] = {}
        self._cannot_call: EndpointError | None = None
        self._merged: set[str] = set()
        """Models of whose journal there is more to know than when somebody looked its calls up."""
        self._told_of_cut = False
        self._open = 0
        self._thread = threading.Thread(target=self._run, name="calls", daemon=True)
        self._thread.start()

    def submit(self, calls: Sequence[Call | Answer], known: Known | None = None) -> Future[list[Answer]]:
        """The answers, in order; an Answer among the calls is passed through.

        `known`: what the journal has of them, where somebody has looked already. The future raises BudgetReached,
        EndpointError, EndpointDownError or StoreError, after all that is under way is on disk.
        """
        return asyncio.run_coroutine_threadsafe(self._answer_all(list(calls), known), self._loop)

    def close(self) -> None:
        """Finish, close files and connections."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._close_writers()

    def look_for(self, lost: Sequence[str]) -> None:
        """Find what lost processes of the run sent to the store, also where another run has merged it since."""
        for journal in self.plan.journals:
            with suppress(StoreError):  # then it is asked again
                self.peers[journal.model].read_sent(journal, lost)
                # Behind the segments: what another machine took from there is in a generation by now.
                self._lookups[journal.model].refresh()
                self._merged.add(journal.model)

    # -- on the loop --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        for name, endpoint in self.plan.endpoints:
            try:
                self._servers.setdefault(endpoint.model, []).append(self._answers_of(name, endpoint))
            except Exception as error:  # noqa: BLE001 - a proxy or certificates of the environment that cannot be used
                said = one_line(error, 160)
                self._cannot_call = EndpointError(f"endpoints.{name}: cannot be called from here ({said})")
        self._reports = self._loop.create_task(self._report())
        self._loop.run_forever()

    def _answers_of(self, name: str, endpoint: Endpoint) -> Answers:
        if endpoint.engine == "vllm":
            from jobs.embedded import Engine

            return Engine(name, endpoint, self.plan.engine, self.tally)
        return Server(name, endpoint, max(1, endpoint.max_in_flight // self.plan.processes), self.tally)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            await self.tally.sync()

    async def _close(self) -> None:
        self._reports.cancel()
        await self.tally.sync()
        for servers in self._servers.values():
            for server in servers:
                await server.close()

    async def _answer_all(self, calls: list[Call | Answer], known: Known | None) -> list[Answer]:
        self._open += 1
        try:
            questions = await asyncio.to_thread(questions_of, self.plan, calls)
            known = await asyncio.to_thread(self._known, questions, known)
            tasks = [asyncio.ensure_future(self._answer(question, known)) for question in questions]
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            if self.tally.halt is not None:
                await self._halt(tasks)
        finally:
            self._open -= 1
        if not self._open:
            # The last rows of a worker: Ray may end it right after, so nothing waits for its few seconds.
            await asyncio.to_thread(self._flush)
        await self.tally.sync()
        return [task.result() for task in tasks]

    async def _halt(self, tasks: list[asyncio.Task[Answer]]) -> None:
        """What is paid for reaches the disk, what only waits is dropped; then the reason is raised."""
        for task in tasks:
            if task not in self.tally.busy:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        until = time.monotonic() + SETTLE_S
        while self.tally.busy and time.monotonic() < until:
            await asyncio.sleep(0.02)
        # Nobody asks here any more, and whoever goes on reads what nobody writes to.
        await asyncio.to_thread(self._close_writers)
        await self.tally.sync()
        assert self.tally.halt is not None
        raise self.tally.halt.with_traceback(None)

    def _close_writers(self) -> None:
        while self._writers:
            self._writers.popitem()[1].close()

    def _flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()

    def _known(self, questions: Sequence[Question | Answer], looked_up: Known | None) -> Known:
        """What the journal has of these calls, by key; `looked_up`: what somebody found there before."""
        by_model: dict[str, list[bytes]] = {}
        for one in questions:
            if isinstance(one, Question):
                by_model.setdefault(one.model, []).append(bytes.fromhex(one.key))
        known: Known = dict(looked_up or {})
        for model, keys in by_model.items():
            found = self._lookups[model].find(keys) if looked_up is None or model in self._merged else {}
            missing = [key for key in keys if key not in found or found[key].get("open")]
            of_peers = self.peers[model].find(missing)
            found.update({key: {**payload, COUNTED: True} for key, payload in of_peers.items()})
            known.update({key.hex(): payload for key, payload in found.items()})
        return known

    async def _answer(self, question: Question | Answer, known: Known) -> Answer:
        totals = self.tally.totals
        totals["calls"] += 1
        if isinstance(question, Answer):
            totals["set_aside"] += 1
            return question
        call, model, key = question.call, question.model, question.key
        if key in self._recent:
            totals["cached"] += 1
            return _again(self._recent[key])
        before = known.get(key)
        if before is not None and not before.get("open"):
            totals["cached"] += 1
            self._paid_before(model, before)
            return _from_payload(key, before, call, model)
        if key in self._pending:
            answer = await asyncio.shield(self._pending[key])
            totals["cached"] += 1
            return _again(answer)
        pending = self._pending[key] = self._loop.create_future()
        try:
            answer = await self._ask(call, key, model, before)
            pending.set_result(answer)
        except asyncio.CancelledError:
            pending.cancel()
            raise
        except Exception as error:
            self.tally.halt = self.tally.halt or error
            pending.cancel()
            raise
        finally:
            del self._pending[key]
            self.tally.busy.discard(asyncio.current_task())
        totals["answered"] += 1
        totals["set_aside"] += bool(answer.reason)
        return answer

    async def _ask(self, call: Call, key: str, model: str, before: dict[str, Any] | None) -> Answer:
        """Ask the endpoint, once more where the answer does not fit its schema."""
        if before is None:
            server = self._server(model)
            reply = await server.ask(call, call.messages)
            value, reason = _read(reply, call)
            if not reason or call.schema is None or reply.problem:
                # What was cut would be cut again, what was filtered filtered: a correction is for what does not fit.
                return await self._keep(key, model, reply, value, reason)
            before = {"text": reply.text, "reason": reason, "in": reply.tokens_in, "out": reply.tokens_out}
            await self._write(key, model, {**before, "open": True})
        else:
            self._paid_before(model, before)
        text, reason = before["text"], before["reason"]
        self.tally.totals["corrections"] += 1
        reply = await self._server(model).ask(call, correction(call.messages, text, reason))
        value, reason = _read(reply, call)
        tokens_in, tokens_out = before.get("in", 0) + reply.tokens_in, before.get("out", 0) + reply.tokens_out
        return await self._keep(key, model, replace(reply, tokens_in=tokens_in, tokens_out=tokens_out), value, reason)

    def _paid_before(self, model: str, payload: dict[str, Any]) -> None:
        """Count once what an earlier run paid for a record, at the prices of now."""
        if payload.setdefault(COUNTED, False):
            return
        payload[COUNTED] = True
        tokens_in, tokens_out = payload.get("in", 0), payload.get("out", 0)
        prices = next(one for _, one in self.plan.endpoints if one.model == model).prices
        self.tally.totals["paid_before_tokens_in"] += tokens_in
        self.tally.totals["paid_before_tokens_out"] += tokens_out
        self.tally.totals["paid_before_money"] += prices.cost(tokens_in, tokens_out)

    def _server(self, model: str) -> Answers:
        """The next endpoint of a model: by weight among those with room, else where fewest wait for its weight."""
        if self._cannot_call is not None:
            raise self._cannot_call
        servers = self._servers[model]
        if not servers[1:]:
            return servers[0]
        free = [one for one in servers if one.room > 0]
        if not free:
            return max(servers, key=lambda one: (one.room - 1) / one.weight)
        for one in free:  # smooth weighted round robin
            self._turns[one] = self._turns.get(one, 0.0) + one.weight
        chosen = max(free, key=self._turns.__getitem__)
        self._turns[chosen] -= sum(one.weight for one in free)
        return chosen

    async def _keep(self, key: str, model: str, reply: Reply, value: Any, reason: str) -> Answer:
        answer = Answer(key, reply.text, value, reason, model, False, reply.lasting)
        if reply.cut and not reason and not self._told_of_cut:
            self._told_of_cut = True
            self.tally.said.append(
                f"{model}: lists are cut at max_tokens, what is finished is kept; raise it to get all"
            )
        if reply.lasting:
            payload: dict[str, Any] = {"text": reply.text, "reason": reason}
            payload |= {"in": reply.tokens_in, "out": reply.tokens_out, **({"cut": True} if reply.cut else {})}
            await self._write(key, model, payload)
            self._recent[key] = answer
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        return answer

    async def _write(self, key: str, model: str, payload: dict[str, Any]) -> None:
        """Return when the record is on disk."""
        future: asyncio.Future[StoreError | None] = self._loop.create_future()

        def done(problem: StoreError | None) -> None:
            self._loop.call_soon_threadsafe(future.set_result, problem)

        journal = next(one for one in self.plan.journals if one.model == model)
        writer = self._writers.get(journal.prefix)  # models whose names differ in case alone share a journal
        if writer is None:
            name = f"{self.plan.run}.{self.tally.caller}"
            writer = self._writers[journal.prefix] = Writer(journal.store, journal.prefix, journal.folder, name)
        writer.append(bytes.fromhex(key), payload, done)
        if (problem := await future) is not None:
            raise problem


def _read(reply: Reply, call: Call) -> tuple[Any, str]:
    """(value, why it cannot be used)."""
    if call.schema is None or (reply.problem and not reply.cut):
        return None, reply.problem
    return read_cut_answer(reply.text, call.schema) if reply.cut else read_answer(reply.text, call.schema)


def _from_payload(key: str, payload: dict[str, Any], call: Call, model: str) -> Answer:
    reason = payload["reason"]
    value = None
    if call.schema is not None and not reason:
        value, reason = (read_cut_answer if payload.get("cut") else read_answer)(payload["text"], call.schema)
    return Answer(key, payload["text"], value, reason, model, True)


def _again(answer: Answer) -> Answer:
    return Answer(answer.key, answer.text, answer.value, answer.reason, answer.model, True, answer.lasting)

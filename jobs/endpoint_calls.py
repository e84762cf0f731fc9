"""Requests to OpenAI-compatible endpoints: one client an endpoint, pushed as hard as it takes, repeated within bounds.

The aiohttp transport of the openai package, because the default one looks through all its connections for every call:
with 512 of them a call costs 5.5 ms of CPU against 1.7 ms.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.calls import Call
from jobs.ledger import Tally
from jobs.throttle import Outcome, Throttle, retry_after
from understudy.answers import CUT, response_format, with_schema
from understudy.errors import InputError
from understudy.recipe import Endpoint
from understudy.wording import shortened

SLOW = (429, 503, 529)
FATAL = (401, 402, 403, 404, 405)
"""Nothing that a repeat or another row would change: the key, the account, the address or the model's name is wrong."""
OF_ONE_ROW = (403, 404)
"""From an endpoint that has answered others it is about what was asked: a filter before the model says so."""
REFUSED_IN_A_ROW = 20
"""So many of those with no answer between them are about the endpoint after all: a key that is no longer valid."""
LEAST_OTHERS = 10
"""So many others answered, and a call that was told to come later has had its turn."""
ALONE_S = 20.0
"""For so long the last call may be told to come later by an endpoint that answered all others."""
SAID = 160
"""Characters of what an endpoint says that are passed on."""
WAYS = ("json_schema", "json_object", "none")


class EndpointError(InputError):
    """An endpoint refuses every call: its address, its key or its model is wrong."""


@dataclass(frozen=True)
class Reply:
    """One usable HTTP answer, or why there is none."""

    text: str = ""
    problem: str = ""
    """Why the answer cannot be used although it came (refused, cut, filtered), or why none came."""
    lasting: bool = True
    """False: no model has answered, and another run may fare better (a mended server, another limit)."""
    tokens_in: int = 0
    tokens_out: int = 0
    cut: bool = False
    """Whether the reply ended at its length limit; the problem says so too."""


class Server:
    """One endpoint, in one process and event loop."""

    def __init__(self, name: str, endpoint: Endpoint, most: int, tally: Tally):
        """`most`: this process's share of `endpoint.max_in_flight`."""
        import httpx2
        from openai import AsyncOpenAI, DefaultAioHttpClient

        self.name, self.endpoint, self.tally = name, endpoint, tally
        self.throttle = Throttle(name, most, endpoint.patience_s, tally.said.append)
        self._refused = 0
        """403 and 404 since the last answer."""
        self.open = 0
        self.way = 0 if endpoint.structured == "auto" else WAYS.index(endpoint.structured)
        limits = httpx2.Limits(max_connections=most + 8, max_keepalive_connections=most + 8)
        timeout = httpx2.Timeout(endpoint.timeout_s, connect=min(10.0, endpoint.timeout_s))
        self.client = AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=os.environ.get(endpoint.api_key_env, "").strip() or "none",  # files with keys end with a newline
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAioHttpClient(limits=limits, timeout=timeout),
        )

    @property
    def room(self) -> float:
        """Free places as a share of those that it takes at the moment."""
        return self.throttle.room

    @property
    def weight(self) -> float:
        """As in the recipe."""
        return self.endpoint.weight

    async def close(self) -> None:
        """Let go of the connections."""
        await self.client.close()

    async def ask(self, call: Call, messages: Sequence[Mapping[str, str]]) -> Reply:
        """The reply to `messages` under the call's schema and sampling."""
        way = self.way
        while True:
            reply, used = await self._send(call, messages, way)
            refused = call.schema is not None and reply.problem.startswith("refused with 4")
            if not refused or self.endpoint.structured != "auto" or used + 1 == len(WAYS):
                if not refused and call.schema is not None:
                    self.way = max(self.way, used)  # this server takes no more than that
                return reply
            way = used + 1

    def _body(self, call: Call, messages: Sequence[Mapping[str, str]], way: str) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.endpoint.model, **self.endpoint.options, **call.sampling}
        if call.draw and isinstance(body.get("seed"), int):
            body["seed"] += call.draw
        if call.schema is not None:
            body |= response_format(call.schema, way)
            messages = messages if way == "json_schema" else with_schema(messages, call.schema)
        body["messages"] = [dict(message) for message in messages]
        return body

    async def _send(self, call: Call, messages: Sequence[Mapping[str, str]], way: int) -> tuple[Reply, int]:
        """Send until there is an answer, or `attempts` are used up; also the way in which a schema was asked for."""
        self.open += 1
        try:
            return await self._until_answered(call, messages, way)
        finally:
            self.open -= 1

    async def _until_answered(self, call: Call, messages: Sequence[Mapping[str, str]], way: int) -> tuple[Reply, int]:
        tries, turn = 0, _Turn(self)
        while True:
            probe = await self.throttle.enter()
            outcome: Outcome = "failed"
            wait_s, said, began = None, "cancelled", time.monotonic()
            try:
                await self.tally.permit()
                began = time.monotonic()
                try:
                    way = max(way, self.way)  # others may have learned it while this one waited
                    outcome, reply, wait_s = await self._once(self._body(call, messages, WAYS[way]))
                finally:
                    self.tally.in_flight -= 1
                said = reply.problem
            except BaseException:
                outcome = "unsent"  # no permit, or cancelled, or a wrong key: says nothing about the endpoint's state
                raise
            finally:
                self.throttle.leave(outcome, probe, time.monotonic() - began, wait_s, said)
            if outcome in ("ok", "refused"):
                return reply, way
            # To ask whether it is back, or to be told to slow down, is not the call's own failure.
            tries += turn.is_had() if outcome == "slow" else not probe
            if tries >= self.endpoint.attempts:
                return Reply(problem=f"{reply.problem}, {tries} times", lasting=False), way
            self.tally.totals["retries"] += 1
            self.tally.busy.discard(asyncio.current_task())
            await self.throttle.before_repeat(max(1, tries), wait_s)

    async def _once(self, body: dict[str, Any]) -> tuple[Outcome, Reply, float | None]:
        import httpx2
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            async with asyncio.timeout(self.endpoint.timeout_s):
                response: Any = await self.client.post("/chat/completions", cast_to=httpx2.Response, body=body)
                raw = response.content
        except (TimeoutError, APITimeoutError) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):  # also what refuses, or has no such name
                return "failed", Reply(problem=f"no connection to {self.endpoint.base_url}"), None
            return "failed", Reply(problem=f"no answer within {self.endpoint.timeout_s:g} s"), None
        except APIStatusError as error:
            return self._status(error)
        except (APIConnectionError, httpx2.HTTPError, OSError) as error:
            cause = error.__cause__ or error
            return "failed", Reply(problem=f"the connection failed ({shortened(cause, SAID)})"), None
        except ValueError as error:  # before anything is sent: letters that no header can hold
            where, wanted = f"endpoints.{self.name}", f"see base_url and what is in {self.endpoint.api_key_env}"
            raise EndpointError(f"{where}: no request can be made ({shortened(error, SAID)}); {wanted}") from None
        return self._read(raw)

    def _status(self, error: Any) -> tuple[Outcome, Reply, float | None]:
        code = int(error.status_code)
        said = f"{code}: {shortened(error.message, SAID).removeprefix(f'Error code: {code} - ')}"
        if code in OF_ONE_ROW and self.throttle.answered:
            self._refused += 1
            if self._refused < REFUSED_IN_A_ROW:
                return "refused", Reply(problem=f"answered {said}", lasting=False), None
        if code in FATAL:
            key = f"set {self.endpoint.api_key_env}" if code in (401, 403) else "see base_url and model"
            raise EndpointError(f"endpoints.{self.name}: {self.endpoint.base_url} says {said}; {key}")
        whole = code == 429 and "too large" in said.casefold()  # more than a whole minute's tokens: no pause helps
        if code in SLOW and not whole:
            return "slow", Reply(problem=f"answered {said}"), retry_after(error.response.headers.get("retry-after"))
        if code >= 500 or code in (408, 409, 425):
            return "failed", Reply(problem=f"answered {said}"), None
        return "refused", Reply(problem=f"refused with {said}", lasting=False), None

    def _read(self, raw: bytes) -> tuple[Outcome, Reply, float | None]:
        try:
            answer = json.loads(raw)
            choice = answer["choices"][0]
            message = choice["message"]
            text = message.get("content") or ""
            if not isinstance(text, str):
                raise TypeError("content is no text")
            text = text.encode("utf-8", "replace").decode()  # half an emoji: no table could hold the row
            usage = answer.get("usage") or {}
            counts = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return "failed", Reply(problem="the answer's body is broken"), None
        self._refused = 0
        tokens_in, tokens_out = counts
        self.tally.totals["tokens_in"] += tokens_in
        self.tally.totals["tokens_out"] += tokens_out
        self.tally.totals["money"] += self.endpoint.prices.cost(tokens_in, tokens_out)
        problem = ""
        if refusal := message.get("refusal"):
            problem = f"the model refused: {shortened(refusal, SAID)}"
        elif choice.get("finish_reason") == "length":
            problem = CUT
        elif choice.get("finish_reason") == "content_filter":
            problem = "the reply was stopped by the endpoint's filter"
        elif not text.strip():
            problem = "the reply is empty"
        return "ok", Reply(text, problem, True, tokens_in, tokens_out, problem == CUT), None


class _Turn:
    """Tells an endpoint that is busy from one that answers all others and puts one call off for ever."""

    def __init__(self, server: Server):
        self.server, self.seen, self.began = server, server.throttle.answered, time.monotonic()

    def is_had(self) -> bool:
        """Whether others were answered since this call last had its turn, or all others are: counts as an attempt."""
        throttle = self.server.throttle
        if throttle.answered - self.seen >= max(LEAST_OTHERS, 2 * throttle.limit):
            self.seen = throttle.answered
            return True
        return bool(throttle.answered) and self.server.open == 1 and time.monotonic() > self.began + ALONE_S


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and value == value and 0 <= value < 1e12 else 0

"""One way to call a model (a first, plain form: one process, one journal file a model)."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.answers import correction, read_answer, response_format
from understudy.errors import RecipeError, UnderstudyError
from understudy.names import slug
from understudy.recipe import Endpoint, Recipe
from understudy.record import digest_of
from understudy.store import Store

if TYPE_CHECKING:
    from ray.data import Dataset


class BudgetReached(UnderstudyError):
    """A limit of the recipe's budget is reached; finished answers are kept, the same command goes on."""


@dataclass(frozen=True)
class Call:
    """One question to a model."""

    messages: tuple[Mapping[str, str], ...]
    schema: Mapping[str, Any] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    draw: int = 0


@dataclass(frozen=True)
class Answer:
    """What came of a call."""

    key: str
    text: str
    value: Any
    reason: str
    model: str
    cached: bool


@dataclass
class Service:
    """Where a stage's calls go."""

    endpoints: tuple[Endpoint, ...]
    store: Store
    stage: str
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, recipe: Recipe, store: Store, stage: str, endpoint: str = "main") -> Service:
        """The service of a stage: `endpoint` is a name in recipe.endpoints, or "all"."""
        if endpoint != "all" and endpoint not in recipe.endpoints:
            raise RecipeError(f"endpoints.{endpoint}: is not in the recipe")
        names = list(recipe.endpoints) if endpoint == "all" else [endpoint]
        return cls(tuple(recipe.endpoints[name] for name in names), store, stage)

    def ledger(self) -> dict[str, Any]:
        """Calls, cached, retries, tokens, money."""
        return dict(self.counts)


def answer_all(service: Service, calls: Sequence[Call]) -> list[Answer]:
    """The answers, in order."""
    result: list[list[Answer]] = []
    thread = threading.Thread(target=lambda: result.append(asyncio.run(_all(service, calls))))
    thread.start()
    thread.join()
    return result[0]


def answer_rows(service: Service, rows: Dataset) -> Dataset:
    """Rows with `call` (JSON) in, the same with `answer` (JSON) out."""

    def one(batch: dict[str, Any]) -> dict[str, Any]:
        calls = [Call(**json.loads(text)) for text in batch["call"]]
        answers = answer_all(service, calls)
        return {**batch, "answer": [json.dumps(asdict(answer), ensure_ascii=False) for answer in answers]}

    return rows.map_batches(one, batch_size=64, num_cpus=0.1)


async def _all(service: Service, calls: Sequence[Call]) -> list[Answer]:
    import httpx2
    from openai import AsyncOpenAI, DefaultAioHttpClient

    endpoint = service.endpoints[0]
    known: dict[str, dict[str, str]] = {}
    path = Path(service.store.uri) / "calls" / slug(endpoint.model) / "plain.jsonl"
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            known.update(json.loads(line))
    path.parent.mkdir(parents=True, exist_ok=True)
    client = AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=os.environ.get(endpoint.api_key_env, "none"),
        http_client=DefaultAioHttpClient(limits=httpx2.Limits(max_connections=512)),
    )
    gate = asyncio.Semaphore(64)

    async def once(messages: Sequence[Mapping[str, str]], call: Call) -> str:
        body = {"model": endpoint.model, "messages": list(messages), **call.sampling}
        if call.schema:
            body |= response_format(call.schema, "json_schema")
        reply: Any = await client.post("/chat/completions", cast_to=object, body=body)
        service.counts["requests"] += 1
        return reply["choices"][0]["message"]["content"]

    async def one(call: Call, file: Any) -> Answer:
        key = digest_of([endpoint.model, list(call.messages), dict(call.sampling), call.schema, call.draw])
        service.counts["calls"] += 1
        if key in known:
            service.counts["cached"] += 1
            return Answer(key, known[key]["text"], *_read(known[key]["text"], call), endpoint.model, True)
        async with gate:
            text = await once(call.messages, call)
            value, reason = _read(text, call)
            if reason:
                text = await once(correction(call.messages, text, reason), call)
                value, reason = _read(text, call)
        file.write(json.dumps({key: {"text": text}}) + "\n")
        file.flush()
        return Answer(key, text, value, reason, endpoint.model, False)

    with path.open("a", encoding="utf-8") as file:
        answers = await asyncio.gather(*(one(call, file) for call in calls))
    await client.close()
    return list(answers)


def _read(text: str, call: Call) -> tuple[Any, str]:
    return read_answer(text, call.schema) if call.schema else (None, "" if text.strip() else "the reply is empty")

"""Sends what augmentation steps ask through jobs/llm.py, few calls in this process and many through Ray Data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from jobs.llm import Answer, Call, Service, answer_all, answer_rows
from understudy.augmentation.job import Job

ASKED_HERE = 256
"""So many calls are made without starting Ray."""
AT_ONCE = 20_000
"""Calls of which this process holds the prompts."""


@dataclass(frozen=True, slots=True)
class Question:
    """A job of a task."""

    task: int
    """Position of the task."""
    order: tuple[int, int, int]
    job: Job


def answered(service: Callable[[], Service], questions: Iterable[Question]) -> Iterator[tuple[Question, Answer]]:
    """Each question with its answer, in any order; jobs/llm.py keeps every answer before it comes out here.

    `service` is asked for when there is a question: steps that make no call need no endpoint.
    """
    left = iter(questions)
    while batch := list(islice(left, AT_ONCE)):
        if len(batch) <= ASKED_HERE:
            yield from zip(batch, answer_all(service(), [call_of(one.job) for one in batch]), strict=True)
        else:
            yield from _streamed(service(), batch)


def call_of(job: Job) -> Call:
    """What is sent for a job."""
    return Call(tuple(job.messages), job.schema, dict(job.sampling), job.draw)


def _streamed(service: Service, batch: list[Question]) -> Iterator[tuple[Question, Answer]]:
    import ray.data

    from cluster import runtime

    runtime.start()
    runtime.quiet_data()
    rows: list[dict[str, Any]] = [
        {"row": str(number), "call": json.dumps(asdict(call_of(one.job)), ensure_ascii=False)}
        for number, one in enumerate(batch)
    ]
    for row in answer_rows(service, ray.data.from_items(rows)).iter_rows():
        yield batch[int(row["row"])], Answer(**json.loads(row["answer"]))

"""Sends what augmentation steps ask through jobs/llm.py, few calls in this process and many through Ray Data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from jobs.llm import IN_PROCESS_CALLS, Answer, Call, Service, answer_all
from understudy.augmentation.job import Job

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
        if len(batch) <= IN_PROCESS_CALLS:
            yield from zip(batch, answer_all(service(), [call_of(one.job) for one in batch]), strict=True)
        else:
            from jobs.answer_rows import answer_stream

            for position, answer in answer_stream(service(), (call_of(one.job) for one in batch)):
                yield batch[position], answer


def call_of(job: Job) -> Call:
    """What is sent for a job."""
    return Call(tuple(job.messages), job.schema, dict(job.sampling), job.draw)

"""One unit of the augment stage at work: its jobs, what came of them, and the files it leaves."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

from jobs.llm import Answer
from jobs.stage import Unit, write_tables
from understudy.augmentation import judging
from understudy.augmentation.checks import JUDGE, REPEATED, refusal, repeats
from understudy.augmentation.job import Draft, Job, Material, Note
from understudy.augmentation.kinds import Kind
from understudy.augmentation.steps import AnyStep
from understudy.conversation import Conversation
from understudy.dataset import conversations_table
from understudy.record import Record
from understudy.store import Store, json_bytes

UNREADABLE = "unreadable answer"
Order = tuple[int, int, int]
"""Round, job within the round, draft within the answer: the order of a unit's rows, however its answers come."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A draft that passed the checks so far."""

    draft: Draft
    job: Job
    conversation: Conversation
    raw: str


@dataclass
class Task:
    """One unit at work."""

    unit: Unit
    step: AnyStep
    kind: Kind
    material: Material
    notes: dict[Order, Note] = field(default_factory=dict)
    accepted: dict[Order, Accepted] = field(default_factory=dict)
    aside: dict[Order, dict[str, Any]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    new_calls: Counter[str] = field(default_factory=Counter)
    """By endpoint, those that were not answered before."""
    old_calls: Counter[str] = field(default_factory=Counter)
    """By endpoint, those that were."""
    unanswered: int = 0
    """Calls that brought no text at all."""
    no_answer: str = ""
    """The first reason of an answer that could not be used."""
    started: float = field(default_factory=time.time)

    @property
    def unheard(self) -> bool:
        """Whether it asked, and no model said a word."""
        return bool(self.calls["calls"]) and self.unanswered == self.calls["calls"]

    @cached_property
    def rounds(self) -> int:
        """How often the kind plans."""
        return self.kind.rounds(self.step, self.material)

    def jobs(self, number: int) -> Iterator[tuple[Order, Job]]:
        """The jobs of a round; those before it are answered."""
        material = replace(self.material, round=number)
        for position, job in enumerate(self.kind.plan(self.step, material, self.kept_notes())):
            yield (number, position, 0), job

    def kept_notes(self) -> list[Note]:
        """The notes, in the order of their jobs."""
        return [self.notes[order] for order in sorted(self.notes)]

    def take(self, order: Order, job: Job, answer: Answer) -> None:
        """Read an answer; each of its drafts is accepted for now, or set aside."""
        self._count("calls", self.step.endpoint or "", answer)
        if answer.reason:
            self.unanswered += not answer.text
            self.no_answer = self.no_answer or answer.reason
            self._set_aside(order, job, answer.reason, answer.text)
            return
        try:
            found = self.kind.read(self.step, job, answer.value if job.schema else answer.text)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            found = UNREADABLE  # the schema held and still something is odd: a row like any other bad one
        if isinstance(found, str):
            self._set_aside(order, job, found, answer.text)
            return
        instructions = str(job.messages[0]["content"]) if job.messages else ""
        for position, one in enumerate(found):
            place = (order[0], order[1], position)
            if isinstance(one, Note):
                self.notes[place] = one
            elif reason := refusal(one, self.step.checks, self.material.language, instructions):
                self._set_aside(place, job, reason, answer.text, one)
            else:
                made = one.conversation(job, self.step.kind, self.step.name, answer.model)
                self.accepted[place] = Accepted(one, job, made, answer.text)

    def settle(self) -> None:
        """Set replies aside that came before, now that all are here and in order."""
        again = repeats()
        for order in sorted(self.accepted) if self.step.checks.repeated else ():
            one = self.accepted[order]
            if again(one.draft):
                self._refuse(order, REPEATED)

    def verdicts(self) -> Iterator[tuple[Order, Job]]:
        """What the judge is asked about each accepted row."""
        for order in sorted(self.accepted):
            one = self.accepted[order]
            messages = judging.verdict_messages(
                self.material.persona, one.draft.messages, one.draft.criterion, self.material.language
            )
            asked = Job(one.job.job_id, one.job.persona, messages, judging.SCHEMA, {"temperature": 0})
            yield order, replace(asked, prompt=f"judge/{judging.PROMPT_VERSION}")

    def judge(self, order: Order, answer: Answer) -> None:
        """Keep or set aside an accepted row by its verdict; without a verdict it is not accepted."""
        self._count("judged", self.step.judge or "", answer)
        score, why = judging.read_verdict(answer.value)
        if answer.reason or score < self.step.judge_least:
            self._refuse(order, JUDGE, f"{score}: {why}" if score else answer.reason or why)

    def finish(self, store: Store, ledger: dict[str, Any]) -> Record:
        """Write the unit's files and its record."""
        import pyarrow as pa

        made = conversations_table(self.accepted[order].conversation for order in sorted(self.accepted))
        aside = pa.Table.from_pylist([self.aside[order] for order in sorted(self.aside)], schema=_aside_schema())
        outputs = write_tables(store, self.unit.key, {"conversations": made, "set_aside": aside})
        for name, value in self._files().items():
            data = value if isinstance(value, bytes) else json_bytes(value)
            store.put(f"{self.unit.key}/{name}", data)
            outputs[name] = hashlib.sha256(data).hexdigest()
        reasons = Counter(row["reason"] for row in self.aside.values())
        counts = {
            "kind": self.step.kind,
            "calls": self.calls["calls"],
            "cached": self.calls["cached"],
            "judged": self.calls["judged"],
            "accepted": len(self.accepted),
            "set_aside": len(self.aside),
            "unanswered": self.calls["unanswered"],
            "reasons": dict(reasons.most_common()),
            "ledger": ledger,
        }
        return self.unit.finish(store, outputs, counts, self.started)

    def _files(self) -> dict[str, Any]:
        """What the kind leaves besides conversations; a suitability table also as a picture."""
        files = self.kind.finish(self.step, self.material, self.kept_notes())
        if "suitability.json" in files:
            from jobs.suitability_picture import png

            files["suitability.png"] = png(files["suitability.json"])
        return files

    def _count(self, what: str, endpoint: str, answer: Answer) -> None:
        self.calls[what] += 1
        self.calls["unanswered"] += not answer.lasting
        self.calls["cached" if what == "calls" else "judged_cached"] += answer.cached
        (self.old_calls if answer.cached else self.new_calls)[endpoint] += 1

    def _refuse(self, order: Order, reason: str, detail: str = "") -> None:
        one = self.accepted.pop(order)
        self._set_aside(order, one.job, reason, one.raw, one.draft, detail)

    def _set_aside(
        self, order: Order, job: Job, reason: str, raw: str, draft: Draft | None = None, detail: str = ""
    ) -> None:
        said = [{"role": message.role, "content": message.content} for message in draft.messages] if draft else []
        self.aside[order] = {
            "persona": job.persona,
            "step": self.step.name,
            "kind": self.step.kind,
            "job_id": job.job_id,
            "reason": reason,
            "detail": detail,
            "raw": raw,
            "messages": said,
            "prompt": job.prompt,
            "seed": job.seed,
        }


@cache
def _aside_schema() -> Any:
    import pyarrow as pa

    texts = ("persona", "step", "kind", "job_id", "reason", "detail", "raw")
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    fields = [(name, pa.string()) for name in texts]
    fields += [("messages", pa.list_(message)), ("prompt", pa.string()), ("seed", pa.int64())]
    return pa.schema(fields, metadata={"schema_version": "1"})

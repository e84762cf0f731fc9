"""The slot host: trains one group of slots from a plan in the store, snapshots each, and finishes each by itself.

    runs/<recipe>/train/<fingerprint>/plan.json                 the group that this slot trains in, while it trains
    runs/<recipe>/train/<fingerprint>/snapshot-<step>.safetensors   the last two, while it trains

A slot's last bits depend on the shape of the batches that it shares. So the group is planned once and kept: after a
kill the same members go on from the same step, those that were done keep their place without rows, and every adapter
comes out with the bytes of an undisturbed run on the same machine with as many threads.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs.base_model import load_model, load_tokenizer, portable_name
from jobs.lora_stack import adapted_layers
from jobs.peft_folder import peft_files
from jobs.slot_config import SlotState, trained_tokens
from jobs.slot_plan import Member, SlotPlan, snapshots
from jobs.slots import Slots
from understudy.base import Base
from understudy.dataset import read_conversations
from understudy.errors import InputError, StoreError, UnderstudyError
from understudy.recipe import ModelConfig
from understudy.rendering import Renderer, Sample, with_system
from understudy.store import Store, json_bytes

SNAPSHOTS_KEPT = 2
PROBE_TOKENS = 48


@dataclass
class _Data:
    """What a slot learns from and is asked."""

    samples: list[Sample]
    counts: dict[str, int]
    probes: list[list[int]]


class GroupRun:
    """One group over one loaded base, from wherever its snapshots are to the last record."""

    def __init__(
        self, store: Store, base: Base, model: Any, renderer: Renderer, members: Sequence[Member], snapshot_s: float
    ) -> None:
        self.store, self.base, self.snapshot_s = store, base, snapshot_s
        # A group that is begun again after a crash may hold members that were finished before it.
        self.members = [replace(m, plan=None) if m.plan and m.plan.unit.record(store) else m for m in members]
        self.renderer = renderer
        self.tokenizer: Any = renderer.tokenizer
        self.longest = int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)
        self.data = [self._read(member.plan) for member in self.members]
        self.slots = Slots(model, [m.config for m in members], [d.samples for d in self.data])
        self.started = time.time()
        self.waiting = {k for k, member in enumerate(self.members) if member.plan}
        self._resume()

    def run(self, report: Callable[[list[SlotState]], None]) -> None:
        """Train until every member has its record; `report` sees the states after each step."""
        self._ask_due()
        self._finish_done()
        last = time.monotonic()
        while not self.slots.done:
            self.slots.step()
            self._ask_due()
            # A slot's end is a snapshot of all: the others go on from there without needing its rows again.
            if self._done() or time.monotonic() - last >= self.snapshot_s:
                self._snapshot()
                last = time.monotonic()
            self._finish_done()
            report(self.slots.states)
        self.slots.close()

    def _done(self) -> list[int]:
        return [k for k in sorted(self.waiting) if self.slots.states[k].done]

    def _finish_done(self) -> None:
        for k in self._done():
            self._finish(k)

    def _read(self, plan: SlotPlan | None) -> _Data:
        if plan is None:
            return _Data([], {}, [])
        longest = min(plan.max_length, self.longest)
        table = self.store.read_table(plan.conversations)
        samples: list[Sample] = []
        asked = shortened = 0
        for conversation in read_conversations(table, self.store.uri_of(plan.conversations)):
            if conversation.split == "train":
                messages = with_system(conversation.messages, plan.system)
                whole = self.renderer.samples(messages)
                fitting = self.renderer.samples(messages, longest)
                shortened += sum(len(sample.input_ids) > longest for sample in whole)
                asked += sum(len(sample.turns) for sample in whole)
                samples += [sample for sample in fitting if trained_tokens(sample)]
        if not samples:
            raise InputError(
                f"{plan.unit.name}: no answer fits into {longest} tokens; raise train.max_length, or shorten the card"
            )
        counts = {
            "samples": len(samples),
            "trained_tokens": sum(map(trained_tokens, samples)),
            "shortened_samples": shortened,
            "left_out_answers": asked - sum(len(sample.turns) for sample in samples),
        }
        questions = [with_system([{"role": "user", "content": probe}], plan.system) for probe in plan.probes]
        return _Data(samples, counts, [self.renderer.prompt_ids(question) for question in questions])

    # Snapshots

    def _resume(self) -> None:
        """Go back to the newest step of which every unfinished member has a snapshot; 0 when there is none."""
        kept = {k: snapshots(self.store, self._key(k)) for k in self.waiting}
        step = max(set.intersection(*(set(steps) for steps in kept.values())), default=0) if kept else 0
        if step:
            for k, steps in kept.items():
                self.slots.restore(k, self.store.get(steps[step]))

    def _snapshot(self) -> None:
        for k in sorted(self.waiting):
            step = self.slots.states[k].step
            self.store.put(f"{self._key(k)}/snapshot-{step:08d}.safetensors", self.slots.snapshot(k))
        # Only when all members have the new step may the oldest go: a kill in between must leave one in common.
        for k in sorted(self.waiting):
            kept = snapshots(self.store, self._key(k))
            for step in sorted(kept)[:-SNAPSHOTS_KEPT]:
                self.store.delete(kept[step])

    def _key(self, k: int) -> str:
        plan = self.members[k].plan
        if plan is None:
            raise StoreError(f"{self.members[k].fingerprint}: is finished and has no snapshots")
        return plan.unit.key

    # Probes

    def _ask_due(self) -> None:
        """Let every slot that has probes and is before, halfway through or after its training answer them."""
        for k in sorted(self.waiting):
            state, probes = self.slots.states[k], self.data[k].probes
            moments = (("before", 0), ("halfway", state.total // 2), ("after", state.total))
            due = [moment for moment, step in moments if step == state.step and moment not in state.notes]
            if probes and due:
                plan = self.members[k].plan
                penalty = plan.repetition_penalty if plan else 1.0
                ends = stop_tokens(self.renderer, self.slots.model)
                spoken = self.slots.generate(k, probes, PROBE_TOKENS, ends, repetition_penalty=penalty)
                answers = [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in spoken]
                state.notes.update({moment: {"step": state.step, "answers": answers} for moment in due})

    # Finishing

    def _finish(self, k: int) -> None:
        """Write slot k's adapter, metrics and samples, then its record; then its plan and snapshots may go."""
        plan, state = self.members[k].plan, self.slots.states[k]
        if plan is None:
            return
        if not state.updates:
            raise UnderstudyError(f"{plan.unit.name}: no training step was finite; lower train.learning_rate")
        files = peft_files(self.slots.weights(k), portable_name(self.base), adapted_layers(self.slots.model, "auto"))
        files["metrics.json"] = json_bytes(_metrics(state))
        files["samples.json"] = json_bytes(_answers(plan, state))
        for name, data in files.items():
            self.store.put(f"{plan.unit.key}/{name}", data)
        outputs = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        tail = [loss for loss in state.losses[-max(1, state.total // 10) :] if math.isfinite(loss)]
        counts = {
            **self.data[k].counts,
            "steps": state.total,
            "skipped_steps": state.total - state.updates,
            "first_loss": _number(state.losses[0]),
            "last_loss": _number(sum(tail) / len(tail)) if tail else None,
            "slots": len(self.members),
        }
        plan.unit.finish(self.store, outputs, counts, self.started)
        self.waiting.discard(k)
        for key in (*snapshots(self.store, plan.unit.key).values(), f"{plan.unit.key}/plan.json"):
            self.store.delete(key)


def stop_tokens(renderer: Renderer, model: Any) -> list[int]:
    """What ends a turn: the last token that a turn's rendering learns, and what the base itself calls an end."""
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "loss": True}]
    ends = {renderer.samples(turn)[0].input_ids[-1]}
    own = model.generation_config.eos_token_id
    ends.update(own if isinstance(own, list) else [] if own is None else [own])
    return sorted(ends)


def _metrics(state: SlotState) -> dict[str, Any]:
    """Loss, gradient norm and learning rate by step; null where a step was not finite."""
    return {
        "loss": [_number(value) for value in state.losses],
        "grad_norm": [_number(value) for value in state.norms],
        "learning_rate": [state.config.rate(step, state.total) for step in range(state.total)],
        "skipped_steps": state.total - state.updates,
    }


def _answers(plan: SlotPlan, state: SlotState) -> list[dict[str, Any]]:
    """The probes with their answers before, halfway through and after training."""
    found = []
    for number, probe in enumerate(plan.probes):
        said = {moment: note["answers"][number] for moment, note in state.notes.items()}
        found.append({"question": probe, **said})
    return found


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


class SlotHost:
    """What a Ray actor runs: one loaded base that trains group after group. Restarted, it goes on from snapshots."""

    def __init__(self, store: Store, base: Base, model: ModelConfig, threads: int, device: str) -> None:
        self.store, self.base, self.model_config = store, base, model
        self.threads, self.device = threads, device
        self.loaded: tuple[Any, Renderer] | None = None
        self.states: list[dict[str, Any]] = []

    def train(self, members: Sequence[Member], snapshot_s: float) -> None:
        """Train one group to its last record."""
        import torch

        # Set here and not in __init__: the number belongs to the thread that computes.
        torch.set_num_threads(self.threads)
        if self.loaded is None:
            model = load_model(self.base, self.model_config, self.device)
            renderer = Renderer(load_tokenizer(self.base, self.model_config), self.model_config.template_kwargs)
            self.loaded = (model, renderer)
        run = GroupRun(self.store, self.base, *self.loaded, members, snapshot_s)
        run.run(self._report)

    def _report(self, states: list[SlotState]) -> None:
        self.states = [
            {"name": s.config.name, "step": s.step, "total": s.total, "loss": s.losses[-1] if s.losses else None}
            for s in states
            if s.total
        ]

    def progress(self) -> list[dict[str, Any]]:
        """Name, step, total and last loss of each slot in training."""
        return self.states

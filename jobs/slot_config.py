"""One slot, without torch: what its adapter is, how it learns and how far it has come.

Everything random is drawn for a purpose (a layer's first weights, an epoch's order) from a seed of its own, so a slot's
state holds no generator.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.errors import InputError
from understudy.rendering import Sample

SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class SlotConfig:
    """What one adapter is and how it learns; nothing in it depends on the other slots."""

    name: str
    rank: int = 8
    alpha: float = 16.0
    rslora: bool = False
    dropout: float = 0.0
    """Only 0: the masks of PEFT's dropout come from a global generator and cannot be repeated slot by slot."""
    target_modules: str | tuple[str, ...] = "auto"
    """`auto` for every linear layer of attention and MLP, or name endings as PEFT takes them."""
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    schedule: str = "cosine"
    warmup_ratio: float = 0.03
    epochs: float = 3
    steps: int | None = None
    """Optimiser steps; replaces epochs when given."""
    micro_batch_size: int = 4
    gradient_accumulation_steps: int = 1
    seed: int = 0

    @property
    def scaling(self) -> float:
        """The factor on B(A(x))."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def check(self) -> None:
        """Raise InputError, one line, for settings that no slot can train with."""
        if self.dropout:
            raise InputError(f"{self.name}: lora.dropout is {self.dropout}: slots train without dropout; set it to 0")
        if self.schedule not in SCHEDULES:
            raise InputError(f"{self.name}: schedule {self.schedule!r} is none of {', '.join(SCHEDULES)}")
        if self.rank < 1 or self.micro_batch_size < 1 or self.gradient_accumulation_steps < 1:
            raise InputError(f"{self.name}: rank, micro_batch_size and gradient_accumulation_steps must be at least 1")

    def total_steps(self, samples: int) -> int:
        """Optimiser steps over `samples` sequences, none without any; an epoch's last step may hold fewer rows."""
        if not samples:
            return 0
        if self.steps is not None:
            return self.steps
        return math.ceil(self.epochs * self.steps_per_epoch(samples))

    def steps_per_epoch(self, samples: int) -> int:
        """Optimiser steps of one pass over `samples` sequences."""
        return math.ceil(samples / (self.micro_batch_size * self.gradient_accumulation_steps))

    def rate(self, step: int, total: int) -> float:
        """The learning rate of step `step` (from 0) of `total`, by the formulas of transformers' schedules."""
        warmup = math.ceil(total * self.warmup_ratio)
        if step < warmup:
            return self.learning_rate * (step / max(1, warmup))
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "linear":
            return self.learning_rate * max(0.0, (total - step) / max(1, total - warmup))
        progress = (step - warmup) / max(1, total - warmup)
        return self.learning_rate * max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


@dataclass
class SlotState:
    """How far one slot has come."""

    config: SlotConfig
    samples: Sequence[Sample]
    total: int
    step: int = 0
    updates: int = 0
    """Steps that changed the weights: `step` less those skipped for a non-finite gradient."""
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """JSON of the caller that travels with the snapshot (probe answers, for one)."""

    @property
    def done(self) -> bool:
        """Whether the slot has made all its steps."""
        return self.step >= self.total


def trained_tokens(sample: Sample) -> int:
    """How many tokens of a sample are targets; the first has nothing before it and never is."""
    return sum(sample.loss_mask[1:])


def seed_for(*parts: str | int) -> int:
    """A generator seed for a purpose, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1

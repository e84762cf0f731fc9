"""One slot: what its adapter is, how it learns, in which order it sees its data and how far it has come.

Everything random is a function of (seed, layer) or (seed, epoch), so a slot's state holds no generator.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.rendering import Sample

SCHEDULES = ("constant", "linear", "cosine")
ROUTERS = frozenset({"gate", "router", "shared_expert_gate"})
"""Linear layers of mixtures of experts that choose and do not compute."""


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


def initial_a(config: SlotConfig, layer: str, features: int) -> Tensor:
    """The first A of a layer, (rank, in) in fp32 on the CPU: PEFT's distribution, drawn for (seed, layer) alone."""
    generator = torch.Generator().manual_seed(_seed("a", config.seed, layer))
    return nn.init.kaiming_uniform_(torch.empty(config.rank, features), a=math.sqrt(5), generator=generator)


def batch_order(config: SlotConfig, samples: int, step: int) -> list[list[int]]:
    """The sample numbers of optimiser step `step`, one list a micro batch: a function of seed and step alone."""
    epoch, place = divmod(step, config.steps_per_epoch(samples))
    generator = torch.Generator().manual_seed(_seed("order", config.seed, epoch))
    order = torch.randperm(samples, generator=generator).tolist()
    size, rows = config.micro_batch_size, config.micro_batch_size * config.gradient_accumulation_steps
    chosen = order[place * rows : (place + 1) * rows]
    return [chosen[i : i + size] for i in range(0, len(chosen), size)]


def adapted_layers(model: nn.Module, target_modules: str | tuple[str, ...]) -> list[str]:
    """Names of the linear layers that `target_modules` selects, in the model's order; InputError for an unknown one."""
    head = model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
    if target_modules == "auto":
        return [name for name in linear if name.rpartition(".")[2] not in ROUTERS]
    wanted = (target_modules,) if isinstance(target_modules, str) else target_modules
    for target in wanted:
        if not any(_ends(name, target) for name in linear):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise InputError(f"target_modules: no linear layer is named {target!r}; this base has {known}")
    return [name for name in linear if any(_ends(name, target) for target in wanted)]


def trained_tokens(sample: Sample) -> int:
    """How many tokens of a sample are targets; the first has nothing before it and never is."""
    return sum(sample.loss_mask[1:])


def collate(rows: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids (N, T) padded on the right, and of each trained token the row and the place before it, row by row.

    Causal attention keeps padding on the right away from every real token, so no mask is needed.
    """
    ids = torch.zeros(len(rows), max(len(sample.input_ids) for sample in rows), dtype=torch.long)
    numbers: list[int] = []
    places: list[int] = []
    for number, sample in enumerate(rows):
        ids[number, : len(sample.input_ids)] = torch.tensor(sample.input_ids)
        own = [place - 1 for place, learned in enumerate(sample.loss_mask) if learned and place]
        numbers += [number] * len(own)
        places += own
    return ids, torch.tensor(numbers, dtype=torch.long), torch.tensor(places, dtype=torch.long)


@dataclass
class SlotState:
    """How far one slot has come."""

    config: SlotConfig
    samples: tuple[Sample, ...]
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


def _seed(*parts: str | int) -> int:
    """A generator seed for a purpose, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _ends(name: str, target: str) -> bool:
    """PEFT's rule for a list of targets: the whole name, or its last parts."""
    return name == target or name.endswith("." + target)

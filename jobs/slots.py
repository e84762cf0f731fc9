"""Many LoRA adapters trained at once over one frozen base, each what it would have been alone.

One forward pass of the base carries the rows of all slots (jobs/lora_stack.py). Ranks, learning rates, schedules,
lengths and seeds differ freely: losses are normalised by each slot's own trained tokens and summed, and clipping, AdamW
and the skipping of a non-finite step see one slot alone. In float64, K slots equal K runs of PEFT to 1e-9.

Torch only: no Ray, no files, no tokenizer. A snapshot of a slot is its weights, its moments and its step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from jobs.lora_stack import LoraStack
from jobs.slot_config import SlotConfig, SlotState, seed_for, trained_tokens
from understudy.errors import AdapterError
from understudy.rendering import Sample

BETAS = (0.9, 0.999)
EPSILON = 1e-8
SNAPSHOT_VERSION = 1


def batch_order(config: SlotConfig, samples: int, step: int) -> list[list[int]]:
    """The sample numbers of optimiser step `step`, one list a micro batch: a function of seed and step alone."""
    epoch, place = divmod(step, config.steps_per_epoch(samples))
    generator = torch.Generator().manual_seed(seed_for("order", config.seed, epoch))
    order = torch.randperm(samples, generator=generator).tolist()
    size, rows = config.micro_batch_size, config.micro_batch_size * config.gradient_accumulation_steps
    chosen = order[place * rows : (place + 1) * rows]
    return [chosen[i : i + size] for i in range(0, len(chosen), size)]


class Slots(LoraStack):
    """K adapters that learn, step by step together; without `samples` they only score and speak.

    `dtype` is that of weights and moments: fp32 (over any base), float64 for proofs.
    One forward pass carries whole micro batches of at most `max_tokens` tokens with padding (of one slot at least).
    """

    def __init__(
        self,
        model: nn.Module,
        configs: Sequence[SlotConfig],
        samples: Sequence[Sequence[Sample]] | None = None,
        dtype: torch.dtype = torch.float32,
        max_tokens: int = 8192,
    ) -> None:
        super().__init__(model, configs, dtype)
        rows = samples if samples is not None else [()] * len(configs)
        self.max_tokens = max_tokens
        self.states = [
            SlotState(config, tuple(own), config.total_steps(len(own)))
            for config, own in zip(configs, rows, strict=True)
        ]
        kept = self._theta if any(rows) else self._theta[:, :0]
        self._grad, self._mean, self._square = (torch.zeros_like(kept) for _ in range(3))
        learning = self._layers if any(rows) else []
        self._gradients = [view for layer in learning for view in self.views(self._grad, layer)]
        self._leaves = [leaf for layer in self._layers for leaf in (layer.a, layer.b)]

    @property
    def done(self) -> bool:
        """Whether every slot has made all its steps."""
        return all(state.done for state in self.states)

    def step(self) -> None:
        """One optimiser step of every slot that is not done; slots of fewer micro batches sit the later ones out."""
        active = [k for k, state in enumerate(self.states) if not state.done]
        batches: dict[int, list[list[Sample]]] = {}
        for k in active:
            state = self.states[k]
            order = batch_order(state.config, len(state.samples), state.step)
            batches[k] = [[state.samples[i] for i in micro] for micro in order]
        tokens = {k: max(1, sum(trained_tokens(s) for micro in batches[k] for s in micro)) for k in active}
        sums = dict.fromkeys(active, 0.0)
        self._grad.zero_()
        for groups in _forwards(batches, self.max_tokens):
            losses, _ = self.losses(groups)
            parts = losses.split([sum(trained_tokens(s) for s in own) for _, own in groups])
            own_sums = torch.stack([part.sum() for part in parts])
            weights = torch.tensor([1.0 / tokens[k] for k, _ in groups], dtype=own_sums.dtype, device=self.device)
            found = torch.autograd.grad((own_sums * weights).sum(), self._leaves)
            for whole, part in zip(self._gradients, found, strict=True):
                whole.add_(part)
            for (k, _), value in zip(groups, own_sums.tolist(), strict=True):
                sums[k] += value
        norms = self._grad.norm(dim=1).tolist()
        for k in active:
            state = self.states[k]
            loss = sums[k] / tokens[k]
            if math.isfinite(loss) and math.isfinite(norms[k]):
                self._update(k, norms[k])
            state.losses.append(loss)
            state.norms.append(norms[k])
            state.step += 1

    @torch.no_grad()
    def _update(self, k: int, norm: float) -> None:
        """Clip and AdamW for one slot, in the order of operations of torch.optim.AdamW."""
        state = self.states[k]
        state.updates += 1
        config, rate = state.config, state.config.rate(state.step, state.total)
        grad, theta, mean, square = self._grad[k], self._theta[k], self._mean[k], self._square[k]
        if config.max_grad_norm is not None:
            grad.mul_(min(1.0, config.max_grad_norm / (norm + 1e-6)))
        theta.mul_(1.0 - rate * config.weight_decay)
        mean.lerp_(grad, 1.0 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(grad, grad, value=1.0 - BETAS[1])
        first, second = (1.0 - beta**state.updates for beta in BETAS)
        theta.addcdiv_(mean, square.sqrt().div_(math.sqrt(second)).add_(EPSILON), value=-rate / first)

    def reset(self, k: int) -> None:
        """Start slot k anew: fresh A, zero B and moments, step 0."""
        self.initialise(k)
        for matrix in (self._mean, self._square):
            matrix[k].zero_()
        state = self.states[k]
        state.step = state.updates = 0
        state.losses, state.norms, state.notes = [], [], {}

    def snapshot(self, k: int) -> bytes:
        """Slot k as safetensors bytes: weights, moments, step, losses, notes; the same state gives the same bytes."""
        state = self.states[k]
        tensors: dict[str, Tensor] = {}
        for part, matrix in (("weight", self._theta), ("mean", self._mean), ("square", self._square)):
            for name, (a, b) in self.unpacked(matrix, k, matrix.dtype).items():
                tensors[f"{part}:{name}.a"], tensors[f"{part}:{name}.b"] = a, b
        tensors["losses"] = torch.tensor(state.losses, dtype=torch.float64)
        tensors["norms"] = torch.tensor(state.norms, dtype=torch.float64)
        about = {
            "snapshot_version": SNAPSHOT_VERSION,
            "config": asdict(state.config),
            "step": state.step,
            "updates": state.updates,
            "total": state.total,
            "notes": state.notes,
        }
        # One key only: safetensors writes its metadata in the order of a hash map, which differs between processes.
        return save(tensors, {"understudy": json.dumps(about, sort_keys=True)})

    @torch.no_grad()
    def restore(self, k: int, data: bytes) -> None:
        """Continue slot k from a snapshot of the same configuration; AdapterError when it is of another."""
        state = self.states[k]
        try:
            size = int.from_bytes(data[:8], "little")
            about = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["understudy"])
            tensors = load(data)
        except (ValueError, KeyError, SafetensorError) as error:
            raise AdapterError(f"{state.config.name}: this snapshot is damaged ({error})") from error
        expected = json.loads(json.dumps(asdict(state.config)))
        if (
            about["snapshot_version"] != SNAPSHOT_VERSION
            or about["config"] != expected
            or about["total"] != state.total
        ):
            raise AdapterError(f"{state.config.name}: this snapshot belongs to another configuration or data set")
        for part, matrix in (("weight", self._theta), ("mean", self._mean), ("square", self._square)):
            layers = {
                layer.name: (tensors[f"{part}:{layer.name}.a"], tensors[f"{part}:{layer.name}.b"])
                for layer in self._layers
                if layer.targeted[k]
            }
            self.pack(matrix, k, layers)
        state.step, state.updates, state.notes = about["step"], about["updates"], about["notes"]
        state.losses, state.norms = tensors["losses"].tolist(), tensors["norms"].tolist()


def _forwards(
    batches: Mapping[int, Sequence[Sequence[Sample]]], max_tokens: int
) -> Iterator[list[tuple[int, Sequence[Sample]]]]:
    """The micro batches of one step as forward passes: slots of like length together, for less padding."""
    for turn in range(max(len(micros) for micros in batches.values())):
        found = [
            (max(len(s.input_ids) for s in micros[turn]), k) for k, micros in batches.items() if turn < len(micros)
        ]
        together: list[int] = []
        rows = 0
        for length, k in sorted(found):
            if together and (rows + len(batches[k][turn])) * length > max_tokens:
                yield [(slot, batches[slot][turn]) for slot in sorted(together)]
                together, rows = [], 0
            together.append(k)
            rows += len(batches[k][turn])
        yield [(slot, batches[slot][turn]) for slot in sorted(together)]

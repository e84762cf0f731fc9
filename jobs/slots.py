"""Many LoRA adapters trained at once over one frozen base, each what it would have been alone.

The adapters of K slots lie stacked, A as (K, in, R) and B as (K, R, out) for every adapted layer, and one forward pass
of the base carries the rows of all of them. Ranks, learning rates, schedules, lengths and seeds differ freely: a
slot of smaller rank is padded with zeros (which stay zero: they never get a gradient), losses are normalised by
each slot's own trained tokens and summed, and clipping, AdamW and the skipping of a non-finite step see one slot alone.

Torch only: no Ray, no files but PEFT's own (jobs/peft_folder.py), no tokenizer. Everything random is a function of
(seed, layer) or (seed, epoch), so a snapshot needs no generator state: weights, moments and the step say it all.

Legend: K slots, N rows of a batch, T tokens, R rank (padded), P parameters of one slot, M trained tokens, V vocabulary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from transformers import GenerationConfig

from jobs.peft_folder import LoraWeights
from jobs.slot_config import SlotConfig, SlotState, adapted_layers, batch_order, collate, initial_a, trained_tokens
from understudy.errors import AdapterError, InputError
from understudy.rendering import Sample

BETAS = (0.9, 0.999)
EPSILON = 1e-8
SNAPSHOT_VERSION = 1


@dataclass
class _Layer:
    """Where a layer's A and B lie in the (K, P) matrix of all parameters, as leaves that share its memory."""

    name: str
    a: Tensor
    b: Tensor
    offset: int
    targeted: tuple[bool, ...]


@dataclass(frozen=True)
class _Route:
    """Which rows of a batch belong to which slots: `counts[i]` consecutive rows for slot `slots[i]`."""

    slots: tuple[int, ...]
    counts: tuple[int, ...]
    index: Tensor | None
    """Slot numbers as a tensor; None when every slot has rows and the stacks can be used whole."""
    places: Tensor | None
    """Where each row goes when the slots' row counts are padded to the largest; None when they are equal."""


class Slots:
    """K adapters over one frozen base, trained in step; hooks on the base's layers until `close()`.

    `dtype` is that of weights and moments: fp32 (over any base), float64 for proofs. The layers compute in the base's.
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
        for config in configs:
            config.check()
        rows = samples if samples is not None else [()] * len(configs)
        self.max_tokens = max_tokens
        self.model = model.requires_grad_(False).eval()
        self.states = [
            SlotState(config, tuple(own), config.total_steps(len(own)))
            for config, own in zip(configs, rows, strict=True)
        ]
        self.device = next(model.parameters()).device
        self.rank = max(config.rank for config in configs)
        self._route: _Route | None = None
        self._picked: tuple[Tensor, Tensor] | None = None
        self._lay_out(dtype)
        self._scaling = torch.tensor([c.scaling for c in configs], dtype=dtype, device=self.device).view(-1, 1, 1)
        modules = dict(model.named_modules())
        self._hooks = [
            modules[layer.name].register_forward_hook(self._adding(layer.a, layer.b)) for layer in self._layers
        ]
        head: nn.Module = model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
        self._hooks.append(head.register_forward_pre_hook(self._pick))
        for k in range(len(self.states)):
            self.reset(k)

    def _lay_out(self, dtype: torch.dtype) -> None:
        """Allocate parameters, gradients and moments as (K, P) and lay each layer's A and B into them."""
        k = len(self.states)
        targets = [set(adapted_layers(self.model, state.config.target_modules)) for state in self.states]
        chosen = [
            (name, module)
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and any(name in own for own in targets)
        ]
        width = sum(self.rank * (module.in_features + module.out_features) for _, module in chosen)
        shape = (k, width)
        self._theta = torch.zeros(shape, dtype=dtype, device=self.device)
        self._grad, self._mean, self._square = (torch.zeros_like(self._theta) for _ in range(3))
        self._layers: list[_Layer] = []
        self._gradients: list[Tensor] = []
        offset = 0
        for name, module in chosen:
            middle = offset + module.in_features * self.rank
            end = middle + module.out_features * self.rank
            leaves = []
            for start, stop, form in (
                (offset, middle, (k, module.in_features, self.rank)),
                (middle, end, (k, self.rank, module.out_features)),
            ):
                leaf = self._theta[:, start:stop].view(form).detach().requires_grad_()
                leaves.append(leaf)
                self._gradients.append(self._grad[:, start:stop].view(form))
            targeted = tuple(name in own for own in targets)
            self._layers.append(_Layer(name, leaves[0], leaves[1], offset, targeted))
            offset = end

    @classmethod
    def of_adapters(cls, model: nn.Module, adapters: Sequence[LoraWeights]) -> Slots:
        """Trained adapters side by side over one base, to `score` and `generate` with; slot k is `adapters[k]`."""
        configs = [
            SlotConfig(f"adapter-{k}", w.rank, w.alpha, w.rslora, target_modules=tuple(sorted(w.layers)))
            for k, w in enumerate(adapters)
        ]
        slots = cls(model, configs)
        for k, weights in enumerate(adapters):
            slots.load(k, weights)
        return slots

    def close(self) -> None:
        """Take the hooks off; the base is as it was."""
        for hook in self._hooks:
            hook.remove()

    # Forward

    def _adding(self, a: Tensor, b: Tensor) -> Callable[..., Tensor | None]:
        def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            route = self._route
            if route is None:
                return None
            x = args[0]
            if x.dim() != 3 or x.shape[0] != sum(route.counts):
                raise InputError("this base regroups the rows of a batch inside a layer: name other target_modules")
            scaling = self._scaling
            stack_a, stack_b = a, b
            if route.index is not None:
                stack_a, stack_b, scaling = (t.index_select(0, route.index) for t in (a, b, scaling))
            stack_a, stack_b, scaling = (t.to(x.dtype) for t in (stack_a, stack_b, scaling))
            groups = len(route.slots)
            if route.places is None:
                middle = torch.bmm(x.reshape(groups, -1, x.shape[2]), stack_a) * scaling
                return torch.baddbmm(output.reshape(groups, -1, output.shape[2]), middle, stack_b).view_as(output)
            padded = x.new_zeros(groups * max(route.counts), *x.shape[1:]).index_copy(0, route.places, x)
            middle = torch.bmm(padded.view(groups, -1, x.shape[2]), stack_a) * scaling
            delta = torch.bmm(middle, stack_b).view(padded.shape[0], x.shape[1], -1)
            return output + delta.index_select(0, route.places)

        return add

    def _pick(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Let the head compute logits for the positions that predict a trained token only: (N, T, D) to (1, M, D)."""
        if self._picked is None:
            return None
        return (args[0][self._picked[0], self._picked[1]].unsqueeze(0), *args[1:])

    def _routed(self, slots: Sequence[int], counts: Sequence[int]) -> _Route:
        most = max(counts)
        even = all(count == most for count in counts)
        places = [group * most + row for group, count in enumerate(counts) for row in range(count)]
        whole = len(slots) == len(self.states) and list(slots) == list(range(len(slots)))
        return _Route(
            tuple(slots),
            tuple(counts),
            None if whole else torch.tensor(slots, device=self.device),
            None if even else torch.tensor(places, device=self.device),
        )

    def _losses(self, groups: Sequence[tuple[int | None, Sequence[Sample]]]) -> tuple[Tensor, list[int]]:
        """Negative log-likelihood of every trained token, row by row, and how many tokens each row trains.

        `groups` are rows by slot; slot None (alone) is the base.
        """
        rows = [sample for _, own in groups for sample in own]
        ids, row_index, place_index = (tensor.to(self.device) for tensor in collate(rows))
        if groups[0][0] is not None:
            self._route = self._routed([k for k, _ in groups if k is not None], [len(own) for _, own in groups])
        self._picked = (row_index, place_index)
        try:
            logits = self.model(input_ids=ids, use_cache=False).logits[0]
        finally:
            self._route = self._picked = None
        precise = logits if logits.dtype == torch.float64 else logits.float()
        losses = nn.functional.cross_entropy(precise, ids[row_index, place_index + 1], reduction="none")
        return losses, [trained_tokens(sample) for sample in rows]

    # Training

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
        leaves = [leaf for layer in self._layers for leaf in (layer.a, layer.b)]
        self._grad.zero_()
        for groups in _forwards(batches, self.max_tokens):
            losses, _ = self._losses(groups)
            parts = losses.split([sum(trained_tokens(s) for s in own) for _, own in groups])
            own_sums = torch.stack([part.sum() for part in parts])
            weights = torch.tensor([1.0 / tokens[k] for k, _ in groups], dtype=own_sums.dtype, device=self.device)
            found = torch.autograd.grad((own_sums * weights).sum(), leaves)
            torch._foreach_add_(self._gradients, list(found))
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

    @torch.no_grad()
    def reset(self, k: int) -> None:
        """Start slot k anew: fresh A, zero B and moments, step 0 (with A and B both zero it would never learn)."""
        state = self.states[k]
        for matrix in (self._theta, self._mean, self._square):
            matrix[k].zero_()
        for layer in self._layers:
            if layer.targeted[k]:
                first = initial_a(state.config, layer.name, layer.a.shape[1])
                layer.a[k, :, : state.config.rank] = first.T.to(layer.a)
        state.step = state.updates = 0
        state.losses, state.norms, state.notes = [], [], {}

    # In and out

    def exact_layers(self, k: int) -> dict[str, tuple[Tensor, Tensor]]:
        """{layer: (A (rank, in), B (out, rank))} of slot k, copies in the dtype of training."""
        return self._unpacked(self._theta, k, self._theta.dtype)

    def weights(self, k: int) -> LoraWeights:
        """The adapter of slot k as PEFT shapes it, trimmed to its rank, fp32 copies on the CPU."""
        return LoraWeights.of(self.states[k].config, self._unpacked(self._theta, k, torch.float32))

    @torch.no_grad()
    def load(self, k: int, weights: LoraWeights) -> None:
        """Put a trained adapter into slot k (to score or to speak); its rank and layers must be those of the slot."""
        config = self.states[k].config
        if (weights.rank, weights.scaling) != (config.rank, config.scaling):
            raise AdapterError(f"{config.name}: adapter of rank {weights.rank} in a slot of rank {config.rank}")
        self._packed(self._theta, k, weights.layers)

    def snapshot(self, k: int) -> bytes:
        """Slot k as safetensors bytes: weights, moments, step, losses, notes; the same state gives the same bytes."""
        state = self.states[k]
        tensors: dict[str, Tensor] = {}
        for part, matrix in (("weight", self._theta), ("mean", self._mean), ("square", self._square)):
            for name, (a, b) in self._unpacked(matrix, k, matrix.dtype).items():
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
            self._packed(matrix, k, layers)
        state.step, state.updates, state.notes = about["step"], about["updates"], about["notes"]
        state.losses, state.norms = tensors["losses"].tolist(), tensors["norms"].tolist()

    def _unpacked(self, matrix: Tensor, k: int, dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
        """Slot k's part of a (K, P) matrix as {layer: (A (rank, in), B (out, rank))}."""
        rank = self.states[k].config.rank
        out: dict[str, tuple[Tensor, Tensor]] = {}
        for layer in self._layers:
            if layer.targeted[k]:
                a, b = self._views(matrix, k, layer)
                pair = [t.T.to("cpu", dtype, copy=True).contiguous() for t in (a[:, :rank], b[:rank])]
                out[layer.name] = (pair[0], pair[1])
        return out

    def _packed(self, matrix: Tensor, k: int, layers: dict[str, tuple[Tensor, Tensor]]) -> None:
        """The reverse of `_unpacked`, with zeros above the slot's rank."""
        rank = self.states[k].config.rank
        expected = {layer.name for layer in self._layers if layer.targeted[k]}
        if set(layers) != expected:
            odd = min(set(layers) ^ expected)
            raise AdapterError(f"{self.states[k].config.name}: adapter and slot disagree about the layer {odd}")
        matrix[k].zero_()
        for layer in self._layers:
            if layer.targeted[k]:
                a, b = self._views(matrix, k, layer)
                for place, tensor in ((a[:, :rank], layers[layer.name][0]), (b[:rank], layers[layer.name][1])):
                    if place.shape != tensor.T.shape:
                        raise AdapterError(f"{self.states[k].config.name}: {layer.name} has another shape in this base")
                    place.copy_(tensor.T)

    def _views(self, matrix: Tensor, k: int, layer: _Layer) -> tuple[Tensor, Tensor]:
        middle = layer.offset + layer.a[k].numel()
        end = middle + layer.b[k].numel()
        return matrix[k, layer.offset : middle].view(layer.a[k].shape), matrix[k, middle:end].view(layer.b[k].shape)

    # Reading and speaking

    @torch.no_grad()
    def score(self, rows: Sequence[tuple[int | None, Sample]], batch_rows: int = 16) -> list[tuple[float, int]]:
        """For each row its summed negative log-likelihood under its slot (None: the bare base) and its trained tokens.

        Rows of one slot go through in batches of `batch_rows`, shortest first; the result has the order of `rows`.
        """
        scores: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
        for k in dict.fromkeys(slot for slot, _ in rows):
            own = sorted((i for i, (slot, _) in enumerate(rows) if slot == k), key=lambda i: len(rows[i][1].input_ids))
            for start in range(0, len(own), batch_rows):
                chosen = own[start : start + batch_rows]
                losses, counts = self._losses([(k, [rows[i][1] for i in chosen])])
                for i, part in zip(chosen, losses.double().split(counts), strict=True):
                    scores[i] = (float(part.sum()), part.numel())
        return scores

    @torch.no_grad()
    def generate(
        self, k: int | None, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop: Sequence[int], pad: int = 0
    ) -> list[list[int]]:
        """Greedy replies of slot k (None: the bare base) to prompts of token ids, without prompt and stop token."""
        length = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[pad] * (length - len(p)) + list(p) for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=list(stop), pad_token_id=pad, use_cache=True
        )
        if k is not None:
            self._route = self._routed([k], [len(prompts)])
        try:
            spoken = self.model.generate(  # pyright: ignore[reportCallIssue]
                input_ids=ids, attention_mask=mask, generation_config=settings
            )
        finally:
            self._route = None
        replies: list[list[int]] = []
        for row in spoken[:, length:].tolist():
            ends = [i for i, token in enumerate(row) if token in stop]
            replies.append(row[: ends[0]] if ends else row)
        return replies


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

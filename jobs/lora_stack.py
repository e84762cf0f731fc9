"""LoRA adapters stacked over one frozen base: their weights, the forward pass that carries rows of all, their files.

For every adapted layer A is (K, in, R) and B (K, R, out), laid into one (K, P) matrix so that what concerns one slot
(a norm, an update, a snapshot) is a row. A slot of smaller rank is padded with zeros, which never get a gradient.

Legend: K slots, N rows of a batch, T tokens, D hidden, R rank (padded), P parameters of one slot, M trained tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from jobs.peft_folder import LoraWeights
from jobs.slot_config import SlotConfig, seed_for, trained_tokens
from understudy.errors import AdapterError, InputError
from understudy.rendering import Sample

ROUTERS = frozenset({"gate", "router", "shared_expert_gate"})
"""Linear layers of mixtures of experts that choose and do not compute."""


def initial_a(config: SlotConfig, layer: str, features: int) -> Tensor:
    """The first A of a layer, (rank, in) in fp32 on the CPU: PEFT's distribution, drawn for (seed, layer) alone."""
    generator = torch.Generator().manual_seed(seed_for("a", config.seed, layer))
    return nn.init.kaiming_uniform_(torch.empty(config.rank, features), a=math.sqrt(5), generator=generator)


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
class Layer:
    """Where a layer's A and B lie in the (K, P) matrix of all parameters, as leaves that share its memory."""

    name: str
    features: tuple[int, int]
    """Of its input and its output."""
    offset: int
    targeted: tuple[bool, ...]
    """By slot: whether its adapter has this layer."""
    a: Tensor = field(init=False)
    b: Tensor = field(init=False)


@dataclass(frozen=True)
class Route:
    """Which rows of a batch belong to which slots: `counts[i]` consecutive rows for slot `slots[i]`."""

    slots: tuple[int, ...]
    counts: tuple[int, ...]
    index: Tensor | None
    """Slot numbers as a tensor; None when every slot has rows and the stacks can be used whole."""
    places: Tensor | None
    """Where each row goes when the slots' row counts are padded to the largest; None when they are equal."""


class LoraStack:
    """K adapters over one frozen base, to train, to score and to speak with; hooks on the base until `close()`.

    `dtype` is that of the weights: fp32 over any base, float64 for proofs. The layers compute in the base's.
    """

    def __init__(self, model: nn.Module, configs: Sequence[SlotConfig], dtype: torch.dtype = torch.float32) -> None:
        for config in configs:
            config.check()
        self.model = model.requires_grad_(False).eval()
        self.configs = tuple(configs)
        self.device = next(model.parameters()).device
        self.rank = max(config.rank for config in configs)
        self._route: Route | None = None
        self._picked: tuple[Tensor, Tensor] | None = None
        self._lay_out(dtype)
        self._scaling = torch.tensor([c.scaling for c in configs], dtype=dtype, device=self.device).view(-1, 1, 1)
        modules = dict(model.named_modules())
        self._hooks = [
            modules[layer.name].register_forward_hook(self._adding(layer.a, layer.b)) for layer in self._layers
        ]
        head: nn.Module = model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
        self._hooks.append(head.register_forward_pre_hook(self._pick))
        for k in range(len(self.configs)):
            self.initialise(k)

    def _lay_out(self, dtype: torch.dtype) -> None:
        """Allocate all parameters as one (K, P) matrix and lay each layer's A and B into it."""
        k = len(self.configs)
        targets = [set(adapted_layers(self.model, config.target_modules)) for config in self.configs]
        chosen = [
            (name, module)
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and any(name in own for own in targets)
        ]
        width = sum(self.rank * (module.in_features + module.out_features) for _, module in chosen)
        shape = (k, width)
        self._theta = torch.zeros(shape, dtype=dtype, device=self.device)
        self._layers: list[Layer] = []
        offset = 0
        for name, module in chosen:
            targeted = tuple(name in own for own in targets)
            layer = Layer(name, (module.in_features, module.out_features), offset, targeted)
            layer.a, layer.b = (view.detach().requires_grad_() for view in self.views(self._theta, layer))
            self._layers.append(layer)
            offset += self.rank * sum(layer.features)

    def close(self) -> None:
        """Take the hooks off; the base is as it was."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def initialise(self, k: int) -> None:
        """Give slot k a fresh A and zero B (with both zero it would never learn)."""
        self._theta[k].zero_()
        for layer in self._layers:
            if layer.targeted[k]:
                first = initial_a(self.configs[k], layer.name, layer.features[0])
                layer.a[k, :, : self.configs[k].rank] = first.T.to(layer.a)

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

    def routed(self, slots: Sequence[int], counts: Sequence[int]) -> Route:
        """The route of a batch that holds `counts[i]` rows of slot `slots[i]`, one slot after the other."""
        most = max(counts)
        even = all(count == most for count in counts)
        places = [group * most + row for group, count in enumerate(counts) for row in range(count)]
        whole = len(slots) == len(self.configs) and list(slots) == list(range(len(slots)))
        return Route(
            tuple(slots),
            tuple(counts),
            None if whole else torch.tensor(slots, device=self.device),
            None if even else torch.tensor(places, device=self.device),
        )

    def losses(self, groups: Sequence[tuple[int | None, Sequence[Sample]]]) -> tuple[Tensor, list[int]]:
        """Negative log-likelihood of every trained token, row by row, and how many tokens each row trains.

        `groups` are rows by slot; slot None (alone) is the base.
        """
        rows = [sample for _, own in groups for sample in own]
        ids, row_index, place_index = (tensor.to(self.device) for tensor in collate(rows))
        if groups[0][0] is not None:
            self._route = self.routed([k for k, _ in groups if k is not None], [len(own) for _, own in groups])
        self._picked = (row_index, place_index)
        try:
            logits = self.model(input_ids=ids, use_cache=False).logits[0]
        finally:
            self._route = self._picked = None
        precise = logits if logits.dtype == torch.float64 else logits.float()
        losses = nn.functional.cross_entropy(precise, ids[row_index, place_index + 1], reduction="none")
        return losses, [trained_tokens(sample) for sample in rows]

    # Weights in and out

    def exact_layers(self, k: int) -> dict[str, tuple[Tensor, Tensor]]:
        """{layer: (A (rank, in), B (out, rank))} of slot k, copies in the dtype of training."""
        return self.unpacked(self._theta, k, self._theta.dtype)

    def weights(self, k: int) -> LoraWeights:
        """The adapter of slot k as PEFT shapes it, trimmed to its rank, fp32 copies on the CPU."""
        return LoraWeights.of(self.configs[k], self.unpacked(self._theta, k, torch.float32))

    @torch.no_grad()
    def load(self, k: int, weights: LoraWeights) -> None:
        """Put a trained adapter into slot k (to score or to speak); its rank and layers must be those of the slot."""
        config = self.configs[k]
        if (weights.rank, weights.scaling) != (config.rank, config.scaling):
            raise AdapterError(f"{config.name}: adapter of rank {weights.rank} in a slot of rank {config.rank}")
        self.pack(self._theta, k, weights.layers)

    def unpacked(self, matrix: Tensor, k: int, dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
        """Slot k's part of a (K, P) matrix as {layer: (A (rank, in), B (out, rank))}."""
        rank = self.configs[k].rank
        out: dict[str, tuple[Tensor, Tensor]] = {}
        for layer in self._layers:
            if layer.targeted[k]:
                a, b = (view[k] for view in self.views(matrix, layer))
                pair = [t.T.to("cpu", dtype, copy=True).contiguous() for t in (a[:, :rank], b[:rank])]
                out[layer.name] = (pair[0], pair[1])
        return out

    def pack(self, matrix: Tensor, k: int, layers: dict[str, tuple[Tensor, Tensor]]) -> None:
        """The reverse of `unpacked`, with zeros above the slot's rank."""
        rank = self.configs[k].rank
        expected = {layer.name for layer in self._layers if layer.targeted[k]}
        if set(layers) != expected:
            odd = min(set(layers) ^ expected)
            raise AdapterError(f"{self.configs[k].name}: adapter and slot disagree about the layer {odd}")
        matrix[k].zero_()
        for layer in self._layers:
            if layer.targeted[k]:
                a, b = (view[k] for view in self.views(matrix, layer))
                for place, tensor in ((a[:, :rank], layers[layer.name][0]), (b[:rank], layers[layer.name][1])):
                    if place.shape != tensor.T.shape:
                        raise AdapterError(f"{self.configs[k].name}: {layer.name} has another shape in this base")
                    place.copy_(tensor.T)

    def views(self, matrix: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
        """A layer's A (K, in, R) and B (K, R, out) within a (K, P) matrix, sharing its memory."""
        k, rank = len(self.configs), self.rank
        middle = layer.offset + layer.features[0] * rank
        end = middle + layer.features[1] * rank
        a, b = matrix[:, layer.offset : middle], matrix[:, middle:end]
        return a.view(k, layer.features[0], rank), b.view(k, rank, layer.features[1])

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
                losses, counts = self.losses([(k, [rows[i][1] for i in chosen])])
                for i, part in zip(chosen, losses.double().split(counts), strict=True):
                    scores[i] = (float(part.sum()), part.numel())
        return scores

    @torch.no_grad()
    def generate(
        self,
        k: int | None,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop: Sequence[int],
        pad: int = 0,
        repetition_penalty: float = 1.0,
    ) -> list[list[int]]:
        """Greedy replies of slot k (None: the bare base) to prompts of token ids, without prompt and stop token."""
        length = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[pad] * (length - len(p)) + list(p) for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        settings = GenerationConfig(
            do_sample=False,
            num_beams=1,
            # Said outright: a base's own settings (Qwen2.5: 1.05) fill what is left open.
            repetition_penalty=repetition_penalty,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(stop),
            pad_token_id=pad,
            use_cache=True,
        )
        if k is not None:
            self._route = self.routed([k], [len(prompts)])
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


def _ends(name: str, target: str) -> bool:
    """PEFT's rule for a list of targets: the whole name, or its last parts."""
    return name == target or name.endswith("." + target)

"""Scores of held-out lines: each cell of the evaluation matrix computed once, and kept.

A cell lives in the store at runs/<recipe>/evaluate/cells/<key>.json, where the key covers everything that its numbers
depend on: the conversations, the system text, the base, the adapter, the template's settings. So one more persona
computes a row and a column and nothing else, and a killed run loses the cell that it was at.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.matrix import BASE, Cell
from understudy.base import Base
from understudy.dataset import read_conversations
from understudy.errors import MissingError
from understudy.recipe import ModelConfig
from understudy.record import digest_of
from understudy.rendering import Renderer, Sample, with_system
from understudy.store import Store

if TYPE_CHECKING:
    from jobs.peft_folder import LoraWeights
    from jobs.slots import Slots

VERSION = 1
SLOTS = 8
"""Adapters held beside the base at a time."""
_BATCH_TOKENS = 8_192


@dataclass(frozen=True)
class Row:
    """The held-out lines of one persona, and what they are read with."""

    persona: str
    table: str
    """Store key of its conversations."""
    digest: str
    """Of that table."""
    system: str
    """The persona's system text."""


@dataclass(frozen=True)
class Adapter:
    """A trained adapter in the store."""

    persona: str
    folder: str
    """Store key of its folder."""
    digest: str
    """Of its weights and settings."""
    rights: tuple[dict[str, str], ...] = ()
    """Of the texts that it learned from."""


@dataclass(frozen=True)
class Ground:
    """What every cell stands on."""

    store: Store
    recipe: str
    base: Base
    model: ModelConfig
    max_length: int
    """Tokens of one sample, as in training."""

    @cached_property
    def digest(self) -> str:
        """Of everything here that a cell's numbers depend on."""
        model = self.model.model_dump(mode="json", include={"dtype", "quantization", "template_kwargs"})
        return digest_of([VERSION, self.base.identity, model, self.max_length])


@dataclass(frozen=True)
class Wanted:
    """One cell to have: a row, and a column that is BASE, PROMPTED or the name of `adapter`."""

    row: Row
    column: str
    adapter: Adapter | None

    def key(self, ground: Ground) -> str:
        """Where the cell is kept."""
        bare = self.column == BASE
        about = [ground.digest, self.row.digest, None if bare else self.row.system]
        name = digest_of([*about, self.adapter.digest if self.adapter else None])[:32]
        return f"{cells_key(ground)}/{name}.json"


def cells_key(ground: Ground) -> str:
    """The folder of all cells of a recipe."""
    return f"runs/{ground.recipe}/evaluate/cells"


def read_cell(ground: Ground, wanted: Wanted) -> Cell | None:
    """The cell, or None when it was not computed yet."""
    try:
        found = ground.store.get_json(wanted.key(ground))
    except MissingError:
        return None
    return Cell(tuple(found["conversations"]), tuple(found["nll"]), tuple(found["tokens"]))


def score_cells(ground: Ground, wanted: Sequence[Wanted], device: str = "cpu") -> Iterator[Wanted]:
    """Compute and keep the cells, and yield each when it is kept; loads the base once.

    Cells of the bare base come first; adapters go through in groups of `SLOTS`, each of one rank: padded to the rank of
    another, a cell would differ in its last bits from the one that a resumed run computes.
    """
    from jobs.base_model import load_model, load_tokenizer

    tokenizer = load_tokenizer(ground.base, ground.model)
    model = load_model(ground.base, ground.model, device)
    scorer = _Scorer(ground, Renderer(tokenizer, ground.model.template_kwargs))
    adapters = list({one.adapter.digest: one.adapter for one in wanted if one.adapter}.values())
    for group in [[], *_groups(ground.store, adapters)]:
        digests = [adapter.digest for adapter in group]
        due = [one for one in wanted if (one.adapter.digest in digests if one.adapter else not group)]
        if not due:
            continue
        slots = _slots(ground, model, group)
        try:
            for one in due:
                cell = scorer.cell(slots, one, digests.index(one.adapter.digest) if one.adapter else None)
                ground.store.put_json(
                    one.key(ground), {"conversations": cell.conversations, "nll": cell.nll, "tokens": cell.tokens}
                )
                yield one
        finally:
            slots.close()


class _Scorer:
    """Renders each row once and scores it under a slot."""

    def __init__(self, ground: Ground, renderer: Renderer) -> None:
        self.ground, self.renderer = ground, renderer
        self._rendered: dict[tuple[str, bool], list[tuple[str, list[Sample]]]] = {}

    def cell(self, slots: Slots, wanted: Wanted, slot: int | None) -> Cell:
        rows = self._samples(wanted.row, prompted=wanted.column != BASE)
        flat = [(slot, sample) for _, samples in rows for sample in samples]
        longest = max((len(sample.input_ids) for _, sample in flat), default=1)
        scores = iter(slots.score(flat, batch_rows=max(1, min(32, _BATCH_TOKENS // longest))))
        nll, tokens = [], []
        for _, samples in rows:
            own = [next(scores) for _ in samples]
            nll.append(sum(value for value, _ in own))
            tokens.append(sum(count for _, count in own))
        return Cell(tuple(name for name, _ in rows), tuple(nll), tuple(tokens))

    def _samples(self, row: Row, prompted: bool) -> list[tuple[str, list[Sample]]]:
        """(conversation_id, samples) of the held-out conversations, sorted by id."""
        if (row.table, prompted) not in self._rendered:
            store = self.ground.store
            found = [c for c in read_conversations(store.read_table(row.table), row.table) if c.split == "heldout"]
            self._rendered[row.table, prompted] = [
                (c.conversation_id, self.renderer.samples(messages, self.ground.max_length))
                for c in sorted(found, key=lambda c: c.conversation_id)
                for messages in [with_system(c.messages, row.system if prompted else "")]
            ]
        return self._rendered[row.table, prompted]


def _groups(store: Store, adapters: Sequence[Adapter]) -> Iterator[list[Adapter]]:
    by_rank: dict[int, list[Adapter]] = {}
    for adapter in adapters:
        config = store.get_json(f"{adapter.folder}/adapter_config.json")
        by_rank.setdefault(config["r"], []).append(adapter)
    for alike in by_rank.values():
        yield from (alike[i : i + SLOTS] for i in range(0, len(alike), SLOTS))


def _slots(ground: Ground, model: Any, adapters: Sequence[Adapter]) -> Slots:
    """Slots that hold the adapters; for the bare base one that is never asked."""
    from jobs.slot_config import SlotConfig
    from jobs.slots import Slots

    loaded = [_weights(ground.store, adapter) for adapter in adapters]
    configs = [
        SlotConfig(adapter.persona, w.rank, w.alpha, w.rslora, target_modules=tuple(w.layers))
        for adapter, w in zip(adapters, loaded, strict=True)
    ]
    slots = Slots(model, configs or [SlotConfig(BASE, rank=1)])
    for k, weights in enumerate(loaded):
        slots.load(k, weights)
    return slots


def _weights(store: Store, adapter: Adapter) -> LoraWeights:
    from jobs.peft_folder import read_peft

    local = store.local_path(adapter.folder)
    if local is not None:
        return read_peft(local)
    with tempfile.TemporaryDirectory() as folder:
        return read_peft(store.fetch_tree(adapter.folder, Path(folder)))

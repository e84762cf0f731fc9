"""What training takes: by former records of the same base in this store, by steps tried here, else by arithmetic."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jobs.plan_steps import MOST_CONVERSATIONS, Sitting, tried
from jobs.report_tables import Made
from jobs.shares import Shares, shares_of
from jobs.train import ROWS_OF_A_GROUP, slot_config
from understudy.base import Base, resolve
from understudy.conversation import Conversation
from understudy.errors import BaseError
from understudy.recipe import CastEntry, Recipe, TrainConfig

START_S = 8.0
"""A host imports torch and loads the base."""
GPUS = Path("/proc/driver/nvidia/gpus")
CORE_FLOPS = 15e9
GPU_FLOPS = 1e14
MOMENTS = 3
"""Before training, halfway and after it the probes are answered."""
SAMPLE_TOKENS = 160
"""Of a conversation with its system text, where no record says."""


@dataclass(frozen=True)
class Training:
    """Rates of training and scoring, in seconds."""

    sample_s: float
    """To train on one conversation once."""
    by: str
    """Where the rates are from."""
    start_s: float = START_S
    probes_s: float = 0.0
    """To let one adapter answer its probes before, halfway and after; 0 where `sample_s` has it in it."""
    scored_s: float | None = None
    """To score one conversation; None: a backward pass costs twice a forward one."""
    workers: int = 1
    """Groups that train at the same time."""

    @property
    def forward_s(self) -> float:
        """To score one conversation."""
        return self.sample_s / 3 if self.scored_s is None else self.scored_s

    def seconds(self, train: TrainConfig, conversations: float) -> float:
        """Of one adapter, as its part of what all take."""
        return (self.sample_s * conversations * train.epochs + self.probes_s) / self.workers


def training_of(recipe: Recipe, former: Made, try_here: Callable[[], Training | None]) -> Training:
    """Rates by records of the same base; without any, by `try_here`; else by parameters and an assumed speed."""
    groups: dict[str, tuple[float, float]] = {}
    for record in former.records.values():
        if record.config.get("model", {}).get("base") != _base_name(recipe):
            continue
        epochs = float(record.config.get("train", {}).get("epochs") or 0)
        trained = float(record.counts.get("samples") or 0) * epochs
        seconds, samples = groups.get(record.started, (0.0, 0.0))
        # The slots of a group are trained side by side and all last as long as it.
        groups[record.started] = (max(seconds, record.seconds), samples + trained)
    samples = sum(trained for _, trained in groups.values())
    if samples:
        spent = sum(seconds for seconds, _ in groups.values())
        return Training(spent / samples, "by former records of this base")
    if found := try_here():
        return found
    parameters = _parameters(recipe)
    if parameters is None:
        return Training(0.0, "not known: the base is not here yet")
    flops = 6 * parameters * SAMPLE_TOKENS
    speed, what = _speed()
    return Training(flops / speed, f"assumed: {what} on {parameters / 1e6:,.0f} million parameters")


def tried_here(
    recipe: Recipe, entries: Sequence[tuple[CastEntry, str]], conversations: Mapping[str, Sequence[Conversation]]
) -> Training | None:
    """Rates by a few steps on this machine, of the cast `entries` (with their system texts) on these conversations.

    None where the run is to be elsewhere (RAY_ADDRESS), the base is not here or too large to be loaded for a plan.
    """
    base = _base(recipe)
    if base is None or os.environ.get("RAY_ADDRESS", "local") != "local":
        return None
    most = max((conversations.get(entry.name, ()) for entry, _ in entries), key=len, default=())
    work: list[Sitting] = []
    groups = rows = 0
    for entry, system in entries:
        train = recipe.train_config(entry)
        if not groups or rows + train.micro_batch_size > ROWS_OF_A_GROUP:
            groups, rows = groups + 1, 0
        rows += train.micro_batch_size
        if groups == 1:  # how many slots share a step makes its time: one without conversations yet takes another's
            known = (conversations.get(entry.name) or most)[:MOST_CONVERSATIONS]
            said = [one.messages for one in known]
            work.append(Sitting(slot_config(entry.name, train), system, train.max_length, said, train.probes))
    each = _shares(recipe, groups)
    found = tried(base, recipe.model, work, each.threads, each.device)
    if found is None:
        return None
    return Training(
        found.sample_s * found.samples,
        f"by a few steps tried on {'the GPU' if each.gpus else f'{each.threads} CPU threads'} here",
        found.start_s,
        MOMENTS * found.probe_s,
        found.score_s * found.samples,
        each.workers,
    )


def adapter_bytes(recipe: Recipe, cast: Iterable[CastEntry]) -> dict[str, int]:
    """Bytes of each adapter's weights in 32 bits, every linear layer of attention and MLP adapted."""
    config = _config(recipe)
    if config is None:
        return {}
    hidden = int(config.get("hidden_size") or 0)
    heads = int(config.get("num_attention_heads") or 1)
    size = int(config.get("head_dim") or hidden // max(1, heads))
    keys = int(config.get("num_key_value_heads") or heads) * size
    inner = int(config.get("intermediate_size") or 4 * hidden)
    sums = 2 * (hidden + heads * size) + 2 * (hidden + keys) + 3 * (hidden + inner)
    layers = int(config.get("num_hidden_layers") or 0)
    return {entry.name: 4 * recipe.train_config(entry).lora.rank * sums * layers for entry in cast}


def _base_name(recipe: Recipe) -> str:
    from jobs.base_model import portable_name

    path = _base(recipe)
    return portable_name(path) if path is not None else recipe.model.base


def _shares(recipe: Recipe, groups: int) -> Shares:
    """As the train stage would divide this machine."""
    here = {"CPU": float(os.cpu_count() or 1), "GPU": float(len(list(GPUS.iterdir())) if GPUS.exists() else 0)}
    return shares_of("train", recipe.resources.train, groups, here)


def _base(recipe: Recipe) -> Base | None:
    """The recipe's base where it is on this machine."""
    return _resolved(recipe.model.model_dump_json(), recipe.folder)


@cache
def _resolved(model: str, folder: str) -> Base | None:
    from understudy.base import source_of
    from understudy.recipe import ModelConfig

    config = ModelConfig.model_validate_json(model)
    where = Path(folder or ".")
    if source_of(config, where) not in ("builtin", "path", "hf"):
        return None
    try:
        return resolve(config, where, fetch=False)
    except BaseError:
        return None


def _config(recipe: Recipe) -> dict[str, Any] | None:
    base = _base(recipe)
    if base is None:
        return None
    try:
        return json.loads((base.path / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _parameters(recipe: Recipe) -> float | None:
    """By the size of the weights, two bytes each but for the embedded base, which keeps four."""
    base = _base(recipe)
    config = _config(recipe)
    if base is None or config is None:
        return None
    size = sum(file.stat().st_size for file in base.path.glob("*.safetensors"))
    each = 4 if str(config.get("dtype") or config.get("torch_dtype")) == "float32" else 2
    return size / each


def _speed() -> tuple[float, str]:
    if Path("/proc/driver/nvidia/version").exists():
        return GPU_FLOPS, "100 TFLOP/s on the GPU"
    cores = os.cpu_count() or 1
    return cores * CORE_FLOPS, f"{CORE_FLOPS / 1e9:g} GFLOP/s on each of {cores} cores"

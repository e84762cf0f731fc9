"""A few steps of training while a run is planned: what they take here, where no former record tells.

    work = [Sitting(config, system, max_length, conversations, probes), ...]
    found = tried(base, recipe.model, work, threads=2, device="cpu")     # None where it could not be tried

The recipe's own base and slots, on conversations as curate would leave them, in a process of its own: its memory is
given back, and what goes wrong in it costs the plan nothing.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import fmean

from jobs.slot_config import SlotConfig
from understudy.base import Base
from understudy.conversation import Message
from understudy.recipe import ModelConfig

STEPS = 12
MOST_S = 15.0
"""Steps are tried no longer than this, but for the first two."""
MOST_CONVERSATIONS = 64
"""Of one persona: enough for the tried steps."""
MOST_WEIGHT_BYTES = {"cpu": 4 << 30, "cuda": 32 << 30}
"""A larger base takes longer to load than a plan may take."""


@dataclass(frozen=True)
class Sitting:
    """One slot to try."""

    config: SlotConfig
    system: str
    max_length: int
    conversations: Sequence[Sequence[Message]]
    probes: Sequence[str] = ()


@dataclass(frozen=True)
class Tried:
    """What the tried steps took; seconds."""

    start_s: float
    """Until the base is loaded."""
    sample_s: float
    """One training sample, beside those of the other slots."""
    samples: float
    """Training samples a conversation: long ones are cut."""
    score_s: float
    """One sample scored."""
    probe_s: float
    """All probes of one slot answered once."""


def tried(base: Base, model: ModelConfig, work: Sequence[Sitting], threads: int, device: str) -> Tried | None:
    """Train `work` together for up to STEPS steps; None where there is nothing to train on or it does not work."""
    work = [one for one in work if one.conversations]
    size = sum(file.stat().st_size for file in base.path.glob("*.safetensors"))
    if not work or size > MOST_WEIGHT_BYTES[device]:
        return None
    began = time.time()
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_try, base, model, work, threads, device, began).result()
    except Exception:  # noqa: BLE001 - a GPU that is full, a base that does not load: the run itself will say so
        return None


def _try(base: Base, model: ModelConfig, work: Sequence[Sitting], threads: int, device: str, began: float) -> Tried:
    import torch

    from jobs.base_model import load_model, load_tokenizer
    from jobs.slot_host import PROBE_TOKENS, stop_tokens
    from jobs.slots import Slots
    from understudy.rendering import Renderer, with_system

    torch.set_num_threads(threads)
    loaded = load_model(base, model, device)
    renderer = Renderer(load_tokenizer(base, model), model.template_kwargs)
    start_s = time.time() - began
    longest = int(getattr(loaded.config, "max_position_embeddings", None) or 1 << 30)
    samples = [
        [
            sample
            for messages in one.conversations
            for sample in renderer.samples(with_system(messages, one.system), min(one.max_length, longest))
        ]
        for one in work
    ]
    slots = Slots(loaded, [one.config for one in work], samples)

    def timed(step: int) -> tuple[float, int]:
        rows = sum(_rows(state.config, len(state.samples), step) for state in slots.states if not state.done)
        at = time.perf_counter()
        slots.step()
        _wait(device)
        return time.perf_counter() - at, rows

    first = timed(0)  # it warms up, and counts where there is no other
    until = time.perf_counter() + MOST_S
    taken: list[tuple[float, int]] = []
    while len(taken) < STEPS and not slots.done and (not taken or time.perf_counter() < until):
        taken.append(timed(1 + len(taken)))
    chosen = [(number, sample) for number, own in enumerate(samples) for sample in own[:8]]
    at = time.perf_counter()
    slots.score(chosen)
    _wait(device)
    score_s = (time.perf_counter() - at) / max(1, len(chosen))
    at = time.perf_counter()
    asked = [with_system([{"role": "user", "content": probe}], work[0].system) for probe in work[0].probes]
    if asked:
        slots.generate(0, [renderer.prompt_ids(one) for one in asked], PROBE_TOKENS, stop_tokens(renderer, loaded))
        _wait(device)
    probe_s = time.perf_counter() - at if asked else 0.0
    conversations = sum(len(one.conversations) for one in work)
    sample_s = fmean(seconds / max(1, rows) for seconds, rows in taken or [first])
    return Tried(start_s, sample_s, sum(map(len, samples)) / conversations, score_s, probe_s)


def _rows(config: SlotConfig, samples: int, step: int) -> int:
    """Samples of a slot's step; the last one of an epoch may hold fewer."""
    rows = config.micro_batch_size * config.gradient_accumulation_steps
    place = step % config.steps_per_epoch(samples)
    return min(rows, samples - place * rows)


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()

"""A few steps of training while a run is planned: what they take here, where no former record tells.

    work = [Sitting(config, system, max_length, conversations, probes), ...]
    found = tried(base, recipe.model, work, threads=2, device="cpu")     # None where nothing could be tried

The recipe's own base and slots, on conversations as curate would leave them, in a process of its own that tells what it
has measured as it goes and is ended when its time is over: what it told by then counts. Its memory is given back, and
what goes wrong in it costs the plan nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from statistics import fmean

from jobs.slot_config import SlotConfig
from understudy.base import Base
from understudy.conversation import Message
from understudy.recipe import ModelConfig

STEPS = 12
LOAD_S = 60.0
MOST_S = 20.0
"""After the base is loaded."""
MOST_CONVERSATIONS = 64
"""Of one persona: enough for the tried steps."""
MOST_SCORED = 32
MOST_WEIGHT_BYTES = {"cpu": 4 << 30, "cuda": 32 << 30}
"""A larger base takes longer to load than a plan may take."""
BACKWARD = 3.0
"""A step costs so many times a forward pass."""


@dataclass(frozen=True)
class Sitting:
    """One slot to try."""

    config: SlotConfig
    system: str
    max_length: int
    conversations: Sequence[Sequence[Message]]
    probes: Sequence[str] = ()


@dataclass
class Tried:
    """What was measured; seconds."""

    start_s: float = 0.0
    """Until the base is loaded."""
    samples: float = 1.0
    """Training samples a conversation: long ones are cut."""
    score_s: float = 0.0
    """One sample scored."""
    steps: list[float] = field(default_factory=list)
    """A sample in each tried step, beside those of the other slots."""
    probe_s: float = 0.0
    """All probes of one slot answered once."""

    @property
    def sample_s(self) -> float:
        """To train on one sample; by scoring one where no step came to its end."""
        return fmean(self.steps[1:] or self.steps) if self.steps else BACKWARD * self.score_s


def tried(base: Base, model: ModelConfig, work: Sequence[Sitting], threads: int, device: str) -> Tried | None:
    """Train `work` together for up to STEPS steps; None where there is nothing to train on or it does not work."""
    work = [one for one in work if one.conversations]
    size = sum(file.stat().st_size for file in base.path.glob("*.safetensors"))
    if not work or size > MOST_WEIGHT_BYTES[device]:
        return None
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_tell, args=(there, base, model, work, threads, device), daemon=True)
    began = time.monotonic()
    child.start()
    there.close()
    found = Tried()
    until = began + LOAD_S
    try:
        while here.poll(max(0.0, until - time.monotonic())):
            name, value = here.recv()
            if name == "steps":
                found.steps.append(value)
            elif name == "start_s":
                found.start_s = time.monotonic() - began
                until = time.monotonic() + MOST_S
            else:
                setattr(found, name, value)
    except EOFError:  # it has ended
        pass
    finally:
        child.kill()
        child.join()
        here.close()
    return found if found.sample_s else None


def _tell(told: Connection, *given: object) -> None:
    """What the process runs; what goes wrong (a full GPU, a base that does not load) the run itself will say."""
    # The words of libraries about it are no part of a plan.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with suppress(Exception):
        for one in _measured(*given):  # pyright: ignore[reportArgumentType]
            told.send(one)
    told.close()


def _measured(
    base: Base, model: ModelConfig, work: Sequence[Sitting], threads: int, device: str
) -> Iterator[tuple[str, float]]:
    import torch

    from jobs.base_model import load_model, load_tokenizer
    from jobs.slot_host import PROBE_TOKENS, stop_tokens
    from jobs.slots import Slots
    from understudy.rendering import Renderer, with_system

    torch.set_num_threads(threads)
    loaded = load_model(base, model, device)
    renderer = Renderer(load_tokenizer(base, model), model.template_kwargs)
    yield "start_s", 0.0
    longest = int(getattr(loaded.config, "max_position_embeddings", None) or 1 << 30)
    samples = [
        [
            sample
            for messages in one.conversations
            for sample in renderer.samples(with_system(messages, one.system), min(one.max_length, longest))
        ]
        for one in work
    ]
    yield "samples", sum(map(len, samples)) / sum(len(one.conversations) for one in work)
    slots = Slots(loaded, [one.config for one in work], samples)

    def took(began: float) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    chosen = [(number, sample) for number, own in enumerate(samples) for sample in own[:8]][:MOST_SCORED]
    slots.score(chosen[:1])  # it warms up
    at = time.perf_counter()
    slots.score(chosen[:1])
    yield "score_s", took(at)
    for step in range(STEPS):
        rows = sum(_rows(state.config, len(state.samples), step) for state in slots.states if not state.done)
        if not rows:
            break
        at = time.perf_counter()
        slots.step()
        yield "steps", took(at) / rows
    at = time.perf_counter()
    slots.score(chosen)
    yield "score_s", took(at) / len(chosen)
    if work[0].probes:
        asked = [with_system([{"role": "user", "content": probe}], work[0].system) for probe in work[0].probes]
        at = time.perf_counter()
        slots.generate(0, [renderer.prompt_ids(one) for one in asked], PROBE_TOKENS, stop_tokens(renderer, loaded))
        yield "probe_s", took(at)


def _rows(config: SlotConfig, samples: int, step: int) -> int:
    """Samples of a slot's step; the last one of an epoch may hold fewer."""
    rows = config.micro_batch_size * config.gradient_accumulation_steps
    place = step % config.steps_per_epoch(samples)
    return min(rows, samples - place * rows)

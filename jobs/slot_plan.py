"""What a slot host is given to do, and what it finds in the store of a run that was cut off; without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jobs.slot_config import SlotConfig
from jobs.stage import Unit
from understudy.store import Store

SNAPSHOT = re.compile(r"/snapshot-(\d{8})\.safetensors$")


@dataclass(frozen=True)
class SlotPlan:
    """One persona's training, as plain data."""

    unit: Unit
    config: SlotConfig
    conversations: str
    """Store key of the persona's conversations table; its rows of split `train` are learned."""
    system: str
    """The persona's system text."""
    max_length: int
    probes: tuple[str, ...] = ()
    repetition_penalty: float = 1.0
    """Of the probes' greedy answers: the card's, as serving applies it."""


@dataclass(frozen=True)
class Member:
    """A place in a group; `plan` is None for a slot that was finished before the group went on."""

    fingerprint: str
    config: SlotConfig
    plan: SlotPlan | None


def snapshots(store: Store, key: str) -> dict[int, str]:
    """Store key by step of the snapshots that a slot in training has."""
    found = ((SNAPSHOT.search(name), name) for name in store.keys(key))
    return {int(match[1]): name for match, name in found if match}

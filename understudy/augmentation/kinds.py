"""The module behind each kind of step."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.augmentation.job import Draft, Job, Material, Note

Plan = Callable[[Any, Material, Sequence[Note]], Iterator[Job]]
Read = Callable[[Any, Job, Any], "list[Draft | Note] | str"]


@dataclass(frozen=True)
class Kind:
    """The functions of one kind; see the package's docstring."""

    name: str
    prompt_version: int
    plan: Plan
    read: Read
    rounds: Callable[[Any, Material], int]
    finish: Callable[[Any, Material, Sequence[Note]], dict[str, Any]]


def kind_of(name: str) -> Kind:
    """The kind called `name`, from `understudy/augmentation/<name>.py`."""
    module = importlib.import_module(f"understudy.augmentation.{name}")
    return Kind(
        name,
        module.PROMPT_VERSION,
        module.plan,
        module.read,
        getattr(module, "rounds", lambda step, material: 1),
        getattr(module, "finish", lambda step, material, notes: {}),
    )

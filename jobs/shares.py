"""How a stage divides a machine or cluster among its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from understudy.errors import RecipeError
from understudy.recipe import ResourceConfig


@dataclass(frozen=True, slots=True)
class Shares:
    """What each of `workers` takes."""

    workers: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Threads that compute in one worker."""
        return max(1, int(self.cpus))

    @property
    def device(self) -> str:
        """Where a worker computes."""
        return "cuda" if self.gpus else "cpu"


def shares_of(stage: str, asked: ResourceConfig, most: int, cluster: Mapping[str, float]) -> Shares:
    """The shares of a stage that can use `most` workers: as the recipe asks, else one a GPU, else one with all CPUs.

    RecipeError where one worker asks for more than the cluster (`ray.cluster_resources()`) has: it would wait for ever.
    """
    have_cpus, have_gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    gpus = asked.gpus if asked.gpus is not None else min(1.0, have_gpus)
    for name, wanted, have in (("gpus", gpus, have_gpus), ("cpus", asked.cpus or 0, have_cpus)):
        if wanted > have:
            raise RecipeError(
                f"resources.{stage}.{name}: {wanted:g} asked for, {have:g} there; ask for less or leave it out"
            )
    workers = asked.workers or (int(have_gpus // gpus) if gpus else 1)
    if gpus:
        workers = min(workers, int(have_gpus // gpus))
    if asked.cpus:
        workers = min(workers, int(have_cpus // asked.cpus))
    workers = max(1, min(workers, most, max(1, int(have_cpus))))
    return Shares(workers, asked.cpus or max(1, int(have_cpus) // workers), gpus)

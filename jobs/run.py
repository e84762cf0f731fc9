"""`understudy run`: every stage of a recipe in order, under one lease.

Killed at any moment and started again, it goes on: finished units are skipped by their records, a training run goes on
from its snapshots, and a lease whose process is gone is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.stage import StageResult, say
from understudy.errors import RecipeError
from understudy.lease import held
from understudy.recipe import Recipe
from understudy.store import Store
from understudy.wording import one_line

STAGES = ("extract", "augment", "curate", "train", "evaluate", "publish")


def run_recipe(recipe: Recipe, personas: tuple[str, ...] = (), force: bool = False) -> list[StageResult]:
    """Run the stages; returns what each of them says. HeldError when another run holds the recipe."""
    refuse_later_parts(recipe)
    check_ahead(recipe)
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    with held(store, recipe.name, "understudy run"):
        results = run_stages(recipe, personas, force)
        _report(recipe, results)
    return results


def _report(recipe: Recipe, results: Sequence[StageResult]) -> None:
    """Write the report of what was just made; the work is done, and a report that fails does not undo it."""
    from jobs.report import run_report

    try:
        say("report", run_report(recipe, results=results).html)
    except Exception as error:  # noqa: BLE001 - see above
        said = one_line(error)
        say("report", f"could not be written ({type(error).__name__}: {said}); `understudy report` tries again")


def run_stages(recipe: Recipe, personas: tuple[str, ...], force: bool) -> list[StageResult]:
    """The stages of `recipe`, by a caller that holds its lease."""
    from cluster import runtime
    from jobs.augment import run_augment
    from jobs.curate import run_curate
    from jobs.evaluate import run_evaluate
    from jobs.extract import run_extract
    from jobs.publish import run_publish
    from jobs.train import run_train

    try:
        # A recipe may have no texts, when augment writes everything.
        extracted = [run_extract(recipe, force=force)] if recipe.corpus or not recipe.augment else []
        augmented = [run_augment(recipe, personas, force)] if recipe.augment else []
        return [
            *extracted,
            *augmented,
            run_curate(recipe, personas, force),
            run_train(recipe, personas, force),
            run_evaluate(recipe, personas, force),
            run_publish(recipe, personas, force),
        ]
    finally:
        runtime.stop()


def check_ahead(recipe: Recipe) -> None:
    """RecipeError for what a later stage would refuse after hours: endpoints, personas and files that are not there."""
    from jobs.augment import check_steps
    from understudy.persona import cast_entries
    from understudy.recipe import AutoCastEntry

    check_steps(recipe, None if isinstance(recipe.cast, AutoCastEntry) else cast_entries(recipe))
    for at, entry in enumerate(recipe.curate.mix):
        if entry.path and "://" not in entry.path and not recipe.path_of(entry.path).is_file():
            raise RecipeError(
                f"{recipe.name}: curate.mix.{at}: {entry.path}: no such file ({recipe.path_of(entry.path)})"
            )


def refuse_later_parts(recipe: Recipe) -> None:
    """RecipeError for what a recipe may say but no stage reads yet, and for a reader whose endpoint is not there."""
    parts = {
        "train.phases": recipe.train.phases,
        "train.deepspeed": recipe.train.deepspeed,
        "evaluate.judge": recipe.evaluate.judge,
        "evaluate.gate": recipe.evaluate.gate,
    }
    for name, value in parts.items():
        if value:
            raise RecipeError(f"{recipe.name}: {name} is not supported by this version; remove it from the recipe")
    if recipe.extract.llm is not None:
        from jobs.attribute import check_reader

        check_reader(recipe)

"""What a stage began and did not end: the stage after it reads what was made before that, and says so.

runs/<recipe>/<stage>/attempt.json    since when, and why it ended; gone as soon as the stage is done
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from jobs.stage import StageResult, is_planning
from understudy.errors import MissingError, PersonaError, RecipeError, StoreError
from understudy.recipe import Recipe
from understudy.store import Store

KILLED = "it was ended from outside"
MOST_SAID = 300
P = ParamSpec("P")
Run = Callable[Concatenate[Recipe, P], StageResult]


def attempted(stage: str) -> Callable[[Run[P]], Run[P]]:
    """Marks what a stage begins, so that an end before its time, a kill too, is known to `unfinished`."""

    def marking(run: Run[P]) -> Run[P]:
        @wraps(run)
        def marked(recipe: Recipe, *args: P.args, **given: P.kwargs) -> StageResult:
            if is_planning():
                return run(recipe, *args, **given)
            store = Store.open(recipe.store, Path(recipe.folder or "."))
            key, before = _key(recipe.name, stage), _read(store, recipe.name, stage)
            begun = {"since": datetime.now(UTC).isoformat(timespec="seconds")}
            store.put_json(key, {**begun, "why": KILLED})
            try:
                result = run(recipe, *args, **given)
            except (RecipeError, PersonaError):  # nothing was begun: the next stage refuses the same recipe
                with suppress(StoreError):
                    store.put_json(key, before) if before else store.delete(key)
                raise
            except Exception as error:
                said = " ".join(str(error).split())[:MOST_SAID] or type(error).__name__
                with suppress(StoreError):
                    store.put_json(key, {**begun, "why": said})
                raise
            of_some = any(isinstance(one, tuple) and one for one in (*args, *given.values()))
            if of_some and before:  # of the other personas' it is still true
                store.put_json(key, before)
            else:
                store.delete(key)
            return result

        return marked

    return marking


def unfinished(store: Store, recipe: str, stage: str) -> str:
    """One line about a stage that began and did not end since it left what is there now; empty where it ended."""
    found = _read(store, recipe, stage)
    if not found:
        return ""
    return (
        f"the last {stage} did not end ({found.get('why')}); what it left before is used, which may be of other "
        f"input: run `understudy {stage}` with this recipe"
    )


def _read(store: Store, recipe: str, stage: str) -> dict[str, Any]:
    try:
        found = store.get_json(_key(recipe, stage))
    except MissingError:
        return {}
    return found if isinstance(found, dict) else {}


def _key(recipe: str, stage: str) -> str:
    return f"runs/{recipe}/{stage}/attempt.json"

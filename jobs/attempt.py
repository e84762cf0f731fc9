"""What a stage began and did not end: the stage after it reads what was made before that, and says so.

runs/<recipe>/<stage>/attempt.json    since when, of which personas, and why it ended; gone as soon as all of it is done
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from understudy.errors import MissingError, StoreError
from understudy.store import Store
from understudy.wording import one_line

KILLED = "it was ended from outside"
MOST_SAID = 300


@contextmanager
def attempt(
    store: Store, recipe: str, stage: str, personas: Collection[str] = (), whole: bool = True
) -> Iterator[None]:
    """Marks the work in its block, so that an end before its time, a kill too, is known to `unfinished`.

    `personas`: of whom it is, where the stage works persona by persona; `whole`: they are all that there are. What is
    checked before belongs outside: input that is refused leaves everything as it was.
    """
    key, before, own = _key(recipe, stage), _read(store, recipe, stage), set(personas)
    left = set(before.get("of") or ())
    known = own and (not before or left)  # else it is of everybody, by no names
    begun = {"since": datetime.now(UTC).isoformat(timespec="seconds"), **({"of": sorted(own | left)} if known else {})}
    store.put_json(key, {**begun, "why": KILLED})
    try:
        yield
    except Exception as error:
        said = one_line(error, MOST_SAID) or type(error).__name__
        with suppress(StoreError):
            store.put_json(key, {**begun, "why": said})
        raise
    if whole or not before or (left and left <= own):
        store.delete(key)
    else:  # of the others it is still true
        store.put_json(key, {**before, "of": sorted(left - own)} if left else before)


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

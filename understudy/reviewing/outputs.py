"""What stages left in the store, for a room that imports no stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from understudy.errors import InputError, MissingError, StoreError
from understudy.record import Record, output_key, read_record
from understudy.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Unit:
    """One finished output of a stage."""

    name: str
    stage: str
    key: str
    record: Record


def finished(store: Store, recipe: str, stage: str) -> list[Unit]:
    """The newest finished outputs of a stage, by name."""
    try:
        latest = dict(store.get_json(f"runs/{recipe}/{stage}/latest.json"))
    except MissingError:
        return []
    found = []
    for name, fp in sorted(latest.items()):
        key = output_key(recipe, stage, str(fp))
        if record := read_record(store, key):
            found.append(Unit(name, stage, key, record))
    return found


def read_table(store: Store, unit: Unit, name: str) -> pa.Table:
    """The unit's table called `name`; InputError in one line when it cannot be read."""
    try:
        return store.read_table(f"{unit.key}/{name}.parquet")
    except StoreError as error:
        raise InputError(f"{unit.name}: {error}") from None

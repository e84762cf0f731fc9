"""The record beside every output: what went in, with which settings and versions, and what came out.

A stage writes below `runs/<recipe>/<stage>/<fingerprint>/`; the record is written last and makes the output exist.
The fingerprint covers the stage, its VERSION, its resolved part of the recipe and the digests of its inputs, and not
the commit: a comment changed in the code does not spoil a week of training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from understudy.errors import MissingError, StoreError
from understudy.store import Store, json_bytes

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
RECORD_NAME = "record.json"


class Record(BaseModel):
    """How one output came to be."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: int = SCHEMA_VERSION
    stage: str
    stage_version: int
    """Raised by hand when the stage's output changes for the same input."""
    recipe: str
    unit: str
    """The work (extract) or the persona (curate to publish) that this output belongs to."""
    fingerprint: str
    config: dict[str, Any]
    """The resolved part of the recipe that this output depends on."""
    inputs: dict[str, str]
    """Digest by name of everything that was read."""
    outputs: dict[str, str]
    """Digest by file name below the record's folder."""
    counts: dict[str, Any] = {}
    """Rows, reasons, steps: what the stage says of its work."""
    versions: dict[str, str] = {}
    commit: str | None = None
    started: str
    """UTC, ISO 8601."""
    seconds: float
    rights: list[dict[str, str]] = []
    """Source, licence, holder and note of every corpus that this came from."""


def canonical(value: Any) -> bytes:
    """JSON bytes that are equal exactly when the values are: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value)).hexdigest()


def fingerprint(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The 24 hex digits that name a stage's output."""
    return digest_of({"stage": stage, "version": version, "config": dict(config), "inputs": dict(inputs)})[:24]


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """An order-free digest of rows: the sum of their SHA-256 hashes modulo 2**256, with the count in front."""
    total = count = 0
    for row in rows:
        total += int.from_bytes(hashlib.sha256(canonical(dict(row))).digest(), "big")
        count += 1
    return f"{count}:{total % (1 << 256):064x}"


def table_digest(table: pa.Table) -> str:
    """`rows_digest` of a table: equal for equal rows in any order, whatever the file's layout."""
    return rows_digest(row for batch in table.to_batches(max_chunksize=4096) for row in batch.to_pylist())


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def output_key(recipe: str, stage: str, fp: str) -> str:
    """Where in the store the output with fingerprint `fp` lives."""
    return f"runs/{recipe}/{stage}/{fp}"


def read_record(store: Store, key: str) -> Record | None:
    """The record of the output at `key`, or None when that output was never finished."""
    try:
        raw = store.get_json(f"{key}/{RECORD_NAME}")
    except MissingError:
        return None
    where = store.uri_of(f"{key}/{RECORD_NAME}")
    if isinstance(raw, dict) and isinstance(raw.get("schema_version"), int) and raw["schema_version"] > SCHEMA_VERSION:
        raise StoreError(
            f"{where}: has schema_version {raw['schema_version']}, newer than {SCHEMA_VERSION}; upgrade understudy"
        )
    try:
        return Record.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise StoreError(f"{where}: {field}: {first['msg']}; delete the folder to make it anew") from None


def write_record(store: Store, key: str, record: Record) -> str:
    """Write the record, which makes the output exist; returns its URI."""
    store.put(f"{key}/{RECORD_NAME}", json_bytes(record.model_dump(mode="json")))
    return store.uri_of(f"{key}/{RECORD_NAME}")

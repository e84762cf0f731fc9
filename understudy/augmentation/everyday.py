"""Everyday prompts that users bring: one a line of text, or a column of jsonl, json, csv, parquet or a data set."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from understudy.errors import CorpusError

COLUMNS = ("prompt", "instruction", "question", "query", "input", "user", "text", "messages", "conversations")
"""Where a prompt is looked for when the recipe names no column, in this order."""
LONGEST = 4000
"""Characters; a longer prompt is no everyday one."""
MOST_READ = 200_000
"""Rows of a file or data set that are looked at."""


@dataclass
class Prompts:
    """What was read: prompts, each once, and what was set aside as (where, reason)."""

    texts: list[str] = field(default_factory=list)
    set_aside: list[tuple[str, str]] = field(default_factory=list)

    def sample(self, most: int | None, seed: int) -> list[str]:
        """At most `most` of them, drawn by `seed`, in the order of the file."""
        if most is None or most >= len(self.texts):
            return list(self.texts)
        drawn = random.Random(seed).sample(range(len(self.texts)), most)
        return [self.texts[position] for position in sorted(drawn)]


def read_prompts(data: bytes, name: str, column: str | None = None) -> Prompts:
    """The prompts in the bytes of a txt, jsonl, json, csv or parquet file; CorpusError when there is none in them."""
    kind = PurePath(name).suffix.lower()
    try:
        if kind == ".parquet":
            found = gather(_parquet_rows(data), column)
        else:
            found = gather(_text_rows(io.StringIO(data.decode("utf-8-sig")), kind), column)
    except UnicodeDecodeError:
        raise CorpusError(f"{name}: is not UTF-8 text; save it as UTF-8") from None
    except (ValueError, csv.Error) as error:
        raise CorpusError(f"{name}: cannot be read as {kind or 'text'} ({error})") from None
    return _some(found, name, column)


def gathered(rows: Iterable[Any], name: str, column: str | None = None) -> bytes:
    """The prompts of a data set's rows, as `taken` reads them; CorpusError when there is none in them."""
    found = _some(gather(enumerate(rows), column), name, column)
    return json.dumps({"texts": found.texts, "set_aside": found.set_aside}, ensure_ascii=False).encode()


def taken(data: bytes) -> Prompts:
    """What `gathered` wrote."""
    held = json.loads(data)
    return Prompts(held["texts"], [(where, reason) for where, reason in held["set_aside"]])


def gather(rows: Iterable[tuple[int, Any]], column: str | None = None) -> Prompts:
    """Prompts of (number, row): a text, a mapping with one of COLUMNS, or an unreadable row as an Exception."""
    found = Prompts()
    seen: set[str] = set()
    for number, row in rows:
        if number >= MOST_READ:
            break
        text = row if isinstance(row, str) else _prompt_of(row, column) if isinstance(row, Mapping) else None
        text = text.strip() if text is not None else None
        where = f"row {number + 1}"
        if text is None:
            found.set_aside.append((where, str(row) if isinstance(row, Exception) else "no prompt in it"))
        elif not any(char.isalnum() for char in text):
            found.set_aside.append((where, "empty"))
        elif len(text) > LONGEST:
            found.set_aside.append((where, f"longer than {LONGEST} characters"))
        elif text in seen:
            found.set_aside.append((where, "duplicate"))
        else:
            seen.add(text)
            found.texts.append(text)
    return found


def _some(found: Prompts, where: str, column: str | None) -> Prompts:
    if not found.texts:
        looked = column or ", ".join(COLUMNS)
        raise CorpusError(f"{where}: holds no prompt; looked in {looked}; name the column with `column`")
    return found


def _prompt_of(row: Mapping[str, Any], column: str | None) -> str | None:
    for name in (column,) if column else COLUMNS:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            more = row.get("input")
            both = name == "instruction" and isinstance(more, str) and more.strip() and not column
            return f"{value.strip()}\n{more}" if both else value
        if isinstance(value, list) and (said := _first_user(value)) is not None:
            return said
    return None


def _first_user(messages: list[Any]) -> str | None:
    """What the user says first in a list of messages, `{role, content}` or `{from, value}`."""
    for message in messages:
        if isinstance(message, Mapping):
            role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
            if role in ("user", "human") and isinstance(content, str):
                return content
    return None


def _text_rows(file: Iterable[str], kind: str) -> Iterable[tuple[int, Any]]:
    if kind == ".csv":
        yield from enumerate(csv.DictReader(file))
    elif kind == ".json":
        held = json.loads("".join(file))
        if not isinstance(held, list):
            raise ValueError("a list is expected")
        yield from enumerate(held)
    elif kind in (".jsonl", ".ndjson"):
        for number, line in enumerate(file):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError):
                    yield number, ValueError("not JSON")
    else:
        yield from ((number, line.strip()) for number, line in enumerate(file) if line.strip())


def _parquet_rows(data: bytes) -> Iterable[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        for batch in pq.ParquetFile(pa.BufferReader(data)).iter_batches(1024):
            for row in batch.to_pylist():
                yield number, row
                number += 1
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None

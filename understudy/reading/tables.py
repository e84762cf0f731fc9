"""Tables of texts: JSON Lines, CSV and Parquet, row by row, so that one larger than memory is read as well.

A row is a text of its own, or with a speaker column one line. What is wrong with a row stands in it as `reason`: a bad
row never ends the reading.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from understudy.errors import ColumnError, CorpusError
from understudy.reading.encodings import SAMPLE, decode
from understudy.reading.source import MOST_TEXT, Source
from understudy.wording import one_line

MOST_ROW = MOST_TEXT
"""Bytes of one row."""
BATCH_ROWS = 256
CHECKED_ROWS = 1000
"""Rows of JSON Lines, each with keys of its own, after which a column that none of them has may still come."""
MOST_GROUP = 4 << 30
"""Bytes of one column in one row group of Parquet, unpacked; its pages stream, so that this is never in memory."""
DEFAULT_COLUMN = "text"
"""Taken where the recipe names no column and the table has this one."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: its number in the file, counted from 1, and its text, or why there is none."""

    number: int
    text: str
    speaker: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are read."""

    text: str | None
    speaker: str | None = None


def table_rows(source: Source, form: str, columns: Columns, encoding: str = "auto") -> Iterator[TableRow]:
    """The rows of a table; `form` is jsonl, csv or parquet. CorpusError where it is none, or lacks the column."""
    if form == "parquet":
        return _parquet_rows(source, columns)
    return _jsonl_rows(source, columns, encoding) if form == "jsonl" else _csv_rows(source, columns, encoding)


def check_columns(source: Source, form: str, columns: Columns, encoding: str = "auto") -> None:
    """ColumnError where a table lacks a column; of JSON Lines longer than what is looked at that is not known.

    Another CorpusError where it is no table, or damaged at its beginning.
    """
    if form != "jsonl":
        next(table_rows(source, form, columns, encoding), None)
        return
    file, have = source.stream(), dict[str, None]()
    codec = _codec_of(source.head, encoding)
    for _ in range(CHECKED_ROWS):
        if not (raw := file.readline(MOST_ROW + 2)):
            break
        have |= dict.fromkeys(_object(raw, codec)[0] or ())
    # A name that the recipe gives may stand in later rows, as a speaker does behind pages of narration.
    sought = columns if not file.read(1) else Columns(None) if columns.text is None else None
    if have and sought:
        _chosen(sought, list(have), source.location)


def _row(number: int, values: Mapping[str, Any], columns: Columns, text_column: str) -> TableRow:
    if text_column not in values:
        return TableRow(number, "", reason=f"has no {text_column!r}")
    text = values[text_column]
    if text is None or (isinstance(text, str) and not text.strip()):
        return TableRow(number, "", reason="is empty")
    if not isinstance(text, str):
        return TableRow(number, str(text)[:200], reason=f"{text_column!r} is no text but {type(text).__name__}")
    if len(text) > MOST_ROW:
        return TableRow(number, text[:200], reason=f"is more than {MOST_ROW >> 20} MB of text")
    if not text.isascii() and _half_pair(text):
        return TableRow(number, "", reason="holds half of a surrogate pair")
    speaker = values.get(columns.speaker) if columns.speaker else None
    return TableRow(number, text, str(speaker).strip() or None if speaker is not None else None)


def _half_pair(text: str) -> bool:
    """Whether JSON's escapes left a character that no encoding can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _chosen(columns: Columns, have: list[str], where: str) -> str:
    for name in (columns.text, columns.speaker):
        if name is not None and name not in have:
            raise ColumnError(f"{where}: has no column {name!r}; it has {', '.join(have[:12])}")
    if columns.text is not None:
        return columns.text
    if DEFAULT_COLUMN in have:
        return DEFAULT_COLUMN
    raise ColumnError(f"{where}: is a table; name the column with the text as `column:`, of {', '.join(have[:12])}")


# JSON Lines -----------------------------------------------------------------------------------------------------------


def _jsonl_rows(source: Source, columns: Columns, encoding: str) -> Iterator[TableRow]:
    file = source.stream()
    codec = _codec_of(source.head, encoding)
    if codec.startswith(("utf-16", "utf-32")):
        raise CorpusError(f"{source.location}: is {codec}; JSON Lines are UTF-8, save it so")
    number = 0
    chosen: str | None = None
    seen = bad = 0
    while True:
        raw = file.readline(MOST_ROW + 2)
        if not raw:
            break
        number += 1
        if len(raw) > MOST_ROW and not raw.endswith(b"\n"):
            _skip_row(file)
            yield TableRow(number, "", reason=f"is a row of more than {MOST_ROW >> 20} MB")
            continue
        if not raw.strip():
            continue
        seen += 1
        values, reason = _object(raw, codec)
        if values is None:
            bad += 1
            if bad == seen == 100:
                raise CorpusError(f"{source.location}: is no JSON Lines; its first 100 rows are no JSON objects")
            yield TableRow(number, raw[:200].decode("utf-8", "replace").strip(), reason=reason)
            continue
        if chosen is None:
            # Not every row has a speaker, the first one either.
            chosen = columns.text or _chosen(Columns(None), list(values), source.location)
        yield _row(number, values, columns, chosen)
    if bad == seen:
        raise CorpusError(f"{source.location}: is no JSON Lines; none of its rows is a JSON object")


def _skip_row(file: IO[bytes]) -> None:
    while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
        pass


def _object(raw: bytes, codec: str) -> tuple[dict[str, Any] | None, str]:
    try:
        values = json.loads(raw.decode(codec))
    except UnicodeDecodeError:
        return None, f"is not {codec}"
    except (ValueError, RecursionError):
        return None, "is no JSON"
    return (values, "") if isinstance(values, dict) else (None, f"is no JSON object but {type(values).__name__}")


def _codec_of(head: bytes, encoding: str) -> str:
    if encoding != "auto":
        return codecs.lookup(encoding).name
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"


# CSV ------------------------------------------------------------------------------------------------------------------


def _csv_rows(source: Source, columns: Columns, encoding: str) -> Iterator[TableRow]:
    where = source.location
    sample = source.stream().read(SAMPLE)
    cut = sample[: sample.rfind(b"\n") + 1] or sample if b"\0" not in sample else sample[: len(sample) // 4 * 4]
    told = decode(cut, encoding, where)
    codec = "utf-8-sig" if told.encoding == "utf-8" else told.encoding
    delimiter = _delimiter(told.text)
    stream = io.TextIOWrapper(_Bounded(source.stream(), where), encoding=codec, newline="")  # type: ignore[arg-type]
    before = csv.field_size_limit(MOST_ROW)
    try:
        yield from _csv_fields(csv.reader(stream, delimiter=delimiter), columns, where)
    except UnicodeDecodeError:
        raise CorpusError(f"{where}: begins as {told.encoding}, but goes on otherwise; name its encoding") from None
    except csv.Error as error:
        raise CorpusError(f"{where}: is a damaged table ({error})") from None
    finally:
        csv.field_size_limit(before)
        stream.detach()


def _csv_fields(reader: Any, columns: Columns, where: str) -> Iterator[TableRow]:
    header = next(reader, None)
    if not header:
        raise CorpusError(f"{where}: is empty")
    names = [name.strip() for name in header]
    chosen = _chosen(columns, names, where)
    for number, fields in enumerate(reader, start=1):
        if not any(fields):
            continue
        if len(fields) != len(names):
            text = ",".join(fields)[:200]
            yield TableRow(number, text, reason=f"has {len(fields)} fields, and the header {len(names)}")
            continue
        yield _row(number, dict(zip(names, fields, strict=True)), columns, chosen)


def _delimiter(text: str) -> str:
    first = text.lstrip("\ufeff").split("\n", 1)[0]
    return max(",\t;|", key=first.count) if any(first.count(mark) for mark in ",\t;|") else ","


class _Bounded(io.RawIOBase):
    """A stream that ends the reading where a row never does: an open quote would swallow a whole file."""

    def __init__(self, inner: IO[bytes], where: str) -> None:
        self.inner, self.where = inner, where
        self.row = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.inner.read(len(buffer))
        self.row = len(data) - data.rfind(b"\n") if b"\n" in data else self.row + len(data)
        if self.row > MOST_ROW:
            raise CorpusError(f"{self.where}: holds a row of more than {MOST_ROW >> 20} MB")
        buffer[: len(data)] = data
        return len(data)

    def read1(self, count: int = -1) -> bytes:
        """As `TextIOWrapper` asks for it."""
        return self.read(count if count > 0 else 1 << 16) or b""


# Parquet --------------------------------------------------------------------------------------------------------------


def _parquet_rows(source: Source, columns: Columns) -> Iterator[TableRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = source.location
    try:
        file = pq.ParquetFile(source.seekable(), memory_map=False, pre_buffer=False, buffer_size=1 << 20)
        chosen = _chosen(columns, file.schema_arrow.names, where)
        wanted = [chosen, *([columns.speaker] if columns.speaker and columns.speaker != chosen else [])]
        for group in range(file.metadata.num_row_groups):
            for place in range(file.metadata.row_group(group).num_columns):
                column = file.metadata.row_group(group).column(place)
                if column.path_in_schema.split(".")[0] in wanted and column.total_uncompressed_size > MOST_GROUP:
                    size = column.total_uncompressed_size >> 20
                    raise CorpusError(f"{where}: has a row group of {size:,} MB; write it with smaller ones")
        number = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
            for values in batch.to_pylist():
                number += 1
                yield _row(number, values, columns, chosen)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        said = one_line(error, 160)
        raise CorpusError(f"{where}: is a Parquet file that is damaged or cut off ({said})") from None

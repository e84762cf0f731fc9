"""Bytes of a data file as rows: JSON arrays, JSON lines and Parquet, plain or gzip, good rows and broken ones apart.

    for row in rows_of(data, "huanhuan.json"): ...     # Raw(number, value, reason, text)

A broken row costs itself alone: a line that is no JSON, an array element that is cut or garbled, bytes that are no
text. A file of which nothing can be read at all (truncated gzip, no JSON) raises CorpusError.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from understudy.errors import CorpusError

MAX_BYTES = 1 << 30
"""A file larger than this, after gzip, is refused: conversations are read whole."""
SHOWN_CHARS = 2000
"""So much of a row that is set aside is kept to look at."""
LOOKAHEAD = 4
"""An element of a broken array is tried with so many of the pieces that follow it: its texts may look like a border."""
NOT_JSON, NOT_TEXT, HALF_PAIR = "is no JSON", "is no text in any encoding we know", "holds half a surrogate pair"


@dataclass(frozen=True, slots=True)
class Raw:
    """One row of a file: its value, or why there is none."""

    number: int
    """Line in a file of JSON lines, else position, from 1."""
    value: Any
    reason: str = ""
    text: str = ""
    """What is written there, for rows with a reason."""


def rows_of(data: bytes, where: str) -> Iterator[Raw]:
    """The rows of a file in order; blank lines are none. CorpusError when the file as a whole cannot be read."""
    data = _unzipped(data, where)
    if data[:4] == b"PAR1":
        yield from _parquet(data, where)
        return
    text = _text(data)
    if text is None and data.lstrip()[:1] == b"[":
        # Bytes that are no text stay in the row that holds them, which is refused for it.
        text = data.decode("utf-8-sig", "surrogateescape")
    if text is None:
        yield from (_line(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip())
        return
    body = text.strip()
    if not body:
        raise CorpusError(f"{where}: is empty; give a file of conversations")
    if body[0] == "[" and not _is_lines(body):
        yield from _array(body)
    elif body[0] == "{" and (whole := _object(body)) is not None:
        yield from _inside(whole)
    else:
        lines = text.split("\n")
        yield from (_line(number, line) for number, line in enumerate(lines, 1) if line.strip())


def _unzipped(data: bytes, where: str) -> bytes:
    if data[:2] == b"\x1f\x8b":
        inflate = zlib.decompressobj(wbits=31)
        try:
            found = inflate.decompress(data, MAX_BYTES + 1)
            while inflate.eof and inflate.unused_data[:2] == b"\x1f\x8b" and len(found) <= MAX_BYTES:
                rest, inflate = inflate.unused_data, zlib.decompressobj(wbits=31)
                found += inflate.decompress(rest, MAX_BYTES + 1 - len(found))
        except zlib.error as error:
            raise CorpusError(f"{where}: is a damaged gzip file ({error}); copy it again") from None
        if len(found) <= MAX_BYTES and not inflate.eof:
            raise CorpusError(f"{where}: is a truncated gzip file; copy it again")
        data = found
    if len(data) > MAX_BYTES:
        raise CorpusError(f"{where}: holds more than {MAX_BYTES >> 20} MB; cut it into several files")
    return data


def _text(data: bytes) -> str | None:
    """The file as text; None where only some of its lines are (they are judged one by one then)."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        high = [line for line in data.split(b"\n") if not line.isascii()]
        good = sum(_decodes(line, "utf-8") for line in high)
        if 2 * good >= len(high) and good:
            return None
    for encoding in ("gb18030", "big5"):
        if _decodes(data, encoding):
            return data.decode(encoding)
    return None


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _line(number: int, line: bytes | str) -> Raw:
    if isinstance(line, bytes):
        try:
            line = line.decode("utf-8-sig")
        except UnicodeDecodeError:
            return Raw(number, None, NOT_TEXT, line.decode("utf-8", "replace")[:SHOWN_CHARS])
    return _parsed(number, line)


def _parsed(number: int, text: str) -> Raw:
    try:
        return Raw(number, json.loads(text))
    except (RecursionError, ValueError):
        return Raw(number, None, NOT_JSON, readable(text))


def _is_lines(body: str) -> bool:
    """Whether a file that begins with `[` is JSON lines, each a list."""
    first, _, rest = body.partition("\n")
    if not rest.lstrip().startswith("["):
        return False
    try:
        return isinstance(json.loads(first), list)
    except (RecursionError, ValueError):
        return False


def _object(body: str) -> dict[str, Any] | None:
    try:
        whole = json.loads(body)
    except (RecursionError, ValueError):
        return None
    return whole if isinstance(whole, dict) else None


def _inside(whole: dict[str, Any]) -> Iterator[Raw]:
    """A file that is one object: a row of its own, or a wrapper around the list of rows."""
    from understudy.interchange.shapes import shape_of

    lists = [value for value in whole.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if shape_of(whole) is None and len(lists) == 1:
        yield from (Raw(number, value) for number, value in enumerate(lists[0], 1))
    else:
        yield Raw(1, whole)


def _array(body: str) -> Iterator[Raw]:
    """The elements of a JSON array; of a broken one, those that stand whole between its borders."""
    try:
        yield from (Raw(number, value) for number, value in enumerate(json.loads(body), 1))
        return
    except (RecursionError, ValueError):
        pieces = _pieces(body)
    at, number = 0, 0
    while at < len(pieces):
        number += 1
        row, taken = Raw(number, None, NOT_JSON, readable(pieces[at])), 1
        for more in range(1, min(LOOKAHEAD, len(pieces) - at) + 1):
            found = _parsed(number, "".join(pieces[at : at + more]).rstrip().rstrip(",").rstrip())
            if not found.reason:
                row, taken = found, more
                break
        yield row
        at += taken


def _pieces(body: str) -> list[str]:
    """A broken array cut where its elements seem to begin.

    Where each stands on a line of its own: at every line with the first one's space before it that closes nothing. Else
    after a comma, where an object begins with the same key as the first.
    """
    begin = re.match(r"\[(\s*)([{\[]\s*(?:\"[^\"]*\")?)?", body)
    assert begin is not None
    space, first = begin[1], begin[2] or ""
    border = rf"{re.escape(space[space.rindex(chr(10)) :])}(?=[^\s}}\]])" if "\n" in space else ""
    pattern = re.compile(border or rf",\s*(?={re.escape(first)})")
    inner = body[:-1].rstrip() if body.endswith("]") else body
    starts = sorted({begin.end(1), *(found.end() for found in pattern.finditer(inner, 1))})
    ends = [*starts[1:], len(inner)]
    return [inner[start:end] for start, end in zip(starts, ends, strict=True) if inner[start:end].strip()]


def _parquet(data: bytes, where: str) -> Iterator[Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        for batch in file.iter_batches(batch_size=4096):
            for value in batch.to_pylist():
                number += 1
                yield Raw(number, value)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{where}: is a damaged Parquet file ({' '.join(str(error).split())[:120]})") from None


def readable(text: str) -> str:
    """The first characters of a row, fit to be kept as UTF-8."""
    return text[:SHOWN_CHARS].encode("utf-8", "replace").decode("utf-8")

"""A sample of files by their bytes: which ones, how much of each, and that much of a file as a file of its own.

Points are set evenly over all bytes in a random order of the files, so that a large file is drawn more often; every
point stands for as many bytes as any other, and a mean over the points is one over the corpus.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from understudy.errors import CorpusError
from understudy.reading.kinds import ending, unpacked_name
from understudy.reading.source import FREE_UNPACKED, Source, opened

SHARE = 0.01
LEAST_BYTES = 1 << 20
"""Of a small corpus more than 1 % is read; one that is no larger than this, whole."""
PIECE_BYTES = 64 << 10
LEAST_POINTS, MOST_POINTS = 48, 100
CUT = (".txt", ".text", ".md", ".markdown", ".jsonl", ".ndjson", ".csv", ".tsv", "")
"""Files of which a part can be read by itself."""
_WIDE = (b"\xff\xfe", b"\xfe\xff")


def drawn(sizes: Sequence[int], seed: int) -> dict[int, tuple[int, int]]:
    """(points, bytes) to read by number of the file; every file whole where all of them are small."""
    total = sum(sizes)
    if total <= LEAST_BYTES:
        return {number: (1, size) for number, size in enumerate(sizes)}
    wanted = max(LEAST_BYTES, int(SHARE * total))
    count = max(LEAST_POINTS, min(MOST_POINTS, wanted // PIECE_BYTES))
    rng = random.Random(seed)
    order = list(range(len(sizes)))
    rng.shuffle(order)
    ends = list(itertools.accumulate(sizes[number] for number in order))
    first = rng.random()
    points: Counter[int] = Counter()
    at = 0
    for number in range(count):
        where = (number + first) * total / count
        while ends[at] <= where:
            at += 1
        points[order[at]] += 1
    return {number: (times, times * wanted // count) for number, times in points.items()}


def cut(location: str, most: int, folder: Path) -> tuple[str, int]:
    """(a file with the beginning of another one, of its bytes as it lies there so many); itself where it is short.

    Whole rows, unpacked. A file that cannot be cut or read stays as it is.
    """
    try:
        with opened(location) as source:
            if source.size <= 1.5 * most:
                return location, source.size
            if ending(location) == ".parquet":
                return _cut_table(source, most, folder)
            return _cut_text(source, most, folder) if ending(location) in CUT else (location, source.size)
    except CorpusError:
        return location, 0  # it is set aside, and says why


def _cut_text(source: Source, most: int, folder: Path) -> tuple[str, int]:
    data, used = _unpacked(source, most) if source.packed else (source.stream().read(most), most)
    end = len(data) & ~1 if data.startswith(_WIDE) else data.rfind(b"\n") + 1 or len(data)
    if not end:
        return source.location, source.size
    target = _target(source, folder)
    target.write_bytes(data[:end])
    return str(target), round(used * end / len(data))


def _unpacked(source: Source, most: int) -> tuple[bytes, int]:
    """(the beginning of a gzip file, of so many packed bytes); nothing where it is damaged or grows as no text does."""
    inner = zlib.decompressobj(wbits=31)
    source.file.seek(0)
    data = b""
    used = 0
    while used < most and (more := source.file.read(1 << 12)):
        try:
            data += inner.decompress(more, FREE_UNPACKED)
        except zlib.error:
            return b"", 0
        used += len(more)
        if inner.unconsumed_tail or len(data) > FREE_UNPACKED:
            return b"", 0
    return data, used


def _cut_table(source: Source, most: int, folder: Path) -> tuple[str, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(source.seekable())
        rows = table.metadata.num_rows
        wanted = max(1, round(rows * most / source.size))
        kept = pa.Table.from_batches(_batches(table, wanted), schema=table.schema_arrow)
    except (pa.ArrowException, OSError):
        return source.location, source.size
    target = _target(source, folder)
    pq.write_table(kept, target)
    return str(target), round(source.size * kept.num_rows / max(1, rows))


def _batches(table: Any, rows: int) -> Iterator[Any]:
    for batch in table.iter_batches(batch_size=min(rows, 1000)):
        yield batch.slice(0, rows)
        rows -= batch.num_rows
        if rows <= 0:
            return


def _target(source: Source, folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder / Path(unpacked_name(source.location) if source.packed else source.location).name

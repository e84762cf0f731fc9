"""The files of one work while they are made: lines, text and rows set aside, in row groups and with their digests.

    with WorkFiles(owners, text=True) as files:
        files.add(chunk)                    # as often as there is something; memory is that of one row group
        files.close()
        files.put(store, key)               # {file name: digest}

They lie in nameless files of this machine, so that nothing stays of them when the process is killed. The digests are
those of `record.table_digest` and, for each persona, of `dataset.persona_view`, added up as the rows come.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring
from operator import attrgetter
from typing import IO, Any

from understudy.dataset import schemas
from understudy.lines import Line
from understudy.reading.works import Chunk
from understudy.record import canonical
from understudy.script import name_key
from understudy.store import Store

GROUP = 20_000
"""Lines of one row group."""
_MODULUS = 1 << 256


class WorkFiles:
    """See the module."""

    def __init__(self, owners: Mapping[str, str], text: bool) -> None:
        """`owners`: persona by `name_key` of every name that holds here. `text`: whether the text is kept beside."""
        self.owners = owners
        self.personas: dict[str | None, str | None] = {}
        self.lines: list[Line] = []
        self.lines_file = _TableFile("lines")
        self.dropped_file: _TableFile | None = None
        self.text: IO[bytes] | None = tempfile.TemporaryFile() if text else None  # noqa: SIM115 - closed by `__exit__`
        self.text_digest = hashlib.sha256()
        self.views = _Views()
        self.kinds: Counter[str] = Counter()
        self.read_as: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.silent = 0
        """Chunks in which nobody was found to speak, kept for a model to read."""
        self.spoken: Counter[str] = Counter()
        self.written: dict[str, str] = {}
        self.characters = self.unassigned = self.open = 0
        self.least_sure = 1.0
        """Confidence of the speaker of whom the reader was least sure."""
        self.method = ""

    def add(self, chunk: Chunk) -> None:
        """Some more of the file, in order."""
        self.characters += len(chunk.text)
        if self.text is not None and chunk.text:
            data = chunk.text.encode()
            self.text.write(data)
            self.text_digest.update(data)
        if chunk.reason:
            self.reasons[chunk.reason] += 1
            self.dropped_file = self.dropped_file or _TableFile("dropped")
            self.dropped_file.add([_set_aside(chunk)])
            return
        self.read_as[chunk.kind] += 1
        self.silent += chunk.silent
        if not self.method:
            self.method = next((line.method for line in chunk.lines if line.kind == "speech"), "")
        self.lines += chunk.lines
        if len(self.lines) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        rows = [self._row(line) for line in self.lines]
        self.lines_file.write(_columns(self.lines, [persona for persona, _ in rows]), [text for _, text in rows])
        self.lines.clear()

    def _row(self, line: Line) -> tuple[str | None, str]:
        """(persona, the row as canonical JSON), counted."""
        speaker = line.speaker
        if speaker not in self.personas:
            self.personas[speaker] = self.owners.get(name_key(speaker)) if speaker else None
        persona = self.personas[speaker]
        self.kinds[line.kind] += 1
        if line.kind == "speech":
            self.unassigned += persona is None
            if speaker:
                self.spoken[speaker] += 1
                self.least_sure = min(self.least_sure, line.confidence)
            else:
                self.open += 1
        quoted = encode_basestring
        name = quoted(speaker) if speaker is not None else "null"
        owner = quoted(persona) if persona is not None else "null"
        text, work, scene = quoted(line.text), quoted(line.work), quoted(line.scene)
        identity, kind = quoted(line.line_id), quoted(line.kind)
        if self.owners:
            front = f'{{"index":{line.index},"kind":{kind},"line_id":{identity},"persona":'
            self.views.add(
                line.work,
                persona if line.kind == "speech" else None,
                front,
                f',"scene":{scene},"speaker":{name},"text":{text},"work":{work}}}',
            )
        directions = canonical(line.directions).decode() if line.directions else "[]"
        return persona, (
            f'{{"confidence":{float(line.confidence)!r},"directions":{directions},"end":{line.end},'
            f'"index":{line.index},"kind":{kind},"line_id":{identity},"method":{quoted(line.method)},'
            f'"persona":{owner},"scene":{scene},"speaker":{name},"start":{line.start},"text":{text},"work":{work}}}'
        )

    def close(self) -> None:
        """No more is added: the counts are whole."""
        if self.lines:
            self._flush()
        self.lines_file.close()
        if self.dropped_file is not None:
            self.dropped_file.close()
        self.views.close()

    def __enter__(self) -> WorkFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for table in (self.lines_file, self.dropped_file):
            if table is not None:
                table.writer.close()
                table.file.close()
        if self.text is not None:
            self.text.close()

    @property
    def speakers(self) -> Counter[str]:
        """Speeches for each speaker as written first, spellings that differ only in case or space taken together."""
        counts: Counter[str] = Counter()
        written: dict[str, str] = {}
        for speaker, count in self.spoken.items():
            counts[written.setdefault(name_key(speaker), speaker)] += count
        return counts

    def counts(self) -> dict[str, Any]:
        """What a record says of the lines, when all are added."""
        return {
            "lines": self.kinds.total(),
            "speeches": self.kinds["speech"],
            "unassigned": self.unassigned,
            "open": self.open,
            "least_sure": self.least_sure,
            "kinds": dict(sorted(self.kinds.items())),
            "speakers": sorted(map(name_key, self.speakers)),
            "views": self.views.digests,
        }

    def put(self, store: Store, key: str) -> dict[str, str]:
        """Put the files below `key`; digest by name."""
        store.put_file(f"{key}/lines.parquet", self.lines_file.file)
        outputs = {"lines.parquet": self.lines_file.digest}
        if self.text is not None:
            store.put_file(f"{key}/text.txt", self.text)
            outputs["text.txt"] = self.text_digest.hexdigest()
        if self.dropped_file is not None:
            store.put_file(f"{key}/dropped.parquet", self.dropped_file.file)
            outputs["dropped.parquet"] = self.dropped_file.digest
        return outputs


class _TableFile:
    """A Parquet file that grows by row groups."""

    def __init__(self, name: str) -> None:
        import pyarrow.parquet as pq

        self.schema = getattr(schemas(), name)
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its owner
        self.writer = pq.ParquetWriter(self.file, self.schema, compression="zstd")
        self.total = self.count = 0
        self.held: list[dict[str, Any]] = []

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Rows as mappings, written when there are enough."""
        self.held += rows
        if len(self.held) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        table = pa.Table.from_pylist(self.held, schema=self.schema)
        self.write(table, [canonical(row).decode() for row in table.to_pylist()])
        self.held.clear()

    def write(self, table: Any, rows: Iterable[str]) -> None:
        """A row group, with its rows as canonical JSON."""
        self.writer.write_table(table)
        for row in rows:
            self.total += int.from_bytes(hashlib.sha256(row.encode()).digest(), "big")
            self.count += 1

    def close(self) -> None:
        """Write what is held, and the end of the file."""
        if self.held:
            self._flush()
        self.writer.close()

    @property
    def digest(self) -> str:
        """As `record.table_digest` gives it for the table."""
        return f"{self.count}:{self.total % _MODULUS:064x}"


def _columns(lines: list[Line], personas: list[str | None]) -> Any:
    """A table of lines, column by column: a tenth of the time that rows as dictionaries take."""
    import pyarrow as pa

    schema = schemas().lines
    columns = (personas if name == "persona" else list(map(attrgetter(name), lines)) for name in schema.names)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


class _Views:
    """The digest of every persona's view of the lines: of a work it speaks in all rows, marked as its own or not."""

    def __init__(self) -> None:
        self.totals: dict[str, tuple[int, int]] = {}
        self.work = ""
        self._begin()

    def _begin(self) -> None:
        self.total = self.count = 0
        self.own: dict[str, int] = {}

    def add(self, work: str, persona: str | None, front: str, back: str) -> None:
        """A row, as JSON in front of the persona and behind it."""
        if work != self.work:
            self._end()
            self.work = work
        unowned = _number(f"{front}null{back}")
        self.total += unowned
        self.count += 1
        if persona is not None:
            owned = _number(f"{front}{encode_basestring(persona)}{back}")
            self.own[persona] = self.own.get(persona, 0) + owned - unowned

    def _end(self) -> None:
        for persona, more in self.own.items():
            count, total = self.totals.get(persona, (0, 0))
            self.totals[persona] = count + self.count, total + self.total + more
        self._begin()

    def close(self) -> None:
        """The last work is whole."""
        self._end()

    @property
    def digests(self) -> dict[str, str]:
        """By persona, as `record.rows_digest` gives them."""
        return {name: f"{count}:{total % _MODULUS:064x}" for name, (count, total) in sorted(self.totals.items())}


def _number(row: str) -> int:
    return int.from_bytes(hashlib.sha256(row.encode()).digest(), "big")


def _set_aside(chunk: Chunk) -> dict[str, Any]:
    work = chunk.work
    return {"persona": None, "work": work, "scene": None, "lines": [], "text": chunk.shown, "reason": chunk.reason}

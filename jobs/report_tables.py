"""What a report reads of tables and texts: columns by Arrow, a bounded and seeded part of a large production."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.stage import read_latest
from understudy.corpus import Work, read_bytes
from understudy.errors import CorpusError, MissingError, StoreError
from understudy.record import Record, output_key, read_record
from understudy.reporting.excerpts import clusters, excerpt, spans_of
from understudy.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 300_000
"""Rows of the lines, and of the conversations, that a report looks at."""
MOST_TEXT_BYTES = 128 << 20
"""Bytes of source texts that are read for excerpts."""
MOST_EXCERPTS = 3
"""Excerpts of one sample."""


@dataclass(frozen=True)
class Made:
    """What one stage left last, by unit."""

    stage: str
    records: Mapping[str, Record]
    keys: Mapping[str, str]

    @classmethod
    def of(cls, store: Store, recipe: str, stage: str) -> Made:
        """From the store; units whose record is gone are left out."""
        records: dict[str, Record] = {}
        keys: dict[str, str] = {}
        for unit, fp in read_latest(store, recipe, stage).items():
            key = output_key(recipe, stage, fp)
            if record := read_record(store, key):
                records[unit], keys[unit] = record, key
        return cls(stage, records, keys)

    def with_file(self, name: str) -> list[str]:
        """Units that have a file of this name."""
        return [unit for unit, record in self.records.items() if name in record.outputs]


@dataclass(frozen=True)
class Tables:
    """Some units' tables, in a seeded order, up to MOST_ROWS rows."""

    by_unit: Mapping[str, pa.Table]
    total: int
    """Units that there are."""

    @classmethod
    def of(cls, store: Store, made: Made, name: str, seed: int) -> Tables:
        """Tables called `name` of as many units as there is room for."""
        units = sorted(made.with_file(name))
        random.Random(seed).shuffle(units)
        found: dict[str, pa.Table] = {}
        rows = 0
        for unit in units:
            if rows >= MOST_ROWS:
                break
            try:
                found[unit] = store.read_table(f"{made.keys[unit]}/{name}")
            except StoreError:
                continue  # taken away meanwhile, or damaged: a report is no place to stop for it
            rows += found[unit].num_rows
        return cls(found, len(units))

    @property
    def whole(self) -> bool:
        """Whether nothing was left out."""
        return len(self.by_unit) == self.total

    @property
    def rows(self) -> int:
        """Rows in all tables that were read."""
        return sum(table.num_rows for table in self.by_unit.values())


@dataclass
class LinesSeen:
    """What the lines say of who speaks."""

    kinds: Counter[str] = field(default_factory=Counter)
    speakers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Lines by speaker as written and persona; empty strings for nobody."""
    lengths: list[int] = field(default_factory=list)
    confidence: list[tuple[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, tables: Tables) -> LinesSeen:
        """Over all tables that were read."""
        pc = compute()
        seen = cls()
        for table in tables.by_unit.values():
            seen.kinds.update(table["kind"].to_pylist())
            speech = table.filter(pc.equal(table["kind"], "speech"))
            seen.speakers.update(
                (speaker or "", persona or "")
                for speaker, persona in zip(speech["speaker"].to_pylist(), speech["persona"].to_pylist(), strict=True)
            )
            seen.lengths += [length or 0 for length in pc.utf8_length(speech["text"]).to_pylist()]
            said = zip(speech["method"].to_pylist(), speech["confidence"].to_pylist(), strict=True)
            seen.confidence += [(method or "", sure or 0.0) for method, sure in said]
        return seen

    @property
    def speeches(self) -> int:
        """Lines that somebody says."""
        return self.kinds["speech"]

    @property
    def attributed(self) -> int:
        """Speeches with a speaker."""
        return sum(n for (speaker, persona), n in self.speakers.items() if speaker or persona)

    @property
    def of_the_cast(self) -> int:
        """Speeches of a persona."""
        return sum(n for (_, persona), n in self.speakers.items() if persona)


def compute() -> Any:
    """pyarrow.compute; its functions are made when it is imported, so no type checker knows them."""
    import pyarrow.compute as pc

    return pc


def chosen_lines(tables: Tables, wanted: Any, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` speeches, drawn, for which `wanted(table)` (an Arrow mask) holds."""
    pc = compute()
    rng = random.Random(seed)
    found: list[dict[str, Any]] = []
    for unit in sorted(tables.by_unit):
        table = tables.by_unit[unit]
        rows = table.filter(pc.and_(pc.equal(table["kind"], "speech"), wanted(table)))
        picked = sorted(rng.sample(range(rows.num_rows), min(count, rows.num_rows)))
        found += rows.take(picked).to_pylist() if picked else []
    return rng.sample(found, min(count, len(found)))


def learned_lengths(table: pa.Table) -> tuple[list[str], list[int]]:
    """The method of each conversation, and the characters of each learned message."""
    pc = compute()
    messages = pc.list_flatten(table["messages"])
    learned = messages.filter(pc.fill_null(pc.struct_field(messages, "loss"), fill_value=False))
    lengths = pc.utf8_length(pc.struct_field(learned, "content")).to_pylist()
    return pc.struct_field(table["provenance"], "method").to_pylist(), [length or 0 for length in lengths]


def drawn_conversations(tables: Tables, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` rows, drawn so that every persona and method has its turn."""
    pc = compute()
    rng = random.Random(seed)
    buckets: dict[tuple[str, str], list[int]] = {}
    for unit in sorted(tables.by_unit):
        methods = pc.struct_field(tables.by_unit[unit]["provenance"], "method").to_pylist()
        for row, method in enumerate(methods):
            buckets.setdefault((unit, method or ""), []).append(row)
    order = list(buckets)
    rng.shuffle(order)
    picked: dict[str, list[int]] = {}
    left = count
    while left and order:
        for bucket in list(order):
            rows = buckets[bucket]
            if not rows:
                order.remove(bucket)
            elif left:
                picked.setdefault(bucket[0], []).append(rows.pop(rng.randrange(len(rows))))
                left -= 1
    return [row for unit, rows in sorted(picked.items()) for row in tables.by_unit[unit].take(sorted(rows)).to_pylist()]


class Sources:
    """Excerpts of the texts behind samples; each text is read once, after all are asked for."""

    def __init__(self, store: Store, extract: Made, works: Iterable[Work]):
        self.store, self.extract = store, extract
        self.works = {work.name: work for work in works}
        self.asked: list[tuple[dict[str, Any], str | None, Sequence[str]]] = []

    def link(self, item: dict[str, Any], persona: str | None, line_ids: Sequence[str]) -> dict[str, Any]:
        """Give `item` its `links` when excerpts are made; returns it."""
        item["links"] = []
        if line_ids:
            self.asked.append((item, persona, line_ids))
        return item

    def excerpts(self) -> list[dict[str, Any]]:
        """All excerpts with their ids, the links of the items set."""
        wanted: dict[str, set[str]] = {}
        for _, _, line_ids in self.asked:
            for line_id in line_ids:
                wanted.setdefault(_work_of(line_id), set()).add(line_id)
        rows: dict[str, Mapping[str, Any]] = {}
        texts: dict[str, str] = {}
        room = MOST_TEXT_BYTES
        for work in sorted(wanted):
            text = self._text(work, room)
            if text is not None:
                texts[work] = text
                room -= len(text)
                rows.update(self._rows(work, wanted[work]))
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for item, persona, line_ids in self.asked:
            for link in self._links(persona, line_ids, rows, texts, found):
                item["links"].append(link)
        return list(found.values())

    def _links(
        self,
        persona: str | None,
        line_ids: Sequence[str],
        rows: Mapping[str, Mapping[str, Any]],
        texts: Mapping[str, str],
        found: dict[tuple[Any, ...], dict[str, Any]],
    ) -> Iterator[dict[str, Any]]:
        by_work: dict[str, list[Mapping[str, Any]]] = {}
        for line_id in line_ids:
            if line_id in rows:
                by_work.setdefault(_work_of(line_id), []).append(rows[line_id])
        spans = [(work, group) for work, own in by_work.items() for group in clusters(spans_of(own, persona))]
        for work, group in spans[:MOST_EXCERPTS]:
            address = (work, *group)
            if address not in found:
                try:
                    found[address] = {"id": f"s{len(found) + 1}", "work": work, **excerpt(texts[work], group)}
                except ValueError:
                    continue  # the text is another one than it was
            one = found[address]
            yield {"id": one["id"], "work": work, "start": group[0][0], "end": group[-1][1]}

    def _rows(self, work: str, line_ids: set[str]) -> dict[str, Mapping[str, Any]]:
        import pyarrow as pa

        pc = compute()
        unit = self._unit(work)
        try:
            table = self.store.read_table(f"{self.extract.keys[unit]}/lines.parquet")
        except StoreError:
            return {}
        own = table.filter(pc.is_in(table["line_id"], pa.array(sorted(line_ids))))
        return {row["line_id"]: row for row in own.to_pylist()}

    def _unit(self, work: str) -> str:
        """The unit that a work belongs to: itself, or the table file of which it is a row."""
        return work if work in self.extract.keys else work.rpartition(".")[0]

    def _text(self, work: str, room: int) -> str | None:
        unit = self._unit(work)
        if unit not in self.extract.keys:
            return None
        record = self.extract.records[unit]
        if int(record.counts.get("characters") or 0) > room:
            return None
        return source_text(self.store, self.extract.keys[unit], record, self.works.get(unit), work)


def source_text(store: Store, key: str, record: Record, work: Work | None, name: str) -> str | None:
    """The decoded text of a work, or None where it is not there any more as it was read."""
    for kept in (f"{name}.txt", "text.txt"):
        try:
            return store.get(f"{key}/{kept}").decode("utf-8", "replace")
        except MissingError:
            continue
    if work is None or work.name != name:
        return None
    try:
        raw = read_bytes(work.location)
    except (CorpusError, StoreError):
        return None
    if hashlib.sha256(raw).hexdigest() not in record.inputs.values():
        return None
    encoding = record.counts.get("encoding")
    codec = str(encoding.get("name", "utf-8")) if isinstance(encoding, Mapping) else "utf-8"
    try:
        return raw.decode(codec).removeprefix("\ufeff")
    except (LookupError, UnicodeError):
        return None


def _work_of(line_id: str) -> str:
    return line_id.rpartition(":")[0]

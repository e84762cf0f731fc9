"""Rows of many tables as one list: filtered by Arrow, read a page at a time.

A place is `table number:row`; a page goes on behind a place, so rows that leave a filter while somebody reads
do not shift the next page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from understudy.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ON_A_PAGE = 200


@dataclass(frozen=True)
class Filter:
    """What a person wants to see; an empty field lets everything through."""

    persona: str = ""
    """A persona's id; `-` is nobody in the cast."""
    work: str = ""
    """A work (lines) or a unit such as `bram:gifts` (samples)."""
    below: float | None = None
    """Only lines with less confidence."""
    reason: str = ""
    """Only what cleaning dropped for this reason; `*`: for any."""
    status: str = ""
    """`open`: nothing decided, `decided`, or one of keep, edit, fix, drop."""
    text: str = ""
    """Only rows in which this occurs, without case."""
    generated: bool = False
    """Only samples that a model wrote."""


@dataclass(frozen=True)
class Page:
    """Some rows of a list."""

    places: tuple[str, ...]
    total: int
    """Rows in the list."""
    before: int
    """Rows of the list before this page."""
    more: bool


def place_of(text: str, tables: Sequence[Any]) -> tuple[int, int]:
    """(table, row) of a place; InputError for one that is none."""
    table, _, row = text.partition(":")
    if not (table.isdecimal() and row.isdecimal()) or int(table) >= len(tables):
        raise InputError(f"{text[:40]!r} is no place of this list")
    if int(row) >= tables[int(table)].num_rows:
        raise InputError(f"{text[:40]!r} is no place of this list")
    return int(table), int(row)


def page(rows: Sequence[Sequence[int]], after: tuple[int, int] | None, limit: int) -> Page:
    """Up to `limit` places behind `after`; `rows` are the rows of each table that pass, in order."""
    limit = min(max(limit, 1), MOST_ON_A_PAGE)
    total = sum(map(len, rows))
    places: list[str] = []
    before = 0
    for number, own in enumerate(rows):
        start = 0
        if after is not None:
            start = len(own) if number < after[0] else _behind(own, after[1]) if number == after[0] else 0
        before += start
        places += [f"{number}:{row}" for row in own[start : start + limit - len(places)]]
        if len(places) == limit:
            break
    return Page(tuple(places), total, before, before + len(places) < total)


def _behind(rows: Sequence[int], row: int) -> int:
    from bisect import bisect_right

    return bisect_right(rows, row)


def line_mask(table: pa.Table, wanted: Filter) -> Any:
    """Which rows of a lines table pass the filter, decisions and reasons apart: an Arrow mask."""
    pc = compute()
    mask = pc.equal(table["kind"], "speech")
    if wanted.persona == "-":
        mask = pc.and_(mask, pc.is_null(table["persona"]))
    elif wanted.persona:
        mask = pc.and_(mask, pc.fill_null(pc.equal(table["persona"], wanted.persona), fill_value=False))
    if wanted.below is not None:
        mask = pc.and_(mask, pc.fill_null(pc.less(table["confidence"], wanted.below), fill_value=True))
    if wanted.work:
        mask = pc.and_(mask, pc.equal(table["work"], wanted.work))
    if wanted.text:
        said = pc.match_substring(table["text"], wanted.text, ignore_case=True)
        named = pc.match_substring(pc.fill_null(table["speaker"], ""), wanted.text, ignore_case=True)
        mask = pc.and_(mask, pc.or_(pc.fill_null(said, fill_value=False), named))
    return mask


def sample_mask(table: pa.Table, wanted: Filter) -> Any:
    """`line_mask` for a conversations table."""
    import pyarrow as pa

    pc = compute()
    mask = pa.chunked_array([pa.array([True] * table.num_rows, pa.bool_())])
    if wanted.persona:
        mask = pc.and_(mask, pc.equal(table["persona"], wanted.persona))
    if wanted.text:
        said = [
            any(wanted.text.casefold() in (message["content"] or "").casefold() for message in messages)
            for messages in table["messages"].to_pylist()
        ]
        mask = pc.and_(mask, pa.chunked_array([pa.array(said, pa.bool_())]))
    return mask


def passing(
    mask: Any, ids: Any, only: Collection[str] | None, judged: Callable[[Iterator[str]], list[bool]] | None
) -> list[int]:
    """The rows of a mask whose ids are among `only` and whom `judged` (ids to verdicts) lets through."""
    import pyarrow as pa

    pc = compute()
    if only is not None:
        mask = pc.and_(mask, pc.is_in(ids, pa.array(sorted(only), pa.string())))
    rows: list[int] = pc.indices_nonzero(mask).to_pylist()
    if judged is None or not rows:
        return rows
    names = ids.take(pa.array(rows)).to_pylist()
    return [row for row, good in zip(rows, judged(iter(names)), strict=True) if good]


def compute() -> Any:
    """pyarrow.compute; typed as anything, since its functions are made when it is loaded."""
    import pyarrow.compute as pc

    return pc

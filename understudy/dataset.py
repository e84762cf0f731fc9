"""The dataset: table schemas, filters that count, and the split.

    curated = curate(lines.to_pylist(), "adam", window=8, heldout=0.1, seed=0)
    store.write_table(key, conversations_table(curated.conversations))

Every dropped row is kept aside with its reason; nothing disappears without being counted. What other tools read and
write is in understudy/interchange.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import groupby, islice
from operator import itemgetter
from sys import intern
from typing import TYPE_CHECKING, Any

from understudy.conversation import (
    Conversation,
    Exchange,
    Message,
    Provenance,
    Row,
    Scene,
    build,
    cut_again,
    exchanges,
    is_said,
    scenes_of_work,
    split,
)
from understudy.errors import StoreError
from understudy.letters import letters

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
EMPTY, TOO_SHORT, DUPLICATE = "empty", "too short", "duplicate"
REASONS = (EMPTY, TOO_SHORT, DUPLICATE)


@dataclass(frozen=True)
class Schemas:
    """The three tables, each with `schema_version` in its metadata."""

    lines: pa.Schema
    conversations: pa.Schema
    dropped: pa.Schema


@cache
def schemas() -> Schemas:
    """Column names, types and order of every table; this is the only place that says them."""
    import pyarrow as pa

    version = {"schema_version": str(SCHEMA_VERSION)}
    direction = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("text", pa.string())])
    message = pa.struct([("role", pa.string()), ("name", pa.string()), ("content", pa.string()), ("loss", pa.bool_())])
    provenance = pa.struct(
        [
            ("work", pa.string()),
            ("lines", pa.list_(pa.string())),
            ("parents", pa.list_(pa.string())),
            ("method", pa.string()),
            ("prompt", pa.string()),
            ("model", pa.string()),
            ("seed", pa.int64()),
        ]
    )
    lines = [("line_id", pa.string()), ("work", pa.string()), ("scene", pa.string()), ("index", pa.int64())]
    lines += [(name, pa.string()) for name in ("kind", "speaker", "persona", "text")]
    lines += [("directions", pa.list_(direction)), ("start", pa.int64()), ("end", pa.int64())]
    lines += [("method", pa.string()), ("confidence", pa.float64())]
    conversations = [(name, pa.string()) for name in ("conversation_id", "persona", "split", "scene")]
    conversations += [("messages", pa.list_(message)), ("provenance", provenance)]
    dropped = [(name, pa.string()) for name in ("persona", "work", "scene")]
    dropped += [("lines", pa.list_(pa.string())), ("text", pa.string()), ("reason", pa.string())]
    dropped += [("source", pa.string()), ("conversation", pa.string())]
    return Schemas(*(pa.schema(fields, metadata=version) for fields in (lines, conversations, dropped)))


def lines_table(lines: Iterable[Any]) -> pa.Table:
    """The lines table of `Line`s or of mappings with their fields."""
    rows = (dict(line) if isinstance(line, Mapping) else asdict(line) for line in lines)
    return _table(({**row, "scene": str(row["scene"])} for row in rows), schemas().lines)


def conversations_table(conversations: Iterable[Conversation]) -> pa.Table:
    """The conversations table, a row each, in the order given."""
    return _table((conversation.row() for conversation in conversations), schemas().conversations)


def dropped_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The rows that a filter kept out: persona, work, scene, lines, text, reason, source, conversation."""
    return _table((dict(row) for row in rows), schemas().dropped)


def _table(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as one table, so many of them at a time as objects."""
    import pyarrow as pa

    left = iter(rows)
    parts = [pa.RecordBatch.from_pylist(part, schema=schema) for part in iter(lambda: list(islice(left, _ROWS)), [])]
    return pa.Table.from_batches(parts, schema=schema).combine_chunks()


def read_conversations(table: pa.Table, where: str = "conversations") -> list[Conversation]:
    """The conversations of a table; StoreError when it was written by a newer version."""
    check_version(table, where)
    return [conversation_of(row) for row in table.to_pylist()]


def conversation_of(row: Mapping[str, Any]) -> Conversation:
    """One row of the conversations table."""
    source = row["provenance"]
    return Conversation(
        row["conversation_id"],
        row["persona"],
        row["split"],
        row["scene"],
        tuple(Message(m["role"], m["content"], m["name"], bool(m["loss"])) for m in row["messages"]),
        Provenance(**{**source, "lines": tuple(source["lines"] or ()), "parents": tuple(source["parents"] or ())}),
    )


def check_version(table: pa.Table, where: str) -> None:
    """StoreError when a table carries a schema_version newer than this one."""
    found = (table.schema.metadata or {}).get(b"schema_version", b"1").decode()
    if not found.isdigit() or int(found) > SCHEMA_VERSION:
        raise StoreError(f"{where}: has schema_version {found}, newer than {SCHEMA_VERSION}; upgrade understudy")


@dataclass(frozen=True)
class Curated:
    """What became of one persona's lines, and of what else it is trained on."""

    conversations: list[Conversation]
    dropped: list[dict[str, Any]]
    counts: dict[str, Any]


def persona_view(rows: Iterable[Row], persona: str) -> list[dict[str, Any]]:
    """The rows as far as this persona's data depends on them: whose line it is matters only as mine or not mine.

    Its digest stays the same when another persona's aliases change, so nothing of this persona is made again. Works in
    which the persona does not speak are left out.
    """
    kept = ("line_id", "work", "scene", "index", "kind", "speaker", "text")
    own = [{**{name: row[name] for name in kept}, "persona": _mine(row, persona)} for row in rows]
    works = {row["work"] for row in own if row["persona"]}
    return [row for row in own if row["work"] in works]


def _mine(row: Row, persona: str) -> str | None:
    return persona if row["kind"] == "speech" and row["persona"] == persona else None


def curate(
    rows: Iterable[Row],
    persona: str,
    *,
    window: int = 8,
    heldout: float = 0.1,
    seed: int = 0,
    min_chars: int = 1,
    max_repeats: int = 1,
    kept: Collection[str] = (),
    judge: Callable[[Exchange], str] | None = None,
) -> Curated:
    """One persona's conversations from the lines of its works, filtered and split.

    A dropped turn of the persona is not learned, but stays as context where the scene goes on; `dropped` has a row for
    each with its reason. Rows of one work stand together; only what its scenes with the persona need of them is held.
    Counts are lines, turns (consecutive lines are one) and conversations. An answer with a line
    among `kept` (line_ids) passes every filter; `judge` gives a further reason to drop an answer, or nothing.
    """
    seen = _Seen(persona)
    cut = cut_again([scene for own in _by_work(rows) for scene in seen.scenes(own)], persona)
    splits = split(cut, heldout, seed)
    found = [exchange for scene in cut for exchange in exchanges(scene, persona, window)]
    # Training scenes come first: a held-out turn that repeats a trained one is the one to go.
    found.sort(key=lambda exchange: splits[exchange.scene] == "heldout")
    reasons = filter_exchanges(found, min_chars=min_chars, max_repeats=max_repeats, kept=kept, judge=judge)
    conversations = build(found, persona, splits, window=window, untrained=reasons.keys())
    dropped = [_dropped(persona, row["work"], str(row["scene"]), [row], EMPTY) for row in seen.silent]
    dropped += [_dropped(persona, *found[i].scene, found[i].reply, reason) for i, reason in reasons.items()]
    counts = _counts(seen.lines, conversations, dropped)
    return Curated(conversations, dropped, counts)


def _by_work(rows: Iterable[Row]) -> Iterator[list[Row]]:
    met: set[str] = set()
    for work, own in groupby(rows, key=itemgetter("work")):
        if work in met:
            raise StoreError(f"{work}: its lines do not stand together; run `understudy extract` anew with --force")
        met.add(work)
        yield list(own)


_ROWS = 4096
_TOLD = {"kind": "narration", "persona": None, "text": ""}
_SHARED = frozenset(("work", "scene", "kind", "speaker", "persona", "method"))


class _Seen:
    """One persona's view, work by work, as little of each as its conversations need."""

    def __init__(self, persona: str) -> None:
        self.persona = persona
        self.lines = 0
        self.silent: list[Row] = []
        """The persona's rows in which nothing is said."""

    def scenes(self, rows: Sequence[Row]) -> list[Scene]:
        """The scenes of one work, in which the persona speaks; rows stay where it does."""
        view = persona_view(rows, self.persona)
        if not view:
            return []
        for row, whole in zip(view, rows, strict=True):
            row["method"] = whole.get("method")  # an open line is known by it
        own = [row for row in view if row["persona"]]
        self.lines += len(own)
        self.silent += [row for row in own if not is_said(row)]
        found = scenes_of_work(view, self.persona)
        return [replace(scene, rows=tuple(map(_lean, scene.rows)) if scene.turns else ()) for scene in found]


def _lean(row: Row) -> Row:
    """The row with one string for each name that many rows share; of what is told, only that there is something."""
    if row["kind"] == "narration":
        return _TOLD
    return {name: intern(value) if name in _SHARED and value else value for name, value in row.items()}


def filter_exchanges(
    exchanges: Sequence[Exchange],
    *,
    min_chars: int,
    max_repeats: int,
    kept: Collection[str] = (),
    judge: Callable[[Exchange], str] | None = None,
) -> dict[int, str]:
    """Positions of the answers that are not to be learned, each with its reason.

    Too short: fewer than `min_chars` letters and digits. Duplicate: the same words after the same words were kept
    `max_repeats` times already; case, spaces and punctuation do not make a difference.
    """
    reasons: dict[int, str] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for position, exchange in enumerate(exchanges):
        heard = "\n".join(row["text"] for row in exchange.before) or exchange.opener
        key = (letters(heard), letters(exchange.text))
        if kept and any(row["line_id"] in kept for row in exchange.reply):
            seen[key] += 1
        elif len(key[1]) < min_chars:
            reasons[position] = TOO_SHORT
        elif judge and (reason := judge(exchange)):
            reasons[position] = reason
        elif seen[key] >= max_repeats:
            reasons[position] = DUPLICATE
        else:
            seen[key] += 1
    return reasons


def _dropped(persona: str, work: str, scene: str, rows: Sequence[Row], reason: str) -> dict[str, Any]:
    text = "\n".join(row["text"] for row in rows)
    lines = [row["line_id"] for row in rows]
    address = {"persona": persona, "work": work, "scene": scene, "lines": lines}
    return {**address, "text": text, "reason": reason, "source": "lines", "conversation": None}


def _counts(lines: int, conversations: Sequence[Conversation], dropped: Sequence[Row]) -> dict[str, Any]:
    sides = Counter(conversation.split for conversation in conversations)
    turns = Counter(c.split for c in conversations for message in c.messages if message.loss)
    held = {(c.provenance.work, c.scene) for c in conversations if c.split == "heldout"}
    reasons = Counter(row["reason"] for row in dropped)
    return {
        "lines": lines,
        "conversations": {"train": sides["train"], "heldout": sides["heldout"]},
        "turns": {"train": turns["train"], "heldout": turns["heldout"]},
        "heldout_scenes": len(held),
        "dropped": {reason: reasons[reason] for reason in (*REASONS, *(r for r in reasons if r not in REASONS))},
    }

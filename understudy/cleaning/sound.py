"""Rows that claim to be conversations: those that are, and why the others are not.

Rows come from files that other programs wrote. Nothing here raises for what stands in a row: a row is a conversation,
or it has a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from understudy.conversation import Conversation, Message, Provenance, Role, conversation_id

if TYPE_CHECKING:
    import pyarrow as pa

MALFORMED = "malformed"
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
LINE_TEXTS = ("line_id", "work", "kind", "text")


def conversation_or_reason(row: Any, persona: str | None = None) -> Conversation | str:
    """The conversation of a row, named anew by its content, or what is wrong with it.

    `persona`: whom it belongs to; None takes the row's own. A row made by hand may lack provenance, scene and split.
    """
    if not isinstance(row, Mapping):
        return "is no row"
    owner = persona or row.get("persona")
    if not isinstance(owner, str) or not owner:
        return "names no persona"
    given = row.get("messages")
    if not isinstance(given, list) or not given:
        return "has no messages"
    messages: list[Message] = []
    for number, message in enumerate(given):
        one = _message(message)
        if isinstance(one, str):
            return f"message {number} {one}"
        messages.append(one)
    if not any(message.loss for message in messages):
        return "has nothing to learn"
    source = row.get("provenance")
    if source is not None and not isinstance(source, Mapping):
        return "has a provenance that is no mapping"
    provenance = _provenance(source or {})
    if isinstance(provenance, str):
        return provenance
    scene = row.get("scene")
    identity = conversation_id(owner, messages, provenance)
    split = "heldout" if row.get("split") == "heldout" else "train"
    return Conversation(identity, owner, split, scene if isinstance(scene, str) else "", tuple(messages), provenance)


def _message(message: Any) -> Message | str:
    if not isinstance(message, Mapping):
        return "is no message"
    role = ROLES.get(message.get("role")) if isinstance(message.get("role"), str) else None  # type: ignore[arg-type]
    content, name, loss = message.get("content"), message.get("name"), message.get("loss")
    if role is None:
        return "has no role system, user or assistant"
    if not isinstance(content, str) or not content.strip() or not _encodable(content):
        return "has no text"
    if name is not None and (not isinstance(name, str) or not _encodable(name)):
        return "has a name that is no text"
    if loss is not None and not isinstance(loss, bool):
        return "has a loss that is neither true nor false"
    return Message(role, content, name or None, role == "assistant" and loss is not False)


def _provenance(source: Mapping[str, Any]) -> Provenance | str:
    texts = {name: source.get(name) for name in ("work", "method", "prompt", "model")}
    lists = {name: source.get(name) for name in ("lines", "parents")}
    seed = source.get("seed")
    if any(not isinstance(value, str | None) for value in texts.values()):
        return "has a provenance with something that is no text"
    for value in lists.values():
        if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            return "has a provenance with lines or parents that are no list of texts"
    if isinstance(seed, bool) or not isinstance(seed, int | None) or not -(2**63) <= (seed or 0) < 2**63:
        return "has a provenance with a seed that is no number"
    return Provenance(
        work=texts["work"] or "",
        lines=tuple(lists["lines"] or ()),
        parents=tuple(lists["parents"] or ()),
        method=texts["method"] or "imported",
        prompt=texts["prompt"],
        model=texts["model"],
        seed=seed,
    )


def line_problem(row: Any) -> str:
    """What is wrong with a row of a lines table, or nothing."""
    if not isinstance(row, Mapping):
        return "is no row"
    for name in LINE_TEXTS:
        if not isinstance(row.get(name), str) or not _encodable(row[name]):
            return f"has no {name}"
    if not isinstance(row.get("index"), int) or isinstance(row["index"], bool):
        return "has no index"
    if row.get("scene") is None:
        return "has no scene"
    for name in ("speaker", "persona"):
        if not isinstance(row.get(name), str | None):
            return f"has a {name} that is no text"
    return ""


def rows_of(table: pa.Table) -> Iterator[Any]:
    """The rows of a table as mappings; one that cannot be read (bytes that are no UTF-8) is None."""
    import pyarrow as pa

    for batch in table.to_batches(max_chunksize=4096):
        try:
            yield from batch.to_pylist()
        except (UnicodeDecodeError, pa.ArrowException, OverflowError, ValueError):
            for number in range(batch.num_rows):
                try:
                    yield batch.slice(number, 1).to_pylist()[0]
                except (UnicodeDecodeError, pa.ArrowException, OverflowError, ValueError):
                    yield None


def _encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8; half a surrogate pair cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

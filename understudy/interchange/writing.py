"""Conversations as rows of other trainers, and the rows as files.

    rows = rows_in("sharegpt", conversation, system="You are Adam.")
    count = write_file(Path("adam.json"), "sharegpt", conversations, system)

What a format cannot say is said in its function; everything else comes back as it was by `read_conversations_file`.
In all of them but `conversations` and `messages`, a user message with a name becomes `NAME: text`, users' messages in a
row become one, and what follows the last learned answer is left out. Where nothing is heard before an answer, the
user's text is empty; reading leaves it out again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from understudy.conversation import Conversation
from understudy.errors import InputError

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Turn:
    """What is said to the persona, and its answer."""

    system: str
    heard: str
    answer: str
    loss: bool


def to_alpaca(conversation: Conversation, system: str | None = None) -> Rows:
    """Alpaca rows: instruction, input, output, history, and system where there is one.

    Trainers learn the answers in `history` as well, so a conversation is cut where an answer is context only: that
    answer and what it answers are lost, each stretch of learned answers is a row. A system text in the middle of a
    conversation goes to the front.
    """
    rows = []
    for told, turns in _stretches(conversation, system):
        *before, last = turns
        history = [[turn.heard, turn.answer] for turn in before]
        row = {"instruction": last.heard, "input": "", "output": last.answer, "history": history}
        rows.append({**row, **({"system": told} if told else {})})
    return rows


def to_sharegpt(conversation: Conversation, system: str | None = None) -> Rows:
    """ShareGPT rows: `conversations` of {from: human|gpt, value} in strict alternation, and system where there is one.

    As with alpaca every answer is learned, so an answer that is context only cuts the conversation.
    """
    rows = []
    for told, turns in _stretches(conversation, system):
        said = [(("human", turn.heard), ("gpt", turn.answer)) for turn in turns]
        listed = [{"from": who, "value": text} for pair in said for who, text in pair]
        rows.append({"conversations": listed, **({"system": told} if told else {})})
    return rows


def to_xtuner(conversation: Conversation, system: str | None = None) -> Rows:
    """One XTuner row: `conversation` of {system, input, output}, `output_with_loss` false on what is context only."""
    turns = []
    for turn in _trimmed(_turns(conversation, system)):
        kept = {"system": turn.system, "input": turn.heard, "output": turn.answer}
        turns.append(kept if turn.loss else {**kept, "output_with_loss": False})
    return [{"conversation": turns}] if turns else []


def to_openai(conversation: Conversation, system: str | None = None) -> dict[str, Any]:
    """`{"messages": [...]}` as OpenAI's fine-tuning reads it; an answer that is context only has `weight` 0.

    With `system`, one system message stands in front: that text, then the conversation's own.
    """
    messages: list[dict[str, Any]] = []
    for message in conversation.messages:
        named = {"name": message.name} if message.name else {}
        context = {"weight": 0} if message.role == "assistant" and not message.loss else {}
        messages.append({"role": message.role, "content": message.content, **named, **context})
    if system:
        own = messages.pop(0)["content"] if messages and messages[0]["role"] == "system" else ""
        messages.insert(0, {"role": "system", "content": _joined([system, own])})
    return {"messages": messages}


def to_trl(conversation: Conversation, system: str | None = None) -> Rows:
    """TRL's conversational format, `messages` of {role, content}, for training with `assistant_only_loss`.

    It has no weights: an answer that is context only cuts the conversation, as with alpaca.
    """
    rows = []
    for told, turns in _stretches(conversation, system):
        rows.append({"messages": [*_system_message(told), *(m for turn in turns for m in _pair(turn))]})
    return rows


def to_prompt_completion(conversation: Conversation, system: str | None = None) -> Rows:
    """TRL's prompt and completion, a row for each learned answer with everything before it in the prompt.

    Only completions are learned, so nothing is lost but that the rows were one conversation.
    """
    rows, before, told = [], [], ""
    for turn in _turns(conversation, system):
        told = _joined([told, turn.system])
        heard, answer = _pair(turn)
        if turn.loss:
            rows.append({"prompt": [*_system_message(told), *before, heard], "completion": [answer]})
        before = [*before, heard, answer]
    return rows


def to_own(conversation: Conversation, system: str | None = None) -> Rows:
    """The row of the conversations table; nothing is lost. `system` is the persona's, and so left out here."""
    del system
    return [conversation.row()]


WRITERS: dict[str, tuple[Callable[..., Rows], str]] = {
    "alpaca": (to_alpaca, ".json"),
    "sharegpt": (to_sharegpt, ".json"),
    "xtuner": (to_xtuner, ".json"),
    "messages": (lambda conversation, system=None: [to_openai(conversation, system)], ".jsonl"),
    "trl": (to_trl, ".jsonl"),
    "prompt-completion": (to_prompt_completion, ".jsonl"),
    "conversations": (to_own, ".jsonl"),
}
"""Rows of a conversation, and the usual suffix of a file, by format."""


def rows_in(form: str, conversation: Conversation, system: str | None = None, named: bool = False) -> Rows:
    """The rows of one conversation; with `named`, each says its persona. InputError for an unknown format."""
    if form not in WRITERS:
        raise InputError(f"format {form}: unknown; valid: {', '.join(WRITERS)}")
    rows = WRITERS[form][0](conversation, system)
    if named and form != "conversations" and conversation.persona:
        return [{"persona": conversation.persona, **row} for row in rows]
    return rows


def write_file(
    path: Path, form: str, conversations: Iterable[Conversation], system: str | None = None, named: bool = False
) -> int:
    """Write `path` whole or not at all; returns how many rows it holds.

    `.parquet` gives a table, `.json` an array, anything else JSON lines; `.gz` after it compresses.
    """
    rows = (row for one in conversations for row in rows_in(form, one, system, named))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        if path.suffix == ".parquet":
            count = _write_parquet(part, form, list(rows))
        else:
            count = _write_text(part, rows, path.name)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _write_text(part: Path, rows: Iterator[Mapping[str, Any]], name: str) -> int:
    import gzip

    array = name.removesuffix(".gz").endswith(".json")
    count = 0
    # No time in the header: the same rows make the same bytes.
    raw = gzip.GzipFile(part, "wb", mtime=0) if name.endswith(".gz") else part.open("wb")
    with raw as file:
        file.write(b"[" if array else b"")
        for row in rows:
            before = (b",\n" if count else b"\n") if array else b""
            file.write(before + json.dumps(row, ensure_ascii=False).encode() + (b"" if array else b"\n"))
            count += 1
        file.write(b"\n]\n" if array else b"")
    return count


def _write_parquet(part: Path, form: str, rows: Rows) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from understudy.dataset import schemas

    schema = schemas().conversations if form == "conversations" else None
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), part, compression="zstd")
    return len(rows)


def dataset_info(files: Mapping[str, tuple[str, str, Rows]]) -> dict[str, Any]:
    """LLaMA-Factory's `dataset_info.json` for files by data set name: (file name, format, some of its rows).

    Optional columns are named only where the rows have them: LLaMA-Factory fails on a column that is not there.
    Formats that it cannot read (xtuner, prompt-completion, conversations) are left out.
    """
    return {
        name: {"file_name": file, **_description(form, rows)}
        for name, (file, form, rows) in files.items()
        if form in ("alpaca", "sharegpt", "messages", "trl")
    }


def _description(form: str, rows: Rows) -> dict[str, Any]:
    system = {"system": "system"} if any("system" in row for row in rows) else {}
    if form == "alpaca":
        columns = {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
        return {"formatting": "alpaca", "columns": {**columns, **system}}
    if form == "sharegpt":
        tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
        return {"formatting": "sharegpt", "columns": {"messages": "conversations", **system}, "tags": tags}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    return {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": {**tags, "system_tag": "system"}}


def _turns(conversation: Conversation, system: str | None) -> list[Turn]:
    """The conversation as turns, one an answer; what is heard after the last answer is left out."""
    turns: list[Turn] = []
    told, heard = [system or ""], []
    for message in conversation.messages:
        if message.role == "system":
            told.append(message.content)
        elif message.role == "user":
            heard.append(f"{message.name}: {message.content}" if message.name else message.content)
        else:
            turns.append(Turn(_joined(told), "\n".join(heard), message.content, message.loss))
            told, heard = [], []
    return turns


def _trimmed(turns: list[Turn]) -> list[Turn]:
    last = max((at for at, turn in enumerate(turns) if turn.loss), default=-1)
    return turns[: last + 1]


def _stretches(conversation: Conversation, system: str | None) -> list[tuple[str, list[Turn]]]:
    """(system text, turns) of each stretch of learned answers, for formats that cannot leave an answer unlearned."""
    turns = _turns(conversation, system)
    cuts = [-1, *(at for at, turn in enumerate(turns) if not turn.loss), len(turns)]
    told = _joined([turn.system for turn in turns])
    return [(told, turns[before + 1 : end]) for before, end in pairwise(cuts) if end > before + 1]


def _pair(turn: Turn) -> list[dict[str, Any]]:
    return [{"role": "user", "content": turn.heard}, {"role": "assistant", "content": turn.answer}]


def _system_message(text: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": text}] if text else []


def _joined(texts: list[str]) -> str:
    """System texts as one, the way that training and serving join them."""
    return "\n\n".join(text for text in texts if text)

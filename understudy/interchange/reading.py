"""Files of conversations that people already have, in whichever format they are.

    good, aside = read_conversations_file(data, "auto", "huanhuan", "huanhuan.json")

| format            | a row                                                                                      |
|-------------------|--------------------------------------------------------------------------------------------|
| alpaca            | `{instruction, input, output, history, system}`                                            |
| xtuner            | `{"conversation": [{system, input, output}, ...]}`                                         |
| sharegpt          | `{"conversations": [{from, value}, ...], system}`                                          |
| messages          | `{"messages": [{role, content, name, weight}, ...]}`: OpenAI and TRL                       |
| prompt-completion | `{prompt, completion}`, texts or lists of messages: TRL                                    |
| conversations     | our own table, as Parquet or JSON lines                                                    |
| lines             | `{role, content}` a row (also written `rloe`), rows in a row being one talk; or lists of it |

Where the roles of a list are names and not `user` and `assistant`, it is a piece of dialogue: the persona's lines are
learned, the others' are what it hears; without a persona every speaker gets conversations of their own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from understudy.conversation import (
    SCENE_LINES,
    Conversation,
    Message,
    Provenance,
    Scene,
    build,
    conversation_id,
    exchanges,
    is_said,
)
from understudy.errors import InputError
from understudy.interchange.rows import HALF_PAIR, Raw, readable, rows_of
from understudy.interchange.shapes import (
    MESSAGES,
    NOBODY,
    ROLES,
    RowError,
    Turn,
    are_chat_roles,
    chat_messages,
    chat_turns,
    line_turn,
    persona_named,
    shape_of,
)

Format = Literal["auto", "alpaca", "xtuner", "sharegpt", "messages", "prompt-completion", "conversations", "lines"]
UNKNOWN = "is in no format that we know"
NOTHING_TO_LEARN = "has no answer to learn"
_IN: dict[str, tuple[str, ...]] = {
    "alpaca": ("alpaca",),
    "xtuner": ("xtuner",),
    "sharegpt": ("sharegpt", "messages"),
    "messages": ("messages", "sharegpt", "dialogue"),
    "prompt-completion": ("prompt-completion",),
    "conversations": ("conversations",),
    "lines": ("line", "dialogue", "messages"),
}


def read_conversations_file(
    data: bytes,
    format: str,  # noqa: A002 - the recipe's word
    persona: str | None,
    where: str,
    names: Collection[str] = (),
) -> tuple[list[Conversation], list[dict[str, Any]]]:
    """(conversations, rows set aside) of one file; a broken row never raises.

    `where` is the name of the work that the conversations belong to. `persona` answers in all of them; None takes whom
    each row names (as written there), "" where it names nobody: `belonging_to` gives such a conversation its persona.
    `names` are further names of the persona, for lists of named speakers. Rows set aside: `{row, reason, text}`, row
    counted from 1. InputError for an unknown format; CorpusError when the file as a whole cannot be read.
    """
    if format != "auto" and format not in _IN:
        raise InputError(f"{where}: format {format!r} is unknown; valid: auto, {', '.join(_IN)}")
    return read_rows(rows_of(data, where), format, persona, where, names)


def read_rows(
    rows: Iterable[Raw], form: str, persona: str | None, where: str, names: Collection[str] = ()
) -> tuple[list[Conversation], list[dict[str, Any]]]:
    """`read_conversations_file` for rows that are parsed already."""
    good: list[Conversation] = []
    aside: list[dict[str, Any]] = []
    known = {_key(name) for name in (persona or "", *names) if name}
    work = re.sub(r"[^\w.-]+", "-", where)
    for numbers, value, raw in _grouped(rows):
        try:
            if raw is not None and raw.reason:
                raise RowError(raw.reason)
            good += _read(value, form, persona, known, work, numbers)
        except RowError as error:
            text = raw.text if raw is not None and raw.reason else _shown(value)
            aside.append({"row": numbers[0], "reason": str(error), "text": text})
    return _distinct(good), aside


def belonging_to(conversation: Conversation, persona: str) -> Conversation:
    """The conversation as `persona`'s, with the id that goes with it."""
    if conversation.persona == persona:
        return conversation
    again = re.search(r"-[0-9a-f]{16}(-\d+)$", conversation.conversation_id)
    identity = _identity(persona, conversation) + (again[1] if again else "")
    return replace(conversation, persona=persona, conversation_id=identity)


def _grouped(rows: Iterable[Raw]) -> Iterator[tuple[list[int], Any, Raw | None]]:
    """Each row by itself, but {role, content} lines that follow each other as one list with their row numbers.

    A line of the role `system` begins another list.
    """
    held: list[Raw] = []

    def flush() -> Iterator[tuple[list[int], Any, Raw | None]]:
        if held:
            yield [raw.number for raw in held], [raw.value for raw in held], None
            held.clear()

    for raw in rows:
        if not raw.reason and shape_of(raw.value) == "line":
            try:
                role, *_ = line_turn(raw.value)
            except RowError as error:
                yield [raw.number], raw.value, replace(raw, reason=str(error), text=_shown(raw.value))
                continue
            if ROLES.get(role.casefold()) == "system":
                yield from flush()
            held.append(raw)
            continue
        yield from flush()
        yield [raw.number], raw.value, raw
    yield from flush()


def _read(
    value: Any, form: str, persona: str | None, known: set[str], work: str, numbers: Sequence[int]
) -> list[Conversation]:
    shape = shape_of(value)
    if shape is None or (form != "auto" and shape not in _IN[form]):
        raise RowError(UNKNOWN if shape is None else f"is no {form} row")
    if shape == "conversations":
        return [_own(value, persona)]
    owner = persona if persona is not None else _utf8(persona_named(value) or "")
    lines = tuple(f"{work}:{number}" for number in numbers)
    if shape in MESSAGES:
        return [_conversation(MESSAGES[shape](value), owner, work, lines, shape)]
    turns = chat_turns(value)
    if are_chat_roles(turns):
        return [_conversation(chat_messages(turns), owner, work, lines, shape)]
    return _dialogue(turns, persona, known, work, lines)


def _conversation(
    messages: list[Message], persona: str, work: str, lines: tuple[str, ...], method: str
) -> Conversation:
    # A user's empty text is how most formats write that nobody spoke before.
    messages = [message for message in messages if message.content or message.role != "user"]
    if not any(message.loss and message.content.strip() for message in messages):
        raise RowError(NOTHING_TO_LEARN)
    for message in messages:
        _utf8(message.content, message.name or "")
    made = Conversation("", persona, "train", "", tuple(messages), Provenance(work=work, lines=lines, method=method))
    scene = hashlib.sha256(json.dumps([vars(message) for message in messages]).encode()).hexdigest()[:16]
    return replace(made, scene=scene, conversation_id=_identity(persona, made))


def _identity(persona: str, conversation: Conversation) -> str:
    """An id that stays when rows are put in before this one: where in its file it stands does not count."""
    return conversation_id(persona, conversation.messages, replace(conversation.provenance, lines=()))


def _dialogue(
    turns: Sequence[Turn], persona: str | None, known: set[str], work: str, lines: tuple[str, ...]
) -> list[Conversation]:
    """Named speakers' lines, as one persona hears them, or (without a persona) as each of them does."""
    for role, text, _, _ in turns:
        _utf8(role, text)
    left_out = [ROLES.get(role.casefold()) == "system" or role.casefold() in NOBODY for role, _, _, _ in turns]
    said = [(role, text) for (role, text, _, _), out in zip(turns, left_out, strict=True) if not out]
    speakers = {_key(role): role for role, _ in reversed(said)}
    if persona is not None and not known & set(speakers):
        raise RowError("nobody in it is called like the persona")
    numbered = lines if len(lines) == len(turns) else tuple(f"{lines[0]}.{n}" for n in range(len(turns)))
    spoken = [line for line, out in zip(numbered, left_out, strict=True) if not out]
    scene = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
    found: list[Conversation] = []
    for key in [None] if persona is not None else list(speakers):
        owner = persona if persona is not None else speakers[key or ""]
        mine = known if key is None else {key}
        rows = [
            {"work": work, "scene": scene, "index": index, "line_id": line, "kind": "speech", "speaker": role,
             "persona": owner if _key(role) in mine else None, "text": text}
            for index, (line, (role, text)) in enumerate(zip(spoken, said, strict=True))
        ]  # fmt: skip
        rows = [row for row in rows if is_said(row)]
        cut = [
            Scene(work, f"{scene}.{start // SCENE_LINES}", tuple(rows[start : start + SCENE_LINES]), 0)
            for start in range(0, len(rows), SCENE_LINES)
        ]
        heard = [exchange for part in cut for exchange in exchanges(part, owner, SCENE_LINES)]
        made = build(heard, owner, {part.key: "train" for part in cut}, window=SCENE_LINES)
        named = [replace(one, provenance=replace(one.provenance, method="dialogue")) for one in made]
        found += [replace(one, conversation_id=_identity(owner, one)) for one in named]
    if not found:
        raise RowError(NOTHING_TO_LEARN)
    return found


def _own(row: Mapping[str, Any], persona: str | None) -> Conversation:
    """A row of our own table."""
    from understudy.dataset import conversation_of

    try:
        found = conversation_of(row)
        sound = all(
            m.role in ("system", "user", "assistant")
            and isinstance(m.content, str)
            and (m.name is None or isinstance(m.name, str))
            for m in found.messages
        )
        texts = (found.conversation_id, found.persona, found.scene, found.provenance.work, found.provenance.method)
        sound = sound and all(isinstance(text, str) for text in texts) and found.split in ("train", "heldout")
    except (AttributeError, KeyError, TypeError) as error:
        raise RowError("is no row of a conversations table") from error
    if not sound:
        raise RowError("is no row of a conversations table")
    if not any(message.loss and message.content.strip() for message in found.messages):
        raise RowError(NOTHING_TO_LEARN)
    _utf8(*texts, *(part for m in found.messages for part in (m.content, m.name or "")))
    return found if persona is None else belonging_to(found, persona)


def _utf8(*texts: str) -> str:
    """The texts together; what cannot be written as UTF-8 is refused here, and not in the middle of a table."""
    joined = "".join(texts)
    try:
        joined.encode()
    except UnicodeEncodeError:
        raise RowError(HALF_PAIR) from None
    return joined


def _distinct(conversations: list[Conversation]) -> list[Conversation]:
    """Equal conversations get ids of their own: the second ends with -2."""
    seen: Counter[str] = Counter()
    found = []
    for one in conversations:
        seen[one.conversation_id] += 1
        again = seen[one.conversation_id]
        found.append(one if again == 1 else replace(one, conversation_id=f"{one.conversation_id}-{again}"))
    return found


def _key(name: str) -> str:
    from understudy.script import name_key

    return name_key(name) or name.casefold()


def _shown(value: Any) -> str:
    try:
        return readable(json.dumps(value, ensure_ascii=False, default=str))
    except (RecursionError, ValueError):
        return readable(repr(type(value)))

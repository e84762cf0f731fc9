"""Rows of other tools as chat messages, one function a format, and which format a row is in.

    shape = shape_of(row)                    # "alpaca", "xtuner", "sharegpt", "messages", ... or None
    messages = MESSAGES[shape](row)          # list[Message]; RowError names what does not hold

A learned message is an assistant's whose row does not say otherwise (`weight` 0, `output_with_loss` false, `loss`
false). Nothing here looks at who the assistant is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from understudy.conversation import Message, Role

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "用户": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "助手": "assistant",
}
"""Names of the chat roles in the wild; any other name is a speaker's."""
TOOL_ROLES = frozenset({"tool", "function", "function_call", "observation", "tool_call", "ipython"})
NOBODY = frozenset({"null", "none", "nobody", "narrator", "narration", "无", "旁白"})
"""What stands for a speaker where a model that cut a text into lines found none: left out."""
ROLE_KEYS = ("role", "rloe", "from", "speaker")
TEXT_KEYS = ("content", "value", "text", "dialogue")
PERSONA_KEYS = ("persona", "character", "speaker", "char_name", "role_name", "bot_name", "char")
"""Fields of a row that name who answers in it, the first that holds a text counts."""


class RowError(ValueError):
    """A row does not hold; the message is the reason, the same words for the same fault."""


Turn = tuple[str, str, bool | None, str | None]
"""(role or speaker as written, text, whether it is learned where the row says so, name)."""


def shape_of(row: Any) -> str | None:
    """The format of one row, by its fields alone; None when it is none that we know."""
    if isinstance(row, list):
        return "dialogue" if row and all(isinstance(one, Mapping) for one in row) else None
    if not isinstance(row, Mapping):
        return None
    has = {key for key, value in row.items() if value is not None}
    if {"conversation_id", "messages", "provenance"} <= has:
        return "conversations"
    if {"prompt", "completion"} <= has:
        return "prompt-completion"
    for key in ("messages", "conversations", "conversation"):
        if key in has:
            return _listed_shape(_unpacked(row[key]))
    if has & {"instruction", "prompt", "query", "question"} and has & {"output", "response", "answer"}:
        return "alpaca"
    if has & {"instruction", "output"} and not has & set(ROLE_KEYS):
        return "alpaca"
    return "line" if has & set(ROLE_KEYS) and has & set(TEXT_KEYS) else None


def _listed_shape(value: Any) -> str | None:
    first = value[0] if isinstance(value, Sequence) and not isinstance(value, str) and value else None
    if not isinstance(first, Mapping):
        return None
    if {"input", "output"} & set(first) or {"human", "assistant"} <= set(first):
        return "xtuner"
    return "sharegpt" if "from" in first else "messages"


def alpaca_messages(row: Mapping[str, Any]) -> list[Message]:
    """instruction and input (a line break between them) are the user's, output the persona's; history stands before.

    `prompt`/`query` and `response`, as LLaMA-Factory calls these columns, are read as well.
    """
    asked, answered = _first(row, "instruction", "prompt", "question"), _first(row, "output", "response", "answer")
    more = _first(row, "input", "query")
    if asked is None:
        asked, more = more, None
    if not isinstance(asked, str):
        raise RowError("has no instruction")
    if not isinstance(answered, str) or not answered.strip():
        raise RowError("has no output")
    if more is not None and not isinstance(more, str):
        raise RowError("its input is no text")
    messages = _system(row.get("system"))
    history = _unpacked(row.get("history")) or ()
    if not isinstance(history, Sequence) or isinstance(history, str):
        raise RowError("its history is no list of [user, assistant] pairs")
    for pair in history:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise RowError("its history holds something that is no [user, assistant] pair")
        if not isinstance(pair[0], str) or not isinstance(pair[1], str):
            raise RowError("its history holds something that is no text")
        messages += [Message("user", pair[0]), Message("assistant", pair[1], loss=True)]
    messages += [Message("user", "\n".join(part for part in (asked, more) if part))]
    return [*messages, Message("assistant", answered, loss=True)]


def xtuner_messages(row: Any) -> list[Message]:
    """`{"conversation": [{system, input, output}]}`: a system text that repeats itself is said once.

    `output_with_loss: false` marks an answer that is context only. An empty input is left out. The `human` and
    `assistant` keys of Firefly's files are read as well.
    """
    turns = _turns(row if isinstance(row, list) else _first(row, "conversation", "conversations", "messages"))
    messages: list[Message] = []
    said = ""
    for turn in turns:
        system, asked = turn.get("system") or "", _first(turn, "input", "human")
        answered = _first(turn, "output", "assistant")
        if not isinstance(system, str) or not isinstance(asked or "", str):
            raise RowError("has a turn whose system or input is no text")
        if not isinstance(answered, str):
            raise RowError("has a turn without output")
        if system and system != said:
            messages.append(Message("system", system))
            said = system
        if asked:
            messages.append(Message("user", asked))
        if answered:
            messages.append(Message("assistant", answered, loss=turn.get("output_with_loss", True) is not False))
    return messages


def chat_turns(row: Any) -> list[Turn]:
    """The turns of ShareGPT, OpenAI messages, or a plain list of {role, content}; roles as they are written."""
    given = row if isinstance(row, list) else _first(row, "messages", "conversations", "conversation")
    turns: list[Turn] = [(one.role, one.content, None, None) for one in _system(_told(row))]
    return turns + [line_turn(turn) for turn in _turns(given)]


def line_turn(line: Mapping[str, Any]) -> Turn:
    """One {role, content}, {from, value} or {rloe, content}."""
    role, text = _first(line, *ROLE_KEYS), _first(line, *TEXT_KEYS)
    if not isinstance(role, str) or not role.strip():
        raise RowError("has a message without role")
    if line.get("tool_calls") or role.strip().casefold() in TOOL_ROLES:
        raise RowError("calls tools, which a persona does not")
    if isinstance(text, list):
        text = _parts(text)
    if not isinstance(text, str):
        raise RowError("has a message without text")
    name = line.get("name")
    learned = None
    for key in ("weight", "loss", "train"):
        if line.get(key) is not None:
            learned = bool(line[key])
            break
    return role.strip(), text, learned, name if isinstance(name, str) and name else None


def chat_messages(turns: Sequence[Turn]) -> list[Message]:
    """Turns whose roles are all chat roles, as messages."""
    messages = []
    for role, text, learned, name in turns:
        known = ROLES.get(role.casefold())
        if known is None:
            raise RowError("has a message of an unknown role")
        messages.append(Message(known, text, name, known == "assistant" and learned is not False))
    return messages


def are_chat_roles(turns: Sequence[Turn]) -> bool:
    """Whether the turns are a chat's (user, assistant) and not named speakers'."""
    return all(role.casefold() in ROLES for role, _, _, _ in turns)


def prompt_completion_messages(row: Mapping[str, Any]) -> list[Message]:
    """TRL's prompt and completion: texts, or lists of messages; only the completion is learned."""
    prompt, completion = _unpacked(row.get("prompt")), _unpacked(row.get("completion"))
    if isinstance(prompt, str) and isinstance(completion, str):
        return [*_system(row.get("system")), Message("user", prompt), Message("assistant", completion, loss=True)]
    if not isinstance(prompt, list) or not isinstance(completion, list):
        raise RowError("its prompt and completion are neither two texts nor two lists of messages")
    before = [Message(m.role, m.content, m.name, False) for m in chat_messages([line_turn(t) for t in _turns(prompt)])]
    return [*before, *chat_messages([line_turn(turn) for turn in _turns(completion)])]


def persona_named(row: Any) -> str | None:
    """Who answers in this row, where one of its own fields says so."""
    if not isinstance(row, Mapping):
        return None
    for key in PERSONA_KEYS:
        value = row.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


MESSAGES: dict[str, Callable[[Any], list[Message]]] = {
    "alpaca": alpaca_messages,
    "xtuner": xtuner_messages,
    "prompt-completion": prompt_completion_messages,
}


def _told(row: Any) -> Any:
    return row.get("system") if isinstance(row, Mapping) else None


def _system(text: Any) -> list[Message]:
    if text is not None and not isinstance(text, str):
        raise RowError("its system is no text")
    return [Message("system", text)] if text else []


def _turns(value: Any) -> list[Mapping[str, Any]]:
    turns = _unpacked(value)
    if not isinstance(turns, list) or not turns:
        raise RowError("has no messages")
    if not all(isinstance(turn, Mapping) for turn in turns):
        raise RowError("has a message that is no object")
    return turns


def _parts(parts: list[Any]) -> str | None:
    """The text of OpenAI's content parts; None where one of them is no text."""
    texts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in parts]
    return "".join(text for text in texts if isinstance(text, str)) if all(isinstance(t, str) for t in texts) else None


def _unpacked(value: Any) -> Any:
    """Lists that a table keeps as JSON text."""
    if isinstance(value, str) and value[:1] == "[":
        try:
            return json.loads(value)
        except (RecursionError, ValueError):
            return value
    return value


def _first(row: Mapping[str, Any], *keys: str) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)

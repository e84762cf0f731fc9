"""A call to a model and what came of it: the two values that every stage hands to and gets from jobs.llm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from understudy.answers import schema_problem
from understudy.record import canonical, digest_of

ROLES = ("system", "developer", "user", "assistant")
RESERVED = ("model", "messages", "stream", "n", "response_format")
"""What a call's sampling may not hold: these are ours to set."""


@dataclass(frozen=True)
class Call:
    """One question to a model."""

    messages: tuple[Mapping[str, str], ...]
    """Each with role and content."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema of the answer; None: plain text."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """temperature, max_tokens, top_p, seed, stop and what else the server takes."""
    draw: int = 0
    """Number of the sample: the same question drawn again is another call (and another seed, where one is given)."""

    def as_json(self) -> str:
        """For the `call` column of `answer_rows`."""
        return json.dumps(
            {
                "messages": [dict(message) for message in self.messages],
                "schema": None if self.schema is None else dict(self.schema),
                "sampling": dict(self.sampling),
                "draw": self.draw,
            },
            ensure_ascii=False,
        )


@dataclass(frozen=True)
class Answer:
    """What came of a call."""

    key: str
    """SHA-256 (hex) of model, messages, sampling, schema and draw; empty for a call that does not hold."""
    text: str
    """The raw reply, also where it is set aside."""
    value: Any
    """What a schema asked for; None without one."""
    reason: str
    """Empty when the answer is good, else why it is set aside."""
    model: str
    cached: bool
    """Whether it came out of the journal."""
    lasting: bool = True
    """False: the endpoint did not answer, and whoever asks again may fare better."""

    def as_json(self) -> str:
        """The `answer` column of `answer_rows`."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def of(cls, text: str) -> Answer:
        """From the `answer` column."""
        return cls(**json.loads(text))


def read_call(text: Any) -> tuple[Call | None, str]:
    """(call, "") from the `call` column, or (None, why it does not hold)."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str):
        return None, f"call: is {type(text).__name__}, not JSON text"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return None, f"call: is not JSON ({str(error)[:80]})"
    if not isinstance(value, dict):
        return None, "call: is not a JSON object"
    unknown = sorted(set(value) - {"messages", "schema", "sampling", "draw"})
    if unknown:
        return None, f"call: unknown fields {', '.join(unknown)[:80]}"
    messages = value.get("messages")
    if not isinstance(messages, list):
        return None, "call: messages is not a list"
    sampling = value.get("sampling")
    call = Call(tuple(messages), value.get("schema"), {} if sampling is None else sampling, value.get("draw") or 0)
    problem = call_problem(call)
    return (None, problem) if problem else (call, "")


def call_problem(call: Call) -> str:
    """Why a call cannot be made, or ""."""
    try:
        return _messages_problem(call) or _rest_problem(call)
    except (TypeError, AttributeError, RecursionError) as error:
        return f"call: {str(error)[:120]}"


def _messages_problem(call: Call) -> str:
    if not call.messages:
        return "call: no messages"
    for number, message in enumerate(call.messages):
        if not isinstance(message, Mapping):
            return f"call: message {number} is not an object"
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            return f"call: message {number} has role {str(role)[:40]!r}; one of {', '.join(ROLES)}"
        if not isinstance(content, str) or not content.strip():
            return f"call: message {number} has no text"
        if set(message) - {"role", "content", "name"}:
            return f"call: message {number} has fields besides role, content and name"
    return ""


def _rest_problem(call: Call) -> str:
    if not isinstance(call.sampling, Mapping):
        return "call: sampling is not an object"
    ours = sorted(name for name in call.sampling if name in RESERVED)
    if ours:
        return f"call: sampling sets {', '.join(ours)}"
    if not isinstance(call.draw, int) or isinstance(call.draw, bool) or call.draw < 0:
        return f"call: draw {str(call.draw)[:40]!r} is not a number from 0"
    try:
        whole = [list(map(dict, call.messages)), dict(call.sampling), None if call.schema is None else call.schema]
        canonical(whole)
    except UnicodeEncodeError:
        return "call: holds half a character (a lone surrogate)"
    except (ValueError, TypeError) as error:
        return f"call: is no JSON ({str(error)[:80]})"
    return "" if call.schema is None else schema_problem(call.schema)


def key_of(model: str, call: Call) -> str:
    """What a call is known by in the journal."""
    return digest_of(
        {
            "model": model,
            "messages": [dict(message) for message in call.messages],
            "sampling": dict(call.sampling),
            "schema": None if call.schema is None else dict(call.schema),
            "draw": call.draw,
        }
    )

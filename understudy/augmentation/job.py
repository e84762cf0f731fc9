"""What augmentation kinds take and give: material in, jobs out, drafts and notes back."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.conversation import (
    OPENING,
    Conversation,
    Exchange,
    Message,
    Provenance,
    Row,
    Scene,
    conversation_id,
)
from understudy.persona import Persona


@dataclass(frozen=True)
class Pair:
    """A real exchange of the persona as two texts."""

    heard: str
    """What others say before; the scene's direction or heading where nobody spoke."""
    said: str
    lines: tuple[str, ...]
    """line_id of every line in it."""
    work: str
    opened: bool = False
    """Nobody spoke before: `heard` is a direction, a heading or OPENING."""
    parents: tuple[str, ...] = ()
    """conversation_id of the imported conversation that it comes from."""


@dataclass(frozen=True)
class Note:
    """Something that a call found out and that is no conversation: a rating, a part of a card."""

    job_id: str
    value: Any
    """JSON."""


@dataclass(frozen=True)
class Material:
    """What a step knows of one persona. Held-out scenes are not in it."""

    persona: Persona
    language: str = "en"
    """BCP 47 code of what the persona speaks: `en`, `zh` ..."""
    scenes: tuple[Scene, ...] = ()
    """Scenes of the persona's works, in order, with all their rows (narration and headings too)."""
    exchanges: tuple[Exchange, ...] = ()
    """The persona's turns in these scenes."""
    imported: tuple[Conversation, ...] = ()
    """Conversations that somebody made for the persona before (`kind: conversations`)."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """By path as written in the step: what `step.files()` names."""
    round: int = 0

    @property
    def pairs(self) -> list[Pair]:
        """The exchanges as texts, those of the lines and then imported ones; several speakers keep their names."""
        found = [_pair(exchange) for exchange in self.exchanges]
        return found + [pair for one in self.imported for pair in _pairs_of(one)]

    @property
    def lines(self) -> list[Row]:
        """Everything the persona says, line by line."""
        return [row for exchange in self.exchanges for row in exchange.reply]

    @property
    def narration(self) -> list[Row]:
        """What is told or shown around the dialogue, in order."""
        return [row for scene in self.scenes for row in scene.rows if row["kind"] in ("narration", "direction")]


@dataclass(frozen=True)
class Job:
    """One call to a model and what is needed to read its answer."""

    job_id: str
    """Unique within the step and persona, and the same in every run."""
    persona: str
    messages: tuple[Mapping[str, str], ...]
    schema: Mapping[str, Any] | None = None
    """JSON Schema of the answer; None: plain text."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    draw: int = 0
    """Number of this sample among those of the same prompt."""
    seed: int = 0
    """Seed of what was drawn by chance for this job."""
    prompt: str = ""
    """Kind and PROMPT_VERSION, such as `matrix/1`."""
    lines: tuple[str, ...] = ()
    """line_id of the real lines that the call shows."""
    parents: tuple[str, ...] = ()
    """conversation_id of the conversations that the call shows."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What `read` needs: the cell, bounds, trigger, examples."""


@dataclass(frozen=True)
class Draft:
    """A conversation as a model wrote it, with what it is measured by."""

    messages: tuple[Message, ...]
    """`loss` is true on what the persona shall learn to say."""
    bounds: tuple[int, int] | None = None
    """Characters of each learned message, least and most; None: those of `step.checks.length`."""
    trigger: str = ""
    """Regular expression of which a match must be in what is learned."""
    examples: tuple[str, ...] = ()
    """Texts that were shown and must not come back."""
    written: bool = True
    """False where what is learned is the persona's own real line: then only the rest is checked."""
    given: bool = False
    """True where the user's messages are not the model's: then they are not checked."""
    refused: str = ""
    """Why `read` itself does not accept it: set aside with this reason, whatever the checks say."""
    criterion: str = ""
    """What a judge is asked about it besides the persona's voice."""
    lines: tuple[str, ...] | None = None
    """None: the job's."""
    parents: tuple[str, ...] | None = None
    """None: the job's."""
    work: str = ""
    """The work whose text it holds; else the step's name."""
    scene: str = ""
    """Else the job's id."""

    @property
    def learned(self) -> list[str]:
        """The texts with loss."""
        return [message.content for message in self.messages if message.loss]

    @property
    def asked(self) -> list[str]:
        """The user's messages."""
        return [message.content for message in self.messages if message.role == "user"]

    def conversation(self, job: Job, kind: str, step: str, model: str) -> Conversation:
        """The row that training reads; always in the training split."""
        provenance = Provenance(
            work=self.work or step,
            lines=job.lines if self.lines is None else self.lines,
            parents=job.parents if self.parents is None else self.parents,
            method=kind,
            prompt=job.prompt,
            model=model,
            seed=job.seed,
        )
        identity = conversation_id(job.persona, self.messages, provenance)
        scene = self.scene or f"{step}/{job.job_id}"
        return Conversation(identity, job.persona, "train", scene, self.messages, provenance)


def exchange_draft(question: str, reply: str, **rest: Any) -> Draft:
    """A draft of one question and the persona's answer to it."""
    return Draft((Message("user", question), Message("assistant", reply, loss=True)), **rest)


def drawn_seed(*parts: Any) -> int:
    """A seed in [0, 2**31) for anything that JSON can write; the same on every machine."""
    digest = hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def chosen_pairs(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """`count` pairs drawn without repetition, in the order of the text.

    Each pair has a rank of its own under a seed: one that comes or goes changes only the choices that it was in.
    """
    ranks = [(zlib.crc32(pair.said.encode(), zlib.crc32(pair.heard.encode(), seed)), i) for i, pair in enumerate(pairs)]
    return [pairs[i] for i in sorted(i for _, i in sorted(ranks)[:count])]


def _pair(exchange: Exchange) -> Pair:
    speakers = {(row["speaker"] or "").casefold() for row in exchange.before}
    named = len(speakers) > 1
    heard = [
        f"{row['speaker']}: {row['text'].strip()}" if named and row["speaker"] else row["text"].strip()
        for row in exchange.before
    ]
    lines = tuple(row["line_id"] for row in (*exchange.before, *exchange.reply))
    return Pair("\n".join(heard) or exchange.opener, exchange.text, lines, exchange.scene[0], not heard)


def _pairs_of(conversation: Conversation) -> Iterator[Pair]:
    """The learned answers of a conversation, each with what was said right before it."""
    heard: list[str] = []
    work, parents = conversation.provenance.work, (conversation.conversation_id,)
    for message in conversation.messages:
        if message.role == "user":
            heard.append(f"{message.name}: {message.content}" if message.name else message.content)
        elif message.role == "assistant":
            if message.loss:
                yield Pair("\n".join(heard) or OPENING, message.content, (), work, not heard, parents)
            heard = []

"""Conversations: the lines of a work as chat messages, as one persona hears and answers them.

    cut = scenes(rows, "adam")
    splits = split(cut, heldout=0.1, seed=0)
    found = [exchange for scene in cut for exchange in exchanges(scene, "adam", window=8)]
    conversations = build(found, "adam", splits, window=8)

An exchange is what others say and the persona's answer to it. A window holds whole exchanges, `window` lines at most,
and windows are disjoint: every line of the persona is a training target exactly once, and a window never begins between
a question and its answer. What others say after the persona's last line of a scene answers nothing and is left out.
Rows are those of the lines table (mappings); the system text is not part of a conversation, `rendering.with_system`
puts it in front. Everything here is a pure function of its arguments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

Row = Mapping[str, Any]
Role = Literal["system", "user", "assistant"]
Split = Literal["train", "heldout"]
SceneKey = tuple[str, str]

SCENE_LINES = 40
OPENING = "..."
"""The user's turn where the persona speaks first and nothing is written before; a word of no language."""


@dataclass(frozen=True)
class Message:
    """One chat message; `loss` is true only on what the persona learns to say."""

    role: Role
    content: str
    name: str | None = None
    loss: bool = False


@dataclass(frozen=True)
class Provenance:
    """How a conversation came to be."""

    work: str
    lines: tuple[str, ...] = ()
    """line_id of every line used, in order."""
    parents: tuple[str, ...] = ()
    """conversation_id of those it was made from."""
    method: str = "lines"
    prompt: str | None = None
    """Version of the prompt, where a model wrote it."""
    model: str | None = None
    """The model that wrote it."""
    seed: int | None = None
    """Seed of what was drawn by chance for it."""


@dataclass(frozen=True)
class Conversation:
    """Chat messages of one persona, within one scene."""

    conversation_id: str
    persona: str
    split: Split
    scene: str
    messages: tuple[Message, ...]
    provenance: Provenance

    def row(self) -> dict[str, Any]:
        """A row of the conversations table."""
        made = self.provenance
        return {
            **vars(self),
            "messages": [dict(vars(message)) for message in self.messages],
            "provenance": {**vars(made), "lines": list(made.lines), "parents": list(made.parents)},
        }


@dataclass(frozen=True)
class Scene:
    """A stretch of a work that is never split between training and test; only rows that are said or shown."""

    work: str
    name: str
    rows: tuple[Row, ...]
    turns: int
    """Lines of the persona in it."""
    speeches: int = 0
    """Lines of anybody in it."""

    @property
    def key(self) -> SceneKey:
        """Work and scene."""
        return self.work, self.name


@dataclass(frozen=True)
class Exchange:
    """Lines of others and the persona's answer."""

    scene: SceneKey
    before: tuple[Row, ...]
    reply: tuple[Row, ...]
    opener: str
    """What the persona could see when nobody spoke before: the nearest direction, else the heading, else OPENING."""
    cut: bool = False
    """Whether an open line stands before it, which may be the persona's own: no window reaches over it."""

    @property
    def text(self) -> str:
        """The persona's answer as one message."""
        return "\n".join(row["text"].strip() for row in self.reply)

    @property
    def size(self) -> int:
        """Lines."""
        return len(self.before) + len(self.reply)


def is_said(row: Row) -> bool:
    """A speech with something in it; a speech of directions alone says nothing."""
    return row["kind"] == "speech" and bool(row["text"].strip())


def is_open(row: Row) -> bool:
    """A quote of which extraction left open who says it."""
    return row["kind"] == "speech" and not row["speaker"] and not row["persona"] and row.get("method") == "open"


def scenes(rows: Iterable[Row], persona: str) -> list[Scene]:
    """The scenes of one or more works, in order.

    A work whose rows hold no heading and name a single scene is cut into scenes of 40 lines. When every line of the
    persona falls into one scene, that scene is cut again, so that something can be held out and something trained.
    """
    works: dict[str, list[Row]] = {}
    for row in rows:
        works.setdefault(row["work"], []).append(row)
    return cut_again([scene for own in works.values() for scene in scenes_of_work(own, persona)], persona)


def scenes_of_work(rows: Iterable[Row], persona: str) -> list[Scene]:
    """The scenes of one work as its headings and lengths cut it."""
    by_name: dict[str, list[Row]] = {}
    work, headed = "", False
    for row in sorted(rows, key=lambda row: row["index"]):
        by_name.setdefault(str(row["scene"]), []).append(row)
        work, headed = row["work"], headed or row["kind"] == "heading"
    if len(by_name) == 1 and not headed:
        by_name = {str(i): list(part) for i, part in enumerate(_pieces(next(iter(by_name.values()))))}
    return [_scene(work, name, part, persona) for name, part in by_name.items()]


def cut_again(scenes: list[Scene], persona: str) -> list[Scene]:
    """The scenes of all works; the only one in which the persona speaks, more than once, in pieces."""
    spoken = [at for at, scene in enumerate(scenes) if scene.turns]
    if len(spoken) == 1 and scenes[spoken[0]].turns > 1:
        at = spoken[0]
        return [*scenes[:at], *_cut_again(scenes[at], persona), *scenes[at + 1 :]]
    return scenes


def split(scenes: Sequence[Scene], heldout: float, seed: int) -> dict[SceneKey, Split]:
    """Train or held-out for every scene in which the persona speaks, by hash of (seed, work, scene).

    In the order of their hashes, the scenes of a work are held out while they fit into the share `heldout` of its
    speeches, so one long scene does not take a third of the work away. Two personas of one scene agree on it, unless
    one of them would be left without anything to train on or to test on, or with the lesser half to train on: then of
    its scenes the one whose share of its lines is nearest to `heldout` is held out. A persona with one scene in all is
    trained on it.
    """
    spoken = [scene for scene in scenes if scene.turns]
    if len(spoken) < 2:
        return {scene.key: "train" for scene in spoken}
    works: dict[str, list[Scene]] = {}
    for scene in scenes:
        works.setdefault(scene.work, []).append(scene)
    held = {scene.key for own in works.values() for scene in _drawn(own, heldout, seed)}
    total = sum(scene.turns for scene in spoken)
    if not 0 < sum(scene.turns for scene in spoken if scene.key in held) <= total / 2:
        held = {min(spoken, key=lambda scene: (abs(scene.turns / total - heldout), _draw(seed, scene.key))).key}
    return {scene.key: "heldout" if scene.key in held else "train" for scene in spoken}


def _drawn(scenes: Sequence[Scene], heldout: float, seed: int) -> list[Scene]:
    """Of the scenes of one work those that are held out whoever speaks in them."""
    room = heldout * sum(scene.speeches for scene in scenes)
    drawn = []
    for scene in sorted(scenes, key=lambda scene: _draw(seed, scene.key)):
        if 0 < scene.speeches <= room:
            drawn.append(scene)
            room -= scene.speeches
    return drawn


def exchanges(scene: Scene, persona: str, window: int) -> list[Exchange]:
    """The persona's turns in a scene, each with the lines of others right before it.

    Consecutive lines of the persona are one turn of at most `window - 1` lines (a longer one goes on in the next
    exchange, with nothing before it); of the others' lines the last ones that fit into the window are kept. A line that
    was left open may be the persona's own (a fifth of those beside one are), so nobody hears it: what comes after it
    begins anew.
    """
    most = max(1, window - 1)
    found: list[Exchange] = []
    before: list[Row] = []
    reply: list[Row] = []
    heading, shown, opener = "", "", OPENING
    cut = False

    def close() -> None:
        for start in range(0, len(reply), most):
            piece = reply[start : start + most]
            room = window - len(piece)
            heard = before[-room:] if room and not start else []
            found.append(Exchange(scene.key, tuple(heard), tuple(piece), opener, cut and not start))

    for row in scene.rows:
        if row["kind"] == "heading":
            heading, shown = row["text"].strip(), ""
        elif row["kind"] == "direction":
            shown = row["text"].strip() or shown
        elif row["kind"] != "speech":
            continue
        elif is_open(row):
            if reply:
                close()
            before, reply, cut = [], [], True
        elif row["persona"] == persona:
            if not reply:
                opener = shown or heading or OPENING
            reply.append(row)
        else:
            if reply:
                close()
                before, reply, cut = [], [], False
            before.append(row)
    if reply:
        close()
    return found


def build(
    exchanges: Sequence[Exchange],
    persona: str,
    splits: Mapping[SceneKey, Split],
    *,
    window: int,
    untrained: Collection[int] = (),
) -> list[Conversation]:
    """Disjoint windows over the exchanges of one persona, in order.

    `untrained` holds positions in `exchanges` whose answers stay as context without being learned; a window in which
    nothing is learned is left out, and so is what follows the last learned answer of a window.
    """
    found: list[Conversation] = []
    current: list[tuple[Exchange, bool]] = []

    def close() -> None:
        while current and not current[-1][1]:
            current.pop()
        if current:
            found.append(_conversation(current, persona, splits[current[0][0].scene]))
        current.clear()

    for position, exchange in enumerate(exchanges):
        size = sum(held.size for held, _ in current)
        elsewhere = exchange.cut or (current and current[0][0].scene != exchange.scene)
        if current and (elsewhere or size + exchange.size > window):
            close()
        current.append((exchange, position not in untrained))
    close()
    return found


def _conversation(window: Sequence[tuple[Exchange, bool]], persona: str, split: Split) -> Conversation:
    speakers = {(row["speaker"] or "").casefold() for exchange, _ in window for row in exchange.before}
    messages: list[Message] = []
    for exchange, loss in window:
        heard = [_said(row, len(speakers) > 1) for row in exchange.before]
        messages.append(Message("user", "\n".join(heard) if heard else exchange.opener))
        messages.append(Message("assistant", exchange.text, loss=loss))
    work, scene = window[0][0].scene
    lines = tuple(row["line_id"] for exchange, _ in window for row in (*exchange.before, *exchange.reply))
    provenance = Provenance(work=work, lines=lines)
    identity = conversation_id(persona, messages, provenance)
    return Conversation(identity, persona, split, scene, tuple(messages), provenance)


def conversation_id(persona: str, messages: Sequence[Message], provenance: Provenance) -> str:
    """`persona-` and 16 hex digits over everything the conversation says and where it comes from."""
    said = [persona, [vars(message) for message in messages], vars(provenance)]
    digest = hashlib.sha256(json.dumps(said, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
    return f"{persona}-{digest[:16]}"


def _said(row: Row, named: bool) -> str:
    return f"{row['speaker']}: {row['text'].strip()}" if named and row["speaker"] else row["text"].strip()


def _scene(work: str, name: str, rows: Sequence[Row], persona: str) -> Scene:
    kept = tuple(row for row in rows if row["kind"] != "speech" or is_said(row))
    speeches = [row for row in kept if row["kind"] == "speech"]
    return Scene(work, name, kept, sum(row["persona"] == persona for row in speeches), len(speeches))


def _pieces(rows: Sequence[Row]) -> list[Sequence[Row]]:
    return [rows[start : start + SCENE_LINES] for start in range(0, len(rows), SCENE_LINES)]


def _cut_again(scene: Scene, persona: str) -> list[Scene]:
    """The scene in pieces of 40 lines, or in two after its middle turn when those leave one piece alone with it."""
    parts = _pieces(scene.rows)
    cut = [_scene(scene.work, f"{scene.name}.{i}", part, persona) for i, part in enumerate(parts)]
    if sum(part.turns > 0 for part in cut) > 1:
        return cut
    speeches = [(i, row["persona"] == persona) for i, row in enumerate(scene.rows) if row["kind"] == "speech"]
    ends = [i for (i, mine), (_, other) in pairwise([*speeches, (-1, False)]) if mine and not other]
    own = ends if len(ends) > 1 else [i for i, mine in speeches if mine]
    at = own[len(own) // 2 - 1] + 1
    halves = (scene.rows[:at], scene.rows[at:])
    return [_scene(scene.work, f"{scene.name}.{i}", part, persona) for i, part in enumerate(halves)]


def _draw(seed: int, key: SceneKey) -> float:
    """Uniform in [0, 1), the same on every machine."""
    digest = hashlib.sha256(json.dumps([seed, *key], ensure_ascii=False).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64

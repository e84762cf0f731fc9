"""The review overlay: what a person decided about lines and conversations, kept apart from them.

    add(store, "broken-jug", [on_line(rows, 12, "fix", persona="eve", speaker="EVE")], who="ada")
    overlay = read(store, "broken-jug")
    rows, stale = overlay.apply_to_lines(rows)
    conversations, stale = overlay.apply_to_conversations(conversations)

Decisions are appended to `review/<recipe>/<n>.jsonl`, one a line, never changed; a later one about the same thing adds
to an earlier one, and `open` takes all of them back. Extraction may run again below them: a line is addressed by its
work, its offsets and the digest of its text, and found again by its text and its neighbours where it moved. Where the
text itself changed, the decision is stale: it is reported and applied to nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from understudy.conversation import Conversation, Message, Row, conversation_id
from understudy.errors import InputError
from understudy.found_again import Places, text_digest
from understudy.record import digest_of
from understudy.store import Store

Do = Literal["keep", "fix", "edit", "drop", "open"]
DOES = get_args(Do)


@dataclass(frozen=True)
class Decision:
    """One decision about one line or one conversation."""

    kind: Literal["line", "conversation"]
    do: Do
    """`keep` shields it from cleaning, `fix` says who speaks, `edit` gives other words, `drop` takes it out, `open`
    takes back what was decided before."""
    digest: str
    """Of the text of the line, or of what the conversation says, as they were when decided on."""
    work: str = ""
    start: int = 0
    end: int = 0
    """Code points in the decoded work."""
    before: str = ""
    after: str = ""
    """Digests of the lines around it."""
    persona: str | None = None
    """With `fix`: whose line it is, None for nobody in the cast. With a conversation: whose it is."""
    speaker: str | None = None
    """With `fix`: the name as others see it; None leaves it."""
    text: str | None = None
    """With `edit` of a line: its words."""
    messages: Mapping[str, str] = field(default_factory=dict)
    """With `edit` of a conversation: new content by number of the message, from 0."""
    who: str = ""
    at: str = ""
    """UTC, ISO 8601."""

    @property
    def target(self) -> tuple[str, str, int, int]:
        """What it is about."""
        # Two personas may say the same: what was decided on for one is not decided on for the other.
        whose = self.work if self.kind == "line" else self.persona or ""
        return (self.digest, whose, self.start, self.end)


@dataclass(frozen=True)
class Verdict:
    """All decisions about one target, folded: the last word on each side of it."""

    about: Decision
    status: Literal["", "keep", "drop"] = ""
    fixed: Decision | None = None
    text: str | None = None
    messages: Mapping[str, str] = field(default_factory=dict)

    def then(self, one: Decision) -> Verdict:
        """With one more decision."""
        if one.do == "open":
            return Verdict(one)
        if one.do in ("keep", "drop"):
            return replace(self, about=one, status=one.do)
        if one.do == "fix":
            return replace(self, about=one, fixed=one)
        if one.kind == "line":
            return replace(self, about=one, text=one.text)
        return replace(self, about=one, messages={**self.messages, **one.messages})

    @property
    def is_open(self) -> bool:
        """Whether nothing is decided any more."""
        return not (self.status or self.fixed or self.messages) and self.text is None


def said_digest(conversation: Conversation) -> str:
    """16 hex digits over what a conversation says, whatever it was made from."""
    said = [[message.role, message.content, message.loss] for message in conversation.messages]
    return digest_of(said)[:16]


def on_line(rows: Sequence[Row], position: int, do: Do, **given: Any) -> Decision:
    """A decision about `rows[position]`; `rows` are those of its work, as extraction left them."""
    row = rows[position]
    around = _around(rows, position)
    return Decision(
        "line", do, text_digest(row["text"]), row["work"], int(row["start"]), int(row["end"]), *around, **given
    )


def on_conversation(conversation: Conversation, do: Do, **given: Any) -> Decision:
    """A decision about a conversation as it was imported or generated (before cleaning)."""
    if do == "fix":
        raise InputError("review: a conversation has no speaker to fix; edit its messages, or drop it")
    return Decision("conversation", do, said_digest(conversation), persona=conversation.persona, **given)


def stamped(decisions: Iterable[Decision], who: str = "") -> list[Decision]:
    """The decisions with who made them and when, where they do not say it."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return [replace(one, who=one.who or who, at=one.at or at) for one in decisions]


def add(store: Store, recipe: str, decisions: Iterable[Decision], who: str = "") -> int:
    """Append decisions, all or none; returns the number of the entry that holds them (0 when there was none).

    Any number of people may add at the same time: each entry is created only where none is.
    """
    given = stamped(decisions, who)
    if not given:
        return 0
    for one in given:
        if problem := _problem(one):
            raise InputError(f"review: a decision {problem}")
    data = "".join(json.dumps(_as_json(one), ensure_ascii=False) + "\n" for one in given).encode()
    n = _last(store, recipe) + 1
    while not store.put_new(_key(recipe, n), data):
        n += 1
    return n


@dataclass(frozen=True)
class Overlay:
    """Every decision about a recipe's lines and conversations."""

    decisions: tuple[Decision, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Entries that are no decision, each with its place and reason."""

    def __post_init__(self) -> None:
        verdicts: dict[tuple[str, str, int, int], Verdict] = {}
        for one in self.decisions:
            verdicts[one.target] = verdicts.get(one.target, Verdict(one)).then(one)
        live = [verdict for verdict in verdicts.values() if not verdict.is_open]
        lines: dict[str, list[Verdict]] = {}
        for verdict in live:
            if verdict.about.kind == "line":
                lines.setdefault(verdict.about.work, []).append(verdict)
        object.__setattr__(self, "_lines", lines)
        said = {(v.about.persona or "", v.about.digest): v for v in live if v.about.kind == "conversation"}
        object.__setattr__(self, "_said", said)

    @property
    def works(self) -> frozenset[str]:
        """Works of which lines were decided on."""
        return frozenset(self.__dict__["_lines"])

    def lost_works(self, present: Collection[str]) -> dict[str, int]:
        """How many things were decided on in each work that is not among those `present`."""
        lines: dict[str, list[Verdict]] = self.__dict__["_lines"]
        return {work: len(own) for work, own in sorted(lines.items()) if work not in present}

    @property
    def conversations(self) -> frozenset[tuple[str, str]]:
        """(persona, digest of what it says) of conversations that were decided on."""
        return frozenset(self.__dict__["_said"])

    def personas(self) -> frozenset[str]:
        """Personas of whom conversations were decided on."""
        return frozenset(persona for persona, _ in self.conversations)

    def lost_personas(self, present: Collection[str]) -> dict[str, int]:
        """How many conversations were decided on of each persona who is not among those `present`."""
        return dict(sorted(Counter(persona for persona, _ in self.conversations if persona not in present).items()))

    def apply_to_lines(self, rows: Iterable[Row]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(rows as decided, stale decisions); rows of whole works, with `start` and `end`. Dropped rows are left out.

        A row that was kept, fixed or edited says so in `review`. Stale decisions carry a `reason`: `changed`, `gone`,
        or `ambiguous` where several lines could be meant.
        """
        found: list[dict[str, Any]] = []
        stale: list[dict[str, Any]] = []
        works: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            works.setdefault(row["work"], []).append(dict(row))
        for work, own in works.items():
            verdicts = self.__dict__["_lines"].get(work, [])
            if not verdicts:
                found += own
                continue
            gone: set[int] = set()
            places = Places(own).of_all([verdict.about for verdict in verdicts])
            for verdict, position in zip(verdicts, places, strict=True):
                if isinstance(position, str):
                    stale.append({**_as_json(verdict.about), "reason": position})
                elif verdict.status == "drop":
                    gone.add(position)
                else:
                    own[position] = _decided(own[position], verdict)
            found += [row for position, row in enumerate(own) if position not in gone]
        return found, stale

    def apply_to_conversations(
        self, conversations: Iterable[Conversation], persona: str | None = None
    ) -> tuple[list[tuple[Conversation, str]], list[dict[str, Any]]]:
        """((conversation as decided, `keep`, `drop`, `edit` or nothing) in the order given, stale decisions).

        With `persona`, only decisions about that persona's conversations can be stale.
        """
        said: dict[tuple[str, str], Verdict] = self.__dict__["_said"]
        found: list[tuple[Conversation, str]] = []
        met: set[tuple[str, str]] = set()
        stale: list[dict[str, Any]] = []
        for one in conversations:
            key = (one.persona, said_digest(one)) if said else ("", "")
            verdict = said.get(key)
            if verdict is None:
                found.append((one, ""))
                continue
            met.add(key)
            edited = _edited(one, verdict.messages)
            if edited is None:
                stale.append({**_as_json(verdict.about), "reason": "changed"})
                found.append((one, ""))
            else:
                found.append((edited, verdict.status or "edit"))
        for key, verdict in said.items():
            if key not in met and (persona is None or key[0] == persona):
                stale.append({**_as_json(verdict.about), "reason": "gone"})
        return found, stale

    def conversations_digest(self, persona: str) -> str:
        """Over every decision about this persona's conversations; an empty string when there is none."""
        said: dict[tuple[str, str], Verdict] = self.__dict__["_said"]
        own = [_told(said[key]) for key in sorted(said) if key[0] == persona]
        return digest_of(own) if own else ""


def read(store: Store, recipe: str) -> Overlay:
    """Every decision about a recipe, in the order in which they were made."""
    decisions: list[Decision] = []
    unreadable: list[str] = []
    for key in store.keys(_folder(recipe)):
        for number, text in enumerate(store.get(key).decode("utf-8", "replace").splitlines(), 1):
            one = _parsed(text) if text.strip() else None
            if isinstance(one, str):
                unreadable.append(f"{store.uri_of(key)}:{number}: {one}")
            elif one is not None:
                decisions.append(one)
    return Overlay(tuple(decisions), tuple(unreadable))


def lines_digest(persona: str, before: Sequence[Row], after: Sequence[Row]) -> str:
    """What decisions changed for one persona in one work; an empty string when nothing did.

    Its conversations depend on the scenes in which it speaks, and through the split on how many lines the work has.
    """
    spoken = {row["scene"] for row in (*before, *after) if row["persona"] == persona}
    if not spoken:
        return ""
    was = {row["line_id"]: row for row in before}
    now = {row["line_id"] for row in after}
    seen = ("line_id", "speaker", "text", "review")
    changed = [
        [*(row.get(name) for name in seen), row["persona"] == persona]
        for row in after
        if row is not was[row["line_id"]] and row.get("review") and row["scene"] in spoken
    ]
    gone = [line_id for line_id in was if line_id not in now]
    return digest_of([changed, gone]) if changed or gone else ""


def _around(rows: Sequence[Row], position: int) -> tuple[str, str]:
    before = text_digest(rows[position - 1]["text"]) if position else ""
    after = text_digest(rows[position + 1]["text"]) if position + 1 < len(rows) else ""
    return before, after


def _decided(row: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    changed = {**row, "review": verdict.status or "edit"}
    if verdict.text is not None:
        changed["text"] = " ".join(verdict.text.split())
    if verdict.fixed is not None:
        changed["persona"] = verdict.fixed.persona
        if verdict.fixed.speaker is not None:
            changed["speaker"] = verdict.fixed.speaker
    return changed


def _edited(one: Conversation, messages: Mapping[str, str]) -> Conversation | None:
    """The conversation with other words, named anew, its old name among its parents; None without such a message."""
    if not messages:
        return one
    found = list(one.messages)
    for number, text in messages.items():
        if not number.isdecimal() or int(number) >= len(found) or not text.strip():
            return None
        message = found[int(number)]
        found[int(number)] = Message(message.role, text.strip(), message.name, message.loss)
    provenance = replace(one.provenance, parents=(*one.provenance.parents, one.conversation_id))
    identity = conversation_id(one.persona, found, provenance)
    return replace(one, conversation_id=identity, messages=tuple(found), provenance=provenance)


def _told(verdict: Verdict) -> list[Any]:
    return [verdict.about.digest, verdict.status, dict(verdict.messages)]


def _as_json(one: Decision) -> dict[str, Any]:
    plain = {field.name: field.default for field in fields(Decision) if field.name != "messages"}
    kept = {name: value for name, value in asdict(one).items() if value != plain.get(name, {})}
    return {**kept, "persona": one.persona} if one.do == "fix" else kept


def _parsed(text: str) -> Decision | str:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return "is no JSON"
    known = {field.name: field for field in fields(Decision)}
    if not isinstance(raw, dict) or not {"kind", "do", "digest"} <= raw.keys():
        return "is no decision; it needs kind, do and digest"
    one = Decision(**{name: value for name, value in raw.items() if name in known})
    return f"a decision {problem}" if (problem := _problem(one)) else one


def _problem(one: Decision) -> str:
    """What is wrong with a decision, or nothing."""
    if one.kind not in ("line", "conversation"):
        return f"is about {one.kind!r}; valid: line, conversation"
    if one.do not in DOES:
        return f"says {one.do!r}; valid: {', '.join(DOES)}"
    texts = (one.digest, one.work, one.before, one.after, one.who, one.at)
    if not all(isinstance(text, str) for text in texts) or not one.digest:
        return "has an address that is no text"
    if not all(isinstance(text, str | None) for text in (one.persona, one.speaker, one.text)):
        return "has a persona, speaker or text that is no text"
    if not all(isinstance(at, int) and not isinstance(at, bool) for at in (one.start, one.end)):
        return "has offsets that are no numbers"
    if one.kind == "line" and not one.work:
        return "is about a line of no work"
    if one.kind == "conversation" and not one.persona:
        return "is about a conversation of no persona"
    if one.do == "fix" and one.kind == "conversation":
        return "fixes the speaker of a conversation; edit its messages, or drop it"
    if one.do == "edit" and not ((one.text or "").strip() if one.kind == "line" else one.messages):
        return "edits without giving words; drop it instead"
    pairs = one.messages.items() if isinstance(one.messages, Mapping) else (("", None),)
    return "" if all(isinstance(k, str) and isinstance(v, str) for k, v in pairs) else "has messages that are no texts"


def _folder(recipe: str) -> str:
    return f"review/{recipe}"


def _key(recipe: str, n: int) -> str:
    return f"{_folder(recipe)}/{n:08d}.jsonl"


def _last(store: Store, recipe: str) -> int:
    keys = store.keys(_folder(recipe))
    name = keys[-1].rsplit("/", 1)[-1].split(".")[0] if keys else "0"
    return int(name) if name.isdecimal() else len(keys)

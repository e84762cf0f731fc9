"""A recipe's lines and samples with what people decided about them.

    room = Room(store, recipe, who="ada")
    page = room.lines(Filter(below=0.7), after=None, limit=50)
    room.decide("lines", page["rows"][0]["at"], "fix", speaker="NELL")
    room.undo()

What is shown is what the stages made last, with the overlay's decisions on top. Not safe for several threads: the
page's server holds a lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from understudy import overlay
from understudy.errors import InputError, MissingError
from understudy.overlay import Decision, Overlay
from understudy.persona import Persona, cast_entries, cast_entry_persona
from understudy.recipe import AutoCastEntry, Recipe
from understudy.reviewing.lists import Filter, compute, line_mask, page, passing, place_of, sample_mask
from understudy.reviewing.outputs import finished, read_table
from understudy.reviewing.standing import Standing
from understudy.script import name_key
from understudy.store import Store

AROUND = 4
"""Rows of context on each side of a line."""
MOST_SPEAKERS = 500
"""Names that autocompletion knows."""
MOST_UNDO = 1000


class Room:
    """Everything that there is to review of one recipe."""

    def __init__(self, store: Store, recipe: Recipe, who: str = ""):
        """InputError when neither extract nor augment has been run."""
        self.store, self.recipe, self.who = store, recipe, who
        self.extracted = finished(store, recipe.name, "extract")
        self.augmented = finished(store, recipe.name, "augment")
        if not self.extracted and not self.augmented:
            raise InputError(f"{recipe.name}: there is nothing to review; run `understudy extract` with it first")
        self.line_units = [unit for unit in self.extracted if "lines.parquet" in unit.record.outputs]
        self.sample_units = [
            u for u in (*self.extracted, *self.augmented) if "conversations.parquet" in u.record.outputs
        ]
        self.tables = [read_table(store, unit, "lines") for unit in self.line_units]
        self.samples_tables = [read_table(store, unit, "conversations") for unit in self.sample_units]
        self._standing = Standing(self.tables, self.samples_tables)
        self._own: dict[str, list[Decision]] = {}
        """What can be taken back, by the page on which it was decided."""
        self.refresh()

    def refresh(self) -> None:
        """Read the overlay again: others may have decided meanwhile."""
        self.overlay = overlay.read(self.store, self.recipe.name)
        self._standing.under(self.overlay)

    # What is there

    @cached_property
    def cast(self) -> list[Persona]:
        """The cast, automatic ones as extract found them."""
        speakers = None
        if isinstance(self.recipe.cast, AutoCastEntry):
            try:
                found = self.store.get_json(f"runs/{self.recipe.name}/extract/speakers.json")
            except MissingError:
                return []
            speakers = [(str(name), int(lines)) for name, lines in found]
        return [cast_entry_persona(entry, self.recipe) for entry in cast_entries(self.recipe, speakers)]

    @cached_property
    def speakers(self) -> list[str]:
        """Names as the texts write them, most lines first."""
        counts: Counter[str] = Counter()
        for table in self.tables:
            for one in table["speaker"].value_counts().to_pylist():
                if one["values"]:
                    counts[one["values"]] += one["counts"]
        return [name for name, _ in counts.most_common(MOST_SPEAKERS)]

    @cached_property
    def reasons(self) -> dict[str, tuple[set[str], set[str]]]:
        """What cleaning dropped, by reason: line_ids and conversation_ids."""
        found: dict[str, tuple[set[str], set[str]]] = {}
        for unit in finished(self.store, self.recipe.name, "curate"):
            if "dropped.parquet" not in unit.record.outputs:
                continue
            table = read_table(self.store, unit, "dropped")
            others = table["conversation"].to_pylist() if "conversation" in table.column_names else []
            for at, (reason, lines) in enumerate(
                zip(table["reason"].to_pylist(), table["lines"].to_pylist(), strict=True)
            ):
                for name in (reason, "*"):
                    of_lines, of_samples = found.setdefault(name, (set(), set()))
                    of_lines.update(lines or ())
                    if others and others[at]:
                        of_samples.add(others[at])
        return found

    def about(self, on: str = "") -> dict[str, Any]:
        """What the page called `on` needs to know first."""
        decided = Counter(self._standing.lines.values()), Counter(self._standing.samples.values())
        works = [work for table in self.tables for work in table["work"].unique().to_pylist()]
        return {
            "recipe": self.recipe.name,
            "personas": [{"id": p.name, "name": p.display_name, "aliases": list(p.aliases)} for p in self.cast],
            "speakers": self.speakers,
            "works": works[:MOST_SPEAKERS],
            "units": [unit.name for unit in self.sample_units],
            "reasons": sorted(reason for reason in self.reasons if reason != "*"),
            "lines": sum(table.num_rows for table in self.tables),
            "samples": sum(table.num_rows for table in self.samples_tables),
            "decided": {"lines": dict(decided[0]), "samples": dict(decided[1])},
            "stale": self._standing.stale,
            "lost_works": self._standing.lost,
            "unreadable": list(self.overlay.unreadable),
            "undo": self.undoable(on),
        }

    # Lists

    def lines(self, wanted: Filter, after: str | None, limit: int) -> dict[str, Any]:
        """A page of lines: {"rows", "total", "before", "more"}."""
        only = self.reasons.get(wanted.reason, (set(), set()))[0] if wanted.reason else None
        judged = self._judge(self._standing.lines, wanted.status)
        rows = [passing(line_mask(table, wanted), table["line_id"], only, judged) for table in self.tables]
        found = page(rows, place_of(after, self.tables) if after else None, limit)
        return {
            "rows": [self.line(place) for place in found.places],
            "total": found.total,
            "before": found.before,
            "more": found.more,
        }

    def samples(self, wanted: Filter, after: str | None, limit: int) -> dict[str, Any]:
        """A page of imported and generated conversations, as they were before cleaning."""
        only = self.reasons.get(wanted.reason, (set(), set()))[1] if wanted.reason else None
        judged = self._judge(self._standing.samples, wanted.status)
        rows: list[list[int]] = []
        for unit, table in zip(self.sample_units, self.samples_tables, strict=True):
            out = (wanted.work and unit.name != wanted.work) or (wanted.generated and unit.stage != "augment")
            mask = None if out else sample_mask(table, wanted)
            rows.append([] if mask is None else passing(mask, table["conversation_id"], only, judged))
        found = page(rows, place_of(after, self.samples_tables) if after else None, limit)
        return {
            "rows": [self.sample(place) for place in found.places],
            "total": found.total,
            "before": found.before,
            "more": found.more,
        }

    def line(self, place: str) -> dict[str, Any]:
        """One line with what was decided about it."""
        number, row = place_of(place, self.tables)
        window, position = self._standing.window(number, row, 1)
        before = window[position]
        after = self._standing.decided_line(number, window, position)
        shown = after or before
        changed = {n: before[n] for n in ("speaker", "persona", "text") if after and after[n] != before[n]}
        names = ("line_id", "work", "scene", "speaker", "persona", "text", "method", "start", "end")
        return {
            "at": place,
            **{name: shown[name] for name in names},
            "confidence": round(float(before["confidence"] or 0), 3),
            "status": self._standing.lines.get(before["line_id"], ""),
            "was": changed,
            "reasons": [r for r, (of_lines, _) in self.reasons.items() if r != "*" and before["line_id"] in of_lines],
        }

    def context(self, place: str) -> list[dict[str, Any]]:
        """The rows around a line, with every kind of row."""
        number, row = place_of(place, self.tables)
        window, position = self._standing.window(number, row, AROUND)
        names = ("line_id", "kind", "speaker", "persona", "text")
        return [{**{n: one[n] for n in names}, "here": i == position} for i, one in enumerate(window)]

    def cited(self, line_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Lines by their ids, for citations; unknown ids are left out."""
        import pyarrow as pa

        wanted = pa.array(sorted(set(line_ids)), pa.string())
        is_in = compute().is_in
        found: dict[str, dict[str, Any]] = {}
        for table in self.tables if len(wanted) else ():
            for row in table.filter(is_in(table["line_id"], wanted)).to_pylist():
                found[row["line_id"]] = {name: row[name] for name in ("line_id", "work", "kind", "speaker", "text")}
        return found

    def sample(self, place: str) -> dict[str, Any]:
        """One conversation with what was decided about it."""
        number, row = place_of(place, self.samples_tables)
        one = self._standing.conversation(number, row)
        decided, _ = self.overlay.apply_to_conversations([one])
        after = decided[0][0]
        origin = one.provenance
        return {
            "at": place,
            "id": one.conversation_id,
            "unit": self.sample_units[number].name,
            "persona": one.persona,
            "method": origin.method,
            "model": origin.model,
            "prompt": origin.prompt,
            "messages": [
                {"role": m.role, "name": m.name, "content": m.content, "loss": m.loss} for m in after.messages
            ],
            "cited": list(self.cited(origin.lines[:20]).values()),
            "status": self._standing.samples.get(one.conversation_id, ""),
            "reasons": [r for r, (_, ids) in self.reasons.items() if r != "*" and one.conversation_id in ids],
        }

    # Decisions

    def decide(self, kind: str, place: str, do: str, on: str = "", **given: Any) -> dict[str, Any]:
        """Append one decision, made on the page called `on`, and answer the row as it is then.

        `fix` takes `speaker` (a persona's name, alias or id, another name, or nothing for nobody), `edit` takes `text`
        of a line or `messages` (by number) of a sample. InputError for what does not hold.
        """
        if do not in overlay.DOES:
            raise InputError(f"{do!r} is no decision; valid: {', '.join(overlay.DOES)}")
        one = self._line_decision(place, do, given) if kind == "lines" else self._sample_decision(place, do, given)
        self._own[on] = [*self._own.get(on, [])[-MOST_UNDO:], *self._append([one])]
        self._standing.restate(kind, place)
        return self.line(place) if kind == "lines" else self.sample(place)

    def undoable(self, on: str = "") -> int:
        """Decisions made on the page called `on` that can be taken back."""
        return len(self._own.get(on, ()))

    def undo(self, on: str = "") -> bool:
        """Take the last decision of the page called `on` back, and no other; False when there is none.

        What was decided on the same line elsewhere, also since then, stays.
        """
        if not self._own.get(on):
            return False
        own = self._own[on].pop()
        self.refresh()  # others may have decided about the same thing meanwhile
        about = [one for one in self.overlay.decisions if one.target == own.target]
        last = max((at for at, one in enumerate(about) if one == own), default=None)
        if last is not None:
            rest = _live([*about[:last], *about[last + 1 :]])
            self._append([replace(own, do="open", who=self.who, at="", **_BARE), *rest])
            self._standing.under(self.overlay)
        return True

    def persona_of(self, name: str) -> tuple[str | None, str]:
        """(persona id or None, the name as others see it) of what a person typed."""
        typed = " ".join(name.split())
        for persona in self.cast:
            names = (persona.name, persona.display_name, *persona.aliases)
            if typed and name_key(typed) in {name_key(known) for known in names if known}:
                is_id = typed == persona.name and typed not in (persona.display_name, *persona.aliases)
                return persona.name, self._written(persona) if is_id else typed
        return None, typed

    def _written(self, persona: Persona) -> str:
        """How the texts write a persona."""
        keys = {name_key(name) for name in (persona.display_name, *persona.aliases)}
        return next((name for name in self.speakers if name_key(name) in keys), persona.display_name)

    def _line_decision(self, place: str, do: Any, given: Mapping[str, Any]) -> Decision:
        number, row = place_of(place, self.tables)
        window, position = self._standing.window(number, row, 1)
        if do == "fix":
            persona, speaker = self.persona_of(_text(given, "speaker"))
            return overlay.on_line(window, position, do, persona=persona, speaker=speaker)
        if do == "edit":
            return overlay.on_line(window, position, do, text=_text(given, "text"))
        return overlay.on_line(window, position, do)

    def _sample_decision(self, place: str, do: Any, given: Mapping[str, Any]) -> Decision:
        one = self._standing.conversation(*place_of(place, self.samples_tables))
        if do != "edit":
            return overlay.on_conversation(one, do)
        messages = given.get("messages")
        if not isinstance(messages, Mapping) or not all(isinstance(v, str) and v.strip() for v in messages.values()):
            raise InputError("review: an edit needs words for each of its messages; drop the sample instead")
        if not all(str(n).isdecimal() and int(n) < len(one.messages) for n in messages):
            raise InputError(f"review: the sample has messages 0 to {len(one.messages) - 1}")
        return overlay.on_conversation(one, do, messages={str(n): text for n, text in messages.items()})

    def _append(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Add the decisions to the overlay; as they are stored."""
        now = overlay.stamped(decisions, self.who)
        overlay.add(self.store, self.recipe.name, now)
        self.overlay = Overlay((*self.overlay.decisions, *now), self.overlay.unreadable)
        self._standing.overlay = self.overlay
        return now

    def _judge(self, statuses: Mapping[str, str], wanted: str) -> Any:
        if not wanted:
            return None

        def judged(ids: Iterator[str]) -> list[bool]:
            found = (statuses.get(one, "") for one in ids)
            if wanted == "open":
                return [not status for status in found]
            return [bool(status) if wanted == "decided" else status == wanted for status in found]

        return judged


_BARE: dict[str, Any] = {"persona": None, "speaker": None, "text": None, "messages": {}}


def _live(decisions: Sequence[Decision]) -> list[Decision]:
    """Those that still count: what came after the last `open`."""
    last = max((i for i, one in enumerate(decisions) if one.do == "open"), default=-1)
    return list(decisions[last + 1 :])


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise InputError(f"review: {name} must be text")
    return value

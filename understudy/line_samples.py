"""Lines on their way into a data set: those that are sound, as a person decided on them, cleaned, as conversations.

    lines = Lines(setting, tally)
    curated = lines.curated(rows)       # afterwards: lines.applied, lines.stale, lines.said

Rows come work by work and go the same way; nothing here holds more of them than one work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from understudy.cleaning.admission import REPEATED
from understudy.cleaning.sound import line_problem
from understudy.cleaning.tally import Tally
from understudy.cleaning.text_rules import REASON_OF, Heard, judged, judged_whole, mended
from understudy.conversation import Exchange, Row
from understudy.dataset import Curated, curate
from understudy.letters import letters
from understudy.overlay import Overlay
from understudy.recipe import CurateConfig

BY_REVIEW = "by review"


@dataclass(frozen=True)
class Setting:
    """What one persona's data set depends on besides its rows."""

    persona: str
    config: CurateConfig
    system: str = ""
    """The persona's system text: answers must not repeat it."""
    names: tuple[str, ...] = ()
    language: str = ""
    """Expected language where the lines do not tell; empty: that of most answers."""
    overlay: Overlay = field(default_factory=Overlay)


def heard_by(question: str, told: str, setting: Setting) -> Heard:
    """What an answer is judged against: the question, and what the persona was told."""
    system = "\n".join(text for text in (setting.system, told) if text)
    return Heard(question, system, (setting.persona, *setting.names), setting.language)


@dataclass
class Lines:
    """The sound rows of lines with what a person decided about them, work by work as they are asked for."""

    setting: Setting
    tally: Tally
    applied: int = 0
    stale: int = 0
    kept: set[str] = field(default_factory=set)
    """Line ids that a person said should stay."""
    said: list[str] = field(default_factory=list)
    """What the persona says, where its language has to be told by it."""

    def curated(self, given: Iterable[Row]) -> Curated:
        """Lines as conversations; the rules of `clean` look at them only where the recipe says so."""
        setting, tally = self.setting, self.tally
        config, persona = setting.config, setting.persona
        rows = self._of(given)
        chosen = any("lines" in rule.sources for rule in _text_rules(config))
        repeats = config.clean.repeats
        most = repeats.most if repeats and "lines" in repeats.sources else 0
        if chosen:
            rows = (_mended_line(row, setting, tally) for row in rows)
        said: Counter[str] = Counter()

        def judge(exchange: Exchange) -> str:
            if chosen:
                heard = heard_by("\n".join(row["text"] for row in exchange.before), "", setting)
                _, reason, _ = mended(exchange.text, "lines", config.clean, heard)
                reason = reason or judged_whole([exchange.text], "lines", config.clean)
                if reason := reason or judged(exchange.text, "lines", config.clean, heard):
                    return reason
            words = letters(exchange.text)
            said[words] += 1
            return REPEATED if most and said[words] > most else ""

        found = curate(
            rows,
            persona,
            window=config.window,
            heldout=config.heldout,
            seed=config.seed,
            min_chars=config.min_chars,
            max_repeats=config.max_repeats,
            kept=self.kept,  # full by the time that it is looked at
            judge=judge if chosen or most else None,
        )
        tally.add("lines", found.dropped)
        return found

    def _of(self, rows: Iterable[Row]) -> Iterator[Row]:
        rule = self.setting.config.clean.language
        for row in self._reviewed(self._sound(rows)):
            if row.get("review") == "keep":
                self.kept.add(row["line_id"])
            if rule is not None and row["persona"] == self.setting.persona and row["kind"] == "speech":
                self.said.append(row["text"])
            yield row

    def _sound(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if problem := line_problem(row):
                work = str(row.get("work") or "") if isinstance(row, Mapping) else ""
                self.tally.malformed("lines", work, row, problem)
            else:
                yield row

    def _reviewed(self, rows: Iterable[Row]) -> Iterator[Row]:
        overlay = self.setting.overlay
        if not overlay.works:
            yield from rows
            return
        for work, own in groupby(rows, key=itemgetter("work")):
            if work not in overlay.works:
                yield from own
                continue
            before = list(own)
            after, stale = overlay.apply_to_lines(before)
            left = {row["line_id"] for row in after}
            for row in before:
                if row["line_id"] not in left and row["persona"] == self.setting.persona:
                    address = {"persona": self.setting.persona, "work": work, "scene": str(row["scene"])}
                    dropped = {**address, "lines": [row["line_id"]], "text": row["text"], "reason": BY_REVIEW}
                    self.tally.add("lines", [dropped])
            self.applied += sum(bool(row.get("review")) for row in after) + len(before) - len(after)
            self.stale += len(stale)
            yield from after


def _mended_line(row: Mapping[str, Any], setting: Setting, tally: Tally) -> Mapping[str, Any]:
    if row["persona"] != setting.persona or row["kind"] != "speech" or row.get("review") == "keep":
        return row
    text, reason, done = mended(row["text"], "lines", setting.config.clean, heard_by("", "", setting))
    if reason or text == row["text"]:
        return row
    for name in done:
        tally.mend("lines", name, row["text"], text)
    return {**row, "text": text}


def _text_rules(config: CurateConfig) -> list[Any]:
    names = (*REASON_OF, "length", "prompt_leak", "language", "personal")
    return [rule for name in names if (rule := getattr(config.clean, name)) is not None]

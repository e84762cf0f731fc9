"""What a model is asked about speakers that no rule found, and what is believed of its answer.

    names = Names.of([("Emma", ["Miss Woodhouse"])], lines)
    for window in windows(lines, text, start, threshold=0.8, window_chars=4000):
        messages = question(window, names)
        read = speakers_of(window, answer_value, names)      # {position in lines: speaker}

A window shows a stretch of the source with its speeches marked: those that are asked by number, sure ones by speaker.
The answer names a speaker for each number. Only numbers that were asked and names that are known count; the words
always come from the source. Stretches in which no rule finds speech are read by `understudy.spoken`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from understudy.answers import object_schema
from understudy.lines import Line
from understudy.script import name_key

PROMPT_VERSION = "speakers-3"
CONFIDENCE = 0.85
"""Of a speaker that a model named: published figures for large models on novels lie between 0.85 and 0.93."""
AGREED = 0.95
"""Of a speaker whom the rules had named too, with less confidence than was asked for."""
SURE = 0.8
"""Speeches with at least this confidence are shown with their speaker, whatever the threshold: so another threshold
changes only the requests that ask for other speeches."""
MOST_SPANS = 40
"""Speeches that one call asks for."""
MOST_NAMES = 60
"""Names that one call shows."""
OFTEN = 20
"""Of them such as are heard often in the work, but perhaps not near."""
NEAR_LINES = 40
NOBODY = "unknown"

UNKNOWN_SPAN, UNKNOWN_NAME, TWICE, UNANSWERED = "unknown span number", "unknown name", "named twice", "not answered"
MALFORMED = "malformed answer"

_SPEAKERS = """\
You read fiction and say who speaks. In the text, every speech is marked where it begins: [[NAME]] where the speaker is
known, [[NUMBER]] where you are asked. For each number give the speaker, chosen from the list of names, written exactly
as in the list. Use the narration, the turns of the dialogue, forms of address and what is said. Answer "unknown" when
the text does not tell, or when it is somebody who is not in the list.
Answer with JSON: {"speakers": [{"span": 1, "name": "..."}]}."""

_NAMED = object_schema({"span": {"type": "integer"}, "name": {"type": "string"}})
SPEAKERS_SCHEMA = object_schema({"speakers": {"type": "array", "items": _NAMED}})


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of text to ask about."""

    text: str
    """As it is shown: marked for speakers, bare for passages."""
    spans: tuple[int, ...]
    """Positions in `lines` of the speeches that are asked for, in the order of their numbers; empty for a passage."""
    start: int = 0
    """Where a passage begins in the parsed text."""
    near: tuple[str, ...] = ()
    """Whom the rules heard speak in and around it, in the order of the text."""


@dataclass(frozen=True, slots=True)
class Names:
    """Who may be named: the spelling that counts, by every key that means it."""

    cast: tuple[tuple[str, tuple[str, ...]], ...]
    """(name, other names of the same person)."""
    often: tuple[str, ...]
    """Others whom the rules heard most often, by name."""
    by_key: Mapping[str, str]

    @classmethod
    def of(cls, cast: Sequence[tuple[str, Sequence[str]]], lines: Sequence[Line]) -> Names:
        """The cast with its aliases, and everybody whom the rules heard in `lines` by a name."""
        known = tuple(_spelt(name, aliases) for name, aliases in cast)
        by_key = {name_key(each): name for name, others in known for each in (name, *others)}
        heard = Counter(line.speaker for line in lines if line.kind == "speech" and line.speaker)
        more: list[str] = []
        for speaker, _ in sorted(heard.items(), key=lambda one: (-one[1], one[0])):
            described = speaker[0].islower()  # `his wife` is nobody's name
            if not described and name_key(speaker) not in by_key:
                by_key[name_key(speaker)] = speaker
                more.append(speaker)
        return cls(known, tuple(sorted(more[:OFTEN])), by_key)

    def shown(self, window: Window) -> list[tuple[str, tuple[str, ...]]]:
        """Who may speak in a window: the cast (of very many those in the text first), those heard near, the others."""
        here = [one for one in self.cast if any(name in window.text for name in (one[0], *one[1]))]
        rest = [one for one in self.cast if one not in here]
        first = set((here + rest)[:MOST_NAMES]) if len(self.cast) > MOST_NAMES else set(self.cast)
        found = [one for one in self.cast if one in first]
        names = {name for name, _ in self.cast}
        near = (self.by_key.get(name_key(name)) for name in window.near)
        others = dict.fromkeys(name for name in (*near, *self.often) if name and name not in names)
        return [*found, *((name, ()) for name in list(others)[: max(0, MOST_NAMES - len(found))])]

    def listed(self, window: Window) -> str:
        """One name a line, other names behind it."""
        shown = self.shown(window)
        return "\n".join(f"- {name}" + (f" (also: {', '.join(also)})" if also else "") for name, also in shown)


def _spelt(name: str, aliases: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The name as its aliases write it (`elizabeth` may be a persona's id alone), and its other names."""
    same = [one for one in (name, *aliases) if name_key(one) == name_key(name)]
    best = next((one for one in same if not one[0].islower()), name)
    return best, tuple(one for one in dict.fromkeys(aliases) if one not in same)


def is_open(line: Line, threshold: float) -> bool:
    """Whether a model is asked who says this."""
    return line.kind == "speech" and (line.speaker is None or line.confidence < threshold)


def windows(lines: Sequence[Line], text: str, start: int, threshold: float, window_chars: int) -> Iterator[Window]:
    """Windows that ask for every open speech once, with text before and behind it.

    `text` begins at offset `start` of the file that the lines' offsets count in; a window shows `window_chars` of it.
    Each scene is cut into equal cells of at most half of that, and the open speeches of a cell are asked together: so
    an edit of the text changes the requests of its scene, and another threshold those of the cells that it touches.
    """
    around = window_chars // 4
    for cell, end in _cells(lines, start + len(text), window_chars // 2):
        asked = [position for position in cell if is_open(lines[position], threshold)]
        for n in range(0, len(asked), MOST_SPANS):
            spans = asked[n : n + MOST_SPANS]
            until = min(lines[spans[-1]].end, max(end, lines[spans[-1]].start)) + around
            shown = _at_blanks(text, lines[spans[0]].start - start - around, until - start)
            around_it = lines[max(0, spans[0] - NEAR_LINES) : spans[-1] + NEAR_LINES + 1]
            near = dict.fromkeys(line.speaker for line in around_it if line.kind == "speech" and line.speaker)
            yield Window(_marked(lines, text, start, *shown, spans), tuple(spans), near=tuple(near))


def _cells(lines: Sequence[Line], end: int, most: int) -> Iterator[tuple[range, int]]:
    """(positions, offset of the end) of equal parts of each scene, `most` characters long at most."""
    first = 0
    while first < len(lines):
        last = first
        while last < len(lines) and (lines[last].work, lines[last].scene) == (lines[first].work, lines[first].scene):
            last += 1
        begin = lines[first].start
        until = lines[last].start if last < len(lines) else end
        count = max(1, -(-(until - begin) // most))
        at = first
        for number in range(1, count + 1):
            bound = begin + (until - begin) * number // count
            behind = at
            while behind < last and (number == count or lines[behind].start < bound):
                behind += 1
            if behind > at:
                yield range(at, behind), bound
            at = behind
        first = last


def _at_blanks(text: str, begin: int, end: int) -> tuple[int, int]:
    """The bounds moved inwards to where a word begins and ends; where there are no blanks they stay."""
    begin, end = max(0, begin), min(len(text), end)
    if begin:
        begin = next((at + 1 for at in range(begin, min(begin + 40, end)) if text[at].isspace()), begin)
    if end < len(text):
        end = next((at for at in range(end, max(end - 40, begin), -1) if text[at].isspace()), end)
    return begin, end


def _marked(lines: Sequence[Line], text: str, start: int, begin: int, end: int, spans: Sequence[int]) -> str:
    numbers = {position: number for number, position in enumerate(spans, 1)}
    first, last = spans[0], spans[-1]
    while first > 0 and lines[first - 1].start - start >= begin:
        first -= 1
    while last + 1 < len(lines) and lines[last + 1].start - start < end:
        last += 1
    out: list[str] = []
    at = begin
    for position in range(first, last + 1):
        line = lines[position]
        if line.kind != "speech" or not at <= line.start - start < end:
            continue
        mark = str(numbers[position]) if position in numbers else line.speaker if line.confidence >= SURE else None
        if mark:
            out += [text[at : line.start - start], f"[[{mark}]]"]
            at = line.start - start
    out.append(text[at:end])
    return "".join(out)


def question(window: Window, names: Names) -> tuple[dict[str, str], ...]:
    """The messages of a call about a window's open speeches."""
    count = len(window.spans)
    who = "Who says 1?" if count == 1 else f"Who says 1 to {count}?"
    asked = f"Names:\n{names.listed(window)}\n\nText:\n{window.text}\n\n{who}"
    return {"role": "system", "content": _SPEAKERS}, {"role": "user", "content": asked}


@dataclass(frozen=True, slots=True)
class Read:
    """What an answer comes to."""

    speakers: Mapping[int, str]
    """Speaker by position in `lines`."""
    refused: tuple[tuple[str, int | None, str], ...]
    """What is not believed: (reason, position in `lines` where it is about a speech, what was said)."""


def speakers_of(window: Window, value: Any, names: Names) -> Read:
    """The speakers in an answer; numbers that were not asked, and names that are not known, are refused."""
    found: dict[int, str] = {}
    refused: list[tuple[str, int | None, str]] = []
    mentioned: set[int] = set()
    said = value.get("speakers") if isinstance(value, dict) else None
    for one in said if isinstance(said, list) else ():
        span, name = (one.get("span"), str(one.get("name") or "")) if isinstance(one, dict) else (None, str(one))
        if not isinstance(span, int) or isinstance(span, bool) or not 1 <= span <= len(window.spans):
            refused.append((UNKNOWN_SPAN, None, f"{span}: {name}"))
            continue
        position = window.spans[span - 1]
        key = name_key(name)
        if position in mentioned:
            refused.append((TWICE, position, name))
        elif key == NOBODY and NOBODY not in names.by_key:
            refused.append((NOBODY, position, name))
        elif key not in names.by_key:
            refused.append((UNKNOWN_NAME, position, name))
        else:
            found[position] = names.by_key[key]
        mentioned.add(position)
    refused += [(UNANSWERED, position, "") for position in window.spans if position not in mentioned]
    return Read(found, tuple(refused))


def named(lines: Sequence[Line], speakers: Mapping[int, str], names: Names) -> list[Line]:
    """The lines with what a model said about them; where the rules had named the same person, more sure of it."""
    return [_named(line, speakers[i], names) if i in speakers else line for i, line in enumerate(lines)]


def _named(line: Line, speaker: str, names: Names) -> Line:
    before = name_key(line.speaker or "")
    if before and names.by_key.get(before, line.speaker) == speaker:
        return replace(line, method="model", confidence=max(AGREED, line.confidence))
    return replace(line, speaker=speaker, method="model", confidence=CONFIDENCE)

"""What a model is asked about speakers that no rule found, and what is believed of its answer.

    for window in windows(lines, text, start, threshold=0.8, window_chars=4000):
        messages = question(window, names)
        read = speakers_of(window, answer_value, names)      # {position in lines: speaker}

A window shows a stretch of the source with its speeches marked: open ones by number, known ones by speaker. The answer
names a speaker for each number. Only numbers that were asked and names that were given count; the words always come
from the source. `passages` and `said_in` are the same for stretches in which no rule finds speech: there the model
copies out who says what, and only what is found in the source, word for word, becomes a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from understudy.lines import Line
from understudy.script import name_key

PROMPT_VERSION = "speakers-1"
CONFIDENCE = 0.85
"""Of a speaker that a model named: published figures for large models on novels lie between 0.85 and 0.93."""
READ_CONFIDENCE = 0.7
"""Of a speech that only a model found."""
MOST_SPANS = 40
"""Open speeches in one window."""
MOST_NAMES = 60
LEAST_PASSAGE = 200
"""Characters; a shorter stretch without speech is not worth a call."""
NOBODY = "unknown"

_SPEAKERS = """\
You read fiction and say who speaks. In the text, every speech is marked where it begins: [[NAME]] where the speaker is
known, [[NUMBER]] where you are asked. For each number give the speaker, chosen from the list of names, written exactly
as in the list. Use the narration, the turns of the dialogue, forms of address and what is said. Answer "unknown" when
the text does not tell, or when it is somebody who is not in the list.
Answer with JSON: {"speakers": [{"span": 1, "name": "..."}]}."""

_READER = """\
You read a text and copy out who says what in it. Answer with JSON: {"lines": [{"speaker": "...", "text": "..."}]}, in
the order of the text. Copy every spoken line word for word from the text, without marks of quotation and without
narration; never translate, mend or shorten it. The speaker is a name from the list, else the name as the text has it.
Where nobody speaks, answer {"lines": []}."""

SPEAKERS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "speakers": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"span": {"type": "integer"}, "name": {"type": "string"}},
                "required": ["span", "name"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["speakers"],
    "additionalProperties": False,
}
LINES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"speaker": {"type": "string"}, "text": {"type": "string"}},
                "required": ["speaker", "text"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["lines"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of text to ask about."""

    text: str
    """As it is shown: marked for speakers, bare for passages."""
    spans: tuple[int, ...]
    """Positions in `lines` of the speeches that are asked for, in the order of their numbers; empty for a passage."""
    start: int = 0
    """Where a passage begins in the parsed text."""


@dataclass(frozen=True, slots=True)
class Names:
    """Who may be named: the spelling that counts, by every key that means it."""

    shown: tuple[tuple[str, tuple[str, ...]], ...]
    """(name, other names of the same person)."""
    by_key: Mapping[str, str]

    @classmethod
    def of(cls, cast: Sequence[tuple[str, Sequence[str]]], lines: Sequence[Line]) -> Names:
        """The cast with its aliases, then the speakers whom the rules found most often."""
        shown = [(name, tuple(a for a in aliases if name_key(a) != name_key(name))) for name, aliases in cast]
        by_key = {name_key(each): name for name, others in shown for each in (name, *others)}
        heard = Counter(line.speaker for line in lines if line.kind == "speech" and line.speaker)
        for speaker, _ in sorted(heard.items(), key=lambda one: (-one[1], one[0])):
            if len(shown) >= max(MOST_NAMES, len(cast)):
                break
            if name_key(speaker) not in by_key:
                by_key[name_key(speaker)] = speaker
                shown.append((speaker, ()))
        return cls(tuple(shown), by_key)

    def listed(self) -> str:
        """One name a line, other names behind it."""
        return "\n".join(f"- {name}" + (f" (also: {', '.join(also)})" if also else "") for name, also in self.shown)


def is_open(line: Line, threshold: float) -> bool:
    """Whether a model is asked who says this."""
    return line.kind == "speech" and (line.speaker is None or line.confidence < threshold)


def windows(lines: Sequence[Line], text: str, start: int, threshold: float, window_chars: int) -> Iterator[Window]:
    """Windows that hold every open speech once, with text before and behind it.

    `text` begins at offset `start` of the file that the lines' offsets count in; `window_chars` bounds the source's
    characters in one window.
    """
    around = window_chars // 4
    position = 0
    total = len(lines)
    while position < total:
        if not is_open(lines[position], threshold):
            position += 1
            continue
        begin = max(0, lines[position].start - start - around)
        end = begin + window_chars
        spans: list[int] = []
        while position < total and len(spans) < MOST_SPANS:
            line = lines[position]
            if spans and line.end - start > end - around:
                break
            if is_open(line, threshold):
                spans.append(position)
            position += 1
        end = max(end, lines[spans[-1]].end - start)
        yield Window(_marked(lines, text, start, begin, end, spans), tuple(spans))


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
        if line.kind != "speech" or not begin <= line.start - start < end:
            continue
        mark = str(numbers[position]) if position in numbers else line.speaker
        if mark:
            out += [text[at : line.start - start], f"[[{mark}]]"]
            at = line.start - start
    out.append(text[at:end])
    return "".join(out)


def question(window: Window, names: Names) -> tuple[dict[str, str], ...]:
    """The messages of a call about a window's open speeches."""
    asked = f"Names:\n{names.listed()}\n\nText:\n{window.text}\n\nWho says 1 to {len(window.spans)}?"
    return {"role": "system", "content": _SPEAKERS}, {"role": "user", "content": asked}


@dataclass(frozen=True, slots=True)
class Read:
    """What an answer comes to."""

    speakers: Mapping[int, str]
    """Speaker by position in `lines`."""
    refused: Counter[str]
    """Parts of the answer that are not believed, by reason."""


def speakers_of(window: Window, value: Any, names: Names) -> Read:
    """The speakers in an answer; numbers that were not asked, and names that were not given, are refused."""
    found: dict[int, str] = {}
    refused: Counter[str] = Counter()
    for one in value.get("speakers", ()) if isinstance(value, dict) else ():
        span, name = one.get("span"), str(one.get("name") or "")
        if not isinstance(span, int) or not 1 <= span <= len(window.spans):
            refused["unknown span"] += 1
        elif name_key(name) == NOBODY:
            continue
        elif name_key(name) not in names.by_key:
            refused["unknown name"] += 1
        elif window.spans[span - 1] in found:
            refused["named twice"] += 1
        else:
            found[window.spans[span - 1]] = names.by_key[name_key(name)]
    return Read(found, refused)


def named(lines: Sequence[Line], speakers: Mapping[int, str]) -> list[Line]:
    """The lines with what a model said about them."""
    return [
        replace(line, speaker=speakers[i], method="model", confidence=CONFIDENCE) if i in speakers else line
        for i, line in enumerate(lines)
    ]


# Passages in which no rule finds speech -------------------------------------------------------------------------------


def passages(lines: Sequence[Line], text: str, start: int, window_chars: int) -> Iterator[Window]:
    """Stretches between speeches and headings that hold more than a few words, cut at `window_chars`."""
    begin = end = None
    for line in [*lines, None]:
        if line is not None and line.kind == "narration":
            begin = line.start - start if begin is None else begin
            end = line.end - start
            continue
        if begin is not None and end is not None and end - begin >= LEAST_PASSAGE:
            yield from _cut(text, begin, end, window_chars)
        begin = end = None


def _cut(text: str, begin: int, end: int, window_chars: int) -> Iterator[Window]:
    """Pieces of at most `window_chars`, parted at the end of a line or sentence where there is one."""
    while begin < end:
        until = min(end, begin + window_chars)
        if until < end:
            ends = [match.end() for match in re.finditer(r"\n|[.!?。！？]['\"”’」』]?\s?", text[begin:until])]
            until = begin + ends[-1] if ends and ends[-1] > window_chars // 2 else until
        yield Window(text[begin:until], (), begin)
        begin = until


def reading(window: Window, names: Names) -> tuple[dict[str, str], ...]:
    """The messages of a call that copies out who says what."""
    asked = f"Names:\n{names.listed()}\n\nText:\n{window.text}"
    return {"role": "system", "content": _READER}, {"role": "user", "content": asked}


def said_in(window: Window, value: Any, names: Names) -> tuple[list[tuple[str, int, int]], Counter[str]]:
    """(speaker, start, end) in the parsed text of each line that stands in the window; what was dropped, counted.

    A line counts where its words follow each other in the source, whatever blanks part them, behind the line before;
    its speaker where the name was given or stands in the window.
    """
    found: list[tuple[str, int, int]] = []
    refused: Counter[str] = Counter()
    at = 0
    for one in value.get("lines", ()) if isinstance(value, dict) else ():
        words = str(one.get("text") or "").strip().strip('"“”„«»「」『』').split()
        speaker = str(one.get("speaker") or "").strip()
        known = names.by_key.get(name_key(speaker))
        match = re.compile(r"\s+".join(map(re.escape, words))).search(window.text, at) if words else None
        if match is None:
            refused["not in the source"] += 1
        elif not known and (not speaker or speaker not in window.text):
            refused["unknown name"] += 1
        else:
            found.append((known or speaker, window.start + match.start(), window.start + match.end()))
            at = match.end()
    return found, refused


def with_said(lines: Sequence[Line], text: str, start: int, said: Sequence[tuple[str, int, int]]) -> list[Line]:
    """The lines with speeches cut out of the narration that they stand in; `index` and `line_id` are set anew."""
    left = sorted(said, key=lambda one: one[1])
    out: list[Line] = []
    for line in lines:
        if line.kind != "narration":
            out.append(line)
            continue
        at = line.start
        while left and left[0][1] + start < line.end:
            speaker, begin, end = left.pop(0)
            begin, end = begin + start, end + start
            if begin < at:
                continue  # it was said before
            out += _told(line, text, start, at, begin)
            body = " ".join(text[begin - start : end - start].split())
            out.append(
                replace(line, kind="speech", speaker=speaker, text=body, start=begin, end=end, method="model",
                        confidence=READ_CONFIDENCE, directions=())
            )  # fmt: skip
            at = end
        out += [line] if at == line.start else _told(line, text, start, at, line.end)
    first = lines[0].index if lines else 0
    return [replace(line, index=n, line_id=f"{line.work}:{n}") for n, line in enumerate(out, first)]


def _told(line: Line, text: str, start: int, begin: int, end: int) -> list[Line]:
    body = text[begin - start : end - start]
    kept = " ".join(body.split())
    if not any(map(str.isalnum, kept)):
        return []
    first = begin + len(body) - len(body.lstrip())
    return [replace(line, text=kept, start=first, end=first + len(body.strip()))]

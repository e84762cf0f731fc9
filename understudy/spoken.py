"""Speech that a model copies out of passages in which no rule finds any, and what of it the source bears out.

    for passage in passages(lines, text, start, window_chars=4000, least=200):
        messages = reading(passage, names)
        said, refused = said_in(passage, answer_value, names)     # (speaker, start, end) in `text`
    lines = with_said(lines, text, start, said)

The model says who says what; only what is found in the source, word for word, becomes a line, and its words are the
source's. Marks of quotation, apostrophes and dashes may be written in another way, and blanks do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from understudy.answers import object_schema
from understudy.attributing import UNKNOWN_NAME, Names, Window
from understudy.lines import Line
from understudy.quotes import is_han
from understudy.script import name_key
from understudy.speech_words import PRONOUNS

PROMPT_VERSION = "spoken-2"
CONFIDENCE = 0.7
"""Of a speech that only a model found."""
LEAST_CHARS = 20
"""A shorter passage is not worth a call."""
NOT_THERE, SAID_BEFORE = "not in the source", "said before"

_READER = """\
You read a text and copy out who says what in it. Answer with JSON: {"lines": [{"speaker": "...", "text": "..."}]}, in
the order of the text. Copy every spoken line word for word from the text, without marks of quotation and without
narration; never translate, mend or shorten it. The speaker is a name from the list, else the name as the text has it.
Where nobody speaks, answer {"lines": []}."""

_COPIED = object_schema({"speaker": {"type": "string"}, "text": {"type": "string"}})
LINES_SCHEMA = object_schema({"lines": {"type": "array", "items": _COPIED}})

Said = tuple[str, int, int]
"""Speaker, start and end in the parsed text."""


def passages(lines: Sequence[Line], text: str, start: int, window_chars: int, least: int) -> Iterator[Window]:
    """Stretches between speeches and headings of at least `least` characters, cut at `window_chars`."""
    begin = end = None
    heard = dict.fromkeys(line.speaker for line in lines if line.kind == "speech" and line.speaker)
    for line in [*lines, None]:
        if line is not None and line.kind == "narration":
            begin = line.start - start if begin is None else begin
            end = line.end - start
            continue
        if begin is not None and end is not None and end - begin >= least:
            for piece in _cut(text, begin, end, window_chars):
                yield replace(piece, near=tuple(name for name in heard if name in piece.text))
        begin = end = None


def _cut(text: str, begin: int, end: int, window_chars: int) -> Iterator[Window]:
    """Pieces of at most `window_chars`, parted at the end of a line or sentence where there is one."""
    while begin < end:
        until = min(end, begin + window_chars)
        if until < end:
            rows = [match.end() for match in re.finditer(r"\n", text[begin:until])]
            ends = [match.end() for match in re.finditer(r"[.!?。！？…]['\"”’」』]?\s?", text[begin:until])]
            last = next((found[-1] for found in (rows, ends) if found and found[-1] > window_chars // 2), None)
            until = begin + last if last else until
        yield Window(text[begin:until], (), begin)
        begin = until


def reading(passage: Window, names: Names) -> tuple[dict[str, str], ...]:
    """The messages of a call that copies out who says what."""
    asked = f"Names:\n{names.listed(passage) or '- (none known)'}\n\nText:\n{passage.text}"
    return {"role": "system", "content": _READER}, {"role": "user", "content": asked}


def said_in(passage: Window, value: Any, names: Names) -> tuple[list[Said], list[tuple[str, str]]]:
    """What stands in the passage, in the order of the text, and what was dropped: (reason, what was said).

    A line counts where its words follow each other in the source, and its speaker where the name is known or stands in
    the passage. Lines may come in another order; a piece of the source is said once.
    """
    found: list[Said] = []
    dropped: list[tuple[str, str]] = []
    at = 0
    said = value.get("lines") if isinstance(value, dict) else None
    for one in said if isinstance(said, list) else ():
        speaker, words = _one(one)
        shown = f"{speaker}: {words}"
        pattern = _pattern(words)
        match = pattern and (pattern.search(passage.text, at) or pattern.search(passage.text))
        who = names.by_key.get(name_key(speaker)) or _written(speaker, passage.text)
        if not match:
            dropped.append((NOT_THERE, shown))
        elif not who:
            dropped.append((UNKNOWN_NAME, shown))
        elif any(
            match.start() < end - passage.start and match.end() > begin - passage.start for _, begin, end in found
        ):
            dropped.append((SAID_BEFORE, shown))
        else:
            found.append((who, passage.start + match.start(), passage.start + match.end()))
            at = match.end()
    return sorted(found, key=lambda one: one[1]), dropped


def _one(value: Any) -> tuple[str, str]:
    """(speaker, words) of one line of an answer."""
    if not isinstance(value, dict):
        return "", str(value)
    return str(value.get("speaker") or "").strip(), str(value.get("text") or "").strip()


_ALIKE = {
    **dict.fromkeys("'’‘ʼ`´", "['’‘ʼ`´]"),
    **dict.fromkeys('"“”„«»', '["“”„«»]'),
    **dict.fromkeys("-–—―", "[-–—―]+"),
    "…": r"(?:…+|\.{3,})",
}
_OUTER = ' \t\n\r"“”„«»「」『』'
_PIECES = re.compile(r"\s+|[-–—―]+|\.{3,}|…+|.", re.DOTALL)


def _pattern(words: str) -> re.Pattern[str] | None:
    """Finds the words in a source that sets blanks and marks in its own way; None where there are none."""
    words = words.strip(_OUTER)
    if not any(map(str.isalnum, words)):
        return None
    parts: list[str] = []
    before = ""
    for piece in _PIECES.findall(words):
        if piece.isspace():
            loose = before and is_han(before[-1])
            parts.append(r"\s*" if loose else r"\s+")
        else:
            if before and is_han(before[-1]) and not parts[-1].startswith(r"\s"):
                parts.append(r"\s*")
            key = "…" if piece.startswith("...") else piece[0]
            parts.append(_ALIKE.get(key) or re.escape(piece))
            before = piece
    # `art` does not stand in `heart`; where words are not parted by blanks, there is nothing to tell.
    front = r"(?<!\w)" if words[0].isalnum() and not is_han(words[0]) else ""
    back = r"(?!\w)" if words[-1].isalnum() and not is_han(words[-1]) else ""
    return re.compile(front + "".join(parts) + back)


_PERSONS_TEXT = "him her them us me 他 她 它 我 你 您 他们 她们 我们"
_PERSONS = frozenset((*PRONOUNS, *_PERSONS_TEXT.split()))


def _written(speaker: str, text: str) -> str:
    """The speaker as the passage names it, or an empty string."""
    pattern = None if speaker.casefold() in _PERSONS or len(speaker) > 60 else _pattern(speaker)
    match = pattern and pattern.search(text)
    return " ".join(match.group().split()) if match else ""


def with_said(lines: Sequence[Line], text: str, start: int, said: Sequence[Said], first: int) -> list[Line]:
    """The lines with speeches cut out of the narration that they stand in; `first` is the first line's index.

    `index` and `line_id` are set anew: what a person decided in review is found again by offsets and words.
    """
    left = sorted(said, key=lambda one: one[1])
    next_said = 0
    out: list[Line] = []
    for line in lines:
        if line.kind != "narration":
            out.append(line)
            continue
        at = line.start
        while next_said < len(left) and left[next_said][1] + start < line.end:
            speaker, begin, end = left[next_said][0], *(offset + start for offset in left[next_said][1:])
            # What goes on over several paragraphs is a line in each, as quotes are.
            here = text[max(begin, at) - start : min(end, line.end) - start]
            begin = max(begin, at) + len(here) - len(here.lstrip())
            here = here.strip()
            if any(map(str.isalnum, here)):
                out += _told(line, text, start, at, begin)
                at = begin + len(here)
                spoken = replace(line, kind="speech", speaker=speaker, text=_plain(here), start=begin, end=at)
                out.append(replace(spoken, method="model", confidence=CONFIDENCE, directions=()))
            if end > line.end:
                break
            next_said += 1
        out += [line] if at == line.start else _told(line, text, start, at, line.end)
    return [
        line if line.index == n else replace(line, index=n, line_id=f"{line.work}:{n}")
        for n, line in enumerate(out, first)
    ]


def _told(line: Line, text: str, start: int, begin: int, end: int) -> list[Line]:
    body = text[begin - start : end - start]
    kept = _plain(body)
    if not any(map(str.isalnum, kept)):
        return []
    at = begin + len(body) - len(body.lstrip())
    return [replace(line, text=kept, start=at, end=at + len(body.strip()))]


_HAN_BREAK = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\s*\n\s*(?=[\u3000-\u9fff\uff00-\uffef])")


def _plain(text: str) -> str:
    return " ".join((_HAN_BREAK.sub("", text) if "\n" in text else text).split())

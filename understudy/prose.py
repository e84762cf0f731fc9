"""Lines of a novel: who speaks and what they say, found by rules in English and Chinese prose.

    lines = parse(text, "emma", names={"Miss Woodhouse": "emma", "Emma": "emma"})

The lines are those of `understudy.script`: a quote is a speech, what stands around it narration, a chapter heading a
heading and a scene. A speech spans the words within its marks. Where only a tag parts two quotes (`," said Anna, "`),
they are one speech: its span holds both, the tag is among its directions (from the closing mark to the opening one) and
not in its text; a comma at the end that only the tag asked for is a full stop there. Where more is told between them,
or a paragraph carries a speech on, each quote is a line of its own.

`method` says how the speaker is known: `verb` (a name beside a speech verb), `beat` (what somebody does, told right
beside), `pronoun`, `alternation` (the course of the dialogue), `open` (nobody fits clearly; then `speaker` is None).
Reading is linear in the length of the text; no text makes it fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from understudy.attribution import Said
from understudy.layout import flatten
from understudy.lines import SCENE_SPEECHES, Line
from understudy.quotes import Paragraph, Quote, is_han, paragraphs, quotes
from understudy.script import LEAST_SPEECH, Role, plays, speech_share
from understudy.script import parse as parse_script
from understudy.tokenised import is_tokenised, read_tokenised
from understudy.turns import HanReader, LetterReader
from understudy.unsaid import mottoes, written_letters

Kind = Literal["script", "prose"]
LEAST_QUOTES = 3
"""A text with fewer quotes than this is no prose with dialogue."""


def read_work(
    text: str, work: str, kind: str = "auto", layout: str = "auto", names: Mapping[str, str] | Iterable[str] = ()
) -> tuple[Kind | None, list[Line]]:
    """What a text is and its lines; None where it is neither a script nor prose with quoted speech.

    `kind` is that of a corpus entry: `script` and `prose` are believed, as long as anybody speaks at all.
    """
    lines: list[Line] = []
    if kind != "prose":
        lines = parse_script(text, work, layout)
        share = speech_share(lines, len(text))
        if (share >= LEAST_SPEECH and not _tells(lines)) or (kind == "script" and share > 0):
            return "script", lines
    if kind == "script":
        return None, lines
    told = parse(text, work, names)
    spoken = sum(line.kind == "speech" for line in told)
    if spoken >= (LEAST_QUOTES if kind == "auto" else 1):
        return "prose", told
    return None, lines or told


def _tells(lines: Sequence[Line]) -> bool:
    """Whether what looks like cues is a novel's `宝玉道：`, with the words in marks behind it."""
    speeches = [line for line in lines if line.kind == "speech"]
    told = sum((line.speaker or "")[-1:] in "道说說曰问問" and line.text[:1] in '“"「『' for line in speeches)
    return told > 0.3 * len(speeches)


def cast_names(cast: Sequence[Role], work: str) -> dict[str, str]:
    """Persona by every name, as written in the cast, that holds in a work."""
    return {
        name: role.name
        for role in cast
        if plays(role, work)
        for name in (role.name, role.display_name, *role.aliases)
        if name
    }


def parse(text: str, work: str, names: Mapping[str, str] | Iterable[str] = ()) -> list[Line]:
    """The lines of a novel in the order of the text.

    `names` are names and aliases that people bear in it, each with the one whom it means where that is known; they make
    `said his daughter` a name, and two names of one person one speaker. Other speakers are found by their speech verbs.
    """
    known = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
    flat = flatten(text)
    if cut := is_tokenised(flat):
        parts, marked = read_tokenised(flat)
    else:
        parts = paragraphs(flat)
        marked = quotes(flat, parts)
    heads = {i for i, part in enumerate(parts) if is_heading(flat[part.start : part.end])}
    marked = [quote for quote in marked if quote.paragraph not in heads]
    han = _is_han(flat)
    if han:
        reader = HanReader(flat, parts, marked, heads, known)
    else:
        unsaid = mottoes(flat, parts, marked, heads) | (set() if cut else written_letters(flat, parts, marked))
        reader = LetterReader(flat, parts, marked, heads, known, unsaid)
    return _Page(flat, work, parts, heads, reader.found, reader.said(), reader.tags).lines()


_HEAD = re.compile(
    r"""[\#\s*_=|-]{0,8}(?:
     (?:chapter|book|part|volume|letter|canto|stave|kapitel|buch|chapitre|livre|partie|cap[ií]tulo|libro|parte|глава|часть)
       \s+(?:the\s+)?(?:[ivxlcdm]{1,8}|[0-9]{1,4}|[a-z-]{2,20}(?:st|nd|rd|th)?)\b(?:[\s.:—–-].{0,100})?$
    |(?:prologue|epilogue|preface|introduction|foreword|conclusion|the\s+end|finis)\s*\.?[*_]*$
    |[ivxl]{1,7}\.?$
    |(?:正文\s*)?第\s*[0-9０-９零〇一二三四五六七八九十百千两]{1,8}\s*[回章节節卷部集篇话話](?![的了是在]).{0,60}$
    |(?:楔子|序章|序幕|尾声|尾聲|引子|序言|前言|后记|番外|终章)(?:\s.{0,40})?$)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_NUMBER_WORDS_TEXT = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty first second third fourth fifth
    sixth seventh eighth ninth tenth last"""
_NUMBER_WORDS = frozenset(_NUMBER_WORDS_TEXT.split())


def is_heading(body: str) -> bool:
    """Whether a paragraph is the heading of a chapter."""
    if len(body) > 160 or body.count("\n") > 3:
        return False
    match = _HEAD.match(body)
    if match is None or "”" in body or "“" in body:
        return False
    words = re.findall(r"\w+", body.lower())
    if len(words) > 1 and words[0].isalpha() and words[0].isascii() and len(words[1]) > 1 and words[1].isalpha():
        numeral = re.fullmatch(r"[ivxlcdm]+", words[1]) or words[1] in _NUMBER_WORDS or words[1] == "the"
        return bool(numeral or body.count("\n") > 0 or words[0] in ("prologue", "epilogue", "the"))
    return True


_HAN = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")


def _is_han(flat: str) -> bool:
    sample = flat[:20_000] + flat[len(flat) // 2 : len(flat) // 2 + 20_000]
    return len(_HAN.findall(sample)) > 0.3 * len(sample.replace(" ", ""))


class _Page:
    """Lets the lines go out in the order of the text."""

    def __init__(
        self,
        flat: str,
        work: str,
        parts: list[Paragraph],
        heads: set[int],
        found: list[Quote],
        said: list[Said],
        tags: list[bool],
    ) -> None:
        self.flat, self.work, self.parts, self.heads = flat, work, parts, heads
        self.found, self.said, self.tags = found, said, tags
        self.out: list[Line] = []
        self.scene = self.scenes = self.spoken = self.total = 0

    def lines(self) -> list[Line]:
        """Every line of the work."""
        i = 0
        until = 0
        for number, part in enumerate(self.parts):
            if number in self.heads:
                self._heading(part)
                continue
            at = max(part.start, until)
            while i < len(self.found) and self.found[i].paragraph <= number:
                self._narration(at, self.found[i].outer)
                j = i
                while self.tags[j] and self.said[j + 1].speaker == self.said[i].speaker:
                    j += 1
                self._speech(i, j)
                at = until = self.found[j].outer_end
                i = j + 1
            self._narration(at, part.end)
        return self.out

    def _emit(
        self,
        kind: str,
        text: str,
        start: int,
        end: int,
        said: Said,
        directions: tuple[dict[str, int | str], ...] = (),
    ) -> None:
        index = len(self.out)
        self.out.append(
            Line(
                f"{self.work}:{index}",
                self.work,
                f"{self.work}#{self.scene}",
                index,
                kind,
                said.speaker,
                None,
                text,
                directions,
                start,
                end,
                said.method,
                said.confidence,
            )
        )

    def _heading(self, part: Paragraph) -> None:
        if self.spoken:
            self.scenes += 1
            self.scene = self.scenes
        self.spoken = 0
        self._emit(
            "heading", _plain(self.flat[part.start : part.end]).strip("#*_ |"), *part[:2], Said(None, "prose", 0.95)
        )

    def _narration(self, start: int, end: int) -> None:
        body = self.flat[start:end]
        text = body.strip()
        if not any(map(str.isalnum, text)):
            return
        begin = start + len(body) - len(body.lstrip())
        self._emit("narration", _plain(text), begin, begin + len(text), Said(None, "prose", 0.9))

    def _speech(self, first: int, last: int) -> None:
        start, end = self.found[first].start, self.found[last].end
        if not self.heads and self.total and self.total % SCENE_SPEECHES == 0:
            self.scene = self.total // SCENE_SPEECHES
        self.total += 1
        self.spoken += 1
        words: list[str] = []
        directions: list[dict[str, int | str]] = []
        for k in range(first, last + 1):
            words.append(self.flat[self.found[k].start : self.found[k].end])
            if k < last:
                gap = (self.found[k].end, self.found[k + 1].start)
                told = _plain(self.flat[self.found[k].outer_end : self.found[k + 1].outer]).strip(",;:—– ，：")
                directions.append({"start": gap[0], "end": gap[1], "text": told})
        joined = ("" if is_han(words[0][-1]) else " ").join(words)
        text = _STOPPED.sub(lambda match: _STOPS[match.group()], _plain(joined))
        self._emit("speech", text, start, end, self.said[first], tuple(directions))


_STOPPED = re.compile(r"[,，、]$")
_STOPS = {",": ".", "，": "。", "、": "。"}
"""What a comma that stands only for the tag behind it (`"Yes," said Anna.`) becomes in a line's text."""
_HAN_BREAK = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\s*\n\s*(?=[\u3000-\u9fff\uff00-\uffef])")


def _plain(text: str) -> str:
    if "\n" in text:
        text = _HAN_BREAK.sub("", text)
    return " ".join(text.split())

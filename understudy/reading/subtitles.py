"""Subtitles: who speaks by the ASS name field, a voice tag of WebVTT, or a name before a colon."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from understudy.errors import CorpusError
from understudy.reading.entries import Entry

MOST_EVENTS = 200_000
GOES_ON_MS = 2500
"""A speech that no mark ends goes on in the next subtitle of its speaker, if that comes so soon."""


@dataclass(frozen=True, slots=True)
class _Said:
    """One voice of one subtitle, times in milliseconds."""

    start: int
    end: int
    speaker: str | None
    text: str
    confidence: float


_VOICE = re.compile(r"<v(?:\.[^\s>]*)?[ \t]+([^<>\n]{1,80})>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,200}>|<\d\d:[\d:.]{4,12}>")
_OVERRIDE = re.compile(r"\{[^{}]*\}")
_NAME = re.compile(
    r"\s*(?P<name>[^\W\d_][^\n:：()\[\]\"“”!?,，。！？]{0,30}?)\s*(?:[(（\[](?P<manner>[^()（）\[\]\n]{1,60})[)）\]])?\s*[:：](?!//)\s*(?P<words>.*)",
    re.DOTALL,
)
_BRACKETED_NAME = re.compile(
    r"\s*[\[【(](?P<name>[^\W\d_][^\n\[\]【】()]{0,30})[\]】)][:：]\s*(?P<words>.*)", re.DOTALL
)
_DASH = re.compile(r"^\s*[-–—‐]\s*", re.MULTILINE)
_SHOWN = re.compile(r"[\[(（【♪♫#]\s*[^\[\]()（）【】♪♫]{1,200}\s*[\])）】♪♫#]")
_ENDED = re.compile(r"[.!?…。！？—–\"”»』」)\]♪]\s*$")


def subtitle_entries(text: str, form: str, where: str) -> Iterator[Entry]:
    """The speeches of a subtitle file in the order of their times; `form` is srt, ass or vtt.

    Whoever is not named is nobody (speaker None): a subtitle is speech all the same.
    """
    said = [voice for event in _events(text, form, where) for voice in event]
    for one in _joined(said):
        yield Entry("speech", tuple(_pieces(one.text)), one.speaker, one.confidence)


def _events(text: str, form: str, where: str) -> Iterator[list[_Said]]:
    import pysubs2

    if form == "vtt":
        text = _without_notes(text)
    try:
        # Voice tags are kept, as they name who speaks; {\\tags} and the like are taken out here.
        options = {} if form == "ass" else {"keep_html_tags": True}
        events = pysubs2.SSAFile.from_string(text, format_=form, **options)
    except Exception as error:  # noqa: BLE001 - of a damaged file the library raises whatever its rows lead to
        raise CorpusError(f"{where}: is damaged, no {form} ({' '.join(str(error).split())[:160]})") from None
    if len(events) > MOST_EVENTS:
        raise CorpusError(f"{where}: holds {len(events):,} subtitles; a film has {MOST_EVENTS:,} at most")
    if not len(events):
        raise CorpusError(f"{where}: holds no subtitle")
    order = sorted((event for event in events if not event.is_comment), key=lambda event: event.start)
    if form == "ass":
        order = [event for event in order if not _is_drawing(event.text)]
    for event in order:
        yield _voices(event.start, event.end, (event.name or "").strip(), event.text)


def _without_notes(text: str) -> str:
    """WebVTT without its comments, styles and regions, whose words nobody says."""
    blocks = re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n\n".join(b for b in blocks if not re.match(r"\s*(?:NOTE|STYLE|REGION)(?:\s|$)", b) or "-->" in b)


def _is_drawing(text: str) -> bool:
    return re.search(r"\{[^{}]*\\p[1-9]", text) is not None


def _voices(start: int, end: int, name: str, text: str) -> list[_Said]:
    text = _OVERRIDE.sub("", text).replace(r"\N", "\n").replace(r"\n", "\n").replace(r"\h", " ")
    tagged = _VOICE.split(text)
    parts: list[tuple[str | None, str]] = [(name or None, tagged[0])]
    parts += [(html.unescape(who).strip(), words) for who, words in zip(tagged[1::2], tagged[2::2], strict=True)]
    found: list[_Said] = []
    for who, words in parts:
        plain = html.unescape(_TAG.sub("", words)).strip()
        if plain:
            found += [_Said(start, end, *one) for one in _named(who, plain)]
    return found


def _named(who: str | None, words: str) -> Iterator[tuple[str | None, str, float]]:
    """(speaker, words, confidence) of each voice: rows that open with a dash or a name are voices of their own."""
    if who:
        yield who, " ".join(_DASH.sub("", words).split("\n")), 0.98
        return
    rows = words.split("\n")
    dashed = sum(bool(_DASH.match(row)) for row in rows) > 1
    held: tuple[str | None, list[str], float] = (None, [], 0.5)
    for number, row in enumerate(rows):
        speaker, said = _name_before(_DASH.sub("", row) if dashed or _DASH.match(row) else row)
        if (speaker or (dashed and _DASH.match(row))) and number and held[1]:
            yield held[0], " ".join(held[1]), held[2]
            held = (None, [], 0.5)
        if speaker:
            held = (speaker, [said], 0.95)
        else:
            held[1].append(said)
    if any(part.strip() for part in held[1]):
        yield held[0], " ".join(held[1]), held[2]


def _name_before(row: str) -> tuple[str | None, str]:
    match = _BRACKETED_NAME.match(row) or _NAME.match(row)
    if match is None or not _is_name(match["name"]):
        return None, row.strip()
    manner = match.groupdict().get("manner")
    return match["name"].strip(), f"({manner}) {match['words']}" if manner else match["words"].strip()


def _is_name(name: str) -> bool:
    """`ANNA`, `Mr. Darcy`, `2ND SOLDIER`, `林姑娘`; no `I told you` and no `Remember`-like sentence of small words."""
    words = name.split()
    if any("\u3400" <= char <= "\u9fff" for char in name):
        return len(name) <= 8 and not re.search(r"[我你他她它的了是说道]", name)
    capital = [word for word in words if word[0].isupper() or word[0].isdigit()]
    return name == name.upper() or (len(words) <= 3 and len(capital) == len(words) and len(name) <= 24)


def _joined(said: list[_Said]) -> Iterator[_Said]:
    held: _Said | None = None
    for one in said:
        goes_on = (
            held is not None
            and held.speaker == one.speaker
            and one.speaker is not None
            and one.start - held.end < GOES_ON_MS
            and not _ENDED.search(held.text)
        )
        if held is not None and goes_on:
            held = replace(held, end=one.end, text=f"{held.text} {one.text}")
            continue
        if held is not None:
            yield held
        held = one
    if held is not None:
        yield held


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Words, and between them what is shown and not said: `[door slams]`, `(sighs)`, `♪ la la ♪`."""
    at = 0
    for match in _SHOWN.finditer(text):
        yield text[at : match.start()], False
        yield match[0].strip("[](（）【】♪♫# "), True
        at = match.end()
    yield text[at:], False

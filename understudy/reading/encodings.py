"""Bytes as text: which encoding they are in, how sure that is, and whether there is text in them at all.

    decoded = decode(data, "auto", "play.txt")        # CorpusError, in one line, if it is empty or binary

Offsets into a work count the characters of the decoded text: the byte order mark is gone, line ends are as they were.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import IO

from understudy.errors import CorpusError

PIECE = 1 << 20
"""Bytes read at a time where a text is streamed."""
SAMPLE = 4 << 20
"""The encoding of a larger text is guessed from so many bytes at its beginning; all of it must then be in it."""
HAN_SAMPLE = 400_000


@dataclass(frozen=True, slots=True)
class Decoded:
    """The text of a work."""

    text: str
    encoding: str
    """The codec that read it, as Python calls it."""
    confidence: float
    """1 where the bytes leave no doubt, less where the encoding was guessed."""


_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KINDS = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP, Word or EPUB file",
    b"\xd0\xcf\x11\xe0": "an old Word file",
    b"{\\rtf": "an RTF file",
    b"\x1f\x8b": "a gzip file",
    b"\x89PNG": "a picture",
}
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_COMMON_HAN = re.compile(
    r"[的一是不了在人有我他这這个個们們来來到时時大地为為子中你说說生国國年着就那和要她出也得里裡后後自以会會家可下而过過天去能对對小多然于於心学學么麼之都好看起发發当當没沒成只如事把还還用第样樣道想作种種]"
)
_HAN_MARKS = re.compile(r"[，。！？：；、“”「」『』（）《》…—　]")
_WESTERN = (
    "cp1250",
    "cp1252",
    "latin_1",
    "iso8859_15",
    "mac_iceland",
    "mac_latin2",
    "mac_roman",
    "cp1257",
    "iso8859_13",
)
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\ufffe\uffff]")
_LETTERS_1252 = re.compile(r"[äöüÄÖÜßéèêëàâáîïíìôóòûúùçñÉÈÀÇœæøåÆØÅãõ’‘“”„«»–—…¿¡°§\xa0]")
_OTHER_1252 = re.compile(r"[^\x00-\x7f]")
_NOT_1252 = re.compile(r"[a-z][¿¡¹²³£¥¯¼¾]")


def decode(data: bytes, encoding: str = "auto", where: str = "text") -> Decoded:
    """Bytes as text; `where` names them in messages.

    In turn: the byte order mark, strict UTF-8, UTF-16 by its zero bytes, GB18030, Big5 or UTF-16 where it reads as
    Chinese, Windows-1252, and charset-normalizer on all the bytes. A codec given by name is obeyed. Raises CorpusError
    where there is no text in them.
    """
    if not data.strip():
        raise CorpusError(f"{where}: is empty")
    if encoding != "auto":
        codec = _codec(encoding, where)
        return Decoded(_plain(_strict(data, _marked(codec), where).removeprefix("\ufeff"), where), codec, 1.0)
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return Decoded(_plain(_strict(data, codec, where).removeprefix("\ufeff"), where), codec, 1.0)
    kind = next((kind for magic, kind in _KINDS.items() if data.startswith(magic)), None)
    if kind:
        raise CorpusError(f"{where}: is {kind}, not plain text")
    if b"\0" in data:
        return _wide(data, where)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _guessed(data, where)
    return Decoded(_plain(text, where), "utf-8", 1.0)


def decode_stream(file: IO[bytes], encoding: str, where: str) -> tuple[str, float, Iterator[str]]:
    """(codec, confidence, pieces of text) of a file too large to hold; the encoding is told from its first 4 MB.

    Where that says UTF-8 or ASCII the whole file must be; the iterator raises CorpusError where it is not.
    """
    head = file.read(SAMPLE)
    if encoding == "auto":
        end = max(head.rfind(b"\n") + 1, 0) or len(head)
        # A wide encoding is cut anywhere at an even byte; others at a line's end.
        told = decode(head[: len(head) // 4 * 4] if b"\0" in head else head[:end], "auto", where)
        codec, confidence = told.encoding, told.confidence
    else:
        codec, confidence = _codec(encoding, where), 1.0
    return codec, confidence, _pieces(file, head, _marked(codec), where)


def _pieces(file: IO[bytes], head: bytes, codec: str, where: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(codec)("strict")
    data, at = head, 0
    while True:
        try:
            text = decoder.decode(data, final=not data)
        except (UnicodeDecodeError, ValueError) as error:
            start = at + error.start if isinstance(error, UnicodeDecodeError) else at
            raise CorpusError(f"{where}: begins as {codec}, but is not at byte {start:,}; name its encoding") from None
        if text:
            yield _plain(text.removeprefix("\ufeff") if not at else text, where, blank=True)
        if not data:
            return
        at += len(data)
        data = file.read(PIECE)


def _codec(encoding: str, where: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise CorpusError(f"{where}: encoding {encoding!r} is not known; use auto or a Python codec name") from error


def _marked(codec: str) -> str:
    return "utf-8-sig" if codec == "utf-8" else codec


def _strict(data: bytes, codec: str, where: str) -> str:
    try:
        return data.decode(codec)
    except (UnicodeDecodeError, LookupError, ValueError) as error:
        at = f" at byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
        raise CorpusError(f"{where}: is not {codec}{at}; try encoding: auto, or name another one") from error


def _plain(text: str, where: str, blank: bool = False) -> str:
    """The text, unless so many of its characters cannot be printed that it is none."""
    if len(_CONTROLS.findall(text)) > 0.01 * len(text) + 2:
        raise CorpusError(f"{where}: is binary, not text")
    if not blank and not text.strip():
        raise CorpusError(f"{where}: is empty")
    return text


_ORDINARY = re.compile(
    r"[\t\n\r -~\xa0-\u024f\u0370-\u052f\u2010-\u2027\u2030-\u205e\u3000-\u30ff\u4e00-\u9fff\uff00-\uff65]"
)


def _wide(data: bytes, where: str) -> Decoded:
    """UTF-16 without its mark: read in one order it is letters, in the other it is nothing."""
    best, share = None, 0.0
    for codec in ("utf-16-le", "utf-16-be"):
        text = _decodes(data, codec)
        if text is not None and _CONTROLS.search(text) is None:
            ordinary = len(_ORDINARY.findall(text[:100_000])) / max(1, len(text[:100_000]))
            if ordinary > share:
                best, share = Decoded(text, codec, 0.9), ordinary
    if best is None or share < 0.9:
        raise CorpusError(f"{where}: is binary, not text (it holds NUL bytes)")
    return Decoded(_plain(best.text, where), best.encoding, best.confidence)


def _guessed(data: bytes, where: str) -> Decoded:
    chinese = _chinese(data)
    if chinese is not None and chinese.confidence > 0.6:
        return chinese
    from charset_normalizer import from_bytes

    sample = data if len(data) <= SAMPLE else data[: data.rfind(b"\n", 0, SAMPLE) + 1 or SAMPLE]
    best = from_bytes(sample).best()
    found = None
    if best is not None and best.encoding not in _WESTERN:
        found = Decoded("", best.encoding, round(min(0.9, max(0.5, 1 - best.chaos)), 2))
    western = _decodes(data, "cp1252")
    if western is not None and (found is None or _is_western(western, short=len(data) < 400)):
        other = len(_OTHER_1252.findall(western))
        letters = len(_LETTERS_1252.findall(western))
        strange = len(_NOT_1252.findall(western))  # Polish read as cp1252: `mówi³`
        if (best is None or letters >= 0.8 * other or best.encoding == "cp1252") and strange < 0.05 * other:
            return Decoded(_plain(western, where), "cp1252", 0.7)
    if chinese is not None:
        return chinese
    if best is None:
        raise CorpusError(f"{where}: its encoding cannot be told; name it with `encoding:` in the corpus entry")
    text = str(best) if sample is data else _strict(data, best.encoding, where)
    confidence = found.confidence if found else round(max(0.5, 1 - best.chaos), 2)
    return Decoded(_plain(text, where), best.encoding, confidence)


def _is_western(text: str, short: bool) -> bool:
    """Whether a short text, of which statistics say little, reads as Windows-1252: rare accents among plain letters."""
    if not short:
        return False
    other = _OTHER_1252.findall(text)
    return len(other) < 0.25 * len(text) and all(map(_LETTERS_1252.match, other))


# Chinese ------------------------------------------------------------------------------------------------------------


@cache
def _first_level() -> dict[str, frozenset[str]]:
    """The characters that each Chinese standard sets apart as the ones in use: 3,755 of GB 2312, 5,401 of Big5."""
    simple = (bytes((lead, trail)) for lead in range(0xB0, 0xD8) for trail in range(0xA1, 0xFF))
    trails = (*range(0x40, 0x7F), *range(0xA1, 0xFF))
    full = (bytes((lead, trail)) for lead in range(0xA4, 0xC7) for trail in trails)
    gb = frozenset(text for pair in simple if len(text := pair.decode("gb18030", "ignore")) == 1)
    big = frozenset(text for pair in full if len(text := pair.decode("big5", "ignore")) == 1 and _HAN.match(text))
    return {"gb18030": gb | big, "big5": big, "utf-16-le": gb | big, "utf-16-be": gb | big}


_CHINESE = {
    "gb18030": ("gb18030",),
    "big5": ("big5", "cp950", "big5hkscs"),  # old files of Taiwan and Hong Kong hold what only the later tables have
    "utf-16-le": ("utf-16-le",),
    "utf-16-be": ("utf-16-be",),
}


def _chinese(data: bytes) -> Decoded | None:
    """The reading as Chinese that holds most characters in use, if any reading is nearly all of them.

    True GB18030 has 97 of 100 characters in its first level, and Big5 in its own; read as the other, two thirds or
    less. Korean and Cyrillic can fall there too: so with more than a few characters the commonest must occur.
    """
    sample = data if len(data) <= HAN_SAMPLE else data[: data.rfind(b"\n", 0, HAN_SAMPLE) + 1 or HAN_SAMPLE]
    ranked: list[tuple[float, float, str]] = []
    for name, codecs_of in _CHINESE.items():
        if name.startswith("utf-16") and len(data) % 2:
            continue
        text = next((text for codec in codecs_of if (text := _decodes(sample, codec)) is not None), None)
        score, sure = _reads_chinese(text, name) if text else (0.0, 0.0)
        if score:
            ranked.append((score, sure, name))
    for _, sure, name in sorted(ranked, reverse=True):
        for codec in _CHINESE[name]:
            text = _decodes(data, codec)
            if text is not None and _CONTROLS.search(text) is None:
                return Decoded(text, codec, sure)
    return None


def _reads_chinese(text: str, name: str) -> tuple[float, float]:
    """(score, confidence) of a text as Chinese; 0 where it is none."""
    han = _HAN.findall(text)
    if not han or _CONTROLS.search(text):
        return 0.0, 0.0
    usual = sum(map(_first_level()[name].__contains__, han)) / len(han)
    marks = len(_HAN_MARKS.findall(text))
    of_all = (len(han) + marks) / max(1, len(_OTHER_1252.findall(text)))
    common = len(_COMMON_HAN.findall(text)) / len(han)
    if usual < 0.85 or of_all < (0.9 if name.startswith("utf-16") else 0.8):
        return 0.0, 0.0
    # In Chinese prose or drama the 100 commonest characters are a third of all; in misread text under a twentieth.
    if len(han) >= 40 and common < 0.12:
        return 0.0, 0.0
    sure = 0.95 if len(han) >= 40 and common > 0.15 else 0.8 if common or marks else 0.55
    return usual * of_all + common, sure


def _decodes(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None

"""A file as what can be parsed: running text, entries whose speaker is known, or rows of a table.

with opened(location) as source:
    document = read_document(source, Options(encoding="auto"))
    document.format, document.encoding, document.texts or document.entries or document.rows
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from understudy.errors import CorpusError
from understudy.reading.archives import docx_text, epub_text
from understudy.reading.encodings import Decoded, decode, decode_stream
from understudy.reading.entries import Entry
from understudy.reading.kinds import TABLES, format_of, named_format
from understudy.reading.markup import declared_charset, html_text, markdown_text
from understudy.reading.pdf import pdf_text
from understudy.reading.plays import fountain_entries, tei_entries
from understudy.reading.source import MOST_TEXT, Source
from understudy.reading.subtitles import subtitle_entries
from understudy.reading.tables import Columns, TableRow, table_rows


@dataclass(frozen=True, slots=True)
class Options:
    """What the recipe's corpus entry says about reading a file."""

    encoding: str = "auto"
    column: str | None = None
    speaker_column: str | None = None
    cut: bool = False


@dataclass(slots=True)
class Document:
    """A file that was opened. Exactly one of `texts`, `entries` and `rows` is there, to be gone through once."""

    format: str
    encoding: str
    confidence: float
    plain: bool = False
    """Whether the text is the file's own, character by character; else what was read is kept beside its lines."""
    texts: Iterable[str] | None = None
    """Running text in pieces."""
    entries: Iterable[Entry] | None = None
    rows: Iterable[TableRow] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """Further things to know of it: pages, what its name says it is."""


def read_document(source: Source, options: Options) -> Document:
    """The document in a file. CorpusError for what cannot be read; another may come while it is gone through."""
    form = format_of(source)
    document = _read(source, form, options)
    named = named_format(source.location)
    if named not in (form, "text") and not (named == "xml" and form in ("tei", "html")):
        document.details["named"] = named
    return document


def _read(source: Source, form: str, options: Options) -> Document:
    where = source.location
    if form in TABLES:
        columns = Columns(options.column, options.speaker_column)
        rows = table_rows(source, form, columns, options.encoding)
        if options.speaker_column:
            aside: list[TableRow] = []
            entries = _spoken(rows, aside)
            return Document(form, "utf-8", 1.0, entries=entries, details={"rows_aside": aside})
        return Document(form, "utf-8", 1.0, rows=rows)
    if form == "epub":
        return Document(form, "utf-8", 1.0, texts=epub_text(source))
    if form == "docx":
        return Document(form, "utf-8", 1.0, texts=docx_text(source))
    if form == "pdf":
        pages = pdf_text(source, options.cut)
        details = {"pages": pages.pages, "pages_without_text": pages.without_text}
        return Document(form, "utf-8", 1.0, texts=[pages.text], details=details)
    if form in ("text", "md", "html"):
        encoding, confidence, pieces = _decoded(source, options.encoding, form)
        if form == "text":
            return Document(form, encoding, confidence, plain=True, texts=pieces)
        derived = markdown_text(pieces) if form == "md" else html_text(pieces, where)
        return Document(form, encoding, confidence, texts=_gathered(derived))
    return _play(source, form, options)


def _play(source: Source, form: str, options: Options) -> Document:
    """A format that names who speaks; where nobody does, its text."""
    where = source.location
    decoded = _whole(source, options.encoding, form)
    details: dict[str, Any] = {}
    if form == "xml":
        entries, speaks = tei_entries(decoded.text, where)
        form = "tei"
    elif form == "fountain":
        entries = list(fountain_entries(decoded.text))
        speaks = any(entry.speaker for entry in entries)
        if not speaks:
            return Document("text", decoded.encoding, decoded.confidence, plain=True, texts=[decoded.text])
    else:
        entries, speaks = list(subtitle_entries(decoded.text, form, where)), True
    if not speaks:
        texts = _gathered(_written(entries))
        return Document(form, decoded.encoding, decoded.confidence, texts=texts, details=details)
    return Document(form, decoded.encoding, decoded.confidence, entries=entries, details=details)


def _written(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        words = " ".join(" ".join(words.split()) for words, _ in entry.pieces)
        yield f"# {words}\n\n" if entry.kind == "heading" else f"{words}\n\n"


def _spoken(rows: Iterable[TableRow], aside: list[TableRow]) -> Iterator[Entry]:
    """A row is a line; those without one are put aside."""
    for row in rows:
        if row.reason:
            aside.append(row)
        else:
            yield Entry("speech" if row.speaker else "narration", ((row.text, False),), row.speaker)


def _decoded(source: Source, encoding: str, form: str) -> tuple[str, float, Iterable[str]]:
    """(codec, confidence, text in pieces): whole where it fits, else as it streams."""
    most = MOST_TEXT * (4 if b"\0" in source.head[:4096] else 1)
    if source.packed or source.size <= most:
        data = source.stream().read(most + 1)
        if len(data) <= most:
            declared = declared_charset(data) if form == "html" else None
            decoded = _decode(data, encoding, source.location, declared)
            return decoded.encoding, decoded.confidence, [decoded.text]
        del data
    return decode_stream(source.stream(), encoding, source.location)


def _whole(source: Source, encoding: str, form: str) -> Decoded:
    data = source.data(MOST_TEXT * (4 if b"\0" in source.head[:4096] else 1))
    return _decode(data, encoding, source.location, declared_charset(data) if form == "xml" else None)


def _decode(data: bytes, encoding: str, where: str, declared: str | None) -> Decoded:
    """As any text is told; what a file says of itself counts where its bytes leave doubt."""
    decoded = None
    try:
        decoded = decode(data, encoding, where)
    except CorpusError:
        if declared is None or encoding != "auto":
            raise
    if declared and (decoded is None or (encoding == "auto" and decoded.confidence < 1)):
        try:
            return Decoded(decode(data, declared, where).text, declared, 0.98)
        except CorpusError:
            if decoded is None:
                raise
    assert decoded is not None
    return decoded


def _gathered(pieces: Iterable[str], size: int = 1 << 18) -> Iterator[str]:
    """Small pieces put together, to be handled in fewer."""
    held: list[str] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= size:
            yield "".join(held)
            held, count = [], 0
    if held:
        yield "".join(held)

"""What a file is, told by its content; its name only settles what the content leaves open."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import PurePosixPath

from understudy.errors import CorpusError
from understudy.reading.source import Source
from understudy.wording import one_line

SUFFIXES: dict[str, str] = {
    ".txt": "text",
    ".text": "text",
    ".md": "md",
    ".markdown": "md",
    ".fountain": "fountain",
    ".spmd": "fountain",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".epub": "epub",
    ".docx": "docx",
    ".pdf": "pdf",
    ".xml": "xml",
    ".tei": "xml",
    ".srt": "srt",
    ".ass": "ass",
    ".ssa": "ass",
    ".vtt": "vtt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
"""Format by what a name ends in; `.gz` may follow."""
TABLES = ("jsonl", "csv", "parquet")
"""Formats of rows and columns."""

_MAGIC = (
    (b"\xd0\xcf\x11\xe0", "an old Word file; save it as .docx"),
    (b"{\\rtf", "an RTF file; save it as .docx or text"),
    (b"\x1f\x8b", "a gzip file; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"BZh", "a bzip2 file; unpack it"),
    (b"\xfd7zXZ", "an xz file; unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; unpack it"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"OggS", "a sound file"),
    (b"ID3", "a sound file"),
    (b"SQLite format 3", "a database"),
)
_STAMP = r"\d{1,3}:\d\d:\d\d[,.]\d{1,3}"
_SRT = re.compile(rf"\s*(?:\d+\s*\n\s*)?{_STAMP}\s*-->\s*{_STAMP}")
_XML = re.compile(r"\s*(?:<\?xml|<!--|<!doctype|<tei|<html|<head|<body)", re.IGNORECASE)
_HTML_ROOT = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_TAGS = re.compile(r"<(?:p|br|div|span|h[1-6]|table|i|b|em|a)\b[^<>]*>", re.IGNORECASE)
_ROOT = re.compile(r"<([A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)[\s/>]")


def named_format(location: str) -> str:
    """The format that a file's name says; `text` where it says nothing that is known."""
    return SUFFIXES.get(ending(location), "text")


def ending(location: str) -> str:
    """What a name ends in, `.gz` apart, in small letters: `.txt` of `Emma.TXT.gz`."""
    return PurePosixPath(unpacked_name(location)).suffix.lower()


def unpacked_name(location: str) -> str:
    """The name that a file has when it is unpacked."""
    return location[:-3] if location.lower().endswith(".gz") else location


def format_of(source: Source) -> str:
    """One of `text md fountain html xml epub docx pdf srt ass vtt jsonl csv parquet`.

    CorpusError for what is none of them: an archive, a picture, an old Word file.
    """
    head, where = source.head, source.location
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise CorpusError(f"{where}: is {what}")
    if head[60:68] == b"BOOKMOBI":
        raise CorpusError(f"{where}: is a Kindle file; convert it to EPUB")
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_format(source)
    found = _text_format(head, named_format(where))
    if found == "text" and ending(where) == ".json":
        raise CorpusError(f"{where}: is a JSON document; give JSONL with a `column`, or say `kind: conversations`")
    return found


def _zip_format(source: Source) -> str:
    where = source.location
    try:
        with zipfile.ZipFile(source.seekable()) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise CorpusError(f"{where}: is a ZIP, Word or EPUB file that is damaged or cut off ({_line(error)})") from None
    if "META-INF/container.xml" in names:
        return "epub"
    if "word/document.xml" in names:
        return "docx"
    inside = "a spreadsheet" if "xl/workbook.xml" in names else "a ZIP archive; unpack it"
    raise CorpusError(f"{where}: is {inside}, neither EPUB nor Word")


def _text_format(head: bytes, named: str) -> str:
    # Without its zero bytes and mark, wide or not, the ASCII of a text stands there in order.
    start = head.lstrip(b"\xef\xbb\xbf\xff\xfe").replace(b"\0", b"").decode("latin-1").replace("\r\n", "\n").lstrip()
    if start.startswith("WEBVTT"):
        return "vtt"
    if start[:200].startswith(("[Script Info]", "[script info]")):
        return "ass"
    if _SRT.match(start):
        return "srt"
    if _XML.match(start[:400]):
        return _markup_format(start[:8000])
    if named == "html":
        return "html" if _TAGS.search(start) else "text"
    if named not in TABLES and start.startswith("{") and _is_object(start.split("\n", 1)[0]):
        return "jsonl"
    return named if named in ("text", "md", "fountain", "csv", "jsonl") else "text"


def _markup_format(start: str) -> str:
    body = re.sub(r"<\?.*?\?>|<!--.*?-->", "", start, flags=re.DOTALL)
    if _HTML_ROOT.match(body.lstrip()):
        return "html"
    root = _ROOT.search(re.sub(r"<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>", "", body, count=1, flags=re.DOTALL | re.IGNORECASE))
    return "html" if root and root[2].lower() in ("html", "head", "body") else "xml"


def _is_object(row: str) -> bool:
    try:
        return isinstance(json.loads(row), dict)
    except ValueError:
        return False


def _line(error: BaseException) -> str:
    return one_line(error) or type(error).__name__

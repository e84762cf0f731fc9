"""EPUB and Word files: ZIP archives, read piece by piece within limits, whatever sizes they declare.

An EPUB's chapters come in the order of its spine; what is not part of the reading (navigation, notes apart) is left
out. Of a Word file the paragraphs of the body, headings by their style, without deleted text.
"""

from __future__ import annotations

import html.entities
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote

from understudy.errors import CorpusError
from understudy.reading.encodings import decode
from understudy.reading.markup import Visible, declared_charset, html_text
from understudy.reading.source import FREE_UNPACKED, MOST_RATIO, Source
from understudy.wording import one_line

MOST_MEMBERS = 20_000
MOST_MEMBER = 256 << 20
"""Bytes of one chapter or document, with its markup."""
MOST_SMALL = 16 << 20
"""Bytes of a table of contents or list of styles."""


@contextmanager
def archive(source: Source) -> Iterator[Archive]:
    """The archive in a file; CorpusError where it is damaged, encrypted or grows as no book does."""
    where = source.location
    try:
        with zipfile.ZipFile(source.seekable()) as opened:
            yield Archive(opened, where)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        if isinstance(error, RuntimeError) and "encrypted" in str(error):
            raise CorpusError(f"{where}: is encrypted; save it without a password") from None
        said = one_line(error)
        raise CorpusError(f"{where}: is damaged or cut off ({said})") from None


class Archive:
    """Members of a ZIP file by name, in pieces and bounded together."""

    def __init__(self, opened: zipfile.ZipFile, where: str):
        self.opened, self.where = opened, where
        entries = opened.infolist()
        if len(entries) > MOST_MEMBERS:
            raise CorpusError(f"{where}: holds {len(entries):,} files; a book has {MOST_MEMBERS:,} at most")
        self.names = {entry.filename for entry in entries}
        self.packed = sum(entry.compress_size for entry in entries)
        self.count = 0

    def pieces(self, name: str, most: int = MOST_MEMBER) -> Iterator[bytes]:
        """The bytes of a member; CorpusError where there are too many."""
        try:
            entry = self.opened.getinfo(name)
        except KeyError:
            raise CorpusError(f"{self.where}: lacks {name}; it is damaged") from None
        self._bounded(entry.file_size, most, name)
        count = 0
        with self.opened.open(entry) as file:
            while data := file.read(1 << 18):
                count += len(data)
                self.count += len(data)
                self._bounded(count, most, name)
                yield data

    def data(self, name: str, most: int = MOST_SMALL) -> bytes:
        """A small member whole."""
        return b"".join(self.pieces(name, most))

    def _bounded(self, count: int, most: int, name: str) -> None:
        if count > most or max(self.count, count) > max(FREE_UNPACKED, MOST_RATIO * self.packed):
            raise CorpusError(f"{self.where}: {name} unpacks to more than any book holds; it is a zip bomb or damaged")


# EPUB ---------------------------------------------------------------------------------------------------------------


def epub_text(source: Source) -> Iterator[str]:
    """The chapters of an EPUB in reading order, as text."""
    with archive(source) as book:
        if "META-INF/encryption.xml" in book.names and _encrypts_text(book):
            raise CorpusError(f"{book.where}: is protected (DRM), and cannot be read")
        for chapter in _spine(book):
            yield from _chapter(book, chapter)


def _encrypts_text(book: Archive) -> bool:
    """Fonts may be obscured in a free book; chapters are not."""
    named = re.findall(rb"URI=[\"']([^\"']{1,1000})", book.data("META-INF/encryption.xml"))
    return any(name.lower().endswith((b".xhtml", b".html", b".htm", b".xml")) for name in named)


def _spine(book: Archive) -> Iterator[str]:
    container = safe_tree(book.data("META-INF/container.xml"), book.where)
    package = next((e.get("full-path") for e in container.iter() if _local(e.tag) == "rootfile"), None)
    if not package:
        raise CorpusError(f"{book.where}: names no package document; it is damaged")
    tree = safe_tree(book.data(unquote(package)), book.where)
    items = {e.get("id"): e for e in tree.iter() if _local(e.tag) == "item"}
    base = posixpath.dirname(unquote(package))
    for reference in (e for e in tree.iter() if _local(e.tag) == "itemref"):
        item = items.get(reference.get("idref"))
        if item is None or reference.get("linear") == "no" or "nav" in (item.get("properties") or "").split():
            continue
        kind = item.get("media-type") or ""
        if "html" not in kind and "xml" not in kind:
            continue
        name = posixpath.normpath(posixpath.join(base, unquote(item.get("href") or "").partition("#")[0]))
        if name in book.names:
            yield name


def _chapter(book: Archive, name: str) -> Iterator[str]:
    data = b"".join(book.pieces(name))
    if not data.strip():
        return
    where = f"{book.where} ({posixpath.basename(name)})"
    text = _declared_text(data, where)
    try:
        yield from xhtml_text(text, where)
    except _NotXml:
        yield from html_text([text], where)


def _declared_text(data: bytes, where: str) -> str:
    """By its mark, as UTF-8, by what the file says of itself, else as any text is told."""
    for charset in filter(None, ("utf-8", declared_charset(data))):
        with suppress(CorpusError):
            return decode(data, charset, where).text
    return decode(data, "auto", where).text


class _NotXml(Exception):  # noqa: N818 - never seen by anybody
    """A chapter that is HTML in truth."""


_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
_KEPT = frozenset(("amp", "lt", "gt", "quot", "apos"))


def xhtml_text(text: str, where: str) -> Iterator[str]:
    """A chapter of well-formed XHTML as text; empty elements (`<title/>`) close themselves, as HTML's do not."""
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

    refuse_entities(text, where)
    text = re.sub(r"^\s*<\?xml[^>]{0,300}\?>", "", text, count=1)
    text = _ENTITY.sub(lambda m: m[0] if m[1] in _KEPT else html.entities.html5.get(f"{m[1]};", m[0]), text)
    seen = Visible()
    try:
        etree.fromstring(text.encode("utf-8", "replace"), _parser(seen))
    except (etree.LxmlError, ValueError) as error:
        raise _NotXml from error
    yield seen.take()


def _parser(target: Any = None) -> Any:
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

    options: dict[str, Any] = {
        "resolve_entities": False,
        "no_network": True,
        "huge_tree": False,
        "load_dtd": False,
        "remove_comments": True,
        "remove_pis": True,
        "encoding": "utf-8",
    }
    return etree.XMLParser(target=target, **options) if target is not None else etree.XMLParser(**options)


def refuse_entities(text: str, where: str) -> None:
    """CorpusError for a document that declares entities of its own: they may grow without end, or name other files."""
    if "<!ENTITY" in text[:65536]:
        raise CorpusError(f"{where}: declares XML entities of its own; expand them, or take the declarations out")


def safe_tree(data: bytes, where: str) -> Any:
    """The root element of a small XML file, read without entities, network or other files."""
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

    text = _declared_text(data, where)
    refuse_entities(text, where)
    text = re.sub(r"^\s*<\?xml[^>]{0,300}\?>", "", text, count=1)
    try:
        return etree.fromstring(text.encode("utf-8", "replace"), _parser())
    except (etree.LxmlError, ValueError) as error:
        raise CorpusError(f"{where}: is damaged ({' '.join(str(error).split())[:200]})") from None


# Word ---------------------------------------------------------------------------------------------------------------


def docx_text(source: Source) -> Iterator[str]:
    """The body of a Word file as text."""
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

    with archive(source) as document:
        seen = _Paragraphs(_heading_styles(document))
        parser = _parser(seen)
        pieces = document.pieces("word/document.xml")
        try:
            for number, data in enumerate(pieces):
                if not number and b"<!ENTITY" in data[:65536]:
                    raise CorpusError(f"{document.where}: declares XML entities of its own; Word writes none")
                parser.feed(data)
                yield seen.take()
            parser.close()
        except etree.LxmlError as error:
            said = one_line(error)
            raise CorpusError(f"{document.where}: is damaged or cut off ({said})") from None
        yield seen.take()


def _heading_styles(document: Archive) -> dict[str, int]:
    """Level by style id: the id differs by language (`berschrift1`), the name does not (`heading 1`)."""
    found: dict[str, int] = {}
    if "word/styles.xml" not in document.names:
        return found
    for style in safe_tree(document.data("word/styles.xml"), document.where).iter():
        if _local(style.tag) != "style":
            continue
        name, level = "", None
        for part in style.iter():
            if _local(part.tag) == "name":
                name = (_attribute(part.attrib, "val") or "").lower()
            elif _local(part.tag) == "outlineLvl":
                level = _attribute(part.attrib, "val")
        match = re.fullmatch(r"heading (\d)", name)
        depth = int(match[1]) if match else 1 if name == "title" else int(level) + 1 if level and level.isdigit() else 0
        if 0 < depth <= 6:
            found[_attribute(style.attrib, "styleId") or ""] = depth
    return found


_SKIPPED_TEXT = "del moveFrom instrText delText Fallback footnoteReference endnoteReference sectPr drawing pict"
_SKIPPED = frozenset(_SKIPPED_TEXT.split())


class _Paragraphs:
    """Target of the parser of `word/document.xml`."""

    def __init__(self, styles: dict[str, int]) -> None:
        self.styles = styles
        self.done: list[str] = []
        self.row: list[str] = []
        self.cells: list[str] = []
        self.level = 0
        self.inside = 0
        self.table = 0
        self.skipped = 0

    def start(self, tag: str, attributes: Any) -> None:
        name = _local(tag)
        if self.skipped or name in _SKIPPED:
            self.skipped += 1
        elif name == "t":
            self.inside += 1
        elif name in ("tab", "ptab") and not attributes:
            self.row.append("\t")
        elif name in ("br", "cr"):
            self.row.append("\n")
        elif name == "noBreakHyphen":
            self.row.append("-")
        elif name == "pStyle":
            self.level = self.styles.get(_attribute(attributes, "val") or "", 0)
        elif name == "tr":
            self.table += 1

    def end(self, tag: str) -> None:
        name = _local(tag)
        if self.skipped:
            self.skipped -= 1
        elif name == "t":
            self.inside -= 1
        elif name == "p":
            self._paragraph()
        elif name == "tc":
            self.cells.append(" ".join("".join(self.row).split()))
            self.row.clear()
        elif name == "tr":
            self.table -= 1
            self.done.append("\t".join(self.cells).rstrip() + "\n\n")
            self.cells.clear()

    def data(self, text: str) -> None:
        if self.inside and not self.skipped:
            self.row.append(text)

    def comment(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> str:
        text = "".join(self.done)
        self.done.clear()
        return text

    def _paragraph(self) -> None:
        if self.table:
            self.row.append(" ")
            return
        text = "".join(self.row).strip()
        self.row.clear()
        if text:
            self.done.append(f"{'#' * self.level} {' '.join(text.split())}\n\n" if self.level else f"{text}\n\n")
        self.level = 0


def _local(tag: Any) -> str:
    return str(tag).rpartition("}")[2]


def _attribute(attributes: Any, name: str) -> str | None:
    return next((str(value) for key, value in attributes.items() if _local(key) == name), None)

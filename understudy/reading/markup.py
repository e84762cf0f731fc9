"""Markdown and HTML as the text that a reader sees: paragraphs apart by an empty row, headings as `# Title` rows.

Markup goes, words stay: no star, tag, link or entity gets into what somebody says. Both read in pieces, so that a large
file needs little memory, and in one pass.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from understudy.errors import CorpusError

# Markdown -----------------------------------------------------------------------------------------------------------

_ROW_END = re.compile(r"\r\n|\r|\n")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*$")
_SETEXT = re.compile(r" {0,3}(?:=+|-{2,})[ \t]*$")
_RULE = re.compile(r" {0,3}(?:(?:\*[ \t]*){3,}|(?:_[ \t]*){3,}|(?:-[ \t]*){3,})$")
_FENCE = re.compile(r" {0,3}(?:`{3,}|~{3,})[\w+.#-]*[ \t]*$")
_QUOTED = re.compile(r"(?: {0,3}>[ \t]?)+")
_ITEM = re.compile(r"[ \t]{0,12}(?:[*+][ \t]+|-[ \t]+(?=\**[^\s:：]{1,30}(?:[ \t][^\s:：]{1,20}){0,3}\**[:：]))")
_INLINE = (
    (re.compile(r"!\[([^\[\]\n]{0,300})\]\([^()\n]{0,1000}\)"), ""),
    (re.compile(r"\[([^\[\]\n]{1,1000})\]\([^()\n]{0,1000}\)"), r"\1"),
    (re.compile(r"\[([^\[\]^\n]{1,1000})\]\[[^\]\n]{0,200}\]"), r"\1"),
    (re.compile(r"\[\^[^\]\n]{1,80}\]:?"), ""),
    (re.compile(r"<(https?://[^<>\s]{1,1000})>"), r"\1"),
    (re.compile(r"<br[ \t]*/?>", re.IGNORECASE), " "),
    (re.compile(r"<!--[^\n]{0,2000}?-->|</?[A-Za-z][^<>\n]{0,500}>"), ""),
    (re.compile(r"(?<![\w`])`{1,2}([^`\n]{1,500})`{1,2}(?![\w`])"), r"\1"),
    (re.compile(r"(?<![*\\])\*{1,3}(?=[^\s*])([^*\n]{1,2000}?)(?<=[^\s*\\])\*{1,3}(?!\*)"), r"\1"),
    (re.compile(r"(?<![\w\\_])_{1,3}(?=[^\s_])([^_\n]{1,2000}?)(?<=[^\s_\\])_{1,3}(?!\w)"), r"\1"),
    (re.compile(r"~~(?=\S)([^~\n]{1,2000}?)~~"), r"\1"),
)
_MARKS = re.compile(r"[*_`\[<~!]")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!~>|<-])")
_ASIDE = 0xF0000
_BACK = {_ASIDE + ord(mark): mark for mark in "\\`*_{}[]()#+.!~>|<-"}
_DEFINITION = re.compile(r" {0,3}\[[^\]\n]{1,200}\]:[ \t]*\S+")
_LOOSE = re.compile(r"(?<!\S)\*{1,3}(?=\S)|(?<=\S)\*{1,3}(?!\S)")


def markdown_text(pieces: Iterable[str]) -> Iterator[str]:
    """Markdown in pieces as text in pieces, row by row; front matter, fences, links and emphasis leave only words."""
    rows = _rows(pieces)
    first = True
    matter = False
    held: str | None = None
    for row in rows:
        if first:
            first = False
            if row.strip() == "---":
                matter = True
                continue
        if matter:
            matter = row.strip() not in ("---", "...")
            continue
        if held is not None and held.strip() and _SETEXT.match(row) and len(held) < 200 and not _ITEM.match(held):
            yield f"# {held.strip()}\n"
            held = None
            continue
        if held is not None:
            yield held + "\n"
        held = _markdown_row(row)
    if held is not None:
        yield held + "\n"


def _rows(pieces: Iterable[str]) -> Iterator[str]:
    left = ""
    for piece in pieces:
        rows = _ROW_END.split(left + piece) if left else _ROW_END.split(piece)
        left = rows.pop()
        yield from rows
    if left:
        yield left


def _markdown_row(row: str) -> str:
    if not row.strip() or _RULE.match(row) or _FENCE.match(row) or _DEFINITION.match(row):
        return ""
    if head := _ATX.match(row):
        return f"{head[1]} {_inline(head[2])}".rstrip()
    if quoted := _QUOTED.match(row):
        row = row[quoted.end() :]
    if item := _ITEM.match(row):
        row = row[item.end() :]
    row = row.rstrip()
    return _inline(row.removesuffix("\\"))


def _inline(text: str) -> str:
    escaped = "\\" in text
    if escaped:  # out of sight of the patterns, in a plane of Unicode that no text uses
        text = _ESCAPED.sub(lambda mark: chr(_ASIDE + ord(mark[1])), text)
    if _MARKS.search(text):
        for _ in range(2):  # emphasis within a link, a link within emphasis
            for pattern, instead in _INLINE:
                text = pattern.sub(instead, text)
        text = _LOOSE.sub("", text)  # emphasis that goes over several rows
    if "&" in text:
        text = html.unescape(text)
    return text.translate(_BACK) if escaped else text


# HTML ---------------------------------------------------------------------------------------------------------------

_HIDDEN_TEXT = (
    "script style template noscript svg math head nav object iframe audio video canvas select textarea button rt "
    "rp del figcaption"
)
_HIDDEN = frozenset(_HIDDEN_TEXT.split())
_PARAGRAPHS_TEXT = (
    "p div section article main aside header footer blockquote ul ol li dl dt dd table tbody tr figure pre "
    "center hr address details summary fieldset body html title caption"
)
_PARAGRAPHS = frozenset(_PARAGRAPHS_TEXT.split())
_HEADS = {f"h{level}": "#" * level for level in range(1, 7)}
_VOID_TEXT = "br img hr input meta link col area base embed source track wbr param"
_VOID = frozenset(_VOID_TEXT.split())
_SPACE = re.compile(r"[ \t\r\n\f]+")
_NOTE_TYPES = ("noteref", "doc-noteref", "pagebreak", "doc-pagebreak", "toc", "doc-toc", "landmarks", "page-list")
_NOTE = re.compile(r"[\[(]?(?:\d{1,4}|[*†‡§]{1,3})[\])]?$")


class Visible:
    """What a parser is given to (lxml's target interface): collects the text that a browser would show."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.row: list[str] = []
        self.hidden: list[str] = []
        """The elements that are open from the outermost hidden one on."""
        self.note: list[str] | None = None
        """The text of an open <sup>, which may be the number of a note."""
        self.head = ""
        self.cells = 0
        self.kept = 0

    def start(self, tag: object, attributes: object) -> None:
        """An element opens."""
        name = _local(tag)
        given: dict[str, str] = {_local(key): str(value) for key, value in dict(attributes or {}).items()}  # type: ignore[call-overload]
        if self.hidden:
            if name not in _VOID:
                self.hidden.append(name)
            return
        kind = f"{given.get('type', '')} {given.get('role', '')}".split()
        if name in _HIDDEN or "hidden" in given or any(one in _NOTE_TYPES for one in kind):
            self.hidden.append(name)
            if name in _VOID:
                self.hidden.clear()
            return
        if name in _HEADS:
            self._close()
            self.head = _HEADS[name]
        elif name == "br":
            self._text("\n")
        elif name in ("td", "th"):
            if self.cells:
                self._text("\t")
            self.cells += 1
        elif name in _PARAGRAPHS:
            self._close()
            if name == "tr":
                self.cells = 0
        elif name == "sup":
            self.note = []
        elif name == "q":
            self._text("“")

    def end(self, tag: object) -> None:
        """An element closes."""
        name = _local(tag)
        if self.hidden:
            # A stray closing tag closes nothing that is not open.
            if name in self.hidden:
                while self.hidden and self.hidden.pop() != name:
                    pass
            return
        if name in _HEADS or name in _PARAGRAPHS:
            self._close()
        elif name == "sup" and self.note is not None:
            text, self.note = "".join(self.note), None
            if not _NOTE.fullmatch(text.strip()):
                self._text(text)
        elif name == "q":
            self._text("”")

    def data(self, text: str) -> None:
        """Characters between tags."""
        if not self.hidden:
            self._text(_SPACE.sub(" ", text))

    def comment(self, text: str) -> None:
        """Never shown."""

    def pi(self, target: str, data: str = "") -> None:
        """Never shown."""

    def doctype(self, *parts: object) -> None:
        """Never shown."""

    def close(self) -> None:
        """The end of the file."""
        self._close()

    def take(self) -> str:
        """The text that is complete so far, once."""
        text = "".join(self.done)
        self.done.clear()
        return text

    def _text(self, text: str) -> None:
        (self.row if self.note is None else self.note).append(text)

    def _close(self) -> None:
        if self.note is not None:
            self.row += self.note
            self.note = None
        rows = [" ".join(part.split(" ")).strip(" ") for part in "".join(self.row).split("\n")]
        self.row.clear()
        words = "\n".join(re.sub(r" {2,}", " ", row) for row in rows).strip("\n")
        if words.strip():
            self.done.append(f"{self.head} {' '.join(words.split())}\n\n" if self.head else f"{words}\n\n")
        self.head = ""


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2].rpartition(":")[2].lower()


def html_text(pieces: Iterable[str], where: str) -> Iterator[str]:
    """HTML in pieces as text in pieces. CorpusError where the parser gives up."""
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

    seen = Visible()
    parser = etree.HTMLParser(target=seen, huge_tree=False, no_network=True, encoding="utf-8", remove_pis=True)
    first = True
    try:
        for piece in pieces:
            # libxml2 believes a declaration in the text over what it is told; here everything is UTF-8 already.
            data = _DECLARED.sub("", piece, count=1) if first else piece
            first = False
            for start in range(0, len(data), 1 << 18):
                parser.feed(data[start : start + (1 << 18)].encode("utf-8", "surrogatepass"))
                yield seen.take()
        if not first:
            parser.close()
    except (etree.LxmlError, ValueError) as error:
        raise CorpusError(f"{where}: is no HTML that can be read ({' '.join(str(error).split())[:200]})") from None
    yield seen.take()


_DECLARED = re.compile(r"^\s*<\?xml[^>]{0,300}\?>")
_CHARSET = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})|<\?xml[^>]{0,200}?encoding=[\"']([\w.:-]{2,40})",
    re.IGNORECASE,
)


def declared_charset(head: bytes) -> str | None:
    """The encoding that an HTML or XML file says of itself."""
    found = _CHARSET.search(head[:4096])
    return (found[1] or found[2]).decode("ascii").lower() if found else None

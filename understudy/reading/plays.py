"""Fountain screenplays and TEI drama: formats that say who speaks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from understudy.errors import CorpusError
from understudy.reading.archives import refuse_entities
from understudy.reading.entries import Entry
from understudy.wording import one_line

# Fountain (https://fountain.io/syntax) ---------------------------------------------------------------------------

_BONEYARD = re.compile(r"/\*.*?\*/|\[\[.*?\]\]", re.DOTALL)
_TITLE = re.compile(r"[A-Za-z][A-Za-z ]{0,30}:")
_SCENE = re.compile(r"(?:int|ext|est|int\.?/ext|i/e)[. ]", re.IGNORECASE)
_EXTENSION = re.compile(r"\s*\([^()]*\)\s*$")
_EMPHASIS = re.compile(r"(?<!\\)(\*{1,3}|_)(?=[^\s*_])(.+?)(?<=[^\s*_\\])\1")
_ESCAPE = re.compile(r"\\([*_\\])")


def fountain_entries(text: str) -> Iterator[Entry]:
    """The entries of a screenplay: cues in capitals or behind `@`, parentheticals, action, headings."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    rows = _BONEYARD.sub(lambda m: "\n" * m[0].count("\n"), text).split("\n")
    at = _after_title_page(rows)
    blank = True
    while at < len(rows):
        row = rows[at]
        body = row.strip()
        if not body:
            blank, at = True, at + 1
            continue
        speaker = _character(body) if blank and at + 1 < len(rows) and rows[at + 1] else None
        if speaker:
            pieces, at = _dialogue(rows, at + 1)
            yield Entry("speech", pieces, speaker)
            blank = True
            continue
        entry = _standing_alone(body, blank)
        if entry is None:
            held = []
            while at < len(rows) and rows[at].strip() and (not held or not _marked(rows[at].strip())):
                held.append(_words(rows[at].strip().removeprefix("!")))
                at += 1
            yield Entry("direction", ((" ".join(held), True),))
            continue
        if entry.pieces:
            yield entry
        blank, at = False, at + 1


def _after_title_page(rows: list[str]) -> int:
    first = next((i for i, row in enumerate(rows) if row.strip()), 0)
    if first >= len(rows) or not _TITLE.match(rows[first]) or _SCENE.match(rows[first]):
        return 0
    named = rows[first].partition(":")[0].strip().lower()
    if named not in ("title", "credit", "author", "authors", "source", "draft date", "contact", "copyright", "notes"):
        return 0
    return next((i for i in range(first, len(rows)) if not rows[i].strip()), len(rows))


def _character(body: str) -> str | None:
    """Who speaks below this row, if it is a cue: `ANNA (V.O.)`, `@McCoy`, `BEN ^`."""
    forced = body.startswith("@")
    name = _EXTENSION.sub("", body.removeprefix("@").rstrip("^").rstrip()).strip()
    if not name or not any(map(str.isalpha, name)):
        return None
    if forced:
        return name
    if name != name.upper() or name == name.lower() or _SCENE.match(body) or _marked(body):
        return None  # scripts without capitals mark their cues with @
    return None if name.endswith((":", ".", "!", "?")) and not name.endswith(("MR.", "DR.", "JR.", "ST.")) else name


def _marked(body: str) -> bool:
    """Whether a row is set apart by its first mark: a forced heading, section, synopsis, transition, centred text."""
    return body[0] in "#=>!~" or (body[0] == "." and body[1:2] not in (".", ""))


def _dialogue(rows: list[str], at: int) -> tuple[tuple[tuple[str, bool], ...], int]:
    pieces: list[tuple[str, bool]] = []
    while at < len(rows) and (rows[at].strip() or rows[at] == "  "):
        body = rows[at].strip()
        if body.startswith("(") and body.endswith(")"):
            pieces.append((_words(body[1:-1]), True))
        elif body:
            pieces.append((_words(body.removeprefix("~")), False))
        at += 1
    return tuple(pieces), at


def _standing_alone(body: str, blank: bool) -> Entry | None:
    """A heading, transition or centred row; an entry without pieces for what is not part of the play."""
    if body.startswith("="):
        return Entry("narration", ())
    if body.startswith("#"):
        return Entry("heading", ((_words(body.lstrip("# ")), False),))
    if body.startswith(".") and _marked(body):
        return Entry("heading", ((_scene(body[1:]), False),))
    if blank and _SCENE.match(body):
        return Entry("heading", ((_scene(body), False),))
    if body.startswith(">"):
        return Entry("direction", ((_words(body.strip("<> ")), True),))
    if blank and body.endswith("TO:") and body == body.upper():
        return Entry("direction", ((body, True),))
    return None


def _scene(body: str) -> str:
    return re.sub(r"\s*#[\w.-]+#\s*$", "", body).strip()


def _words(text: str) -> str:
    for _ in range(2):
        text = _EMPHASIS.sub(r"\2", text)
    return _ESCAPE.sub(r"\1", text)


# TEI ------------------------------------------------------------------------------------------------------------------

_APART_TEXT = "teiHeader note fw pb cb milestone orig sic abbr del figure castList listBibl facsimile standOff"
_APART = frozenset(_APART_TEXT.split())
_BLOCKS_TEXT = "p l lg ab div div1 div2 div3 head sp stage speaker trailer epigraph opener closer item row"
_BLOCKS = frozenset(_BLOCKS_TEXT.split())
_NAME_END = re.compile(r"[\s.:：,;—–-]+$")


class Drama:
    """What the parser is given to (lxml's target interface): the entries of a TEI play, or its text."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.open: list[str] = []
        self.apart = 0
        self.words: list[str] = []
        self.pieces: list[tuple[str, bool]] = []
        self.who = ""
        self.speaker: str | None = None
        self.speeches = 0
        self.root = ""
        self.names: dict[str, str] = {}
        self.naming = ""
        self.named: list[str] = []

    def start(self, tag: Any, attributes: Any) -> None:
        """An element opens."""
        name = _local(tag)
        self.root = self.root or name
        self._learn(name, attributes)
        if self.apart or name in _APART:
            self.apart += 1
            return
        self.open.append(name)
        if name in ("sp", "stage", "head", "speaker"):
            self._flush(name == "sp")
        if name == "sp":
            self.speaker, self.who, self.pieces = None, str(attributes.get("who") or ""), []
        elif name in _BLOCKS or name in ("lb", "br"):
            self.words.append("\n")

    def end(self, tag: Any) -> None:
        """An element closes."""
        name = _local(tag)
        if name in ("role", "persName", "name") and self.naming:
            text = " ".join("".join(self.named).split())
            if text:
                self.names.setdefault(self.naming, text)
        if name in ("castItem", "person", "personGrp", "role"):
            self.naming = "" if name != "role" else self.naming
        if self.apart:
            self.apart -= 1
            return
        if name == "sp":
            self._flush(True)
        if self.open:
            self.open.pop()
        if name == "speaker":
            self.speaker = _NAME_END.sub("", " ".join("".join(self.words).split())) or None
            self.words.clear()
        elif name == "stage":
            self._stage()
        elif name == "head":
            self._entry("heading")
        elif name == "sp":
            self._speech()
        elif name in _BLOCKS:
            self.words.append("\n")
            if "sp" not in self.open and name in ("p", "lg", "ab", "div", "trailer", "opener", "closer"):
                self._entry("narration")

    def data(self, text: str) -> None:
        """Characters between tags."""
        if self.naming:
            self.named.append(text)
        if not self.apart:
            self.words.append(text)

    def comment(self, text: str) -> None:
        """Never read."""

    def pi(self, target: str, data: str = "") -> None:
        """Never read."""

    def close(self) -> None:
        """The end of the file."""
        self._flush(False)

    def _learn(self, name: str, attributes: Any) -> None:
        """Names by id, of the list of persons or the cast: `who` may be all that a speech has."""
        if name in ("castItem", "person", "personGrp", "role"):
            found = next((str(value) for key, value in attributes.items() if _local(key) == "id"), "")
            if found or name != "role":
                self.naming = found
        if name in ("role", "persName", "name"):
            self.named = []

    def _flush(self, closing: bool) -> None:
        if not "".join(self.words).strip():
            self.words.clear()
        elif "sp" in self.open:
            self.pieces.append(("".join(self.words), False))
            self.words.clear()
        elif closing or self.words:
            self._entry("narration")

    def _stage(self) -> None:
        text = _unbracketed(" ".join("".join(self.words).split()))
        self.words.clear()
        if "sp" in self.open:
            self.pieces.append((text, True))
        elif text:
            self.entries.append(Entry("direction", ((text, True),)))

    def _entry(self, kind: str) -> None:
        text = " ".join("".join(self.words).split())
        self.words.clear()
        if text:
            self.entries.append(Entry(kind, ((text, False),)))

    def _speech(self) -> None:
        pieces, self.pieces = tuple(self.pieces), []
        speaker = self.speaker or self._who()
        self.speeches += bool(speaker)
        self.entries.append(Entry("speech", pieces, speaker, 0.99 if self.speaker else 0.95))

    def _who(self) -> str | None:
        first = self.who.split()[0].lstrip("#") if self.who.split() else ""
        return self.names.get(first) or first.replace("_", " ") or None


def _unbracketed(text: str) -> str:
    return text[1:-1].strip() if text[:1] in "([" and text[-1:] in ")]" else text


def _local(tag: Any) -> str:
    return str(tag).rpartition("}")[2]


def tei_entries(text: str, where: str) -> tuple[list[Entry], bool]:
    """(entries, whether anybody speaks in them) of a TEI document; CorpusError for other XML and for damaged files."""
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

    refuse_entities(text, where)
    text = re.sub(r"^\s*<\?xml[^>]{0,300}\?>", "", text, count=1)
    seen = Drama()
    parser = etree.XMLParser(
        target=seen, resolve_entities=False, no_network=True, huge_tree=False, load_dtd=False, encoding="utf-8"
    )
    try:
        for start in range(0, len(text), 1 << 18):
            parser.feed(text[start : start + (1 << 18)].encode("utf-8", "replace"))
        parser.close()
    except (etree.LxmlError, ValueError) as error:
        said = one_line(error)
        raise CorpusError(f"{where}: is XML that is damaged or cut off ({said})") from None
    if not seen.root.lower().startswith("tei"):
        raise CorpusError(f"{where}: is XML of another kind (<{seen.root[:40]}>), neither TEI nor XHTML")
    return seen.entries, seen.speeches > 0

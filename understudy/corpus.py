"""The texts of a recipe: which files they are, what each work is called, and their bytes as text.

    for work in find_works(recipe):
        decoded = load(work)            # CorpusError, in one line, if the file is empty, binary or cannot be read

Offsets into a work count the characters of `Decoded.text`: the byte order mark is gone, line ends are as they were.
"""

from __future__ import annotations

import codecs
import glob
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from understudy.errors import CorpusError, MissingError, StoreError
from understudy.names import expanded, slug
from understudy.recipe import CorpusEntry, Recipe

SUFFIXES = (".txt", ".text", ".md", ".markdown", ".fountain")
"""What a folder's texts end in; a file or a glob may name any other."""


@dataclass(frozen=True, slots=True)
class Work:
    """One text of the corpus."""

    name: str
    """The work's id, unique in the recipe: `[a-z0-9][a-z0-9._-]{0,63}`, made of the file's name."""
    location: str
    """Absolute path or s3:// URI."""
    entry: CorpusEntry


@dataclass(frozen=True, slots=True)
class Decoded:
    """The text of a work."""

    text: str
    encoding: str
    """The codec that read it, as Python calls it."""
    confidence: float
    """1 where the bytes leave no doubt, less where the encoding was guessed."""


def find_works(recipe: Recipe) -> list[Work]:
    """Every text of the recipe's corpus once, in the order of its entries and then by path.

    Raises CorpusError for an entry that finds no file.
    """
    entries: dict[str, CorpusEntry] = {}
    for entry in recipe.corpus:
        for location in find_files(entry.path, Path(recipe.folder)):
            entries.setdefault(location, entry)
    names = work_names(list(entries))
    return [Work(name, location, entry) for name, (location, entry) in zip(names, entries.items(), strict=True)]


def find_files(path: str, folder: Path | None = None) -> list[str]:
    """The files that a path of a corpus entry means: a file, the texts below a folder, or what a glob matches.

    A relative path belongs to `folder`. Answers absolute paths or s3:// URIs, sorted; finding none raises CorpusError.
    """
    if path.startswith("file://"):
        path = unquote(urlsplit(path).path)
    if "://" in path:
        return _find_objects(path)
    given = expanded(path, f"corpus {path}")
    whole = given if given.is_absolute() else (folder or Path()).absolute() / given
    if whole.is_file():
        return [str(whole)]
    if whole.is_dir():
        found = [file for file in whole.rglob("*") if file.suffix.lower() in SUFFIXES and not _hidden(file, whole)]
        missing = f"corpus {path}: the folder holds no text ({', '.join(SUFFIXES)})"
    elif glob.has_magic(str(given)):
        root = Path(given.anchor) if given.is_absolute() else (folder or Path()).absolute()
        try:
            found = list(root.glob(str(given.relative_to(given.anchor))))
        except ValueError:
            raise CorpusError(f"corpus {path}: `**` stands for whole folders; write **/*.txt, not **.txt") from None
        missing = f"corpus {path}: no file matches this pattern in {folder or Path.cwd()}"
    else:
        raise CorpusError(f"corpus {path}: no such file or folder ({whole})")
    files = sorted(str(file) for file in found if file.is_file())
    if not files:
        raise CorpusError(missing)
    return files


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _find_objects(uri: str) -> list[str]:
    from understudy.store import Store

    parts = uri.split("/")
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    base, pattern = "/".join(parts[:fixed]), "/".join(parts[fixed:])
    if fixed < 3:
        raise CorpusError(f"corpus {uri}: names no object; use s3://bucket/path")
    try:
        keys = Store.open(base).keys()
    except StoreError as error:
        raise CorpusError(f"corpus {uri}: {error}") from error
    found = [key for key in keys if PurePosixPath("/" + key).match(pattern)]
    if not found and pattern:
        found = [key for key in keys if key.startswith(pattern.rstrip("/") + "/") and key.lower().endswith(SUFFIXES)]
    if not found:
        raise CorpusError(f"corpus {uri}: no object matches")
    return [f"{base}/{key}" for key in sorted(found)]


def work_names(locations: Sequence[str]) -> list[str]:
    """An id for each file, made of its name without the suffix; same names are told apart by their folder or suffix.

    Adding a file changes the id of no other, unless both are named the same; nor does moving all of them together.
    """
    names = [slug(PurePosixPath(location).stem) for location in locations]
    for finer in (_by_folder, _by_suffix, _by_path):
        same: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            same.setdefault(name, []).append(number)
        for name, numbers in same.items():
            if len(numbers) > 1:
                told = finer(name, [PurePosixPath(locations[number]) for number in numbers])
                for number, apart in zip(numbers, told, strict=True):
                    names[number] = apart
    return names


def _by_folder(name: str, files: Sequence[PurePosixPath]) -> list[str]:
    """Files right in the folder that holds all keep their name: what it is called differs by machine."""
    shared = _shared(files)
    return [slug(f"{slug(f.parent.name)[:30]}-{name}") if len(f.parts) > shared + 1 else name for f in files]


def _by_suffix(name: str, files: Sequence[PurePosixPath]) -> list[str]:
    several = len({file.suffix for file in files}) > 1
    return [slug(f"{name}{file.suffix}") if several else name for file in files]


def _by_path(name: str, files: Sequence[PurePosixPath]) -> list[str]:
    """By a digest of the path below the folder that holds all."""
    shared = _shared(files)
    tails = ["/".join(file.parts[shared:]) for file in files]
    return [f"{name[:50]}-{hashlib.sha256(tail.encode()).hexdigest()[:8]}" for tail in tails]


def _shared(files: Sequence[PurePosixPath]) -> int:
    """How many parts of their paths all files have in common."""
    first, last = min(file.parent.parts for file in files), max(file.parent.parts for file in files)
    return next((n for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))


def load(work: Work) -> Decoded:
    """The text of a work, read as its entry says. Raises CorpusError."""
    return decode(read_bytes(work.location), work.entry.encoding, work.location)


def read_bytes(location: str) -> bytes:
    """The bytes at a path or s3:// URI. Raises CorpusError."""
    if "://" in location:
        from understudy.store import Store

        base, _, key = location.rpartition("/")
        try:
            return Store.open(base).get(key)
        except MissingError as error:
            raise CorpusError(f"{location}: no such object") from error
    try:
        return Path(location).read_bytes()
    except OSError as error:
        raise CorpusError(f"{location}: cannot be read ({error.strerror})") from error


# Encodings --------------------------------------------------------------------------------------------------------

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

    In turn: the byte order mark, strict UTF-8, GB18030 where it reads as Chinese, and charset-normalizer on all the
    bytes. A codec given by name is obeyed. Raises CorpusError where there is no text in them.
    """
    if not data.strip():
        raise CorpusError(f"{where}: is empty")
    if encoding != "auto":
        return _declared(data, encoding, where)
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return Decoded(_plain(_strict(data, codec, where).removeprefix("\ufeff"), where), codec, 1.0)
    kind = next((kind for magic, kind in _KINDS.items() if data.startswith(magic)), None)
    if kind:
        raise CorpusError(f"{where}: is {kind}, not plain text; save it as a UTF-8 text first")
    if b"\0" in data:
        return _wide(data, where)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _guessed(data, where)
    return Decoded(_plain(text, where), "utf-8", 1.0)


def _declared(data: bytes, encoding: str, where: str) -> Decoded:
    try:
        codec = codecs.lookup(encoding).name
    except LookupError as error:
        raise CorpusError(f"{where}: encoding {encoding!r} is not known; use auto or a Python codec name") from error
    text = _strict(data, "utf-8-sig" if codec == "utf-8" else codec, where)
    return Decoded(_plain(text.removeprefix("\ufeff"), where), codec, 1.0)


def _strict(data: bytes, codec: str, where: str) -> str:
    try:
        return data.decode(codec)
    except (UnicodeDecodeError, LookupError, ValueError) as error:
        at = f" at byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
        raise CorpusError(f"{where}: is not {codec}{at}; try encoding: auto, or name another one") from error


def _plain(text: str, where: str) -> str:
    """The text, unless so many of its characters cannot be printed that it is none."""
    if len(_CONTROLS.findall(text)) > 0.01 * len(text) + 2:
        raise CorpusError(f"{where}: is binary, not text")
    if not text.strip():
        raise CorpusError(f"{where}: is empty")
    return text


def _wide(data: bytes, where: str) -> Decoded:
    """UTF-16 without its mark: in text with any ASCII in it, zero bytes stand on one side only."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    for codec, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if zeros > 10 * others and zeros > 0.02 * len(data):
            return Decoded(_plain(_strict(data, codec, where), where), codec, 0.9)
    raise CorpusError(f"{where}: is binary, not text (it holds NUL bytes)")


def _guessed(data: bytes, where: str) -> Decoded:
    text = _decodes(data, "gb18030")
    if text is not None:
        han = len(_HAN.findall(text))
        # In Chinese prose or drama the 100 commonest characters are a third of all; in misread text under a twentieth.
        if han and len(_COMMON_HAN.findall(text)) > 0.12 * han and _CONTROLS.search(text) is None:
            return Decoded(text, "gb18030", 0.95)
    from charset_normalizer import from_bytes

    best = from_bytes(data).best()
    if best is not None and best.encoding not in _WESTERN:
        return Decoded(_plain(str(best), where), best.encoding, round(max(0.5, 1 - best.chaos), 2))
    text = _decodes(data, "cp1252")
    if text is not None:
        letters, other = len(_LETTERS_1252.findall(text)), len(_OTHER_1252.findall(text))
        strange = len(_NOT_1252.findall(text))  # Polish read as cp1252: `mówi³`
        if (best is None or letters >= 0.8 * other or best.encoding == "cp1252") and strange < 0.05 * other:
            return Decoded(_plain(text, where), "cp1252", 0.7)
    if best is None:
        raise CorpusError(f"{where}: its encoding cannot be told; name it with `encoding:` in the corpus entry")
    return Decoded(_plain(str(best), where), best.encoding, round(max(0.5, 1 - best.chaos), 2))


def _decodes(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None

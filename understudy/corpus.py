"""The texts of a recipe: which files they are and what each work is called; `understudy.reading` reads them.

for work in find_works(recipe):
    decoded = load(work)            # CorpusError, in one line, if the file is empty, binary or cannot be read
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from understudy.errors import ColumnError, CorpusError, StoreError
from understudy.names import expanded, slug
from understudy.reading.documents import Options, read_document
from understudy.reading.encodings import Decoded, decode
from understudy.reading.kinds import SUFFIXES as FORMATS
from understudy.reading.kinds import TABLES, ending, format_of, named_format, unpacked_name
from understudy.reading.source import opened
from understudy.reading.stretches import limited
from understudy.reading.tables import Columns
from understudy.reading.tables import check_columns as check_table
from understudy.reading.works import How, read_works
from understudy.recipe import CorpusEntry, Recipe

__all__ = [
    "Decoded",
    "Work",
    "check",
    "check_columns",
    "decode",
    "find_files",
    "find_works",
    "load",
    "options_of",
    "read_bytes",
    "work_names",
]

SUFFIXES = tuple(name for name, form in FORMATS.items() if form not in TABLES)
"""What a folder's texts end in, `.gz` apart; a file or a glob may name any other."""
TABLE_SUFFIXES = tuple(name for name, form in FORMATS.items() if form in TABLES)
"""Taken from a folder as well where the entry names a column."""
CHAT_SUFFIXES = (".json", *TABLE_SUFFIXES)
"""Taken from a folder of conversations."""


@dataclass(frozen=True, slots=True)
class Work:
    """One text of the corpus."""

    name: str
    """The work's id, unique in the recipe: `[a-z0-9][a-z0-9._-]{0,63}`, made of the file's name."""
    location: str
    """Absolute path or s3:// URI."""
    entry: CorpusEntry


def find_works(recipe: Recipe) -> list[Work]:
    """Every text of the recipe's corpus once, in the order of its entries and then by path.

    Raises CorpusError for an entry that finds no file.
    """
    entries: dict[str, CorpusEntry] = {}
    for entry in recipe.corpus:
        for location in find_files(entry.path, Path(recipe.folder), suffixes_of(entry)):
            entries.setdefault(location, entry)
    names = _apart_from_parts(work_names(list(entries)), list(entries.items()))
    return [Work(name, location, entry) for name, (location, entry) in zip(names, entries.items(), strict=True)]


def _apart_from_parts(names: list[str], found: list[tuple[str, CorpusEntry]]) -> list[str]:
    """No file has the name of a row of a table or of a piece of a cut text, `<work>.<number>`."""
    parted = {
        name
        for name, (location, entry) in zip(names, found, strict=True)
        if entry.cut or ending(location) in TABLE_SUFFIXES
    }
    taken = set(names)
    for at, name in enumerate(names):
        work, _, number = name.rpartition(".")
        if work in parted and number.isdecimal():
            apart = f"{work}-{number}"
            while apart in taken:
                apart += "-file"
            taken.add(apart)
            names[at] = apart
    return names


def suffixes_of(entry: CorpusEntry) -> tuple[str, ...]:
    """What the files end in that an entry takes from a folder."""
    if entry.kind == "conversations":
        return CHAT_SUFFIXES
    return (*SUFFIXES, *TABLE_SUFFIXES) if entry.column or entry.speaker_column else SUFFIXES


def find_files(path: str, folder: Path | None = None, suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """The files that a path of a corpus entry means: a file, those below a folder, or what a glob matches.

    A relative path belongs to `folder`; of a folder's files those are taken whose names end in `suffixes`. Answers
    absolute paths or s3:// URIs, sorted; finding none raises CorpusError.
    """
    if path.startswith("file://"):
        path = unquote(urlsplit(path).path)
    if "://" in path:
        return _find_objects(path, suffixes)
    given = expanded(path, f"corpus {path}")
    whole = given if given.is_absolute() else (folder or Path()).absolute() / given
    if whole.is_file():
        return [str(whole)]
    if whole.is_dir():
        found = [file for file in whole.rglob("*") if ending(file.name) in suffixes and not _hidden(file, whole)]
        missing = f"corpus {path}: the folder holds nothing to read ({', '.join(suffixes)})"
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


def _find_objects(uri: str, suffixes: tuple[str, ...]) -> list[str]:
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
        found = [key for key in keys if key.startswith(pattern.rstrip("/") + "/") and ending(key) in suffixes]
    if not found:
        raise CorpusError(f"corpus {uri}: no object matches")
    return [f"{base}/{key}" for key in sorted(found)]


def work_names(locations: Sequence[str]) -> list[str]:
    """An id for each file, made of its name without the suffix; same names are told apart by their folder or suffix.

    Adding a file changes the id of no other, unless both are named the same; nor does moving all of them together.
    """
    names = [slug(PurePosixPath(unpacked_name(location)).stem) for location in locations]
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
    ends = [_whole_suffix(file) for file in files]
    return [slug(f"{name}{end}") if len(set(ends)) > 1 else name for end in ends]


def _whole_suffix(file: PurePosixPath) -> str:
    inner = PurePosixPath(unpacked_name(file.name))
    return f"{inner.suffix}.gz" if inner.name != file.name else inner.suffix


def _by_path(name: str, files: Sequence[PurePosixPath]) -> list[str]:
    """By a digest of the path below the folder that holds all."""
    shared = _shared(files)
    tails = ["/".join(file.parts[shared:]) for file in files]
    return [f"{name[:50]}-{hashlib.sha256(tail.encode()).hexdigest()[:8]}" for tail in tails]


def _shared(files: Sequence[PurePosixPath]) -> int:
    """How many parts of their paths all files have in common."""
    first, last = min(file.parent.parts for file in files), max(file.parent.parts for file in files)
    return next((n for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))


def options_of(entry: CorpusEntry) -> Options:
    """How a file of this entry is read."""
    return Options(entry.encoding, entry.column, entry.speaker_column, entry.cut)


def read_bytes(location: str, most: int = 1 << 30) -> bytes:
    """The bytes at a path or s3:// URI, unpacked; CorpusError where there is nothing, or more than `most`."""
    with opened(location) as source:
        return source.data(most)


def load(work: Work) -> Decoded:
    """The text of a work's file, read as its entry says: what offsets into it count. Raises CorpusError."""
    with opened(work.location) as source:
        document = read_document(source, options_of(work.entry))
        if document.texts is not None:
            text = "".join(limited(document.texts, work.entry.cut, work.location))
        else:
            text = "".join(chunk.text for chunk in read_works(document, work.name, How(), work.location))
        if not text.strip():
            raise CorpusError(f"{work.location}: is empty")
        return Decoded(text, document.encoding, document.confidence)


def _check_conversations(work: Work, most: int = 1 << 24) -> None:
    """A small file is read; of a larger one it is seen that it can be unpacked."""
    from understudy.interchange.reading import read_conversations_file

    with opened(work.location) as source:
        source.head  # noqa: B018 - what is packed and damaged says so
        if not source.size or source.size > most:
            return
        good, aside = read_conversations_file(source.data(1 << 30), work.entry.format, None, work.name)
    if not good:
        why = f": row {aside[0]['row']} {aside[0]['reason']}" if aside else ""
        raise CorpusError(f"{work.location}: no conversation in it can be read{why}")


def check_columns(works: Iterable[Work]) -> None:
    """ColumnError where the first file of a corpus entry is a table without the columns that the entry names.

    Objects are not fetched for it, and a file that is wrong otherwise is for whoever reads it to set aside.
    """
    first: dict[int, Work] = {}
    for work in works:
        first.setdefault(id(work.entry), work)
    for work in first.values():
        entry, where = work.entry, work.location
        if entry.kind == "conversations" or "://" in where or named_format(where) not in TABLES:
            continue
        try:
            with opened(where) as source:
                if (form := format_of(source)) in TABLES:
                    check_table(source, form, Columns(entry.column, entry.speaker_column), entry.encoding)
        except ColumnError:
            raise
        except CorpusError:
            continue


def check(work: Work) -> None:
    """Open a work's file and see that it can be read; of a table only the beginning. Raises CorpusError."""
    if work.entry.kind == "conversations":
        _check_conversations(work)
        return
    check_columns([work])
    with opened(work.location) as source:
        document = read_document(source, options_of(work.entry))
        if document.rows is not None:
            next(iter(document.rows), None)
        elif document.entries is not None:
            next(iter(document.entries), None)
        else:
            for _ in limited(document.texts or (), work.entry.cut, work.location):
                pass

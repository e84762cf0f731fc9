"""A first look at texts: which works they are and who speaks in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.aliases import propose
from understudy.corpus import Work, find_files, load, work_names
from understudy.drafting import Speaker
from understudy.errors import CorpusError
from understudy.names import is_name, slug
from understudy.prose import read_work
from understudy.recipe import CorpusEntry
from understudy.script import name_key, speakers


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen."""

    name: str
    """A name for a recipe of these texts."""
    paths: tuple[Path, ...]
    kinds: tuple[str, ...]
    """`script` or `prose` for each of them."""
    speakers: tuple[Speaker, ...]
    """Most lines first."""
    characters: int
    language: str
    """`zh` or `auto`."""
    problems: tuple[str, ...]
    """Files that could not be read, one line each."""


def look(texts: Sequence[Path]) -> Look:
    """Read `texts` (files, folders, globs) and count who speaks.

    Raises CorpusError when neither a script nor prose with quoted speech is among them.
    """
    locations = list(dict.fromkeys(location for text in texts for location in find_files(str(text))))
    lines: Counter[str] = Counter()
    works: Counter[str] = Counter()
    written: dict[str, str] = {}
    paths: list[Path] = []
    kinds: list[str] = []
    problems: list[str] = []
    characters = han = 0
    for name, location in zip(work_names(locations), locations, strict=True):
        try:
            decoded = load(Work(name, location, CorpusEntry(path=location)))
        except CorpusError as error:
            problems.append(str(error))
            continue
        kind, found = read_work(decoded.text, name)
        if kind is None:
            problems.append(f"{location}: no script (`NAME: line`, or `NAME.` above it), and no prose with quotes")
            continue
        paths.append(Path(location))
        kinds.append(kind)
        characters += len(decoded.text)
        han += sum("\u4e00" <= char <= "\u9fff" for char in decoded.text[:20_000])
        for speaker, count in speakers(found).items():
            shown = written.setdefault(name_key(speaker), speaker)
            lines[shown] += count
            works[shown] += 1
    if not paths:
        raise CorpusError(problems[0])
    merged = propose(lines)
    ranked = tuple(
        Speaker(one.name, one.lines, max(works[name] for name in (one.name, *one.aliases)), one.aliases)
        for one in merged
    )
    first = slug(paths[0].stem)
    language = "zh" if han > 0.2 * min(characters, 20_000 * len(paths)) else "auto"
    shown = first if is_name(first) else "recipe"
    return Look(shown, tuple(paths), tuple(kinds), ranked, characters, language, tuple(problems))

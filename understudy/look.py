"""A first look at texts: which works they are and who speaks in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.corpus import Work, find_files, load, work_names
from understudy.drafting import Speaker
from understudy.errors import CorpusError
from understudy.names import is_name, slug
from understudy.recipe import CorpusEntry
from understudy.script import LEAST_SPEECH, name_key, parse, speakers, speech_share


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen."""

    name: str
    """A name for a recipe of these texts."""
    paths: tuple[Path, ...]
    speakers: tuple[Speaker, ...]
    """Most lines first."""
    characters: int
    language: str
    """`zh` or `auto`."""
    problems: tuple[str, ...]
    """Files that could not be read, one line each."""


def look(texts: Sequence[Path]) -> Look:
    """Read `texts` (files, folders, globs) and count who speaks.

    Raises CorpusError when no script is among them.
    """
    locations = list(dict.fromkeys(location for text in texts for location in find_files(str(text))))
    lines: Counter[str] = Counter()
    works: Counter[str] = Counter()
    written: dict[str, str] = {}
    paths: list[Path] = []
    problems: list[str] = []
    characters = han = 0
    for name, location in zip(work_names(locations), locations, strict=True):
        try:
            decoded = load(Work(name, location, CorpusEntry(path=location)))
        except CorpusError as error:
            problems.append(str(error))
            continue
        found = parse(decoded.text, name)
        if speech_share(found, len(decoded.text)) < LEAST_SPEECH:
            problems.append(f"{location}: no script (`NAME: line`, or `NAME.` above it); this version reads scripts")
            continue
        paths.append(Path(location))
        characters += len(decoded.text)
        han += sum("\u4e00" <= char <= "\u9fff" for char in decoded.text[:20_000])
        for speaker, count in speakers(found).items():
            shown = written.setdefault(name_key(speaker), speaker)
            lines[shown] += count
            works[shown] += 1
    if not paths:
        raise CorpusError(problems[0])
    ranked = tuple(Speaker(name, count, works[name]) for name, count in lines.most_common())
    first = slug(paths[0].stem)
    language = "zh" if han > 0.2 * min(characters, 20_000 * len(paths)) else "auto"
    return Look(first if is_name(first) else "recipe", tuple(paths), ranked, characters, language, tuple(problems))

"""Lines of a script: who speaks, what they say, and where it stands in the text.

`parse` reads a work in any of the layouts of `understudy.layout`, `assign` maps its speakers to the personas of a
cast, `speakers` counts them. Nothing here needs a model, and reading is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Protocol

from understudy.cues import read
from understudy.errors import PersonaError, RecipeError
from understudy.layout import LAYOUTS, detect, flatten, rows
from understudy.lines import Line, Stage
from understudy.names import slug

__all__ = [
    "Line",
    "Role",
    "assign",
    "idle_patterns",
    "name_key",
    "owners",
    "parse",
    "plays",
    "speakers",
    "speech_share",
]


class Role(Protocol):
    """What `assign` needs to know of a persona or of a cast entry."""

    @property
    def name(self) -> str:
        """The persona's id."""
        ...

    @property
    def display_name(self) -> str | None:
        """What people call it, in any script."""
        ...

    @property
    def aliases(self) -> Sequence[str]:
        """Every other way the texts name it."""
        ...

    @property
    def works(self) -> Sequence[str]:
        """Shell patterns of the works in which these names hold."""
        ...


def parse(text: str, work: str, layout: str = "auto") -> list[Line]:
    """The lines of a script in the order of the text.

    `layout` is `auto` or one of `understudy.layout.LAYOUTS`; any other name raises RecipeError. No text makes it fail:
    where nothing speaks, everything is narration.
    """
    if layout not in ("auto", *LAYOUTS):
        raise RecipeError(f"layout {layout!r} is not known: take auto, {', '.join(LAYOUTS)}")
    flat = flatten(text)
    page = rows(flat)
    reading = read(page, detect(page) if layout == "auto" else layout)
    return Stage(flat, work, page, reading).lines()


def speakers(lines: Iterable[Line]) -> Counter[str]:
    """Speeches for each speaker as written, spellings that differ only in case or space taken together."""
    counts: Counter[str] = Counter()
    written: dict[str, str] = {}
    for line in lines:
        if line.kind == "speech" and line.speaker:
            counts[written.setdefault(name_key(line.speaker), line.speaker)] += 1
    return counts


LEAST_SPEECH = 0.2
"""A text of which less is speech is no script."""


def speech_share(lines: Iterable[Line], characters: int) -> float:
    """The share of a work's characters that lies within speeches."""
    return sum(line.end - line.start for line in lines if line.kind == "speech") / max(1, characters)


def assign(lines: Iterable[Line], cast: Sequence[Role], work: str) -> list[Line]:
    """The lines with the persona of each speaker that the cast knows.

    A speaker belongs to the persona whose name, display name or alias it is, whatever its case, spaces or brackets.
    `works` are shell patterns for the work's id: elsewhere the entry holds nothing. Raises PersonaError where two
    personas claim one name in this work.
    """
    known = owners(cast, work)
    return [
        replace(line, persona=known.get(name_key(line.speaker)))
        if line.speaker and line.persona != known.get(name_key(line.speaker))
        else line
        for line in lines
    ]


def plays(role: Role, work: str, file: str = "") -> bool:
    """Whether the names of `role` hold in `work`: one of its patterns matches the work's id, or `file`, where it lies.

    Of a file a pattern names the end of the path (`sawyer.txt`, `b/*.txt`), or the name without its suffix: that holds
    in every work of this name, whose ids tell them apart (`b-sawyer`, `c-sawyer`).
    """
    return any(_names_work(pattern, work, file) for pattern in role.works)


def _names_work(pattern: str, work: str, file: str) -> bool:
    wanted = pattern.casefold()
    if fnmatchcase(work, wanted) or slug(pattern) == work:
        return True
    path = PurePosixPath(file)
    if not path.name or not PurePosixPath(wanted).parts:
        return False
    stem = slug(path.stem)
    return fnmatchcase(stem, wanted) or slug(pattern) == stem or PurePosixPath(file.casefold()).match(wanted)


def idle_patterns(role: Role, works: Iterable[tuple[str, str]]) -> list[str]:
    """The patterns of `role.works` that match none of `works`: (id, where its file lies)."""
    files = list(works)
    return [pattern for pattern in role.works if not any(_names_work(pattern, *one) for one in files)]


def owners(cast: Sequence[Role], work: str) -> dict[str, str]:
    """Persona by `name_key` of every name that holds in `work`; PersonaError where two personas claim one name."""
    found: dict[str, str] = {}
    for role in cast:
        if not plays(role, work):
            continue
        for alias in (role.name, role.display_name, *role.aliases):
            key = name_key(alias or "")
            other = found.setdefault(key, role.name) if key else role.name
            if other != role.name:
                raise PersonaError(
                    f"{alias!r} means both {other} and {role.name} in {work}: take it from one, or limit `works`"
                )
    return found


_UNSEEN = re.compile(r"[\s【】\[\]_*.·・]+")


def name_key(name: str) -> str:
    """A name as speakers are compared: without case, spaces, dots, stars and brackets."""
    return _UNSEEN.sub("", name).casefold()

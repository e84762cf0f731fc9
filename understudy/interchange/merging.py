"""Files of conversations as one: read in any format, written in one, what is double or broken set aside and counted.

merged = merge([Path("data/")], Path("all.json"), "sharegpt")
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.conversation import Conversation
from understudy.errors import CorpusError, InputError
from understudy.interchange.reading import read_conversations_file
from understudy.interchange.writing import WRITERS, write_file

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
NO_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""Files that describe data sets and hold none."""
ASIDE = ".set_aside.jsonl"
DOUBLE = "is the same as one before it"


@dataclass
class Merged:
    """What became of the files."""

    out: Path
    rows: int = 0
    """Rows written; one conversation is several rows where the format cannot say it in one."""
    conversations: int = 0
    files: dict[str, int] = field(default_factory=dict)
    """Conversations taken of each file."""
    set_aside: Counter[str] = field(default_factory=Counter)
    """Rows left out, by reason."""
    aside: Path | None = None
    """JSON lines of what was left out: {file, row, reason, text}; None when nothing was."""

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        counts = {"rows": self.rows, "conversations": self.conversations, "files": self.files}
        aside = {"set_aside": dict(self.set_aside), "set_aside_file": str(self.aside) if self.aside else None}
        return {"written": str(self.out), **counts, **aside}


def merge(
    sources: Sequence[Path], out: Path, form: str, *, read_as: str = "auto", persona: str | None = None
) -> Merged:
    """Write the conversations of all files (folders: every data file below, by name) to `out` in the format `form`.

    Equal conversations of one persona are written once. A file that cannot be read at all is set aside like a row
    (row 0). What is left out goes to `<out>.set_aside.jsonl`. InputError when nothing is found, or `out` is a source.
    """
    if form not in WRITERS:
        raise InputError(f"--format {form}: unknown; valid: {', '.join(WRITERS)}")
    merged = Merged(out)
    aside: list[dict[str, Any]] = []
    names = list(_files(sources, out))
    kept = list(_kept(names, read_as, persona, merged, aside))
    merged.set_aside.update(row["reason"] for row in aside)
    if not kept:
        first = f"; {aside[0]['file']}: row {aside[0]['row']} {aside[0]['reason']}" if aside else ""
        raise InputError(f"{sources[0]}: holds no conversation that can be read{first}")
    merged.conversations = len(kept)
    merged.rows = write_file(out, form, kept, named=True)
    listed = out.with_name(f"{out.name}{ASIDE}")
    if aside:
        listed.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in aside), encoding="utf-8")
        merged.aside = listed
    else:
        listed.unlink(missing_ok=True)
    return merged


def _files(sources: Iterable[Path], out: Path) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            found = [path for path in sorted(source.rglob("*")) if _is_data(path) and not _is_output(path, out)]
            if not found:
                raise InputError(f"{source}: holds no {', '.join(SUFFIXES)} file (plain or .gz); name another folder")
            yield from found
        elif not source.exists():
            raise InputError(f"{source}: no such file; name files or folders of conversations")
        elif source.resolve() == out.resolve():
            raise InputError(f"{out}: is read as well; write to another file")
        else:
            yield source


def _is_data(path: Path) -> bool:
    name = path.name.removesuffix(".gz")
    if name in NO_DATA or name.startswith(".") or name.endswith(ASIDE):
        return False
    return path.is_file() and name.endswith(SUFFIXES)


def _is_output(path: Path, out: Path) -> bool:
    """Whether it is the file that was written here the last time."""
    return path.resolve() == out.resolve()


def _kept(
    paths: Sequence[Path], read_as: str, persona: str | None, merged: Merged, aside: list[dict[str, Any]]
) -> Iterator[Conversation]:
    seen: set[tuple[Any, ...]] = set()
    for path in paths:
        taken = 0
        try:
            good, bad = read_conversations_file(path.read_bytes(), read_as, persona, path.name)
        except CorpusError as error:
            reason = str(error).removeprefix(f"{path.name}: ")
            good, bad = [], [{"row": 0, "reason": reason, "text": ""}]
        aside += [{"file": str(path), **row} for row in bad]
        for one in good:
            key = (one.persona, one.split, one.messages)
            if key in seen:
                lines = one.provenance.lines
                row = lines[0].rpartition(":")[2] if lines else ""
                text = one.messages[-1].content[:200]
                number = int(row) if row.isdigit() else 0
                aside.append({"file": str(path), "row": number, "reason": DOUBLE, "text": text})
                continue
            seen.add(key)
            taken += 1
            yield one
        merged.files[str(path)] = taken

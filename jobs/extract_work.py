"""One file of the corpus, extracted: read, parsed, said by whom, and written beside its record. Runs on any worker."""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.lines_file import WorkFiles
from jobs.stage import Unit, read_latest, write_tables
from understudy.corpus import Work, options_of
from understudy.dataset import conversations_table, dropped_table
from understudy.errors import CorpusError, StoreError
from understudy.prose import cast_names
from understudy.reading.documents import Document, read_document
from understudy.reading.source import Source, opened
from understudy.reading.works import How, read_works
from understudy.record import Record, digest_of, output_key, read_record, rows_digest
from understudy.script import name_key, owners, speakers
from understudy.store import Store
from understudy.wording import one_line

VERSION = 3
RULES = "extract/rules"
"""Under this stage `latest` remembers what the rules made; under `extract`, what a model made of it (or the same)."""
MOST_CHATS = 128 << 20
"""Bytes of a file of conversations, which is read whole."""


@dataclass(frozen=True, slots=True)
class CastNames:
    """What the parser needs of one persona."""

    name: str
    display_name: str
    aliases: tuple[str, ...]
    works: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that one file's extraction depends on, fit to travel to a worker."""

    recipe: str
    store: Store
    work: Work
    layout: str
    cast: tuple[CastNames, ...]
    force: bool
    silent: bool = False
    """Whether a text in which nobody is found to speak is kept, for a model to read."""


def extract_work(task: Task) -> dict[str, Any]:
    """Read, parse and write one file; a row that says how it went. Never raises for a bad file."""
    row, where = row_of(task), task.work.location
    try:
        with opened(where) as source:
            made = _chats(task, source) if task.work.entry.kind == "conversations" else _lines(task, source)
    except CorpusError as error:
        return row_of(task, str(error))
    except StoreError as error:  # nothing can be kept: the whole stage ends, by its own words and not Ray's
        return {**row, "fatal": str(error)}
    except Exception as error:  # noqa: BLE001 - one file never ends the work on the others, whatever a library makes of it
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE):
            return {**row, "fatal": f"{where}: {error.strerror} while it was extracted"}
        said = one_line(error)
        return row_of(task, f"{where}: cannot be read ({type(error).__name__}: {said})")
    return {**row, **made}


def row_of(task: Task, problem: str = "") -> dict[str, Any]:
    """What extraction says of a file: nothing yet, or why it is set aside."""
    return {"work": task.work.name, "problem": problem, "fingerprint": "", "skipped": False, "counts": {}}


def up_to_date(task: Task) -> Record | None:
    """The record of what this file's extraction would make, where that is finished; nothing is parsed to know."""
    try:
        with opened(task.work.location) as source:
            digest = source.digest
    except CorpusError:
        return None
    if task.work.entry.kind == "conversations":
        record = rules_record(task)
        same = record is not None and record.stage_version == VERSION and record.inputs == {"text": digest}
        return record if same else None
    known = _known_speakers(task, digest)
    return _unit(task, digest, *known).record(task.store) if known else None


def given_up(task: Task) -> dict[str, Any]:
    """The row of a file that ended its worker twice."""
    why = "its worker ended while reading it (out of memory, or a crash in a library)"
    return row_of(task, f"{task.work.location}: {why}")


# Lines ----------------------------------------------------------------------------------------------------------------


def _lines(task: Task, source: Source) -> dict[str, Any]:
    started = time.time()
    before = None if task.force else _known_speakers(task, source.digest)
    if before is not None and (row := _kept(task, _unit(task, source.digest, *before))):
        return row
    document = read_document(source, options_of(task.work.entry))
    with WorkFiles(owners(task.cast, task.work.name), text=not document.plain) as files:
        _parse(task, document, files)
        counts = _counts(document, files)
        unit = _unit(task, source.digest, counts["kind"], counts["speakers"], files.silent > 0)
        if row := _kept(task, unit):
            return row
        unit.finish(task.store, files.put(task.store, unit.key), counts, started)
    return {"fingerprint": unit.fingerprint, "counts": counts}


def _kept(task: Task, unit: Unit) -> dict[str, Any] | None:
    """What a finished unit adds to its row; None where it is to make, and then nothing says that it is finished."""
    if task.force:
        task.store.delete(f"{unit.key}/record.json")
        return None
    record = unit.record(task.store)
    return {"fingerprint": unit.fingerprint, "skipped": True, "counts": record.counts} if record else None


def _parse(task: Task, document: Document, files: WorkFiles) -> None:
    """The file's lines, text and rows set aside; CorpusError where nobody is found to speak in it at all."""
    where = task.work.location
    for chunk in read_works(document, task.work.name, _how(task), where):
        files.add(chunk)
    files.close()
    if not files.read_as:
        reason, count = files.reasons.most_common(1)[0] if files.reasons else ("is empty", 0)
        rows = f" (and {files.reasons.total() - 1:,} more rows)" if files.reasons.total() > 1 else ""
        raise CorpusError(f"{where}: {reason}{rows}" if count else f"{where}: is empty")


def _how(task: Task) -> How:
    entry = task.work.entry
    return How(entry.kind, task.layout, cast_names(task.cast, task.work.name), entry.cut, task.silent)


def _counts(document: Document, files: WorkFiles) -> dict[str, Any]:
    kind = "prose" if files.read_as["prose"] else "script"
    counts: dict[str, Any] = {
        **files.counts(),
        "encoding": {"name": document.encoding, "confidence": round(document.confidence, 3)},
        "format": {"name": document.format, **document.details},
        "kind": kind,
        "method": kind if kind == "prose" else files.method,
        "characters": files.characters,
    }
    if files.reasons:
        counts["set_aside"] = dict(files.reasons.most_common(50))
    return counts


def _reading(task: Task) -> dict[str, Any]:
    entry = task.work.entry
    said = {"column": entry.column, "speaker_column": entry.speaker_column, "cut": entry.cut}
    read = {"work": task.work.name, "kind": entry.kind, "layout": task.layout, "encoding": entry.encoding}
    return {**read, **{name: value for name, value in said.items() if value}}


def _unit(task: Task, digest: str, kind: str, known: Sequence[str], silent: bool) -> Unit:
    """The work as planned: of the cast what its own speakers are mapped to counts, and in prose every name."""
    roles = owners(task.cast, task.work.name)
    config = {**_reading(task), "cast": {name: roles[name] for name in sorted(known) if name in roles}}
    if kind == "prose":
        config["names"] = cast_names(task.cast, task.work.name)
    if silent:
        config["silent"] = True
    return Unit(task.recipe, "extract", VERSION, task.work.name, config, {"text": digest}, rights_of(task))


def rights_of(task: Task) -> tuple[dict[str, str], ...]:
    """What the recipe says of a file's source and licence."""
    rights = task.work.entry.rights.model_dump()
    return (rights,) if any(rights.values()) else ()


def rules_latest(store: Store, recipe: str) -> dict[str, str]:
    """Fingerprint by work of what the rules made last."""
    return read_latest(store, recipe, RULES) or read_latest(store, recipe, "extract")


def rules_record(task: Task) -> Record | None:
    """The record of what the rules made of this work last."""
    last = rules_latest(task.store, task.recipe).get(task.work.name)
    return read_record(task.store, output_key(task.recipe, "extract", last)) if last else None


def _known_speakers(task: Task, digest: str) -> tuple[str, list[str], bool] | None:
    """Kind and speakers of this very text, if it was read the same way before: then nothing is parsed to compare."""
    record = rules_record(task)
    if record is None or record.stage_version != VERSION or record.inputs != {"text": digest}:
        return None
    kind, known = record.counts.get("kind"), record.counts.get("speakers")
    if not kind or known is None:
        return None
    silent = bool(record.config.get("silent"))
    if silent != task.silent and (silent or record.counts.get("set_aside")):
        return None  # what nobody speaks in counts now as it did not then
    read = {name: value for name, value in record.config.items() if name not in ("cast", "names", "silent")}
    same = read == _reading(task)
    names = cast_names(task.cast, task.work.name) if kind == "prose" else None
    return (kind, known, silent) if same and record.config.get("names") == names else None


def hear_work(task: Task) -> dict[str, Any]:
    """Who speaks in a work when no name is known beforehand: lines by speaker as written, kept for the next time."""
    if task.work.entry.kind == "conversations":
        return {"speakers": {}}
    try:
        with opened(task.work.location) as source:
            read = digest_of([VERSION, _reading(task), source.digest])
            key = f"runs/{task.recipe}/extract/heard/{read}.json"
            if task.store.exists(key) and not task.force:
                return {"speakers": task.store.get_json(key)}
            heard: Counter[str] = Counter()
            written: dict[str, str] = {}
            document = read_document(source, options_of(task.work.entry))
            for chunk in read_works(document, task.work.name, _how(task), task.work.location):
                for speaker, count in speakers(chunk.lines).items():
                    heard[written.setdefault(name_key(speaker), speaker)] += count
            task.store.put_json(key, dict(heard))
    except StoreError as error:
        return {"fatal": str(error)}
    except Exception:  # noqa: BLE001 - extraction sets this file aside and says why
        return {"speakers": {}}
    return {"speakers": dict(heard)}


# Conversations --------------------------------------------------------------------------------------------------------


def _chats(task: Task, source: Source) -> dict[str, Any]:
    """A file of conversations that somebody made already, each given to its persona."""
    from understudy.interchange import belonging_to, read_conversations_file

    started = time.time()
    entry, work = task.work.entry, task.work.name
    known = owners(task.cast, work)
    own = sorted(key for key, persona in known.items() if persona == entry.persona)
    config = {"work": work, "kind": entry.kind, "format": entry.format, "persona": entry.persona}
    config["cast"] = own if entry.persona else known
    unit = Unit(task.recipe, "extract", VERSION, work, config, {"text": source.digest}, rights_of(task))
    if row := _kept(task, unit):
        return row
    names = [name for one in task.cast if one.name == entry.persona for name in (one.display_name, *one.aliases)]
    found, aside = read_conversations_file(source.data(MOST_CHATS), entry.format, entry.persona, work, names)
    only = task.cast[0].name if len(task.cast) == 1 else None
    good = []
    dropped = [_dropped(entry.persona, work, row["text"], row["reason"]) for row in aside]
    for one in found:
        persona = entry.persona or known.get(name_key(one.persona)) or (only if not one.persona else None)
        if persona is None:
            said = f"answers as {one.persona}, who is nobody in the cast" if one.persona else "says not who answers"
            text = "\n".join(message.content for message in one.messages)[:2000]
            dropped.append(_dropped(None, work, text, f"{said}; name it with `persona:` in the corpus entry"))
        else:
            good.append(belonging_to(one, persona))
    if not good:
        reason = dropped[0]["reason"] if dropped else "is empty"
        raise CorpusError(f"{task.work.location}: no conversation in it can be read: {reason}")
    rows = [one.row() for one in good]
    views = {
        name: rows_digest(row for row in rows if row["persona"] == name)
        for name in sorted({one.persona for one in good})
    }
    counts = {"kind": "conversations", "conversations": len(good), "set_aside": len(dropped), "views": views}
    tables = {"conversations": conversations_table(good), "dropped": dropped_table(dropped)}
    unit.finish(task.store, write_tables(task.store, unit.key, tables), counts, started)
    return {"fingerprint": unit.fingerprint, "counts": counts}


def _dropped(persona: str | None, work: str, text: str, reason: str) -> dict[str, Any]:
    return {"persona": persona, "work": work, "scene": None, "lines": [], "text": text, "reason": reason}

"""The files of a work that a model reads: the rules' lines with the text they stand in, and what is made of them.

for stretch in stretches_of(store, task, rules): ...       # in order; memory is that of a stretch
revision = Revision(store, task, rules, unit)
revision.add(stretch, names, windows and answers, passages and answers, spent)
revision.row()                                             # the files and their record
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from jobs.calls import Answer
from jobs.extract_work import Task, row_of
from jobs.lines_file import WorkFiles
from jobs.stage import Unit, write_tables
from understudy.attributing import MALFORMED, Names, Window, named, speakers_of
from understudy.corpus import options_of
from understudy.errors import CorpusError
from understudy.lines import Line
from understudy.reading.documents import read_document
from understudy.reading.source import opened
from understudy.reading.works import Chunk
from understudy.record import Record, output_key
from understudy.script import name_key, owners
from understudy.spoken import Said, said_in, with_said
from understudy.store import Store

STRETCH_LINES = 20_000
"""A longer work is read in stretches, each of whole scenes."""
PIECE = 1 << 20
SILENT = "nobody is found to speak in it, by the rules or by the model"

Answered = Iterable[tuple[Window, Answer]]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Lines that belong together, and the text that they stand in."""

    lines: list[Line]
    """Of one work."""
    text: str
    start: int
    """Where `text` begins in the text of the whole file."""


def stretches_of(store: Store, task: Task, rules: Record) -> Iterator[Stretch]:
    """The lines of a file as the rules left them, work by work. CorpusError where the file is not what it was."""
    key = output_key(rules.recipe, "extract", rules.fingerprint)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-")))
        store.fetch(f"{key}/lines.parquet", folder / "lines.parquet")
        text = _Text(_pieces(store, task, rules, key, folder, stack))
        at = 0
        for lines in _together(_lines(folder / "lines.parquet")):
            end = max(line.end for line in lines)
            begin = min(at, lines[0].start)
            yield Stretch(lines, text.between(begin, end), begin)
            at = end


def _pieces(store: Store, task: Task, rules: Record, key: str, folder: Path, stack: ExitStack) -> Iterator[str]:
    if "text.txt" in rules.outputs:
        store.fetch(f"{key}/text.txt", folder / "text.txt")
        # Carriage returns count as characters in offsets: nothing may be translated.
        file: IO[str] = stack.enter_context((folder / "text.txt").open(encoding="utf-8", newline=""))
        yield from iter(lambda: file.read(PIECE), "")
        return
    where = task.work.location
    with opened(where) as source:
        if source.digest != rules.inputs["text"]:
            raise CorpusError(f"{where}: changed while it was read; run the same command again")
        yield from read_document(source, options_of(task.work.entry)).texts or ()


def _lines(path: Path) -> Iterator[Line]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                yield Line(**{**row, "directions": tuple(row["directions"] or ())})


def _together(lines: Iterable[Line]) -> Iterator[list[Line]]:
    held: list[Line] = []
    for line in lines:
        last = held[-1] if held else line
        if held and (line.work != last.work or (len(held) >= STRETCH_LINES and line.scene != last.scene)):
            yield held
            held = []
        held.append(line)
    if held:
        yield held


class _Text:
    """A text that is gone through once."""

    def __init__(self, pieces: Iterator[str]):
        self.pieces = pieces
        self.held = ""
        self.at = 0

    def between(self, begin: int, end: int) -> str:
        """The text from `begin` to `end`; nothing before an earlier `begin` is there any more."""
        if begin - self.at > max(PIECE, len(self.held) // 2):
            self.held, self.at = self.held[begin - self.at :], begin
        more = [self.held]
        there = self.at + len(self.held)
        while there < end and (piece := next(self.pieces, None)) is not None:
            more.append(piece)
            there += len(piece)
        self.held = "".join(more)
        return self.held[begin - self.at : end - self.at]


class Revision:
    """What a model made of a work, while it is made."""

    def __init__(self, store: Store, task: Task, rules: Record, unit: Unit):
        self.store, self.task, self.rules, self.unit = store, task, rules, unit
        self.started = time.time()
        self.files = WorkFiles(owners(task.cast, task.work.name), text=False)
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.spent: Counter[str] = Counter()
        self.refused: list[dict[str, Any]] = []
        self.work = ""
        self.shift = 0

    def add(
        self, stretch: Stretch, names: Names, asked: Answered, passages: Answered, spent: Mapping[str, float]
    ) -> None:
        """The next stretch with its answers; `spent` is its part of the ledger."""
        for name, value in spent.items():
            self.spent[name] += value  # pyright: ignore[reportArgumentType]
        if stretch.lines[0].work != self.work:
            self.work, self.shift = stretch.lines[0].work, 0
        lines = self._named(stretch.lines, names, asked)
        said = self._said(names, passages)
        self.counts["found"] += len(said)
        if said or self.shift:
            before = len(lines)
            lines = with_said(lines, stretch.text, stretch.start, said, lines[0].index + self.shift)
            self.shift += len(lines) - before
        self.files.add(Chunk(self.work, "", 0, str(self.rules.counts["kind"]), lines))

    def _named(self, lines: list[Line], names: Names, asked: Answered) -> list[Line]:
        speakers: dict[int, str] = {}
        for window, answer in asked:
            self._count(answer)
            self.counts["asked"] += len(window.spans)
            if answer.reason:
                for position in window.spans:
                    self._refuse(MALFORMED, answer, lines[position].line_id, f"{answer.reason}: {answer.text}")
                continue
            read = speakers_of(window, answer.value, names)
            speakers.update(read.speakers)
            for reason, position, said in read.refused:
                self._refuse(reason, answer, None if position is None else lines[position].line_id, said)
        self.counts["attributed"] += len(speakers)
        for position, speaker in speakers.items():
            before = lines[position].speaker
            if before:
                same = names.by_key.get(name_key(before), before) == speaker
                self.counts["agreed" if same else "changed"] += 1
        return named(lines, speakers, names)

    def _said(self, names: Names, passages: Answered) -> list[Said]:
        found: list[Said] = []
        for passage, answer in passages:
            self._count(answer)
            self.counts["passages"] += 1
            if answer.reason:
                self._refuse(MALFORMED, answer, None, f"{answer.reason}: {answer.text}")
                continue
            said, dropped = said_in(passage, answer.value, names)
            found += said
            for reason, text in dropped:
                self._refuse(reason, answer, None, text)
        return found

    def _count(self, answer: Answer) -> None:
        self.counts["calls"] += 1
        self.counts["cached"] += answer.cached
        self.counts["unanswered"] += not answer.lasting
        self.models[answer.model] += 1

    def _refuse(self, reason: str, answer: Answer, line_id: str | None, said: str) -> None:
        self.reasons[reason] += 1
        row = {"work": self.work, "line_id": line_id, "reason": reason, "said": said}
        self.refused.append({**row, "model": answer.model, "call": answer.key})

    def row(self, problem: str = "") -> dict[str, Any]:
        """Write the files and the record; how it went, as extraction says it of every file."""
        self.files.close()
        if not problem and not self.files.kinds["speech"]:
            problem = f"{self.task.work.location}: {SILENT}"
        if problem:
            return row_of(self.task, problem)
        outputs = {**self.files.put(self.store, self.unit.key), **self._kept()}
        if self.refused:
            outputs |= write_tables(self.store, self.unit.key, {"refused": _refused_table(self.refused)})
        record = self.unit.finish(self.store, outputs, self._counts(), self.started)
        return {**row_of(self.task), "fingerprint": self.unit.fingerprint, "counts": record.counts}

    def _kept(self) -> dict[str, str]:
        """The files that a model does not change, beside the others again; digest by name."""
        found: dict[str, str] = {}
        key = output_key(self.rules.recipe, "extract", self.rules.fingerprint)
        with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
            for name in self.rules.outputs.keys() - {"lines.parquet"}:
                self.store.fetch(f"{key}/{name}", Path(folder) / name)
                with (Path(folder) / name).open("rb") as file:
                    self.store.put_file(f"{self.unit.key}/{name}", file)
                found[name] = self.rules.outputs[name]
        return found

    def _counts(self) -> dict[str, Any]:
        names = ("asked", "attributed", "agreed", "changed", "passages", "found", "calls", "cached", "unanswered")
        whole = {
            name: round(value, 6) if name.endswith("money") else round(value) for name, value in self.spent.items()
        }
        return {
            **self.rules.counts,
            **self.files.counts(),
            "llm": {
                **{name: self.counts[name] for name in names},
                "refused": dict(self.reasons.most_common()),
                "models": dict(self.models.most_common()),
            },
            "ledger": {**whole, "calls": self.counts["calls"], "cached": self.counts["cached"]},
        }

    def close(self) -> None:
        """Let go of the files on this machine."""
        self.files.__exit__()


def _refused_table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    names = ("work", "line_id", "reason", "said", "model", "call")
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names]))

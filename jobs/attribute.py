"""The second half of extract, where a recipe has `extract.llm`: a model reads what the rules left open.

    for row in attributed(recipe, store, tasks, rows): ...     # as jobs.extract_work makes rows, in the order given

The rules' output of a work stays where it is. What a model makes of it is another output of the same stage, with the
same files, and refused.parquet: what of the answers was not believed. Calls go out in batches over all works; each
answer is in the journal (jobs/llm.py) before anything is made of it, so a run that is killed or out of budget goes on
without asking twice, and an edit of `extract.llm` asks only what it changed. Memory is that of one batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.attribute_files import Revision, Stretch, stretches_of
from jobs.extract_work import VERSION, Task, rights_of
from jobs.ledger import own_part
from jobs.llm import Answer, Call, Service, answer_all, models_of
from jobs.stage import Unit, say, unanswered
from understudy import attributing, spoken
from understudy.attributing import Names, Window, question, windows
from understudy.errors import CorpusError, StoreError
from understudy.prose import cast_names
from understudy.recipe import ExtractLlm, Recipe
from understudy.record import Record, output_key, read_record
from understudy.script import plays
from understudy.spoken import passages, reading
from understudy.store import Store
from understudy.wording import counted

AT_ONCE = 8000
"""Calls of one batch: some minutes of work, whose prompts this process holds."""
MOST_LINES = 200_000
"""Lines of one batch."""
BETWEEN_SPEECHES = 2
"""Where a work has speech, a stretch without any is read by a model when it is as long as half a window."""
LOOKED_AT_ONCE = 1000
LOOKERS = 16
"""Records that are read at the same time: over S3 each takes tens of milliseconds."""
SAMPLING = {"temperature": 0}

Row = dict[str, Any]


def check_reader(recipe: Recipe) -> None:
    """RecipeError in one line where `extract.llm` names an endpoint that is not there."""
    if recipe.extract.llm is not None:
        store = Store.open(recipe.store, Path(recipe.folder or "."))
        Service.of(recipe, store, "extract.llm", recipe.extract.llm.endpoint)


def keeps_silent(recipe: Recipe) -> bool:
    """Whether a text in which no rule finds speech is kept, for the model to read."""
    return recipe.extract.llm is not None and recipe.extract.llm.read == "chunks"


def attributed(recipe: Recipe, store: Store, tasks: Mapping[str, Task], rows: Iterable[Row]) -> Iterator[Row]:
    """The rows of works as they are behind the model; of one about which there is nothing to ask, as it came.

    jobs.llm.BudgetReached and its kin end it: what was answered is kept, and the same command goes on.
    """
    asked: list[_Asked] = []
    left = iter(rows)
    while some := list(islice(left, LOOKED_AT_ONCE)):
        with ThreadPoolExecutor(LOOKERS) as pool:
            seen = list(pool.map(lambda row: _looked(recipe, store, tasks[row["work"]], row), some))
        asked += [one for one in seen if isinstance(one, _Asked)]
        yield from (one for one in seen if not isinstance(one, _Asked))
    if asked:
        yield from _Reading(recipe, store).rows(asked)


def _looked(recipe: Recipe, store: Store, task: Task, row: Row) -> Row | _Asked:
    """A work's row as it is behind the model, or the work that it has to be asked about."""
    one = _Asked(task, row["fingerprint"])
    rules = one.rules(store)
    unit = revision_of(recipe, task, rules) if rules else None
    if unit is None:
        return row
    record = None if task.force else unit.record(store)
    if record is None:
        store.delete(f"{unit.key}/record.json")  # a run killed while it repeats must not find the old record
        return one
    return {**row, "fingerprint": unit.fingerprint, "skipped": True, "counts": record.counts}


def up_to_date(recipe: Recipe, store: Store, task: Task, rules: Record) -> Record | None:
    """The record of what extract makes of a work behind its rules, where that is finished."""
    unit = revision_of(recipe, task, rules)
    return unit.record(store) if unit else rules


def revision_of(recipe: Recipe, task: Task, rules: Record) -> Unit | None:
    """What a model makes of the rules' lines of a work, planned; None where there is nothing to ask."""
    llm = recipe.extract.llm
    if llm is None or not _wanted(llm, rules):
        return None
    prompts = [attributing.PROMPT_VERSION, *([spoken.PROMPT_VERSION] if llm.read == "chunks" else [])]
    reader = {
        **llm.model_dump(mode="json", exclude={"endpoint"}),
        "models": models_of(recipe, llm.endpoint),
        "prompts": prompts,
        "cast": [[name, list(also)] for name, also in cast_of(task)],
    }
    config = {**rules.config, "names": cast_names(task.cast, task.work.name), "llm": reader}
    inputs = {**rules.inputs, "lines": rules.outputs["lines.parquet"]}
    return Unit(recipe.name, "extract", VERSION, task.work.name, config, inputs, rights_of(task))


def _wanted(llm: ExtractLlm, rules: Record) -> bool:
    counts = rules.counts
    if "lines.parquet" not in rules.outputs:
        return False
    unsure = counts.get("open", 1) or counts.get("least_sure", 0.0) < llm.threshold
    return bool(unsure or (llm.read == "chunks" and counts.get("kind") == "prose"))


def cast_of(task: Task) -> list[tuple[str, tuple[str, ...]]]:
    """Name and other names of everybody in the cast who may speak in a work."""
    return [(one.display_name or one.name, one.aliases) for one in task.cast if plays(one, task.work.name)]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A work about which a model is asked."""

    task: Task
    fingerprint: str
    """Of the rules' output; its record is read when it is needed, since there may be very many works."""

    def rules(self, store: Store) -> Record | None:
        """The record of what the rules made of it."""
        return read_record(store, output_key(self.task.recipe, "extract", self.fingerprint))


@dataclass(slots=True)
class Questions:
    """What is asked about a stretch of a work."""

    names: Names
    windows: list[Window]
    passages: list[Window]

    @classmethod
    def of(cls, llm: ExtractLlm, cast: Sequence[tuple[str, Sequence[str]]], stretch: Stretch, kind: str) -> Questions:
        """`kind`: whether it is a `script` or `prose`."""
        names = Names.of(cast, stretch.lines)
        place = (stretch.lines, stretch.text, stretch.start)
        asked = list(windows(*place, llm.threshold, llm.window_chars))
        if llm.read != "chunks" or kind != "prose":
            return cls(names, asked, [])
        spoken_here = any(line.kind == "speech" for line in stretch.lines)
        least = llm.window_chars // BETWEEN_SPEECHES if spoken_here else spoken.LEAST_CHARS
        return cls(names, asked, list(passages(*place, llm.window_chars, least)))

    def calls(self) -> Iterator[Call]:
        """One for each window, then one for each passage."""
        for window in self.windows:
            yield Call(question(window, self.names), attributing.SPEAKERS_SCHEMA, SAMPLING)
        for passage in self.passages:
            yield Call(reading(passage, self.names), spoken.LINES_SCHEMA, SAMPLING)


@dataclass(frozen=True, slots=True)
class _Planned:
    """What is made of a work."""

    task: Task
    rules: Record
    unit: Unit


@dataclass(slots=True)
class _Item:
    """A stretch on its way; without one, the end of a work, or why it cannot be read."""

    plan: _Planned
    stretch: Stretch | None = None
    questions: Questions | None = None
    calls: list[Call] = field(default_factory=list)
    problem: str = ""


class _Reading:
    """Asks batch by batch, and writes each work when all of it is answered."""

    def __init__(self, recipe: Recipe, store: Store):
        assert recipe.extract.llm is not None
        self.recipe, self.store, self.llm = recipe, store, recipe.extract.llm
        self.service = Service.of(recipe, store, "extract", self.llm.endpoint)
        self.open: Revision | None = None

    def rows(self, asked: Sequence[_Asked]) -> Iterator[Row]:
        """A row for each work, in order."""
        say("extract", f"asking {' and '.join(self.service.models)} about {counted(len(asked), 'work')}")
        done = 0
        try:
            for batch in _batches(item for one in asked for item in self._items(one)):
                for row in self._answered(batch):
                    done += 1
                    said = row["problem"] or f"{row['work']}: {told(row['counts']['llm'])}"
                    say("extract", f"[{done}/{len(asked)}] {said}")
                    yield row
        finally:
            if self.open is not None:
                self.open.close()

    def _items(self, asked: _Asked) -> Iterator[_Item]:
        task, rules = asked.task, asked.rules(self.store)
        unit = revision_of(self.recipe, task, rules) if rules else None
        if rules is None or unit is None:
            raise StoreError(f"{task.work.name}: its lines went away while they were read; run the same command again")
        plan = _Planned(task, rules, unit)
        cast, kind = cast_of(task), str(rules.counts.get("kind"))
        try:
            for stretch in stretches_of(self.store, task, rules):
                questions = Questions.of(self.llm, cast, stretch, kind)
                yield _Item(plan, stretch, questions, list(questions.calls()))
        except CorpusError as error:
            yield _Item(plan, problem=str(error))
        else:
            yield _Item(plan)

    def _answered(self, batch: Sequence[_Item]) -> Iterator[Row]:
        before = self.service.ledger()
        answers = iter(answer_all(self.service, [call for item in batch for call in item.calls]))
        after = self.service.ledger()
        taken = [(item, [next(answers) for _ in item.calls]) for item in batch]
        spent = {name: after[name] - before[name] for name in after}
        of_new = sum(not answer.cached for _, own in taken for answer in own)
        of_old = sum(len(own) for _, own in taken) - of_new
        for item, own in taken:
            new = sum(not answer.cached for answer in own)
            if row := self._take(item, own, own_part(spent, new, of_new, len(own) - new, of_old)):
                yield row

    def _take(self, item: _Item, answers: Sequence[Answer], spent: Mapping[str, float]) -> Row | None:
        if self.open is None:
            self.open = Revision(self.store, item.plan.task, item.plan.rules, item.plan.unit)
        if item.stretch is not None and item.questions is not None:
            own = item.questions
            count = len(own.windows)
            pairs = zip(own.windows, answers[:count], strict=True), zip(own.passages, answers[count:], strict=True)
            self.open.add(item.stretch, own.names, *pairs, spent)
            return None
        revision, self.open = self.open, None
        try:
            return revision.row(item.problem)
        finally:
            revision.close()


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    held: list[_Item] = []
    calls = lines = 0
    for item in items:
        held.append(item)
        calls += len(item.calls)
        lines += len(item.stretch.lines) if item.stretch else 0
        if calls >= AT_ONCE or lines >= MOST_LINES:
            yield held
            held, calls, lines = [], 0, 0
    if held:
        yield held


def told(counts: Mapping[str, Any]) -> str:
    """What a model did for a work, as words."""
    found = f", {counts['found']:,} speeches found in {counts['passages']:,} passages" if counts["passages"] else ""
    refused = Counter(counts["refused"])
    why = ", ".join(f"{reason} {number:,}" for reason, number in refused.most_common(4))
    calls = f"{counts['calls']:,} calls, {counts['cached']:,} of them answered before"
    text = f"{counts['attributed']:,} of {counts['asked']:,} open or unsure speeches named{found}"
    return f"{text}{f'; refused: {why}' if why else ''}; {calls}{unanswered(counts)}"

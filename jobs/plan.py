"""`understudy run --plan`: what a run would skip and why, and what the rest would take, before it starts.

Nothing is written. Texts that are not up to date are rehearsed on a sample (jobs/rehearsal.py) with the stages' own
code; units, calls and conversations are counted on what comes of it. Times are those of this store's former records,
where there are none they are measured on the sample or assumed, and the plan says which.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jobs.augment import run_augment
from jobs.cast import chosen_cast
from jobs.curate import run_curate
from jobs.curate_sources import Sources, sources_of
from jobs.evaluate import run_evaluate
from jobs.plan_calls import Calls, Former, Journals, calls_of, seconds_of
from jobs.plan_training import Training, adapter_bytes, training_of
from jobs.publish import run_publish
from jobs.rehearsal import Rehearsal, rehearsed
from jobs.report_tables import Made
from jobs.stage import Unit, planned_units, write_latest
from jobs.train import run_train
from understudy.base import source_of
from understudy.persona import Persona, cast_entry_persona
from understudy.prompts import system_text
from understudy.recipe import Recipe
from understudy.samples import Setting, assemble
from understudy.store import Store

STAGES = ("extract", "augment", "curate", "train", "evaluate", "publish")
START_S = 8.0
"""Ray comes up once a run."""
MOST_PERSONAS = 12
"""Personas whose conversations are put together for the plan; of a larger cast the rest count as their mean."""
SUMMED = ("skipped", "todo", "calls", "cached", "tokens_in", "tokens_out", "money", "seconds", "disk_bytes")
ROW_BYTES = 700
"""Of a conversation in its table, where nothing says."""
MORE = "what comes before it is made anew"


@dataclass
class Stage:
    """What one stage would do."""

    stage: str
    skipped: int = 0
    """Units that are up to date."""
    why: str = ""
    """Why units are skipped, or the stage as a whole."""
    todo: int = 0
    """Units that would be made."""
    rows: float = 0
    """Lines, accepted conversations, conversations, training conversations, scores or personas, by stage."""
    calls: float = 0
    """New model calls; those that the journal answers are `cached`."""
    cached: float = 0
    tokens_in: float = 0
    tokens_out: float = 0
    money: float = 0
    seconds: float = 0
    seconds_by: str = ""
    disk_bytes: float = 0
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """JSON values; counts are whole numbers."""
        whole = ("rows", "calls", "cached", "tokens_in", "tokens_out", "disk_bytes")
        found = {name: round(value) if name in whole else value for name, value in asdict(self).items()}
        return {**found, "money": round(self.money, 4), "seconds": round(self.seconds, 1)}


@dataclass(frozen=True)
class Plan:
    """The whole plan."""

    recipe: str
    sample: Mapping[str, Any]
    stages: Sequence[Stage]

    @property
    def total(self) -> Stage:
        """All stages together."""
        total = Stage("total")
        for stage in self.stages:
            for name in SUMMED:
                setattr(total, name, getattr(total, name) + getattr(stage, name))
        return total

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        total = self.total.as_json()
        stages = [stage.as_json() for stage in self.stages]
        return {"recipe": self.recipe, "sample": dict(self.sample), "stages": stages, "total": total}

    def lines(self) -> list[str]:
        """For a person."""
        return list(_lines(self))


def plan_run(recipe: Recipe, personas: tuple[str, ...] = (), force: bool = False) -> Plan:
    """What `run_recipe` with these arguments would do; InputError where it would refuse the recipe."""
    from jobs.run import refuse_later_parts

    refuse_later_parts(recipe)
    with _home(recipe) as home, rehearsed(recipe, home, force) as play:
        planner = _Planner(recipe, home, play, personas, force)
        stages = [planner.extract()]
        if recipe.augment:
            stages.append(planner.augment())
        stages += [planner.curate(), planner.train(), planner.evaluate(), planner.publish()]
        if any(stage.todo for stage in stages):
            first = next(stage for stage in stages if stage.todo)
            first.seconds += START_S
            first.notes.append(f"with {START_S:g} s to start Ray")
        sample = {
            "files": len(play.read),
            "of_files": len(play.todo),
            "bytes": play.bytes_read,
            "of_bytes": play.bytes_todo,
            "share": round(play.share, 4),
            "set_aside": dict(play.problems),
        }
        return Plan(recipe.name, sample, stages)


@contextmanager
def _home(recipe: Recipe) -> Iterator[Store]:
    """The recipe's store; an empty one where it is a folder that does not exist, so that nothing is written."""
    home = Store.open(recipe.store, Path(recipe.folder or "."))
    if home.is_local and not Path(home.uri).exists():
        with tempfile.TemporaryDirectory(prefix="understudy-plan-") as empty:
            yield Store.open(empty)
    else:
        yield home


class _Planner:
    """Goes through the stages, each on what the ones before would leave."""

    def __init__(self, recipe: Recipe, home: Store, play: Rehearsal, personas: tuple[str, ...], force: bool):
        self.recipe, self.home, self.play, self.personas, self.force = recipe, home, play, personas, force
        self.everyone = chosen_cast(play.recipe, play.store, ())
        self.cast = chosen_cast(play.recipe, play.store, personas)
        self.people: dict[str, Persona] = {one.name: cast_entry_persona(one, recipe) for one in self.cast}
        self.known = play.whole
        """Whether fingerprints of the next stage can be told."""
        self.sources: Sources | None = None
        self.generated: dict[str, float] = {}
        """Conversations by persona that augment would add to those that are there."""
        self.conversations: dict[str, tuple[float, float]] = {}
        """Train and held-out conversations by persona."""

    def extract(self) -> Stage:
        """By the rehearsal."""
        play = self.play
        stage = Stage("extract", len(play.done), "same bytes, same settings" if play.done else "", len(play.todo))
        if not self.recipe.corpus:
            stage.why = "the recipe has no corpus"
        share = play.share or 1.0
        stage.rows = (play.counts["lines"] + play.counts["conversations"]) / share
        stage.disk_bytes = play.bytes_made / share
        former = Made.of(self.home, self.recipe.name, "extract").records.values()
        spent = sum(record.seconds for record in former)
        characters = sum(int(record.counts.get("characters") or 0) for record in former)
        if play.todo:
            stage.seconds, stage.seconds_by = play.seconds / share, "measured on the sample, one core"
        if play.todo and characters > 1 << 20:
            stage.seconds = spent / characters * play.counts["characters"] / share
            stage.seconds_by = "former records"
        for name, problem in list(play.problems.items())[:5]:
            stage.notes.append(f"{name} would be set aside: {problem}")
        if play.todo and share < 1:
            stage.notes.append(f"from {len(play.read)} of {len(play.todo)} files, {share:.1%} of the bytes")
        return stage

    def augment(self) -> Stage:
        """By the steps' own plans."""
        stage = Stage("augment")
        units = self._units(lambda: run_augment(self.play.recipe, self.personas))
        steps = {step.name: step for step in self.recipe.augment}
        self._skip(stage, units, lambda unit: self.known or not steps[unit.name.partition(":")[2]].reads_lines)
        made = Made.of(self.home, self.recipe.name, "augment")
        former, journals = Former.of(made), Journals(self.home)
        sources = self._sources()
        total = Calls()
        for unit in self._todo(stage, units):
            persona, _, step = unit.name.partition(":")
            share = self.play.lines_share
            found = calls_of(self.recipe, sources, self.people[persona], steps[step], journals, former, share)
            total.add(found)
            self.generated[persona] = self.generated.get(persona, 0.0) + found.rows
        done = {unit.name for unit in units} - self.waiting
        for name in done & made.records.keys():
            persona = name.partition(":")[0]
            accepted = float(made.records[name].counts.get("accepted") or 0)
            self.generated[persona] = self.generated.get(persona, 0.0) + accepted
        stage.rows, stage.calls, stage.cached = total.rows, total.new, total.journaled
        stage.tokens_in, stage.tokens_out, stage.money = total.tokens_in, total.tokens_out, total.money
        stage.seconds, stage.seconds_by = seconds_of(self.recipe, total.new, former) if stage.todo else (0.0, "")
        stage.disk_bytes = total.rows * ROW_BYTES + total.new * 2 * ROW_BYTES
        stage.notes += total.notes
        self._go_on(stage)
        return stage

    def curate(self) -> Stage:
        """By curating what the rehearsal has."""
        stage = Stage("curate")
        units: tuple[Unit, ...] = ()
        if self.known:
            self._lend("augment", "conversations.parquet")
            units = self._units(lambda: run_curate(self.play.recipe, self.personas))
        self._skip_known(stage, units)
        names = list(self.people)
        looked = names[:MOST_PERSONAS]
        spent = self._count(looked)
        mean = [sum(self.conversations[n][side] for n in looked) / max(1, len(looked)) for side in (0, 1)]
        for name in names[MOST_PERSONAS:]:
            self.conversations[name] = (mean[0], mean[1])
        waiting = self.waiting if units else set(names)
        stage.rows = sum(sum(self.conversations[name]) for name in waiting)
        stage.seconds = spent / max(1, len(looked)) * len(waiting) / max(self.play.lines_share, 1e-9)
        stage.seconds_by = "measured on the sample" if waiting else ""
        stage.disk_bytes = stage.rows * ROW_BYTES
        self._go_on(stage)
        return stage

    def train(self) -> Stage:
        """By its configuration and what former records took."""
        stage = Stage("train")
        local = source_of(self.recipe.model, Path(self.recipe.folder or ".")) in ("builtin", "path")
        if not local:
            stage.notes.append(f"base {self.recipe.model.base} may be fetched first; its size is not counted")
        if self.known and local:
            self._lend("curate")
            self._skip_known(stage, self._units(lambda: run_train(self.play.recipe, self.personas)))
        else:
            self._skip_known(stage, ())
        self.training: Training = training_of(self.recipe, Made.of(self.home, self.recipe.name, "train"))
        waiting = self.waiting or (set() if stage.skipped else set(self.people))
        entries = [entry for entry in self.cast if entry.name in waiting]
        stage.rows = sum(self.conversations[entry.name][0] for entry in entries)
        once = [(self.recipe.train_config(entry), self.conversations[entry.name][0]) for entry in entries]
        stage.seconds = sum(self.training.seconds(train, conversations) for train, conversations in once)
        if entries:
            stage.seconds += self.training.start_s
            stage.seconds_by = self.training.by
        self.adapters = adapter_bytes(self.recipe, self.cast) if local else {}
        # An adapter with its moments, and two snapshots at most beside what is finished.
        stage.disk_bytes = sum(4 * self.adapters.get(entry.name, 0) for entry in entries)
        self._go_on(stage)
        return stage

    def evaluate(self) -> Stage:
        """A score for each persona's held-out lines under base, prompted base and adapters."""
        stage = Stage("evaluate")
        self._rest(stage, "train", lambda: run_evaluate(self.play.recipe, self.personas))
        waiting = [name for name in self.people if name in self.waiting]
        others = 0 if self.personas else min(len(self.cast) - 1, self.recipe.evaluate.others)
        stage.rows = len(waiting) * (3 + others)
        held = sum(self.conversations[name][1] for name in waiting)
        if waiting:
            stage.seconds = self.training.start_s + held * (3 + others) * self.training.forward_s
            stage.seconds_by = self.training.by
        stage.disk_bytes = stage.rows * ROW_BYTES
        self._go_on(stage)
        return stage

    def publish(self) -> Stage:
        """A copy of each adapter."""
        stage = Stage("publish")
        self._rest(stage, "evaluate", lambda: run_publish(self.play.recipe, self.personas))
        stage.rows = stage.todo
        stage.seconds, stage.seconds_by = 0.2 * stage.todo, "assumed" if stage.todo else ""
        stage.disk_bytes = sum(size for name, size in self.adapters.items() if name in self.waiting)
        return stage

    # Units

    def _units(self, run: Callable[[], Any]) -> tuple[Unit, ...]:
        return planned_units(run)

    def _rest(self, stage: Stage, before: str, run: Callable[[], Any]) -> None:
        units: tuple[Unit, ...] = ()
        if self.known:
            self._lend(before)
            units = self._units(run)
        self._skip_known(stage, units)

    def _skip(self, stage: Stage, units: Iterable[Unit], known: Callable[[Unit], bool]) -> None:
        """Count what is up to date; the rest waits."""
        self.waiting: set[str] = set()
        for unit in units:
            if not self.force and known(unit) and unit.record(self.home) is not None:
                stage.skipped += 1
            else:
                self.waiting.add(unit.name)
        stage.todo = len(self.waiting)
        stage.why = "same inputs, same settings" if stage.skipped else ""

    def _skip_known(self, stage: Stage, units: Sequence[Unit]) -> None:
        if units:
            self._skip(stage, units, lambda unit: True)
        else:
            self.waiting = set(self.people)
            stage.todo = len(self.waiting)
            stage.notes.append(MORE)

    def _todo(self, stage: Stage, units: Iterable[Unit]) -> list[Unit]:
        return [unit for unit in units if unit.name in self.waiting]

    def _go_on(self, stage: Stage) -> None:
        """What follows a stage that makes something anew cannot be told by fingerprints."""
        self.known = self.known and not stage.todo

    def _lend(self, name: str, *files: str) -> None:
        """Copy records (and some files) of a stage into the rehearsal's store, for the next stage to stand on."""
        made = Made.of(self.home, self.recipe.name, name)
        for unit, record in made.records.items():
            for file in (*(file for file in files if file in record.outputs), "record.json"):
                self.play.store.put(f"{made.keys[unit]}/{file}", self.home.get(f"{made.keys[unit]}/{file}"))
        latest = {unit: record.fingerprint for unit, record in made.records.items()}
        write_latest(self.play.store, self.recipe.name, name, latest)

    # Conversations

    def _sources(self) -> Sources:
        if self.sources is None:
            recipe = self.play.recipe
            if not self.play.read and not self.play.lent:
                recipe = recipe.model_copy(update={"corpus": ()})
            self.sources = sources_of(self.play.store, recipe, self.cast)
        return self.sources

    def _count(self, names: Iterable[str]) -> float:
        """Fill in the conversations of some personas; returns the seconds of CPU that it took."""
        import time

        sources, share = self._sources(), max(self.play.lines_share, 1e-9)
        mixed = 1 / (1 - min(0.99, sum(entry.share for entry in self.recipe.curate.mix)))
        began = time.process_time()
        for name in names:
            persona = self.people[name]
            setting = Setting(
                name,
                self.recipe.curate,
                system_text(persona),
                (persona.display_name, *persona.aliases),
                overlay=sources.overlay,
            )
            offers = [offer for offer in sources.offers(name) if offer.source == "imported"]
            found = assemble(setting, sources.lines(name), offers).counts["conversations"]
            train = found["train"] / share + self.generated.get(name, 0.0)
            self.conversations[name] = (train * mixed, found["heldout"] / share)
        return time.process_time() - began


def _lines(plan: Plan) -> Iterable[str]:
    heads = (
        ("skipped", 7),
        ("to do", 6),
        ("rows", 9),
        ("calls", 8),
        ("tokens", 10),
        ("money", 9),
        ("time", 9),
        ("disk", 9),
    )
    yield " ".join([f"{'stage':<9}", *(name.rjust(width) for name, width in heads)])
    for stage in (*plan.stages, plan.total):
        tokens = stage.tokens_in + stage.tokens_out
        rows = "" if stage.stage == "total" else f"{stage.rows:,.0f}"
        yield (
            f"{stage.stage:<9} {stage.skipped:>7,} {stage.todo:>6,} {rows:>9} {stage.calls:>8,.0f} {tokens:>10,.0f} "
            f"{stage.money:>9.2f} {_time(stage.seconds):>9} {_size(stage.disk_bytes):>9}"
        )
    for stage in plan.stages:
        if stage.skipped:
            yield f"{stage.stage}: {stage.skipped} up to date ({stage.why})"
        elif stage.why:
            yield f"{stage.stage}: {stage.why}"
        if stage.cached:
            yield f"{stage.stage}: {stage.cached:,.0f} more calls are in the journal and cost nothing"
        if stage.seconds_by:
            yield f"{stage.stage}: time {stage.seconds_by}"
        yield from (f"{stage.stage}: {note}" for note in stage.notes)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _size(size_bytes: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"

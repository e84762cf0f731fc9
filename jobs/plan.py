"""`understudy run --plan`: what a run would skip and why, and what the rest would take, before it starts.

Nothing is written, but for the answers of calls that it is told to make. Texts that are not up to date are rehearsed on
a sample (jobs/rehearsal.py) with the stages' own code; units, calls and conversations are counted on what comes of it.
Times are those of this store's former records; where there are none they are measured on the sample, tried or assumed,
and the plan says which.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.augment import run_augment
from jobs.cast import chosen_cast
from jobs.curate import APART_ROWS, run_curate
from jobs.curate_sources import Sources, setting_of, sources_of
from jobs.evaluate import run_evaluate
from jobs.llm import IN_PROCESS_CALLS
from jobs.plan_asking import Asking
from jobs.plan_calls import Calls, Former, Journals, calls_of, seconds_of
from jobs.plan_reader import reader_calls
from jobs.plan_steps import MOST_CONVERSATIONS, MOST_S
from jobs.plan_training import Training, adapter_bytes, training_of, tried_here
from jobs.publish import run_publish
from jobs.rehearsal import Rehearsal, rehearsed
from jobs.report_tables import Made
from jobs.stage import Unit, planned_units, planning, say, write_latest, write_tables
from jobs.train import run_train
from understudy.base import source_of
from understudy.conversation import Conversation
from understudy.dataset import conversations_table, dropped_table, read_conversations
from understudy.persona import Persona, cast_entry_persona
from understudy.prompts import system_text
from understudy.recipe import CastEntry, Recipe
from understudy.reporting.plan import Plan, Stage
from understudy.samples import assemble
from understudy.store import Store

START_S = 8.0
"""Ray comes up once a run."""
MOST_PERSONAS = 12
"""Personas whose conversations are put together for the plan; of a larger cast the rest count as their mean."""
MADE_S = 0.0003
"""To clean one generated conversation and compare it with the others."""
COPY_S = 0.02
"""To publish one adapter of a few megabytes in a local store."""
ROW_BYTES = 180
"""Of a generated conversation in its table, and of a reply in the journal, both compressed."""
EMPTY_BYTES, RECORD_BYTES = 4_700, 5_000
"""Of curate's two tables without rows, and of its record."""
NOTED_BYTES = 100 << 20
KNOWN_CHARACTERS = 1 << 20
"""Former records tell the time of extraction when they are of so much text."""
MORE = "what comes before it is made anew"


def plan_run(
    recipe: Recipe, personas: tuple[str, ...] = (), force: bool = False, try_steps: bool = True, ask: int = 0
) -> Plan:
    """What `run_recipe` with these arguments would do; InputError where it would refuse the recipe.

    `try_steps`: where no former record tells what training takes, load the base and train a few steps. `ask`: so many
    calls of each endpoint are made (and paid for, and kept) to see what they take.
    """
    from jobs.run import check_ahead, refuse_later_parts

    refuse_later_parts(recipe)
    check_ahead(recipe)
    with planning(), _home(recipe) as home, rehearsed(recipe, home, force) as play:
        planner = _Planner(recipe, home, play, personas, force, try_steps, ask)
        stages = [planner.extract()]
        if recipe.augment:
            stages.append(planner.augment())
        stages += [planner.curate(), planner.train(), planner.evaluate(), planner.publish()]
        if first := next((stage for stage in stages if stage.todo and planner.takes_ray(stage)), None):
            first.seconds += START_S
            first.notes.append(f"with {START_S:g} s to start Ray")
        _tell_of_budget(recipe, stages)
        sample = {
            "files": len(play.pieces),
            "of_files": len(play.todo),
            "bytes": play.bytes_read,
            "of_bytes": play.bytes_todo,
            "set_aside": dict(play.problems),
        }
        return Plan(recipe.name, sample, stages)


def _tell_of_budget(recipe: Recipe, stages: Iterable[Stage]) -> None:
    for stage in stages:
        for name, needed in (
            ("requests", stage.calls),
            ("tokens", stage.tokens_in + stage.tokens_out),
            ("money", stage.money),
        ):
            limit = getattr(recipe.budget, name)
            if limit is not None and needed > limit:
                stage.notes.append(f"budget.{name}={limit:g} would end it early; the same command then goes on")


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

    def __init__(
        self,
        recipe: Recipe,
        home: Store,
        play: Rehearsal,
        personas: tuple[str, ...],
        force: bool,
        try_steps: bool,
        ask: int,
    ):
        self.try_steps = try_steps
        self.recipe, self.home, self.play, self.personas, self.force = recipe, home, play, personas, force
        self.cast = chosen_cast(play.recipe, play.store, personas)
        self.people: dict[str, Persona] = {one.name: cast_entry_persona(one, recipe) for one in self.cast}
        # Answers go where the run will look for them, also where its store does not exist yet.
        kept = Store.open(recipe.store, Path(recipe.folder or ".")) if ask else home
        self.journals = Journals(kept, Asking(recipe, kept, ask) if ask else None)
        anew = bool(play.todo or play.ruled)
        self.base = play.recipe if anew else recipe.model_copy(update={"store": home.uri})
        """What stages are asked for their units by: the rehearsal, or the store itself where extract has no work."""
        self.lends = anew
        self.known = play.whole and recipe.extract.llm is None if anew else True
        """Whether fingerprints of the next stage can be told; not before a model has named speakers."""
        self.waiting: set[str] = set()
        """Units of the stage that would be made."""
        self.sources: Sources | None = None
        self.generated: dict[str, float] = {}
        """Conversations by persona that augment would leave."""
        self.conversations: dict[str, tuple[float, float]] = {}
        """Train and held-out conversations by persona."""
        self.examples: dict[str, list[Conversation]] = {}
        """Some of each persona's training conversations."""
        self.apart = False
        """Whether personas are curated side by side."""
        self.written = 0.0
        """Bytes of the tables of those that were put together."""

    def takes_ray(self, stage: Stage) -> bool:
        """Whether a stage starts Ray for what it has to do; little of it is done by the command itself."""
        if stage.stage == "augment":
            return stage.calls + stage.cached > IN_PROCESS_CALLS
        return stage.stage in ("extract", "train", "evaluate") or (stage.stage == "curate" and self.apart)

    def extract(self) -> Stage:
        """By the rehearsal."""
        play = self.play
        stage = Stage("extract", len(play.done), "same bytes, same settings" if play.done else "")
        stage.todo = len(play.todo) + len(play.ruled)
        if not self.recipe.corpus:
            stage.why = "the recipe has no corpus"
        stage.rows = play.expected["lines"] + play.expected["conversations"]
        stage.disk_bytes = play.expected["bytes"]
        cores = max(
            1, min(self.recipe.resources.extract.workers or len(play.todo), len(play.todo), os.cpu_count() or 1)
        )
        stage.seconds = play.expected["seconds"] / cores
        stage.seconds_by = f"measured on the sample, on {cores} of the cores"
        former = Made.of(self.home, self.recipe.name, "extract").records.values()
        characters = sum(int(record.counts.get("characters") or 0) for record in former)
        if characters > KNOWN_CHARACTERS:
            spent = sum(record.seconds for record in former)
            stage.seconds = spent / characters * play.expected["characters"] / cores
            stage.seconds_by = f"by former records, on {cores} of the cores"
        if self.recipe.extract.llm is not None:
            self._read(stage)
        for name, problem in list(play.problems.items())[:5]:
            stage.notes.append(f"{name} would be set aside: {problem}")
        if not play.all_read:
            share = play.bytes_read / play.bytes_todo
            stage.notes.append(f"from {len(play.pieces)} of {len(play.todo)} files, {share:.1%} of the bytes")
        return stage

    def _read(self, stage: Stage) -> None:
        found = reader_calls(self.base, self.play, self.journals)
        stage.calls, stage.cached = found.new, found.journaled
        stage.tokens_in, stage.tokens_out, stage.money = found.tokens_in, found.tokens_out, found.money
        seconds, by = seconds_of(self.recipe, found.new, {}, self.journals.asking)
        stage.seconds += seconds
        stage.seconds_by += f", calls {by}"
        if found.new:
            stage.notes.append("whose lines the model names is not known before: later stages count the rules' alone")

    def augment(self) -> Stage:
        """By the steps' own plans."""
        stage = Stage("augment")
        units = planned_units(lambda: run_augment(self.base, self.personas))
        steps = {step.name: step for step in self.recipe.augment}
        self._split(stage, units, lambda unit: self.known or not steps[unit.name.partition(":")[2]].reads_lines)
        made = Made.of(self.home, self.recipe.name, "augment")
        former = Former.of(made)
        share = self.play.lines_share
        total = Calls()
        for unit in units:
            persona, _, step = unit.name.partition(":")
            if unit.name in self.waiting:
                found = calls_of(
                    self.recipe, self._sources(), self.people[persona], steps[step], self.journals, former, share
                )
                total.add(found)
                accepted = found.rows
            else:
                accepted = float(made.records[unit.name].counts["accepted"]) if unit.name in made.records else 0.0
            self.generated[persona] = self.generated.get(persona, 0.0) + accepted
        stage.rows, stage.calls, stage.cached = total.rows, total.new, total.journaled
        stage.tokens_in, stage.tokens_out, stage.money = total.tokens_in, total.tokens_out, total.money
        stage.seconds, stage.seconds_by = seconds_of(self.recipe, total.new, former, self.journals.asking)
        stage.disk_bytes = (total.rows + total.new) * ROW_BYTES
        stage.notes += total.notes
        return self._done(stage)

    def curate(self) -> Stage:
        """By curating what the rehearsal has; what is up to date by its records."""
        stage = Stage("curate")
        self._ask(stage, "augment", run_curate, "conversations.parquet")
        for name, record in Made.of(self.home, self.recipe.name, "curate").records.items():
            if name in self.people and name not in self.waiting:
                counts = record.counts["conversations"]
                self.conversations[name] = (counts["train"], counts["heldout"])
        names = [entry.name for entry in self.cast if entry.name in self.waiting]
        looked = names[:MOST_PERSONAS]
        began = time.perf_counter()
        for name in looked:
            self.conversations[name] = self._count(self.people[name])
        spent = time.perf_counter() - began
        mean = [sum(self.conversations[name][side] for name in looked) / max(1, len(looked)) for side in (0, 1)]
        for name in names[MOST_PERSONAS:]:
            self.conversations[name] = (mean[0], mean[1])
        stage.rows = sum(sum(self.conversations[name]) for name in names)
        share = max(self.play.lines_share, 1e-9)
        stage.seconds = spent / max(1, len(looked)) * len(names) / share
        stage.seconds_by = "measured on the sample"
        self.apart = sum(self._sources().of(name).rows for name in names) / share > APART_ROWS if names else False
        if self.apart:
            cores = min(os.cpu_count() or 1, len(names))
            stage.seconds /= cores
            stage.seconds_by += f", on {cores} of the cores"
        # Generated conversations are not in the sample.
        stage.seconds += MADE_S * sum(self.generated.get(name, 0.0) for name in names)
        own = sum(sum(self.conversations[name]) for name in looked)
        # What is only generated or mixed in is not here yet.
        stage.disk_bytes = self.written / own * stage.rows if self.written and own else stage.rows * ROW_BYTES
        stage.disk_bytes += (EMPTY_BYTES + RECORD_BYTES) * len(names)
        return self._done(stage)

    def train(self) -> Stage:
        """By its configuration and what former records took."""
        stage = Stage("train")
        local = source_of(self.recipe.model, Path(self.recipe.folder or ".")) in ("builtin", "path")
        if not local:
            self.known = False
            stage.notes.append(f"base {self.recipe.model.base} may be fetched first, which is not counted")
        self._ask(stage, "curate", run_train)
        entries = [entry for entry in self.cast if entry.name in self.waiting]
        former = Made.of(self.home, self.recipe.name, "train")
        self.training = training_of(self.recipe, former, lambda: self._tried(entries))
        for entry in entries:
            conversations = self.conversations[entry.name][0]
            stage.rows += conversations
            stage.seconds += self.training.seconds(self.recipe.train_config(entry), conversations)
        stage.seconds += self.training.start_s if entries else 0
        stage.seconds_by = self.training.by
        self.adapters = adapter_bytes(self.recipe, self.cast)
        stage.disk_bytes = sum(self.adapters.get(entry.name, 0) for entry in entries)
        if stage.disk_bytes > NOTED_BYTES:
            # Weights with both moments, the last snapshot and the one that is written.
            stage.notes.append(f"snapshots take up to {6 * stage.disk_bytes / 1e9:.1f} GB more while it trains")
        return self._done(stage)

    def evaluate(self) -> Stage:
        """A score for each persona's held-out lines under base, prompted base and adapters."""
        stage = Stage("evaluate")
        self._ask(stage, "train", run_evaluate)
        others = 0 if self.personas else min(len(self.cast) - 1, self.recipe.evaluate.others)
        stage.rows = len(self.waiting) * (3 + others)
        held = sum(self.conversations[name][1] for name in self.waiting)
        if self.waiting:
            stage.seconds = self.training.start_s + held * (3 + others) * self.training.forward_s
        stage.seconds_by = self.training.by
        stage.disk_bytes = stage.rows * ROW_BYTES
        return self._done(stage)

    def publish(self) -> Stage:
        """A copy of each adapter."""
        stage = Stage("publish")
        self._ask(stage, "evaluate", run_publish)
        stage.rows = stage.todo
        stage.seconds, stage.seconds_by = COPY_S * stage.todo, "assumed"
        stage.disk_bytes = sum(size for name, size in self.adapters.items() if name in self.waiting)
        return stage

    # Units

    def _ask(self, stage: Stage, before: str, run: Callable[..., Any], *files: str) -> None:
        """Which personas are up to date, as far as that can be told."""
        if self.known:
            self._lend(before, *files)
            self._split(stage, planned_units(lambda: run(self.base, self.personas)), lambda _: True)
            return
        self.waiting = set(self.people)
        stage.todo = len(self.waiting)
        stage.notes.append(MORE)

    def _split(self, stage: Stage, units: Iterable[Unit], known: Callable[[Unit], bool]) -> None:
        """Count what is up to date; the rest waits."""
        self.waiting = set()
        for unit in units:
            if not self.force and known(unit) and unit.record(self.home) is not None:
                stage.skipped += 1
            else:
                self.waiting.add(unit.name)
        stage.todo = len(self.waiting)
        stage.why = "same inputs, same settings" if stage.skipped else ""

    def _done(self, stage: Stage) -> Stage:
        """What follows a stage that makes something anew cannot be told by fingerprints."""
        self.known = self.known and not stage.todo
        if not stage.todo:
            stage.seconds = 0.0
        return stage

    def _lend(self, name: str, *files: str) -> None:
        """Copy records (and some files) of a stage into the rehearsal's store, for the next stage to stand on."""
        if not self.lends:
            return
        made = Made.of(self.home, self.recipe.name, name)
        for unit, record in made.records.items():
            for file in (*(file for file in files if file in record.outputs), "record.json"):
                self.play.store.put(f"{made.keys[unit]}/{file}", self.home.get(f"{made.keys[unit]}/{file}"))
        latest = {unit: record.fingerprint for unit, record in made.records.items()}
        write_latest(self.play.store, self.recipe.name, name, latest)

    # Conversations

    def _tried(self, entries: Sequence[CastEntry]) -> Training | None:
        """Steps on what curate would leave of these personas, or has left."""
        if not self.try_steps:
            return None
        made = Made.of(self.home, self.recipe.name, "curate")
        for entry in entries:
            if entry.name not in self.examples and entry.name in made.keys:
                key = f"{made.keys[entry.name]}/conversations.parquet"
                self.examples[entry.name] = _some(read_conversations(self.home.read_table(key)))
        systems = [(entry, system_text(self.people[entry.name])) for entry in entries]
        if entries:
            say("plan", f"trying a few steps of training, {MOST_S:g} s at most when the base is loaded")
        return tried_here(self.recipe, systems, self.examples)

    def _sources(self) -> Sources:
        if self.sources is None:
            play = self.play
            recipe = play.recipe if play.pieces or play.lent else play.recipe.model_copy(update={"corpus": ()})
            self.sources = sources_of(play.store, recipe, self.cast)
        return self.sources

    def _count(self, persona: Persona) -> tuple[float, float]:
        """Train and held-out conversations of a persona, as curate would put them together."""
        sources, share = self._sources(), max(self.play.lines_share, 1e-9)
        setting = setting_of(self.recipe, persona, sources.overlay)
        offers = [offer for offer in sources.offers(persona.name) if offer.source == "imported"]
        curated = assemble(setting, sources.lines(persona.name), offers)
        found = curated.counts["conversations"]
        self.examples[persona.name] = _some(curated.conversations)
        tables = {
            "conversations": conversations_table(curated.conversations),
            "dropped": dropped_table(curated.dropped),
        }
        write_tables(self.play.store, f"plan/{persona.name}", tables)  # digests take a good part of the stage's time
        size = sum(one.size_bytes for one in self.play.store.stored(f"plan/{persona.name}").values())
        self.written += max(0, size - EMPTY_BYTES) / share
        mixed = 1 / (1 - min(0.99, sum(entry.share for entry in self.recipe.curate.mix)))
        train = (found["train"] / share + self.generated.get(persona.name, 0.0)) * mixed
        return train, found["heldout"] / share


def _some(conversations: Sequence[Conversation]) -> list[Conversation]:
    """Training conversations from all parts of a data set, enough to try a few steps on."""
    train = [one for one in conversations if one.split == "train"]
    return train[:: max(1, len(train) // MOST_CONVERSATIONS)]

"""The augment stage: a model writes conversations in the personas' voices, as the recipe's steps say.

    runs/<recipe>/augment/<fingerprint>/conversations.parquet   what passed every check; all of it for training
    runs/<recipe>/augment/<fingerprint>/set_aside.parquet       what did not, with its reason and the raw reply
    runs/<recipe>/augment/<fingerprint>/...                     further files of a kind: card.json, suitability.png

A unit is one step for one persona. All units of a round are asked in one stream, so a large cast fills an endpoint as
well as a large grid does. Answers are journaled call by call (jobs/llm.py): after an edit only the calls whose request
changed are made again, and a killed run goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.attempt import attempt
from jobs.augment_calls import Question, answered
from jobs.augment_task import Task
from jobs.cast import chosen_cast
from jobs.curate_sources import Sources, sources_of
from jobs.ledger import own_part
from jobs.llm import Service, models_of
from jobs.material import file_digests, inputs_of, material_of, rights_of
from jobs.stage import StageResult, Unit, fingerprints, say, split_done, unanswered, write_latest
from understudy.augmentation.kinds import kind_of
from understudy.augmentation.steps import AnyStep
from understudy.errors import InputError, RecipeError, UnderstudyError
from understudy.persona import Persona, cast_entry_persona
from understudy.recipe import CastEntry, Recipe
from understudy.record import digest_of
from understudy.store import Store

VERSION = 1


def run_augment(recipe: Recipe, personas: tuple[str, ...] = (), force: bool = False) -> StageResult:
    """Run the recipe's augmentation steps for its cast, or only for `personas`; what did not change is skipped.

    Raises RecipeError for a step that names an endpoint or persona that is not there, jobs.llm.BudgetReached where a
    limit of `budget` stops it: what was answered is kept, and the same command goes on.
    """
    began = time.time()
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    if not recipe.augment:
        raise InputError(f"{recipe.name}: has no augment steps; add `augment: [{{name: NAME, kind: style}}]`")
    everyone, cast = chosen_cast(recipe, store, ()), chosen_cast(recipe, store, personas)
    check_steps(recipe, everyone)
    sources = sources_of(store, recipe, ())
    sources.tell_unfinished("augment")
    planned = [
        (_unit(store, recipe, sources, step, persona), step, persona)
        for persona in (cast_entry_persona(entry, recipe) for entry in cast)
        for step in recipe.augment
        if step.personas is None or persona.name in step.personas
    ]
    units = [unit for unit, _, _ in planned]
    todo, done = split_done(store, units, force)
    if done:
        say("augment", f"{len(done)} of {len(planned)} steps up to date, skipped")
    wanted = {unit.fingerprint for unit in todo}
    tasks = [
        Task(unit, step, kind_of(step.kind), material_of(sources, persona, step, recipe))
        for unit, step, persona in planned
        if unit.fingerprint in wanted
    ]
    with attempt(store, recipe.name, "augment", {entry.name for entry in cast}, len(cast) == len(everyone)):
        ledger = _made(store, recipe, tasks)
        keep = [unit_name(entry.name, step) for entry in everyone for step in recipe.augment]
        write_latest(store, recipe.name, "augment", fingerprints(units), keep)
    return StageResult.of("augment", store, recipe.name, units, todo, began, {"ledger": ledger} if ledger else {})


def _made(store: Store, recipe: Recipe, tasks: Sequence[Task]) -> dict[str, Any]:
    """Work the tasks off and keep what they made; the ledger by endpoint."""
    ledger = _work(store, recipe, tasks) if tasks else {}
    silent = [task for task in tasks if task.unheard]
    for task in tasks:
        if not task.unheard:  # else it has no record, and the next run asks again
            record = task.finish(store, _own_part(ledger, task, tasks))
            say("augment", f"{task.unit.name}: {summary(record.counts)}")
    if silent:
        more = f" (and {len(silent) - 1} more steps)" if len(silent) > 1 else ""
        raise UnderstudyError(
            f"{silent[0].unit.name}: none of {silent[0].calls['calls']} calls was answered "
            f"({silent[0].no_answer}){more}; see the endpoint, then run it again"
        )
    return ledger


def unit_name(persona: str, step: AnyStep) -> str:
    """How the unit of a step and persona is called."""
    return f"{persona}:{step.name}"


def summary(counts: Mapping[str, Any]) -> str:
    """A unit's counts as words."""
    reasons = ", ".join(f"{reason} {number}" for reason, number in counts["reasons"].items())
    aside = f", {counts['set_aside']} set aside ({reasons})" if reasons else ""
    calls = f"{counts['calls']} calls, {counts['cached']} of them answered before"
    return f"{counts['accepted']} accepted{aside}; {calls}{unanswered(counts)}"


def check_steps(recipe: Recipe, cast: Sequence[CastEntry] | None) -> None:
    """RecipeError for a step that names an endpoint, a persona or a file that is not there; `cast` None: not known."""
    names = [entry.name for entry in cast or ()]
    known = [*recipe.endpoints, "all"]
    for step in recipe.augment:
        where = f"{recipe.name}: augment.{step.name}"
        for field, endpoint in (("endpoint", step.endpoint), ("judge", step.judge)):
            if endpoint is not None and (endpoint not in known or not recipe.endpoints):
                raise RecipeError(
                    f"{where}.{field}: {endpoint} is not in endpoints; "
                    f"add `endpoints: {{{endpoint}: {{base_url: URL, model: MODEL}}}}`"
                )
        for path in step.files():
            if "://" not in path and not recipe.path_of(path).is_file():
                raise RecipeError(f"{where}: {path}: no such file ({recipe.path_of(path)})")
        for persona in step.personas or ():
            if cast is not None and persona not in names:
                raise RecipeError(f"{where}.personas: {persona} is not in the cast; it has {', '.join(names[:8])}")


def _unit(store: Store, recipe: Recipe, sources: Sources, step: AnyStep, persona: Persona) -> Unit:
    config: dict[str, Any] = {
        "step": step.model_dump(mode="json", exclude={"personas", "endpoint", "judge"}),
        "persona": {**persona.model_dump(mode="json", exclude={"works", "sampling"}), "card": digest_of(persona.card)},
        "prompt": kind_of(step.kind).prompt_version,
        "models": models_of(recipe, step.endpoint),
        "judge": models_of(recipe, step.judge),
    }
    if step.reads_lines:
        held = {"window", "heldout", "seed"}
        if sources.of(persona.name).imported:  # which of them are held out depends on more
            held |= {"clean", "max_repeats", "min_chars", "ngrams"}
        config["curate"] = recipe.curate.model_dump(mode="json", include=held)
    inputs = {**file_digests(step, recipe), **inputs_of(store, sources, step, persona.name)}
    rights = rights_of(sources, step, persona.name)
    return Unit(recipe.name, "augment", VERSION, unit_name(persona.name, step), config, inputs, rights)


def _work(store: Store, recipe: Recipe, tasks: Sequence[Task]) -> dict[str, Any]:
    """Ask all rounds of all tasks, then the judges; the ledger by endpoint."""
    services: dict[str, Service] = {}

    def service(endpoint: str) -> Service:
        if endpoint not in services:
            services[endpoint] = Service.of(recipe, store, "augment", endpoint)
        return services[endpoint]

    for number in range(max(task.rounds for task in tasks)):
        for endpoint in dict.fromkeys(task.step.endpoint or "" for task in tasks):
            questions = _questions(tasks, endpoint, number)
            for question, answer in answered(lambda endpoint=endpoint: service(endpoint), questions):
                tasks[question.task].take(question.order, question.job, answer)
    for task in tasks:
        task.settle()
    for endpoint in dict.fromkeys(task.step.judge for task in tasks if task.step.judge):
        for question, answer in answered(lambda endpoint=endpoint: service(endpoint), _verdicts(tasks, endpoint)):
            tasks[question.task].judge(question.order, answer)
    return {endpoint: one.ledger() for endpoint, one in services.items()}


def _own_part(ledger: Mapping[str, Mapping[str, Any]], task: Task, tasks: Sequence[Task]) -> dict[str, Any]:
    """What of the endpoints' ledgers a unit counts as its own; both kinds of calls are counted exactly."""
    calls = task.calls
    found: dict[str, Any] = {
        "calls": calls["calls"] + calls["judged"],
        "cached": calls["cached"] + calls["judged_cached"],
    }
    for endpoint, whole in ledger.items():
        new = task.new_calls[endpoint], sum(one.new_calls[endpoint] for one in tasks)
        old = task.old_calls[endpoint], sum(one.old_calls[endpoint] for one in tasks)
        for name, part in own_part(whole, *new, *old).items():
            found[name] = found.get(name, 0) + (round(part) if isinstance(whole[name], int) else part)
    return found


def _questions(tasks: Sequence[Task], endpoint: str, number: int) -> Iterator[Question]:
    for position, task in enumerate(tasks):
        if (task.step.endpoint or "") == endpoint and number < task.rounds:
            for order, job in task.jobs(number):
                yield Question(position, order, job)


def _verdicts(tasks: Sequence[Task], endpoint: str) -> Iterator[Question]:
    for position, task in enumerate(tasks):
        if task.step.judge == endpoint:
            for order, job in task.verdicts():
                yield Question(position, order, job)

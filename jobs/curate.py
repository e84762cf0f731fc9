"""The curate stage: lines and conversations to one dataset per persona, cleaned, deduplicated, mixed and split.

    runs/<recipe>/curate/<fingerprint>/conversations.parquet   what training and evaluation read, both splits
    runs/<recipe>/curate/<fingerprint>/dropped.parquet         every row that a rule kept out, with its reason

It reads what extract left (lines, or conversations that somebody made), what augment generated, the mix entries of the
recipe, and what a person decided in review. A persona's inputs are what it sees of them (`dataset.persona_view` for
lines): another persona's alias, conversation or review changes nothing here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.cast import chosen_cast
from jobs.curate_sources import Parts, Sources, Tables, check_augmented, setting_of, sources_of
from jobs.near_duplicates import bands_of
from jobs.stage import StageResult, Unit, fingerprints, say, split_done, write_latest, write_tables
from understudy.base import TINY
from understudy.dataset import Curated, conversations_table, dropped_table
from understudy.errors import PersonaError, UnderstudyError
from understudy.lexicon import unknown_share
from understudy.persona import Persona, cast_entry_persona
from understudy.recipe import CastEntry, Recipe
from understudy.record import digest_of
from understudy.samples import General, assemble
from understudy.store import Store
from understudy.wording import one_line

if TYPE_CHECKING:
    from jobs.mix import Source

VERSION = 3
MOST_NAMED = 10
WORDS_OF = 2_000
"""Conversations whose words are looked at."""
APART_ROWS = 300_000
"""With more rows than this to read for its personas, they are curated side by side, each in a process of its own."""
MOST_FOREIGN = 0.1
"""With more words than this that the embedded base does not know, its persona will not make sense."""


def run_curate(recipe: Recipe, personas: tuple[str, ...] = (), force: bool = False) -> StageResult:
    """Curate the cast of `recipe`, or only `personas`; a persona of whom nothing changed is skipped.

    Raises InputError when a stage before has not been run, PersonaError when there is nothing of a persona, or nothing
    to learn is left of it.
    """
    began = time.time()
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    everyone = chosen_cast(recipe, store, ())
    cast = chosen_cast(recipe, store, personas)
    check_augmented(store, recipe, cast)
    sources = sources_of(store, recipe, cast)
    sources.tell_unfinished("curate")
    mix = _opened_mix(recipe)
    people = {entry.name: cast_entry_persona(entry, recipe) for entry in cast}
    units = [_unit(recipe, people[entry.name], sources.of(entry.name), mix) for entry in cast]
    todo, done = split_done(store, units, force)
    for name, own in _curated(store, recipe, todo, people, sources, mix):
        _tell(name, own)
    if todo and recipe.model.base == TINY:
        _warn_of_foreign_words(store, todo)
    if done:
        say("curate", f"{len(done)} of {len(units)} personas up to date, skipped")
    write_latest(store, recipe.name, "curate", fingerprints(units), [e.name for e in everyone])
    result = StageResult.of("curate", store, recipe.name, units, todo, began)
    details = _review_details(sources, everyone, result.counts)
    if sources.unfinished:
        details["unfinished"] = sources.unfinished
    return replace(result, details=details)


def _opened_mix(recipe: Recipe) -> list[Source]:
    if not recipe.curate.mix:
        return []
    from jobs.mix import open_mix

    return open_mix(recipe)


def _tell(persona: str, counts: Mapping[str, Any]) -> None:
    turns, overlap = counts["turns"], counts["overlap"]
    text = f"{turns['train']} answers to learn, {turns['heldout']} held out, {sum(counts['dropped'].values())} dropped"
    if counts["mended"]:
        text += f", {sum(counts['mended'].values())} mended"
    say("curate", f"{persona}: {text}")
    made = {source: n for source, n in overlap["by_source"].items() if source != "lines"}
    if made:
        shown = ", ".join(f"{n} in {source}" for source, n in made.items())
        say("curate", f"{persona}: training holds pieces of the held-out answers: {shown}")
    for one in counts["mix"]:
        if one["taken"] < one["wanted"]:
            say("curate", f"{persona}: {one['name']} gave {one['taken']} of {one['wanted']} conversations to mix in")


def _warn_of_foreign_words(store: Store, todo: Sequence[Unit]) -> None:
    """The toy base can only say what it has words for: tell whose lines it will not carry."""
    for unit in todo:
        rows = store.read_table(f"{unit.key}/conversations.parquet").slice(0, WORDS_OF).to_pylist()
        said = "\n".join(message["content"] for row in rows for message in row["messages"] if message["loss"])
        share = unknown_share(said)
        if share > MOST_FOREIGN:
            text = f"{unit.name}: the toy base does not know {share:.0%} of these words, so expect no sense of it"
            say("curate", f"{text}; a real base: model.base=Qwen/Qwen3-0.6B")


def _review_details(
    sources: Sources, everyone: Sequence[CastEntry], counts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Decisions of the review that apply to nothing, and entries that are none; said once for the whole stage."""
    stale, unreadable = sources.stale, sources.overlay.unreadable
    lost = {
        "works": sources.lost_works,
        "personas": sources.overlay.lost_personas({entry.name for entry in everyone}),
        "conversations": {
            name: n for name, own in counts.items() if (n := own.get("review", {}).get("conversations_stale"))
        },
    }
    _tell_lost("of works that are not in this corpus any more", lost["works"])
    _tell_lost("about conversations of personas who are not in this cast any more", lost["personas"])
    _tell_lost("about conversations that are not there any more", lost["conversations"])
    if stale:
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(one["reason"] for one in stale).most_common())
        say("curate", f"review: {len(stale)} decisions about lines apply to nothing now ({reasons})")
    for one in unreadable[:3]:
        say("curate", f"review: {one}")
    found = {"stale": stale, "unreadable": list(unreadable), **lost}
    return {"review": found} if any(found.values()) else {}


def _tell_lost(what: str, lost: Mapping[str, int]) -> None:
    if lost:
        names = ", ".join(f"{name} ({n})" for name, n in list(lost.items())[:MOST_NAMED])
        more = f" and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
        number = sum(lost.values())
        say("curate", f"review: {number} decision{'s' if number > 1 else ''} {what}: {names}{more}")


def _unit(recipe: Recipe, persona: Persona, parts: Parts, mix: Sequence[Source]) -> Unit:
    if not parts:
        raise PersonaError(
            f"{persona.name}: has no line in any work; check its aliases with `understudy recipe new TEXT`"
        )
    made = bool(parts.imported or parts.generated or mix)
    inputs = {work: part.digest for work, part in parts.lines.items()}
    inputs |= {f"conversations:{unit}": part.digest for unit, part in parts.imported.items()}
    inputs |= {f"augment:{unit}": part.digest for unit, part in parts.generated.items()}
    inputs |= {f"mix:{at}:{source.name}": source.digest for at, source in enumerate(mix)}
    inputs |= {f"review:{work}": digest for work, digest in parts.review.items()}
    config: dict[str, Any] = {"persona": persona.name, **recipe.curate.model_dump(mode="json")}
    setting = setting_of(recipe, persona)
    if made or any("lines" in rule.sources for rule in _rules(recipe)):
        # Cleaning compares answers with these; lines alone are not made anew because a card was edited.
        inputs["system"] = digest_of([setting.system, setting.names])
        config["language"] = setting.language
    every = (*parts.lines.values(), *parts.imported.values(), *parts.generated.values())
    rights = [one for part in every for one in part.rights] + [s.rights for s in mix if s.rights]
    kept = {digest_of(one): one for one in rights}
    return Unit(recipe.name, "curate", VERSION, persona.name, config, inputs, tuple(kept.values()))


def _rules(recipe: Recipe) -> list[Any]:
    clean = recipe.curate.clean
    return [rule for name in type(clean).model_fields if (rule := getattr(clean, name)) is not None]


def _curated(
    store: Store,
    recipe: Recipe,
    todo: Sequence[Unit],
    people: Mapping[str, Persona],
    sources: Sources,
    mix: Sequence[Source],
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each persona's counts when it is done; where there is much to read, personas side by side."""
    if sum(sources.of(unit.name).rows for unit in todo) <= APART_ROWS:
        for unit in todo:
            yield unit.name, _curate_one(store, recipe, unit, people[unit.name], sources, mix)
        return
    from cluster import runtime

    with runtime.running():
        import ray
        from ray.exceptions import RayError, RayTaskError

        task: Any = ray.remote(_curate_apart).options(num_cpus=1, max_retries=2)
        shared = ray.put((store, recipe, sources.overlay))
        room = max(1, int(ray.cluster_resources().get("CPU", 1)))
        left, running = list(todo), dict[Any, str]()
        failed: UnderstudyError | None = None
        while left or running:
            while left and len(running) < room:
                unit = left.pop(0)
                running[task.remote(shared, unit, people[unit.name], sources.of(unit.name))] = unit.name
            [ready], _ = ray.wait(list(running), num_returns=1)
            name = running.pop(ready)
            try:
                with runtime.own_errors():
                    counts = ray.get(ready)
            except UnderstudyError as error:
                failed = failed or error  # the others are finished and kept
            except RayTaskError:
                raise  # a fault of ours, with its trace
            except RayError as error:
                said = f"{name}: the process that curated it ended ({one_line(error)}); is there too little memory?"
                failed = failed or UnderstudyError(f"{said} What is finished is kept; run the same command again")
            else:
                yield name, counts
        if failed:
            raise failed


def _curate_apart(shared: Any, unit: Unit, persona: Persona, parts: Parts) -> Mapping[str, Any]:
    """What a Ray task runs; a mix entry's reader stays in its process, so the task opens its own."""
    store, recipe, overlay = shared
    sources = Sources(Tables(store, 0), overlay, {unit.name: parts})
    return _curate_one(store, recipe, unit, persona, sources, _opened_mix(recipe))


def _curate_one(
    store: Store, recipe: Recipe, unit: Unit, persona: Persona, sources: Sources, mix: Sequence[Source]
) -> Mapping[str, Any]:
    started = time.time()
    aside: Counter[str] = Counter()
    setting = setting_of(recipe, persona, sources.overlay)
    generals = [_general(source, unit.name, recipe.curate.seed, aside) for source in mix]
    curated = assemble(setting, sources.lines(unit.name), sources.offers(unit.name), generals, bands_of)
    if aside:
        curated.counts["mix_set_aside"] = dict(aside)
    if not curated.counts["turns"]["train"]:
        raise PersonaError(f"{unit.name}: nothing to learn is left of {_left_of(curated)}")
    tables = {"conversations": conversations_table(curated.conversations), "dropped": dropped_table(curated.dropped)}
    return unit.finish(store, write_tables(store, unit.key, tables), curated.counts, started).counts


def _general(source: Source, persona: str, seed: int, aside: Counter[str]) -> General:
    from jobs.mix import candidates

    aside.update(source.set_aside)
    return General(source.name, source.entry.share, lambda: candidates(source, persona, seed, aside))


def _left_of(curated: Curated) -> str:
    counts = curated.counts
    lines, offered = counts["lines"], sum(one.get("offered", 0) for one in counts["sources"].values())
    reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(counts["dropped"]).most_common(3) if n)
    of = " and ".join(
        text for text, n in ((f"{lines} lines", lines), (f"{offered} conversations", offered)) if n or not offered
    )
    return f"{of} ({reasons or 'all of them held out'}); see curate.min_chars and curate.clean"

"""The evaluate stage: held-out likelihood of every persona's lines under base, prompted base and adapters.

    runs/<recipe>/evaluate/<fingerprint>/evaluation.json   one persona: base, prompted base, own adapter, the verdict
    runs/<recipe>/evaluate/matrix.{json,txt,png}           the whole cast against all its adapters
    runs/<recipe>/evaluate/cells/<key>.json                each score, computed once

A persona's own output does not depend on the rest of the cast, so that one more persona spoils no verdict; the matrix
does, and is drawn anew from the cells whenever the whole cast is evaluated.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jobs.cast import chosen_cast
from jobs.matrix import BASE, PROMPTED, Cell, judge, measure, others_of, table, verdict_json
from jobs.scoring import Adapter, Ground, Row, Wanted, cells_key, read_cell, score_cells
from jobs.shares import shares_of
from jobs.stage import StageResult, Unit, fingerprints, finished_record, say, split_done, write_latest
from understudy.base import resolve
from understudy.errors import InputError
from understudy.persona import cast_entry_persona
from understudy.prompts import system_text
from understudy.recipe import CastEntry, EvaluateConfig, Recipe
from understudy.record import digest_of
from understudy.store import Store

VERSION = 1
PROGRESS_S = 5.0


def run_evaluate(
    recipe: Recipe, personas: tuple[str, ...] = (), force: bool = False, aloud: bool = True
) -> StageResult:
    """Evaluate the cast of `recipe`, or only `personas`; what is unchanged is skipped, and no score is computed twice.

    The matrix is drawn when the whole cast is evaluated, and said unless `aloud` is off. Raises InputError when a
    persona was not curated or trained.
    """
    began = time.time()
    folder = Path(recipe.folder or ".")
    store = Store.open(recipe.store, folder)
    everyone = chosen_cast(recipe, store, ())
    cast = chosen_cast(recipe, store, personas)
    ground = Ground(store, recipe.name, resolve(recipe.model, folder), recipe.model, recipe.train.max_length)
    rows = {entry.name: _row(store, recipe, entry) for entry in cast}
    adapters = {entry.name: _adapter(store, recipe, rows[entry.name]) for entry in cast}
    units = [_unit(recipe, ground, rows[name], adapters[name]) for name in rows]
    todo, done = split_done(store, units, force)
    wanted = {name: _wanted(row, adapters, recipe.evaluate, whole=not personas) for name, row in rows.items()}
    cells = [one for row in wanted.values() for one in row]
    if force:
        for one in cells:
            store.delete(one.key(ground))
        if not personas:
            store.delete(f"{_matrix_key(recipe.name)}.json")
    score_missing(ground, cells, recipe)
    for unit in todo:
        found = _evaluate_one(ground, recipe.evaluate, unit, wanted[unit.name])
        if personas or not found["conversations"]:  # else the matrix says it
            say("evaluate", found["text"])
    if done:
        say("evaluate", f"{len(done)} of {len(units)} personas up to date, skipped")
    write_latest(store, recipe.name, "evaluate", fingerprints(units), [e.name for e in everyone])
    details = _draw(ground, recipe.evaluate, wanted, aloud) if not personas else {}
    return StageResult.of("evaluate", store, recipe.name, units, todo, began, details)


def score_missing(ground: Ground, wanted: Sequence[Wanted], recipe: Recipe) -> int:
    """Compute the cells that are not kept yet; returns how many.

    They are shared out by row over `resources.evaluate.workers` Ray tasks (default one per GPU, else one in all).
    """
    kept = set(ground.store.keys(cells_key(ground)))
    missing = [one for one in wanted if one.key(ground) not in kept]
    if not missing:
        return 0
    say("evaluate", f"{len(missing)} of {len(wanted)} scores to compute")
    from cluster import runtime

    with runtime.running(), runtime.own_errors():
        import ray

        rows = list(dict.fromkeys(one.row.persona for one in missing))
        each = shares_of("evaluate", recipe.resources.evaluate, len(rows), ray.cluster_resources())
        options = {"num_cpus": each.cpus, "num_gpus": each.gpus, "max_retries": 2, "num_returns": "streaming"}
        task: Any = ray.remote(_score).options(**options)
        parts = [[w for w in missing if rows.index(w.row.persona) % each.workers == n] for n in range(each.workers)]
        _follow([task.remote(ground, part, each.device, each.threads) for part in parts], len(missing))
    return len(missing)


def _score(ground: Ground, wanted: Sequence[Wanted], device: str, threads: int) -> Iterator[str]:
    """What a Ray task runs; begun again after a crash it finds what it kept."""
    import torch

    torch.set_num_threads(threads)
    left = [one for one in wanted if not ground.store.exists(one.key(ground))]
    for one in score_cells(ground, left, device) if left else ():
        yield one.column


def _follow(running: list[Any], total: int) -> None:
    """Wait for all streams, saying how far they are."""
    import ray

    done, said = 0, time.monotonic()
    while running:
        ready: list[Any] = ray.wait(running, num_returns=1, fetch_local=False)[0]
        for stream in ready:
            try:
                ray.get(next(stream))
                done += 1
            except StopIteration:
                running.remove(stream)
        if time.monotonic() - said > PROGRESS_S:
            said = time.monotonic()
            say("evaluate", f"{done} of {total} scores")


def _row(store: Store, recipe: Recipe, entry: CastEntry) -> Row:
    key, record = finished_record(store, recipe.name, "curate", entry.name, "understudy curate")
    system = system_text(cast_entry_persona(entry, recipe))
    return Row(entry.name, f"{key}/conversations.parquet", record.outputs["conversations.parquet"], system)


def _adapter(store: Store, recipe: Recipe, row: Row) -> Adapter:
    """The persona's newest adapter; InputError when it learned other conversations than those it would be scored on."""
    persona = row.persona
    key, record = finished_record(store, recipe.name, "train", persona, "understudy train")
    if record.inputs["conversations"] != row.digest or record.config["system"] != row.system:
        raise InputError(f"{persona}: was curated or described anew since it was trained; run `understudy train` first")
    files = {name: record.outputs[name] for name in ("adapter_config.json", "adapter_model.safetensors")}
    return Adapter(persona, key, digest_of(files), tuple(record.rights))


def _unit(recipe: Recipe, ground: Ground, row: Row, adapter: Adapter) -> Unit:
    config = {
        "persona": row.persona,
        "bootstrap": recipe.evaluate.bootstrap,
        "seed": recipe.evaluate.seed,
    }
    inputs = {
        "conversations": row.digest,
        "system": digest_of(row.system),
        "ground": ground.digest,
        "adapter": adapter.digest,
    }
    return Unit(recipe.name, "evaluate", VERSION, row.persona, config, inputs, adapter.rights)


def _wanted(row: Row, adapters: dict[str, Adapter], config: EvaluateConfig, whole: bool) -> list[Wanted]:
    """The cells of one row: without the other adapters where not the whole cast is evaluated."""
    others = others_of(row.persona, list(adapters), config.others, config.seed) if whole else []
    own = [Wanted(row, BASE, None), Wanted(row, PROMPTED, None), Wanted(row, row.persona, adapters[row.persona])]
    return own + [Wanted(row, name, adapters[name]) for name in others]


def _evaluate_one(ground: Ground, config: EvaluateConfig, unit: Unit, wanted: Sequence[Wanted]) -> dict[str, Any]:
    started = time.time()
    cells = _cells(ground, [one for one in wanted if one.column in (BASE, PROMPTED, unit.name)])
    if cells[BASE].conversations:
        found = verdict_json(judge(unit.name, cells, config.bootstrap, config.seed))
        # Which adapter is best on these lines is the matrix's to say: here there is only one.
        del found["best"], found["own_best"]
    else:
        text = f"{unit.name}: nothing is held out, so nothing is known of its adapter; prompt-only is offered"
        found = {"persona": unit.name, "conversations": 0, "prompt_only": True, "text": text}
    ground.store.put_json(f"{unit.key}/evaluation.json", found)
    unit.finish(ground.store, {"evaluation.json": digest_of(found)}, found, started)
    return found


def _draw(ground: Ground, config: EvaluateConfig, wanted: dict[str, list[Wanted]], aloud: bool) -> dict[str, Any]:
    """Write the matrix of the whole cast as JSON, text and picture, unless it is there; returns where it is."""
    place = _matrix_key(ground.recipe)
    uris = {kind: ground.store.uri_of(f"{place}.{kind}") for kind in ("json", "txt", "png")}
    keys = {name: [one.key(ground) for one in row] for name, row in wanted.items()}
    digest = digest_of([VERSION, config.bootstrap, config.seed, keys])
    if ground.store.exists(f"{place}.json") and ground.store.get_json(f"{place}.json").get("fingerprint") == digest:
        return {"matrix": uris}
    cells = {name: _cells(ground, row) for name, row in wanted.items()}
    cells = {name: row for name, row in cells.items() if row[BASE].conversations}
    if not cells:
        return {}
    from jobs.picture import png

    matrix = measure(cells, config.bootstrap, config.seed)
    text = table(matrix)
    ground.store.put(f"{place}.txt", text.encode())
    ground.store.put(f"{place}.png", png(matrix))
    ground.store.put_json(f"{place}.json", {**matrix.as_json(), "fingerprint": digest})
    for line in filter(None, text.splitlines() if aloud else ()):
        say("evaluate", line)
    return {"matrix": uris}


def _matrix_key(recipe: str) -> str:
    return f"runs/{recipe}/evaluate/matrix"


def _cells(ground: Ground, wanted: Sequence[Wanted]) -> dict[str, Cell]:
    return {one.column: cell for one in wanted if (cell := read_cell(ground, one)) is not None}

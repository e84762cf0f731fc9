"""The evaluate stage over a small cast: every score once, a verdict each, and a matrix of all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from adapters import make_adapter
from bases import make_random_base
from test_conversation import play

from cluster import runtime
from jobs.evaluate import run_evaluate
from jobs.stage import Unit, read_latest, write_latest
from understudy.dataset import conversations_table, curate
from understudy.errors import InputError, UnderstudyError
from understudy.persona import cast_entry_persona
from understudy.prompts import system_text
from understudy.recipe import CastEntry, ModelConfig, Recipe
from understudy.record import file_digest, table_digest
from understudy.store import Store

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def ray():
    with runtime.running(num_cpus=2):
        yield


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("production")
    make_random_base(folder / "base")
    cast = tuple(CastEntry(name=name, system_prompt=f"You are {name}.") for name in ("adam", "eve"))
    return Recipe(name="jug", folder=str(folder), model=ModelConfig(base=str(folder / "base")), cast=cast)


def prepared(recipe: Recipe, seed: int = 0) -> Store:
    """Curated lines and adapters of random weights for the whole cast, as their stages leave them."""
    store = Store.open(recipe.store, Path(recipe.folder))
    assert isinstance(recipe.cast, tuple)
    for number, entry in enumerate(recipe.cast):
        scenes = [
            {**row, "persona": row["persona"] and entry.name}
            for n in range(4)
            for row in play(
                "# Act",
                *(
                    part
                    for i in range(8)
                    for part in (f"LICHT: Why {n} {i}?", f"ADAM: {entry.name} says {i} times {n}.")
                ),
                scene=f"w#{n}",
                first=100 * n,
            )
        ]
        curated = conversations_table(curate(scenes, entry.name, heldout=0.5).conversations)
        lines = Unit(recipe.name, "curate", 1, entry.name, {}, {"work": table_digest(curated)})
        store.write_table(f"{lines.key}/conversations.parquet", curated)
        lines.finish(store, {"conversations.parquet": table_digest(curated)}, {}, time.time())
        config = {"persona": entry.name, "seed": seed, "system": system_text(cast_entry_persona(entry, recipe))}
        inputs = {"conversations": table_digest(curated)}
        adapter = Unit(recipe.name, "train", 1, entry.name, config, inputs)
        folder = store.local_path(adapter.key)
        assert folder is not None
        make_adapter(folder, seed=100 * seed + number, size=0.2)
        files = {name: file_digest(folder / name) for name in ("adapter_config.json", "adapter_model.safetensors")}
        adapter.finish(store, files, {}, time.time())
        for unit in (lines, adapter):
            latest = {**read_latest(store, recipe.name, unit.stage), entry.name: unit.fingerprint}
            write_latest(store, recipe.name, unit.stage, latest)
    return store


def cells(store: Store) -> set[str]:
    return set(store.keys("runs/jug/evaluate/cells"))


def test_one_more_persona_computes_its_row_and_column_and_spoils_no_verdict(production, capfd):
    store = prepared(production)
    first = run_evaluate(production)
    assert first.made == ("adam", "eve")
    before = cells(store)
    assert len(before) == 2 * 4
    larger = production.model_copy(update={"cast": (*production.cast, CastEntry(name="marthe"))})
    prepared(larger)
    second = run_evaluate(larger)
    assert second.made == ("marthe",)
    assert {name: second.units[name] for name in first.units} == first.units
    assert len(cells(store) - before) == 5 + 2
    matrix = store.get_json("runs/jug/evaluate/matrix.json")
    assert all(verdict["conversations"] > 1 for verdict in matrix["verdicts"].values())
    assert matrix["rows"] == ["adam", "eve", "marthe"]
    assert all(len(row) == 5 for row in matrix["raw"].values())
    capfd.readouterr()
    assert run_evaluate(larger).skipped
    assert capfd.readouterr().err.splitlines() == ["evaluate  3 of 3 personas up to date, skipped"]


def test_a_random_adapter_does_not_beat_the_prompted_base_and_the_record_says_so(production):
    store = prepared(production)
    result = run_evaluate(production)
    for name in ("adam", "eve"):
        assert result.counts[name]["prompt_only"] is True
        assert "prompt-only is offered" in result.counts[name]["text"]
    text = store.get("runs/jug/evaluate/matrix.txt").decode()
    assert "does not beat the prompted base" in text
    assert store.get("runs/jug/evaluate/matrix.png").startswith(b"\x89PNG")


def test_a_persona_by_itself_is_scored_without_the_others_and_gets_the_same_verdict(production):
    store = prepared(production)
    whole = run_evaluate(production)
    store.delete_tree("runs/jug/evaluate")
    alone = run_evaluate(production, ("eve",))
    assert alone.counts == {"eve": whole.counts["eve"]}
    assert "own_best" not in alone.counts["eve"]
    assert len(cells(store)) == 3
    assert not store.exists("runs/jug/evaluate/matrix.json")


def test_force_scores_again_and_ends_with_the_same_verdicts(production):
    store = prepared(production)
    before = run_evaluate(production)
    matrix = store.get("runs/jug/evaluate/matrix.txt")
    [cell, *_] = cells(store)
    store.put_json(cell, {**store.get_json(cell), "nll": [0.0]})
    again = run_evaluate(production, force=True)
    assert again.made == ("adam", "eve")
    assert again.counts == before.counts
    assert store.get("runs/jug/evaluate/matrix.txt") == matrix


def test_a_damaged_adapter_is_one_line_and_keeps_what_was_scored(production):
    store = prepared(production, seed=7)
    latest = read_latest(store, "jug", "train")
    store.put(f"runs/jug/train/{latest['eve']}/adapter_model.safetensors", b"broken")
    with pytest.raises(UnderstudyError, match="not a readable adapter"):
        run_evaluate(production)
    assert cells(store)


def test_an_adapter_of_other_conversations_is_not_scored(production):
    store = prepared(production)
    latest = read_latest(store, "jug", "train")
    key = f"runs/jug/train/{latest['eve']}/record.json"
    record = store.get_json(key)
    store.put_json(key, {**record, "inputs": {"conversations": "others"}})
    with pytest.raises(InputError, match="eve: was curated or described anew since it was trained"):
        run_evaluate(production)


def test_what_was_not_trained_is_named_with_the_command_that_does_it(production):
    store = prepared(production)
    write_latest(store, "jug", "train", {})
    with pytest.raises(InputError, match="adam: train has not been run; run `understudy train` first"):
        run_evaluate(production)

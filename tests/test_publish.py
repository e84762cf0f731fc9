"""The publish stage: what is on stage is what the recipe says now, and nothing that was not evaluated."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from jobs.curate import VERSION as CURATE
from jobs.publish import run_publish
from jobs.shares import shares_of
from jobs.stage import Unit, write_latest
from tests.adapters import make_adapter
from tests.bases import make_random_base
from understudy.cards import CardFile, blank_image, write_card_file
from understudy.catalog import Catalog
from understudy.dataset import conversations_table
from understudy.errors import InputError, RecipeError
from understudy.recipe import Recipe, ResourceConfig, load
from understudy.record import digest_of, file_digest
from understudy.store import Store


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_random_base(tmp_path_factory.mktemp("base") / "small", hidden=64, layers=2)


def recipe_of(folder: Path, base: Path, **changes) -> Recipe:
    entry = {"name": "ada", "greeting": "One"}
    entry |= {key: value for key, value in changes.items() if key == "greeting"}
    publish = {key: value for key, value in changes.items() if key != "greeting"}
    data = {"name": "r", "cast": [entry], "model": {"base": str(base), "source": "path"}, "publish": publish}
    (folder / "r.yaml").write_text(json.dumps(data))
    return load(folder / "r.yaml")


def finish(store: Store, stage: str, inputs: dict[str, str], outputs: dict[str, str], counts: dict) -> Unit:
    unit = Unit("r", stage, 1, "ada", {}, inputs, ({"source": "a play", "licence": "", "holder": "", "note": ""},))
    unit.finish(store, outputs, counts, time.time())
    write_latest(store, "r", stage, {"ada": unit.fingerprint})
    return unit


def trained(store: Store, folder: Path, seed: int) -> str:
    """What train leaves: the digest that evaluate knows the adapter by."""
    made = make_adapter(folder / f"adapter-{seed}", seed)
    unit = Unit("r", "train", 1, "ada", {"seed": seed}, {}, ({"source": "a play"},))
    files = {name: file_digest(made / name) for name in ("adapter_config.json", "adapter_model.safetensors")}
    for name in files:
        store.put(f"{unit.key}/{name}", (made / name).read_bytes())
    unit.finish(store, files, {}, time.time())
    write_latest(store, "r", "train", {"ada": unit.fingerprint})
    return digest_of(files)


def evaluated(store: Store, adapter: str) -> None:
    counts = {"prompt_only": False, "base": 3.0, "prompted": 2.5, "own": 2.0}
    finish(store, "evaluate", {"adapter": adapter}, {"evaluation.json": "e"}, counts)


@pytest.fixture
def production(tmp_path, base):
    store = Store.open(tmp_path / "store")
    unit = finish(store, "curate", {}, {"conversations.parquet": "c"}, {"version": CURATE})
    store.write_table(f"{unit.key}/conversations.parquet", conversations_table([]))
    evaluated(store, trained(store, tmp_path, 1))
    return tmp_path, store


def greeting(store: Store) -> str:
    catalog = Catalog(store)
    return catalog.card(catalog.refresh().resolve("ada").card)["data"]["first_mes"]


def test_a_change_that_is_taken_back_is_published_again_and_a_rollback_by_hand_is_left(production, base):
    folder, store = production
    for text in ("One", "Two", "One"):
        assert run_publish(recipe_of(folder, base, greeting=text)).made == ("ada",)
        assert greeting(store) == text
    assert run_publish(recipe_of(folder, base, greeting="One")).skipped
    Catalog(store).rollback("ada")
    assert run_publish(recipe_of(folder, base, greeting="One")).skipped
    assert greeting(store) == "Two"


def test_an_adapter_that_was_not_evaluated_is_not_published(production, base):
    folder, store = production
    newer = trained(store, folder, 2)
    with pytest.raises(InputError, match="was not evaluated"):
        run_publish(recipe_of(folder, base))
    evaluated(store, newer)
    assert run_publish(recipe_of(folder, base)).made == ("ada",)


def test_a_candidate_gets_no_chat_until_it_is_given_a_weight(production, base):
    folder, store = production
    run_publish(recipe_of(folder, base, greeting="One"))
    run_publish(recipe_of(folder, base, greeting="Two", alias="candidate"))
    state = Catalog(store).refresh()
    one, two = state.resolve("ada", "current"), state.resolve("ada", "candidate")
    assert one.card != two.card
    assert state.resolve("ada", None, 0.0).card == one.card
    run_publish(recipe_of(folder, base, greeting="Two", alias="candidate", weight=50))
    state = Catalog(store).refresh()
    assert state.resolve("ada", None, 0.4).card == two.card
    assert state.resolve("ada", None, 0.6).card == one.card


@pytest.mark.parametrize(
    "damage", ["catalog/cards", "adapters"], ids=["a damaged card", "a manifest with another score in it"]
)
def test_force_repairs_what_verify_finds(production, base, damage):
    folder, store = production
    run_publish(recipe_of(folder, base))
    key = next(key for key in store.keys(damage) if key.endswith(".json") and "config" not in key)
    store.put(key, store.get(key).replace(b'"', b'"', 1).replace(b"2.0", b"1.0") + b" ")
    assert Catalog(store).verify()
    assert run_publish(recipe_of(folder, base), force=True).made == ("ada",)
    assert not Catalog(store).verify()


def test_the_rights_of_the_texts_reach_the_record_and_the_manifest(production, base):
    folder, store = production
    result = run_publish(recipe_of(folder, base))
    record = store.get_json(f"runs/r/publish/{result.units['ada']}/record.json")
    assert record["rights"] == [{"source": "a play"}]
    release = Catalog(store).refresh().resolve("ada")
    assert store.get_json(f"{release.key}/manifest.json")["rights"] == [{"source": "a play"}]


def test_the_picture_and_assets_of_a_card_are_published_with_it_and_again_when_they_change(production, base):
    folder, store = production
    card = {"spec": "chara_card_v3", "spec_version": "3.0", "data": {"name": "Ada", "group_only_greetings": []}}
    for colour, assets in (("a", {}), ("b", {"voice.mp3": b"la"})):
        write_card_file(folder / "ada.png", CardFile(card, assets, blank_image(colour)))
        recipe = recipe_of(folder, base)
        ada = recipe.cast[0].model_copy(update={"card": "ada.png"})
        assert run_publish(recipe.model_copy(update={"cast": (ada,)})).made == ("ada",)
        catalog = Catalog(store)
        kept = catalog.card_file(catalog.refresh().resolve("ada").card)
        assert (kept.image, kept.assets) == (blank_image(colour), assets)
        assert kept.card["data"]["first_mes"] == "One"


def test_resources_that_are_not_there_are_refused_and_the_rest_is_shared_out():
    machine = {"CPU": 4.0}
    assert shares_of("train", ResourceConfig(), 3, machine).threads == 4
    assert shares_of("train", ResourceConfig(cpus=0.5), 3, machine).threads == 1
    assert shares_of("train", ResourceConfig(workers=9, cpus=2), 9, machine).workers == 2
    two = {"CPU": 8.0, "GPU": 2.0}
    assert (
        shares_of("train", ResourceConfig(), 5, two).workers,
        shares_of("train", ResourceConfig(), 1, two).workers,
    ) == (2, 1)
    assert shares_of("train", ResourceConfig(workers=4, gpus=0.5), 9, two).workers == 4
    for asked in (ResourceConfig(gpus=1), ResourceConfig(cpus=64)):
        with pytest.raises(RecipeError, match=r"resources\.train\.(gpus|cpus): .* there; ask for less"):
            shares_of("train", asked, 3, machine)

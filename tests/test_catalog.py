"""The catalog: an append-only log that survives concurrent publishers, and in which any changed byte is found."""

from __future__ import annotations

import json
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.adapters import make_adapter
from understudy import catalog as catalog_module
from understudy.adapter import seal
from understudy.catalog import Catalog, card_key, log_key
from understudy.errors import CatalogError, StoreError
from understudy.release import Release, State, prompt_version
from understudy.store import Store

BASE = "sha256:" + "a" * 64


def release(persona: str, version: str = "v" + "1" * 16, card: str = "c" * 64) -> Release:
    return Release(persona=persona, version=version, base_name="builtin:tiny", base_identity=BASE, card=card)


def version(digit: int) -> str:
    return f"v{digit:016x}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def published(store: Store, tmp_path: Path, persona: str, seed: int) -> Release:
    folder = make_adapter(tmp_path / f"{persona}-{seed}", seed=seed)
    seal(folder, persona=persona, base_name="builtin:tiny", base_identity=BASE)
    catalog = Catalog(store)
    manifest, digest = catalog.put_adapter(folder)
    card = catalog.put_card({"spec": "chara_card_v2", "data": {"name": persona}})
    return release(persona, manifest.version, card).model_copy(update={"manifest": digest})


def test_a_whole_cast_is_one_entry_and_the_same_cast_again_is_none(store: Store):
    catalog = Catalog(store)
    entry = catalog.publish([release("adam"), release("licht")])
    assert entry is not None
    assert entry.n == 1
    assert catalog.publish([release("adam"), release("licht")]) is None
    assert Catalog(store).refresh().personas() == ["adam", "licht"]


def test_a_reader_follows_what_another_process_appends(store: Store):
    reader, writer = Catalog(store), Catalog(store)
    assert reader.refresh().n == 0
    writer.publish([release("adam")])
    assert reader.refresh().resolve("adam").version == version(0x1111111111111111)
    writer.publish([release("adam", version(2))])
    assert reader.refresh().resolve("adam").version == version(2)


def test_rollback_is_a_new_entry_and_twice_goes_back_twice(store: Store):
    catalog = Catalog(store)
    for digit in (1, 2, 3):
        catalog.publish([release("adam", version(digit))])
    assert catalog.rollback("adam").n == 4
    assert catalog.state.resolve("adam").version == version(2)
    catalog.rollback("adam")
    assert catalog.state.resolve("adam").version == version(1)
    with pytest.raises(CatalogError, match="no earlier release"):
        catalog.rollback("adam")
    assert [entry.action for entry in catalog.history()] == ["publish"] * 3 + ["rollback"] * 2


def test_selectors_name_aliases_versions_and_the_prompt_alone(store: Store):
    catalog = Catalog(store)
    catalog.publish([release("adam", version(1))])
    catalog.publish([release("adam", version(2))], alias="candidate", weight=25)
    state = catalog.state
    assert state.resolve("adam").version == version(1)
    assert state.resolve("adam", "candidate").version == version(2)
    assert state.resolve("adam", version(2)).version == version(2)
    assert state.resolve("adam", "prompt").version == prompt_version("c" * 64, BASE, {})
    draws = [state.resolve("adam", draw=i / 100).version for i in range(100)]
    assert draws.count(version(2)) == 25


def test_an_unknown_persona_names_the_nearest(store: Store):
    catalog = Catalog(store)
    catalog.publish([release("ruprecht")])
    with pytest.raises(CatalogError, match=r"did you mean ruprecht\?"):
        catalog.state.resolve("rupert")


def test_an_alias_may_not_look_like_a_version_or_take_the_reserved_name(store: Store):
    for alias in ("prompt", version(1), "Not A Name"):
        with pytest.raises(CatalogError, match="alias"):
            Catalog(store).publish([release("adam")], alias=alias)


def _publish_many(uri: str, persona: str, count: int) -> None:
    catalog = Catalog(Store(uri))
    for digit in range(1, count + 1):
        catalog.publish([release(persona, version(digit))])


def test_publishers_at_the_same_time_all_succeed(store: Store):
    names = ["adam", "eve", "licht", "ruprecht"]
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_publish_many, [store.uri] * 4, names, [12] * 4))
    state = Catalog(store).refresh()
    assert state.n == 48
    assert {name: state.resolve(name).version for name in names} == dict.fromkeys(names, version(12))
    assert all(len(state.versions[name]) == 12 for name in names)
    assert [entry.n for entry in Catalog(store).history()] == list(range(1, 49))


def test_a_snapshot_leads_to_the_same_state_as_the_whole_log(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(catalog_module, "SNAPSHOT_EVERY", 5)
    catalog = Catalog(store)
    for digit in range(1, 13):
        catalog.publish([release(f"p{digit % 3}", version(digit))])
    assert store.keys("catalog/snapshots") == ["catalog/snapshots/00000005.json", "catalog/snapshots/00000010.json"]
    started = Catalog(store)
    assert started.refresh() == catalog.state
    store.delete_tree("catalog/snapshots")
    assert Catalog(store).refresh() == catalog.state


def test_verify_finds_a_flipped_byte_wherever_it_is(store: Store, tmp_path: Path):
    catalog = Catalog(store)
    catalog.publish([published(store, tmp_path, "adam", 1), published(store, tmp_path, "licht", 2)])
    catalog.publish([published(store, tmp_path, "adam", 3)])
    assert Catalog(store).verify() == []
    rng = random.Random(0)
    for key in store.keys("adapters") + store.keys("catalog"):
        good = store.get(key)
        for _ in range(6):
            bad = bytearray(good)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            store.put(key, bytes(bad))
            faults = Catalog(store).verify()
            assert faults, f"{key} was changed and nobody saw"
            assert key in faults[0]
            assert "\n" not in faults[0]
        store.put(key, good)
    assert Catalog(store).verify() == []


def test_verify_finds_missing_files_and_missing_entries(store: Store, tmp_path: Path):
    catalog = Catalog(store)
    one = published(store, tmp_path, "adam", 1)
    for alias in ("current", "candidate", "old"):
        catalog.publish([one], alias=alias)
    for key in (f"{one.key}/adapter_model.safetensors", f"{one.key}/manifest.json", card_key(one.card), log_key(2)):
        good = store.get(key)
        store.delete(key)
        assert key in Catalog(store).verify()[0]
        store.put(key, good)


def test_a_changed_entry_stops_readers_with_one_line(store: Store):
    catalog = Catalog(store)
    catalog.publish([release("adam")])
    entry = json.loads(store.get(log_key(1)))
    entry["releases"][0]["version"] = version(9)
    store.put_json(log_key(1), entry)
    with pytest.raises(StoreError, match=r"00000001\.json: was changed after it was written"):
        Catalog(store).refresh()


def test_publishing_again_repairs_a_damaged_adapter(store: Store, tmp_path: Path):
    one = published(store, tmp_path, "adam", 1)
    store.put(f"{one.key}/adapter_model.safetensors", b"broken")
    again = published(store, tmp_path, "adam", 1)
    Catalog(store).publish([again])
    assert again == one
    assert Catalog(store).verify() == []


def test_an_empty_catalog_says_what_to_do(store: Store):
    assert Catalog(store).refresh() == State()
    with pytest.raises(CatalogError, match="empty"):
        Catalog(store).state.resolve("adam")

"""`catalog affected`: everything that goes back to a work is found, and nothing else."""

from __future__ import annotations

import json
import time

import pytest

from jobs.stage import Unit, write_latest
from understudy.affected import affected
from understudy.catalog import Catalog
from understudy.cli import run
from understudy.errors import InputError
from understudy.record import digest_of
from understudy.release import Release
from understudy.store import Store

RIGHTS = {"source": "a library", "licence": "CC-BY-4.0", "holder": "A. Author", "note": ""}
FILES = ("adapter_config.json", "adapter_model.safetensors")


class Production:
    """Records as the stages leave them, each output named by what went in."""

    def __init__(self, store: Store, recipe: str = "r"):
        self.store, self.recipe = store, recipe
        self.latest: dict[str, dict[str, str]] = {}

    def made(self, stage: str, name: str, inputs: dict[str, str], outputs: tuple[str, ...], **counts) -> Unit:
        unit = Unit(self.recipe, stage, 1, name, {"persona": name}, inputs, (RIGHTS,))
        unit.finish(self.store, {out: digest_of([stage, name, inputs, out]) for out in outputs}, counts, time.time())
        self.latest.setdefault(stage, {})[name] = unit.fingerprint
        write_latest(self.store, self.recipe, stage, self.latest[stage])
        return unit

    def outputs(self, unit: Unit) -> dict[str, str]:
        record = unit.record(self.store)
        assert record is not None
        return record.outputs

    def work(self, name: str, personas: tuple[str, ...], text: str = "1") -> dict[str, str]:
        views = {persona: digest_of([name, persona, text]) for persona in personas}
        self.made("extract", name, {"text": digest_of([name, text])}, ("lines.parquet",), views=views)
        return views

    def persona(self, name: str, inputs: dict[str, str]) -> Unit:
        """Curate to publish of one persona; returns what train left."""
        curated = self.made("curate", name, inputs, ("conversations.parquet", "dropped.parquet"))
        digest = self.outputs(curated)["conversations.parquet"]
        trained = self.made("train", name, {"conversations": digest, "base": "b"}, FILES)
        adapter = digest_of({file: self.outputs(trained)[file] for file in FILES})
        evaluated = self.made("evaluate", name, {"adapter": adapter}, ("evaluation.json",))
        self.made("publish", name, {"evaluation": self.outputs(evaluated)["evaluation.json"]}, ("release.json",))
        return trained


def release(persona: str, version: str, trained: Unit) -> Release:
    return Release(
        persona=persona,
        version=version,
        base_name="b",
        base_identity="b",
        card="0" * 64,
        record=f"{trained.key}/record.json",
    )


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "store")


def shown(store: Store, work: str) -> set[tuple[str, str, str]]:
    return {(one.recipe, one.stage, one.unit) for one in affected(store, work).outputs}


def test_everything_made_from_a_work_is_found_through_all_stages_and_nothing_else(store):
    made = Production(store)
    jug, moon = made.work("jug", ("adam", "eve")), made.work("moon", ("eve",))
    augmented = made.made("augment", "adam:facts", {"jug": jug["adam"]}, ("conversations.parquet",))
    generated = made.outputs(augmented)["conversations.parquet"]
    made.persona("adam", {"jug": jug["adam"], "augment:adam:facts": generated})
    made.persona("eve", {"jug": jug["eve"], "moon": moon["eve"]})
    whole = ("curate", "train", "evaluate", "publish")
    eve = {("r", stage, "eve") for stage in whole}
    adam = {("r", stage, "adam") for stage in whole} | {("r", "augment", "adam:facts")}
    assert shown(store, "jug") == {("r", "extract", "jug"), *adam, *eve}
    assert shown(store, "moon") == {("r", "extract", "moon"), *eve}


def test_what_only_the_generated_part_goes_back_to_is_found_too(store):
    made = Production(store)
    jug = made.work("jug", ("adam",))
    augmented = made.made("augment", "bo:restyle", {"jug": jug["adam"]}, ("conversations.parquet",))
    made.persona("bo", {"augment:bo:restyle": made.outputs(augmented)["conversations.parquet"]})
    assert ("r", "train", "bo") in shown(store, "jug")


def test_versions_on_stage_and_off_it_are_told_apart_and_those_of_other_works_left_out(store):
    made = Production(store)
    jug = made.work("jug", ("adam",))
    first = made.persona("adam", {"jug": jug["adam"]})
    again = made.work("jug", ("adam",), text="2")
    second = made.persona("adam", {"jug": again["adam"]})
    moon = made.work("moon", ("luna",))
    other = made.persona("luna", {"moon": moon["luna"]})
    catalog = Catalog(store)
    catalog.publish([release("adam", "v" + "1" * 16, first), release("luna", "v" + "3" * 16, other)])
    catalog.publish([release("adam", "v" + "2" * 16, second)])
    found = affected(store, "jug")
    assert [(one.version[:2], one.aliases) for one in found.versions] == [("v1", ()), ("v2", ("current",))]
    assert {one.current for one in found.outputs if one.stage == "train"} == {True, False}
    assert found.rights == (RIGHTS,)


def test_a_source_that_was_mixed_in_is_a_work_too_and_other_recipes_of_the_store_count(store):
    for recipe in ("r", "s"):
        made = Production(store, recipe)
        jug = made.work("jug", ("adam",), text=recipe)
        made.persona("adam", {"jug": jug["adam"], "mix:0:chatter.json": "d" * 64})
    assert {recipe for recipe, _, _ in shown(store, "chatter.json")} == {"r", "s"}
    assert ("r", "extract", "jug") not in shown(store, "chatter.json")
    assert ("s", "train", "adam") in shown(store, "jug")


def test_empty_tables_tie_nothing_together(store):
    made = Production(store)
    empty = f"0:{0:064x}"
    unit = Unit("r", "extract", 1, "jug", {}, {"text": "t"})
    unit.finish(store, {"lines.parquet": "1:a", "dropped.parquet": empty}, {"views": {}}, time.time())
    made.made("curate", "eve", {"other": empty}, ("conversations.parquet",))
    assert shown(store, "jug") == {("r", "extract", "jug")}


def test_an_unknown_work_is_refused_with_the_nearest_name(store):
    Production(store).work("the-broken-jug", ("adam",))
    with pytest.raises(InputError, match="did you mean the-broken-jug"):
        affected(store, "the-brokn-jug")


def test_the_command_prints_it_for_people_and_for_programs(store, capsys):
    made = Production(store)
    trained = made.persona("adam", {"jug": made.work("jug", ("adam",))["adam"]})
    Catalog(store).publish([release("adam", "v" + "1" * 16, trained)])
    assert run(["catalog", "affected", "--work", "jug", "--store", store.uri]) == 0
    text = capsys.readouterr().out
    assert "licence: CC-BY-4.0" in text
    assert "adam@v1111111111111111" in text
    assert run(["catalog", "affected", "--work", "jug", "--store", store.uri, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["versions"] == [{"persona": "adam", "version": "v" + "1" * 16, "aliases": ["current"]}]
    assert {one["stage"] for one in document["outputs"]} == {"extract", "curate", "train", "evaluate", "publish"}


def test_rights_that_a_recipe_corrects_reach_what_is_finished_already(store):
    before = Unit("r", "extract", 1, "jug", {}, {"text": "t"}, ({"source": "?"},))
    before.finish(store, {}, {}, time.time())
    after = Unit("r", "extract", 1, "jug", {}, {"text": "t"}, (RIGHTS,))
    assert after.fingerprint == before.fingerprint
    assert after.record(store).rights == [RIGHTS]
    assert affected(store, "jug").rights == (RIGHTS,)

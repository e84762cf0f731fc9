"""The augment stage against a scripted model server: the whole grid, edits, kills, judges, broken answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.attempt import unfinished
from jobs.augment import run_augment
from jobs.llm import BudgetReached
from jobs.stage import heard_by
from tests.endpoint import endpoint
from tests.greeter import fault_of, good, greet
from understudy.dataset import read_conversations
from understudy.errors import PersonaError, RecipeError, UnderstudyError
from understudy.recipe import Recipe, load
from understudy.record import read_record
from understudy.store import Store

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "greetings" / "recipe.yaml"
STYLES = [{"name": "plain", "length": [5, 300]}, {"name": "solemn", "length": [5, 300]}]
IN_FLIGHT = 8
STEP = {
    "kind": "matrix",
    "recipients": ["mother", "teacher", "neighbour"],
    "occasions": ["birthday", "new home"],
    "styles": STYLES,
}


def recipe_of(folder: Path, url: str, *steps: dict, **rest) -> Recipe:
    """A recipe without texts, as JSON in a folder of its own (YAML is a superset)."""
    written = {
        "name": "wishes",
        "cast": [{"name": "crane", "display_name": "Mr. Crane", "system_prompt": "You write letters for others."}],
        "endpoints": {"main": {"base_url": str(url), "model": "scripted"}},
        "augment": [
            {**STEP, "name": f"step-{n}", "task": f"a greeting, the {n}th kind", **s} for n, s in enumerate(steps)
        ],
        **rest,
    }
    (folder / "recipe.yaml").write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    return load(folder / "recipe.yaml")


def output(store: Store, result, unit: str):
    """(conversations, rows set aside, record) of a unit."""
    key = f"runs/{result.recipe}/augment/{result.units[unit]}"
    rows = read_conversations(store.read_table(f"{key}/conversations.parquet"))
    return rows, store.read_table(f"{key}/set_aside.parquet").to_pylist(), read_record(store, key)


def test_the_whole_grid_is_made_checked_and_counted_and_a_second_run_asks_nothing(tmp_path):
    with endpoint(greet) as url:
        recipe = load(EXAMPLE, [f"endpoints.main.base_url={url}", f"store={tmp_path}"])
        result = run_augment(recipe)
        asked = list(url.seen)
        again = run_augment(recipe)
        assert again.skipped
        assert len(url.seen) == len(asked) == 1032 + 180
    store = Store.open(tmp_path)
    units = {unit: output(store, result, unit) for unit in result.units}
    faults = Counter(fault_of(request["messages"]) for request in asked)
    found: Counter[str] = Counter()
    for unit, (rows, aside, record) in units.items():
        assert (
            record.counts["calls"] == record.counts["accepted"] + record.counts["set_aside"] == len(rows) + len(aside)
        )
        assert record.counts["ledger"]["requests"] == record.counts["calls"]
        assert record.counts["reasons"] == dict(Counter(row["reason"] for row in aside).most_common())
        assert all(row["raw"] and row["messages"][1]["content"] for row in aside), unit
        found.update(record.counts["reasons"])
    found.pop("repeated", None)
    # A style without a trigger cannot miss it: those answers are good ones.
    assert found.pop("style trigger missing") < faults.pop("style trigger missing")
    assert found == {name: count for name, count in faults.items() if name}
    rows, _, record = units["xihe:wishes"]
    assert {one.split for one in rows} == {"train"}
    assert {(p.method, p.prompt, p.model) for p in (one.provenance for one in rows)} == {
        ("matrix", "matrix/1", "Qwen/Qwen3-8B")
    }
    assert all(one.provenance.seed is not None for one in rows)
    assert len({one.conversation_id for one in rows}) == len(rows)
    assert {"suitability.json", "suitability.csv", "suitability.png"} < set(record.outputs)
    picture = store.get(f"runs/greetings/augment/{result.units['xihe:wishes']}/suitability.png")
    assert picture.startswith(b"\x89PNG")


def test_an_edited_prompt_of_three_repeats_only_its_calls_and_an_edited_style_only_its_own(tmp_path):
    with endpoint(good) as url:
        first = run_augment(recipe_of(tmp_path, url, {}, {}, {}))
        assert len(url.seen) == 36
        second = run_augment(recipe_of(tmp_path, url, {}, {"task": "a toast of two sentences"}, {}))
        assert second.made == ("crane:step-1",)
        new = [request["messages"][0]["content"] for request in url.seen[36:]]
        assert len(new) == 12
        assert all("a toast of two sentences" in text for text in new)
        styles = [STYLES[0], {**STYLES[1], "manner": "in full sentences"}]
        third = run_augment(recipe_of(tmp_path, url, {}, {"task": "a toast of two sentences"}, {"styles": styles}))
        assert third.made == ("crane:step-2",)
        assert len(url.seen) == 36 + 12 + 6, "the calls of the other style came out of the journal"
        assert third.counts["crane:step-2"]["cached"] == 6
        back = run_augment(recipe_of(tmp_path, url, {}, {}, {}))
        assert len(url.seen) == 36 + 12 + 6
        assert back.units == first.units


def test_an_edited_option_of_the_endpoint_asks_anew_and_another_address_does_not(tmp_path):
    with endpoint(good) as url, endpoint(good) as moved:
        ends = {"main": {"base_url": str(url), "model": "m"}}
        first = run_augment(recipe_of(tmp_path, url, {}, endpoints=ends))
        ends["main"]["base_url"] = str(moved)
        assert run_augment(recipe_of(tmp_path, url, {}, endpoints=ends)).skipped
        ends["main"]["options"] = {"top_k": 7}
        assert run_augment(recipe_of(tmp_path, url, {}, endpoints=ends)).made == ("crane:step-0",)
        assert [request["top_k"] for request in moved.seen] == [7] * 12
        ends["main"].pop("options")
        assert run_augment(recipe_of(tmp_path, url, {}, endpoints=ends)).units == first.units


def test_a_killed_run_goes_on_and_ends_where_an_undisturbed_one_ends(tmp_path):
    step = {"recipients": [f"friend {n}" for n in range(60)], "checks": {"repeated": False}}
    command = [sys.executable, "-m", "understudy.cli", "augment", "recipe.yaml", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    slow = {"base_url": "", "model": "scripted", "max_in_flight": IN_FLIGHT}

    def finished(folder: Path, url: str):
        recipe = recipe_of(folder, url, step, endpoints={"main": {**slow, "base_url": str(url)}})
        result = run_augment(recipe)
        record = output(Store.open(recipe.store, folder), result, "crane:step-0")[2]
        assert record.counts["calls"] == 240
        return record

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    with endpoint(good, latency_s=0.05) as url:
        recipe_of(killed, url, step, endpoints={"main": {**slow, "base_url": str(url)}})
        child = subprocess.Popen(command, cwd=killed, env=environment, stdout=subprocess.DEVNULL)
        while url.counts().get("answered", 0) < 60:
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        before = url.counts()["received"]
        assert before < 240
        record = finished(killed, url)
        lost = 2 * IN_FLIGHT  # in flight, or just come and on the way into the journal
        assert record.counts["cached"] >= before - lost
        assert url.counts()["received"] <= 240 + lost
    with endpoint(good) as url:
        assert finished(whole, url).outputs["conversations.parquet"] == record.outputs["conversations.parquet"]


def test_a_budget_stops_cleanly_and_the_same_command_with_more_goes_on(tmp_path):
    with endpoint(good) as url:
        with pytest.raises(BudgetReached):
            run_augment(recipe_of(tmp_path, url, {}, budget={"requests": 5}))
        assert len(url.seen) == 5
        result = run_augment(recipe_of(tmp_path, url, {}))
        assert len(url.seen) == 12
        counts = result.counts["crane:step-0"]
        assert counts["cached"] == 5
        assert 0 < counts["ledger"]["paid_before_tokens_in"] < counts["ledger"]["tokens_in"]


def test_a_judge_keeps_what_it_likes_and_what_has_no_verdict_is_not_accepted(tmp_path):
    def judged(messages, request):
        if "You judge training dialogue" not in messages[0]["content"]:
            return good(messages, request)
        if "mother" in messages[1]["content"]:
            return {"reason": "Flat.", "score": 2}
        return "I would rather not say." if "teacher" in messages[1]["content"] else {"reason": "Warm.", "score": 4}

    with endpoint(judged) as url:
        ends = {name: {"base_url": str(url), "model": name} for name in ("main", "critic")}
        recipe = recipe_of(tmp_path, url, {"judge": "critic"}, endpoints=ends)
        result = run_augment(recipe)
        rows, aside, record = output(Store.open(recipe.store, tmp_path), result, "crane:step-0")
        assert Counter(request["model"] for request in url.seen)["critic"] >= 12
        counts = run_augment(recipe, force=True).counts["crane:step-0"]
    assert {one.scene.split("/")[0] for one in rows} == {"neighbour"}
    assert {row["reason"] for row in aside} == {"judge"}
    assert {row["detail"] for row in aside if row["messages"][0]["content"].count("mother")} == {"2: Flat."}
    assert (counts["calls"], counts["cached"], counts["judged"]) == (12, 12, 12), "verdicts are no calls"
    assert (counts["ledger"]["calls"], counts["ledger"]["cached"]) == (24, 24)
    assert record.counts["judged"] == 12
    assert {one.provenance.model for one in rows} == {"main"}


def test_broken_answers_are_set_aside_with_what_was_said_and_the_rest_is_made(tmp_path):
    def rater(messages, request):
        if "Recipient: mother" in messages[1]["content"]:
            return "Five. All of them five."
        return {"ratings": [{"occasion": "birthday", "score": 5}, {"occasion": "new home", "score": 1}]}

    def script(messages, request):
        return (
            rater(messages, request)
            if "You judge which occasions" in messages[0]["content"]
            else good(messages, request)
        )

    with endpoint(script) as url:
        recipe = recipe_of(tmp_path, url, {"suitability": {"rate": True}})
        store = Store.open(recipe.store, tmp_path)
        result = run_augment(recipe)
        rows, aside, _ = output(store, result, "crane:step-0")
        calls = len(url.seen)
        table = store.get_json(f"runs/wishes/augment/{result.units['crane:step-0']}/suitability.json")
        assert [row["raw"] for row in aside] == ["Five. All of them five."]
        assert table["scores"] == [[None, None], [5, 1], [5, 1]]
        assert len(rows) == 2 * 4, "two pairs that were not rated, and two that suit, in two styles"
        corrected = {"rate": True, "table": {"teacher": {"new home": 5}, "mother": {"birthday": 1, "new home": 1}}}
        result = run_augment(recipe_of(tmp_path, url, {"suitability": corrected}))
        made = Counter(one.scene.rpartition("/")[0] for one in output(store, result, "crane:step-0")[0])
        assert made == {"teacher/birthday": 2, "teacher/new home": 2, "neighbour/birthday": 2}
        asked = [request["messages"] for request in url.seen[calls:]]
        assert len([m for m in asked if "You judge which" not in m[0]["content"]]) == 2, "only the new pair is written"


def test_a_step_whose_every_call_is_refused_fails_and_asks_again_when_the_server_is_mended(tmp_path):
    mended = []

    def script(messages, request):
        solemn = "solemn" in str(messages)
        return good(messages, request) if mended or not solemn else {"status": 400, "body": {"error": "wrong template"}}

    with endpoint(script) as url:
        recipe = recipe_of(tmp_path, url, {"styles": STYLES[:1]}, {"styles": STYLES[1:]})
        with pytest.raises(UnderstudyError, match=r"crane:step-1: none of \d+ calls was answered \(refused with 400"):
            run_augment(recipe)
        asked = len(url.seen)
        mended.append(True)
        result = run_augment(recipe)
        assert result.made == ("crane:step-1",), "what was finished stays finished"
        rows, aside, _ = output(Store.open(recipe.store, tmp_path), result, "crane:step-1")
        assert len(rows) == len(url.seen) - asked == 6
        assert not aside


def test_calls_that_the_server_did_not_answer_are_counted_and_asked_again_with_force_and_no_others(tmp_path):
    mended, said = [], []

    def script(messages, request):
        solemn = "solemn" in str(messages)
        return good(messages, request) if mended or not solemn else {"status": 400, "body": {"error": "no room"}}

    with endpoint(script) as url:
        recipe = recipe_of(tmp_path, url, {})
        with heard_by(lambda stage, text: said.append(text)):
            assert run_augment(recipe).counts["crane:step-0"]["unanswered"] == 6
        assert any("6 calls were not answered: --force asks those again" in text for text in said)
        mended.append(True)
        assert run_augment(recipe).skipped
        asked = len(url.seen)
        assert run_augment(recipe, force=True).counts["crane:step-0"]["unanswered"] == 0
        assert len(url.seen) == asked + 6


def test_a_step_for_one_persona_leaves_the_other_alone_and_a_stranger_is_refused(tmp_path):
    cast = [{"name": name, "system_prompt": "You write letters."} for name in ("crane", "heron")]
    with endpoint(good) as url:
        recipe = recipe_of(tmp_path, url, {"personas": ["heron"]}, {}, cast=cast)
        assert set(run_augment(recipe, ("crane",)).units) == {"crane:step-1"}
        assert set(run_augment(recipe).made) == {"heron:step-0", "heron:step-1"}
        with pytest.raises(
            RecipeError, match=r"augment\.step-0\.personas: stork is not in the cast; it has crane, heron"
        ):
            run_augment(recipe_of(tmp_path, url, {"personas": ["stork"]}, cast=cast))
        with pytest.raises(RecipeError, match=r"augment\.step-0\.judge: critic is not in endpoints"):
            run_augment(recipe_of(tmp_path, url, {"judge": "critic"}, cast=cast))


def test_a_stopped_run_is_told_of_until_each_persona_whose_it_was_is_done(tmp_path):
    cast = [{"name": name, "system_prompt": "You write letters."} for name in ("crane", "heron", "stork")]
    with endpoint(good) as url:
        recipe, store = recipe_of(tmp_path, url, {}, cast=cast), Store.open(tmp_path / "store")
        strict = recipe_of(tmp_path, url, {}, cast=cast, budget={"requests": 2})

        def told(recipe: Recipe, *personas: str) -> bool:
            with suppress(BudgetReached):
                run_augment(recipe, personas)
            return bool(unfinished(store, recipe.name, "augment"))

        assert told(strict, "crane")
        assert told(recipe, "heron")
        assert not told(recipe, "crane")
        assert told(strict)
        assert told(recipe, "crane", "heron")
        assert not told(recipe, "stork")
        with pytest.raises(RecipeError):
            run_augment(recipe_of(tmp_path, url, {"judge": "critic"}, cast=cast))
        with pytest.raises(PersonaError):
            run_augment(recipe, ("owl",))
        assert not unfinished(store, recipe.name, "augment")

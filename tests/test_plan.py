"""A plan beside the run that follows it: what is skipped, rows, calls, tokens and money; and it writes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.written_corpus import write_corpus, write_recipe
from cluster import runtime
from jobs.augment import run_augment
from jobs.curate import run_curate
from jobs.extract import run_extract
from jobs.extract_work import extract_work
from jobs.llm import BudgetReached
from jobs.plan import plan_run
from jobs.rehearsal import rehearsed
from jobs.stage import StageResult
from tests.endpoint import endpoint
from tests.greeter import good, greet
from tests.stories import CAST as NAMES
from tests.stories import STORY
from understudy.cli import run
from understudy.recipe import Recipe, load
from understudy.reporting.plan import Stage
from understudy.store import Store

ROOT = Path(__file__).resolve().parent.parent
PLAY = (ROOT / "examples" / "demo" / "the-lamp-on-the-quay.txt").read_text("utf-8")
CAST = [{"name": name.lower(), "aliases": [name]} for name in ("BRAM", "WISP")]
STEP = {
    "name": "wishes",
    "kind": "matrix",
    "personas": ["bram"],
    "task": "a greeting",
    "recipients": ["mother", "teacher", "neighbour"],
    "occasions": ["birthday", "new home", "farewell"],
    "styles": [{"name": "plain", "length": [5, 200]}, {"name": "solemn", "length": [5, 200]}],
}
CALLS = 18
PRICES = {"input": 10, "output": 30}


def production(folder: Path, url: str, **more: Any) -> Recipe:
    """Two halves of a play, as two works, and a step that a model writes."""
    folder.mkdir(exist_ok=True)
    half = PLAY.index("ACT III")
    for name, text in (("first.txt", PLAY[:half]), ("second.txt", PLAY[half:])):
        (folder / name).write_text(text, "utf-8")
    written = {
        "name": "quay",
        "corpus": [{"path": "first.txt"}, {"path": "second.txt"}],
        "cast": CAST,
        "endpoints": {"main": {"base_url": url, "model": "m", "prices": PRICES}},
        "augment": [STEP],
        **more,
    }
    (folder / "recipe.yaml").write_text(json.dumps(written), "utf-8")
    return load(folder / "recipe.yaml")


def planned(recipe: Recipe, **given: Any) -> dict[str, Stage]:
    return {stage.stage: stage for stage in plan_run(recipe, **{"try_steps": False, **given}).stages}


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def near(found: float, wanted: float) -> bool:
    return abs(found - wanted) <= 0.3 * wanted


@pytest.fixture(scope="module")
def ray_cluster():
    """One small cluster for this module, in the end."""
    yield
    runtime.stop()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, ray_cluster):
    """(folder, plan before, results) of one run up to curate."""
    folder = tmp_path_factory.mktemp("plan") / "quay"
    with endpoint(greet) as url:
        recipe = production(folder, str(url))
        before = planned(recipe)
        assert not (folder / "store").exists(), "a plan makes no store"
        assert not url.seen, "a plan asks nothing"
        runtime.start(num_cpus=2)
        results = [run_extract(recipe), run_augment(recipe), run_curate(recipe)]
    return folder, str(url), before, {result.stage: result for result in results}


@pytest.mark.cluster
def test_rows_calls_tokens_and_money_are_those_of_the_run_that_follows(made):
    _, _, before, results = made
    result: StageResult = results["augment"]
    counts = result.counts["bram:wishes"]
    assert before["extract"].rows == results["extract"].counts["lines"]
    assert before["augment"].calls == counts["calls"] == CALLS
    ledger = counts["ledger"]
    assert near(before["augment"].rows, counts["accepted"])
    assert near(before["augment"].tokens_in + before["augment"].tokens_out, ledger["tokens_in"] + ledger["tokens_out"])
    assert near(before["augment"].money, ledger["money"])
    curated = [sum(one["conversations"].values()) for one in results["curate"].counts.values()]
    assert near(before["curate"].rows, sum(curated))


@pytest.mark.cluster
def test_what_was_run_is_skipped_with_the_reason_and_nothing_is_written(made):
    folder, url, _, _ = made
    recipe = production(folder, url)
    before = contents(folder / "store")
    after = planned(recipe)
    skipped = {name: (stage.skipped, stage.todo, stage.why) for name, stage in after.items()}
    assert skipped["extract"] == (2, 0, "same bytes, same settings")
    assert skipped["augment"] == (1, 0, "same inputs, same settings")
    assert skipped["curate"] == (2, 0, "same inputs, same settings")
    assert (after["train"].skipped, after["train"].todo) == (0, 2)
    assert after["train"].rows > 0, "known by the records of curate"
    assert after["augment"].calls == after["curate"].seconds == 0
    corrected = production(folder, url, corpus=[{"path": "*.txt", "rights": {"licence": "MIT"}}])
    assert planned(corrected)["extract"].todo == 0
    assert contents(folder / "store") == before, "not even the corrected licence"


@pytest.mark.cluster
def test_an_edited_alias_touches_only_its_works_and_personas(made):
    folder, url, _, _ = made
    cut = PLAY.index("ACT III")
    stranger = {"name": "nell", "aliases": ["NELL"], "works": ["second"]}
    assert "NELL:" in PLAY[cut:]
    after = planned(production(folder, url, cast=[*CAST, stranger]))
    assert (after["extract"].skipped, after["extract"].todo) == (1, 1)
    assert (after["augment"].skipped, after["augment"].todo) == (1, 0)
    assert near(after["extract"].rows, PLAY[cut:].count("\n") - PLAY[cut:].count("\n\n"))


@pytest.mark.cluster
def test_a_forced_plan_counts_everything_but_calls_that_the_journal_holds(made):
    folder, url, _, _ = made
    after = planned(production(folder, url), force=True)
    assert [(stage.skipped, stage.todo > 0) for stage in after.values()] == [(0, True)] * len(after)
    assert (after["augment"].calls, after["augment"].cached, after["augment"].money) == (0, CALLS, 0)


@pytest.mark.cluster
def test_what_a_model_is_asked_about_open_lines_is_counted_and_after_an_edit_what_is_new(tmp_path, ray_cluster):
    def silent(messages, request):
        return {"speakers": []}

    def recipe_of(threshold: float) -> Recipe:
        llm = {"threshold": threshold, "window_chars": 400}
        written = {"name": "shore", "corpus": [{"path": "shore.txt"}], "cast": NAMES, "extract": {"llm": llm}}
        endpoints = {"main": {"base_url": url, "model": "m", "prices": PRICES}}
        (tmp_path / "recipe.yaml").write_text(json.dumps({**written, "endpoints": endpoints}), "utf-8")
        return load(tmp_path / "recipe.yaml")

    (tmp_path / "shore.txt").write_text(STORY, "utf-8")
    runtime.start(num_cpus=2)
    with endpoint(silent) as served:
        url = str(served)
        for threshold in (0.6, 0.82):
            before = planned(recipe_of(threshold))["extract"]
            counts = run_extract(recipe_of(threshold)).counts
            assert before.todo == 1
            assert before.calls + before.cached == counts["calls"] > 0
            assert before.cached == counts.get("cached", 0)
            assert before.money > 0


def test_an_interrupted_run_leaves_the_rest_to_pay_at_the_price_of_what_was_answered(tmp_path):
    """The server counts four times the tokens that letters tell: the journal puts the plan right."""

    def dear(messages, request):
        text = good(messages, request)
        asked = sum(len(message["content"]) for message in messages)
        usage = {"prompt_tokens": asked, "completion_tokens": len(text), "total_tokens": asked + len(text)}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return {"status": 200, "body": {**answer, "usage": usage}}

    with endpoint(dear) as url:
        recipe = production(tmp_path, str(url), corpus=[], budget={"requests": 6})
        first = planned(recipe)["augment"]
        assert any("budget.requests=6" in note for note in first.notes)
        with pytest.raises(BudgetReached):
            run_augment(recipe)
        then = planned(recipe)["augment"]
        assert (then.calls, then.cached) == (CALLS - 6, 6)
        free = production(tmp_path, str(url), corpus=[])
        ledger = run_augment(free).counts["bram:wishes"]["ledger"]
    assert ledger["requests"] == then.calls
    assert near(then.tokens_in, ledger["tokens_in"])
    assert near(then.tokens_out, ledger["tokens_out"])
    assert near(then.money, ledger["money"])
    assert not near(first.tokens_in * then.calls / CALLS, ledger["tokens_in"])


def test_a_sample_of_a_larger_corpus_tells_its_lines_and_its_bytes(tmp_path):
    (tmp_path / "texts").mkdir()
    write_corpus(tmp_path / "texts", 4_000_000, seed=3)
    recipe = load(write_recipe(tmp_path, None))
    with rehearsed(recipe, Store.open(tmp_path / "none")) as play:
        assert play.bytes_read < 0.5 * play.bytes_todo
        expected = dict(play.expected)
        tasks = [*play.todo]
        shutil.rmtree(play.store.uri)
        rows = [extract_work(task) for task in tasks]
        made = sum(one.size_bytes for one in play.store.stored().values())
    assert near(expected["lines"], sum(row["counts"]["lines"] for row in rows))
    assert near(expected["bytes"], made)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"corpus": [{"path": "lost.txt"}]}, "lost.txt"),
        ({"corpus": [{"path": "empty.txt"}]}, "empty.txt"),
        ({"corpus": [], "augment": []}, "corpus"),
        ({"augment": [{**STEP, "endpoint": "other"}]}, "other"),
        ({"cast": []}, "cast"),
    ],
)
def test_a_plan_refuses_a_wrong_recipe_in_one_line_as_the_run_does(tmp_path, capsys, change, said):
    production(tmp_path, "http://127.0.0.1:9/v1", **change)
    (tmp_path / "empty.txt").touch()
    assert run(["run", "--plan", str(tmp_path / "recipe.yaml")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "store").exists()


def test_the_command_prints_a_row_a_stage_and_one_document_with_json(tmp_path, capsys):
    production(tmp_path, "http://127.0.0.1:9/v1")
    assert run(["run", "--plan", str(tmp_path / "recipe.yaml")]) == 0
    rows = capsys.readouterr().out.splitlines()
    stages = ["extract", "augment", "curate", "train", "evaluate", "publish"]
    assert [row.split()[0] for row in rows[:8]] == ["stage", *stages, "total"]
    assert run(["run", "--plan", str(tmp_path / "recipe.yaml"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["total"]["calls"] == CALLS
    assert [stage["stage"] for stage in document["stages"]] == stages


@pytest.mark.cluster
def test_calls_made_for_a_plan_tell_their_time_and_are_not_made_again(tmp_path):
    with endpoint(greet, latency_s=0.4) as url:
        recipe = production(tmp_path / "quay", str(url))
        stage = planned(recipe, ask=4)["augment"]
        assert len(url.seen) == 4
        assert "4 calls made now" in stage.seconds_by
        # All that is left fits beside each other; without the calls 2 s would be assumed.
        assert 0.4 <= stage.seconds < 1.5
        assert (stage.calls, stage.cached) == (CALLS - 4, 4)
        runtime.start(num_cpus=2)
        run_extract(recipe)
        [result] = run_augment(recipe).counts.values()
        assert len(url.seen) == CALLS
        assert result["ledger"]["cached"] == 4


def test_what_training_takes_is_tried_where_no_record_tells(tmp_path):
    recipe = production(tmp_path / "quay", "http://127.0.0.1:9/v1", augment=[])
    guessed, tried = (planned(recipe, try_steps=steps) for steps in (False, True))
    assert guessed["train"].seconds_by.startswith("assumed")
    assert tried["train"].seconds_by.startswith("by a few steps tried")
    assert tried["train"].rows == guessed["train"].rows
    assert 0 < tried["evaluate"].seconds < 60


def test_a_budget_ends_the_calls_made_for_a_plan_and_not_the_plan(tmp_path):
    with endpoint(greet) as url:
        recipe = production(tmp_path / "quay", str(url), budget={"requests": 3})
        stage = planned(recipe, ask=8)["augment"]
        assert len(url.seen) == 3
        assert (stage.calls, stage.cached) == (CALLS - 3, 3)

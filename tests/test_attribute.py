"""A model behind the rules, end to end: texts, real HTTP, and the lines that later stages read."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import jobs.attribute
from jobs.curate import run_curate
from jobs.extract import run_extract
from jobs.llm import BudgetReached
from jobs.plan import plan_run
from jobs.stage import read_latest
from tests.endpoint import endpoint
from tests.stories import CAST, NAMES, SILENT, STORY, asked, speaker_of
from understudy.attributing import PROMPT_VERSION
from understudy.cli import run
from understudy.lines import Line
from understudy.overlay import add, on_line, read
from understudy.prose import parse
from understudy.recipe import Recipe, load
from understudy.record import Record, output_key, read_record
from understudy.store import Store

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]

RULES: dict[str, str] = {line.text: line.speaker for line in parse(STORY, "w", NAMES) if line.speaker}
LLM = {"threshold": 0.82, "window_chars": 400}


def good(messages, request):
    """A model that knows the story."""
    prompt = messages[-1]["content"]
    if "lines" in request["response_format"]["json_schema"]["schema"]["properties"]:
        said = [("Anna", "I am not afraid of a little weather"), ("Bertram", "take the other oar, that one is split!")]
        return {"lines": [{"speaker": who, "text": words} for who, words in said if words[:16] in prompt]}
    return {"speakers": [{"span": n, "name": speaker_of(words, RULES)} for n, words in asked(prompt).items()]}


def silent_model(messages, request):
    """A model that finds nothing."""
    return {"lines": []} if "lines" in json.dumps(request["response_format"]) else {"speakers": []}


def production(folder: Path, url: str, llm: dict[str, Any] | None, works: dict[str, str], **more: Any) -> Recipe:
    """A recipe of these texts, written and read again."""
    folder.mkdir(exist_ok=True)
    for name, text in works.items():
        (folder / name).write_bytes(text.encode())
    recipe = {
        "name": "shore",
        "corpus": [{"path": name} for name in works],
        "cast": CAST,
        "endpoints": {"main": {"base_url": url, "model": "m"}},
        "extract": {"llm": llm},
        **more,
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return load(folder / "recipe.yaml")


def parts(count: int) -> dict[str, str]:
    """Works that share no question."""
    words = ("once", "twice", "again", "softly", "at last", "gravely", "in haste", "slowly")
    return {
        f"part-{n}.txt": STORY.replace('."', f', {words[n]}."').replace('?"', f', {words[n]}?"') for n in range(count)
    }


def store_of(recipe: Recipe) -> Store:
    return Store.open(recipe.store, Path(recipe.folder))


def made(recipe: Recipe, work: str) -> tuple[Record, list[dict[str, Any]]]:
    """Record and lines of a work as later stages get them."""
    store = store_of(recipe)
    key = output_key(recipe.name, "extract", read_latest(store, recipe.name, "extract")[work])
    record = read_record(store, key)
    assert record is not None
    return record, store.read_table(f"{key}/lines.parquet").to_pylist()


def refused(recipe: Recipe, work: str) -> list[dict[str, Any]]:
    record, _ = made(recipe, work)
    key = output_key(recipe.name, "extract", record.fingerprint)
    return store_of(recipe).read_table(f"{key}/refused.parquet").to_pylist()


def test_a_model_names_who_speaks_and_nothing_else_changes_and_a_second_run_asks_nobody(tmp_path, monkeypatch):
    with endpoint(good) as url:
        recipe = production(tmp_path, url, None, {"shore.txt": STORY})
        run_extract(recipe)
        _, before = made(recipe, "shore")
        monkeypatch.setattr("jobs.extract_work.read_works", None)  # whoever parses again now fails
        recipe = production(tmp_path, url, LLM, {"shore.txt": STORY})
        result = run_extract(recipe)
        assert result.made == ("shore",)
        record, after = made(recipe, "shore")
        count = url.counts()["received"]
        assert run_extract(recipe).skipped
        assert plan_run(recipe, try_steps=False).stages[0].todo == 0
        assert len(run_extract(recipe, force=False).made) == 0
        assert url.counts()["received"] == count == record.counts["llm"]["calls"]
        run_extract(production(tmp_path, url, None, {"shore.txt": STORY}))
        assert made(recipe, "shore")[1] == before
    changed = {a["text"]: a for a, b in zip(after, before, strict=True) if a != b}
    assert {text: row["speaker"] for text, row in changed.items()} == {
        "We should tell him.": "Bertram",
        "You tell him.": "Anna",
        "Is there tea?": "Mrs. Vane",
        "It is not for you.": "Anna",
        "There was some this morning.": "Anna",
    }
    fixed = ("speaker", "persona", "method", "confidence")
    assert [{k: v for k, v in row.items() if k not in fixed} for row in after] == [
        {k: v for k, v in row.items() if k not in fixed} for row in before
    ]
    assert {row["persona"] for row in changed.values()} == {"anna", "bertram", "vane"}
    assert {row["method"] for row in changed.values()} == {"model"}
    assert result.counts["asked"] == result.counts["attributed"] == 5
    own = record.counts["llm"]
    assert (own["agreed"], own["changed"], own["refused"], own["models"]) == (2, 1, {}, {"m": count})
    assert record.config["llm"]["prompts"] == [PROMPT_VERSION]
    assert record.config["llm"]["models"] == ["m"]
    assert record.counts["ledger"]["tokens_in"] > 0
    assert record.counts["open"] == 0


def test_later_stages_read_what_the_model_said(tmp_path):
    with endpoint(good) as url:
        recipe = production(tmp_path, url, LLM, {"shore.txt": STORY})
        run_extract(recipe)
        run_curate(recipe)
        plan = plan_run(recipe, try_steps=False)
    store = store_of(recipe)
    fp = read_latest(store, "shore", "curate")["vane"]
    [row] = store.read_table(f"runs/shore/curate/{fp}/conversations.parquet").to_pylist()
    assert row["messages"][-1]["content"] == "Is there tea?"
    assert {stage.stage: stage.todo for stage in plan.stages[:2]} == {"extract": 0, "curate": 0}


def test_another_threshold_asks_only_what_it_changed_and_parses_nothing(tmp_path, monkeypatch):
    with endpoint(good) as url:
        works = {"shore.txt": STORY, "again.txt": STORY.replace("Bertram", "Gustav")}
        run_extract(production(tmp_path, url, LLM, works))
        first = [request["messages"] for request in url.seen]
        monkeypatch.setattr("jobs.extract_work.read_works", None)
        result = run_extract(production(tmp_path, url, {**LLM, "threshold": 0.86}, works))
        new = [request["messages"] for request in url.seen[len(first) :]]
    assert result.made
    assert 0 < len(new) < len(first)
    assert all(messages not in first for messages in new)
    first_asked = [asked(messages[1]["content"]).values() for messages in new]
    told = ("Then read it to me", "That was this morning")  # 0.84 and 0.83 by the rules
    assert all(any(words.startswith(told) for words in numbers) for numbers in first_asked)


def test_what_is_not_known_is_refused_counted_and_kept_aside(tmp_path):
    def bad(messages, request):
        speakers = [{"span": n, "name": name} for n, name in enumerate(("Sherlock", "unknown", "Anna", "Anna"), 1)]
        text = messages[1]["content"]  # a corrective retry says more behind it
        return "I cannot say." if "The bell rang" in text else {"speakers": speakers}

    with endpoint(bad) as url:
        recipe = production(tmp_path, url, LLM, {"shore.txt": STORY})
        run_extract(recipe)
    record, lines = made(recipe, "shore")
    rows = refused(recipe, "shore")
    counts = record.counts["llm"]["refused"]
    assert counts == Counter(row["reason"] for row in rows)
    assert set(counts) == {"unknown name", "unknown", "unknown span number", "malformed answer"}
    assert counts["malformed answer"] == 2
    assert next(row["said"] for row in rows if row["reason"] == "malformed answer").endswith("I cannot say.")
    assert {row["line_id"] for row in rows if row["reason"] == "unknown name"} <= {row["line_id"] for row in lines}
    assert {row["speaker"] for row in lines} == {None, "Anna", "Bertram"}
    assert record.counts["open"] == 2


def test_a_text_without_marks_is_read_whole_and_only_its_own_words_become_lines(tmp_path):
    def inventive(messages, request):
        value = good(messages, request)
        made_up = {"speaker": "Anna", "text": "I shall never come back."}
        return {"lines": [*value["lines"], made_up]} if "lines" in value else value

    with endpoint(inventive) as url:
        works = {"rain.txt": SILENT, "shore.txt": STORY}
        recipe = production(tmp_path, url, LLM, works)
        assert set(run_extract(recipe).details["set_aside"]) == {"rain"}
        recipe = production(tmp_path, url, {**LLM, "read": "chunks"}, works)
        result = run_extract(recipe)
        assert not result.details
        count = url.counts()["received"]
        assert run_extract(recipe).skipped
        assert plan_run(recipe, try_steps=False).stages[0].todo == 0
        assert url.counts()["received"] == count
    record, lines = made(recipe, "rain")
    spoken = [row for row in lines if row["kind"] == "speech"]
    assert [(row["speaker"], row["persona"], SILENT[row["start"] : row["end"]]) for row in spoken] == [
        ("Anna", "anna", "I am not afraid of a little weather"),
        ("Bertram", "bertram", "take the other oar, that one\nis split!"),
    ]
    assert {row["said"] for row in refused(recipe, "rain")} == {"Anna: I shall never come back."}
    assert record.counts["llm"]["found"] == record.counts["speeches"] == 2
    assert [row["line_id"] for row in lines] == [f"rain:{n}" for n in range(len(lines))]


def test_a_text_in_which_the_model_finds_nobody_either_is_set_aside(tmp_path):
    with endpoint(silent_model) as url:
        llm = {**LLM, "read": "chunks"}
        result = run_extract(production(tmp_path, url, llm, {"rain.txt": SILENT, "shore.txt": STORY}))
    assert "by the rules or by the model" in result.details["set_aside"]["rain"]
    assert set(result.units) == {"shore"}


def test_decisions_of_a_review_hold_behind_the_model(tmp_path):
    with endpoint(good) as url:
        recipe = production(tmp_path, url, None, {"shore.txt": STORY})
        run_extract(recipe)
        _, rows = made(recipe, "shore")
        at = next(n for n, row in enumerate(rows) if row["text"] == "You tell him.")
        last = next(n for n, row in enumerate(rows) if row["text"] == "Whose?")
        decided = [on_line(rows, at, "fix", persona="vane", speaker="Mrs. Vane"), on_line(rows, last, "drop")]
        add(store_of(recipe), recipe.name, decided)
        for llm in (LLM, {**LLM, "read": "chunks"}):
            recipe = production(tmp_path, url, llm, {"shore.txt": STORY})
            run_extract(recipe)
            after, stale = read(store_of(recipe), recipe.name).apply_to_lines(made(recipe, "shore")[1])
            assert not stale
            assert [row["persona"] for row in after if row["text"] == "You tell him."] == ["vane"]
            assert not [row for row in after if row["text"] == "Whose?"]


def test_rows_of_a_table_are_asked_apart_and_offsets_count_in_the_text_beside(tmp_path):
    rows = [STORY, STORY.replace("Nobody moved", "Nobody stirred"), SILENT]
    with endpoint(good) as url:
        table = "".join(json.dumps({"text": row}) + "\n" for row in rows)
        recipe = production(tmp_path, url, {**LLM, "read": "chunks"}, {"shelf.jsonl": table})
        run_extract(recipe)
        texts = [request["messages"][1]["content"] for request in url.seen]
    seen = Counter(mark for text in texts for mark in ("Nobody moved", "Nobody stirred", "stop until") if mark in text)
    assert seen == {"Nobody moved": 1, "Nobody stirred": 1, "stop until": 1}
    assert sum(seen.values()) == len({text for text in texts if "Nobody" in text})
    record, lines = made(recipe, "shelf")
    key = output_key(recipe.name, "extract", record.fingerprint)
    text = store_of(recipe).get(f"{key}/text.txt").decode()
    named = [row for row in lines if row["method"] == "model"]
    assert {row["work"] for row in named} == {"shelf.1", "shelf.2", "shelf.3"}
    assert all(text[row["start"] : row["end"]].split()[:2] == row["text"].split()[:2] for row in named)
    for work in ("shelf.1", "shelf.2", "shelf.3"):
        own = [row["index"] for row in lines if row["work"] == work]
        assert own == list(range(len(own)))


def test_out_of_budget_is_a_clean_stop_and_the_next_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.attribute, "AT_ONCE", 1)
    works = parts(6)
    with endpoint(good) as url:
        recipe = production(tmp_path, url, LLM, works, budget={"requests": 7})
        with pytest.raises(BudgetReached, match="run the same command again"):
            run_extract(recipe)
        assert url.counts()["received"] == 7
        done = [name for name in store_of(recipe).keys("runs/shore/extract") if name.endswith("record.json")]
        assert 6 < len(done) < 12  # six of the rules, some behind the model
        jobs.llm._METERS.clear()  # as a new process counts
        recipe = production(tmp_path, url, LLM, works)
        result = run_extract(recipe)
        total = sum(made(recipe, name[:-4])[0].counts["llm"]["calls"] for name in works)
        assert url.counts()["received"] == total
        assert len(result.made) == 12 - len(done)


def test_a_killed_run_goes_on_without_asking_twice(tmp_path):
    works = parts(8)
    with endpoint(good, latency_s=0.1) as url:
        run_extract(production(tmp_path, url, None, works))
        recipe = production(tmp_path, f"{url}", LLM, works)
        narrow = recipe.model_dump(mode="json")
        narrow["endpoints"]["main"]["max_in_flight"] = 2
        (tmp_path / "recipe.yaml").write_text(json.dumps(narrow))
        command = [sys.executable, "-m", "understudy.cli", "extract", str(tmp_path / "recipe.yaml")]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while url.counts()["answered"] < 8 and time.monotonic() < until:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        killed = url.counts()["received"]
        run_extract(recipe)
        total = sum(made(recipe, name[:-4])[0].counts["llm"]["calls"] for name in works)
        assert 8 <= killed < total
        # At most two were under way, and two replies on their way to the disk.
        assert url.counts()["received"] <= total + 4


def test_without_an_endpoint_it_is_one_line_and_exit_2(tmp_path, capsys):
    recipe = production(tmp_path, "http://localhost:9/v1", {"endpoint": "main"}, {"shore.txt": STORY}, endpoints={})
    for command in (["extract"], ["run"], ["run", "--plan"], ["recipe", "check"]):
        assert run([*command, str(tmp_path / "recipe.yaml")]) == 2
        [said] = capsys.readouterr().err.strip().splitlines()
        assert "extract.llm calls endpoint 'main', and endpoints has none" in said
    assert not store_of(recipe).keys("runs")


def test_lines_go_through_a_table_unchanged():
    from understudy.dataset import lines_table

    lines = parse(STORY, "w", NAMES)
    rows = lines_table(lines).to_pylist()
    assert [Line(**{**row, "directions": tuple(row["directions"])}) for row in rows] == lines

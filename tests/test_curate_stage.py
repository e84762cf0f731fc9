"""The curate stage over a store, with what extract, augment and a person leave behind."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from test_conversation import play
from test_curate import WORDS, learned, offers, setting, talk, talks

from jobs.attempt import attempt, unfinished
from jobs.curate import run_curate
from jobs.curate_sources import sources_of
from jobs.extract import run_extract
from jobs.material import inputs_of, material_of
from jobs.stage import Unit, read_latest, write_latest
from understudy.augmentation.steps import QuestionsStep
from understudy.conversation import Conversation
from understudy.dataset import conversations_table, lines_table, persona_view, read_conversations, schemas
from understudy.errors import InputError, PersonaError, StoreError
from understudy.letters import letters
from understudy.overlay import add, on_conversation, on_line, read
from understudy.persona import Persona
from understudy.recipe import Recipe, load
from understudy.record import rows_digest, table_digest
from understudy.samples import assemble
from understudy.store import Store


def production(folder: Path, **parts: Any) -> Recipe:
    document = {
        "name": "jug",
        "corpus": [{"path": "*.txt"}],
        "cast": [{"name": name} for name in ("adam", "licht", "eve")],
        "curate": {"heldout": 0.2},
        **parts,
    }
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(json.dumps(document))
    return load(folder / "recipe.yaml")


def finish(store: Store, stage: str, name: str, tables: dict[str, pa.Table], counts: dict[str, Any]) -> None:
    outputs = {f"{file}.parquet": table_digest(table) for file, table in tables.items()}
    unit = Unit("jug", stage, 1, name, {}, outputs)
    for file, table in tables.items():
        store.write_table(f"{unit.key}/{file}.parquet", table)
    unit.finish(store, outputs, counts, time.time())
    write_latest(store, "jug", stage, {name: unit.fingerprint}, read_latest(store, "jug", stage))


def located(rows: list[dict]) -> list[dict]:
    at = {"directions": [], "method": "colon", "confidence": 1.0}
    return [{**row, **at, "start": 100 * row["index"], "end": 100 * row["index"] + 50} for row in rows]


def extracted(store: Store, work: str, rows: list[dict]) -> None:
    names = {row["persona"] for row in rows if row["persona"]}
    views = {name: rows_digest(persona_view(rows, name)) for name in names}
    finish(store, "extract", work, {"lines": lines_table(rows)}, {"kind": "script", "views": views})


def imported(store: Store, unit: str, conversations: list[Conversation], extra: list[dict] | None = None) -> None:
    rows = [*(one.row() for one in conversations), *(extra or [])]
    table = pa.Table.from_pylist(rows, schema=schemas().conversations)
    names = sorted({one.persona for one in conversations})
    views = {name: rows_digest(row for row in rows if row["persona"] == name) for name in names}
    counts = {"kind": "conversations", "conversations": len(conversations), "views": views}
    finish(store, "extract", unit, {"conversations": table}, counts)


def curated(store: Store, persona: str) -> list[Conversation]:
    key = f"runs/jug/curate/{read_latest(store, 'jug', 'curate')[persona]}/conversations.parquet"
    return read_conversations(store.read_table(key))


def cast_rows() -> list[dict]:
    """Adam and Licht in every scene but the last, Eve with Licht in the last three."""
    rng = random.Random(3)
    rows: list[dict] = []
    for scene in range(10):
        other = "EVE" if scene > 6 else "ADAM"
        lines = [f"{name}: {' '.join(rng.choices(WORDS, k=8))}" for name in ("LICHT", other) * 3]
        rows += play(f"# Act {scene}", *lines, scene=f"w#{scene}", first=len(rows))
    for row in rows:
        row["persona"] = row["speaker"].lower() if row["speaker"] else None
    return located(rows)


def test_the_stage_makes_only_the_personas_whose_data_changed(tmp_path):
    recipe = production(tmp_path)
    store = Store.open(tmp_path / "store")
    extracted(store, "w", cast_rows())
    imported(store, "chats", [*talks(10, 1, persona="eve"), *talks(10, 2, persona="adam")])
    assert set(run_curate(recipe).made) == {"adam", "licht", "eve"}
    assert run_curate(recipe).skipped
    imported(store, "chats", [*talks(11, 1, persona="eve"), *talks(10, 2, persona="adam")])
    assert run_curate(recipe).made == ("eve",)
    add(store, "jug", [on_line(cast_rows(), 1, "edit", text="A word of my own.")])
    assert set(run_curate(recipe).made) == {"adam", "licht"}
    assert not any("A word of my own." in m.content for one in curated(store, "eve") for m in one.messages)
    assert any("A word of my own." in m.content for one in curated(store, "adam") for m in one.messages)
    chat = talks(10, 2, persona="adam")[0]
    add(store, "jug", [on_conversation(chat, "drop")])
    assert run_curate(recipe).made == ("adam",)
    assert chat.messages not in [one.messages for one in curated(store, "adam")]
    assert run_curate(recipe).skipped


@pytest.mark.cluster
def test_personas_side_by_side_come_out_as_in_turn_and_one_that_fails_costs_no_other(
    ray_cluster, tmp_path, monkeypatch
):
    outputs = []
    for rows in (1_000_000, 0):
        monkeypatch.setattr("jobs.curate.APART_ROWS", rows)
        folder = tmp_path / str(rows)
        folder.mkdir()
        store = Store.open(folder / "store")
        mute = [{**row, "text": "...", "persona": "eve"} if row["persona"] == "eve" else row for row in cast_rows()]
        extracted(store, "w", mute)
        imported(store, "chats", talks(10, 2, persona="adam"))
        with pytest.raises(PersonaError, match="eve: nothing to learn is left"):
            run_curate(production(folder))
        assert run_curate(production(folder), ("adam", "licht")).skipped, "the others are finished and kept"
        outputs.append({name: curated(store, name) for name in ("adam", "licht")})
    assert outputs[0] == outputs[1]


def test_a_line_given_to_somebody_else_is_learned_there_and_stale_decisions_are_told(tmp_path):
    recipe = production(tmp_path)
    store = Store.open(tmp_path / "store")
    rows = cast_rows()
    extracted(store, "w", rows)
    run_curate(recipe)
    gone = on_line(rows, 3, "drop")
    add(store, "jug", [on_line(rows, 2, "fix", persona="eve", speaker="EVE")])
    result = run_curate(recipe)
    assert "eve" in result.made
    assert "review" not in result.details
    said = rows[2]["text"]
    assert any(said in m.content and m.loss for one in curated(store, "eve") for m in one.messages)
    assert not any(said in m.content and m.loss for one in curated(store, "adam") for m in one.messages)
    rows[3] = {**rows[3], "text": "Something else entirely stands here now."}
    extracted(store, "w", rows)
    add(store, "jug", [gone])
    details = run_curate(recipe).details
    assert [one["reason"] for one in details["review"]["stale"]] == ["changed"]


def test_decisions_of_a_work_a_persona_or_a_conversation_that_is_gone_are_told_and_nothing_is_deleted(tmp_path, capsys):
    recipe = production(tmp_path)
    store = Store.open(tmp_path / "store")
    rows = cast_rows()
    extracted(store, "w", rows)
    imported(store, "chats", talks(10, 2, persona="adam"))
    add(store, "jug", [on_line(rows, 1, "edit", text="A word of my own."), on_line(rows, 2, "drop")])
    known, strange = talks(10, 2, persona="adam")[0], talks(1, 4, persona="frosch")[0]
    add(store, "jug", [on_conversation(known, "drop"), on_conversation(strange, "keep")])
    before = run_curate(recipe)
    assert before.details["review"]["personas"] == {"frosch": 1}
    assert not before.details["review"]["works"]
    assert "review" in before.counts["adam"]
    capsys.readouterr()
    renamed = [{**row, "work": "x", "line_id": row["line_id"].replace("w:", "x:")} for row in rows]
    store.delete("runs/jug/extract/latest.json")
    extracted(store, "x", renamed)
    imported(store, "chats", talks(10, 3, persona="adam"))
    after = run_curate(recipe)
    said = capsys.readouterr().err
    assert "review: 2 decisions of works that are not in this corpus any more: w (2)\n" in said
    assert "review: 1 decision about conversations of personas who are not in this cast any more: frosch (1)" in said
    assert "review: 1 decision about conversations that are not there any more: adam (1)" in said
    assert after.details["review"]["works"] == {"w": 2}
    again = run_curate(recipe)
    assert again.skipped
    assert again.details == after.details
    assert len(read(store, "jug").decisions) == 4


def test_what_an_extract_left_that_failed_since_is_used_but_said_as_long_as_it_is_so(tmp_path, capsys):
    recipe = production(tmp_path)
    store = Store.open(tmp_path / "store")
    extracted(store, "w", cast_rows())
    assert "unfinished" not in run_curate(recipe).details
    with pytest.raises(StoreError), attempt(store, "jug", "extract"):
        raise StoreError("the disk is\nfull")
    capsys.readouterr()
    result = run_curate(recipe, force=True)
    said = "the last extract did not end (the disk is full); what it left before is used"
    assert f"curate    {said}" in capsys.readouterr().err
    assert result.details["unfinished"]["extract"].startswith(said)
    assert result.details["unfinished"]["extract"].endswith("run `understudy extract` with this recipe")
    assert run_curate(recipe).skipped
    with attempt(store, "jug", "extract"):
        assert "it was ended from outside" in unfinished(store, "jug", "extract")
    assert not store.exists("runs/jug/extract/attempt.json")
    after = run_curate(recipe)
    assert after.skipped
    assert "unfinished" not in json.dumps(after.as_json())


@pytest.mark.parametrize(
    "wrong",
    [
        {"corpus": [{"path": "*.txt"}]},
        {"corpus": [{"path": "t.jsonl", "column": "body"}]},
        {"corpus": [{"path": "t.jsonl"}], "extract": {"llm": {"endpoint": "nobody"}}},
    ],
)
def test_an_extract_that_refuses_its_input_has_begun_nothing_and_says_nothing_of_it_later(tmp_path, wrong):
    (tmp_path / "t.jsonl").write_text('{"text": "ADAM: Yes."}\n')
    store = Store.open(tmp_path / "store")
    extracted(store, "w", cast_rows())
    with pytest.raises(InputError):
        run_extract(production(tmp_path, **wrong))
    assert not unfinished(store, "jug", "extract")
    with pytest.raises(StoreError), attempt(store, "jug", "extract"):
        raise StoreError("the disk is full")
    with pytest.raises(InputError):
        run_extract(production(tmp_path, **wrong))
    assert "the disk is full" in unfinished(store, "jug", "extract"), "it is still so"


def test_an_attempt_is_over_when_all_are_done_of_whom_it_was(tmp_path):
    store = Store.open(tmp_path)

    def begin(*personas: str, whole: bool = False, end: type[BaseException] | None = None) -> str:
        with suppress(KeyboardInterrupt, StoreError), attempt(store, "jug", "augment", personas, whole):
            if end:
                raise end
        return unfinished(store, "jug", "augment")

    assert begin("adam", end=KeyboardInterrupt)
    assert begin("eve")
    assert not begin("adam")
    assert begin("adam", "eve", "licht", whole=True, end=KeyboardInterrupt)
    assert begin("adam", end=StoreError)
    assert begin("adam", "eve")
    assert not begin("licht")
    assert begin("adam", end=KeyboardInterrupt)
    assert begin("eve", end=KeyboardInterrupt)
    assert begin("eve")
    assert not begin("adam")
    assert begin("licht", end=StoreError)
    assert not begin("adam", "eve", whole=True)
    store.put_json("runs/jug/augment/attempt.json", {"since": "long ago", "why": "of an older version"})
    assert begin("adam"), "it was of everybody"
    assert begin("eve", end=StoreError)
    assert begin("eve")
    assert not begin("adam", "eve", "licht", whole=True)


def test_a_decision_about_a_row_of_a_table_counts_like_any_other(tmp_path):
    recipe = production(tmp_path)
    store = Store.open(tmp_path / "store")
    rows = [{**row, "work": "w.1", "line_id": row["line_id"].replace("w:", "w.1:")} for row in cast_rows()]
    extracted(store, "w", rows)
    run_curate(recipe)
    add(store, "jug", [on_line(rows, 1, "edit", text="A word of my own.")])
    assert set(run_curate(recipe).made) == {"adam", "licht"}


def test_a_persona_may_be_made_of_generated_conversations_alone(tmp_path):
    step = {"name": "more", "kind": "style", "endpoint": "main"}
    endpoint = {"main": {"base_url": "http://localhost:1/v1", "model": "m"}}
    recipe = production(tmp_path, corpus=[], cast=[{"name": "adam"}], augment=[step], endpoints=endpoint)
    store = Store.open(tmp_path / "store")
    with pytest.raises(InputError, match=r"^adam:more: augment has not been run"):
        run_curate(recipe)
    finish(store, "augment", "adam:more", {"conversations": conversations_table(talks(30, 1))}, {})
    finish(store, "augment", "adam:old", {"conversations": conversations_table(talks(30, 2))}, {})
    counts = run_curate(recipe).counts["adam"]
    assert counts["conversations"] == {"train": 30, "heldout": 0}


def test_nobody_and_nothing_are_said_in_one_line(tmp_path):
    recipe = production(tmp_path)
    store = Store.open(tmp_path / "store")
    with pytest.raises(InputError, match="extract has not been run"):
        run_curate(recipe)
    imported(store, "chats", [talk("A b?", "N/A"), talk("C d?", "...")])
    with pytest.raises(PersonaError, match="licht: has no line"):
        run_curate(recipe)
    with pytest.raises(
        PersonaError, match=r"^adam: nothing to learn is left of 2 conversations \(1 .*see curate.min_chars"
    ):
        run_curate(recipe, ("adam",))


def test_rows_with_holes_in_a_table_are_set_aside_by_one_persona_alone(tmp_path):
    recipe = production(tmp_path, cast=[{"name": "adam"}, {"name": "eve"}])
    store = Store.open(tmp_path / "store")
    good = [*talks(20, 1, persona="adam"), *talks(20, 2, persona="eve")]
    row = good[0].row()
    holes = [
        dict.fromkeys(row),
        {**row, "messages": None},
        {**row, "messages": []},
        {**row, "messages": [None, None]},
        {**row, "messages": [{"role": None, "name": None, "content": None, "loss": None}]},
        {**row, "messages": [{"role": "assistant", "name": None, "content": " ", "loss": True}]},
        {**row, "persona": None},
        {**row, "persona": ""},
        {**row, "provenance": None, "conversation_id": None, "scene": None, "split": None, "persona": "eve"},
    ]
    imported(store, "chats", good, holes)
    counts = run_curate(recipe).counts
    kept = [sum(counts[name]["conversations"].values()) for name in ("adam", "eve")]
    assert counts["adam"]["dropped"]["malformed"] == 8
    assert "malformed" not in counts["eve"]["dropped"]
    assert kept == [20, 21]


def test_a_step_sees_imported_conversations_as_decided_and_none_that_curate_holds_out(tmp_path):
    recipe = production(tmp_path)
    store = Store.open(tmp_path / "store")
    given = talks(40, 2, persona="adam")
    imported(store, "chats", given)
    step = QuestionsStep(kind="questions", name="q")
    adam = Persona(name="adam", display_name="Adam")

    def seen() -> tuple[dict[str, str], set[str]]:
        sources = sources_of(store, recipe, recipe.cast)  # type: ignore[arg-type]
        material = material_of(sources, adam, step, recipe)
        return inputs_of(store, sources, step, "adam"), {one.messages[-1].content for one in material.imported}

    inputs, before = seen()
    others = [one.messages[-1].content for one in talks(20, 9)]
    edits = [on_conversation(one, "edit", messages={"1": text}) for one, text in zip(given, others, strict=False)]
    shown = next(one for one in given[20:] if one.messages[-1].content in before)
    add(store, "jug", [*edits, on_conversation(shown, "drop")])
    changed, after = seen()
    assert changed.keys() - inputs.keys() == {"review:imported"}
    assert shown.messages[-1].content not in after
    run_curate(recipe, ("adam",))
    held = set(learned(curated(store, "adam"), "heldout"))
    assert held & set(others), "an edited conversation is drawn anew"
    assert after & set(others)
    assert not held & after
    add(store, "jug", [on_conversation(given[-1], "keep")])
    assert seen() == (changed, after)


@pytest.mark.parametrize("heldout", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_what_a_step_was_shown_is_never_held_out_whatever_is_put_right_shared_or_generated(tmp_path, seed, heldout):
    recipe = production(tmp_path, curate={"heldout": heldout, "seed": seed})
    store = Store.open(tmp_path / "store")
    phrase = "health and joy and a long life to you and all of yours"
    wishes = [
        talk(f"Wish {a} well", f"Answer: **{a}** {b}, {phrase}") for a, b in zip(WORDS[:30], WORDS[40:], strict=False)
    ]
    given = [*wishes, *talks(4, 3)]
    copies = [talk(one.messages[0].content, one.messages[1].content, method="again") for one in given]
    imported(store, "chats", [*given, *copies])
    step, adam = QuestionsStep(kind="questions", name="q"), Persona(name="adam", display_name="Adam")

    def said(texts: Iterable[str]) -> set[str]:
        return {letters(text.removeprefix("Answer:")) for text in texts}

    sources = sources_of(store, recipe, recipe.cast)  # type: ignore[arg-type]
    shown = [one.messages[-1].content for one in material_of(sources, adam, step, recipe).imported]
    assert len(shown) > 20
    run_curate(recipe, ("adam",))
    alone = said(learned(curated(store, "adam"), "heldout"))
    assert alone
    assert not alone & said(shown)
    echoes = [talk(f"And {n}?", f"{answer} {n} {n + 1} {n + 2}", method="q") for answer in shown for n in range(6)]
    offered = [*offers("imported", [*given, *copies]), *offers("generated", echoes)]
    made = assemble(setting(heldout=heldout, seed=seed), [], offered)
    assert not said(learned(made.conversations, "heldout")) & said(shown)


def test_general_dialogue_of_a_file_is_mixed_by_share_and_its_rights_are_kept(tmp_path):
    chats = [{"messages": [{"role": "user", "content": " ".join(random.Random(n).choices(WORDS, k=6))},
                           {"role": "assistant", "content": " ".join(random.Random(-n).choices(WORDS, k=9))}]}
             for n in range(1, 60)]  # fmt: skip
    tmp_path.joinpath("chat.jsonl").write_text("\n".join(map(json.dumps, chats)))
    mix = [{"path": "chat.jsonl", "share": 0.2, "rights": {"licence": "CC0-1.0"}}]
    recipe = production(tmp_path, cast=[{"name": "adam"}], curate={"mix": mix})
    store = Store.open(tmp_path / "store")
    imported(store, "chats", talks(50, 1))
    result = run_curate(recipe)
    counts = result.counts["adam"]
    own = counts["sources"]["imported"]["kept"] - counts["conversations"]["heldout"]
    assert counts["sources"]["mixed"]["kept"] == round(own / 4)
    found = [one for one in curated(store, "adam") if one.provenance.method == "mix"]
    assert {one.split for one in found} == {"train"}
    record = store.get_json(f"runs/jug/curate/{result.units['adam']}/record.json")
    assert {"licence": "CC0-1.0"}.items() <= record["rights"][-1].items()
    assert run_curate(recipe).skipped
    tmp_path.joinpath("chat.jsonl").write_text("\n".join(map(json.dumps, chats[:-1])))
    assert run_curate(recipe).made == ("adam",)

"""One dataset from lines, imported, generated and general conversations; nobody is made again for somebody else."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from test_cleaning import malformed_rows
from test_conversation import play

from jobs.attempt import attempt, unfinished
from jobs.curate import run_curate
from jobs.curate_sources import sources_of
from jobs.extract import run_extract
from jobs.material import inputs_of, material_of
from jobs.near_duplicates import bands_of
from jobs.stage import Unit, read_latest, write_latest
from understudy.augmentation.steps import QuestionsStep
from understudy.cleaning.near import band_hashes
from understudy.cleaning.overlap import HeldOut
from understudy.conversation import Conversation, Message, Provenance, conversation_id
from understudy.dataset import conversations_table, lines_table, persona_view, read_conversations, schemas
from understudy.errors import InputError, PersonaError, StoreError
from understudy.letters import letters
from understudy.line_samples import Setting
from understudy.overlay import Overlay, add, on_conversation, on_line, read
from understudy.persona import Persona
from understudy.recipe import CurateConfig, Recipe, load
from understudy.record import rows_digest, table_digest
from understudy.samples import General, Offer, assemble
from understudy.store import Store

WORDS = [f"word{i}" for i in range(400)]


def talk(question: str, *answers: str, persona: str = "adam", method: str = "m") -> Conversation:
    messages: list[Message] = []
    for number, answer in enumerate(answers):
        asked = question if not number else f"And {number}?"
        messages += [Message("user", asked), Message("assistant", answer, loss=True)]
    source = Provenance("w", method=method)
    return Conversation(conversation_id(persona, messages, source), persona, "train", "s", tuple(messages), source)


def talks(count: int, seed: int = 0, **given: str) -> list[Conversation]:
    rng = random.Random(seed)
    return [talk(" ".join(rng.choices(WORDS, k=9)), " ".join(rng.choices(WORDS, k=12)), **given) for _ in range(count)]


def offers(source: str, conversations: list[Conversation]) -> list[Offer]:
    return [Offer(source, "unit", one.row()) for one in conversations]


def scenes(count: int, seed: int = 5) -> list[dict]:
    rng = random.Random(seed)
    rows: list[dict] = []
    for scene in range(count):
        lines = [f"{name}: {' '.join(rng.choices(WORDS, k=11))}" for name in ("LICHT", "ADAM") * 3]
        rows += play(f"# Act {scene}", *lines, scene=f"w#{scene}", first=len(rows))
    return rows


def setting(**given: Any) -> Setting:
    return Setting("adam", CurateConfig.model_validate(given))


def learned(conversations: list[Conversation], split: str = "train") -> list[str]:
    return [m.content for one in conversations if one.split == split for m in one.messages if m.loss]


def test_every_source_is_in_and_only_imported_conversations_and_lines_are_held_out():
    made = assemble(setting(), scenes(12), [*offers("imported", talks(60, 1)), *offers("generated", talks(40, 2))])
    sources = made.counts["sources"]
    assert (sources["imported"]["kept"], sources["generated"]["kept"]) == (60, 40)
    held = Counter(one.provenance.method for one in made.conversations if one.split == "heldout")
    assert held["lines"] >= 1
    assert 0 < held["m"] < 20
    generated = {one.conversation_id for one in talks(40, 2)}
    assert not generated & {one.conversation_id for one in made.conversations if one.split == "heldout"}
    assert made.counts["overlap"]["in_training"] == 0
    assert made.counts["overlap"]["heldout_ngrams"] > 0


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 1), (5, 1)])
def test_a_few_imported_conversations_alone_leave_one_for_the_test(count, held):
    made = assemble(setting(heldout=0.01), [], offers("imported", talks(count)))
    assert made.counts["conversations"] == {"train": count - held, "heldout": held}


def test_the_order_of_the_rows_changes_nothing():
    given = [*offers("imported", talks(50, 1)), *offers("generated", [*talks(50, 2), *talks(20, 1, method="again")])]
    calm = assemble(setting(), scenes(6), given)
    random.Random(0).shuffle(given)
    assert assemble(setting(), scenes(6), given) == calm


def test_real_lines_stay_and_generated_copies_of_them_go():
    rows = scenes(8)
    real = assemble(setting(), rows)
    exchanges = [(rows[i - 1]["text"], rows[i]["text"]) for i in range(len(rows)) if rows[i]["persona"] == "adam"]
    copies = [talk(f"Now {question}", answer) for question, answer in exchanges]
    made = assemble(setting(), rows, offers("generated", [*copies, *talks(5, 3)]))
    assert [c for c in made.conversations if c.provenance.method == "lines"] == real.conversations
    reasons = made.counts["dropped"]
    assert reasons["near duplicate"] + reasons["heldout leak"] == len(copies)
    assert reasons["near duplicate"] > reasons["heldout leak"] > 0
    assert made.counts["overlap"]["in_training"] == 0
    kept = assemble(setting(clean={"near_duplicates": None, "heldout_leak": None}), rows, offers("generated", copies))
    assert kept.counts["sources"]["generated"]["kept"] == len(copies)
    assert kept.counts["overlap"]["by_source"]["generated"] > 0


def test_a_set_phrase_is_trained_on_instead_of_emptying_the_training_set():
    phrase = "health and joy and a long life to you and all of yours"
    wishes = [talk(f"Wish {a} well", f"{a} {b}, {phrase}, {b} {a}") for a, b in zip(WORDS, WORDS[::-1], strict=True)]
    plain = talks(40, 6)
    made = assemble(setting(clean={"near_duplicates": None}), [], offers("imported", [*wishes, *plain]))
    assert "heldout leak" not in made.counts["dropped"]
    held = learned(made.conversations, "heldout")
    assert held
    assert not any(phrase in answer for answer in held)
    assert made.counts["conversations"]["train"] == 440 - len(held)
    assert made.counts["overlap"]["in_training"] == 0


def test_a_reply_beyond_the_limit_goes_and_the_real_ones_count():
    rows = [row for n in range(4) for row in play(f"LICHT: Ask {n}?", "ADAM: Never!", scene=f"w#{n}", first=2 * n)]
    given = offers("generated", [talk(question, "never") for question in ("A b c?", "D e f?", "G h i?")])
    made = assemble(setting(), rows, given)
    assert made.counts["turns"]["train"] + made.counts["turns"]["heldout"] == 4
    assert made.counts["dropped"]["repeated reply"] == 3
    more = assemble(setting(clean={"repeats": {"most": 5}}), rows, given)
    assert more.counts["dropped"]["repeated reply"] == 1
    own = assemble(setting(clean={"repeats": {"most": 2, "sources": ["lines"]}}), rows)
    assert own.counts["dropped"]["repeated reply"] == 2


def test_rules_look_at_lines_only_when_told_to():
    rows = scenes(4)
    rows[2]["text"] = "Answer: **So** be it, write to adam@huisum.example.nl"
    assert assemble(setting(), rows).counts["mended"] == {}
    clean = {"role_tags": {"sources": ["lines"]}, "markup": {"sources": ["lines"]}}
    mended = assemble(setting(clean=clean), rows)
    assert mended.counts["mended"] == {"markup": 1, "role tag": 1}
    assert any(
        "So be it, write" in text for split in ("train", "heldout") for text in learned(mended.conversations, split)
    )
    dropped = assemble(setting(clean={"personal": {"sources": ["lines"]}}), rows)
    assert dropped.counts["dropped"]["personal data"] == 1


def test_one_bad_answer_of_several_is_not_learned_and_the_rest_is():
    given = talk("Well, and what now?", "I go to the mill.", "The blessing is as follows:", "Then I come home again.")
    made = assemble(setting(), [], offers("generated", [given]))
    assert [m.loss for m in made.conversations[0].messages] == [False, True, False, False, False, True]
    assert made.conversations[0].provenance.parents == (given.conversation_id,)
    assert made.counts["dropped"]["stub"] == 1
    assert made.counts["examples"]["stub"] == [{"text": "The blessing is as follows:"}]


def test_counts_hold_five_examples_of_a_reason_and_every_dropped_row_is_kept_aside():
    bad = [talk(f"Question {n} of many?", f"N/A{'.' * n}") for n in range(12)]
    made = assemble(setting(), [], offers("generated", [*bad, *talks(3)]))
    assert made.counts["dropped"]["stub"] == 12 == len(made.dropped)
    assert len(made.counts["examples"]["stub"]) == 5
    assert {row["source"] for row in made.dropped} == {"generated"}
    assert {row["conversation"] for row in made.dropped} == {one.conversation_id for one in bad}


def test_general_dialogue_gets_its_share_and_is_cleaned_like_the_rest():
    pool = [*[talk(f"Mail {n}?", f"write to a{n}@mail.example.com") for n in range(30)], *talks(400, 7)]
    general = General("chat", 0.25, lambda: iter(pool))
    made = assemble(setting(), [], offers("generated", talks(90, 2)), [general])
    assert made.counts["sources"]["mixed"]["kept"] == 30
    assert made.counts["conversations"]["train"] == 120
    assert made.counts["dropped"]["personal data"] > 0
    short = assemble(
        setting(), [], offers("generated", talks(90, 2)), [General("chat", 0.5, lambda: iter(pool[30:40]))]
    )
    assert short.counts["mix"] == [{"name": "chat", "share": 0.5, "wanted": 90, "drawn": 10, "taken": 10}]


def test_ten_thousand_malformed_rows_are_set_aside_once_and_the_good_ones_are_as_they_were():
    good = talks(10_000, 4)
    bad = malformed_rows(random.Random(9), 10_000)
    given = [*offers("generated", good), *(Offer("generated", "unit", row) for row in bad)]
    random.Random(1).shuffle(given)
    made = assemble(setting(), [], given)
    assert sorted(made.conversations, key=lambda c: c.conversation_id) == sorted(good, key=lambda c: c.conversation_id)
    assert Counter(row["reason"] for row in made.dropped) == {"malformed": 10_000}
    assert made.counts["dropped"]["malformed"] == 10_000


def test_a_persons_word_shields_edits_and_drops():
    stub, edited, dropped = talk("A?", "N/A"), talk("B c d?", "Hm."), talk("C d e?", "Never mind it.")
    overlay = Overlay(
        (
            on_conversation(stub, "keep"),
            on_conversation(edited, "edit", messages={"1": "By my word."}),
            on_conversation(dropped, "drop"),
        )
    )
    given = offers("generated", [stub, edited, dropped])
    made = assemble(Setting("adam", CurateConfig(), overlay=overlay), [], given)
    assert sorted(learned(made.conversations)) == ["By my word.", "N/A"]
    assert made.counts["dropped"]["by review"] == 1
    assert made.counts["review"] == {"applied": 3, "stale": 0}


@pytest.mark.cluster
def test_band_hashes_are_the_same_over_ray():
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=6)) for _ in range(9_000)]
    assert (bands_of(texts, 0.8, plain_below=0) == band_hashes(texts, 0.8)).all()


# From here on: the stage over a store, with what extract and augment leave behind.


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
    assert after.details["review"]["works"] == after.counts["adam"]["review"]["lost_works"] == {"w": 2}
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


def test_a_refrain_of_the_text_can_be_left_out_of_the_test():
    refrain = "in my pot my dear ask me of the other nine of them"
    rows: list[dict] = []
    for n in range(20):
        other = " ".join(random.Random(n).choices(WORDS, k=9))
        lines = (f"LICHT: Ask {n} me?", f"ADAM: Then {n}, {refrain}!", f"LICHT: And {n}?", f"ADAM: {other}.")
        rows += play(*lines, scene=f"w#{n}", first=4 * n)
    shown = assemble(setting(), rows)
    assert shown.counts["overlap"]["by_source"]["lines"] > 0
    hidden = assemble(setting(clean={"heldout_leak": {"lines": True}}), rows)
    assert hidden.counts["overlap"]["in_training"] == 0
    assert hidden.counts["turns"]["heldout"] * 2 == shown.counts["turns"]["heldout"]
    assert hidden.counts["turns"]["train"] == shown.counts["turns"]["train"]
    assert not HeldOut.of(c for c in hidden.conversations if c.split == "heldout").pieces.keys() & {refrain}

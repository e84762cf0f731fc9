"""Conversations: every line of the persona is learned once, in the company that it was said in."""

from __future__ import annotations

import random

import pytest

from understudy.conversation import OPENING, Conversation, Split, build, exchanges, scenes, split
from understudy.rendering import with_system

ME = "adam"


def line(index: int, speaker: str, text: str, scene: str = "w#1", kind: str = "speech", work: str = "w") -> dict:
    persona = {"ADAM": ME, "Adam": ME, "LICHT": "licht"}.get(speaker) if kind == "speech" else None
    return {
        "line_id": f"{work}:{index}",
        "work": work,
        "scene": scene,
        "index": index,
        "kind": kind,
        "speaker": speaker or None,
        "persona": persona,
        "text": text,
    }


def play(*script: str, scene: str = "w#1", work: str = "w", first: int = 0) -> list[dict]:
    """Rows of `NAME: text`; `# text` is a heading, `( text` a direction."""
    rows = []
    for index, part in enumerate(script, first):
        kind = {"#": "heading", "(": "direction"}.get(part[0], "speech")
        speaker, text = part.split(": ", 1) if kind == "speech" else ("", part[1:].strip())
        rows.append(line(index, speaker, text, scene, kind, work))
    return rows


REST = play("# Act 9", "LICHT: Gone?", "ADAM: Gone.", scene="w#9", first=900)
"""A second scene, so that the first is not cut in two for want of another."""


def built(rows: list[dict], window: int = 8, heldout: float = 0.1, seed: int = 0) -> list[Conversation]:
    cut = scenes(rows, ME)
    found = [exchange for scene in cut for exchange in exchanges(scene, ME, window)]
    return build(found, ME, split(cut, heldout, seed), window=window)


def spoken(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def random_work(seed: int, lines: int = 200) -> list[dict]:
    rng = random.Random(seed)
    rows, scene = [], 0
    for index in range(lines):
        if rng.random() < 0.08:
            scene += 1
            rows.append(line(index, "", f"Scene {scene}", f"w#{scene}", "heading"))
            continue
        kind = "direction" if rng.random() < 0.1 else "speech"
        speaker = rng.choice(["ADAM", "ADAM", "LICHT", "EVE", "VEIT"]) if kind == "speech" else ""
        text = "" if rng.random() < 0.05 else f"word{index}"
        rows.append(line(index, speaker, text, f"w#{scene}", kind))
    return rows


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("window", [1, 2, 5, 8, 40])
def test_every_line_of_the_persona_is_learned_exactly_once_in_windows_within_one_scene(seed, window):
    rows = random_work(seed)
    conversations = built(rows, window)
    said = [row["text"] for row in rows if row["persona"] == ME and row["text"]]
    learned = [text for c in conversations for m in c.messages if m.loss for text in m.content.split("\n")]
    assert learned == said
    scene_of = {row["line_id"]: row["scene"] for row in rows}
    for c in conversations:
        assert len(c.provenance.lines) <= window
        assert {scene_of[line_id] for line_id in c.provenance.lines} <= {c.scene.rsplit(".", 1)[0], c.scene}
        assert [m.role for m in c.messages] == ["user", "assistant"] * (len(c.messages) // 2)
        assert all(m.content for m in c.messages)
        assert all(m.loss == (m.role == "assistant") for m in c.messages)
    used = [line_id for c in conversations for line_id in c.provenance.lines]
    assert len(used) == len(set(used))


def test_lines_in_a_row_are_one_message_and_two_others_are_named():
    rows = play("# Act 1", "LICHT: Sit.", "EVE: No, stand.", "ADAM: I sit.", "ADAM: Now.", "EVE: Well?", "ADAM: Well.")
    assert spoken(built(rows + REST)[0]) == [
        ("user", "LICHT: Sit.\nEVE: No, stand."),
        ("assistant", "I sit.\nNow."),
        ("user", "EVE: Well?"),
        ("assistant", "Well."),
    ]


def test_one_other_alone_is_not_named_however_it_is_spelled():
    rows = play("# Act 1", "LICHT: Sit.", "ADAM: Yes.", "Licht: Stand.", "ADAM: No.")
    assert spoken(built(rows + REST)[0])[0::2] == [("user", "Sit."), ("user", "Stand.")]


def test_one_that_opens_with_the_persona_hears_the_direction_else_the_heading_else_the_opening_word():
    spoke = ("ADAM: Ah!", "LICHT: What?", "ADAM: Oh!")
    assert spoken(built(play("# Act 1", "( He falls.", *spoke))[0])[0] == ("user", "He falls.")
    assert spoken(built(play("# Act 1", *spoke))[0])[0] == ("user", "Act 1")
    assert spoken(built(play("( He fell.", "# Act 1", *spoke))[0])[0] == ("user", "Act 1")
    preface = [line(0, "", "A list of the persons.", kind="narration"), *play(*spoke, first=1)]
    assert spoken(built(preface)[0])[0] == ("user", OPENING)
    assert spoken(built(play(*spoke))[0])[0] == ("user", OPENING)


def test_another_personas_aliases_do_not_change_this_personas_conversations():
    rows = random_work(3)
    renamed = [{**row, "persona": "veit" if row["speaker"] == "VEIT" else row["persona"]} for row in rows]
    assert built(renamed) == built(rows)


def test_a_window_begins_with_what_is_answered_and_not_with_the_answer():
    script = [f"{name}: {i}" for i in range(6) for name in ("LICHT", "ADAM")]
    conversations = built(play("# Act 1", *script), window=5, seed=1)
    assert [spoken(c)[0][1] for c in conversations] == ["0", "2", "3", "5"]
    assert all(len(c.provenance.lines) <= 5 for c in conversations)


def test_answers_left_out_of_training_stay_as_context_and_a_window_of_them_alone_is_left_out():
    rows = play("# Act 1", "LICHT: A?", "ADAM: Yes.", "LICHT: B?", "ADAM: At home.", "LICHT: C?", "ADAM: Yes.")
    found = exchanges(scenes(rows + REST, ME)[0], ME, 8)
    splits: dict[tuple[str, str], Split] = {found[0].scene: "train"}
    [conversation] = build(found, ME, splits, window=8, untrained={0, 2})
    assert [m.loss for m in conversation.messages] == [False, False, False, True]
    assert build(found[:1], ME, splits, window=8, untrained={0}) == []


@pytest.mark.parametrize("seed", range(40))
def test_every_persona_has_something_to_train_on_and_something_held_out_and_no_scene_on_both_sides(seed):
    rows = random_work(seed, lines=30 + 5 * seed)
    conversations = built(rows, heldout=0.1 if seed % 2 else 0.9, seed=seed)
    sides: dict[str, set[str]] = {}
    for c in conversations:
        sides.setdefault(c.scene, set()).add(c.split)
    assert all(len(side) == 1 for side in sides.values())
    assert {side for names in sides.values() for side in names} == {"train", "heldout"}


def test_the_split_is_that_of_the_scene_and_not_of_the_persona():
    rows = [row for n in range(60) for row in play("ADAM: a", "LICHT: b", scene=f"w#{n}", first=2 * n)]
    mine, others = split(scenes(rows, ME), 0.2, 7), split(scenes(rows, "licht"), 0.2, 7)
    assert mine == others
    assert 4 <= sum(side == "heldout" for side in mine.values()) <= 20
    assert split(scenes(rows, ME), 0.2, 8) != mine


def test_the_scene_held_out_for_want_of_another_holds_at_most_half_of_the_lines():
    rows = play(*["ADAM: a", "LICHT: b"] * 50, scene="w#1") + play("ADAM: c", scene="w#2", first=200)
    for seed in range(20):
        assert split(scenes(rows, ME), 0.0, seed) == {("w", "w#1"): "train", ("w", "w#2"): "heldout"}


def test_a_work_without_headings_is_cut_into_scenes_of_forty_lines():
    rows = play(*["ADAM: a", "LICHT: b"] * 50, scene="")
    assert [len(scene.rows) for scene in scenes(rows, ME)] == [40, 40, 20]


def test_a_persona_of_one_scene_has_it_cut_again_and_one_of_one_line_is_trained():
    rows = play("# Act 1", "LICHT: A?", "ADAM: one", "LICHT: B?", "ADAM: two")
    cut = scenes(rows, ME)
    assert [scene.turns for scene in cut] == [1, 1]
    assert sorted(c.split for c in built(rows)) == ["heldout", "train"]
    assert [c.split for c in built(rows[:3])] == ["train"]


def test_a_scene_is_cut_between_turns_and_not_within_one():
    rows = play("# Act 1", "LICHT: A?", "ADAM: one", "ADAM: two", "LICHT: B?", "ADAM: three")
    assert [[m for _, m in spoken(c)] for c in built(rows)] == [["A?", "one\ntwo"], ["B?", "three"]]


def test_ids_are_the_same_for_the_same_rows_in_any_order_and_differ_between_conversations():
    rows = random_work(5)
    shuffled = random.Random(0).sample(rows, len(rows))
    ids = [c.conversation_id for c in built(rows)]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith("adam-") for one in ids)
    assert sorted(ids) == sorted(c.conversation_id for c in built(shuffled))


def test_the_system_text_stands_in_front_and_an_empty_one_does_not():
    [conversation, *_] = built(play("# Act 1", "LICHT: A?", "ADAM: one", "LICHT: B?", "ADAM: two"))
    assert with_system(conversation.messages, "You are Adam.")[0]["role"] == "system"
    assert with_system(conversation.messages, " ")[0]["role"] == "user"


def test_a_line_left_open_is_heard_by_nobody_and_no_window_reaches_over_it() -> None:
    rows = play("LICHT: One?", "ADAM: Two.", ": Whose?", "ADAM: Four.", "LICHT: Five?", "ADAM: Six.") + REST
    rows[2]["method"] = "open"
    first, second = (spoken(one) for one in built(rows, heldout=0)[:2])
    assert first == [("user", "One?"), ("assistant", "Two.")]
    assert second == [("user", OPENING), ("assistant", "Four."), ("user", "Five?"), ("assistant", "Six.")]
    rows[2]["method"] = "block"
    assert "Whose?" in [content for one in built(rows, heldout=0) for _, content in spoken(one)]

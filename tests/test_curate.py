"""One dataset from lines, imported, generated and general conversations; nobody is made again for somebody else."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from test_cleaning import malformed_rows
from test_conversation import play

from jobs.near_duplicates import bands_of
from understudy.cleaning.near import band_hashes
from understudy.cleaning.overlap import HeldOut
from understudy.conversation import Conversation, Message, Provenance, conversation_id
from understudy.line_samples import Setting
from understudy.overlay import Overlay, on_conversation
from understudy.recipe import CurateConfig
from understudy.samples import General, Offer, assemble

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

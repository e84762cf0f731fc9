"""What a person decided holds after the text was read again, and never hits another line."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from understudy.conversation import Conversation, Message, Provenance
from understudy.errors import InputError
from understudy.overlay import Decision, Overlay, add, lines_digest, on_conversation, on_line, read
from understudy.store import Store

SPOKEN = [
    ("ADAM", "Who broke the jug, neighbour?"),
    ("EVE", "Yes."),
    ("ADAM", "I did not see a thing of it."),
    ("EVE", "Yes."),
    ("VEIT", "The jug stood on the sill until midnight."),
    ("ADAM", "No."),
]


def rows(spoken=SPOKEN, shift: int = 0, work: str = "w") -> list[dict]:
    found, at = [], shift
    for index, (speaker, text) in enumerate(spoken):
        start, at = at, at + len(text) + 10
        found.append(
            {
                "line_id": f"{work}:{index}",
                "work": work,
                "scene": f"{work}#{index // 3}",
                "index": index,
                "kind": "speech",
                "speaker": speaker,
                "persona": speaker.lower(),
                "text": text,
                "start": start,
                "end": start + len(text),
            }
        )
    return found


def texts(found: list[dict]) -> list[tuple[str | None, str]]:
    return [(row["persona"], row["text"]) for row in found]


def said(number: int = 0) -> Conversation:
    messages = (Message("user", f"Well {number}?"), Message("assistant", f"So {number}.", loss=True))
    return Conversation(f"adam-{number}", "adam", "train", "s", messages, Provenance("w"))


DECISIONS = [
    on_line(rows(), 0, "edit", text="Who broke it?"),
    on_line(rows(), 1, "fix", persona="adam", speaker="ADAM"),
    on_line(rows(), 3, "drop"),
    on_line(rows(), 4, "keep"),
]


def test_decisions_change_their_lines_and_no_other():
    after, stale = Overlay(tuple(DECISIONS)).apply_to_lines(rows())
    assert not stale
    assert texts(after) == [
        ("adam", "Who broke it?"),
        ("adam", "Yes."),
        ("adam", "I did not see a thing of it."),
        ("veit", "The jug stood on the sill until midnight."),
        ("adam", "No."),
    ]
    assert [row.get("review") for row in after] == ["edit", "edit", None, "keep", None]
    assert after[1]["speaker"] == "ADAM"


def test_a_moved_line_is_found_again_by_its_text_and_its_neighbours():
    before = [("WALTER", "A new line at the head of it."), *SPOKEN[:3], ("EVE", "Something new."), *SPOKEN[3:]]
    after, stale = Overlay(tuple(DECISIONS)).apply_to_lines(rows(before, shift=500))
    assert not stale
    assert ("adam", "Yes.") in texts(after)
    assert ("eve", "Yes.") not in texts(after)
    assert ("adam", "Who broke it?") in texts(after)


def test_a_changed_or_lost_line_is_reported_and_nothing_is_applied():
    changed = [("ADAM", "Who broke the pot, neighbour?"), *SPOKEN[1:]]
    after, stale = Overlay((DECISIONS[0],)).apply_to_lines(rows(changed))
    assert texts(after) == texts(rows(changed))
    assert [one["reason"] for one in stale] == ["changed"]
    assert stale[0]["text"] == "Who broke it?"
    _, stale = Overlay((DECISIONS[3],)).apply_to_lines(rows(SPOKEN[:2]))
    assert [one["reason"] for one in stale] == ["gone"]


def test_a_short_line_that_could_be_either_of_two_is_touched_in_neither():
    moved = [("WALTER", "Order!"), ("EVE", "Yes."), ("WALTER", "Silence!"), ("EVE", "Yes."), ("WALTER", "So.")]
    after, stale = Overlay((DECISIONS[2],)).apply_to_lines(rows(moved, shift=1000))
    assert texts(after) == texts(rows(moved, shift=1000))
    assert [one["reason"] for one in stale] == ["ambiguous"]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_to_the_text_a_decision_changes_only_lines_that_said_the_same(seed):
    rng = random.Random(seed)
    words = [rng.choice(["Yes.", "No.", f"Line {i} of this long play."]) for i in range(40)]
    spoken = [(rng.choice(["ADAM", "EVE"]), text) for text in words]
    decided = [on_line(rows(spoken), at, "edit", text=f"EDITED {spoken[at][1]}") for at in rng.sample(range(40), 10)]
    again = list(spoken)
    for _ in range(rng.randrange(1, 12)):
        at = rng.randrange(len(again))
        kind = rng.randrange(3)
        if kind == 0:
            again.insert(at, ("VEIT", f"New {rng.random()}"))
        elif kind == 1:
            del again[at]
        else:
            again[at] = (again[at][0], f"Other {rng.random()}")
    after, stale = Overlay(tuple(decided)).apply_to_lines(rows(again, shift=rng.randrange(3)))
    hit = [row for row in after if row.get("review")]
    assert len(hit) + len(stale) == 10
    for row, was in zip(after, again, strict=True):
        assert row["text"] in (was[1], f"EDITED {was[1]}")


def test_later_decisions_add_to_earlier_ones_and_open_takes_them_back():
    line = rows()
    both = [on_line(line, 1, "fix", persona=None), on_line(line, 1, "edit", text="Yes, I did.")]
    after, _ = Overlay(tuple(both)).apply_to_lines(line)
    assert texts(after)[1] == (None, "Yes, I did.")
    after, stale = Overlay((*both, on_line(line, 1, "open"))).apply_to_lines(line)
    assert texts(after) == texts(line)
    assert not stale
    after, _ = Overlay((on_line(line, 1, "drop"), on_line(line, 1, "keep"))).apply_to_lines(line)
    assert len(after) == len(line)


def test_conversations_are_kept_edited_and_dropped_by_what_they_say():
    chats = [said(n) for n in range(4)]
    overlay = Overlay(
        (
            on_conversation(chats[0], "keep"),
            on_conversation(chats[1], "edit", messages={"1": "So it is."}),
            on_conversation(chats[2], "drop"),
            on_conversation(said(9), "drop"),
        )
    )
    moved = [replace(one, conversation_id=f"other-{n}") for n, one in enumerate(chats)]
    found, stale = overlay.apply_to_conversations(moved)
    assert [verdict for _, verdict in found] == ["keep", "edit", "drop", ""]
    edited = found[1][0]
    assert edited.messages[1] == Message("assistant", "So it is.", loss=True)
    assert edited.provenance.parents == ("other-1",)
    assert edited.conversation_id != "other-1"
    assert [one["reason"] for one in stale] == ["gone"]
    with pytest.raises(InputError, match="no speaker to fix"):
        on_conversation(chats[0], "fix")


def test_what_two_personas_say_alike_is_decided_for_each_alone():
    adam, eve = said(), replace(said(), persona="eve")
    overlay = Overlay((on_conversation(adam, "drop"), on_conversation(eve, "keep")))
    assert [verdict for _, verdict in overlay.apply_to_conversations([adam, eve])[0]] == ["drop", "keep"]
    only = Overlay((on_conversation(adam, "drop"),))
    assert [verdict for _, verdict in only.apply_to_conversations([adam, eve])[0]] == ["drop", ""]
    assert overlay.conversations_digest("adam") == only.conversations_digest("adam") != ""
    assert overlay.conversations_digest("eve") != only.conversations_digest("eve") == ""
    assert overlay.lost_personas({"eve"}) == {"adam": 1}


def test_what_is_stored_comes_back_in_order_and_bad_entries_are_named(tmp_path):
    store = Store.open(tmp_path)
    assert read(store, "jug") == Overlay()
    assert add(store, "jug", DECISIONS[:2], who="ada") == 1
    assert add(store, "jug", [*DECISIONS[2:], on_conversation(said(), "edit", messages={"0": "Gut?"})]) == 2
    assert add(store, "jug", []) == 0
    store.put(
        "review/jug/00000003.jsonl", b'{"kind": "line"}\nno json\n{"kind": "line", "do": "eat", "digest": "x"}\n\n'
    )
    assert add(store, "jug", [on_line(rows(), 5, "fix", persona=None)], who="bo") == 4
    overlay = read(store, "jug")
    assert len(overlay.decisions) == 6
    assert len(overlay.unreadable) == 3
    assert "00000003.jsonl:2: is no JSON" in overlay.unreadable[1]
    assert overlay.decisions[0] == replace(DECISIONS[0], who="ada", at=overlay.decisions[0].at)
    assert overlay.apply_to_lines(rows())[0][-1]["persona"] is None
    assert not read(store, "other").decisions


def test_people_who_decide_at_the_same_time_lose_nothing(tmp_path):
    store = Store.open(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add(store, "jug", [on_line(rows(), n % 6, "keep")], who=str(n)), range(40)))
    assert sorted(int(one.who) for one in read(store, "jug").decisions) == list(range(40))


@pytest.mark.parametrize(
    "wrong",
    [
        {"do": "eat"},
        {"kind": "word"},
        {"digest": ""},
        {"work": ""},
        {"do": "edit"},
        {"start": "5"},
        {"persona": 5},
        {"kind": "conversation", "do": "fix"},
        {"kind": "conversation", "persona": None},
        {"messages": {"0": 5}},
    ],
)
def test_a_decision_that_says_nothing_is_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="^review: a decision "):
        add(Store.open(tmp_path), "jug", [Decision(**{**vars(DECISIONS[3]), **wrong})])


def test_only_the_personas_whom_a_decision_touches_have_another_digest():
    before = rows()
    cases = {
        "edit": (on_line(before, 4, "edit", text="It fell."), {"veit", "adam", "eve"}),
        "edit in the first scene": (on_line(before, 0, "edit", text="Who?"), {"adam", "eve"}),
        "fix": (on_line(before, 4, "fix", persona="frida"), {"veit", "adam", "eve", "frida"}),
        "drop": (on_line(before, 0, "drop"), {"adam", "eve", "veit"}),
    }
    for name, (decision, touched) in cases.items():
        overlay = Overlay((decision,))
        after, _ = overlay.apply_to_lines(before)
        found = {who for who in ("adam", "eve", "veit", "frida") if lines_digest(who, before, after)}
        assert found == touched, name
    moved = rows(shift=7)
    edit = Overlay((on_line(before, 0, "edit", text="Who?"),))
    assert lines_digest("adam", before, edit.apply_to_lines(before)[0]) == lines_digest(
        "adam", moved, edit.apply_to_lines(moved)[0]
    )

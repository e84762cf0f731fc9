"""Filters count what they drop, tables keep what they are given, exports come back."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import pytest
from test_conversation import ME, line, play, random_work

from understudy.conversation import Message
from understudy.dataset import (
    DUPLICATE,
    EMPTY,
    TOO_SHORT,
    alpaca_json,
    conversations_table,
    curate,
    dropped_table,
    from_alpaca,
    from_openai,
    lines_table,
    openai_jsonl,
    persona_view,
    read_conversations,
    schemas,
    to_alpaca,
    to_openai,
)
from understudy.errors import InputError, StoreError
from understudy.record import rows_digest, table_digest
from understudy.script import Line
from understudy.store import Store

FILLER = [f"{name}: {name} {i}" for i in range(10) for name in ("LICHT", "ADAM")]
WORK = [
    *play("# Act 1", "LICHT: Who?", "ADAM: I!", "LICHT: Who?", "ADAM: I.", "EVE: And?", "ADAM: ...", "LICHT: So?"),
    *play("ADAM: So.", "( He sits.", "LICHT: Well?", first=8),
    line(11, "ADAM", "", "w#1"),
    *play("# Act 2", *FILLER, scene="w#2", first=20),
]


def test_every_dropped_row_is_kept_aside_with_its_reason_and_counted():
    curated = curate(WORK, ME, seed=1)
    reasons = {(tuple(row["lines"]), row["reason"]) for row in curated.dropped}
    assert reasons == {(("w:4",), DUPLICATE), (("w:6",), TOO_SHORT), (("w:11",), EMPTY)}
    counts = curated.counts
    assert counts["dropped"] == {EMPTY: 1, TOO_SHORT: 1, DUPLICATE: 1}
    assert counts["lines"] == 15 == sum(counts["turns"].values()) + 3
    assert sum(counts["conversations"].values()) == len(curated.conversations)
    assert counts["heldout_scenes"] == 1


def test_a_dropped_turn_stays_in_its_conversation_and_is_not_learned():
    messages = [m for c in curate(WORK, ME, seed=1).conversations for m in c.messages if m.role == "assistant"]
    loss = {m.content: m.loss for m in messages}
    assert (loss["I!"], loss["I."], loss["..."], loss["So."]) == (True, False, False, True)


def test_filters_obey_their_settings():
    assert curate(WORK, ME, max_repeats=2).counts["dropped"][DUPLICATE] == 0
    assert curate(WORK, ME, min_chars=0).counts["dropped"][TOO_SHORT] == 0
    assert curate(WORK, ME, min_chars=3).counts["dropped"][TOO_SHORT] == 4


def test_a_held_out_turn_that_repeats_a_trained_one_is_dropped():
    rows = [row for n in range(20) for row in play("LICHT: Who?", "ADAM: It is me.", scene=f"w#{n}", first=2 * n)]
    curated = curate(rows, ME, heldout=0.3)
    assert [c.split for c in curated.conversations] == ["train"]


def test_the_view_of_one_persona_ignores_other_personas_and_their_works():
    rows = random_work(1)
    other = [{**row, "work": "v", "line_id": f"v:{row['index']}", "persona": None} for row in rows]
    renamed = [{**row, "persona": None if row["persona"] == "licht" else row["persona"]} for row in rows]
    digest = rows_digest(persona_view(rows, ME))
    assert rows_digest(persona_view(renamed + other, ME)) == digest
    assert rows_digest(persona_view(rows[1:], ME)) != digest


def test_tables_come_back_as_they_were_through_parquet_and_say_their_version(tmp_path):
    store = Store.open(tmp_path)
    curated = curate(random_work(2), ME)
    table = conversations_table(curated.conversations)
    store.write_table("c.parquet", table)
    again = store.read_table("c.parquet")
    assert read_conversations(again) == curated.conversations
    assert table_digest(again) == table_digest(table)
    assert again.schema.metadata[b"schema_version"] == b"1"
    assert dropped_table(curated.dropped).to_pylist() == curated.dropped


def test_a_table_of_a_newer_version_is_refused_in_one_line():
    table = conversations_table([]).replace_schema_metadata({"schema_version": "2"})
    with pytest.raises(StoreError, match=r"^store/c.parquet: has schema_version 2, newer than 1"):
        read_conversations(table, "store/c.parquet")


def test_the_lines_table_takes_lines_and_mappings_alike():
    direction = {"start": 1, "end": 5, "text": "(ab)"}
    made = Line("w:0", "w", "w#1", 0, "speech", "A", None, "Hm.", (direction,), 0, 9, "colon", 0.9)
    table = lines_table([made, {**lines_table([made]).to_pylist()[0], "index": 1}])
    assert table.schema.equals(schemas().lines)
    first, second = table.to_pylist()
    assert first["directions"] == [direction]
    assert second == {**first, "index": 1}


def test_no_rows_make_empty_tables_with_all_columns():
    assert conversations_table([]).column_names == schemas().conversations.names
    assert isinstance(dropped_table([]), pa.Table)
    assert curate([], ME).counts["lines"] == 0


def test_openai_messages_come_back_whole_with_what_is_not_learned():
    for conversation in curate(WORK, ME, seed=1).conversations:
        row = json.loads(openai_jsonl([conversation]))
        assert row == to_openai(conversation)
        assert from_openai(row, ME).messages == conversation.messages
    dropped = [m for c in curate(WORK, ME, seed=1).conversations for m in to_openai(c)["messages"] if "weight" in m]
    assert [m["content"] for m in dropped] == ["I.", "..."]


def test_alpaca_comes_back_whole_where_every_answer_is_learned():
    conversations = curate(random_work(4), ME).conversations
    rows = json.loads(alpaca_json(conversations, "You are Adam."))
    assert len(rows) == len(conversations)
    for row, conversation in zip(rows, conversations, strict=True):
        system, *rest = from_alpaca(row, ME).messages
        assert system == Message("system", "You are Adam.")
        assert tuple(rest) == conversation.messages


def test_alpaca_teaches_each_learned_answer_once_and_no_other():
    for conversation in curate(WORK, ME, seed=1).conversations:
        taught = [text for row in to_alpaca(conversation) for text in [row["output"], *(a for _, a in row["history"])]]
        assert Counter(taught) == Counter(m.content for m in conversation.messages if m.loss)


def test_the_tutorials_alpaca_rows_are_read_with_their_input():
    conversation = from_alpaca({"instruction": "小姐，", "input": "别的秀女", "output": "嘘——"}, "huanhuan")
    assert [(m.role, m.content, m.loss) for m in conversation.messages] == [
        ("user", "小姐，\n别的秀女", False),
        ("assistant", "嘘——", True),
    ]


@pytest.mark.parametrize(
    ("read", "row", "says"),
    [
        (from_alpaca, {"instruction": "a"}, "t.json:3: has no output"),
        (from_alpaca, {"output": "a"}, "t.json:3: has no instruction"),
        (from_alpaca, {"instruction": "a", "output": "b", "history": [["a"]]}, "t.json:3: history"),
        (from_openai, {"text": "a"}, "t.json:3: has no messages"),
        (from_openai, {"messages": [{"role": "tool", "content": "a"}]}, "t.json:3: message 0"),
        (from_openai, {"messages": [{"role": "user", "content": "a"}]}, "t.json:3: has no assistant"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused_by_place(read, row, says):
    with pytest.raises(InputError, match=says):
        read(row, ME, where="t.json:3")

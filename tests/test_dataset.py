"""Filters count what they drop, tables keep what they are given."""

from __future__ import annotations

import pyarrow as pa
import pytest
from test_conversation import ME, line, play, random_work

from understudy.dataset import (
    DUPLICATE,
    EMPTY,
    TOO_SHORT,
    conversations_table,
    curate,
    dropped_table,
    lines_table,
    persona_view,
    read_conversations,
    schemas,
)
from understudy.errors import StoreError
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


def test_a_line_left_open_is_in_no_conversation_of_the_data_set():
    rows = play("LICHT: Who was it?", "EVE: Not me.", "ADAM: It was the cat.", "LICHT: So.", "ADAM: So it was.")
    rows[1] = {**rows[1], "speaker": None, "method": "open"}
    said = [m.content for c in curate(rows, ME).conversations for m in c.messages]
    assert "It was the cat." in said
    assert not any("Not me." in text or "Who was it?" in text for text in said)


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

"""Conversations in and out: formats are recognised, what they say comes back, broken rows cost themselves alone."""

from __future__ import annotations

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.conversation import Conversation, Message, Provenance
from understudy.errors import CorpusError, InputError
from understudy.interchange import belonging_to, read_conversations_file
from understudy.interchange import rows as rows_module
from understudy.interchange.merging import DOUBLE, merge
from understudy.interchange.rows import HALF_PAIR, NOT_JSON, NOT_TEXT
from understudy.interchange.writing import WRITERS, dataset_info, rows_in, write_file

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)


def read(rows, form="auto", persona=None, names=()):
    data = rows if isinstance(rows, bytes) else json.dumps(rows, ensure_ascii=False).encode()
    return read_conversations_file(data, form, persona, "w.json", names)


def said(one: Conversation) -> list[tuple[str, str, bool]]:
    return [(message.role, message.content, message.loss) for message in one.messages]


def conversation(*messages: Message) -> Conversation:
    return Conversation("id", "adam", "train", "s", tuple(messages), Provenance("w"))


@st.composite
def talks(draw, weights: bool) -> Conversation:
    """A system text or none, then user and assistant in turn; the last answer is learned."""
    messages = [Message("system", draw(TEXT))] if draw(st.booleans()) else []
    opens = draw(st.booleans())
    turns = draw(st.integers(1, 4))
    for turn in range(turns):
        if turn or not opens:
            messages.append(Message("user", draw(TEXT)))
        loss = turn == turns - 1 or not weights or draw(st.booleans())
        messages.append(Message("assistant", draw(TEXT), loss=loss))
    return conversation(*messages)


def assert_comes_back(form: str, talk: Conversation) -> None:
    good, aside = read(rows_in(form, talk))
    assert not aside
    assert [one.messages for one in good] == [talk.messages]


@pytest.mark.parametrize("form", ["alpaca", "sharegpt", "trl"])
@settings(max_examples=60, deadline=None)
@given(talks(weights=False))
def test_a_talk_whose_every_answer_is_learned_comes_back_from_formats_without_weights(form, talk):
    assert_comes_back(form, talk)


@pytest.mark.parametrize("form", ["xtuner", "messages"])
@settings(max_examples=60, deadline=None)
@given(talks(weights=True))
def test_answers_that_are_context_only_come_back_from_formats_with_weights(form, talk):
    assert_comes_back(form, talk)


@settings(max_examples=60, deadline=None)
@given(talks(weights=True))
def test_a_completion_is_learned_after_everything_that_was_said_before_it(talk):
    good, aside = read(rows_in("prompt-completion", talk))
    assert not aside
    learned = [at for at, message in enumerate(talk.messages) if message.loss]
    assert len(good) == len(learned)
    for one, at in zip(good, learned, strict=True):
        plain = [(message.role, message.content) for message in talk.messages[: at + 1]]
        assert [(message.role, message.content) for message in one.messages] == plain
        assert [message.loss for message in one.messages] == [False] * at + [True]


@pytest.mark.parametrize("form", ["alpaca", "sharegpt", "trl", "xtuner", "messages", "prompt-completion"])
@settings(max_examples=40, deadline=None)
@given(talks(weights=True))
def test_every_format_teaches_each_learned_answer_once_and_no_other(form, talk):
    good, _ = read(rows_in(form, talk))
    taught = [message.content for one in good for message in one.messages if message.loss]
    assert taught == [message.content for message in talk.messages if message.loss]


@settings(max_examples=40, deadline=None)
@given(talks(weights=True), st.sampled_from(["train", "heldout"]), st.integers(0, 9) | st.none())
def test_our_own_rows_come_back_with_everything(talk, split, seed):
    provenance = Provenance("w", ("w:1", "w:2"), ("p",), "style", "2", "a-model", seed)
    whole = Conversation("adam-0123456789abcdef", "adam", split, "w#1", talk.messages, provenance)
    assert read(rows_in("conversations", whole)) == ([whole], [])


def test_names_are_written_out_where_a_format_has_none_and_kept_where_it_has():
    talk = conversation(Message("user", "Who?", "Eve"), Message("user", "And?"), Message("assistant", "I.", loss=True))
    assert rows_in("alpaca", talk)[0]["instruction"] == "Eve: Who?\nAnd?"
    assert read(rows_in("messages", talk))[0][0].messages == talk.messages


def test_the_personas_system_text_stands_before_the_conversations_own():
    talk = conversation(Message("system", "At night."), Message("user", "q"), Message("assistant", "a", loss=True))
    told = "You are Adam.\n\nAt night."
    assert rows_in("alpaca", talk, "You are Adam.")[0]["system"] == told
    assert rows_in("sharegpt", talk, "You are Adam.")[0]["system"] == told
    assert rows_in("messages", talk, "You are Adam.")[0]["messages"][0] == {"role": "system", "content": told}
    assert rows_in("xtuner", talk, "You are Adam.")[0]["conversation"][0]["system"] == told


ROWS = {
    "alpaca": {"instruction": "q", "input": "more", "output": "a", "history": [["p", "b"]]},
    "xtuner": {"conversation": [{"system": "s", "input": "q", "output": "a"}, {"input": "r", "output": "b"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"},
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "prompt-completion": {"prompt": "q", "completion": "a"},
    "dialogue": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
}


@pytest.mark.parametrize("shape", ROWS)
@pytest.mark.parametrize("container", ["array", "indented", "lines", "gzip", "wrapped", "bom"])
def test_every_format_is_recognised_in_every_container(shape, container):
    row = ROWS[shape]
    whole = {
        "array": json.dumps([row, row]).encode(),
        "indented": json.dumps([row, row], indent=4).encode(),
        "lines": "\n".join(json.dumps(row) for _ in range(2)).encode(),
        "gzip": gzip.compress(json.dumps([row, row]).encode()),
        "wrapped": json.dumps({"version": 1, "data": [row, row]} if shape != "dialogue" else [row, row]).encode(),
        "bom": b"\xef\xbb\xbf" + json.dumps([row, row]).encode(),
    }[container]
    good, aside = read(whole)
    assert not aside
    assert [one.provenance.method for one in good] == [shape, shape]
    assert len({one.conversation_id for one in good}) == 2
    assert good[0].messages == good[1].messages


def test_parquet_is_read_with_lists_and_with_json_kept_as_text(tmp_path):
    rows = [{**ROWS["messages"], "persona": "Eve"}, {"messages": json.dumps(ROWS["messages"]["messages"])}]
    for name, some in (("lists", rows[:1]), ("text", rows[1:])):
        pq.write_table(pa.Table.from_pylist(some), tmp_path / name)
        (one,), aside = read((tmp_path / name).read_bytes())
        assert not aside
        assert said(one) == [("user", "q", False), ("assistant", "a", True)]


def test_the_tutorials_rows_are_read_as_they_mean_them():
    (one,), _ = read([{"instruction": "小姐，", "input": "别的秀女", "output": "嘘——"}], persona="huanhuan")
    assert said(one) == [("user", "小姐，\n别的秀女", False), ("assistant", "嘘——", True)]
    (two,), _ = read([ROWS["xtuner"]])
    assert said(two) == [
        ("system", "s", False), ("user", "q", False), ("assistant", "a", True), ("user", "r", False),
        ("assistant", "b", True),
    ]  # fmt: skip


def lines(key="rloe", text="content") -> bytes:
    spoken = [("甄嬛", "坐。"), ("皇上", "好。"), ("旁白", "天黑了。"), ("甄嬛", "请。"), ("皇上", "嗯。")]
    return "\n".join(json.dumps({key: who, text: what}, ensure_ascii=False) for who, what in spoken).encode()


@pytest.mark.parametrize(("key", "text"), [("rloe", "content"), ("role", "content"), ("role", "dialogue")])
def test_lines_of_named_speakers_are_one_talk_as_the_persona_hears_it(key, text):
    (one,), aside = read(lines(key, text), persona="huanhuan", names=["甄嬛"])
    assert not aside
    assert one.persona == "huanhuan"
    assert [message.content for message in one.messages] == ["...", "坐。", "好。", "请。"]
    assert one.provenance.lines == ("w.json:1", "w.json:2", "w.json:4")


def test_without_a_persona_every_speaker_gets_conversations_of_their_own():
    good, _ = read(lines())
    assert {one.persona: [m.content for m in one.messages if m.loss] for one in good} == {
        "甄嬛": ["坐。", "请。"],
        "皇上": ["好。", "嗯。"],
    }
    good, aside = read(lines(), persona="nobody")
    assert not good
    assert aside[0]["reason"] == "nobody in it is called like the persona"


def test_chat_lines_go_on_until_the_next_system_line():
    rows = [("system", "s"), ("user", "q"), ("assistant", "a"), ("system", "t"), ("user", "r"), ("assistant", "b")]
    data = "\n".join(json.dumps({"role": role, "content": text}) for role, text in rows).encode()
    good, _ = read(data)
    assert [said(one)[0][1] for one in good] == ["s", "t"]


def test_a_row_names_its_persona_unless_the_recipe_does():
    row = {**ROWS["alpaca"], "character": "Eve"}
    assert read([row])[0][0].persona == "Eve"
    assert read([row], persona="adam")[0][0].persona == "adam"
    assert read([ROWS["alpaca"]])[0][0].persona == ""


def test_ids_and_scenes_stay_when_rows_are_put_in_before_and_equal_rows_differ():
    row, other = ROWS["alpaca"], ROWS["messages"]
    (before,), _ = read([row])
    good, _ = read([other, row, row])
    assert (good[1].conversation_id, good[1].scene) == (before.conversation_id, before.scene)
    assert good[2].conversation_id == f"{before.conversation_id}-2"
    assert belonging_to(good[2], "eve").conversation_id == f"{belonging_to(before, 'eve').conversation_id}-2"
    assert belonging_to(good[1], "eve").persona == "eve"


BAD = [
    ({"instruction": "a"}, "has no output"),
    ({"instruction": "a", "output": "  "}, "has no output"),
    ({"output": "a", "instruction": 3}, "has no instruction"),
    ({"instruction": "a", "output": "b", "history": [["a"]]}, "its history holds something that is no [user, assistant] pair"),  # noqa: E501
    ({"instruction": "a", "output": "b", "history": "x"}, "its history is no list of [user, assistant] pairs"),
    ({"messages": [{"role": "user", "content": "a"}]}, "has no answer to learn"),
    ({"messages": [{"role": "user", "content": 3}]}, "has a message without text"),
    ({"messages": [{"content": "x"}]}, "has a message without role"),
    ({"messages": []}, "is in no format that we know"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "calls tools, which a persona does not"),
    ({"conversation": [{"input": "a", "output": None}]}, "has a turn without output"),
    ({"prompt": "a", "completion": [1]}, "its prompt and completion are neither two texts nor two lists of messages"),
    ({"conversation_id": "x", "messages": [], "provenance": {}}, "is no row of a conversations table"),
    ({"instruction": "a", "output": "b\ud800"}, HALF_PAIR),
    ({"text": "a"}, "is in no format that we know"),
    (None, "is in no format that we know"),
    (7, "is in no format that we know"),
    ([], "is in no format that we know"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "reason"), BAD)
def test_a_row_that_cannot_be_learned_from_is_set_aside_with_its_place_and_reason(row, reason):
    good, (aside,) = read(json.dumps([ROWS["alpaca"], row]).encode())
    assert len(good) == 1
    assert (aside["row"], aside["reason"]) == (2, reason)
    aside["text"].encode()


def test_rows_of_another_format_than_the_one_asked_for_are_set_aside():
    good, aside = read([ROWS["alpaca"], ROWS["xtuner"]], form="xtuner")
    assert [one.provenance.method for one in good] == ["xtuner"]
    assert [row["reason"] for row in aside] == ["is no xtuner row"]
    with pytest.raises(InputError, match="format 'alpacca' is unknown"):
        read([], form="alpacca")


def malformed(rng: random.Random, line: bytes, kind: int) -> bytes:
    """One of many ways in which a line of JSON is broken; never empty, never good."""
    return [
        lambda: line[: rng.randrange(1, len(line) - 1)],
        lambda: line[:20] + b"\xff\xfe" + line[20:],
        lambda: json.dumps(rng.choice(BAD)[0]).encode(),
        lambda: line.replace(b'"output"', b'"outptu"'),
        lambda: b"[" * 3000,
        lambda: line + line,
        lambda: b'{"instruction": "q", "output": NaN}',
        lambda: b"# a comment",
    ][kind % 8]()


@pytest.mark.parametrize("container", ["lines", "array"])
def test_ten_thousand_malformed_rows_among_twenty_thousand_are_set_aside_once_each(container):
    rng = random.Random(0)
    good_rows = [{"instruction": f"q {n}", "input": "", "output": f"a {n} “è”"} for n in range(10_000)]
    whole = [json.dumps(row, ensure_ascii=False).encode() for row in good_rows]
    bad = [malformed(rng, whole[n], n) for n in range(10_000)]
    mixed = [(row, True) for row in whole] + [(row, False) for row in bad]
    rng.shuffle(mixed)
    broken = {number for number, (_, sound) in enumerate(mixed, 1) if not sound}
    data = b"\n".join(row for row, _ in mixed)
    if container == "array":
        data = b"[\n" + b",\n".join(row for row, _ in mixed) + b"\n]"
    good, aside = read(data, persona="adam")
    assert sorted(said(one)[0][1] for one in good) == sorted(row["instruction"] for row in good_rows)
    assert {said(one)[1][1] for one in good} == {row["output"] for row in good_rows}
    assert [row["row"] for row in aside] == sorted(broken)
    assert {NOT_JSON, NOT_TEXT if container == "lines" else HALF_PAIR} < {row["reason"] for row in aside}


def test_a_truncated_array_gives_the_rows_before_its_end():
    whole = json.dumps([{"instruction": f"q{n}", "output": f"a}},\n{n}"} for n in range(50)], indent=2).encode()
    good, aside = read(whole[:-30])
    assert len(good) == 49
    assert [(row["row"], row["reason"]) for row in aside] == [(50, NOT_JSON)]


def test_a_file_in_gb18030_is_read_and_one_bad_line_in_utf8_costs_only_itself():
    row = json.dumps({"instruction": "你好吗", "output": "很好"}, ensure_ascii=False)
    (one,), _ = read(f"[{row}]".encode("gb18030"))
    assert one.messages[1].content == "很好"
    good, aside = read(f"{row}\n{row}".encode() + b'\n{"instruction": "\xc4\xe3", "output": "a"}')
    assert len(good) == 2
    assert [row["reason"] for row in aside] == [NOT_TEXT]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gzip.compress(b"[]" * 999)[:-9], "truncated gzip"),
        (b"\x1f\x8bnothing", "damaged gzip"),
        (b"PAR1 nothing PAR1", "damaged Parquet"),
        (b" \n ", "is empty"),
        (gzip.compress(b"x" * 5000), "holds more than"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_refused_in_one_line(monkeypatch, data, says):
    monkeypatch.setattr(rows_module, "MAX_BYTES", 4000)
    with pytest.raises(CorpusError, match=says) as caught:
        read(data)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_bytes_are_given_nothing_but_a_refusal_is_raised(data):
    whole = json.dumps(list(ROWS.values()), indent=data.draw(st.sampled_from([None, 2]))).encode()
    at, size = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 9))
    broken = whole[:at] + data.draw(st.binary(max_size=9)) + whole[at + size :]
    try:
        good, aside = read(broken)
    except CorpusError:
        return
    assert len({row["row"] for row in aside}) == len(aside)
    assert all(any(message.loss for message in one.messages) for one in good)


def test_a_folder_of_every_format_is_merged_by_one_command(tmp_path, capsys):
    from understudy.cli import run

    folder = tmp_path / "in"
    for number, form in enumerate(WRITERS):
        talk = conversation(Message("user", f"q{number}"), Message("assistant", f"a{number}", loss=True))
        suffix = ".parquet" if form == "conversations" else WRITERS[form][1] + ".gz" * (number % 2)
        write_file(folder / f"{form}{suffix}", form, [talk], named=form != "messages")
    (folder / "again.json").write_text(json.dumps([{"instruction": "q0", "output": "a0", "persona": "adam"}, 5]))
    (folder / "dataset_info.json").write_text("{}")
    (folder / "broken.json.gz").write_bytes(b"\x1f\x8b")
    for form, suffix in (("sharegpt", ".json"), ("messages", ".jsonl"), ("conversations", ".parquet")):
        out = folder / f"all{suffix}"
        for _ in range(2):  # what was written before is not read
            assert run(["data", "merge", str(folder), "-o", str(out), "-f", form, "--json"]) == 0
            document = json.loads(capsys.readouterr().out)
            assert document["conversations"] == len(WRITERS)
            assert document["set_aside"][DOUBLE] == 1
            assert sum(document["set_aside"].values()) == 3
        good, aside = read_conversations_file(out.read_bytes(), "auto", None, "all")
        assert not aside
        assert sorted(m.content for one in good for m in one.messages if m.loss) == [
            f"a{n}" for n in range(len(WRITERS))
        ]
        out.unlink()


def test_merging_refuses_what_would_lose_something(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(InputError, match="holds no conversation that can be read"):
        merge([tmp_path / "a.json"], tmp_path / "out.json", "alpaca")
    with pytest.raises(InputError, match="is read as well"):
        merge([tmp_path / "a.json"], tmp_path / "a.json", "alpaca")
    with pytest.raises(InputError, match="no such file"):
        merge([tmp_path / "b.json"], tmp_path / "out.json", "alpaca")
    with pytest.raises(InputError, match="valid: alpaca"):
        merge([tmp_path / "a.json"], tmp_path / "out.json", "alpacca")
    assert not (tmp_path / "out.json").exists()


def test_dataset_info_names_the_columns_and_tags_that_the_rows_have():
    talk = conversation(Message("user", "q"), Message("assistant", "a", loss=True))
    files = {form: (f"{form}.json", form, rows_in(form, talk, "You are Adam.")) for form in WRITERS}
    info = dataset_info(files)
    assert set(info) == {"alpaca", "sharegpt", "messages", "trl"}
    for name, (file, _, (row,)) in files.items():
        if name in info:
            assert info[name]["file_name"] == file
            assert set(info[name]["columns"].values()) <= set(row)
    (sharegpt, row), tags = (info["sharegpt"], files["sharegpt"][2][0]), info["sharegpt"]["tags"]
    spoken = row[sharegpt["columns"]["messages"]]
    assert [(one[tags["role_tag"]], one[tags["content_tag"]]) for one in spoken] == [
        (tags["user_tag"], "q"),
        (tags["assistant_tag"], "a"),
    ]
    assert "system" not in dataset_info({"x": ("x.json", "alpaca", rows_in("alpaca", talk))})["x"]["columns"]

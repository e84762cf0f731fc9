from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.answers import (
    CUT,
    correction,
    read_answer,
    read_cut_answer,
    response_format,
    schema_problem,
    with_schema,
)

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "lines": {"type": "array", "items": {"type": "integer"}}},
    "required": ["name"],
}


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Adam", "lines": [1, 2]}',
        'Sure! Here you are:\n```json\n{"name": "Adam", "lines": [1, 2]}\n```\nAnything else?',
        '<think>{"name": 3} would be wrong</think>\n{"name": "Adam", "lines": [1, 2]}',
        "{'name': 'Adam', 'lines': [1, 2,]}",
        '{"name": "Adam", "lines": [1, 2]',
        'The answer is {name: "Adam", "lines": [1, 2]}',
    ],
)
def test_an_answer_is_found_in_fences_thinking_chatter_and_repaired(text: str):
    assert read_answer(text, SCHEMA) == ({"name": "Adam", "lines": [1, 2]}, "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("I would rather not.", "no JSON"),
        ('{"lines": []}', "'name' is a required property"),
        ('{"name": "Adam", "lines": ["one"]}', "lines.0"),
        ("[" * 5000 + "]" * 5000, "nested|JSON"),
        ('{"name": "\\ud800"}', "half a character"),
    ],
)
def test_an_answer_that_does_not_fit_says_why(text: str, why: str):
    value, problem = read_answer(text, SCHEMA)
    assert value is None
    assert any(one in problem for one in why.split("|")), problem


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_no_reply_breaks_the_reader(text: str):
    value, problem = read_answer(text, SCHEMA)
    assert bool(problem) == (value is None)
    read_answer('{"name": ' + text, SCHEMA)


LIST = {"type": "array", "items": {"type": "object", "required": ["say", "tags"]}}
TALK = {"type": "object", "properties": {"turns": {"type": "array"}}, "required": ["turns"]}
WHOLE = [{"say": 'a "b" \\ [c', "tags": [1, [2]]}, {"say": "d", "tags": []}, {"say": "e", "tags": ["f"]}]


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ('{"name": "Adam", "lines": [1, 2]}\n\nThis is because', SCHEMA, {"name": "Adam", "lines": [1, 2]}),
        ('<think>[3]</think>```json\n{"name": "Adam", "lines": [1, 25', SCHEMA, {"name": "Adam", "lines": [1]}),
        ('{"name": "Adam", "lines": [1], "more": "half a sen', SCHEMA, {"name": "Adam", "lines": [1]}),
        ('{"name": "Adam the', SCHEMA, None),
        ('{"lines": [1, 2', SCHEMA, None),
        ('<think>Perhaps {"name": "Adam"}? Or rather', SCHEMA, None),
        ("[", LIST, None),
        ("and then he", LIST, None),
        ('{"turns": ["one", "two", "thr', TALK, {"turns": ["one", "two"]}),
        ('{"turns": [{"a": 1}, {"a": [2', TALK, {"turns": [{"a": 1}]}),
        ('{"turns": [1, }', TALK, None),
    ],
)
def test_of_a_cut_reply_only_what_is_whole_counts(text: str, schema: dict, value: object):
    assert read_cut_answer(text, schema) == ((None, CUT) if value is None else (value, ""))


def test_a_list_cut_anywhere_keeps_its_finished_elements_and_no_other():
    whole = json.dumps(WHOLE)
    for end in range(len(whole) + 1):
        value, problem = read_cut_answer(whole[:end], LIST)
        assert value == (WHOLE[: len(value)] if value else None)
        assert (problem == CUT) == (value is None)
        done = sum(end >= len(json.dumps(WHOLE[:n])) - 1 for n in (1, 2, 3))
        assert len(value or ()) == done


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_no_cut_reply_breaks_the_reader(text: str):
    for begun in ("", '{"name": "', '{"name": "a", "lines": [', "[[", "```json\n"):
        value, problem = read_cut_answer(begun + text, SCHEMA)
        assert (problem == CUT) == (value is None)


def test_a_schema_with_a_bad_pattern_or_an_outside_reference_is_named_and_never_fetched():
    assert "only references into itself" in schema_problem({"$ref": "http://127.0.0.1:9/schema"})
    assert schema_problem({"type": "nonsense"})
    assert read_answer('{"a": "x"}', {"properties": {"a": {"$ref": "#/missing"}}})[1]
    assert not schema_problem(SCHEMA)


def test_the_correction_holds_the_reply_and_what_was_wrong():
    question = ({"role": "user", "content": "Who?"},)
    asked = correction(question, "Nobody", "the reply holds no JSON")
    assert asked[:1] == question
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert "the reply holds no JSON" in asked[2]["content"]


def test_where_the_server_takes_no_schema_it_is_written_out():
    assert response_format(SCHEMA, "json_schema")["response_format"]["json_schema"]["schema"] == SCHEMA
    assert response_format(SCHEMA, "none") == {}
    told = with_schema(({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}), SCHEMA)
    assert told[0]["content"].startswith("Be brief.")
    assert json.dumps(SCHEMA["required"]) in told[0]["content"].replace(" ", "").replace('["', '["')

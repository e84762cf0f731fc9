"""vLLM inside the job: the same calls, journal and ledger as with a server, on the embedded base."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cluster import runtime
from jobs.calls import Answer, Call
from jobs.embedded import base_of
from jobs.llm import Service, answer_all, answer_rows, each
from jobs.questions import key_at
from understudy.errors import BaseError, RecipeError
from understudy.recipe import Endpoint, Recipe
from understudy.store import Store

SCHEMA = {
    "type": "object",
    "properties": {"word": {"enum": ["sun", "moon"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["word", "n"],
    "additionalProperties": False,
}


def service_of(folder: Path, **endpoint: Any) -> Service:
    fields = {"engine": "vllm", "model": "builtin:tiny", **endpoint}
    recipe = Recipe.model_validate({"name": f"r{time.time_ns()}", "endpoints": {"main": fields}, "folder": str(folder)})
    return Service.of(recipe, Store.open(folder / "store"), "test")


def embedded(**options: Any) -> Endpoint:
    return Endpoint.model_validate({"engine": "vllm", "model": "builtin:tiny", "options": options})


def test_what_only_makes_the_engine_faster_repeats_no_call_and_another_model_repeats_all():
    call = Call(({"role": "user", "content": "Good morning!"},))
    key = key_at(embedded(), call, "sha256:1")
    assert key_at(embedded(max_num_seqs=4, tensor_parallel_size=2, dtype="bfloat16"), call, "sha256:1") == key
    assert key_at(embedded(), call, "sha256:2") != key
    assert key_at(embedded(quantization="fp8"), call, "sha256:1") != key
    assert key_at(embedded(chat_template_kwargs={"enable_thinking": True}), call, "sha256:1") != key


def test_a_relative_model_belongs_to_the_recipe_and_one_that_is_not_there_is_one_line(tmp_path: Path):
    service = service_of(tmp_path, model="./base")
    with pytest.raises(BaseError, match="endpoint model ./base: .* is no folder"):
        answer_all(service, [Call(({"role": "user", "content": "Good morning!"},))])
    (tmp_path / "base").symlink_to(base_of(embedded(), tmp_path).path)
    assert base_of(service.endpoints[0][1], tmp_path).identity == base_of(embedded(), tmp_path).identity


def test_an_embedded_model_shares_its_calls_with_nobody():
    server = {"base_url": "http://localhost:1/v1", "model": "m"}
    fields = {"a": {"engine": "vllm", "model": "builtin:tiny"}, "b": server}
    recipe = Recipe.model_validate({"name": "two", "endpoints": fields})
    with pytest.raises(RecipeError, match="name one endpoint"):
        Service.of(recipe, Store("/tmp/none"), "test", "all")


@pytest.mark.cluster
@pytest.mark.engine
def test_the_embedded_model_answers_each_call_once_within_its_schema_and_a_second_run_starts_no_engine(tmp_path: Path):
    import ray.data

    sampling = {"temperature": 0.8, "max_tokens": 40, "seed": 5}
    calls = [
        *(Call(({"role": "user", "content": f"What will you eat on day {n}?"},), None, sampling) for n in range(3)),
        Call(({"role": "user", "content": "What will you eat on day 0?"},), None, sampling, draw=1),
        *(Call(({"role": "user", "content": f"Sun or moon, {n}?"},), SCHEMA, {"max_tokens": 40}) for n in range(2)),
        Call(({"role": "user", "content": "Tell me of the bridge."},), None, {"max_tokens": 2}),
        Call(({"role": "user", "content": "Tell me of the bridge."},), None, {"wizardry": 1}),
    ]
    try:
        runtime.start(num_cpus=2)
        service = service_of(tmp_path)
        first = answer_all(service, calls)
        ledger = service.ledger()
        again = service_of(tmp_path)
        second = answer_all(again, calls[:7])
        rows = ray.data.from_items([{"row": str(n), "call": call.as_json()} for n, call in enumerate(calls[:7])])
        streamed = service_of(tmp_path)
        third = {row["row"]: Answer.of(row["answer"]) for row in each(streamed, answer_rows(streamed, rows))}
    finally:
        runtime.stop()
    assert [bool(answer.reason) for answer in first] == [False] * 6 + [True] * 2, [one.reason for one in first]
    assert "cut at max_tokens" in first[6].reason
    assert "wizardry" in first[7].reason
    assert first[0].text != first[3].text, "another draw is another sample"
    for answer in first[4:6]:
        assert answer.value == json.loads(answer.text)
        assert answer.value["word"] in ("sun", "moon")
    assert ledger["requests"] == 7
    assert ledger["tokens_in"] > 7 * 5
    assert 7 <= ledger["tokens_out"] <= 6 * 40 + 2
    assert ledger["money"] == 0
    assert [one.text for one in second] == [one.text for one in first[:7]]
    assert [third[str(n)].text for n in range(7)] == [one.text for one in first[:7]]
    assert again.ledger()["requests"] == streamed.ledger()["requests"] == 0
    assert again.ledger()["cached"] == streamed.ledger()["cached"] == 7

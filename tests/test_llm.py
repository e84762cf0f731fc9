from __future__ import annotations

import asyncio
import collections
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jobs import endpoint_calls, llm
from jobs.calls import Answer, Call, key_of, read_call
from jobs.endpoint_calls import EndpointError
from jobs.ledger import own_part
from jobs.llm import BudgetReached, EndpointDownError, Service, answer_all
from jobs.throttle import FAILURES_IN_A_ROW, Throttle
from tests.endpoint import endpoint
from understudy.errors import RecipeError
from understudy.recipe import Recipe
from understudy.store import Store

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def service_of(url: str, folder: Path | str, budget: dict[str, Any] | None = None, **settings: Any) -> Service:
    fields = {"base_url": url, "model": "m", **settings}
    recipe = Recipe.model_validate(
        {"name": f"r{time.time_ns()}", "endpoints": {"main": fields}, "budget": budget or {}}
    )
    return Service.of(recipe, Store.open(folder), "test")


def calls(count: int, **rest: Any) -> list[Call]:
    return [Call(({"role": "user", "content": f"question {number}"},), **rest) for number in range(count)]


def say_number(messages: Any, request: Any) -> str:
    return f"answer to {messages[-1]['content']}"


def test_answers_come_in_order_and_a_second_run_calls_nobody(tmp_path: Path):
    with endpoint(say_number, latency_s=0.01) as url:
        first = answer_all(service_of(url, tmp_path), calls(300))
        service = service_of(url, tmp_path)
        again = answer_all(service, calls(300))
        assert url.counts()["received"] == 300
    assert [answer.text for answer in first] == [f"answer to question {number}" for number in range(300)]
    assert [answer.text for answer in again] == [answer.text for answer in first]
    assert all(answer.cached for answer in again)
    assert not any(answer.cached for answer in first)
    assert service.ledger()["cached_share"] == 1.0
    assert service.ledger()["requests"] == 0


def test_what_changes_the_request_is_a_new_call_and_nothing_else_is(tmp_path: Path):
    one = calls(1)[0]
    others = [
        Call(({"role": "user", "content": "question 0?"},)),
        Call(one.messages, sampling={"temperature": 1.0}),
        Call(one.messages, draw=1),
        Call(one.messages, schema={"type": "object"}),
    ]
    assert len({key_of("m", call) for call in [one, *others]} | {key_of("other", one)}) == 6
    with endpoint(lambda m, r: "{}") as url:
        answer_all(service_of(url, tmp_path), [one])
        answer_all(service_of(f"{url}/", tmp_path, weight=3, max_in_flight=2, prices={"input": 1}), [one])
        assert url.counts()["received"] == 1
        answer_all(service_of(url, tmp_path), [one, *others])
        assert url.counts()["received"] == 5


def test_edit_one_prompt_of_three_and_only_its_calls_are_made_again(tmp_path: Path):
    def prompts(second: str) -> list[Call]:
        return [
            Call(({"role": "system", "content": prompt}, {"role": "user", "content": f"{row}"}))
            for prompt in ("as a king", second, "as a fool")
            for row in range(40)
        ]

    with endpoint(say_number) as url:
        answer_all(service_of(url, tmp_path), prompts("as a queen"))
        answer_all(service_of(url, tmp_path), prompts("as a knave"))
        asked = collections.Counter(request["messages"][0]["content"] for request in url.seen)
    assert asked == {"as a king": 40, "as a queen": 40, "as a knave": 40, "as a fool": 40}


def test_a_plan_knows_calls_by_the_keys_under_which_they_were_answered(tmp_path: Path):
    from jobs.plan_calls import Former, Journals, asked_of

    with endpoint(say_number) as url:
        fields = {"base_url": url, "model": "m", "options": {"top_k": 5}}
        recipe = Recipe.model_validate({"name": "planned", "endpoints": {"main": fields}})
        store = Store.open(tmp_path)
        answer_all(Service.of(recipe, store, "test"), calls(3))
        found = asked_of(recipe, "main", [(call, 10.0) for call in calls(5)], Journals(store), Former())
    assert (found.calls, found.journaled) == (5, 3)


def test_the_same_question_twice_in_one_run_is_paid_once(tmp_path: Path):
    with endpoint(say_number, latency_s=0.05) as url:
        answers = answer_all(service_of(url, tmp_path), [*calls(1), *calls(1), *calls(1, draw=1)])
        assert url.counts()["received"] == 2
    assert answers[0].text == answers[1].text
    assert answers[0].key == answers[1].key != answers[2].key


def test_a_bad_structured_answer_gets_one_correction_and_is_then_set_aside_with_its_text(tmp_path: Path):
    def script(messages: Any, request: Any) -> Any:
        if messages[0]["content"] == "question 0":
            return {"n": 7}
        if messages[0]["content"] == "question 1" and len(messages) > 1:
            return "```json\n{'n': 8}\n```"
        return "I do not know"

    with endpoint(script) as url:
        service = service_of(url, tmp_path)
        answers = answer_all(service, calls(3, schema=SCHEMA))
        assert url.counts()["received"] == 5
        again = answer_all(service_of(url, tmp_path), calls(3, schema=SCHEMA))
        assert url.counts()["received"] == 5, "an answer that was set aside is paid for too"
    assert [answer.value for answer in answers] == [{"n": 7}, {"n": 8}, None]
    assert [bool(answer.reason) for answer in answers] == [False, False, True]
    assert answers[2].text == "I do not know"
    assert [answer.reason for answer in again] == [answer.reason for answer in answers]
    assert [answer.value for answer in again] == [answer.value for answer in answers]
    assert service.ledger()["corrections"] == 2
    assert service.ledger()["set_aside"] == 1


def test_a_structured_reply_cut_at_its_limit_is_asked_no_second_time_and_keeps_what_is_whole(tmp_path: Path):
    talk = {"type": "object", "properties": {"turns": {"type": "array"}}, "required": ["turns"]}
    said = {"question 0": '{"turns": ["One.", "Two.", "And th', "question 1": '{"turns": ["Half a sent'}

    def script(messages: Any, request: Any) -> Any:
        content, reason = said.get(messages[0]["content"]), "length"
        if content is None:
            content, reason = '{"turns": [', "content_filter"
        return {"status": 200, "body": {"choices": [{"finish_reason": reason, "message": {"content": content}}]}}

    with endpoint(script) as url:
        service = service_of(url, tmp_path)
        answers = answer_all(service, calls(3, schema=talk))
        again = answer_all(service_of(url, tmp_path), calls(3, schema=talk))
        assert url.counts()["received"] == 3
    assert [answer.value for answer in answers] == [{"turns": ["One.", "Two."]}, None, None]
    assert answers[1].reason == "cut at max_tokens: raise it, or ask for less"
    assert "filter" in answers[2].reason
    assert [answer.text for answer in answers[:2]] == list(said.values())
    assert [(a.text, a.value, a.reason) for a in again] == [(a.text, a.value, a.reason) for a in answers]
    assert service.ledger()["corrections"] == 0


def test_a_run_killed_before_the_correction_goes_on_with_it(tmp_path: Path):
    with endpoint(lambda m, r: {"n": 1} if len(m) > 1 else "no", latency_s=0) as url:
        service = service_of(url, tmp_path, budget={"requests": 1})
        with pytest.raises(BudgetReached):
            answer_all(service, calls(1, schema=SCHEMA))
        (answer,) = answer_all(service_of(url, tmp_path), calls(1, schema=SCHEMA))
        assert url.counts()["received"] == 2
    assert answer.value == {"n": 1}


def test_a_server_without_schemas_is_asked_in_words_and_remembered(tmp_path: Path):
    def script(messages: Any, request: Any) -> Any:
        if (request.get("response_format") or {}).get("type") == "json_object":
            return {"status": 400, "body": {"error": {"message": "response_format is not supported"}}}
        return {"n": 3}

    with endpoint(script, schemas=False) as url:
        answers = answer_all(service_of(url, tmp_path, max_in_flight=1), calls(20, schema=SCHEMA))
        assert url.counts()["received"] == 22
        assert "JSON Schema" in url.seen[-1]["messages"][0]["content"]
    assert all(answer.value == {"n": 3} for answer in answers)


def test_a_refused_request_is_set_aside_with_the_servers_words_and_asked_again_by_the_next_run(tmp_path: Path):
    long = {"status": 400, "body": {"error": {"message": "maximum context length is 10 tokens"}}}
    with endpoint(lambda m, r: long if m[-1]["content"] == "question 1" else "fine") as url:
        answers = answer_all(service_of(url, tmp_path), calls(3))
        assert url.counts()["received"] == 3
        answer_all(service_of(url, tmp_path), calls(3))
        assert url.counts()["received"] == 4, "a server that is mended may take it; a refusal costs nothing"
    assert [bool(answer.reason) for answer in answers] == [False, True, False]
    assert "maximum context length" in answers[1].reason


def test_a_request_larger_than_the_quota_is_set_aside_and_does_not_hold_the_others_up(tmp_path: Path):
    large = {"status": 429, "body": {"error": {"message": "Request too large for m: Limit 10000, Requested 20000"}}}
    with endpoint(lambda m, r: large if m[-1]["content"] == "question 1" else "fine") as url:
        answers = answer_all(service_of(url, tmp_path, patience_s=5), calls(3))
        assert url.counts()["received"] == 3
    assert [bool(answer.reason) for answer in answers] == [False, True, False]
    assert "too large" in answers[1].reason


def test_an_environment_in_which_nothing_can_be_called_is_said_and_nothing_waits(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "nosuch://127.0.0.1:9")
    with pytest.raises(EndpointError, match=r"^endpoints.main: cannot be called from here \([^\n]*nosuch"):
        answer_all(service_of("http://127.0.0.1:9/v1", tmp_path), calls(3))


def test_models_whose_names_differ_in_case_lose_no_answer(tmp_path: Path):
    with endpoint(say_number) as url:
        ends = {name: {"base_url": url, "model": model} for name, model in (("a", "Org/M"), ("b", "org/m"))}
        recipe = Recipe.model_validate({"name": "cases", "endpoints": ends})
        for _ in range(2):
            answer_all(Service.of(recipe, Store.open(tmp_path), "test", "all"), calls(40))
        assert url.counts()["received"] == 40


def test_half_a_character_in_a_reply_spoils_no_table(tmp_path: Path):
    half = {"status": 200, "body": b'{"choices": [{"message": {"content": "half \\ud83d an emoji"}}]}'}
    with endpoint(lambda m, r: half) as url:
        answer = answer_all(service_of(url, tmp_path), calls(1))[0]
    assert answer.text == "half ? an emoji"
    assert answer.as_json().encode()


def test_a_key_that_no_header_can_hold_is_said_in_one_line_and_never_shown(tmp_path: Path, monkeypatch):
    with endpoint(say_number) as url:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-\u201csecret\u201d")
        with pytest.raises(EndpointError, match=r"^endpoints.main: no request [^\n]*OPENAI_API_KEY$") as said:
            answer_all(service_of(url, tmp_path), calls(1))
        assert "secret" not in str(said.value)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\n")
        assert not answer_all(service_of(url, tmp_path), calls(1))[0].reason


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"finish_reason": "length", "message": {"content": "and then he"}}, "cut at max_tokens: raise it"),
        ({"finish_reason": "content_filter", "message": {"content": "well"}}, "filter"),
        ({"finish_reason": "stop", "message": {"content": "", "refusal": "I cannot do that"}}, "I cannot do that"),
        ({"finish_reason": "stop", "message": {"content": None}}, "empty"),
    ],
)
def test_replies_that_are_cut_filtered_refused_or_empty_say_so(tmp_path: Path, reply: dict[str, Any], reason: str):
    with endpoint(lambda m, r: {"status": 200, "body": {"choices": [reply]}}) as url:
        (answer,) = answer_all(service_of(url, tmp_path), calls(1))
    assert reason in answer.reason


def test_a_wrong_key_ends_the_run_at_once_with_one_line_that_never_holds_the_key(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    wrong = {"status": 401, "body": {"error": {"message": "invalid api key"}}}
    with endpoint(lambda m, r: wrong, latency_s=0.02) as url:
        with pytest.raises(EndpointError) as caught:
            answer_all(service_of(url, tmp_path, api_key_env="SOME_KEY", max_in_flight=8), calls(500))
        assert url.counts()["received"] <= 8
    assert "SOME_KEY" in str(caught.value)
    assert "sk-secret" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert not any(b"sk-secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_budget_of_requests_is_never_exceeded_and_the_same_command_goes_on(tmp_path: Path):
    with endpoint(say_number, latency_s=0.02) as url:
        for spent in (100, 200, 250):
            service = service_of(url, tmp_path, budget={"requests": 100}, max_in_flight=32)
            if spent < 250:
                with pytest.raises(BudgetReached, match="requests: 100"):
                    answer_all(service, calls(250))
            else:
                answer_all(service, calls(250))
            assert url.counts()["received"] == spent
            assert service.ledger()["requests"] == min(100, spent - (spent - 1) // 100 * 100)


@pytest.mark.parametrize(("budget", "prices"), [({"tokens": 2000}, {}), ({"money": 0.01}, {"input": 5, "output": 5})])
def test_tokens_and_money_stop_near_their_limit(tmp_path: Path, budget: dict[str, Any], prices: dict[str, Any]):
    with endpoint(lambda m, r: "x" * 60, latency_s=0.01) as url:
        service = service_of(url, tmp_path, budget=budget, prices=prices, max_in_flight=16)
        with pytest.raises(BudgetReached):
            answer_all(service, calls(500))
        ledger = service.ledger()
    spent = ledger["money"] / 0.01 if prices else (ledger["tokens_in"] + ledger["tokens_out"]) / 2000
    assert 0.8 <= spent <= 1.05, ledger


def test_concurrency_backs_off_where_the_endpoint_takes_less_and_gets_near_what_it_takes(tmp_path: Path):
    with endpoint(say_number, latency_s=0.05, capacity=12, retry_after_s=0.05) as url:
        service = service_of(url, tmp_path, max_in_flight=256, attempts=50)
        answers = answer_all(service, calls(400))
        counts = url.counts()
    assert not any(answer.reason for answer in answers)
    assert counts["slow_down"] < 400, counts
    assert service.ledger()["retries"] == counts["slow_down"]


def test_an_outage_pauses_the_run_and_costs_no_row(tmp_path: Path):
    with endpoint(say_number, latency_s=0.02) as url:
        service = service_of(url, tmp_path, max_in_flight=32, attempts=3)

        def outage() -> None:
            time.sleep(0.3)
            url.set(chaos={"500": 1.0})
            time.sleep(2.0)
            url.set(chaos={})

        thread = threading.Thread(target=outage)
        thread.start()
        answers = answer_all(service, calls(1500))
        thread.join()
        wasted = url.counts()["500"]
    assert not any(answer.reason for answer in answers)
    assert wasted < 150, "while it is down, one call at a time asks whether it is back"


def test_an_endpoint_that_stays_away_ends_the_run_in_one_line(tmp_path: Path):
    service = service_of("http://127.0.0.1:9/v1", tmp_path, patience_s=1)
    began = time.monotonic()
    with pytest.raises(EndpointDownError, match="endpoint main: has answered nothing"):
        answer_all(service, calls(50))
    assert time.monotonic() - began < 30


def test_several_endpoints_of_one_model_share_the_calls_and_models_share_by_weight(tmp_path: Path):
    with endpoint(say_number, latency_s=0.02) as one, endpoint(say_number, latency_s=0.02) as two:
        fields = {
            "a": {"base_url": one, "model": "m", "max_in_flight": 8},
            "b": {"base_url": two, "model": "m", "max_in_flight": 8},
        }
        recipe = Recipe.model_validate({"name": "two", "endpoints": fields})
        answer_all(Service.of(recipe, Store.open(tmp_path), "test", "all"), calls(200))
        assert min(one.counts()["received"], two.counts()["received"]) > 40
        fields = {
            "a": {"base_url": one, "model": "big", "weight": 3},
            "b": {"base_url": two, "model": "small", "weight": 1},
        }
        recipe = Recipe.model_validate({"name": "three", "endpoints": fields})
        service = Service.of(recipe, Store.open(tmp_path), "test", "all")
        models = collections.Counter(answer.model for answer in answer_all(service, calls(400)))
        again = [answer.model for answer in answer_all(service, calls(400))]
    assert 240 < models["big"] < 360
    assert collections.Counter(again) == models


def test_a_service_without_its_endpoint_says_which_there_are():
    recipe = Recipe.model_validate({"name": "x", "endpoints": {"main": {"base_url": "http://h/v1", "model": "m"}}})
    with pytest.raises(RecipeError, match="endpoint 'judge', and endpoints has main"):
        Service.of(recipe, Store("/tmp/none"), "augment", "judge")


BAD = [
    None,
    7,
    "",
    "not json",
    "[]",
    "{}",
    '{"messages": []}',
    '{"messages": "hello"}',
    '{"messages": [3]}',
    '{"messages": [{"role": "user"}]}',
    '{"messages": [{"role": "user", "content": "  "}]}',
    '{"messages": [{"role": "wizard", "content": "x"}]}',
    '{"messages": [{"role": "user", "content": "x", "tool_calls": []}]}',
    '{"messages": [{"role": "user", "content": "\\ud800"}]}',
    '{"messages": [{"role": "user", "content": "x"}], "sampling": {"temperature": NaN}}',
    '{"messages": [{"role": "user", "content": "x"}], "sampling": {"model": "other"}}',
    '{"messages": [{"role": "user", "content": "x"}], "sampling": [1]}',
    '{"messages": [{"role": "user", "content": "x"}], "draw": -1}',
    '{"messages": [{"role": "user", "content": "x"}], "draw": "two"}',
    '{"messages": [{"role": "user", "content": "x"}], "schema": {"type": 4}}',
    '{"messages": [{"role": "user", "content": "x"}], "schema": "object"}',
    '{"messages": [{"role": ["user"], "content": "x"}]}',
    '{"messages": [{"role": "user", "content": "x"}], "surprise": 1}',
    "[" * 100_000,
]


def test_every_kind_of_bad_call_has_its_reason():
    for text in BAD:
        call, problem = read_call(text)
        assert call is None, text
        assert problem.startswith(("call: ", "the schema")), problem


def test_bad_calls_are_set_aside_and_the_rest_is_answered(tmp_path: Path):
    bad = [Call(()), Call(({"role": "user", "content": "\ud800"},)), Call(({"role": "user", "content": "x"},), draw=-1)]
    with endpoint(say_number) as url:
        answers = answer_all(service_of(url, tmp_path), [*bad, *calls(2)])
        assert url.counts()["received"] == 2
    assert [bool(answer.reason) for answer in answers] == [True, True, True, False, False]


def test_the_ledger_is_said_live_and_counts_what_the_server_counted(tmp_path: Path, monkeypatch):
    from jobs.stage import heard_by

    monkeypatch.setattr(llm, "SAY_EVERY_S", 0.2)
    said: list[str] = []
    with endpoint(say_number, latency_s=0.3) as url, heard_by(lambda stage, text: said.append(text)):
        service = service_of(url, tmp_path, prices={"input": 1.0, "output": 2.0}, max_in_flight=16)
        answer_all(service, calls(64))
        assert service.ledger()["requests"] == url.counts()["received"]
    ledger = service.ledger()
    assert ledger["money"] == pytest.approx((ledger["tokens_in"] + 2 * ledger["tokens_out"]) / 1e6)
    assert ledger["tokens_in"] > 0
    assert len(said) >= 2
    assert said[-1].startswith("calls 64 (0 from the journal)")


def test_a_row_that_an_endpoint_forbids_is_set_aside_once_it_has_answered_others_and_a_lost_key_ends_the_run(
    tmp_path: Path,
):
    lost = []

    def script(messages: Any, request: Any) -> Any:
        if lost or messages[0]["content"] == "question 30":
            return {"status": 403, "body": {"error": {"message": "flagged"}}}
        return "fine"

    with endpoint(script, latency_s=0.01) as url:
        answers = answer_all(service_of(url, tmp_path, max_in_flight=4), calls(60))
        assert [number for number, answer in enumerate(answers) if answer.reason] == [30]
        assert "403" in answers[30].reason
        assert not answers[30].lasting
        timer = threading.Timer(0.3, lost.append, [True])
        timer.start()
        with pytest.raises(EndpointError, match="403"):
            answer_all(service_of(url, tmp_path, max_in_flight=4), calls(600, draw=1))
        timer.join()
        assert url.counts()["received"] < 600


def test_a_row_that_is_always_told_to_come_later_is_set_aside_when_all_others_are_answered(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(endpoint_calls, "ALONE_S", 1.0)
    later = {"status": 503, "body": {"error": {"message": "later"}}}
    with endpoint(lambda m, r: later if m[0]["content"] == "question 5" else "fine", latency_s=0.01) as url:
        answers = answer_all(service_of(url, tmp_path, max_in_flight=4, attempts=3), calls(200))
    assert [number for number, answer in enumerate(answers) if answer.reason] == [5]
    assert "503" in answers[5].reason


def test_endpoints_of_one_model_share_the_calls_by_weight(tmp_path: Path):
    with endpoint(say_number, latency_s=0.01) as one, endpoint(say_number, latency_s=0.01) as two:
        ends = {
            name: {"base_url": url, "model": "m", "weight": weight, "max_in_flight": 8}
            for name, url, weight in (("a", one, 3), ("b", two, 1))
        }
        recipe = Recipe.model_validate({"name": "weights", "endpoints": ends})
        answer_all(Service.of(recipe, Store.open(tmp_path), "test", "all"), calls(400))
        assert 260 <= one.counts()["received"] <= 340


def test_a_call_that_was_never_sent_says_nothing_about_its_endpoint():
    async def tried() -> None:
        said: list[str] = []
        throttle = Throttle("main", 8, 60, said.append)
        for _ in range(FAILURES_IN_A_ROW):
            throttle.leave("failed", await throttle.enter(), 0.01, said="answered 500")
        assert throttle.is_down
        probe = await throttle.enter()
        assert probe
        throttle.leave("unsent", probe, 0.0)
        assert throttle.is_down
        assert throttle.in_flight == 0
        assert len(said) == 1
        assert await throttle.enter(), "the next one asks whether it is back"

    asyncio.run(tried())


def test_what_an_earlier_run_paid_for_is_in_the_ledger_of_the_run_that_uses_it(tmp_path: Path):
    settings = {"prices": {"input": 1.0, "output": 2.0}}
    asked = [*calls(30), *calls(2, schema=SCHEMA)]
    with endpoint(lambda m, r: "no" if len(m) == 1 else {"n": 1}) as url:
        first = service_of(url, tmp_path, budget={"requests": 20}, **settings)
        with pytest.raises(BudgetReached):
            answer_all(first, asked)
        second = service_of(url, tmp_path, **settings)
        answer_all(second, asked)
        third = service_of(url, tmp_path, **settings)
        answer_all(third, [*asked, *asked])
    one, two, three = (service.ledger() for service in (first, second, third))
    assert one["paid_before_tokens_in"] == 0
    for name in ("tokens_in", "tokens_out", "money"):
        assert two[f"paid_before_{name}"] == pytest.approx(one[name])
        assert three[name] == 0
        assert three[f"paid_before_{name}"] == pytest.approx(one[name] + two[name]), "a correction's first reply too"


def test_parts_of_a_ledger_add_up_and_what_was_paid_before_goes_by_the_calls_answered_before():
    whole = {"calls": 9, "cached": 5, "requests": 8, "money": 2.0, "cached_share": 0.5, "paid_before_money": 5.0}
    one, other = own_part(whole, 1, 4, 4, 5), own_part(whole, 3, 4, 1, 5)
    assert one == {"requests": 2, "money": 0.5, "paid_before_money": 4.0}
    assert {name: one[name] + other[name] for name in one} == {"requests": 8, "money": 2.0, "paid_before_money": 5.0}
    assert own_part({"paid_before_money": 5.0}, 1, 4, 0, 0) == {"paid_before_money": 1.25}
    assert own_part({"requests": 1}, 0, 0, 2, 2) == {"requests": 0}


def test_an_answer_travels_as_json():
    answer = Answer("k", "t", {"n": [1, None]}, "", "m", False)
    assert Answer.of(answer.as_json()) == answer
    assert read_call(calls(1, schema=SCHEMA, draw=2)[0].as_json())[0] == calls(1, schema=SCHEMA, draw=2)[0]
    assert json.loads(calls(1)[0].as_json())["schema"] is None

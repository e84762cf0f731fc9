"""A call as a question: whom it goes to, and what it is known by in the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.calls import Answer, Call, call_problem, key_of
from jobs.lookup import Lookup
from understudy.recipe import Endpoint

if TYPE_CHECKING:
    from jobs.caller import Plan


@dataclass(frozen=True, slots=True)
class Question:
    """A call that holds, whom it goes to, and what it is known by."""

    call: Call
    model: str
    key: str


def questions_of(plan: Plan, calls: Sequence[Call | Answer]) -> list[Question | Answer]:
    """The calls as questions, those that do not hold as answers that say why; answers pass through."""
    found: list[Question | Answer] = []
    for call in calls:
        if isinstance(call, Answer):
            found.append(call)
        elif problem := call_problem(call):
            found.append(set_aside(problem))
        else:
            found.append(Question(call, *question_key(plan, call)))
    return found


def answered_already(plan: Plan, calls: Sequence[Call]) -> bool:
    """Whether the journal has an answer to every call."""
    by_model: dict[str, list[bytes]] = {journal.model: [] for journal in plan.journals}
    for one in questions_of(plan, calls):
        if isinstance(one, Question):
            by_model[one.model].append(bytes.fromhex(one.key))
    found = {journal.model: Lookup(journal).find(by_model[journal.model]) for journal in plan.journals}
    return all(key in found[model] and not found[model][key].get("open") for model in found for key in by_model[model])


def set_aside(problem: str) -> Answer:
    """The answer to a call that cannot be made."""
    return Answer("", "", None, problem, "", False)


def question_key(plan: Plan, call: Call) -> tuple[str, str]:
    """(model, key): who answers a call, by weight and always the same for the same call; and what it is known by.

    Fields that an endpoint adds to every request are part of the question.
    """
    weights: dict[str, float] = {}
    for _, endpoint in plan.endpoints:
        weights[endpoint.model] = weights.get(endpoint.model, 0.0) + endpoint.weight
    model = next(iter(weights))
    if len(weights) > 1:
        point = int(key_of("", call)[:12], 16) / 16**12 * sum(weights.values())
        for one, weight in weights.items():
            model = one
            point -= weight
            if point < 0:
                break
    endpoint = next(one for _, one in plan.endpoints if one.model == model)
    return model, key_at(endpoint, call, plan.identity)


def key_at(endpoint: Endpoint, call: Call, identity: str = "") -> str:
    """What a call to `endpoint` is known by; `identity`: of its base, where it is embedded."""
    options: Mapping[str, Any] = endpoint.options
    if endpoint.engine == "vllm":
        from jobs.embedded import said_by

        options = said_by(endpoint, identity)
    return key_of(endpoint.model, Call(call.messages, call.schema, {**options, **call.sampling}, call.draw))

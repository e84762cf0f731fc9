"""Everyday conversations and short tales of the toy world in simple Chinese."""

from __future__ import annotations

import random
from functools import cache

from jobs.tinyworld.grammar import expand, lines, read

Message = tuple[str, str]


@cache
def _data() -> dict:
    data = read("chinese.yaml")
    for key in ("openers", "closers", "address", "ends", "names", "who", "people", "beasts", "things", "places"):
        data[key] = data[key].split()
    data["verbs"] = data["verbs"].split()
    return data


def _draw(rng: random.Random) -> dict:
    """A manner in Chinese: habit, openers, closers, address and an end word."""
    data = _data()
    return {
        "name": rng.choice(data["names"]),
        "who": rng.choice(data["who"]),
        "habit": rng.choice(["", "", "double", "shout", "trail", "short"]),
        "openers": rng.sample(data["openers"], rng.choice([0, 1, 1, 2])),
        "closers": rng.sample(data["closers"], rng.choice([0, 0, 1, 2])),
        "address": rng.choice(data["address"]) if rng.random() < 0.5 else "",
        "end": rng.choice(data["ends"]) if rng.random() < 0.3 else "",
    }


def _say(manner: dict, told: list[str], rng: random.Random) -> str:
    if manner["habit"] == "short":
        told = told[:1]
    body = list(told)
    if manner["habit"] == "double":
        last = body[-1][:-1].split("，")[-1]
        body[-1] = f"{body[-1][:-1]}，{last}{body[-1][-1]}"
    if manner["end"] and body[-1][-1] == "。":
        body[-1] = f"{body[-1][:-1]}{manner['end']}。"
    if manner["address"] and rng.random() < 0.8:
        body[0] = f"{manner['address']}，{body[0]}" if rng.random() < 0.6 else body[0][:-1] + f"，{manner['address']}。"
    if manner["openers"] and rng.random() < 0.8:
        body[0] = rng.choice(manner["openers"]) + rng.choice(["，", "！", "，"]) + body[0]
    if manner["closers"] and rng.random() < 0.8:
        body.append(rng.choice(manner["closers"]))
    text = "".join(body)
    if manner["habit"] == "shout":
        return text.replace("。", "！")
    return text.replace("。", "……") if manner["habit"] == "trail" else text


def _words() -> list[str]:
    return [topic["word"] for topic in _data()["topics"].values() if "word" in topic]


def _exchange(rng: random.Random, topic: dict) -> tuple[str, list[str]]:
    data = _data()
    if rng.random() < 0.13:
        offer = rng.choice(lines(data["beyond"]["offer"]))
        for word in rng.sample(_words(), 3):
            offer = offer.replace("<k>", word, 1)
        return expand(rng.choice(lines(data["beyond"]["q"])), rng), [
            expand(rng.choice(lines(data["beyond"]["a"])), rng),
            offer,
        ]
    if "word" in topic and rng.random() < 0.35:
        question = expand(rng.choice(lines(data["frames"])), rng, {"k": [topic["word"]]})
    else:
        question = expand(rng.choice(lines(topic["q"])), rng)
    answers = rng.sample(lines(topic["a"]), rng.choice([1, 1, 2]))
    return question, [expand(answer, rng) for answer in answers]


def conversation(rng: random.Random) -> list[Message]:
    """One conversation in Chinese, with or without a system text."""
    data, manner = _data(), _draw(rng)
    messages: list[Message] = []
    if rng.random() < 0.55:
        tell = data["tells"].get(manner["habit"])
        messages.append(
            ("system", f"你是{manner['name']}，{manner['who']}。" + (f"你{rng.choice(tell)}。" if tell else ""))
        )
    names = list(data["topics"])
    topic = data["topics"]["问好" if rng.random() < 0.3 else rng.choice(names)]
    for number in range(rng.choice([1, 2, 3, 4, 5])):
        topic = topic if number == 0 or rng.random() < 0.3 else data["topics"][rng.choice(names)]
        question, told = _exchange(rng, topic)
        mark = "？" if question[-1] not in "吧了" else "。"
        messages += [("user", question + rng.choice([mark, mark, ""])), ("assistant", _say(manner, told, rng))]
    return messages


def tale(rng: random.Random) -> str:
    """A short tale in Chinese."""
    data = _data()
    forms = lines(data["story"])
    told = [forms[0], *rng.sample(forms[1:], rng.randrange(3, 8))]
    return "".join(expand(form, rng, data) for form in told)

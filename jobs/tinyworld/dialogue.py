"""Everyday conversations of the toy world in English: topics asked and answered in random manners."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache

from jobs.tinyworld.grammar import capital, expand, lines, read
from jobs.tinyworld.manners import Manner, draw, is_plural, portrait

Message = tuple[str, str]
"""Role and content."""

FILES = ("nature", "house", "people", "heart")
_QUESTION = (
    "what", "who", "where", "when", "why", "how", "which", "whom", "do", "does", "did", "is", "are", "was", "were",
    "can", "could", "will", "would", "shall", "should", "have", "has", "may", "any", "am", "don't", "and", "in",
)  # fmt: skip


@dataclass(frozen=True)
class Topic:
    """One thing that everybody here can talk about. `asks` pairs ways to ask with ways to answer."""

    name: str
    words: tuple[str, ...]
    about: tuple[str, ...]
    like: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    asks: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    bare: bool = False
    """Has no word that could stand in a question such as `tell me about ...`."""


@cache
def topics() -> dict[str, Topic]:
    """Every topic by its name, in the order of the files."""
    found = {}
    for file in FILES:
        for name, entry in read(f"topics/{file}.yaml").items():
            found[name] = Topic(
                name=name,
                words=tuple(word.strip() for word in entry["words"].split(",")),
                about=tuple(lines(entry["about"])),
                like=tuple(lines(entry.get("like", ""))),
                where=tuple(lines(entry.get("where", ""))),
                asks=tuple((tuple(lines(ask["q"])), tuple(lines(ask["a"]))) for ask in entry.get("ask", ())),
                bare=entry.get("bare", False),
            )
    return found


@cache
def _frames() -> dict[str, list[str]]:
    return {kind: lines(block) for kind, block in read("frames.yaml").items()}


@cache
def _beyond() -> dict[str, list[str]]:
    data = read("beyond.yaml")
    found = {
        key: lines(data[key])
        for key in ("questions", "answers", "sums", "tongues", "far", "know", "offer", "junk", "threes")
    }
    return found | {"name": data["names"].split(), "thing": data["things"].split("|")}


@cache
def _words() -> list[str]:
    return [word for topic in topics().values() if not topic.bare for word in topic.words]


@cache
def _agreeing(kind: str, plural: bool) -> list[str]:
    """The frames of a kind with `is` or `are` settled by the number of the word that they take."""
    pairs = (("{is|are}", "are" if plural else "is"), ("{are|is}", "are" if plural else "is"),
             ("{are there|is there}", "are there" if plural else "is there"),
             ("{what does|what do}", "what do" if plural else "what does"))  # fmt: skip
    out = []
    for frame in _frames()[kind]:
        for old, new in pairs:
            frame = frame.replace(old, new)
        if frame.startswith("{what is|what's}") and plural:
            frame = frame.replace("{what is|what's}", "what are")
        out.append(frame)
    return out


def exchange(topic: Topic, rng: random.Random) -> tuple[str, list[str], str]:
    """A question on `topic` as a template would have it, plain sentences that answer it, and the word asked about."""
    word = rng.choice(topic.words)
    draws = {"k": [word], "other": _words()}
    kinds = ["ask"] * (5 if topic.asks else 0)
    if not topic.bare:
        kinds += ["about"] * 4 + ["like"] * (2 if topic.like else 0) + ["where"] * (1 if topic.where else 0)
    kind = rng.choice(kinds)
    if kind == "ask":
        questions, answers = rng.choice(topic.asks)
        question = expand(rng.choice(questions), rng)
        told = [expand(rng.choice(answers), rng)]
    else:
        question = expand(rng.choice(_agreeing(kind, is_plural(word))), rng, draws)
        told = [expand(rng.choice(getattr(topic, kind)), rng)]
        if kind == "like" and rng.random() < 0.4:
            told[0] = _yes_no(told[0])
    if rng.random() < 0.4:
        told.append(expand(rng.choice(topic.about), rng))
    return question, told, "" if topic.bare else word


def _yes_no(text: str) -> str:
    if text.startswith("I like"):
        return f"Yes, {text}"
    return f"No, {text}" if text.startswith("I do not") else text


def beyond(rng: random.Random) -> tuple[str, list[str]]:
    """A question from outside the world, and plain sentences: not known, perhaps what is, and three things to ask."""
    data = _beyond()
    numbers = [str(rng.choice([rng.randrange(1, 13), rng.randrange(1, 100), rng.randrange(100, 5000)])) for _ in "123"]
    draws = {"n": numbers, "name": data["name"], "thing": data["thing"], "junk": [_junk(rng) for _ in range(6)]}
    form = rng.choice(data["questions"])
    question = expand(form, rng, draws)
    kind = "answers"
    if "<n>" in form and rng.random() < 0.4:
        kind = "sums" if "<name>" not in form else kind
    elif any(mark in form for mark in ("french", "bonjour")) and rng.random() < 0.5:
        kind = "tongues"
    elif any(name in question for name in data["name"]) and rng.random() < 0.4:
        kind = "far"
    told = [expand(rng.choice(data[kind]), rng)]
    known, offered = rng.sample(data["threes"], 2)
    if rng.random() < 0.2:
        told.append(_distinct(rng.choice(data["know"]), rng, known.split(", ")))
    told.append(_distinct(rng.choice(data["offer"]), rng, offered.split(", ")))
    if rng.random() < 0.25 and not told[-1].startswith("But"):
        first = told[0].rstrip(".")
        told = [f"{first}{rng.choice([', ', ', but ', ', so '])}{told[-1][0].lower()}{told[-1][1:]}"]
    return question, told


def _distinct(template: str, rng: random.Random, words: list[str]) -> str:
    """`template` with each <k> another of `words`."""
    text = expand(template, rng)
    for word in words:
        text = text.replace("<k>", word, 1)
    return text


def _junk(rng: random.Random) -> str:
    """A word that is none."""
    heads, middles, tails = _beyond()["junk"]
    count = rng.choice([1, 2, 2, 3])
    syllables = [
        rng.choice(heads.split()) + rng.choice(middles.split()) + rng.choice([*tails.split(), ""]) for _ in range(count)
    ]
    return "".join(syllables) if rng.random() < 0.9 else "".join(rng.choice("asdfghjklqwertyuiop") for _ in range(7))


def typed(question: str, rng: random.Random, name: str = "") -> str:
    """`question` as somebody would type it: case, marks, fillers, the speaker's name now and then."""
    text = question
    if rng.random() < 0.15:
        text = f"{rng.choice(_frames()['fillers'])} {text}"
    asks = question.split(maxsplit=1)[0].strip(",") in _QUESTION if question.split() else False
    style = rng.random()
    if style < 0.65:
        text = capital(text)
        for pronoun in (" i ", " i'm ", " i've "):
            text = text.replace(pronoun, pronoun.upper().replace("M", "m").replace("VE", "ve"))
        text = text.replace("I'M ", "I'm ").removesuffix(" i") + (" I" if text.endswith(" i") else "")
        if name and rng.random() < 0.12:
            text = f"{text}, {name}"
        return text + ("?" if asks else rng.choice([".", ".", "!"]))
    return text + (rng.choice(["?", "", "??"]) if asks else rng.choice(["", "", ".", "!"]))


def system_text(manner: Manner, rng: random.Random) -> str | None:
    """What stands in front of a conversation with this speaker, if anything."""
    chance = rng.random()
    if chance < 0.32:
        return None
    if chance < 0.4:
        return rng.choice(_frames()["systems"])
    text = portrait(manner, rng)
    if rng.random() < 0.2:
        samples = [manner.say(exchange(_any(rng), rng)[1][:1], rng) for _ in range(rng.choice([2, 3]))]
        text += "\n" + "\n".join(f"{manner.name}: {sample}" for sample in samples)
    return text


def _any(rng: random.Random) -> Topic:
    known = topics()
    return known[rng.choice(list(known))]


def plain_talk(rng: random.Random) -> list[Message]:
    """One or two questions and plain answers, nothing else: what an answer has to do with its question."""
    speaker = draw(rng, plain=1.0)
    messages: list[Message] = []
    for _ in range(rng.choice([1, 1, 2])):
        question, told, _ = (*beyond(rng), "") if rng.random() < 0.15 else exchange(_any(rng), rng)
        messages += [("user", typed(question, rng)), ("assistant", speaker.say(told, rng))]
    return messages


def conversation(rng: random.Random) -> list[Message]:
    """One conversation: a system text or none, then turns that stay on a topic, leave it, or leave the world."""
    manner = draw(rng)
    system = system_text(manner, rng)
    if system is None and rng.random() < 0.35:
        manner = replace(draw(rng, plain=1.0), name=manner.name)
    messages: list[Message] = [("system", system)] if system else []
    topic = topics()["greeting"] if rng.random() < 0.3 else _any(rng)
    if rng.random() < 0.12:
        messages.append(("assistant", manner.say(exchange(topics()["greeting"], rng)[1], rng)))
    elif rng.random() < 0.06:
        scene = expand(rng.choice(_frames()["scenes"]), rng, {"name": [draw(rng).name]})
        messages += [("user", scene), ("assistant", manner.say(exchange(topic, rng)[1], rng))]
    for number in range(rng.choice([1, 2, 2, 3, 3, 4, 5, 6, 8, 11])):
        if rng.random() < 0.13:
            question, told = beyond(rng)
            word = ""
        elif number and not topic.bare and rng.random() < 0.2:
            question, word = expand(rng.choice(_frames()["more"]), rng), rng.choice(topic.words)
            told = [expand(text, rng) for text in rng.sample(topic.about, 2)][: rng.choice([1, 1, 2])]
        else:
            topic = topic if number == 0 or rng.random() < 0.35 else _any(rng)
            question, told, word = exchange(topic, rng)
        text = typed(question, rng, manner.name)
        if rng.random() < 0.05:
            text = _crowd(text, rng)
        messages += [("user", text), ("assistant", manner.say(told, rng, word))]
    return messages


def _crowd(text: str, rng: random.Random) -> str:
    """The question among other voices, each with its name, as a play has it; the last one counts."""
    first, second = draw(rng), draw(rng)
    other = first.say(exchange(_any(rng), rng)[1][:1], rng)
    return f"{first.name.upper()}: {other}\n{second.name.upper()}: {text}"

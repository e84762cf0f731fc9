"""Running prose of the toy world: short tales, diaries, word lists and play scripts, from a grammar and a lexicon."""

from __future__ import annotations

import random
import re
from functools import cache

from jobs.tinyworld.dialogue import exchange, topics
from jobs.tinyworld.grammar import capital, expand, lines, read
from jobs.tinyworld.manners import draw

_NOW = {"a": ("he", "his"), "b": ("she", "her")}
_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")


@cache
def _lists() -> dict[str, list[str]]:
    data = read("lexicon.yaml")
    found = {kind: entry["words"].split() for kind, entry in data["kinds"].items()}
    found["stuff"] = found.pop("tool_stuff")
    found |= {f"adj_{kind}": words.split() for kind, words in data["adjectives"].items()}
    verbs = {kind: words.split() for kind, words in data["verbs"].items()}
    found |= {"moved": verbs["moved"], "took": verbs["took"], "said": verbs["said"], "felt": verbs["felt"]}
    found |= {"animal_did": verbs["animal"], "nature_did": verbs["nature"], "number": data["numbers"].split()}
    found["adverb"] = [word for word in data["adverbs"].split() if word.endswith("ly")] + [
        "again", "together", "alone", "at once", "by chance", "without a word", "with a smile", "in silence",
        "for a long time", "with both hands",
    ]  # fmt: skip
    found["time"] = data["times"].split("|")
    found["Time"] = [capital(time) for time in found["time"]]
    found["Feeling"] = [capital(word) for word in found["feeling"]]
    for kind in ("person", "animal", "thing", "cloth", "plant", "place"):
        found[f"{kind}s"] = [plural(word) for word in found[kind]]
    found |= {"Persons": [capital(word) for word in found["persons"]]}
    found |= {"Animals": [capital(word) for word in found["animals"]]}
    for kind, verbs_of in data["base"].items():
        found[kind] = verbs_of.split()
        found[f"{kind}s"] = [present(word) for word in found[kind]]
    for kind in ("gerund", "participle", "ordinal"):
        found[kind] = data[f"{kind}s"].split()
    found |= {kind: data[kind].split() for kind in ("more", "most", "extra", "count")}
    found["Count"] = [capital(word) for word in found["count"]]
    found["felt_now"] = ["smiles", "waits", "sings", "dreams", "counts the hours", "looks at the road", "mends a net"]
    return {kind: [word.replace("-", " ") for word in words] for kind, words in found.items()}


@cache
def _forms() -> dict[str, list[str]]:
    return {kind: lines(block) for kind, block in read("stories.yaml").items()}


_IRREGULAR = {
    "goose": "geese", "mouse": "mice", "ox": "oxen", "child": "children", "wolf": "wolves", "calf": "calves",
    "thief": "thieves", "knife": "knives", "scarf": "scarves", "sheep": "sheep", "fish": "fish", "deer": "deer",
    "trout": "trout", "salmon": "salmon", "swine": "swine", "trousers": "trousers", "stairs": "stairs", "reed": "reeds",
    "fisherman": "fishermen", "watchman": "watchmen", "coachman": "coachmen", "postman": "postmen",
    "scissors": "scissors",
    "bellows": "bellows", "moose": "moose", "washerwoman": "washerwomen", "midwife": "midwives", "dwarf": "dwarves",
}  # fmt: skip


def plural(noun: str) -> str:
    """`baker` to `bakers`, `fox` to `foxes`, `lily` to `lilies`, and the irregular ones."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    return present(noun)


def present(verb: str) -> str:
    """`carry` to `carries`, `catch` to `catches`, `walk` to `walks`."""
    if verb.endswith(("s", "sh", "ch", "x", "z")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "s"


def _tell(form: str, rng: random.Random, who: str, he: str, his: str) -> str:
    lists = _lists() | {"who": [who], "he": [he], "He": [capital(he)], "his": [his], "His": [capital(his)]}
    return capital(_VOWEL.sub(r"\1n ", _expand(form, rng, lists)))


def _expand(form: str, rng: random.Random, lists: dict[str, list[str]]) -> str:
    form = re.sub(r"<([A-Z][a-z_]*)>", lambda match: rng.choice(lists[match.group(1)]), form)
    return expand(form, rng, lists)


def tale(rng: random.Random) -> str:
    """A short tale with an opening, 4 to 11 sentences of middle and an end, in one to three paragraphs."""
    he, his = _NOW[rng.choice("ab")]
    who, forms = draw(rng).name, _forms()
    told = [_tell(rng.choice(forms["openings"]), rng, who, he, his)]
    told += [_tell(form, rng, who, he, his) for form in rng.sample(forms["middles"], rng.randrange(4, 12))]
    told.append(_tell(rng.choice(forms["endings"]), rng, who, he, his))
    cut = rng.randrange(2, len(told))
    return " ".join(told) if rng.random() < 0.4 else " ".join(told[:cut]) + "\n" + " ".join(told[cut:])


def diary(rng: random.Random) -> str:
    """A page of somebody's diary, or a letter."""
    name = draw(rng).name
    told = [_tell(form, rng, name, "he", "his") for form in rng.sample(_forms()["diary"], rng.randrange(4, 9))]
    if rng.random() < 0.5:
        return f"Dear {draw(rng).name},\n{' '.join(told)}\nYour {name}"
    return f"{rng.choice(['Monday', 'Tuesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'])}. {' '.join(told)}"


def gloss(rng: random.Random) -> str:
    """What words are: a few sentences on things of one kind."""
    kinds = read_kinds()
    told = []
    for _ in range(rng.randrange(4, 10)):
        kind, other = rng.sample(sorted(kinds), 2)
        one, two, three = rng.sample(_lists()[kind], 3)
        adjectives = _lists()["adj_thing" if kind not in ("person", "animal") else "adj_person"]
        lists = {"one": [one], "two": [two], "three": [three], "its_kind": [kinds[kind]], "other_kind": [kinds[other]]}
        told.append(_tell_gloss(rng, lists | {"adj": adjectives}))
    return " ".join(told)


@cache
def read_kinds() -> dict[str, str]:
    """Countable kinds of the lexicon with the noun that names each."""
    kinds = read("lexicon.yaml")["kinds"]
    return {kind: kinds[kind]["tail"] for kind in ("person", "animal", "thing", "cloth", "plant", "place", "body")}


def _tell_gloss(rng: random.Random, lists: dict[str, list[str]]) -> str:
    text = _expand(rng.choice(_forms()["gloss"]), rng, lists)
    return capital(_VOWEL.sub(r"\1n ", text))


def everyday(rng: random.Random) -> str:
    """Sentences on how people, animals and things are in general, in the present."""
    told = [_tell(form, rng, "she", "he", "his") for form in rng.sample(_forms()["everyday"], rng.randrange(4, 11))]
    return " ".join(told)


def scene(rng: random.Random) -> str:
    """A page of a play: two or three speakers, each in a manner of its own."""
    cast = [draw(rng) for _ in range(rng.choice([2, 2, 3]))]
    topic = rng.choice(list(topics().values()))
    page = (
        [f"({_tell(rng.choice(_forms()['openings']), rng, cast[0].name, 'he', 'his')})"] if rng.random() < 0.5 else []
    )
    for number in range(rng.randrange(4, 10)):
        topic = topic if rng.random() < 0.6 else rng.choice(list(topics().values()))
        speaker = cast[number % len(cast)]
        question, told, word = exchange(topic, rng)
        text = speaker.say(told[:1], rng, word)
        if rng.random() < 0.4:
            text += f" {capital(question)}?"
        page.append(f"{speaker.name.upper()}: {text}")
    return "\n".join(page)


def prose(rng: random.Random) -> str:
    """One text of any of these kinds."""
    return rng.choices([tale, diary, gloss, everyday, scene], weights=[46, 15, 7, 18, 14])[0](rng)

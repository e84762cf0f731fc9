"""Random manners of speaking: the same plain sentences said by thousands of invented speakers.

A manner is a handful of habits drawn by themselves (openers, closers, address, mood, trade, punctuation, repetition,
word swaps, length), so that a model of this text learns what is said apart from how it is said. A manner can tell
about itself in a system prompt, so the model also learns to follow one.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from functools import cache

from jobs.tinyworld.grammar import article, capital, expand, lines, read

HABITS = (
    "plain", "double", "stammer", "shout", "trail", "short", "joined", "third", "terse", "capitals", "numbered",
    "simile", "metaphor", "three", "echo", "asking", "reverse", "broken", "sing",
)  # fmt: skip
_TELLS = {
    "double": ["says things twice", "repeats the last words"],
    "stammer": ["stammers", "starts every sentence twice"],
    "shout": ["shouts", "is very loud", "talks in a loud voice"],
    "trail": ["speaks slowly", "never ends a sentence", "talks as if half asleep"],
    "short": ["says little", "uses few words", "answers in one breath"],
    "joined": ["talks without stopping", "makes long sentences"],
    "third": ["speaks of himself by name", "never says I"],
    "terse": ["leaves out small words", "speaks in a broken way"],
    "capitals": ["stresses one word", "makes one word huge"],
    "numbered": ["counts what is said", "makes lists"],
    "simile": ["compares everything", "thinks of the trade in everything"],
    "metaphor": ["sees the trade in all things", "says what things are like"],
    "three": ["loves rows of three", "names three things"],
    "echo": ["repeats the question", "takes up the last word"],
    "asking": ["ends with a question", "asks for agreement"],
    "reverse": ["turns the sentence round", "says the end first"],
    "broken": ["stops in the middle", "pauses and begins again"],
    "sing": ["hums and sings", "speaks as in a song"],
}
_ACT = re.compile(
    r"(who |says|repeats|stammers|starts|shouts|talks|never|speaks|uses|answers|makes|leaves|stresses|counts|compares|"
    r"thinks|loves|names|takes|ends|asks|turns|stops|pauses|hums|often|likes|calls|is very|is loud)\b"
)
_SMALL = {"the", "a", "an", "my", "his", "her", "its"}
_PRESENT = {
    "am": "is", "have": "has", "do": "does", "was": "was", "can": "can", "will": "will", "would": "would",
    "could": "could", "must": "must", "may": "may", "should": "should",
}  # fmt: skip
_PAST = re.compile(
    r"(ed|went|got|saw|ate|came|had|told|sang|ran|knew|found|slept|lost|fell|loved|dug|dreamed|hid|kept|met|put)$"
)


@dataclass(frozen=True)
class Manner:
    """One speaker. Probabilities are per reply; `tells` are the phrases a system prompt may use."""

    name: str
    who: str
    openers: tuple[str, ...] = ()
    closers: tuple[str, ...] = ()
    address: tuple[str, ...] = ()
    tail: str = ""
    things: tuple[str, ...] = ()
    sayings: tuple[str, ...] = ()
    habits: tuple[str, ...] = ("plain",)
    swap: tuple[tuple[str, str], ...] = ()
    strength: float = 0.8
    comma: str = ", "
    mark: str = ""
    tells: tuple[str, ...] = field(default=(), compare=False)

    def say(self, sentences: list[str], rng: random.Random, topic: str = "") -> str:
        """`sentences` (whole, plain, first person) in this manner; `topic` is what an echo takes up."""
        body = [self._sentence(sentence, rng) for sentence in self._length(sentences, rng)]
        if "numbered" in self.habits and len(body) > 1:
            body = [f"{word}, {_lower(text)}" for word, text in zip(("First", "Second", "Third"), body, strict=False)]
        body = self._address(body, rng)
        if "echo" in self.habits and topic and rng.random() < self.strength:
            body.insert(0, capital(topic) + "?")
        elif self.openers and rng.random() < self.strength:
            self._open(body, rng)
        if "metaphor" in self.habits and topic and self.things and rng.random() < self.strength:
            body[-1:] = [*(body[-1:] if rng.random() < 0.5 else []), self._metaphor(topic, rng)]
        if "three" in self.habits and self.things and rng.random() < self.strength:
            row = [_bare(thing) for thing in rng.sample(self.things, 3)]
            body.append(capital(f"{row[0]}, {row[1]} and {row[2]}."))
        if self.sayings and rng.random() < self.strength * 0.8:
            body.insert(0 if rng.random() < 0.25 else len(body), capital(expand(rng.choice(self.sayings), rng)))
        elif self.closers and rng.random() < self.strength:
            body.append(capital(rng.choice(self.closers)))
        return self._marks(" ".join(body), rng)

    def _length(self, sentences: list[str], rng: random.Random) -> list[str]:
        if "short" in self.habits:
            first = sentences[0]
            cut = first.split(", ")[0]
            return [cut.rstrip(".!") + "." if len(cut.split()) > 3 and not first.endswith("?") else first]
        if "joined" in self.habits and len(sentences) > 1:
            head = " and ".join([sentences[0].rstrip("."), *(_lower(text).rstrip(".") for text in sentences[1:])])
            return [head + "."] if "?" not in head and "!" not in head else sentences
        return sentences

    def _sentence(self, text: str, rng: random.Random) -> str:
        for old, new in self.swap:
            text = re.sub(rf"\b{re.escape(old)}\b", new, text)
            text = re.sub(rf"^{re.escape(capital(old))}\b", capital(new), text)
        if "third" in self.habits:
            text = _third(text, self.name)
        if "terse" in self.habits:
            text = capital(" ".join(word for word in text.split() if word.lower() not in _SMALL))
        head, end = (text[:-1], text[-1]) if text[-1:] in ".!?" else (text, ".")
        if "reverse" in self.habits and head.count(", ") == 1 and rng.random() < self.strength:
            left, right = head.split(", ")
            head = f"{capital(right)}, {_lower(left)}"
        if "double" in self.habits and rng.random() < self.strength:
            last = " ".join(head.split()[-2:] if rng.random() < 0.4 else head.split()[-1:])
            head += f", {last.lower() if last.split()[0] != 'I' else last}"
        if "stammer" in self.habits and rng.random() < self.strength:
            words = head.split()
            size = 2 if words[0].lower() in _SMALL or rng.random() < 0.4 else 1
            first = " ".join(words[:size]).rstrip(",")
            head = f"{first}, {_lower(head)}" if rng.random() < 0.7 else f"{first}, {_lower(first)}, {_lower(head)}"
        if "simile" in self.habits and self.things and end != "?" and rng.random() < self.strength:
            head += f"{rng.choice([', like ', ' like ', ', as if it were '])}{rng.choice(self.things)}"
        if "capitals" in self.habits:
            word = max(head.replace(",", "").split(), key=len)
            head = head.replace(word, word.upper(), 1)
        if "broken" in self.habits and len(head.split()) > 4:
            words = head.split()
            place = rng.randrange(2, len(words) - 1)
            head = " ".join(words[:place]).rstrip(",") + "... " + " ".join(words[place:])
        if "sing" in self.habits and rng.random() < self.strength:
            head += rng.choice([", la la", ", tra la", ", hum hum", ", oh oh"])
        if self.tail and end != "!" and rng.random() < self.strength:
            head, end = f"{head}, {self.tail}", "?" if self.tail in ("eh", "no", "is it not", "you hear") else end
        return head + end

    def _metaphor(self, topic: str, rng: random.Random) -> str:
        """What is asked about, seen as a thing of the trade."""
        verb = "are" if is_plural(topic) else "is"
        one, two = rng.sample(self.things, 2)
        like = rng.choice(["like", "like", "only", "nothing but", "almost"])
        return capital(
            f"{topic} {verb} {like} {one}{rng.choice(['', '', f', and sometimes {two}', f' without {two}'])}."
        )

    def _open(self, body: list[str], rng: random.Random) -> None:
        word = rng.choice(self.openers)
        if rng.random() < 0.6 or "?" in word:
            body.insert(0, f"{word}!" if "plain" not in self.habits else f"{word}.")
        else:
            body[0] = f"{word}, {_lower(body[0])}"

    def _address(self, body: list[str], rng: random.Random) -> list[str]:
        if not self.address or rng.random() > self.strength:
            return body
        who, place = rng.choice(self.address), rng.random()
        if place < 0.35:
            return [f"{capital(who)}, {_lower(body[0])}", *body[1:]]
        spot = 0 if place < 0.7 else len(body) - 1
        head, end = body[spot][:-1], body[spot][-1]
        if end not in ".!?":
            return body
        return [*body[:spot], f"{head}, {who}{end}", *body[spot + 1 :]]

    def _marks(self, text: str, rng: random.Random) -> str:
        if self.comma != ", ":
            text = text.replace(", ", self.comma)
        if self.mark:
            text = re.sub(r"(?<!\.)\.(?!\.)", self.mark, text)
        if "trail" in self.habits:
            text = re.sub(r"(?<!\.)\.(?!\.)", "...", text).replace(", ", "... ")
        return text


def is_plural(words: str) -> bool:
    """Whether `the stars` takes `are`: by its last letter and a few exceptions."""
    last = words.rsplit(maxsplit=1)[-1]
    return last in ("children", "mice", "sheep", "people", "geese") or (
        last.endswith("s") and not last.endswith("ss") and last not in ("grass", "news", "ashes")
    )


def _lower(text: str) -> str:
    """The first letter lowered, but for `I` and words in capitals."""
    first = text.split(maxsplit=1)[0].rstrip(",.!?'") if text.split() else ""
    keep = first in ("I", "I'm") or (len(first) > 1 and first.isupper())
    return text if keep or text[:2] in ("I ", "I'") else text[:1].lower() + text[1:]


def _bare(thing: str) -> str:
    return re.sub(r"^(a|an|the) ", "", thing)


def _third(text: str, name: str) -> str:
    """First person to third for the common verbs: `I have my coat` becomes `Tom has Tom's coat`."""

    def verb(match: re.Match[str]) -> str:
        word = match.group(1)
        if word in _PRESENT:
            return f"{name} {_PRESENT[word]}"
        if _PAST.search(word) or word in ("never", "always", "still", "once", "only", "just"):
            return f"{name} {word}"
        ending = "es" if word.endswith(("s", "sh", "ch", "x")) else "s"
        return f"{name} {word}{ending}"

    text = re.sub(r"\bI (\w+)", verb, text)
    return re.sub(r"\b(me|myself|mine)\b", name, re.sub(r"\b[Mm]y\b", f"{name}'s", text))


@cache
def _data() -> dict:
    data = read("voices.yaml")
    for key in ("openers", "closers", "tails", "address_adjectives", "address_nouns"):
        data[key] = lines(data[key])
    for kind in data["moods"].values():
        kind["says"] = lines(kind["says"])
    for kind in data["domains"].values():
        kind["says"] = lines(kind["says"])
    for kind in data["swaps"].values():
        kind["pairs"] = [tuple(pair.strip().split(">")) for pair in kind["pairs"].split(";")]
    data["names"], data["titles"] = data["names"].split(), data["titles"].split()
    return data


def _address_form(rng: random.Random) -> str:
    data = _data()
    noun = rng.choice(data["address_nouns"])
    return f"{rng.choice(data['address_adjectives'])} {noun}" if rng.random() < 0.6 else noun


def draw(rng: random.Random, plain: float = 0.22) -> Manner:
    """One random manner; a share of `plain` speakers has no habit at all."""
    data = _data()
    name = rng.choice(data["names"])
    if rng.random() < 0.35:
        name = f"{rng.choice(data['titles'])} {name}"
    if rng.random() < plain:
        return Manner(name=name, who=rng.choice(["a friend", "a neighbour", "a villager", "someone from the town"]))
    trade = data["domains"][rng.choice(sorted(data["domains"]))] if rng.random() < 0.65 else None
    who = rng.choice(trade["who"]) if trade else rng.choice(["a villager", "a stranger", "an old neighbour", "a guest"])
    mood = data["moods"][rng.choice(sorted(data["moods"]))] if rng.random() < 0.6 else None
    swap = data["swaps"][rng.choice(sorted(data["swaps"]))] if rng.random() < 0.2 else None
    habits = rng.sample(HABITS[1:], rng.choice([0, 1, 1, 1, 2, 2])) or ["plain"]
    if not trade:
        habits = [habit for habit in habits if habit not in ("simile", "metaphor", "three")] or ["plain"]
    sayings = [*(mood["says"] if mood is not None and rng.random() < 0.7 else []), *(trade["says"] if trade else [])]
    sayings = rng.sample(sayings, min(len(sayings), rng.choice([1, 2, 3, 5, 8])))
    plain_saying = bool(sayings) and "{" not in sayings[0]
    openers = [expand(rng.choice(data["openers"]), rng) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
    if trade and rng.random() < 0.3:
        openers.append(f"By my {_bare(rng.choice(trade['things']))}")
    closers = [expand(rng.choice(data["closers"]), rng) for _ in range(rng.choice([0, 0, 1, 2]))]
    address = [_address_form(rng) for _ in range(rng.choice([0, 1, 1, 2]))]
    tail = rng.choice(data["tails"]) if rng.random() < 0.12 else ""
    mark = "!" if "shout" in habits else rng.choice(["", "", "", "", "!", "..."])
    comma = rng.choice([", "] * 12 + ["... ", " - ", ": "])
    tells = [
        *([rng.choice(mood["tells"])] if mood else []),
        *(rng.choice(_TELLS[habit]) for habit in habits if habit in _TELLS),
        *([swap["tells"][0]] if swap else []),
        *([f'often says "{rng.choice(openers)}"'] if openers and rng.random() < 0.5 else []),
        *([f'often says "{closers[0].rstrip(".")}"'] if closers and rng.random() < 0.3 else []),
        *([f'likes to say "{sayings[0].rstrip(".")}"'] if plain_saying and rng.random() < 0.3 else []),
        *([f'calls everyone "{address[0]}"'] if address and rng.random() < 0.6 else []),
    ]
    return Manner(
        name=name, who=who, openers=tuple(openers), closers=tuple(closers), address=tuple(address), tail=tail,
        things=tuple(trade["things"]) if trade else (), sayings=tuple(sayings), habits=tuple(habits),
        swap=tuple(swap["pairs"]) if swap else (), strength=rng.choice([0.5, 0.7, 0.9, 1.0]), comma=comma, mark=mark,
        tells=tuple(tells),
    )  # fmt: skip


def portrait(manner: Manner, rng: random.Random) -> str:
    """A system prompt for this speaker: name, trade and some of the tells, in changing forms."""
    tells = [tell for tell in manner.tells if rng.random() < 0.8]
    rng.shuffle(tells)
    acts = [tell.removeprefix("who ") for tell in tells if _ACT.match(tell)]
    traits = [tell for tell in tells if not _ACT.match(tell)]
    form = rng.random()
    if form < 0.2 and acts:
        told = f"You are {manner.name}, {_trait(traits, manner.who)}."
        return f"{told} You {', '.join(_second(text) for text in acts[:-1])}" + (
            f", and you {_second(acts[-1])}." if len(acts) > 1 else f"{_second(acts[-1])}."
        )
    if form < 0.4:
        acts_you = [f"You {_second(text)}" for text in acts]
        told = [f"You are {manner.name}, {manner.who}.", *(f"You are {text}." for text in traits)]
        return " ".join([*told, *(text + "." for text in acts_you)])
    if form < 0.6:
        told = f"You are {manner.name}, {manner.who}"
        return f"{told} who {' and '.join(acts)}." if acts else f"{told}."
    if form < 0.8:
        first = f"You are {manner.name}.\n{manner.name} is {manner.who}."
        rest = [f"{capital(', '.join(traits))}." if traits else "", f"{manner.name} {', '.join(acts)}." if acts else ""]
        return " ".join(part for part in [first, *rest] if part)
    return (
        f"You are {manner.name}."
        if form < 0.9
        else f"{manner.name}, {manner.who}. {capital(', '.join(traits + acts))}".strip()
    )


def _trait(traits: list[str], who: str) -> str:
    """`a baker` and `shy` to `a shy baker`; traits of more than one word stay away."""
    short = [trait for trait in traits if " " not in trait]
    return article(f"{short[0]} {_bare(who)}") if short else who


def _second(text: str) -> str:
    """`says things twice` as said to the speaker: `say things twice`."""
    text = text.replace("himself", "yourself")
    verb, _, rest = text.partition(" ")
    if verb in ("never", "often"):
        first, _, rest = rest.partition(" ")
        return f"{verb} {_second(f'{first} {rest}')}" if first != "ends" else f"never end {rest}"
    if verb == "is":
        return f"are {rest}"
    base = verb[:-2] if verb.endswith(("sses", "shes", "ches")) else verb.removesuffix("s")
    return f"{base} {rest}".strip()

"""Who is meant in narration: names to people, their gender, and who is spoken of at each place of a text."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from math import exp, log

from understudy.aliases import short_forms
from understudy.given_names import GIVEN
from understudy.speech_words import DETERMINERS, FUNCTION, OWNERS, PRONOUNS, VERBS
from understudy.tags import gender_of

NO_NAMES = frozenset(("sir", "madam", "ma'am", "ma’am", "miss", "mister", "dear", "my dear"))
"""Forms of address that a cast list may hold; in a text they may mean anybody."""
_FADES = 450.0
"""Characters after which a mention counts a third."""
_FAR = 2600
_LOOK_BACK = 18


class Cast:
    """Names as written to the one they belong to; genders by title and given name, else by the pronouns that follow."""

    def __init__(self, names: Mapping[str, str], told: Counter[str]) -> None:
        self.given = {name.casefold() for name in names}
        self.ids = {name.casefold(): owner.casefold() for name, owner in {**short_forms(names), **names}.items()}
        self.written: dict[str, Counter[str]] = {}
        self.votes: dict[str, Counter[str]] = {}
        self.known_gender: dict[str, str] = {}
        short = {name.casefold() for name in told}
        longer: dict[str, set[str]] = {}
        for name in short:
            for part in {name.split(" ")[0], name.split(" ")[-1]} - {name}:
                if part in short and " " not in part:
                    longer.setdefault(part, set()).add(name)
        for part, whole in longer.items():
            if len(whole) == 1 and part not in self.ids and next(iter(whole)) not in self.ids:
                self.ids[part] = self.ids[next(iter(whole))] = part

    def id_of(self, name: str) -> str:
        """Who bears a name; the name itself where nobody is known to."""
        key = name.casefold()
        return self.ids.get(key, key)

    def write(self, name: str) -> str:
        """Note a name as the text has it, and return whose it is."""
        who = self.id_of(name)
        self.written.setdefault(who, Counter())[name] += 1
        return who

    def shown(self, who: str) -> str:
        """The name by which the text calls somebody most; of those in a cast list, if there is one."""
        ranked = self.written[who].most_common()
        return next((name for name, _ in ranked if name.casefold() in self.given), ranked[0][0])

    def spoken(self, name: str) -> str:
        """A name as the text has it, or as a cast list has it where only that tells who it is."""
        key = name.casefold()
        return self.shown(self.ids[key]) if key in self.ids and key not in self.given and self.given else name

    def titled(self, who: str) -> bool:
        """Whether somebody goes by a title of grown people."""
        return any(_TITLED.match(name) for name in self.written.get(who, ()))

    def settle_genders(self) -> None:
        """Decide everybody's gender from what has been read by now."""
        self.known_gender = {who: self._gender(who) for who in self.written}

    def gender(self, who: str) -> str:
        """`m`, `f` or nothing."""
        found = self.known_gender.get(who)
        return self._gender(who) if found is None else found

    def _gender(self, who: str) -> str:
        names = self.written.get(who, ())
        for name in names:
            if gender := gender_of(name):
                return gender
        votes = self.votes.get(who)
        if votes and (top := votes.most_common(1)[0])[1] >= 3 and top[1] >= 0.75 * votes.total():
            return top[0]
        given = Counter(gender for name in names for word in name.split()[:1] if (gender := GIVEN.get(word.casefold())))
        if len(given) == 1:
            return next(iter(given))
        if votes and (top := votes.most_common(1)[0])[1] >= 2 and top[1] >= 0.7 * votes.total():
            return top[0]
        return ""


_TITLED = re.compile(r"(?:Mr|Mrs|Sir|Lady|Lord|Dr|Aunt|Uncle|Madame|Colonel|Captain)\b")


class Course:
    """Who is mentioned where, in the order of the text."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.people: list[str] = []
        self.weights: list[float] = []
        self.often: dict[str, float] = {}
        """How often each is mentioned against the one who is most, as a natural logarithm; the most mentioned first."""

    def rank(self) -> None:
        """Count who is mentioned how often."""
        counts = Counter(self.people).most_common()
        self.often = {who: log(count / counts[0][1]) for who, count in counts}

    def add(self, place: int, who: str, weight: float) -> None:
        """One more mention, behind the others."""
        self.places.append(place)
        self.people.append(who)
        self.weights.append(weight)

    def at(self, place: int) -> dict[str, float]:
        """How present each person is at a place, the most present first."""
        until = bisect_left(self.places, place)
        found: dict[str, float] = {}
        for i in range(until - 1, max(-1, until - 1 - _LOOK_BACK), -1):
            apart = place - self.places[i]
            if apart > _FAR:
                break
            who = self.people[i]
            found[who] = found.get(who, 0.0) + self.weights[i] * exp(-apart / _FADES)
        return dict(sorted(found.items(), key=lambda one: -one[1]))


_NAME = r"(?P<name>(?:(?:Mr|Mrs|Ms|Dr|St)\.\s+)?[^\W\d_a-zß-öø-ÿ][\w’'-]*(?:\s+[^\W\d_a-zß-öø-ÿ][\w’'-]*)*)"
_DETERMINERS = r"\b(?:[Tt]he|[Aa]n?|[Hh]is|[Hh]er|[Mm]y)\s+"
_PRONOUN = r"|\b(?P<m>he|his|him|himself)\b|\b(?P<f>she|her|herself)\b"
_OWNER = re.compile(r"['’]s?$")
_BEFORE_OBJECTS_TEXT = """to at with by for from of in on upon into after before than between towards toward about
    against near behind beside over through like among without"""
_BEFORE_OBJECTS = frozenset(_BEFORE_OBJECTS_TEXT.split())
_BEFORE_SUBJECTS_TEXT = """and but then so when while as for that if though because where now suddenly here or until
    till which whom what since"""
_BEFORE_SUBJECTS = frozenset(_BEFORE_SUBJECTS_TEXT.split())

Event = tuple[int, str, str, float]
"""Offset, person (or nothing for a pronoun), gender of a pronoun, weight."""


class Mentions:
    """Finds the people of a cast in stretches of a text."""

    def __init__(self, cast: Cast, known: set[str]) -> None:
        self.cast, self.known = cast, known
        self.cache: dict[str, str] = {}
        described = {
            words[1]
            for name in {*cast.ids, *cast.written, *(each for names in cast.written.values() for each in names)}
            if len(words := name.split()) > 1 and words[0].lower() in DETERMINERS and words[1].islower()
        }
        phrase = rf"(?P<d>{_DETERMINERS}(?:{'|'.join(map(re.escape, sorted(described)))})\b(?:\s+[a-z]+)?)|"
        start = phrase if described else ""
        small = "atmhs" if described else "hs"
        self.named = re.compile(rf"(?=[A-Z{small if described else ''}]|[^\x00-\x7f])(?:{start}{_NAME})")
        self.seen = re.compile(rf"(?=[A-Z{small}]|[^\x00-\x7f])(?:{start}{_NAME}{_PRONOUN})")

    def narration(self, text: str, at: int, seen: list[Event]) -> None:
        """Add the people and pronouns of a stretch of narration to `seen`, and a pronoun behind a name to its votes."""
        last = ""
        cast = self.cast
        for match in self.seen.finditer(text):
            group, body = match.lastgroup or "", match.group()
            place = at + match.start()
            if group == "m" or group == "f":
                last = _voted(cast, last, group)
                seen.append((place, "", group, 0.7 if body == "he" or body == "she" else 0.3))
                continue
            if body == "I":
                seen.append((place, "", "1", 0.6))
                continue
            who = self._who(body, group)
            if who:
                seen.append((place, who, "", _weight(text, match.start(), body)))
                last = who
                continue
            first = body.split(None, 1)[0].lower()
            if first == "i":
                seen.append((place, "", "1", 0.6))
                continue
            gender = OWNERS.get(first) or PRONOUNS.get(first, "")
            if gender in ("m", "f"):
                last = _voted(cast, last, gender)
                seen.append((place, "", gender, 0.3 if first in OWNERS else 0.7))
            elif group == "name" and first not in FUNCTION:
                last = ""

    def quote(self, text: str) -> tuple[set[str], set[str]]:
        """Whom a quote addresses and of whom it speaks."""
        called: set[str] = set()
        named: set[str] = set()
        for match in self.named.finditer(text):
            body = match.group()
            if body == "I":
                continue
            if match.lastgroup == "d":
                if who := self._who(body, "d"):
                    named.add(who)
                continue
            start = match.start()
            words = body.split()
            while words and words[0].lower() in FUNCTION:
                start += len(words[0]) + 1
                words = words[1:]
            who = self._who(" ".join(words), "name") if words else ""
            if not who:
                continue
            if start == 0 and len(text) - match.end() < 2 and text[-1:] in ".,":
                named.add(who)
            elif _CALLED_AT_END.match(text, match.end()) and _CALLED_AFTER.search(text[max(0, start - 16) : start]):
                called.add(who)
            else:
                named.add(who)
        return called, named - called

    def _who(self, written: str, group: str) -> str:
        """Who a name or a phrase means, or nothing."""
        who = self.cache.get(written)
        if who is None:
            find = _known_in if group == "name" else _described_in
            who = self.cache[written] = find(" ".join(written.split()), self.cast, self.known)
        return who


def _voted(cast: Cast, last: str, gender: str) -> str:
    if last:
        cast.votes.setdefault(last, Counter())[gender] += 1
    return ""


def _weight(text: str, start: int, name: str) -> float:
    """How much a name is what its sentence is about: subjects most, owners and objects less."""
    if name[-2:] in ("'s", "’s") or name[-1:] in "'’":
        return 0.5
    before = text[max(0, start - 14) : start].rstrip()
    if not before or not before[-1].isalnum():
        return 1.0
    word = before.rsplit(None, 1)[-1].lower()
    return 0.4 if word in _BEFORE_OBJECTS else 1.0 if word in _BEFORE_SUBJECTS or word in VERBS else 0.6


def course_of(seen: list[Event], cast: Cast, narrator: str) -> Course:
    """The course of a text: each pronoun goes to the last person of its gender who was the subject of a sentence.

    `narrator` is who says `I`, or nothing.
    """
    course = Course()
    focus: dict[str, tuple[int, str, float]] = {}
    for place, who, gender, weight in seen:
        if who:
            course.add(place, who, weight)
            own = cast.gender(who)
            for each in (own,) if own else ("m", "f"):
                last = focus.get(each)
                if last is None or weight >= (0.9 if own else 1.0) or place - last[0] > 400:
                    focus[each] = (place, who, weight)
        elif gender == "1":
            if narrator or "i" in cast.written:
                course.add(place, narrator or "i", weight)
        elif (last := focus.get(gender)) and place - last[0] < 1500:
            course.add(place, last[1], weight * (1.0 if cast.gender(last[1]) else 0.5))
            focus[gender] = (place, last[1], last[2])
    course.rank()
    return course


def narrator_of(seen: Sequence[Event], called: Counter[str], cast: Cast) -> str:
    """Who of a cast tells a story in the first person: called by name in it and hardly ever told of; else nothing."""
    for name in ("i", "narrator", "the narrator"):
        if name in cast.ids:
            return cast.ids[name]
    first = sum(gender == "1" for _, _, gender, _ in seen)
    if not cast.given or first < 20 or first < 0.15 * len(seen):
        return ""
    told = Counter(who for _, who, _, _ in seen if who)
    ranked = [(count, who) for who, count in called.items() if count > 2 and told[who] < 0.5 * count]
    return max(ranked)[1] if ranked else ""


def _known_in(name: str, cast: Cast, known: set[str]) -> str:
    name = _OWNER.sub("", name)
    if name.casefold() in NO_NAMES:
        return ""
    if (who := cast.id_of(name)) in known or (who := cast.id_of("the " + name)) in known:
        return who
    words = name.split(" ")
    if len(words) > 1 and words[0].lower().rstrip(".") not in ("mr", "mrs", "miss", "ms", "lady", "sir", "dr"):
        for part in (" ".join(words[1:]), words[0]):
            if (who := cast.id_of(part)) in known:
                return who
    return ""


def _described_in(phrase: str, cast: Cast, known: set[str]) -> str:
    for part in (phrase, phrase.rsplit(" ", 1)[0]):
        if (who := cast.id_of(part)) in known:
            return who
    return ""


_CALLED_AT_END = re.compile(r"[\s\"'’”_*]*(?:[,.!?;:…—–]|--|$)")
_CALLED_AFTER = re.compile(
    r"(?:^|[,;!?.—–-]|\b(?:dear|dearest|poor|oh|o|ah|well|yes|no|and|but|dear little))[\s\"'_*]*$", re.IGNORECASE
)
_SIR = re.compile(r"\b(?:(?P<m>[Ss]ir|[Pp]apa|my lord)|(?P<f>[Mm]a['’]?am|[Mm]adam|[Mm]amma|my lady))\b(?=[,.!?;:—–-])")


def addressed_gender(text: str) -> str:
    """`m` or `f` where a quote says `sir` or `madam` to somebody."""
    match = _SIR.search(text)
    return (match.lastgroup or "") if match else ""

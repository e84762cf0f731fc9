"""Who a sentence beside a quote says is speaking, in texts with letters: `said Anna`, `Anna asked`, `He rose.`"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from understudy.speech_words import DETERMINERS, FUNCTION, NOUNS, OWNERS, PRONOUNS, TITLES, VERBS, WEAK

REACH = 240
"""Characters on either side of a quote that are looked at."""


class Hint(NamedTuple):
    """What stands beside a quote about who says it."""

    kind: str
    """`name`, `pronoun` (also `her father`), or `beat`: what somebody does, told right beside their words."""
    name: str
    """As written; empty for a pronoun."""
    gender: str
    """`m`, `f`, `n`, `1` for the narrator, `p` for several, or empty."""
    at: int = 0
    """Characters between the quote and the hint."""


_CAPITAL = r"[^\W\d_a-zß-öø-ÿ]\w*(?:[’'-]\w+|[’'](?!\w))*"
_TOKEN = re.compile(
    rf"(?P<name>(?:(?:Mr|Mrs|Ms|Dr|St|Prof|Rev)\.\s+)?{_CAPITAL}"
    rf"(?:(?:\s+(?:of|de|von|van|la|le|du|der|d['’]|the))?\s+(?:(?:Mr|Mrs|Dr|St)\.\s+)?{_CAPITAL})*)"
    r"|(?P<word>[^\W\d_][\w’'-]*)|(?P<stop>[.!?;:…]|--|[—–()])|(?P<comma>,)"
)


class Token(NamedTuple):
    """A run of capitalised words, a word, or a mark."""

    kind: str
    text: str
    start: int


def tokens(text: str) -> list[Token]:
    """The words and marks of a stretch; capitals that only begin a sentence are taken off a name."""
    found: list[Token] = []
    at = 0
    while match := _TOKEN.search(text, at):
        kind, body, start = match.lastgroup or "", match.group(), match.start()
        at = match.end()
        if kind == "name":
            first = _FIRST.match(body)
            word = first.group().lower() if first else ""
            if word in FUNCTION or word in PRONOUNS or (word in VERBS and word not in TITLES):
                kind, body, at = "word", word, start + len(word)
        found.append(Token(kind, body if kind == "name" else body.lower(), start))
    return found


_FIRST = re.compile(r"\w+(?=\s|$)")


_OWNER = re.compile(r"['’]s?$")


class Phrase(NamedTuple):
    """Somebody who may be a subject: tokens [first, after)."""

    hint: Hint
    first: int
    after: int


class Tags:
    """Reads the sentences beside quotes; knows names of several words from a cast."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def known(self, phrase: str) -> str:
        """The longest beginning or end of a phrase that is a known name, else nothing."""
        words = phrase.split()
        if " ".join(words).casefold() in self.names:
            return " ".join(words)
        if words and words[0].lower().rstrip(".") in ("mr", "mrs", "miss", "ms", "sir", "lady"):
            for n in range(len(words) - 1, 1, -1):
                if " ".join(words[:n]).casefold() in self.names:
                    return " ".join(words[:n])
            return ""
        for n in range(len(words) - 1, 0, -1):
            for part in (words[:n], words[-n:]):
                if " ".join(part).casefold() in self.names and part[0].lower() not in DETERMINERS | FUNCTION:
                    return " ".join(part)
        return ""

    def phrase(self, found: list[Token], i: int) -> Phrase | None:
        """The person that begins at token i."""
        if i >= len(found):
            return None
        kind, text, start = found[i]
        if kind == "name":
            owner = _OWNER.search(text)
            if owner:
                return Phrase(Hint("owner", self._name(text[: owner.start()]), "", start), i, i + 1)
            return Phrase(Hint("name", self._name(text), "", start), i, i + 1)
        if kind != "word":
            return None
        if text in DETERMINERS:
            return self._described(found, i)
        if text in PRONOUNS:
            gender = PRONOUNS[text]
            if text == "it" and found[i + 1 : i + 2] and found[i + 1].text in ("was", "is", "seemed"):
                return None
            if gender == "1":
                return Phrase(Hint("name", "I", "1", start), i, i + 1)
            return Phrase(Hint("pronoun", "", gender, start), i, i + 1) if gender else None
        return None

    def _name(self, written: str) -> str:
        plain = " ".join(written.split())
        return self.known(plain) or plain

    def _described(self, found: list[Token], i: int) -> Phrase | None:
        """`the old miller`, `the White Rabbit`, `her father`: a determiner and a few words."""
        start = found[i].start
        words: list[str] = []
        j = i + 1
        while j < len(found) and len(words) < 4:
            kind, text, _ = found[j]
            if kind == "name":
                words.append(text)
                j += 1
                break
            if text in ("former", "latter", "other", "others") and not words:
                return Phrase(Hint("pronoun", "", "p" if text == "others" else "", start), i, j + 1)
            if kind != "word" or (words and (text in FUNCTION or text in VERBS or text.endswith("ly"))):
                break
            if text in FUNCTION and text not in ("first", "last", "other", "poor", "next", "dear", "good"):
                break
            words.append(text)
            j += 1
            if text in NOUNS and not (j < len(found) and found[j].kind == "name"):
                break
        if not words:
            return None
        determiner = found[i].text
        spaced = " ".join([determiner, *words])
        full = " ".join(spaced.split())
        for n in range(len(full.split()), 1, -1):
            part = " ".join(full.split()[:n])
            if part.casefold() in self.names:
                return Phrase(Hint("name", part, "", start), i, i + n)
        gender = next((NOUNS[word] for word in words if word in NOUNS), "")
        if _OWNER.search(full):
            return None
        if any(word[0].isupper() for word in words) and (name := self.known(" ".join(words))):
            return Phrase(Hint("name", name, "", start), i, j)
        if determiner in OWNERS:
            return Phrase(Hint("relation", full, gender, start), i, j)
        if len(words) > 2 and not any(word[0].isupper() for word in words):
            full = " ".join([determiner, *words[: 3 if words[1] in _ADJECTIVES else 2]])
        return Phrase(Hint("described", full, gender, start), i, j)

    def after(self, text: str, ended: bool) -> Hint | None:
        """From the words behind a quote; `ended` when its own last mark is a full stop."""
        if match := _STOP.search(text, 2, REACH):
            text = text[: match.end()]
        if match := _REPLY.match(text):
            gender = OWNERS.get(match.group(1).lower(), "")
            if gender in ("m", "f"):
                return Hint("pronoun", "", gender, match.start(1))
            if gender == "1":
                return Hint("name", "I", "1", match.start(1))
            return Hint("name", self._name(_OWNER.sub("", match.group(1))), "", match.start(1))
        found = _sentence(tokens(text[:REACH]))
        i = 0
        while i < len(found) and found[i].kind in ("comma", "stop") and i < 2:
            i += 1
        if i >= len(found):
            return None
        if found[i].kind == "word" and found[i].text in VERBS:
            j = i + 1
            if j < len(found) and found[j].text in ("on", "out", "again", "in", "up", "back"):
                j += 1
            subject = self.phrase(found, j)
            return subject.hint if subject and subject.hint.kind != "owner" else None
        subject = self.phrase(found, i)
        if subject is None:
            return None
        if subject.hint.kind != "owner":
            j = subject.after
            for _ in range(4):
                if j >= len(found) or found[j].kind != "word":
                    break
                if found[j].text in VERBS and (found[j].text not in WEAK or not ended or _ends_with_verb(found, j)):
                    told = found[j + 1].text if j + 1 < len(found) else ""
                    return _beat(subject.hint) if ended and told in _INDIRECT else subject.hint
                j += 1
        return _beat(subject.hint) if ended else None

    def before(self, text: str) -> Hint | None:
        """From the words ahead of a quote, the last sentence of them."""
        last_stop = 0
        text = text[-REACH:].rstrip()
        for match in _STOP.finditer(text, 0, max(0, len(text) - 1)):
            last_stop = match.end()
        hint = self._before(text[last_stop:], text.rstrip()[-1:] in ",:")
        if hint is None and last_stop and text[last_stop - 1] in ";:":
            earlier = max((m.end() for m in _STOP.finditer(text, 0, last_stop - 1) if m.group() not in ";:"), default=0)
            hint = self._before(text[earlier:].replace(";", ",").replace(":", ","), text.rstrip()[-1:] in ",:")
        return hint

    def _before(self, clause: str, colon: bool) -> Hint | None:
        """From a clause or sentence ahead of a quote; `colon` where it leads up to it."""
        found = tokens(clause)
        while found and found[-1].kind in ("comma", "stop"):
            found.pop()
        begin = 0
        for j in range(len(found) - 1, -1, -1):
            if found[j].kind == "stop" and found[j].text not in ("--", "—", "–", "(", ")"):
                begin = j + 1
                break
        found = found[begin:]
        if not found:
            return None
        if found[0].kind == "name" and _GERUND.fullmatch(found[0].text) and found[0].text.casefold() not in self.names:
            found[0] = Token("word", found[0].text.lower(), found[0].start)
        if colon and (agent := self._agent(found)):
            return agent
        if colon or found[-1].text in VERBS:
            for j in range(len(found) - 1, -1, -1):
                if found[j].kind == "word" and found[j].text in VERBS and len(found) - j < 14:
                    subject = self._subject(found, j)
                    if subject is not None:
                        return subject
        subject = self._subject(found, len(found))
        return _beat(subject) if subject else None

    def _agent(self, found: list[Token]) -> Hint | None:
        """`accosted by Anna,` right before a quote."""
        for j in range(max(0, len(found) - 3), len(found) - 1):
            if found[j].text == "by" and j and found[j - 1].text.endswith("ed") and found[j + 1].kind == "name":
                phrase = self.phrase(found, j + 1)
                return phrase.hint if phrase and phrase.hint.kind == "name" and phrase.after == len(found) else None
        return None

    def _subject(self, found: list[Token], end: int) -> Hint | None:
        """Who does what a sentence tells: the phrase right before its verb, else the first with no preposition."""
        first: Hint | None = None
        last: Phrase | None = None
        subordinate = False
        i = 0
        while i < end:
            if found[i].text == "who" and last is not None and i - last.after < 2 and last.hint.kind == "name":
                first = last.hint
            phrase = self.phrase(found, i)
            if phrase is None:
                i += 1
                continue
            ahead = found[i - 1] if i else Token("stop", "", 0)
            loose = ahead.kind in ("comma", "stop") or ahead.text in _JOINS
            paired = ahead.text == "and" and last is not None and last.after == i - 1
            hint, last = phrase.hint, phrase
            thing = hint.kind == "described" and not self._person(hint.name)
            at_end = phrase.after == end and i and ahead.text not in _BEFORE_OBJECTS
            closer = (
                hint.kind != "owner" and not paired and (ahead.kind == "word" or (ahead.text == "," and subordinate))
            )
            nearer = (hint.kind == "pronoun" and found[i].kind == "word") or closer
            if not thing and (at_end or (loose and (first is None or nearer))):
                first, subordinate = hint, ahead.text in _SUBORDINATE
            i = max(phrase.after, i + 1)
        return first

    def _person(self, described: str) -> bool:
        """Whether `the old man` or `the Cat` rather than `a blush`: a sentence may begin with a thing."""
        words = described.split()
        return described.casefold() in self.names or words[-1] in NOUNS or any(word[0].isupper() for word in words)


_ADJECTIVES = frozenset(("little", "old", "young", "poor", "big", "great", "fat", "small"))
_STOP = re.compile(r"(?<!Mr)(?<!Mrs)(?<!Ms)(?<!Dr)(?<!St)[.!?;:…](?=\W|$)")
_REPLY = re.compile(
    r"[\s,—–-]*(?:was|were|came|burst|broke)\s+(?:in\s+)?(his|her|my|[A-Z][\w.]*(?:\s[A-Z]\w*)?['’]s)\s+(?:\w+\s)?"
    r"(?:answer|reply|response|comment|remark|exclamation|retort|rejoinder|greeting|question|voice|words)\b"
)
"""`was her answer`: said like a speech verb."""
_INDIRECT = frozenset(("that", "to", "if", "whether", "how", "why"))
_GERUND = re.compile(r"[A-Z][a-z]+(?:ing|ly|ed)")
_JOINS_TEXT = "and but then so when while as for that if at last again however though because now suddenly here"
_JOINS = frozenset(_JOINS_TEXT.split())
_SUBORDINATE = frozenset(("when", "while", "as", "if", "though", "because"))
_BEFORE_OBJECTS_TEXT = "to at with by for from of in on upon into after before told asked"
_BEFORE_OBJECTS = frozenset(_BEFORE_OBJECTS_TEXT.split())


def _beat(hint: Hint) -> Hint:
    if hint.kind == "owner":
        return hint._replace(kind="beat")
    if hint.kind == "relation":
        owner = OWNERS.get(hint.name.split(maxsplit=1)[0], "")
        return Hint("beat", "" if not hint.gender else hint.name, hint.gender or owner, hint.at)
    return hint._replace(kind="beat", name=hint.name)


def _ends_with_verb(found: list[Token], j: int) -> bool:
    return j + 1 >= len(found) or found[j + 1].kind in ("comma", "stop")


def _sentence(found: list[Token]) -> list[Token]:
    """Up to the first mark that ends a sentence."""
    for j, token in enumerate(found):
        if token.kind == "stop" and j > 0 and token.text in (".", "!", "?", ";", ":", "…"):
            return found[:j]
    return found


def gender_of(name: str) -> str:
    """The gender that a title or a noun in a name tells."""
    for word in name.lower().split():
        if gender := TITLES.get(word) or NOUNS.get(word):
            return gender
    return ""

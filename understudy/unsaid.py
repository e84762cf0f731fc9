"""Quoted words that nobody says: titles, terms, inscriptions, what somebody might have said."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

from understudy.quotes import Paragraph, Quote, is_han
from understudy.speech_words import FUNCTION

_NAMED = re.compile(
    r"(?:\b(?:(?:is|are|was|were|be|been|being|we|they|\w+ly) called"
    r"|(?:entitl|titl|nam|term|christen|nicknam|labell?|inscrib|engrav|head)ed|so-called|words?|phrase|expression|motto"
    r"|adage|proverb|chorus of|overture to|days of|of the|of|the|an?|our|their|its)\s*"
    r"|\b(?:as (?:much as|if|though) to say|(?:used|tried|ready|seem|seemed) to (?:say|call out)"
    r"|would think|indicating)\s?,?\s*|\bIllustration\s?:\s?[\"'“]?\s?)$"
)
"""Words before marks that hold a name, a term, or what nobody says."""
_AHEAD = re.compile(
    r"(?:(?:\w*n['’]t|\w*not|\bnever) (?:\w+ly )?(?:say|said|cry|call|ask|tell)"
    r"|\b(?:would|might|should) (?:not )?have (?:\w+ly )?(?:said|cried|called|asked|answered|replied)"
    r"|\b(?:before|soon as|if|when|ere|till|until) (?:one|you|he|she|they|we|I|anybody|any one) (?:can|could) say"
    r"|\b(?:want|wish|mean|meant|long|like|dare|about|going|wont|try)(?:ed|ing)? to (?:say|cry|ask|answer)"
    r"|\b(?:people|folks?|one) (?:often |always |sometimes )?(?:say|call)"
    r"|\b(?:an?|the|this|old) (?:legend|inscription|maxim|saying|refrain|title|heading|placard|epithet|nickname|slogan"
    r"|warning)"
    r"|\bto (?:this|that|the following|the same|the) effect(?: that)?)\s?[,:]?\s*$"
)
"""What tells ahead of marks that nobody says the words, or not now and not so."""
_BEHIND = re.compile(
    r"\W{0,3}(?:(?:was|were|is|are) (?:\w+ly )?(?:engraved|written|inscribed|printed|painted|carved|stamped|label)"
    r"|written (?:on|upon|in|over|above|below|across|under|beneath|there)"
    r"|(?:we|they|he|she|people|folks?|I) used to (?:say|call)"
    r"|(?:people|folks?|one) (?:often |always |sometimes )?(?:say|call)"
    r"|as (?:\w+ ){1,2}?(?:would say|used to|(?:call|put|express|term|phrase|style)(?:s|es|d|ed)?)"
    r"|(?:would|could|might) (?:not )?have been"
    r"|would (?:\w+ ){1,2}?(?:often|sometimes|always) (?:say|exclaim|cry|ask))\b"
)
_TITLE = re.compile(
    r"(?:[A-Z][\w’'-]*|\d+)(?:[\s-]+(?:(?:of|the|a|an|and|in|on|to|for|from|at|with|by|or)\s+)*[A-Z][\w’'-]*)+[.,;]?"
)
"""Every word with a capital but the small ones."""
_CALLED = re.compile(r"\b(?:call|calls|called|calling)(?: (?:it|him|her|them|me|us|\w+sel(?:f|ves)))?\s$")
_SAYING = re.compile(
    r"\b(?:say|cry|exclaim|call|ask|whisper|shout|scream|mutter|murmur|repeat|add|reply|answer|remark)ing\b[^.;:!?]{0,40}$"
)
_WRITTEN_HAN = re.compile(
    r"(?:有(?:诗|词|赞|赋|古风|对联)[^，。！？：]{0,12}|(?:^|[，。！？；”\s])(?:其|后|又)?(?:诗|词|赞|赋|铭|诏|表|檄|书)(?:文|略|中)?)"
    r"(?:曰|云)\s?[：:∶]?\s?$"
)
"""What leads up to a poem or something written: nobody in the tale says it."""
_MARKED = re.compile(r"[\"“”«»'‘’]")
_LATIN_TAIL = re.compile(r"[\"'”’)\]_*]+$")


def is_speech(flat: str, quote: Quote, part: Paragraph, told: bool) -> bool:
    """Whether somebody says the quoted words; else they are a title, a term or a word in marks.

    `told` is whether a speech verb stands beside the quote.
    """
    words = flat[quote.start : quote.end]
    if is_han(words[0]):
        if quote.outer > part.start and _WRITTEN_HAN.search(flat[max(part.start, quote.outer - 30) : quote.outer]):
            return False
    elif quote.closed and _unsaid(flat, quote, part, told):
        return False
    if told or not quote.closed or quote.goes_on or flat[quote.outer] in "—–―-":
        return any(map(str.isalnum, words))
    last = _LATIN_TAIL.sub("", words)[-1:]
    before = flat[part.start : quote.outer].rstrip()[-1:]
    whole = not before and not flat[quote.outer_end : part.end].strip()
    if whole or before in (":", "：", "∶"):
        return any(map(str.isalnum, words))
    if is_han(words[0]):
        return last in "。！？…，；：～—．!?." or len(words) > 14
    return _reads_as_speech(flat, quote, part, words, last, before)


def _unsaid(flat: str, quote: Quote, part: Paragraph, told: bool) -> bool:
    """Whether the words beside the marks tell that nobody says what is in them."""
    if _BEHIND.match(flat, quote.outer_end, min(part.end, quote.outer_end + 60)):
        return True
    if quote.outer == part.start:
        return False
    words = flat[quote.start : quote.end]
    ahead = flat[max(part.start, quote.outer - 60) : quote.outer]
    if words[-1] not in ".!?" and len(words.split()) < 5 and _CALLED.search(ahead):
        return True
    if words[-1] not in "!?" and ahead.rstrip()[-1:].isalnum() and _TITLE.fullmatch(words):
        return True
    if _NAMED.search(ahead) or _AHEAD.search(ahead):
        return True
    return words.isupper() and len(words) > 3 and not told


def _reads_as_speech(flat: str, quote: Quote, part: Paragraph, words: str, last: str, before: str) -> bool:
    """By how words within a paragraph begin and end."""
    count = len(words.split())
    if last.isalnum():
        cut = not before and flat[quote.outer_end : part.end].lstrip()[:1] in ("-", "—", "–")
        return cut or (words[0].isupper() and (count > 6 or _says(flat, quote, part)))
    if words[0].islower() and count < 4 and last in ",." and before in ",;—-":
        return _MARKED.search(flat, max(part.start, quote.outer - 200), quote.outer) is not None
    if last in ",;.:" and before.isalnum():
        return words[0].isupper() and (count > 4 or _says(flat, quote, part))
    if words[0].islower() and before.isalnum():
        return False
    return any(map(str.isalnum, words))


def _says(flat: str, quote: Quote, part: Paragraph) -> bool:
    """Whether a clause such as `saying to herself` leads up to the marks."""
    return _SAYING.search(flat, max(part.start, quote.outer - 60), quote.outer) is not None


_SOURCE = re.compile(r"\s*(?:[—–―]|--)\s*[_*\"“]?[A-Z][^\n]{2,80}(?:\n|$)")
_SHORT = 100
"""Characters of a row that may be the title of a chapter."""


def mottoes(flat: str, parts: list[Paragraph], marked: list[Quote], heads: AbstractSet[int]) -> set[Quote]:
    """Quotes that stand alone above a chapter: with their source below them, or in verse."""
    found: set[Quote] = set()
    opening = True
    number = 0
    for quote in marked:
        while number < quote.paragraph:
            opening = number in heads or (opening and _is_title(flat[parts[number].start : parts[number].end]))
            number += 1
        part = parts[quote.paragraph]
        if opening and _is_title(flat[part.start : quote.outer]):
            alone = not flat[quote.outer_end : part.end].strip(" _*")
            if _SOURCE.match(flat, quote.outer_end) or (alone and _is_verse(flat[quote.start : quote.end])):
                found.add(quote)
                continue
        opening = False
    return found


def _is_title(row: str) -> bool:
    return len(row) < _SHORT and re.search(r"[a-z][ ]?[.!?]\s*$", row) is None


def _is_verse(words: str) -> bool:
    """Short rows that each begin with a capital; where rows are lost, small words with one within a sentence."""
    rows = [row for line in words.split("\n") if (row := line.strip(" _"))]
    if len(rows) > 1:
        broken = any(row[-1] not in ".!?" for row in rows[:-1])
        return broken and all(len(row) < 60 and not row[0].islower() for row in rows) and not words.isupper()
    within = re.findall(r"[a-z,;:]\s([A-Z][a-z]+)\s[a-z]", words)
    return any(word.lower() in FUNCTION and word not in _SPOKEN for word in within)


_SPOKEN = frozenset(("Dear", "God", "Good", "I", "O", "Oh", "Poor", "Ah", "Well", "No", "Yes"))


_ANNOUNCED = re.compile(
    r"\b(?:as follows|(?:ran|runs|read|wrote|began|written) thus|to (?:this|that|the following) (?:effect|purpose)"
    r"|following \w+(?: for \w+)?|(?:was|were|are) (?:the|its|his|her|these) contents)\s?[.,:;—–-]*\s*$"
)
_WRITING = re.compile(
    r"\b(?:letters?|notes?|wrote|written|writing|write|message|telegram|postscript|epistle|despatch)\b"
)
_GREETS = re.compile(r"(?i:(?:my )?(?:very )?dear(?:est)?\s[^.!?;\n—–-]{1,40}|sir|madam),?$")
_KIN = "friend|servant|sister|brother|son|daughter|niece|nephew|cousin|mother|father|aunt|uncle|husband|wife"
_SIGNS = re.compile(
    r"(?:(?i:your['’]?s(?:,| \w+ly\b| ever\b| always\b| &c| etc)[^?!]{0,60}|your (?:\w+ ){1,3}(?:" + _KIN + r")[.,]?)"
    r"|[^?!\n]{0,60}&c\.?|(?:[A-Z][A-Z.]*\s)+[A-Z]{2,}\.?)$"
)
_LETTER = 40
"""Quotes that a letter may have, a paragraph each."""


def written_letters(flat: str, parts: list[Paragraph], marked: list[Quote]) -> set[Quote]:
    """Quotes of letters: from what announces one, or its greeting, to its last signature.

    A letter without a signature is the quote that is announced, and those that carry it on.
    """
    found: set[Quote] = set()
    for i, quote in enumerate(marked):
        if quote in found:
            continue
        announced = _announced(flat, parts, quote)
        if not announced and not _GREETS.match(flat, quote.start, quote.end):
            continue
        until, signed = i, -1
        while _whole(parts, marked[until]):
            if until > i and _SIGNS.match(flat, marked[until].start, marked[until].end):
                signed = until
            following = until + 1
            if following == len(marked) or following - i > _LETTER:
                break
            if marked[following].paragraph != marked[until].paragraph + 1:
                break
            until = following
        if announced and signed < 0:
            signed = i
            while signed + 1 < len(marked) and marked[signed + 1].goes_on:
                signed += 1
        found.update(marked[i : signed + 1])
    return found


def _whole(parts: list[Paragraph], quote: Quote) -> bool:
    """Whether a paragraph holds the quote alone, but for a mark or two beside it."""
    part = parts[quote.paragraph]
    return quote.outer - part.start < 3 and part.end - quote.outer_end < 3


def _announced(flat: str, parts: list[Paragraph], quote: Quote) -> bool:
    above = parts[max(0, quote.paragraph - 1)].start
    ahead = flat[max(above, quote.outer - 300) : quote.outer]
    return _ANNOUNCED.search(ahead) is not None and _WRITING.search(ahead) is not None

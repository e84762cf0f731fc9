"""From quotes to turns: what stands beside each quote, which quotes belong together, and who then says them.

`LetterReader` is for texts with letters, `HanReader` for Chinese ones; both leave out words in marks that nobody says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from understudy.aliases import short_forms
from understudy.attribution import Said, Turn, settle
from understudy.mentions import Cast, Course, Event, Mentions, addressed_gender, course_of, narrator_of
from understudy.quotes import Paragraph, Quote
from understudy.tags import REACH, Hint, Tags
from understudy.tags_han import HanTags, spoken_names
from understudy.unsaid import is_speech


class LetterReader:
    """Quotes of a text with letters, one turn a paragraph unless two names stand in it."""

    leads_in = ":,"
    """A paragraph that ends so may tell who says the next."""
    reach_behind = REACH
    """Characters behind a quote in which its tag is looked for."""

    def __init__(
        self,
        flat: str,
        parts: list[Paragraph],
        marked: list[Quote],
        heads: set[int],
        names: Mapping[str, str],
        unsaid: AbstractSet[Quote] = frozenset(),
    ) -> None:
        self.flat, self.parts, self.names = flat, parts, names
        self.unsaid = unsaid
        """Those of `marked` that are known to be no speech: nobody is told of in them."""
        self.scene_of = _scenes(len(parts), heads)
        self.heads = heads
        reader = Tags({name.casefold(): who for name, who in {**short_forms(names), **names}.items()})
        self.found: list[Quote] = []
        self.hints: list[tuple[Hint | None, Hint | None]] = []
        self.tags: list[bool] = []
        """Whether only a tag stands between a quote and the next."""
        self.behind = False
        """Whether a tag stands right behind the quote read last."""
        for i, quote in enumerate(marked):
            if quote not in unsaid:
                self._read(reader, marked, i, quote)

    def _read(self, reader: Tags, marked: list[Quote], i: int, quote: Quote) -> None:
        flat, part = self.flat, self.parts[quote.paragraph]
        begin, ahead, behind = self._around(marked, i, quote)
        same = i > 0 and marked[i - 1].outer_end == begin
        ended = flat[quote.end - 1] not in ",;:-—–" and not behind.lstrip()[:1].islower()
        after = reader.after(behind, ended) if behind.strip() else None
        if same and self.found and self.found[-1] is marked[i - 1] and self.hints[-1][0] is not None:
            ahead = _second_sentence(ahead)
        before = reader.before(ahead) if ahead.strip() else None
        told = bool((after and after.kind != "beat") or (before and before.kind != "beat"))
        gap = flat[begin : quote.outer]
        tag = bool(same and self.behind and self.found[-1] is marked[i - 1] and _only_tag(gap))
        goes_on = (
            tag and "(" not in gap and "--" not in gap and (gap.rstrip()[-1:] == "," or flat[quote.start].islower())
        )
        if not is_speech(flat, quote, part, told or goes_on):
            return
        if same and self.found and self.found[-1] is marked[i - 1]:
            self.tags[-1] = tag
        strong = [hint for hint in (after, before) if hint and hint.kind != "beat"]
        beats = [hint for hint in (before, after) if hint and hint.kind == "beat"]
        self.found.append(quote)
        self.hints.append((strong[0] if strong else None, beats[0] if beats else None))
        self.behind = after is not None and after.kind != "beat"
        self.tags.append(False)

    def _around(self, marked: list[Quote], i: int, quote: Quote) -> tuple[int, str, str]:
        """(where the words before a quote begin, those words, those behind it), within reach of a tag.

        A paragraph that begins with its quote may be told at the end of the one above.
        """
        flat, part = self.flat, self.parts[quote.paragraph]
        begin = part.start
        if i and marked[i - 1].outer_end > begin:
            begin = marked[i - 1].outer_end
        following = marked[i + 1].outer if i + 1 < len(marked) else len(flat)
        until = min(following, max(part.end, quote.outer_end), quote.outer_end + self.reach_behind)
        behind = flat[quote.outer_end : until]
        ahead = flat[max(begin, quote.outer - REACH) : quote.outer]
        if not ahead.strip() and quote.paragraph and quote.outer <= part.start:
            above = self.parts[quote.paragraph - 1]
            if flat[above.end - 1] in self.leads_in and quote.paragraph - 1 not in self.heads:
                ahead = flat[max(above.start, above.end - REACH) : above.end]
        return begin, ahead, behind

    def said(self) -> list[Said]:
        """The speaker of each quote of `found`."""
        told = Counter(
            hint.name for hint, _ in self.hints if hint and hint.kind in ("name", "described") and hint.name != "I"
        )
        cast = Cast(self.names, told)
        turns = self._turns()
        for turn in turns:
            if turn.hint and turn.hint.kind == "described" and not cast.given:
                turn.hint = turn.hint._replace(kind="name")
            if turn.hint and turn.hint.kind == "name":
                cast.write(turn.hint.name)
        for name in self.names:
            cast.written.setdefault(cast.id_of(name), Counter()).setdefault(name, 0)
        known = set(cast.written)
        mentions = Mentions(cast, known)
        seen: list[Event] = []
        at = 0
        for quote in sorted((*self.found, *self.unsaid), key=lambda quote: quote.outer):
            mentions.narration(self.flat[at : quote.outer], at, seen)
            at = quote.outer_end
        mentions.narration(self.flat[at:], at, seen)
        cast.settle_genders()
        called_at_all: Counter[str] = Counter()
        for turn in turns:
            if turn.beat and turn.beat.name and cast.id_of(turn.beat.name) not in known:
                turn.beat = turn.beat._replace(name="")
            for i in turn.quotes:
                words = self.flat[self.found[i].start : self.found[i].end]
                called, named = mentions.quote(words)
                turn.called |= called
                turn.named |= named
                turn.to = turn.to or addressed_gender(words)
            turn.named -= turn.called
            called_at_all.update(turn.called)
        narrator = narrator_of(seen, called_at_all, cast)
        for turn in turns:
            if narrator and turn.hint and turn.hint.name == "I":
                turn.hint = turn.hint._replace(name=cast.shown(narrator))
        return _spread(turns, settle(turns, cast, course_of(seen, cast, narrator), -2.6), len(self.found))

    def _turns(self) -> list[Turn]:
        turns: list[Turn] = []
        for i, (quote, (hint, beat)) in enumerate(zip(self.found, self.hints, strict=True)):
            last = turns[-1] if turns else None
            joins = last is not None and (quote.goes_on or last.last == quote.paragraph)
            if joins and last is not None and not _against(last.hint, hint):
                last.quotes.append(i)
                last.last = quote.paragraph
                if last.hint is None or (hint and last.hint.kind == "pronoun" and hint.kind == "name"):
                    last.hint = hint
                last.beat = last.beat or beat
                continue
            turn = Turn([i], quote.paragraph, quote.paragraph, quote.outer, hint, beat)
            turn.scene = self.scene_of[quote.paragraph]
            turn.told = quote.outer > self.parts[quote.paragraph].start or (
                last is not None and last.last < quote.paragraph - 1
            )
            turns.append(turn)
        return turns


def _against(one: Hint | None, other: Hint | None) -> bool:
    """Whether two hints name two people."""
    firm = ("name", "described")
    if one is None or other is None or one.kind not in firm or other.kind not in firm:
        return False
    return one.name.casefold() != other.name.casefold()


def _second_sentence(gap: str) -> str:
    match = re.search(r"[.!?;]\s|,\s+(?:and|but|while|when)\s|--", gap)
    return gap[match.end() :] if match else ""


def _only_tag(gap: str) -> bool:
    """Whether the words between two quotes are one sentence; behind a tag they do nothing but tell who speaks."""
    inner = gap.strip(" \n,.;:—–-")
    return len(inner) < 120 and re.search(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)[.!?]", inner) is None


class HanReader(LetterReader):
    """Quotes of a Chinese text, each a turn of its own unless only a tag stands between two."""

    leads_in = "：:"
    reach_behind = 60

    def __init__(
        self, flat: str, parts: list[Paragraph], marked: list[Quote], heads: set[int], names: Mapping[str, str]
    ) -> None:
        self.spoken = spoken_names(flat)
        self.reader = HanTags([*names, *self.spoken])
        super().__init__(flat, parts, marked, heads, names)

    def _read(self, reader: Tags, marked: list[Quote], i: int, quote: Quote) -> None:
        flat, part = self.flat, self.parts[quote.paragraph]
        begin, ahead, behind = self._around(marked, i, quote)
        before = self.reader.before(ahead) if ahead.strip() else None
        after = self.reader.after(behind) if behind.strip() and (before is None or before.kind != "name") else None
        told = after is not None or (before is not None and ahead.rstrip()[-1:] in "：:∶，,；")
        if not is_speech(flat, quote, part, told):
            return
        previous = self.found[-1] if self.found else None
        if previous is not None and previous.outer_end == begin and previous.paragraph == quote.paragraph:
            told = self.hints[-1][0]
            only = len(ahead) < 40 and not re.search(r"[。！？：:“]", ahead.strip().rstrip("。：:，,"))
            if told is not None and told.at == 0 and only and ahead.strip():
                self.tags[-1], before = True, None
        self.found.append(quote)
        strong = after or (before if before and before.kind != "beat" else None)
        self.hints.append((strong, before if before and before.kind == "beat" else None))
        self.tags.append(False)

    def said(self) -> list[Said]:
        """The speaker of each quote of `found`."""
        told = Counter(hint.name for hint, _ in self.hints if hint and hint.kind == "name")
        cast = Cast(self.names, Counter())
        for name in [*told.elements(), *self.names]:
            cast.write(name)
        cast.settle_genders()
        turns: list[Turn] = []
        course = Course()
        at = 0
        for i, (quote, (hint, beat)) in enumerate(zip(self.found, self.hints, strict=True)):
            near = max(at, quote.outer - 200)
            for place, name in self.reader.mentions(self.flat[near : quote.outer]):
                course.add(near + place, cast.id_of(name), 1.0)
            at = quote.outer_end
            if turns and (quote.goes_on or self.tags[i - 1]) and hint is None:
                turns[-1].quotes.append(i)
                turns[-1].last = quote.paragraph
                continue
            scene = self.scene_of[quote.paragraph]
            turn = Turn([i], quote.paragraph, quote.paragraph, quote.outer, hint, beat, scene=scene)
            words = self.flat[quote.start : quote.end]
            for place, name in self.reader.mentions(words[:200]):
                rest = words[place + len(name) : place + len(name) + 1]
                called = (place == 0 or words[place - 1] in "，。！？") and rest in ("，", "！", "：")
                (turn.called if called else turn.named).add(cast.id_of(name))
            turn.named -= turn.called
            turns.append(turn)
        course.rank()
        return _spread(turns, settle(turns, cast, course, -1.5), len(self.found))


def _spread(turns: Sequence[Turn], said: Sequence[Said], count: int) -> list[Said]:
    found = [Said(None, "open", 0.5)] * count
    for turn, each in zip(turns, said, strict=True):
        for i in turn.quotes:
            found[i] = each
    return found


def _scenes(count: int, heads: set[int]) -> list[int]:
    found, scene = [], 0
    for i in range(count):
        scene += i in heads
        found.append(scene)
    return found

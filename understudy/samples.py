"""Samples: one persona's data set from everything that it can be made of.

    made = assemble(setting, rows, offers, generals)

Lines are curated as they always were; imported and generated conversations are cleaned, freed of repetition and of
held-out text, and general dialogue is drawn last, as a share of what is left. Within a source the order is that of the
conversation ids, so the same rows in another order give the same data set. Everything here is a pure function of its
arguments; what is slow for large data (`bands`) can be handed in.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from understudy.cleaning.admission import HELDOUT_LEAK, REPEATED, Admission, Banding, Sample
from understudy.cleaning.config import SOURCES, CleanConfig, Made
from understudy.cleaning.language import code, language_of_many
from understudy.cleaning.near import band_hashes
from understudy.cleaning.overlap import HeldOut, grams
from understudy.cleaning.sound import conversation_or_reason, line_problem
from understudy.cleaning.tally import Tally
from understudy.cleaning.text_rules import REASON_OF, Heard, judged, judged_whole, mended
from understudy.conversation import Conversation, Exchange, Message, Row, Split, conversation_id
from understudy.dataset import REASONS, Curated, curate
from understudy.letters import letters
from understudy.overlay import Overlay
from understudy.recipe import CurateConfig

BY_REVIEW = "by review"
SET_PHRASE = 3
"""A held-out answer of which more conversations share a piece than this consists of a set phrase."""
LOOKED_AT = 200
"""Conversations among which the one to hold out is sought when the share holds out none."""


@dataclass(frozen=True)
class Setting:
    """What one persona's data set depends on besides its rows."""

    persona: str
    config: CurateConfig
    system: str = ""
    """The persona's system text: answers must not repeat it."""
    names: tuple[str, ...] = ()
    language: str = ""
    """Expected language where the lines do not tell; empty: that of most answers."""
    overlay: Overlay = field(default_factory=Overlay)


@dataclass(frozen=True)
class Offer:
    """A row of a conversations table that somebody else made."""

    source: Made
    unit: str
    row: Any


@dataclass(frozen=True)
class General:
    """General dialogue to mix in: conversations in the order in which they are drawn."""

    name: str
    share: float
    draw: Callable[[], Iterator[Conversation]]


def assemble(
    setting: Setting,
    rows: Iterable[Row],
    offers: Iterable[Offer] = (),
    generals: Sequence[General] = (),
    bands: Banding = band_hashes,
) -> Curated:
    """One persona's conversations from lines, offered conversations and general dialogue."""
    config, tally = setting.config, Tally(setting.persona)
    heard = _Lines(setting, tally)
    lines = _from_lines(heard, rows)
    offered, offered_count, review = _offered(setting, offers, tally)
    setting = replace(setting, language=_language(setting, heard.said, offered))
    clean = [found for sample in offered if (found := _cleaned(sample, setting, tally))]
    real = [Sample("lines", one) for one in _without_refrains(lines.conversations, config, tally)]
    admission = Admission(config, tally, bands)
    if clean or generals:
        admission.anchor(real)  # there is something to compare with them
    parted = _parted(admission.unseen(clean), real, config)
    held = admission.hold_out([s for s in (*real, *parted) if s.one.split == "heldout"])
    chosen = admission.admit([s for s in parted if s.one.split == "train"])
    own = sum(s.one.split == "train" for s in real) + len(chosen)
    mixed, mix_counts = _mixed(generals, own, admission, setting, tally)
    offered_count["mixed"] = sum(one["drawn"] for one in mix_counts)
    samples = [*real, *(s for s in parted if s.one.split == "heldout"), *chosen, *mixed]
    counts = _counts(lines, samples, tally, offered_count)
    counts["overlap"] = held.report((s.source, s.one) for s in samples if s.one.split == "train")
    counts["review"] = {"applied": heard.applied + review["applied"], "stale": heard.stale + review["stale"]}
    if review["stale"]:
        counts["review"]["conversations_stale"] = review["stale"]
    counts["mix"] = mix_counts
    if setting.language:
        counts["language"] = setting.language
    return Curated(_named_apart(s.one for s in samples), tally.dropped, counts)


@dataclass
class _Lines:
    """The sound rows of lines with what a person decided about them, work by work as they are asked for."""

    setting: Setting
    tally: Tally
    applied: int = 0
    stale: int = 0
    kept: set[str] = field(default_factory=set)
    """Line ids that a person said should stay."""
    said: list[str] = field(default_factory=list)
    """What the persona says, where its language has to be told by it."""

    def of(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows to make conversations of."""
        rule = self.setting.config.clean.language
        for row in self._reviewed(self._sound(rows)):
            if row.get("review") == "keep":
                self.kept.add(row["line_id"])
            if rule is not None and row["persona"] == self.setting.persona and row["kind"] == "speech":
                self.said.append(row["text"])
            yield row

    def _sound(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if problem := line_problem(row):
                work = str(row.get("work") or "") if isinstance(row, Mapping) else ""
                self.tally.malformed("lines", work, row, problem)
            else:
                yield row

    def _reviewed(self, rows: Iterable[Row]) -> Iterator[Row]:
        overlay = self.setting.overlay
        for work, own in groupby(rows, key=itemgetter("work")) if overlay.works else ():
            if work not in overlay.works:
                yield from own
                continue
            before = list(own)
            after, stale = overlay.apply_to_lines(before)
            left = {row["line_id"] for row in after}
            for row in before:
                if row["line_id"] not in left and row["persona"] == self.setting.persona:
                    address = {"persona": self.setting.persona, "work": work, "scene": str(row["scene"])}
                    dropped = {**address, "lines": [row["line_id"]], "text": row["text"], "reason": BY_REVIEW}
                    self.tally.add("lines", [dropped])
            self.applied += sum(bool(row.get("review")) for row in after) + len(before) - len(after)
            self.stale += len(stale)
            yield from after
        if not overlay.works:
            yield from rows


def _from_lines(lines: _Lines, given: Iterable[Row]) -> Curated:
    """Lines as conversations; the rules of `clean` look at them only where the recipe says so."""
    setting, tally = lines.setting, lines.tally
    config, persona = setting.config, setting.persona
    rows = lines.of(given)
    chosen = any("lines" in rule.sources for rule in _text_rules(config))
    repeats = config.clean.repeats
    most = repeats.most if repeats and "lines" in repeats.sources else 0
    if chosen:
        rows = (_mended_line(row, setting, tally) for row in rows)
    said: Counter[str] = Counter()

    def judge(exchange: Exchange) -> str:
        if chosen:
            heard = _heard("\n".join(row["text"] for row in exchange.before), "", setting)
            _, reason, _ = mended(exchange.text, "lines", config.clean, heard)
            reason = reason or judged_whole([exchange.text], "lines", config.clean)
            if reason := reason or judged(exchange.text, "lines", config.clean, heard):
                return reason
        words = letters(exchange.text)
        said[words] += 1
        return REPEATED if most and said[words] > most else ""

    found = curate(
        rows,
        persona,
        window=config.window,
        heldout=config.heldout,
        seed=config.seed,
        min_chars=config.min_chars,
        max_repeats=config.max_repeats,
        kept=lines.kept,  # full by the time that it is looked at
        judge=judge if chosen or most else None,
    )
    tally.add("lines", found.dropped)
    return found


def _without_refrains(conversations: list[Conversation], config: CurateConfig, tally: Tally) -> list[Conversation]:
    """Where the recipe asks for it: held-out answers that share a piece with the training lines are not scored."""
    rule = config.clean.heldout_leak
    if rule is None or not rule.lines:
        return conversations
    held = HeldOut.of((one for one in conversations if one.split == "heldout"), config.ngrams.words, config.ngrams.han)
    repeated = {piece for one in conversations if one.split == "train" for piece in held.pieces_in(one)}
    found: list[Conversation] = []
    for one in conversations:
        messages = list(one.messages)
        for at, message in enumerate(messages if one.split == "heldout" else ()):
            shared = {*grams(message.content, held.words, held.han)} & repeated if message.loss else ()
            if shared:
                tally.drop("lines", one, HELDOUT_LEAK, message.content, note=min(shared))
                messages[at] = replace(message, loss=False)
        found += _renamed(one, messages)
    return found


def _renamed(one: Conversation, messages: list[Message]) -> list[Conversation]:
    """The conversation with these messages up to the last learned one, under the id that goes with them; else none."""
    while messages and not messages[-1].loss:
        messages.pop()
    if not messages or tuple(messages) == one.messages:
        return [one] if messages else []
    provenance = replace(one.provenance, parents=(*one.provenance.parents, one.conversation_id))
    identity = conversation_id(one.persona, messages, provenance)
    return [replace(one, conversation_id=identity, messages=tuple(messages), provenance=provenance)]


def _mended_line(row: Mapping[str, Any], setting: Setting, tally: Tally) -> Mapping[str, Any]:
    if row["persona"] != setting.persona or row["kind"] != "speech" or row.get("review") == "keep":
        return row
    text, reason, done = mended(row["text"], "lines", setting.config.clean, _heard("", "", setting))
    if reason or text == row["text"]:
        return row
    for name in done:
        tally.mend("lines", name, row["text"], text)
    return {**row, "text": text}


def _text_rules(config: CurateConfig) -> list[Any]:
    names = (*REASON_OF, "length", "prompt_leak", "language", "personal")
    return [rule for name in names if (rule := getattr(config.clean, name)) is not None]


def _offered(
    setting: Setting, offers: Iterable[Offer], tally: Tally
) -> tuple[list[Sample], Counter[str], dict[str, int]]:
    """The sound offers in a stable order, with what a person decided about them; how many there were by source."""
    count: Counter[str] = Counter()
    sound: list[tuple[Made, Conversation]] = []
    for offer in offers:
        count[offer.source] += 1
        # An imported row says whose it is; what was generated for a persona is that persona's.
        one = conversation_or_reason(offer.row, None if offer.source == "imported" else setting.persona)
        if isinstance(one, str):
            tally.malformed(offer.source, offer.unit, offer.row, one)
        else:
            sound.append((offer.source, one))
    sound.sort(key=lambda pair: (SOURCES.index(pair[0]), pair[1].conversation_id))
    decided, stale = setting.overlay.apply_to_conversations((one for _, one in sound), setting.persona)
    samples: list[Sample] = []
    applied = 0
    for (source, before), (one, verdict) in zip(sound, decided, strict=True):
        applied += bool(verdict)
        if verdict == "drop":
            tally.drop(source, before, BY_REVIEW)
        else:
            samples.append(Sample(source, one, verdict == "keep"))
    return samples, count, {"applied": applied, "stale": len(stale)}


def _language(setting: Setting, own: Sequence[str], offered: Sequence[Sample]) -> str:
    """What the recipe says, else what the lines, the corpus or most of the answers are in."""
    rule = setting.config.clean.language
    if rule is None or not offered:
        return ""
    if found := code(rule.language) or language_of_many(own) or code(setting.language):
        return found
    return language_of_many(m.content for sample in offered for m in sample.one.messages if m.loss)


def _heard(question: str, told: str, setting: Setting) -> Heard:
    system = "\n".join(text for text in (setting.system, told) if text)
    return Heard(question, system, (setting.persona, *setting.names), setting.language)


def _cleaned(sample: Sample, setting: Setting, tally: Tally) -> Sample | None:
    """The sample with its answers put right; a bad one is not learned, and one without a good one is gone."""
    one, clean = sample.one, setting.config.clean
    if sample.kept:
        return sample
    if reason := judged_whole([message.content for message in one.messages], sample.source, clean):
        tally.drop(sample.source, one, reason)
        return None
    told = "\n".join(message.content for message in one.messages if message.role == "system")
    messages: list[Message] = []
    question: list[str] = []
    for message in one.messages:
        if message.role == "assistant" and message.loss:
            message = _clean_answer(message, sample, clean, _heard("\n".join(question), told, setting), tally)
        if message.role == "assistant":
            question = []
        elif message.role == "user":
            question.append(message.content)
        messages.append(message)
    return next((replace(sample, one=renamed) for renamed in _renamed(one, messages)), None)


def _clean_answer(message: Message, sample: Sample, clean: CleanConfig, heard: Heard, tally: Tally) -> Message:
    """The answer put right, or as context alone where it cannot be."""
    text, reason, done = mended(message.content, sample.source, clean, heard)
    if reason := reason or judged(text, sample.source, clean, heard):
        tally.drop(sample.source, sample.one, reason, message.content)
        return replace(message, loss=False)
    for name in done:
        tally.mend(sample.source, name, message.content, text)
    return replace(message, content=text)


def _parted(samples: Sequence[Sample], real: Sequence[Sample], config: CurateConfig) -> list[Sample]:
    """Imported conversations on either side by hash of seed and id; generated ones are for training alone.

    Where no line is held out and two or more are imported, at least one is. One whose words many others use (a set
    phrase) tests nothing and would take all of them out of training: it is trained on instead.
    """
    imported = [sample for sample in samples if sample.source == "imported"]
    if len(imported) < 2 and not any(sample.one.split == "train" for sample in real):
        return [replace(sample, one=replace(sample.one, split="train")) for sample in samples]
    draws = {sample.one.conversation_id: drawn(config.seed, sample.one.conversation_id) for sample in imported}
    order = sorted(draws, key=lambda identity: (draws[identity], identity))
    must = len(imported) > 1 and not any(sample.one.split == "heldout" for sample in real)
    most = len(order) - (not any(sample.one.split == "train" for sample in real))
    likely = [identity for identity in order if draws[identity] < config.heldout][:most]
    shared = _shared(samples, real, frozenset(likely or order[:LOOKED_AT] if must else likely), config)
    held = {identity for identity in likely if shared[identity] <= SET_PHRASE}
    if must and not held:
        held = {min(likely or order[:LOOKED_AT], key=lambda identity: (shared[identity], draws[identity]))}

    def side(sample: Sample) -> Split:
        return "heldout" if sample.source == "imported" and sample.one.conversation_id in held else "train"

    return [replace(sample, one=replace(sample.one, split=side(sample))) for sample in samples]


def _shared(
    samples: Sequence[Sample], real: Sequence[Sample], likely: frozenset[str], config: CurateConfig
) -> Counter[str]:
    """By conversation: how many others contain the piece of it that most of them contain."""
    if not likely:
        return Counter()
    chosen = [sample.one for sample in samples if sample.one.conversation_id in likely]
    held = HeldOut.of(chosen, config.ngrams.words, config.ngrams.han)
    used = Counter(piece for sample in (*real, *samples) for piece in held.pieces_in(sample.one))
    found: Counter[str] = Counter()
    for one in chosen:
        found[one.conversation_id] = max((used[piece] - 1 for piece in held.pieces_in(one)), default=0)
    return found


def drawn(seed: int, identity: str) -> float:
    """Where an imported conversation stands in [0, 1), by its id: below `heldout` it may be held out."""
    digest = hashlib.sha256(json.dumps([seed, identity], ensure_ascii=False).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _mixed(
    generals: Sequence[General], own: int, admission: Admission, setting: Setting, tally: Tally
) -> tuple[list[Sample], list[dict[str, Any]]]:
    """General dialogue drawn until each source has its share of the whole, or nothing is left of it."""
    room = 1 - sum(general.share for general in generals)
    taken: list[Sample] = []
    counts: list[dict[str, Any]] = []
    for general in generals:
        wanted = round(own * general.share / room)
        found: list[Sample] = []
        drawn = 0
        stream = general.draw()
        while len(found) < wanted:
            batch = list(islice(stream, wanted - len(found)))
            if not batch:
                break
            drawn += len(batch)
            clean = [new for one in batch if (new := _cleaned(Sample("mixed", one), setting, tally))]
            found += admission.admit(admission.unseen(clean))
        taken += found
        counts.append(
            {"name": general.name, "share": general.share, "wanted": wanted, "drawn": drawn, "taken": len(found)}
        )
    return taken, counts


def _named_apart(conversations: Iterable[Conversation]) -> list[Conversation]:
    """No id twice: a later one that says something else under a known id gets another."""
    seen: set[str] = set()
    found: list[Conversation] = []
    for one in conversations:
        number = 1
        while one.conversation_id in seen:
            provenance = replace(one.provenance, parents=(*one.provenance.parents, f"{one.conversation_id}#{number}"))
            one = replace(one, conversation_id=conversation_id(one.persona, one.messages, provenance))
            number += 1
        seen.add(one.conversation_id)
        found.append(one)
    return found


def _counts(lines: Curated, samples: Sequence[Sample], tally: Tally, offered: Mapping[str, int]) -> dict[str, Any]:
    conversations = [sample.one for sample in samples]
    sides = Counter(one.split for one in conversations)
    turns = Counter(one.split for one in conversations for message in one.messages if message.loss)
    held = {(one.provenance.work, one.scene) for one in conversations if one.split == "heldout"}
    reasons = tally.reasons
    by_source = Counter(sample.source for sample in samples)
    sources = {
        source: {
            **({"offered": offered[source]} if source in offered else {}),
            "kept": by_source[source],
            **dict(sorted(tally.by_source.get(source, Counter()).items())),
        }
        for source in SOURCES
        if by_source[source] or offered.get(source) or source in tally.by_source
    }
    return {
        "lines": lines.counts["lines"],
        "conversations": {"train": sides["train"], "heldout": sides["heldout"]},
        "turns": {"train": turns["train"], "heldout": turns["heldout"]},
        "heldout_scenes": len(held),
        "dropped": {reason: reasons[reason] for reason in (*REASONS, *(r for r in reasons if r not in REASONS))},
        "mended": dict(sorted(tally.mended.items())),
        "examples": tally.examples,
        "sources": sources,
    }

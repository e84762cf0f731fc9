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
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from understudy.cleaning.admission import HELDOUT_LEAK, Admission, Banding, Sample
from understudy.cleaning.config import SOURCES, CleanConfig, Made
from understudy.cleaning.language import code, language_of_many
from understudy.cleaning.near import band_hashes
from understudy.cleaning.overlap import HeldOut, exchanges_of, grams
from understudy.cleaning.sound import conversation_or_reason
from understudy.cleaning.tally import Tally
from understudy.cleaning.text_rules import Heard, judged, judged_whole, mended
from understudy.conversation import Conversation, Message, Row, Split, conversation_id
from understudy.dataset import REASONS, Curated
from understudy.line_samples import BY_REVIEW, Lines, Setting, heard_by
from understudy.recipe import CurateConfig

SET_PHRASE = 3
"""A held-out answer of which more conversations share a piece than this consists of a set phrase."""
LOOKED_AT = 200
"""Conversations among which the one to hold out is sought when the share holds out none."""


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
    heard = Lines(setting, tally)
    lines = heard.curated(rows)
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
            message = _clean_answer(message, sample, clean, heard_by("\n".join(question), told, setting), tally)
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
    may, must = _candidates(imported, real, config)
    shared = _shared(samples, real, frozenset(may), config)
    held = {identity for identity in may if shared[identity] <= SET_PHRASE}
    if must and not held:
        held = {min(may, key=lambda identity: (shared[identity], drawn(config.seed, identity)))}

    def side(sample: Sample) -> Split:
        return "heldout" if sample.source == "imported" and sample.one.conversation_id in held else "train"

    return [replace(sample, one=replace(sample.one, split=side(sample))) for sample in samples]


def _candidates(imported: Sequence[Sample], real: Sequence[Sample], config: CurateConfig) -> tuple[list[str], bool]:
    """Ids of imported conversations that may be held out, and whether one of them has to be.

    Nothing generated has a say: who generates has to know before which they are.
    """
    learns = any(sample.one.split == "train" for sample in real)
    if not imported or (len(imported) < 2 and not learns):
        return [], False
    draws = {sample.one.conversation_id: drawn(config.seed, sample.one.conversation_id) for sample in imported}
    order = sorted(draws, key=lambda identity: (draws[identity], identity))
    must = len(imported) > 1 and not any(sample.one.split == "heldout" for sample in real)
    likely = [identity for identity in order if draws[identity] < config.heldout][: len(order) - (not learns)]
    if likely or not must:
        return likely, must
    first = order[:LOOKED_AT]
    shared = _shared(imported, real, frozenset(first), config)
    return [min(first, key=lambda identity: (shared[identity], draws[identity]))], True


def may_be_held_out(setting: Setting, rows: Iterable[Row], offers: Iterable[Offer]) -> set[str]:
    """Ids, as they are offered, of the imported conversations that `assemble` may hold out, and of their copies."""
    given = [offer for offer in offers if offer.source == "imported"]
    if not given:
        return set()
    config, tally = setting.config, Tally(setting.persona)
    heard = Lines(setting, tally)
    lines = heard.curated(rows)
    offered, _, _ = _offered(setting, given, tally)
    setting = replace(setting, language=_language(setting, heard.said, offered))
    # Under the id that an answer put right gives them; what is dropped is not held out.
    clean = [(sample.one.conversation_id, found) for sample in offered if (found := _cleaned(sample, setting, tally))]
    real = [Sample("lines", one) for one in _without_refrains(lines.conversations, config, tally)]
    admission = Admission(config, tally)
    admission.anchor(real)
    left = admission.unseen(found for _, found in clean)
    may = set(_candidates(left, real, config)[0])
    said = {tuple(exchanges_of(sample.one)) for sample in left if sample.one.conversation_id in may}
    return {identity for identity, found in clean if tuple(exchanges_of(found.one)) in said}


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

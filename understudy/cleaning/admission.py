"""Who may join the training samples: none twice, none with held-out text, none that says what was said often enough.

    admission = Admission(config, tally)
    admission.anchor(real)                     real lines: they count, and always stay
    held = admission.hold_out(samples)
    train = admission.admit(admission.unseen(samples))

It remembers whom it admitted, so general dialogue that comes last is compared with everything before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from understudy.cleaning.config import Source
from understudy.cleaning.near import Bands, band_hashes, near_copies
from understudy.cleaning.overlap import HeldOut, exchanges_of
from understudy.cleaning.tally import Tally
from understudy.conversation import Conversation
from understudy.dataset import DUPLICATE

if TYPE_CHECKING:
    from understudy.recipe import CurateConfig

HELDOUT_LEAK, REPEATED, NEAR_DUPLICATE = "heldout leak", "repeated reply", "near duplicate"
Banding = Callable[[Sequence[str], float], Bands]
"""Texts and threshold to their band hashes."""


@dataclass(frozen=True)
class Sample:
    """A conversation on its way into the data set."""

    source: Source
    one: Conversation
    kept: bool = False
    """A person said so; the rules that judge words let it be."""


class Admission:
    """The training samples so far, as far as others are compared with them."""

    def __init__(self, config: CurateConfig, tally: Tally, bands: Banding = band_hashes):
        self.config, self.tally, self.bands = config, tally, bands
        self.held = HeldOut({}, {}, config.ngrams.words, config.ngrams.han)
        self._real: list[Sample] = []
        self._exchanges: Counter[tuple[tuple[str, str], ...]] = Counter()
        self._answers: Counter[str] = Counter()
        self._texts: list[str] = []
        self._bands: list[Bands] = []

    def anchor(self, real: Sequence[Sample]) -> None:
        """Conversations of lines: each exchange of them counts, in training also their answers and words."""
        self._real += real
        for sample in real:
            exchanges = tuple(exchanges_of(sample.one))
            self._exchanges.update({exchanges, *((exchange,) for exchange in exchanges)})
            if sample.one.split == "train":
                self._answers.update(answer for _, answer in exchanges)

    def unseen(self, samples: Iterable[Sample]) -> list[Sample]:
        """Without those that say what an earlier one says, word by word, when that was said `max_repeats` times."""
        left: list[Sample] = []
        for sample in samples:
            key = tuple(exchanges_of(sample.one))
            if self._exchanges[key] >= self.config.max_repeats:
                self.tally.drop(sample.source, sample.one, DUPLICATE)
            else:
                self._exchanges[key] += 1
                left.append(sample)
        return left

    def hold_out(self, samples: Iterable[Sample]) -> HeldOut:
        """From now on, no sample with text of these is admitted; what the training lines say themselves is free."""
        found = HeldOut.of((sample.one for sample in samples), self.config.ngrams.words, self.config.ngrams.han)
        own = {piece for s in self._real if s.one.split == "train" for piece in found.pieces_in(s.one)}
        self.held = found.without(own)
        return found

    def admit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Those that may be trained on, in the order given; from now on the others are compared with them."""
        return self._without_near_duplicates(self._without_repeats(self._without_heldout_text(samples)))

    def _without_heldout_text(self, samples: Sequence[Sample]) -> list[Sample]:
        rule = self.config.clean.heldout_leak
        left: list[Sample] = []
        for sample in samples:
            piece = self.held.leak(sample.one) if rule and sample.source in rule.sources else ""
            if piece:
                self.tally.drop(sample.source, sample.one, HELDOUT_LEAK, note=piece)
            else:
                left.append(sample)
        return left

    def _without_repeats(self, samples: Sequence[Sample]) -> list[Sample]:
        rule = self.config.clean.repeats
        left: list[Sample] = []
        for sample in samples:
            answers = Counter(answer for _, answer in exchanges_of(sample.one))
            most = rule.most if rule and sample.source in rule.sources and not sample.kept else None
            if most is not None and any(self._answers[answer] + n > most for answer, n in answers.items()):
                self.tally.drop(sample.source, sample.one, REPEATED)
            else:
                self._answers.update(answers)
                left.append(sample)
        return left

    def _without_near_duplicates(self, samples: Sequence[Sample]) -> list[Sample]:
        import numpy as np

        rule = self.config.clean.near_duplicates
        if rule is None or not samples:
            return list(samples)
        answers = rule.compare == "answer"
        if not self._bands:
            self._texts = [
                text for sample in self._real if sample.one.split == "train" for text in _compared(sample, answers)
            ]
            self._bands = [self.bands(self._texts, rule.threshold)] if self._texts else []
        known = len(self._texts)
        texts = [_compared(sample, answers)[0] for sample in samples]
        fixed = [True] * known + [sample.kept or sample.source not in rule.sources for sample in samples]
        bands = np.concatenate([*self._bands, self.bands(texts, rule.threshold)])
        every = [*self._texts, *texts]
        copies = near_copies(every, bands, fixed, rule.threshold)
        left: list[Sample] = []
        stay = list(range(known))
        for at, sample in enumerate(samples, known):
            if at in copies:
                self.tally.drop(sample.source, sample.one, NEAR_DUPLICATE, note=every[copies[at]])
            else:
                left.append(sample)
                stay.append(at)
        self._texts, self._bands = [every[at] for at in stay], [bands[stay]]
        return left


def _compared(sample: Sample, answers: bool) -> list[str]:
    """The text by which a sample is compared; of a window of lines also each exchange by itself."""
    heard: list[str] = []
    parts: list[str] = []
    for message in sample.one.messages:
        if message.role == "user" and not answers:
            heard.append(message.content)
        elif message.role == "assistant" and message.loss:
            parts.append("\n".join([*heard, message.content]))
            heard = []
    whole = "\n".join(parts)
    return [whole, *parts] if sample.source == "lines" and len(parts) > 1 else [whole]

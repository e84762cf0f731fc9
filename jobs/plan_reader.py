"""How many calls `extract.llm` would make: what it would ask about the sample's lines, and about works that wait."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.attribute import Questions, cast_of, revision_of
from jobs.attribute_files import stretches_of
from jobs.calls import Call
from jobs.extract_work import Task
from jobs.plan_calls import SUMS, Calls, Former, Journals, asked_of, tokens_of
from jobs.rehearsal import Piece, Rehearsal
from understudy.errors import CorpusError
from understudy.recipe import ExtractLlm, Recipe
from understudy.record import Record
from understudy.store import Store

SPAN_TOKENS = 16
"""Of the answer for one speech."""
MOST_WAITING_BYTES = 8 << 20
"""Of works whose lines are there already so many are looked at."""


def reader_calls(recipe: Recipe, play: Rehearsal, journals: Journals) -> Calls:
    """The calls for everything that extract has to do."""
    sample = {piece.task.work.name: _calls(recipe, play.store, piece, journals) for piece in play.pieces}
    total = Calls()
    for name in SUMS:
        setattr(total, name, play.scaled({work: getattr(own, name) for work, own in sample.items()}))
    total.add(_waiting(recipe, play, journals))
    return total


def _waiting(recipe: Recipe, play: Rehearsal, journals: Journals) -> Calls:
    found = Calls()
    looked = whole = 0
    for piece in play.ruled.values():
        whole += piece.size_bytes
        if looked <= MOST_WAITING_BYTES:
            found.add(_calls(recipe, piece.task.store, piece, journals))
            looked += piece.size_bytes
    found.grow(whole / looked if looked else 1)
    return found


def _calls(recipe: Recipe, store: Store, piece: Piece, journals: Journals) -> Calls:
    llm = recipe.extract.llm
    if llm is None or piece.rules is None or revision_of(recipe, piece.task, piece.rules) is None:
        return Calls()
    return asked_of(recipe, llm.endpoint, list(_asked(llm, store, piece.task, piece.rules)), journals, Former())


def _asked(llm: ExtractLlm, store: Store, task: Task, rules: Record) -> Iterator[tuple[Call, float]]:
    """Each call with a guess of the tokens of its answer."""
    kind = str(rules.counts.get("kind"))
    try:
        for stretch in stretches_of(store, task, rules):
            own = Questions.of(llm, cast_of(task), stretch, kind)
            guesses = [SPAN_TOKENS * (1 + len(window.spans)) for window in own.windows]
            guesses += [tokens_of(passage.text) / 2 for passage in own.passages]
            yield from zip(own.calls(), guesses, strict=True)
    except CorpusError:
        return  # it is set aside, and says why

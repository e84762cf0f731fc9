"""A cell of the matrix is the likelihood that the model itself gives, and is computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapters import make_adapter
from bases import make_random_base
from peft import PeftModel
from test_conversation import play
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.matrix import BASE, PROMPTED, Cell
from jobs.scoring import Adapter, Ground, Row, Wanted, read_cell, score_cells
from understudy.base import resolve
from understudy.conversation import Conversation
from understudy.dataset import conversations_table, curate
from understudy.recipe import ModelConfig
from understudy.record import table_digest
from understudy.rendering import Renderer, with_system
from understudy.store import Store

SYSTEM = "You are Adam, a judge with a sore head."
SCRIPT = [
    f"{name}: {name.title()} says {i} times that the lamp is lit." for i in range(6) for name in ("LICHT", "ADAM")
]


def heldout() -> list[Conversation]:
    rows = [row for n in range(4) for row in play("# Act", *SCRIPT, scene=f"w#{n}", first=100 * n)]
    found = curate(rows, "adam", window=4, heldout=0.5, max_repeats=9).conversations
    return [conversation for conversation in found if conversation.split == "heldout"]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("scoring")
    torch.set_num_threads(1)
    base = make_random_base(folder / "base")
    store = Store.open(folder / "store")
    for seed, name in enumerate(("adam", "eve")):
        make_adapter(folder / "store" / name, seed=seed, size=0.3)
    store.write_table("adam.parquet", conversations_table(heldout()))
    model = ModelConfig(base=str(base))
    return Ground(store, "jug", resolve(model), model, 512)


def wanted(ground: Ground) -> list[Wanted]:
    row = Row("adam", "adam.parquet", table_digest(ground.store.read_table("adam.parquet")), SYSTEM)
    adapters = [Adapter(name, name, name) for name in ("adam", "eve")]
    return [Wanted(row, BASE, None), Wanted(row, PROMPTED, None), *(Wanted(row, a.persona, a) for a in adapters)]


def expected(ground: Ground, column: str) -> Cell:
    """By PEFT and transformers alone, one sample at a time."""
    path: Path = ground.base.path
    model = AutoModelForCausalLM.from_pretrained(path)
    if column not in (BASE, PROMPTED):
        model = PeftModel.from_pretrained(model, f"{ground.store.uri}/{column}")
    renderer = Renderer(AutoTokenizer.from_pretrained(path))
    ids, nll, tokens = [], [], []
    for conversation in sorted(heldout(), key=lambda one: one.conversation_id):
        samples = renderer.samples(with_system(conversation.messages, "" if column == BASE else SYSTEM))
        ids.append(conversation.conversation_id)
        tokens.append(sum(sample.learned for sample in samples))
        with torch.no_grad():
            losses = [
                model(input_ids=torch.tensor([s.input_ids]), labels=torch.tensor([s.labels])).loss.item() * s.learned
                for s in samples
            ]
        nll.append(sum(losses))
    return Cell(tuple(ids), tuple(nll), tuple(tokens))


@pytest.mark.parametrize("column", [BASE, PROMPTED, "adam", "eve"])
def test_a_cell_is_what_peft_and_transformers_give(ground, column):
    [one] = [one for one in wanted(ground) if one.column == column]
    if read_cell(ground, one) is None:
        list(score_cells(ground, wanted(ground)))
    found, known = read_cell(ground, one), expected(ground, column)
    assert found is not None
    assert (found.conversations, found.tokens) == (known.conversations, known.tokens)
    assert len(found.conversations) > 1
    assert found.nll == pytest.approx(known.nll, rel=1e-4)


def test_a_cell_is_named_by_everything_its_numbers_depend_on_and_by_nothing_else(ground):
    base, prompted, adam, eve = wanted(ground)
    keys = {one.key(ground) for one in (base, prompted, adam, eve)}
    assert len(keys) == 4
    other_words = [replace(one, row=replace(one.row, system="You are Eve.")) for one in (base, prompted, adam)]
    assert [one.key(ground) in keys for one in other_words] == [True, False, False]
    retrained = replace(adam, adapter=Adapter("adam", "adam", "other weights"))
    more_lines = replace(base, row=replace(base.row, digest="other lines"))
    assert not {retrained.key(ground), more_lines.key(ground)} & keys
    moved = replace(adam, adapter=Adapter("adam", "elsewhere", "adam"))
    assert moved.key(ground) in keys
    thinking = replace(ground, model=ground.model.model_copy(update={"template_kwargs": {"enable_thinking": True}}))
    shorter = replace(ground, max_length=128)
    assert not {adam.key(thinking), adam.key(shorter)} & keys


def test_a_cell_has_the_same_bits_whatever_was_scored_beside_it(ground):
    """A killed run computes what is missing: other groups of adapters, the same numbers."""
    make_adapter(Path(ground.store.uri) / "wide", seed=9, rank=8, size=0.3)
    mine = wanted(ground)[2]
    wide = replace(mine, column="wide", adapter=Adapter("wide", "wide", "wide"))
    together = [*wanted(ground), wide]
    list(score_cells(ground, together))
    before = [ground.store.get(one.key(ground)) for one in together]
    for one in reversed(together):
        list(score_cells(ground, [one]))
    assert [ground.store.get(one.key(ground)) for one in together] == before


def test_scoring_leaves_the_base_as_it_was(ground):
    """Groups of adapters follow each other over one loaded base; the bare base scores the same after them."""
    base = wanted(ground)[0]
    list(score_cells(ground, wanted(ground)[2:]))
    list(score_cells(ground, wanted(ground)))
    again = read_cell(ground, base)
    ground.store.delete(base.key(ground))
    list(score_cells(ground, [base]))
    assert read_cell(ground, base) == again

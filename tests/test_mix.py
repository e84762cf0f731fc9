"""General dialogue: a file or data set gives the same conversations for a seed, and says what it cannot give."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars

from jobs.mix import candidates, open_mix
from understudy.errors import InputError
from understudy.recipe import Recipe


def chats(count: int) -> list[dict]:
    return [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
        for n in range(count)
    ]


@pytest.fixture
def folder(tmp_path):
    disable_progress_bars()
    rows = [{"instruction": f"q{n}", "output": f"a{n}"} for n in range(60)]
    (tmp_path / "general.json").write_text(json.dumps([*rows, rows[0], {"x": 1}]))
    DatasetDict({"train": Dataset.from_list([*chats(400), {"messages": []}])}).save_to_disk(tmp_path / "hf")
    return tmp_path


def source(folder, **entry):
    return open_mix(Recipe(name="r", folder=str(folder), curate={"mix": [entry]}))[0]


@pytest.mark.parametrize("entry", [{"path": "general.json"}, {"dataset": "hf"}])
def test_a_persona_draws_the_same_conversations_again_and_more_of_them_when_it_asks_for_more(folder, entry):
    few = list(islice(candidates(source(folder, **entry), "bo", 0, Counter()), 20))
    more = list(islice(candidates(source(folder, **entry), "bo", 0, Counter()), 50))
    assert more[:20] == few
    assert len({one.messages for one in more}) == 50
    assert {(one.persona, one.split, one.provenance.method, one.provenance.seed) for one in more} == {
        ("bo", "train", "mix", 0)
    }
    others = [
        islice(candidates(source(folder, **entry), name, seed, Counter()), 20) for name, seed in (("bo", 1), ("eve", 0))
    ]
    for other in others:
        assert [one.messages for one in other] != [one.messages for one in few]


@pytest.mark.parametrize(("entry", "good", "bad"), [({"path": "general.json"}, 60, 1), ({"dataset": "hf"}, 400, 1)])
def test_a_source_gives_each_conversation_once_and_counts_what_it_cannot_read(folder, entry, good, bad):
    opened = source(folder, **entry)
    aside = Counter(opened.set_aside)
    assert len(list(candidates(opened, "bo", 0, aside))) == good
    assert aside.total() == bad


def test_the_digest_changes_with_the_rows_and_the_rights_are_the_recipes(folder):
    before = source(folder, path="general.json", rights={"licence": "CC0-1.0"})
    assert before.rights == {"source": "", "licence": "CC0-1.0", "holder": "", "note": ""}
    again = source(folder, dataset="hf").digest
    assert again == source(folder, dataset="hf").digest
    DatasetDict({"train": Dataset.from_list(chats(401))}).save_to_disk(folder / "hf2")
    assert source(folder, dataset="hf2").digest != again
    (folder / "general.json").write_text(json.dumps([{"instruction": "q", "output": "a"}]))
    assert source(folder, path="general.json").digest != before.digest


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ([{"path": "none.json"}], "curate.mix.0: .*none.json"),
        ([{"dataset": "hf", "split": "valid"}], "has no split valid; it has train"),
        ([{"dataset": "nobody/nothing"}], "curate.mix.0: data set nobody/nothing cannot be read"),
        ([{"path": "general.json", "share": 0.5}, {"dataset": "hf", "share": 0.5}], "the shares come to 1"),
    ],
)
def test_a_source_that_is_not_there_is_named(folder, monkeypatch, mix, says):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=says) as caught:
        open_mix(Recipe(name="r", folder=str(folder), curate={"mix": mix}))
    assert "\n" not in str(caught.value)

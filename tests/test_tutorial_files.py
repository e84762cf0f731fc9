"""Files in the shapes of three well-known tutorials go through extract and curate by one recipe each."""

from __future__ import annotations

import json
import random

import pytest

from jobs.curate import run_curate
from jobs.export import run_export
from jobs.extract import run_extract
from jobs.stage import curated_conversations, finished_record
from understudy.affected import affected
from understudy.interchange import read_conversations_file
from understudy.recipe import load
from understudy.store import Store

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]

SYLLABLES = ["ba", "lo", "mi", "ter", "sun", "ka", "rin", "do", "wel", "fa", "gor", "nes", "pi", "tu", "hal", "ve"]
RIGHTS = {"source": "written for this test", "licence": "Apache-2.0"}


def words(seed: str, count: int) -> str:
    """Made-up words, so that no two rows are nearly the same."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(2, 3))) for _ in range(count))


def question(n: int) -> str:
    return f"Did {words(f'q{n}', 9)}?"


def answer(n: int) -> str:
    return f"The {words(f'a{n}', 12)}."


def alpaca() -> bytes:
    """As Chat-Huanhuan: instruction, input, output, indented."""
    rows = [{"instruction": question(n), "input": "", "output": answer(n)} for n in range(40)]
    return json.dumps([*rows, {"instruction": "?"}], ensure_ascii=False, indent=4).encode()


def xtuner() -> bytes:
    """As Horowag and Tianji: conversation of system, input, output."""
    rows = [
        {
            "conversation": [
                {"system": "You keep the mill.", "input": question(n), "output": answer(n)},
                {"input": question(n + 500), "output": answer(n + 100)},
            ]
        }
        for n in range(40)
    ]
    return json.dumps([*rows, {"conversation": []}], ensure_ascii=False).encode()


def spoken() -> bytes:
    """As the first step of Chat-Huanhuan leaves them: lines with a misspelt key, by name."""
    pairs = [(("Visitor", question(n)), ("Oda Mill", answer(n))) for n in range(200)]
    rows = [{"rloe": who, "content": text} for pair in pairs for who, text in pair]
    return "\n".join(json.dumps(row) for row in [*rows, {"rloe": 3, "content": "?"}]).encode()


def recipe(folder, path, persona="persona: oda, ", more=""):
    (folder / "r.yaml").write_text(
        f"name: r\ncast: [{{name: oda, aliases: [Oda Mill]}}]\n"
        f"corpus: [{{path: {path}, kind: conversations, {persona}rights: {json.dumps(RIGHTS)}}}]\n"
        f"{more}resources: {{extract: {{cpus: 1, workers: 1}}}}\n"
    )
    return load(folder / "r.yaml")


@pytest.mark.parametrize(
    ("name", "make", "answers"),
    [("a.json", alpaca, 40), ("x.json", xtuner, 80), ("l.jsonl", spoken, 200)],
    ids=["alpaca", "xtuner", "lines"],
)
def test_a_tutorials_file_goes_through_extract_and_curate_with_its_rights(tmp_path, name, make, answers):
    (tmp_path / name).write_bytes(make())
    loaded = recipe(tmp_path, name, persona="" if name == "x.json" else "persona: oda, ")
    extracted = run_extract(loaded)
    run_curate(loaded)
    store = Store.open(tmp_path / "store")
    unit = next(iter(extracted.units))
    _, record = finished_record(store, "r", "extract", unit, "")
    assert record.counts["set_aside"] == 1
    found = curated_conversations(store, "r", "oda")
    assert {one.split for one in found} == {"train", "heldout"}
    learned = [message.content for one in found for message in one.messages if message.loss]
    assert len(learned) == len(set(learned)) == answers
    _, curated = finished_record(store, "r", "curate", "oda", "")
    assert curated.rights == [{**RIGHTS, "holder": "", "note": ""}]
    assert {(one.stage, one.unit) for one in affected(store, unit).outputs} == {("extract", unit), ("curate", "oda")}


def test_what_is_exported_is_read_again_with_the_same_answers_in_every_format(tmp_path):
    (tmp_path / "x.json").write_bytes(xtuner())
    general = [{"instruction": question(n), "output": answer(n)} for n in range(700, 740)]
    (tmp_path / "general.json").write_text(json.dumps(general))
    loaded = recipe(tmp_path, "x.json", more="curate: {mix: [{path: general.json, share: 0.2}]}\n")
    run_extract(loaded)
    run_curate(loaded)
    found = curated_conversations(Store.open(tmp_path / "store"), "r", "oda")
    own = [one for one in found if one.split == "train"]
    mixed = [one for one in own if one.provenance.method == "mix"]
    assert len(mixed) == round(0.2 * len(own))
    learned = sorted(message.content for one in own for message in one.messages if message.loss)
    for form in ("alpaca", "sharegpt", "xtuner", "messages", "trl", "prompt-completion", "conversations"):
        written = run_export(loaded, (), tmp_path / form, form)
        train = next(path for path in written if path.name.startswith("oda.train"))
        good, aside = read_conversations_file(train.read_bytes(), "auto", "oda", train.name)
        assert not aside
        assert sorted(message.content for one in good for message in one.messages if message.loss) == learned
        assert ("dataset_info.json" in {path.name for path in written}) == (
            form in ("alpaca", "sharegpt", "messages", "trl")
        )

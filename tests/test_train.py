"""The train stage: groups, snapshots, kills, and what a later change of the cast makes train again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from bases import make_random_base
from peft import PeftModel

from cluster import runtime
from jobs.base_model import load_model, load_tokenizer
from jobs.peft_folder import read_peft
from jobs.slot_host import GroupRun
from jobs.slot_plan import Member, SlotPlan, snapshots
from jobs.slots import Slots
from jobs.stage import Unit, read_latest, write_latest
from jobs.train import plan_groups, run_train, slot_config
from understudy.base import Base
from understudy.conversation import Conversation, Message, Provenance
from understudy.dataset import conversations_table
from understudy.errors import InputError, RecipeError
from understudy.recipe import (
    CastEntry,
    LoraOverride,
    ModelConfig,
    Recipe,
    ResourceConfig,
    Resources,
    TrainConfig,
    TrainOverride,
)
from understudy.record import table_digest
from understudy.rendering import Renderer, Sample
from understudy.store import Store

CAST = {"adam": 14, "eve": 9, "licht": 5}
"""Conversations by persona: different lengths of training."""
ONE_THREAD = Resources(train=ResourceConfig(cpus=1))
OUTPUTS = ("adapter_config.json", "adapter_model.safetensors", "metrics.json", "samples.json")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_base(tmp_path_factory.mktemp("base"))


def conversations(persona: str, count: int) -> list[Conversation]:
    found = []
    for number in range(count):
        asked = Message("user", f"Who is at door {number}?" + " Tell me." * (number % 3))
        said = Message("assistant", f"It is {persona} with lamp {number * 7 % 5}.", loss=True)
        more = [Message("user", "And then?"), Message("assistant", "Bread and soup!", loss=True)] if number % 2 else []
        split = "heldout" if number % 5 == 4 else "train"
        found.append(Conversation(f"{persona}-{number}", persona, split, "1", (asked, said, *more), Provenance("play")))
    return found


def curated(store: Store, cast: dict[str, int]) -> None:
    """Leave behind what curate would: a table and its record per persona."""
    units = {}
    for persona, count in cast.items():
        table = conversations_table(conversations(persona, count))
        unit = Unit("play", "curate", 1, persona, {"persona": persona}, {"rows": table_digest(table)})
        store.write_table(f"{unit.key}/conversations.parquet", table)
        unit.finish(store, {"conversations.parquet": table_digest(table)}, {}, time.time())
        units[persona] = unit.fingerprint
    write_latest(store, "play", "curate", units)


def recipe_of(folder: Path, base: Path, cast: Sequence[str] = tuple(CAST), **train: object) -> Recipe:
    entries = [CastEntry(name=name) for name in cast]
    settings = TrainConfig.model_validate({"epochs": 4, "snapshot_s": 0, "probes": ["Who knocks?"], **train})
    model = ModelConfig(base=str(base), source="path")
    return Recipe(
        name="play",
        store="store",
        folder=str(folder),
        cast=tuple(entries),
        train=settings,
        model=model,
        resources=ONE_THREAD,
    )


def plans_of(store: Store, cast: dict[str, int], **train: object) -> list[SlotPlan]:
    curated(store, cast)
    config = TrainConfig.model_validate({"epochs": 4, "probes": ["Who knocks?"], **train})
    plans = []
    for persona, fp in read_latest(store, "play", "curate").items():
        unit = Unit("play", "train", 1, persona, {"persona": persona, **config.model_dump(mode="json")}, {"curate": fp})
        key = f"runs/play/curate/{fp}/conversations.parquet"
        system = f"You are {persona}."
        plans.append(SlotPlan(unit, slot_config(persona, config), key, system, config.max_length, config.probes))
    return plans


class KilledError(Exception):
    """Stands for the end of the process, at a place of the test's choosing."""


def run_group(
    store: Store, base: Path, members: Sequence[Member], kill_at: int | None = None, config: ModelConfig | None = None
) -> Any:
    """Train a group in this process; returns the base that it stood on."""
    torch.set_num_threads(1)
    config = config or ModelConfig(base=str(base))
    loaded = Base(f"{base.parent}/some-base", base, "sha256:0")
    model = load_model(loaded, config)
    run = GroupRun(store, loaded, model, Renderer(load_tokenizer(loaded, config)), members, snapshot_s=0)
    steps = 0

    def count(_: object) -> None:
        nonlocal steps
        steps += 1
        if kill_at is not None and steps >= kill_at:
            raise KilledError

    run.run(count)
    return model


def outputs(store: Store, plans: Sequence[SlotPlan]) -> dict[str, bytes]:
    return {f"{p.unit.name}/{name}": store.get(f"{p.unit.key}/{name}") for p in plans for name in OUTPUTS}


@pytest.mark.parametrize("kill_at", [1, 4, 5, 11])
def test_a_group_cut_off_anywhere_ends_with_the_bytes_of_an_undisturbed_one(
    base: Path, tmp_path: Path, kill_at: int
) -> None:
    undisturbed, cut = Store.open(tmp_path / "a"), Store.open(tmp_path / "b")
    plans = plans_of(undisturbed, CAST)
    (group,) = plan_groups(undisturbed, "play", plans)
    run_group(undisturbed, base, group)
    cut_plans = plans_of(cut, CAST)
    with pytest.raises(KilledError):
        run_group(cut, base, plan_groups(cut, "play", cut_plans)[0], kill_at)
    waiting = [plan for plan in cut_plans if not plan.unit.record(cut)]
    assert len(waiting) == {1: 3, 4: 2, 5: 2, 11: 1}[kill_at]
    (resumed,) = plan_groups(cut, "play", waiting)
    assert [m.fingerprint for m in resumed] == [m.fingerprint for m in group]
    run_group(cut, base, resumed)
    assert outputs(cut, cut_plans) == outputs(undisturbed, plans)
    left = [key for key in cut.keys("runs/play/train") if "snapshot" in key or key.endswith("plan.json")]
    assert not left


def test_a_kill_between_two_snapshots_of_one_step_goes_back_to_the_step_that_all_have(
    base: Path, tmp_path: Path
) -> None:
    undisturbed, cut = Store.open(tmp_path / "a"), Store.open(tmp_path / "b")
    plans = plans_of(undisturbed, CAST)
    run_group(undisturbed, base, plan_groups(undisturbed, "play", plans)[0])
    cut_plans = plans_of(cut, CAST)
    with pytest.raises(KilledError):
        run_group(cut, base, plan_groups(cut, "play", cut_plans)[0], kill_at=3)
    key = cut_plans[1].unit.key
    assert sorted(snapshots(cut, key)) == [2, 3]
    cut.delete(snapshots(cut, key)[3])
    run_group(cut, base, plan_groups(cut, "play", cut_plans)[0])
    assert outputs(cut, cut_plans) == outputs(undisturbed, plans)


def test_a_group_whose_member_left_the_recipe_goes_on_from_its_snapshots(base: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    plans = plans_of(store, CAST)
    with pytest.raises(KilledError):
        run_group(store, base, plan_groups(store, "play", plans)[0], kill_at=2)
    kept = [plan for plan in plans if plan.unit.name != "eve"]
    changed = plans_of(store, {"eve": 7})
    groups = plan_groups(store, "play", [*kept, *changed])
    assert [[m.config.name for m in group] for group in groups] == [["eve"], ["adam", "licht"]]
    for group in groups:
        run_group(store, base, group)
    assert all(plan.unit.record(store) for plan in (*kept, *changed))


def test_slots_are_spread_over_groups_when_their_rows_are_too_many(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    plans = plans_of(store, {f"p{number}": 4 for number in range(5)}, micro_batch_size=50)
    groups = plan_groups(store, "play", plans)
    assert [len(group) for group in groups] == [2, 2, 1]
    assert plan_groups(store, "play", plans) == groups


def test_a_trained_persona_loads_in_peft_and_its_folder_names_the_base_and_no_path(base: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    plans = plans_of(store, {"adam": 6})
    run_group(store, base, plan_groups(store, "play", plans)[0])
    store.fetch_tree(plans[0].unit.key, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "some-base"
    assert config["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert str(tmp_path) not in (tmp_path / "adapter" / "adapter_config.json").read_text()
    model = load_model(Base("some-base", base, ""), ModelConfig(base=str(base)))
    ids = torch.tensor([[5, 6, 7, 8]])
    before = model(input_ids=ids).logits
    after = PeftModel.from_pretrained(model, tmp_path / "adapter")(input_ids=ids).logits
    assert not torch.allclose(before, after)
    (answers,) = json.loads(store.get(f"{plans[0].unit.key}/samples.json"))
    assert set(answers) == {"question", "before", "halfway", "after"}
    metrics = json.loads(store.get(f"{plans[0].unit.key}/metrics.json"))
    record = plans[0].unit.record(store)
    assert record
    assert len(metrics["loss"]) == record.counts["steps"]
    assert record.counts["last_loss"] < record.counts["first_loss"]


def test_conversations_too_long_for_max_length_are_shortened_and_counted(base: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    plans = plans_of(store, {"adam": 10}, max_length=70, epochs=1)
    run_group(store, base, plan_groups(store, "play", plans)[0])
    record = plans[0].unit.record(store)
    assert record
    assert record.counts["shortened_samples"] > 0
    impossible = plans_of(store, {"adam": 10}, max_length=8, epochs=2)
    with pytest.raises(InputError, match="fits into 8 tokens"):
        run_group(store, base, [Member("x", plan.config, plan) for plan in impossible])


def test_a_lora_over_a_base_in_four_bits_learns_and_speaks_in_peft_as_it_was_trained(
    base: Path, tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "store")
    plans = plans_of(store, {"adam": 6, "eve": 4})
    config = ModelConfig(base=str(base), quantization="nf4")
    model = run_group(store, base, plan_groups(store, "play", plans)[0], config=config)
    record = plans[0].unit.record(store)
    assert record
    assert record.counts["last_loss"] < record.counts["first_loss"]
    store.fetch_tree(plans[0].unit.key, tmp_path / "adapter")
    slots = Slots(model, [replace(plans[0].config, target_modules="auto")])
    slots.load(0, read_peft(tmp_path / "adapter"))
    row = Sample((), [5, 6, 7, 8, 9], [0, 1, 1, 1, 1])
    ((nll, _),) = slots.score([(0, row)])
    slots.close()
    peft = PeftModel.from_pretrained(model, tmp_path / "adapter")
    ids = torch.tensor([row.input_ids])
    log = peft(input_ids=ids).logits[0, :-1].log_softmax(-1)
    assert nll == pytest.approx(-float(log.gather(1, ids[0, 1:, None]).sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"engine": "deepspeed"}, "use `train.engine=slots`"),
        ({"method": "full"}, "use `train.method=lora`"),
        ({"lora": {"dropout": 0.1}}, "set it to 0"),
        ({"phases": [{"epochs": 1}]}, "remove them"),
    ],
)
def test_what_the_slot_engine_cannot_do_is_refused_in_one_line(tmp_path: Path, train: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        run_train(recipe_of(tmp_path, tmp_path, **train))
    assert "\n" not in str(caught.value)


def train_in_a_process(folder: Path, base: Path, kill_when: str) -> None:
    """Run the stage in a process of its own and SIGKILL it as soon as a file `kill_when` exists in the store."""
    code = (
        "import sys; from pathlib import Path; from test_train import recipe_of; from jobs.train import run_train\n"
        "run_train(recipe_of(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    root = Path(__file__).resolve().parent
    env = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root.parent}"}
    process = subprocess.Popen([sys.executable, "-c", code, str(folder), str(base)], env=env, cwd=root.parent)
    try:
        deadline = time.monotonic() + 200
        while not list((folder / "store").glob(kill_when)) and time.monotonic() < deadline:
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.cluster
def test_killed_in_training_and_run_again_the_stage_leaves_the_same_adapters_and_later_trains_only_what_is_new(
    base: Path, tmp_path: Path
) -> None:
    stores = {}
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
        stores[name] = Store.open(tmp_path / name / "store")
        curated(stores[name], CAST)
    train_in_a_process(tmp_path / "killed", base, kill_when="runs/play/train/*/snapshot-00000003.safetensors")
    assert not read_latest(stores["killed"], "play", "train")
    curated(stores["killed"], {**CAST, "walter": 4})
    with runtime.running():
        undisturbed = run_train(recipe_of(tmp_path / "undisturbed", base))
        resumed = run_train(recipe_of(tmp_path / "killed", base))
        assert resumed.units == undisturbed.units
        for fp in undisturbed.units.values():
            for name in OUTPUTS:
                key = f"runs/play/train/{fp}/{name}"
                assert stores["killed"].get(key) == stores["undisturbed"].get(key), name
        wider = recipe_of(tmp_path / "killed", base, (*CAST, "walter"))
        louder = CastEntry(name="eve", train=TrainOverride(lora=LoraOverride(rank=4), learning_rate=1e-3))
        wider = wider.model_copy(update={"cast": tuple(louder if e.name == "eve" else e for e in wider.cast)})
        later = run_train(wider)
        assert later.made == ("eve", "walter")
        assert json.loads(stores["killed"].get(f"runs/play/train/{later.units['eve']}/adapter_config.json"))["r"] == 4
        assert run_train(wider).skipped


@pytest.mark.cluster
def test_a_host_killed_in_training_is_begun_again_from_its_snapshots(base: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    curated(store, CAST)
    killed: list[int] = []

    def kill_the_host() -> None:
        while not list((tmp_path / "store").glob("runs/play/train/*/snapshot-00000002.safetensors")):
            time.sleep(0.01)
        for process in psutil.Process().children(recursive=True):
            if "SlotHost" in " ".join(process.cmdline()):
                process.kill()
                killed.append(process.pid)

    with runtime.running():
        thread = threading.Thread(target=kill_the_host, daemon=True)
        thread.start()
        result = run_train(recipe_of(tmp_path, base))
        thread.join(timeout=5)
    assert killed
    assert set(result.counts) == set(CAST)

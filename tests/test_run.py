"""`understudy run` as a whole: killed in every stage and started again, it ends where an undisturbed run ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bases import make_random_base
from understudy.catalog import Catalog
from understudy.record import Record
from understudy.store import Store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent
CAST = ["ada", "bo", "cy", "di", "ed", "flo"]
WORDS = [
    "the",
    "lamp",
    "is",
    "lit",
    "and",
    "nobody",
    "knows",
    "who",
    "came",
    "by",
    "boat",
    "with",
    "bread",
    "and",
    "a",
    "song",
]
STAGES = ("extract", "curate", "train", "evaluate", "publish")


def play(seed: int) -> str:
    rng = random.Random(seed)
    parts = []
    for scene in range(5):
        parts.append(f"SCENE {scene + 1}\n")
        for line in range(24):
            words = " ".join(rng.choices(WORDS, k=rng.randint(3, 8)))
            parts.append(f"{CAST[(line + scene) % len(CAST)].upper()}: {words.capitalize()}.")
        parts.append("")
    return "\n".join(parts)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_random_base(tmp_path_factory.mktemp("base") / "small", hidden=32, layers=1)


def production(folder: Path, base: Path, cast: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(3):
        (folder / f"play-{i}.txt").write_text(play(i))
    recipe = {
        "name": "kill",
        "corpus": [{"path": "play-*.txt"}],
        "cast": [{"name": name} for name in cast],
        "model": {"base": str(base), "source": "path"},
        "curate": {"heldout": 0.2},
        "train": {"lora": {"rank": 4}, "epochs": 4, "micro_batch_size": 2, "max_length": 128, "snapshot_s": 0},
        "evaluate": {"bootstrap": 100},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder / "recipe.yaml"


def start(recipe: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "understudy.cli", "run", str(recipe), "--json", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(recipe: Path, *arguments: str) -> dict[str, Any]:
    """What `run --json` printed, by stage."""
    out, err = start(recipe, *arguments).communicate(timeout=600)
    assert out, err
    return {stage["stage"]: stage for stage in json.loads(out)["stages"]}


def kill_when(recipe: Path, seen: Callable[[], bool]) -> None:
    """Start a run and SIGKILL it as soon as `seen`; it must not have ended by then."""
    with start(recipe) as process:
        deadline = time.monotonic() + 300
        while not seen() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, "the run ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)


def made(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Output digests by stage and unit: tables by their rows, adapters by their bytes."""
    store = Store.open(folder / "store")
    found: dict[str, dict[str, dict[str, str]]] = {}
    for stage in STAGES:
        latest = store.get_json(f"runs/kill/{stage}/latest.json")
        records = {u: Record(**store.get_json(f"runs/kill/{stage}/{fp}/record.json")) for u, fp in latest.items()}
        found[stage] = {unit: dict(record.outputs) for unit, record in records.items()}
    return found


def versions(folder: Path) -> dict[str, str]:
    state = Catalog(Store.open(folder / "store")).refresh()
    return {name: state.resolve(name).version for name in state.personas()}


def test_killed_in_every_stage_it_ends_as_if_undisturbed_and_repeats_nothing_finished(tmp_path, base):
    calm = production(tmp_path / "calm", base, CAST)
    finish(calm)
    rough = production(tmp_path / "rough", base, CAST)
    runs = rough.parent / "store" / "runs" / "kill"

    def some(pattern: str) -> Callable[[], bool]:
        return lambda: any(runs.glob(pattern))

    moments = {
        "extract": some("extract/*/lines.parquet"),
        "curate": some("curate/*/record.json"),
        "train": some("train/*/snapshot-00000003.safetensors"),
        "evaluate": some("evaluate/cells/*.json"),
        "publish": lambda: any((rough.parent / "store" / "adapters").glob("*/*/manifest.json")),
    }
    times: dict[Path, int] = {}
    for moment in moments.values():
        kill_when(rough, moment)
        finished = {path: path.stat().st_mtime_ns for path in runs.glob("*/*/record.json")}
        assert all(finished[path] == changed for path, changed in times.items()), "a finished unit was made again"
        times = finished
    stages = finish(rough)
    assert all(path.stat().st_mtime_ns == changed for path, changed in times.items())
    assert stages["train"]["skipped"]
    assert made(rough.parent) == made(calm.parent)
    assert versions(rough.parent) == versions(calm.parent)
    assert not Catalog(Store.open(rough.parent / "store")).verify()
    assert len(list(runs.glob("train/*/snapshot-*"))) == 0

    again = finish(rough)
    assert all(stage["skipped"] for stage in again.values())


def test_one_more_persona_trains_one_adapter_and_one_persona_alone_can_run(tmp_path, base):
    recipe = production(tmp_path / "cast", base, CAST[:3])
    first = finish(recipe, "--persona", "bo")
    assert list(first["train"]["units"]) == ["bo"]
    assert versions(recipe.parent).keys() == {"bo"}
    finish(recipe)
    before = made(recipe.parent)
    before_versions = versions(recipe.parent)
    production(tmp_path / "cast", base, CAST[:4])
    stages = finish(recipe)
    new = [unit for unit, of in stages["train"]["units"].items() if not of["skipped"]]
    assert new == ["di"]
    after = made(recipe.parent)
    for stage in ("curate", "train", "evaluate", "publish"):
        assert {unit: of for unit, of in after[stage].items() if unit != "di"} == before[stage]
    assert {name: v for name, v in versions(recipe.parent).items() if name != "di"} == before_versions
    assert Catalog(Store.open(recipe.parent / "store")).refresh().n == 3  # bo; then ada and cy; then di


def test_a_second_run_at_the_same_time_is_refused_with_who_holds(tmp_path, base):
    recipe = production(tmp_path / "held", base, CAST[:2])
    with start(recipe) as first:
        leases = recipe.parent / "store" / "leases" / "kill"
        while not any(leases.glob("*.json")) and first.poll() is None:
            time.sleep(0.01)
        out, err = start(recipe).communicate(timeout=60)
        assert not out
        assert f"process {first.pid}, `understudy run`" in err
        assert len(err.strip().splitlines()) == 1
        first.kill()

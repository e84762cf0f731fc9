"""What `understudy run --plan` says against what the run that follows takes, figure by figure.

    python -m benchmarks.plan_vs_run [demo] [again] [greetings] [corpus] [--mb 30] [--texts FOLDER]

    demo        examples/demo from an empty store, two epochs: times are measured on the sample and by a few steps
    again       after demo, the same with another learning rate: times are those of the records that `demo` left
    greetings   examples/greetings against a scripted server of 50 ms latency, with prices, 8 calls made for the plan
    corpus      plays and novels, written from a seed, of which 1 MB is read for the plan; extract and curate
    texts       the same with the texts below FOLDER, an automatic cast; left out without one

Each part is planned with an empty store (`again`: with that of `demo`), then run in this process. Disk is what the
store grows by. A ratio is planned over taken.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.written_corpus import write_corpus, write_recipe
from cluster import runtime
from jobs.plan import plan_run
from jobs.stage import StageResult, heard_by
from understudy.recipe import Recipe, load
from understudy.reporting.plan import Stage

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PARTS = ("demo", "again", "greetings", "corpus")
EARLY = ("extract", "augment", "curate")
ALL = (*EARLY, "train", "evaluate", "publish")
ASKED = 8
"""Calls made for a plan of a recipe that makes some."""
PRICES = {"input": 0.4, "output": 1.2}


def main() -> int:
    """Print the table; 1 when rows, calls, tokens or money are off by more than 30 %."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without")
    parser.add_argument("--mb", type=int, default=30, help="megabytes of the written corpus")
    parser.add_argument("--texts", type=Path, default=None, help="a folder of texts of your own")
    given = parser.parse_args()
    given.parts = given.parts or PARTS
    print("| recipe | stage | figure | planned | taken | ratio |\n|---|---|---|---|---|---|", flush=True)
    off = 0
    with tempfile.TemporaryDirectory(prefix="understudy-plan-") as name:
        for part, recipe, stages in productions(Path(name), given):
            for stage, figure, planned, taken in compared(recipe, stages):
                ratio = planned / taken if taken else float(planned == taken)
                off += figure not in ("seconds", "MB on disk") and not 0.7 <= ratio <= 1.3
                print(f"| {part} | {stage} | {figure} | {shown(planned)} | {shown(taken)} | {ratio:.2f} |", flush=True)
    return int(off > 0)


def productions(folder: Path, given: argparse.Namespace) -> Iterator[tuple[str, Recipe, Sequence[str]]]:
    """(name, recipe, stages to run) of each part."""
    demo = [f"store={folder / 'demo'}", "train.epochs=2"]
    if "demo" in given.parts:
        yield "demo", load(EXAMPLES / "demo" / "recipe.yaml", demo), ALL
    if "again" in given.parts:
        yield "again", load(EXAMPLES / "demo" / "recipe.yaml", [*demo, "train.learning_rate=7.0e-4"]), ALL
    if "greetings" in given.parts:
        from tests.endpoint import endpoint
        from tests.greeter import greet

        with endpoint(greet, process=True, latency_s=0.05) as url:
            more = [f"store={folder / 'greetings'}", f"endpoints.main.base_url={url}"]
            more += [f"endpoints.main.prices.{name}={price}" for name, price in PRICES.items()]
            yield "greetings", load(EXAMPLES / "greetings" / "recipe.yaml", more), ("augment", "curate")
    if "corpus" in given.parts:
        (folder / "corpus" / "texts").mkdir(parents=True)
        write_corpus(folder / "corpus" / "texts", given.mb * 1_000_000)
        yield f"corpus, {given.mb} MB", load(write_recipe(folder / "corpus", None)), ("extract", "curate")
    if given.texts is not None:
        (folder / "own").mkdir()
        path = folder / "own" / "recipe.yaml"
        corpus = [{"path": str(given.texts.resolve() / "**" / "*.txt")}]
        cast = {"auto": {"min_lines": 200, "top": 8}}
        path.write_text(json.dumps({"name": "own", "store": "store", "corpus": corpus, "cast": cast}), "utf-8")
        yield given.texts.name, load(path), ("extract", "curate")


def compared(recipe: Recipe, stages: Sequence[str]) -> Iterator[tuple[str, str, float, float]]:
    """(stage, figure, planned, taken); the seconds and bytes of all stages together at the end."""
    store = Path(recipe.folder or ".", recipe.store)
    plan = {stage.stage: stage for stage in plan_run(recipe, ask=ASKED if recipe.augment else 0).stages}
    before = on_disk(store)
    results = ran(recipe, stages)
    disk = (on_disk(store) - before) / 1e6
    for result in results:
        for figure, planned, taken in figures(plan[result.stage], result):
            yield result.stage, figure, planned, taken
    chosen = [plan[result.stage] for result in results]
    yield "all", "seconds", sum(stage.seconds for stage in chosen), sum(result.seconds for result in results)
    yield "all", "MB on disk", sum(stage.disk_bytes for stage in chosen) / 1e6, disk


def ran(recipe: Recipe, stages: Sequence[str]) -> list[StageResult]:
    """The stages, one after another, without their words."""
    from jobs.augment import run_augment
    from jobs.curate import run_curate
    from jobs.evaluate import run_evaluate
    from jobs.extract import run_extract
    from jobs.publish import run_publish
    from jobs.train import run_train

    known: dict[str, Callable[..., StageResult]] = {
        "extract": run_extract,
        "augment": run_augment,
        "curate": run_curate,
        "train": run_train,
        "evaluate": run_evaluate,
        "publish": run_publish,
    }
    wanted = [stage for stage in stages if stage != "augment" or recipe.augment]
    with heard_by(lambda *_: None):
        try:
            return [known[stage](recipe) for stage in wanted]
        finally:
            runtime.stop()


def figures(planned: Stage, result: StageResult) -> Iterator[tuple[str, float, float]]:
    """(figure, planned, taken) of one stage."""
    yield "units to do", planned.todo, len(result.made)
    counts: Any = result.counts
    if not result.made:
        return
    if result.stage == "extract":
        yield "rows", planned.rows, counts["lines"] + counts.get("conversations", 0)
    if result.stage == "curate":
        yield "rows", planned.rows, sum(sum(counts[name]["conversations"].values()) for name in result.made)
    if result.stage == "augment":
        own = [counts[name] for name in result.made]
        yield "rows", planned.rows, sum(one["accepted"] for one in own)
        ledger = {name: sum(one["ledger"].get(name, 0) for one in own) for name in own[0]["ledger"]}
        yield "calls", planned.calls, ledger["requests"]
        yield "tokens in", planned.tokens_in, ledger["tokens_in"]
        yield "tokens out", planned.tokens_out, ledger["tokens_out"]
        yield "money", planned.money, ledger["money"]
    yield "seconds", planned.seconds, result.seconds


def on_disk(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0


def shown(value: float) -> str:
    """Three digits of small numbers, whole ones of large."""
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())

"""The train stage: one LoRA adapter per persona, all personas of a recipe together over one frozen base.

    runs/<recipe>/train/<fingerprint>/adapter_config.json, adapter_model.safetensors   as PEFT and vLLM read them
    runs/<recipe>/train/<fingerprint>/metrics.json    loss, gradient norm and learning rate by step
    runs/<recipe>/train/<fingerprint>/samples.json    answers to `train.probes` before, halfway and after

Slot hosts (jobs/slot_host.py), plain Ray actors, one per GPU or for the whole CPU, train groups of slots. The groups
are written into the store before training starts, so that a killed run goes on with the same ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.base_model import portable_name
from jobs.cast import chosen_cast
from jobs.shares import Shares, shares_of
from jobs.slot_config import SlotConfig
from jobs.slot_plan import Member, SlotPlan, snapshots
from jobs.stage import StageResult, Unit, fingerprints, finished_record, say, split_done, write_latest
from understudy.base import Base, resolve
from understudy.errors import MissingError, RecipeError, UnderstudyError
from understudy.persona import cast_entry_persona
from understudy.prompts import VERSION as PROMPT_VERSION
from understudy.prompts import system_text
from understudy.recipe import CastEntry, Recipe, TrainConfig
from understudy.record import output_key, read_record
from understudy.store import Store, json_bytes

VERSION = 1
ROWS_OF_A_GROUP = 128
"""Micro batches of the slots of one group hold at most so many rows together; more slots make more groups."""
PROGRESS_S = 5.0
LOST_HOSTS = 3
"""How often a group is begun again after its host was lost."""


def run_train(recipe: Recipe, personas: tuple[str, ...] = (), force: bool = False) -> StageResult:
    """Train the cast of `recipe`, or only `personas`; a persona whose data and settings are unchanged is skipped.

    Raises RecipeError for settings that this engine cannot follow, InputError when curate has not been run.
    """
    began = time.time()
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    _refuse(recipe)
    base = resolve(recipe.model, Path(recipe.folder or "."))
    everyone = chosen_cast(recipe, store, ())
    plans = [_plan(store, recipe, base, entry) for entry in chosen_cast(recipe, store, personas)]
    units = [plan.unit for plan in plans]
    todo, done = split_done(store, units, force)
    if done:
        say("train", f"{len(done)} of {len(units)} personas up to date, skipped")
    if todo:
        names = {unit.name for unit in todo}
        train_slots(store, recipe, base, [plan for plan in plans if plan.unit.name in names])
    write_latest(store, recipe.name, "train", fingerprints(units), [e.name for e in everyone])
    return StageResult.of("train", store, recipe.name, units, todo, began)


def _refuse(recipe: Recipe) -> None:
    """One line for what the slot engine cannot do, with what to write instead."""
    train = recipe.train
    if train.engine != "slots":
        raise RecipeError(f"{recipe.name}: train.engine {train.engine} is not there yet; use `train.engine=slots`")
    if train.method != "lora":
        raise RecipeError(f"{recipe.name}: train.method {train.method} is not there yet; use `train.method=lora`")
    if train.phases:
        raise RecipeError(f"{recipe.name}: train.phases are not there yet; remove them")
    if train.lora.dropout:
        raise RecipeError(
            f"{recipe.name}: train.lora.dropout is {train.lora.dropout}, but slots train without dropout; set it to 0"
        )


def _plan(store: Store, recipe: Recipe, base: Base, entry: CastEntry) -> SlotPlan:
    key, record = finished_record(store, recipe.name, "curate", entry.name, "understudy curate")
    train = recipe.train_config(entry)
    persona = cast_entry_persona(entry, recipe)
    system = system_text(persona)
    penalty = float(persona.sampling.get("repetition_penalty", 1.0)) if train.probes else 1.0
    model = recipe.model.model_dump(mode="json", include={"dtype", "quantization", "template_kwargs"})
    # How often a snapshot is taken and which engine could have been used change nothing in the adapter.
    settings = train.model_dump(mode="json", exclude={"snapshot_s", "phases", "deepspeed"})
    config = {
        "persona": entry.name,
        "train": settings,
        "model": {"base": portable_name(base), **model},
        "system": system,
        **({"probe_repetition_penalty": penalty} if penalty != 1.0 else {}),
    }
    inputs = {
        "base": base.identity,
        "conversations": record.outputs["conversations.parquet"],
        "prompt": str(PROMPT_VERSION),
    }
    unit = Unit(recipe.name, "train", VERSION, entry.name, config, inputs, tuple(record.rights))
    return SlotPlan(
        unit,
        slot_config(entry.name, train),
        f"{key}/conversations.parquet",
        system,
        train.max_length,
        train.probes,
        penalty,
    )


def slot_config(name: str, train: TrainConfig) -> SlotConfig:
    """One persona's resolved `train` as the slot engine takes it."""
    return SlotConfig(
        name,
        rank=train.lora.rank,
        alpha=train.lora.alpha,
        rslora=train.lora.rslora,
        dropout=train.lora.dropout,
        target_modules=train.lora.target_modules,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm or None,
        schedule=train.schedule,
        warmup_ratio=train.warmup_ratio,
        epochs=train.epochs,
        micro_batch_size=train.micro_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        seed=train.seed,
    )


def train_slots(store: Store, recipe: Recipe, base: Base, plans: Sequence[SlotPlan]) -> None:
    """Train all plans to their records on slot hosts, going on with the groups of a killed run."""
    from cluster import runtime

    groups = plan_groups(store, recipe.name, plans)
    with runtime.running():
        import ray

        each = shares_of("train", recipe.resources.train, len(groups), ray.cluster_resources())
        shape = f"{len(plans)} slots in {len(groups)} groups" if len(groups) > 1 else f"{len(plans)} slots"
        times = f"{each.workers} x " if each.workers > 1 else ""
        where = f"{each.workers} GPUs" if each.gpus else f"{times}{each.threads} CPU threads"
        say("train", f"{shape} over {base.name} on {where}")
        _run_groups(store, recipe, base, groups, each)


def plan_groups(store: Store, recipe: str, plans: Sequence[SlotPlan]) -> list[list[Member]]:
    """The groups to train, each written into the store under every member.

    A group that a killed run left goes on as it was, if today's plans still hold every member that is not finished.
    Slots of a broken group go on from their snapshots beside those that are as far.
    """
    waiting = {plan.unit.fingerprint: plan for plan in plans}
    groups: list[list[Member]] = []
    for plan in plans:
        members = [Member(fp, config, waiting.get(fp)) for fp, config in _kept_group(store, plan)]
        found = [m.plan is not None or read_record(store, output_key(recipe, "train", m.fingerprint)) for m in members]
        if plan.unit.fingerprint in waiting and members and all(found):
            groups.append(members)
            for member in members:
                waiting.pop(member.fingerprint, None)
    by_step: dict[int, list[SlotPlan]] = {}
    for plan in waiting.values():
        by_step.setdefault(max(snapshots(store, plan.unit.key), default=0), []).append(plan)
    for _, alike in sorted(by_step.items()):
        rows = ROWS_OF_A_GROUP
        for plan in alike:
            if rows + plan.config.micro_batch_size > ROWS_OF_A_GROUP:
                groups.append([])
                rows = 0
            groups[-1].append(Member(plan.unit.fingerprint, plan.config, plan))
            rows += plan.config.micro_batch_size
    for group in groups:
        kept = json_bytes([{"fingerprint": member.fingerprint, "config": asdict(member.config)} for member in group])
        for member in group:
            if member.plan:
                store.put(f"{member.plan.unit.key}/plan.json", kept)
    return groups


def _kept_group(store: Store, plan: SlotPlan) -> Iterator[tuple[str, SlotConfig]]:
    try:
        kept = store.get_json(f"{plan.unit.key}/plan.json")
    except MissingError:
        return
    for member in kept:
        config = member["config"]
        if isinstance(config["target_modules"], list):
            config["target_modules"] = tuple(config["target_modules"])
        yield member["fingerprint"], SlotConfig(**config)


def _run_groups(
    store: Store,
    recipe: Recipe,
    base: Base,
    groups: Sequence[list[Member]],
    each: Shares,
) -> None:
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError

    from jobs.slot_host import SlotHost

    # Two at a time: `progress` answers while `train` runs. Restarted after a crash, `train` goes on from snapshots.
    lives = {"max_restarts": LOST_HOSTS, "max_task_retries": LOST_HOSTS, "max_concurrency": 2}
    actor: Any = ray.remote(SlotHost)
    options = {**lives, "num_cpus": each.cpus, "num_gpus": each.gpus}
    hosts: list[Any] = [
        actor.options(**options).remote(store, base, recipe.model, each.threads, each.device)
        for _ in range(each.workers)
    ]
    queue = list(groups)
    running: dict[Any, Any] = {}
    progress = _Progress()
    try:
        while queue or running:
            for host in hosts:
                if queue and host not in running.values():
                    with _plain_errors():
                        running[host.train.remote(queue.pop(0), recipe.train.snapshot_s)] = host
            ready, _ = ray.wait(list(running), timeout=PROGRESS_S)
            for reference in ready:
                running.pop(reference)
                with _plain_errors():
                    ray.get(reference)
            try:
                progress.show(
                    [s for host in running.values() for s in ray.get(host.progress.remote(), timeout=PROGRESS_S)]
                )
            except (RayActorError, GetTimeoutError):
                continue  # the host is loading or being restarted; `train` itself says when it is lost for good
    except KeyboardInterrupt:
        hosts.clear()  # they end with this process; killed in the middle of a task, Ray would talk of retries
        raise
    finally:
        for host in hosts:
            ray.kill(host)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Our own errors come out of an actor as themselves, a lost host as one line."""
    from ray.exceptions import RayActorError

    from cluster import runtime

    try:
        with runtime.own_errors():
            yield
    except RayActorError as error:
        raise UnderstudyError(
            f"train: a slot host was lost {LOST_HOSTS + 1} times (out of memory?); lower train.micro_batch_size or "
            "train.max_length and run again, it goes on from the last snapshot"
        ) from error


class _Progress:
    """A line now and then: steps, rate, time to go, losses."""

    def __init__(self) -> None:
        self.began: tuple[float, int] | None = None

    def show(self, slots: Sequence[Mapping[str, Any]]) -> None:
        """Say how far the slots are."""
        done, total = sum(s["step"] for s in slots), sum(s["total"] for s in slots)
        if not done or done == total:
            return
        if self.began is None or done < self.began[1]:
            self.began = (time.monotonic(), done)
            return
        rate = (done - self.began[1]) / max(1e-9, time.monotonic() - self.began[0])
        left = f"{(total - done) / rate:.0f} s to go" if rate else "waiting"
        known = [(s["name"], s["loss"]) for s in slots if s["loss"] is not None]
        if len(known) > 6:
            losses = f"mean loss {sum(loss for _, loss in known) / len(known):.2f}"
        else:
            losses = "loss " + ", ".join(f"{name} {loss:.2f}" for name, loss in known)
        say("train", f"{done}/{total} slot steps, {rate:.1f}/s, {left}; {losses}")

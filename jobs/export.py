"""Curated conversations as files that other trainers read."""

from __future__ import annotations

from pathlib import Path

from jobs.cast import chosen_cast
from jobs.stage import curated_conversations
from understudy.conversation import Conversation
from understudy.dataset import alpaca_json, openai_jsonl, to_openai
from understudy.errors import InputError
from understudy.persona import cast_entry_persona
from understudy.prompts import system_text
from understudy.recipe import Recipe
from understudy.store import Store

FORMS = {"alpaca": (alpaca_json, "json"), "messages": (openai_jsonl, "jsonl")}
DATASETS = "datasets"
SPLITS = ("train", "heldout")


def run_export(recipe: Recipe, personas: tuple[str, ...], out: Path, form: str) -> list[Path]:
    """Write every persona's conversations into `out`; returns the paths.

    `alpaca` and `messages` give `<persona>.<split>.<json|jsonl>`, `datasets` a folder `<persona>` that
    `datasets.load_from_disk` reads. Raises InputError for an unknown form, or a persona that was not curated.
    """
    if form not in (*FORMS, DATASETS):
        raise InputError(f"--format {form}: unknown; valid: {', '.join((*FORMS, DATASETS))}")
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    cast = chosen_cast(recipe, store, personas)
    found = {entry.name: curated_conversations(store, recipe.name, entry.name) for entry in cast}
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for entry in cast:
        system = system_text(cast_entry_persona(entry, recipe))
        if form == DATASETS:
            written.append(_as_dataset(found[entry.name], system, out / entry.name))
            continue
        write, suffix = FORMS[form]
        for split in SPLITS:
            target = out / f"{entry.name}.{split}.{suffix}"
            target.write_text(write([c for c in found[entry.name] if c.split == split], system), encoding="utf-8")
            written.append(target)
    return written


def _as_dataset(conversations: list[Conversation], system: str, folder: Path) -> Path:
    """A DatasetDict of the splits that are not empty, in the conversational format (`messages`)."""
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    rows = {split: [to_openai(c, system) for c in conversations if c.split == split] for split in SPLITS}
    # One schema for every message: where some have a name or a weight, the others say None.
    keys = ("role", "content", "name", "weight")
    tables = {
        split: Dataset.from_list(
            [{"messages": [{k: m.get(k) for k in keys} for m in row["messages"]]} for row in found]
        )
        for split, found in rows.items()
        if found
    }
    DatasetDict({**tables}).save_to_disk(str(folder))
    return folder

"""Curated conversations as files that other trainers read."""

from __future__ import annotations

from pathlib import Path

from jobs.cast import chosen_cast
from jobs.stage import curated_conversations
from understudy.conversation import Conversation
from understudy.errors import InputError
from understudy.interchange.writing import WRITERS, Rows, dataset_info, rows_in, to_openai, write_file
from understudy.persona import cast_entry_persona
from understudy.prompts import system_text
from understudy.recipe import Recipe
from understudy.store import Store, json_bytes

DATASETS = "datasets"
FORMATS = (*WRITERS, DATASETS)
SPLITS = ("train", "heldout")
INFO_NAME = "dataset_info.json"


def run_export(recipe: Recipe, personas: tuple[str, ...], out: Path, form: str) -> list[Path]:
    """Write every persona's conversations into `out`; returns the paths.

    A file `<persona>.<split>.<json|jsonl>` each, and for the formats that LLaMA-Factory reads its `dataset_info.json`;
    `datasets` gives a folder `<persona>` that `datasets.load_from_disk` reads. Raises InputError for an unknown format,
    or a persona that was not curated.
    """
    if form not in FORMATS:
        raise InputError(f"--format {form}: unknown; valid: {', '.join(FORMATS)}")
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    cast = chosen_cast(recipe, store, personas)
    found = {entry.name: curated_conversations(store, recipe.name, entry.name) for entry in cast}
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    described: dict[str, tuple[str, str, Rows]] = {}
    for entry in cast:
        system = system_text(cast_entry_persona(entry, recipe))
        if form == DATASETS:
            written.append(_as_dataset(found[entry.name], system, out / entry.name))
            continue
        for split in SPLITS:
            target = out / f"{entry.name}.{split}{WRITERS[form][1]}"
            own = [one for one in found[entry.name] if one.split == split]
            write_file(target, form, own, system)
            written.append(target)
            if own:
                described[f"{entry.name}-{split}"] = (target.name, form, rows_in(form, own[0], system))
    if info := dataset_info(described):
        (out / INFO_NAME).write_bytes(json_bytes(info))
        written.append(out / INFO_NAME)
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

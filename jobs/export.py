"""Curated conversations as files that other trainers read."""

from __future__ import annotations

from pathlib import Path

from jobs.cast import chosen_cast
from jobs.stage import finished_record
from understudy.dataset import alpaca_json, openai_jsonl, read_conversations
from understudy.errors import InputError
from understudy.persona import cast_entry_persona
from understudy.prompts import system_text
from understudy.recipe import Recipe
from understudy.store import Store

FORMS = {"alpaca": (alpaca_json, "json"), "messages": (openai_jsonl, "jsonl")}


def run_export(recipe: Recipe, personas: tuple[str, ...], out: Path, form: str) -> list[Path]:
    """Write `<persona>.<split>.<json|jsonl>` for every persona into `out`; returns the paths.

    Raises InputError for an unknown form, or a persona that was not curated.
    """
    if form not in FORMS:
        raise InputError(f"--format {form}: unknown; valid: {', '.join(FORMS)}")
    write, suffix = FORMS[form]
    store = Store.open(recipe.store, Path(recipe.folder or "."))
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for entry in chosen_cast(recipe, store, personas):
        key, _ = finished_record(store, recipe.name, "curate", entry.name, "understudy curate")
        where = f"{key}/conversations.parquet"
        conversations = read_conversations(store.read_table(where), store.uri_of(where))
        system = system_text(cast_entry_persona(entry, recipe))
        for split in ("train", "heldout"):
            target = out / f"{entry.name}.{split}.{suffix}"
            target.write_text(write([c for c in conversations if c.split == split], system), encoding="utf-8")
            written.append(target)
    return written

"""Personas of the examples with their training scenes, as augmentation steps see them, read without the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from understudy.augmentation.job import Job, Material, Note
from understudy.augmentation.kinds import kind_of
from understudy.augmentation.steps import AnyStep, BoundariesStep, CardsStep, FactsStep, QuestionsStep, RestyleStep
from understudy.conversation import exchanges, scenes, split
from understudy.corpus import decode
from understudy.dataset import lines_table, persona_view
from understudy.persona import Persona, cast_entry_persona
from understudy.prose import cast_names, read_work
from understudy.recipe import load
from understudy.script import assign

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PARTS = [("demo", "wisp"), ("story", "otto"), ("mooncake", "afu")]

PROMPT_FILE = {"prompts.txt": "Do you like the rain?\n你喜欢下雨吗？\n\nWhat do you eat?\n".encode()}
STEPS = [
    QuestionsStep(kind="questions", name="q", short_cue=40, continuations=4),
    FactsStep(kind="facts", name="f"),
    RestyleStep(kind="restyle", name="r", prompts="prompts.txt"),
    CardsStep(kind="cards", name="c", chunk_chars=2000),
    BoundariesStep(kind="boundaries", name="b", count=24),
]


@dataclass(frozen=True)
class Part:
    """One persona of an example."""

    persona: Persona
    material: Material
    whole: Material
    """With the held-out scenes too, for what is measured against the text."""
    rows: list[dict[str, Any]]
    held_out: list[str]
    """Texts of the persona's lines in held-out scenes that stand in no training scene."""
    text: str


@cache
def part(example: str, name: str, heldout: float = 0.2) -> Part:
    """A persona of an example, with its material."""
    recipe = load(EXAMPLES / example / "recipe.yaml")
    assert isinstance(recipe.cast, tuple)
    cast = [cast_entry_persona(entry, recipe) for entry in recipe.cast]
    path = recipe.path_of(recipe.corpus[0].path)
    text = decode(path.read_bytes(), "auto", str(path)).text
    _, lines = read_work(text, path.stem, recipe.corpus[0].kind, "auto", cast_names(cast, path.stem))
    rows = lines_table(assign(lines, cast, path.stem)).to_pylist()
    by_id = {row["line_id"]: row for row in rows}
    seen = [{**by_id[row["line_id"]], **row} for row in persona_view(rows, name)]
    cut = scenes(seen, name)
    splits = split(cut, heldout, recipe.curate.seed)
    kept = tuple(scene for scene in cut if splits.get(scene.key) != "heldout")
    found = tuple(one for scene in kept for one in exchanges(scene, name, 8))
    trained = {row["text"] for scene in kept for row in scene.rows}
    held = [
        row["text"]
        for scene in cut
        if splits.get(scene.key) == "heldout"
        for row in scene.rows
        if row["persona"] == name and row["text"] not in trained and len(row["text"]) > 8
    ]
    persona = next(one for one in cast if one.name == name)
    language = "zh" if example == "mooncake" else "en"
    all_found = tuple(one for scene in cut for one in exchanges(scene, name, 8))
    whole = Material(persona, language, tuple(cut), all_found)
    return Part(persona, Material(persona, language, kept, found), whole, seen, held, text)


def planned(
    step: AnyStep,
    example: str = "demo",
    name: str = "wisp",
    notes: Sequence[Note] = (),
    number: int = 0,
    files: Mapping[str, bytes] = PROMPT_FILE,
) -> tuple[list[Job], Material]:
    """The jobs of a round of a step, and the material they were planned with."""
    material = replace(part(example, name).material, files=files, round=number)
    return list(kind_of(step.kind).plan(step, material, notes)), material

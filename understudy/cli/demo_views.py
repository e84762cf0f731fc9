"""What the demo shows: each view reads what a stage left in the store and prints it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from understudy.recipe import Recipe
    from understudy.store import Store

Samples = dict[str, list[dict[str, Any]]]
SHOWN = 4
"""So many probes are shown as they grew; the rest are for guessing."""


def title(console: Console, recipe: Recipe, toy: bool) -> None:
    """What is about to happen."""
    console.rule("[bold]Understudy[/bold]")
    names = [entry.name for entry in recipe.cast] if isinstance(recipe.cast, tuple) else []
    console.print(
        f"A play goes in; {', '.join(names)} come out, each a LoRA adapter over {recipe.model.base}.", markup=False
    )
    if toy:
        console.print("That base is a toy of 5 million parameters: it shows the way, not the art.")


def step(console: Console, number: int, text: str) -> None:
    """A heading."""
    console.print(f"\n[bold]{number}. {text}[/bold]")


def lines(console: Console, store: Store, recipe: Recipe) -> None:
    """Some lines with speaker and where they stand in the source."""
    key, record = _latest(store, recipe, "extract")
    rows = store.read_table(f"{key}/lines.parquet").to_pylist()
    spoken = [row for row in rows if row["kind"] == "speech"]
    grid = _table("speaker", "characters", "text", "directions")
    for row in spoken[:6]:
        directions = "; ".join(part["text"] for part in row["directions"])
        grid.add_row(row["speaker"], f"{row['start']}-{row['end']}", *_cells(row["text"], directions))
    _show(console, grid)
    counts = record["counts"]
    console.print(f"  {counts['speeches']:,} speeches in {counts['characters']:,} characters", style="dim")


def exchange(console: Console, store: Store, recipe: Recipe) -> None:
    """One conversation as a persona sees it."""
    key, _ = _latest(store, recipe, "curate")
    rows = store.read_table(f"{key}/conversations.parquet").to_pylist()
    row = next(row for row in rows if row["split"] == "train")
    grid = _table("speaker", "text", "")
    for message in row["messages"][:4]:
        who = row["persona"] if message["role"] == "assistant" else "others"
        grid.add_row(who, *_cells(message["content"]), "learned" if message["loss"] else "heard")
    _show(console, grid)


def read_samples(store: Store, recipe: Recipe) -> Samples:
    """The probes' answers of every persona, as training left them."""
    latest = store.get_json(f"runs/{recipe.name}/train/latest.json")
    return {name: store.get_json(f"runs/{recipe.name}/train/{fp}/samples.json") for name, fp in sorted(latest.items())}


def growth(console: Console, samples: Samples) -> None:
    """The same questions before, halfway and after training."""
    for name, answers in samples.items():
        grid = _table("question", "before", "halfway", f"after: {name}")
        for answer in answers[:SHOWN]:
            grid.add_row(
                *_cells(answer["question"], *(answer.get(moment, "") for moment in ("before", "halfway", "after")))
            )
        _show(console, grid)


def guess(console: Console, samples: Samples, live: bool) -> None:
    """Six unlabelled replies, then who said them; on a terminal the visitor guesses each."""
    replies = [
        (name, answer["question"], answer.get("after", ""))
        for name, answers in samples.items()
        for answer in (answers[SHOWN:] or answers)[:2]
    ]
    random.Random(7).shuffle(replies)
    hint = " (a name or its first letter; Enter shows it)" if live else ""
    console.print(f"\n  Six replies. Who says which?{hint}", style="bold", markup=False)
    names, right = list(samples), 0
    for number, (name, question, reply) in enumerate(replies, 1):
        note(console, f"{number}. {question}")
        note(console, reply, indent=5)
        if live:
            guessed = meant(_typed(console, f"     {', '.join(names)}? "), names) == name
            right += guessed
            console.print(
                f"     {'Yes,' if guessed else 'It was'} {name}.", style="green" if guessed else "", markup=False
            )
    if live:
        console.print(f"  {right} of {len(replies)} right")
    else:
        console.print("  It was " + ", ".join(f"{n} {name}" for n, (name, _, _) in enumerate(replies, 1)) + ".")


def meant(typed: str, names: list[str]) -> str | None:
    """The one name that begins with what was typed, or None."""
    found = [name for name in names if typed.strip() and name.startswith(typed.strip().lower())]
    return found[0] if len(found) == 1 else None


def _typed(console: Console, prompt: str) -> str:
    """A line of the visitor; nothing when the input has ended."""
    try:
        return console.input(prompt)
    except EOFError:
        console.print()
        return ""


def matrix(console: Console, store: Store, recipe: Recipe) -> None:
    """The evaluation matrix and where its picture is."""
    place = f"runs/{recipe.name}/evaluate/matrix"
    if not store.exists(f"{place}.txt"):
        console.print("  Nothing was held out, so there is nothing to measure.")
        return
    for line in store.get(f"{place}.txt").decode().splitlines():
        console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print(f"  picture: {_near(store.uri_of(f'{place}.png'))}", style="dim", markup=False, soft_wrap=True)


def catalog(console: Console, store: Store) -> None:
    """Who is on stage, in which version."""
    from understudy.catalog import Catalog

    state = Catalog(store).refresh()
    for name in state.personas():
        release = state.resolve(name)
        advice = f"  ({release.advice})" if release.advice else ""
        console.print(f"  {name:<10} {release.version}{advice}", markup=False)


def said(console: Console, name: str, text: str) -> None:
    """One reply."""
    note(console, f"{name + ':':<5} {text}")


def note(console: Console, text: str, style: str = "", indent: int = 2) -> None:
    """A line as it is, indented, its further rows too."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(text), (0, 0, 0, indent), style=style))


def _latest(store: Store, recipe: Recipe, stage: str) -> tuple[str, dict[str, Any]]:
    """(key, record) of a stage's first unit."""
    fp = min(store.get_json(f"runs/{recipe.name}/{stage}/latest.json").items())[1]
    key = f"runs/{recipe.name}/{stage}/{fp}"
    return key, store.get_json(f"{key}/record.json")


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    return grid


def _cells(*texts: str) -> list[Any]:
    """Texts as they are, whatever brackets they hold."""
    from rich.text import Text

    return [Text(text) for text in texts]


def _show(console: Console, grid: Any) -> None:
    """The table, indented, below a blank line."""
    from rich.padding import Padding

    console.print(Padding(grid, (1, 0, 0, 2)))


def _near(path: str) -> str:
    """The path from here, where that is shorter."""
    given = Path(path)
    try:
        return str(given.relative_to(Path.cwd()))
    except ValueError:
        return path

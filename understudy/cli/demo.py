"""`understudy demo`: the recipe of examples/demo with a guide, from a play to a conversation.

It leaves out nothing that `understudy run` does: the same stages with the same records, so a second demo goes straight
to the conversation, and one that was stopped goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.cli import demo_views as views
from understudy.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from understudy.recipe import Recipe
    from understudy.store import Store

TINY = "builtin:tiny"
EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "demo" / "recipe.yaml"
REAL = "understudy demo --base Qwen/Qwen3-0.6B"
REAL_COST = "1.5 GB to download, about 40 minutes on 2 cores"
# What a base of some hundred million parameters or more wants instead of the toy's settings.
REAL_SETTINGS = ["train.learning_rate=3e-4", "train.epochs=3", "train.max_length=512", "train.micro_batch_size=4"]
QUESTION = "Do you like the snow?"


def run_demo(base: str = TINY, folder: Path | None = None, port: int = 0, talk: bool = True) -> None:
    """Play the demo on `base`; `folder` holds the store (default: beside the checkout's examples).

    On a terminal it asks to guess and ends in a conversation; elsewhere it shows everything and ends.
    """
    from rich.console import Console

    from cluster import runtime

    if not EXAMPLE.exists():
        raise InputError("demo: the examples are not here; run it in a checkout of the repository")
    console = Console(highlight=False)
    live = talk and sys.stdin.isatty() and sys.stdout.isatty()
    recipe = _recipe(base, folder)
    began = time.monotonic()
    views.title(console, recipe, base == TINY)
    with ExitStack() as stack:
        # Whatever ends the demo, an error or Ctrl-C too, leaves no process behind.
        stack.callback(runtime.stop)
        _make(console, recipe, live)
        server = _serve(console, recipe, port)
        stack.callback(server.stop)
        _hear(console, server.url, recipe)
        if not live:
            console.print(f"\nAll of this took {time.monotonic() - began:.0f} s.", markup=False)
        else:
            _talk(console, recipe, server.url)
            console.print("Stopping.", style="dim")
    if base == TINY:
        console.print(f"\nOn a real model ({REAL_COST}): {REAL}", markup=False, soft_wrap=True)


def _recipe(base: str, folder: Path | None) -> Recipe:
    from understudy.recipe import load

    changes = [] if base == TINY else [f"model.base={base}", *REAL_SETTINGS]
    if folder is not None:
        changes.append(f"store={folder.resolve()}")
    return load(EXAMPLE, changes)


def _make(console: Console, recipe: Recipe, live: bool) -> None:
    """Every stage up to the catalog, each with something to look at."""
    from jobs.curate import run_curate
    from jobs.evaluate import run_evaluate
    from jobs.extract import run_extract
    from jobs.publish import run_publish
    from jobs.train import run_train
    from understudy.lease import held
    from understudy.store import Store

    store = Store.open(recipe.store, Path(recipe.folder))
    stages: list[tuple[str, Callable[[], Any], Callable[[], None]]] = [
        ("Who says what", lambda: run_extract(recipe), lambda: views.lines(console, store, recipe)),
        ("What each of them answers", lambda: run_curate(recipe), lambda: views.exchange(console, store, recipe)),
        (
            "An adapter each, over one base",
            lambda: run_train(recipe),
            lambda: _trained(console, store, recipe, live),
        ),
        (
            "Whose lines, under whose adapter",
            lambda: run_evaluate(recipe, aloud=False),
            lambda: views.matrix(console, store, recipe),
        ),
        (
            "Into the catalog",
            lambda: run_publish(recipe),
            lambda: views.catalog(console, store),
        ),
    ]
    with held(store, recipe.name, "understudy demo"):
        for number, (title, work, show) in enumerate(stages, 1):
            views.step(console, number, title)
            with _heard(console):
                work()
            show()


@contextmanager
def _heard(console: Console) -> Iterator[Callable[[str], None]]:
    """What the work says, dim; on a terminal with a clock below it. Gives what says a line."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from jobs.stage import heard_by

    def say(text: str) -> None:
        views.note(console, text, "dim")

    with ExitStack() as stack:
        stack.enter_context(heard_by(lambda _stage, text: say(text)))
        if console.is_terminal:
            columns = (TextColumn(" "), SpinnerColumn(), TimeElapsedColumn())
            clock = stack.enter_context(Progress(*columns, console=console, transient=True))
            clock.add_task("", total=None)
        yield say


def _trained(console: Console, store: Store, recipe: Recipe, live: bool) -> None:
    samples = views.read_samples(store, recipe)
    views.growth(console, samples)
    views.guess(console, samples, live)


def _serve(console: Console, recipe: Recipe, port: int) -> Any:
    from serve.app import start
    from understudy.store import Store

    views.step(console, 6, "On stage")
    store = Store.open(recipe.store, Path(recipe.folder))
    with _heard(console) as say:
        server = start(store, recipe.model, recipe.serve, folder=Path(recipe.folder), port=port, say=say)
        say(f"ready in {server.seconds:.0f} s: {', '.join(server.personas)}")
    console.print(f"  API        {server.url}/v1", markup=False)
    console.print(f"  chat page  {server.page}", markup=False)
    return server


def _hear(console: Console, url: str, recipe: Recipe) -> None:
    """One question to everybody, over HTTP, as any OpenAI client would ask it."""
    from openai import OpenAI

    console.print(f"\n  you:  {QUESTION}", style="bold", markup=False)
    with OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        for name in _names(recipe):
            said = client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=60
            )
            views.said(console, name, said.choices[0].message.content or "")


def _talk(console: Console, recipe: Recipe, url: str) -> None:
    """Let the visitor choose who to talk with, until they leave."""
    from serve.chat import converse

    names = _names(recipe)
    while True:
        try:
            typed = console.input(f"\nTalk with {', '.join(names)}? (a name; Enter ends the demo) ").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if not typed:
            return
        name = views.meant(typed, names)
        if name is None:
            console.print(f"There is no {typed} here.", markup=False)
        else:
            converse(name, url, empty_ends=True)


def _names(recipe: Recipe) -> list[str]:
    return [entry.name for entry in recipe.cast] if isinstance(recipe.cast, tuple) else []

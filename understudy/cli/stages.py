"""Commands that make things: run, the single stages, demo, doctor."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.options import Force, Json, Overrides, Personas, RecipePath, load_recipe, print_json, recipe_store
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Put the commands on the door."""
    app.command(rich_help_panel=None)(demo)
    app.command()(run)
    for stage in (extract, augment, curate, train, evaluate, publish):
        app.command()(stage)
    app.command()(doctor)


def demo(
    base: Annotated[
        str, typer.Option(metavar="MODEL", help="Base model: embedded, hub id or folder.")
    ] = "builtin:tiny",
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of its store, kept for the next time; default: store.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of API and chat page; 0 takes a free one.")] = 0,
    talk: Annotated[bool, typer.Option("--talk/--no-talk", help="End in a conversation (on a terminal).")] = True,
) -> None:
    """The whole way on the embedded base, offline: a play goes in, three characters talk.

    Example: understudy demo
    """
    from understudy.cli.demo import run_demo

    run_demo(base=base, folder=folder, port=port, talk=talk)


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    persona: Personas = None,
    force: Force = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would be skipped and done, and what it would take.")
    ] = False,
    ask: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="With --plan: make N calls of each endpoint, to see their time."),
    ] = 0,
    json: Json = False,
) -> None:
    """Every stage of a recipe; a second call does only what changed.

    Example: understudy run examples/demo/recipe.yaml train.epochs=6
    """
    from jobs.run import run_recipe

    loaded = load_recipe(recipe, overrides)
    if ask and not plan:
        raise InputError("--ask: makes calls for a plan only; add --plan")
    if plan:
        from jobs.plan import plan_run

        found = plan_run(loaded, tuple(persona or ()), force, ask=ask)
        if json:
            print_json(found.as_json())
        else:
            print("\n".join(found.lines()))
        return
    results = run_recipe(loaded, tuple(persona or ()), force)
    if json:
        print_json({"recipe": loaded.name, "stages": [result.as_json() for result in results]})


def extract(recipe: RecipePath, overrides: Overrides = None, force: Force = False, json: Json = False) -> None:
    """Texts to lines: who says what, with offsets into the source.

    Example: understudy extract examples/demo/recipe.yaml
    """
    _stage("extract", load_recipe(recipe, overrides), (), force, json)


def augment(
    recipe: RecipePath, overrides: Overrides = None, persona: Personas = None, force: Force = False, json: Json = False
) -> None:
    """Conversations that a model writes in the personas' voices, checked before anybody learns them.

    Example: understudy augment examples/greetings/recipe.yaml endpoints.main.model=qwen3 budget.requests=500
    """
    _stage("augment", load_recipe(recipe, overrides), tuple(persona or ()), force, json)


def curate(
    recipe: RecipePath, overrides: Overrides = None, persona: Personas = None, force: Force = False, json: Json = False
) -> None:
    """Lines to conversations: filtered, deduplicated, split by scene.

    Example: understudy curate examples/demo/recipe.yaml curate.window=12
    """
    _stage("curate", load_recipe(recipe, overrides), tuple(persona or ()), force, json)


def train(
    recipe: RecipePath, overrides: Overrides = None, persona: Personas = None, force: Force = False, json: Json = False
) -> None:
    """Conversations to adapters: all personas in one run over one frozen base.

    Example: understudy train examples/demo/recipe.yaml --persona bram
    """
    _stage("train", load_recipe(recipe, overrides), tuple(persona or ()), force, json)


def evaluate(
    recipe: RecipePath, overrides: Overrides = None, persona: Personas = None, force: Force = False, json: Json = False
) -> None:
    """How well each adapter predicts its persona's held-out lines, against the base and all other adapters.

    Example: understudy evaluate examples/demo/recipe.yaml
    """
    _stage("evaluate", load_recipe(recipe, overrides), tuple(persona or ()), force, json)


def publish(
    recipe: RecipePath, overrides: Overrides = None, persona: Personas = None, force: Force = False, json: Json = False
) -> None:
    """Trained adapters to the catalog, the whole cast in one entry.

    Example: understudy publish examples/demo/recipe.yaml publish.alias=candidate publish.weight=10
    """
    _stage("publish", load_recipe(recipe, overrides), tuple(persona or ()), force, json)


def _stage(stage: str, recipe: Recipe, personas: tuple[str, ...], force: bool, json: bool) -> None:
    from jobs.run import refuse_later_parts
    from understudy.lease import held

    refuse_later_parts(recipe)
    module = importlib.import_module(f"jobs.{stage}")
    arguments: dict[str, Any] = {"force": force} if stage == "extract" else {"personas": personas, "force": force}
    with held(recipe_store(recipe), recipe.name, f"understudy {stage}"):
        result = getattr(module, f"run_{stage}")(recipe, **arguments)
    if json:
        print_json(result.as_json())


def doctor(
    store: Annotated[str, typer.Option(metavar="URI", help="Store to try.")] = "./store", json: Json = False
) -> None:
    """Check this machine: Python, packages, CUDA, disk, ports, store.

    Example: understudy doctor --json
    """
    from understudy.doctor import run_doctor

    raise typer.Exit(run_doctor(store=store, as_json=json))

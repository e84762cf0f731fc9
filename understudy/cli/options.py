"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from understudy.recipe import Recipe
    from understudy.store import Store

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe's YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="key=value", help="Fields to change, such as train.epochs=5.", show_default=False),
]
Personas = Annotated[
    list[str] | None,
    typer.Option("--persona", "-p", metavar="NAME", help="Only this persona (repeatable).", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Do it again even if nothing changed.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
StoreUri = Annotated[
    str | None,
    typer.Option("--store", metavar="URI", help="Folder or s3://...; default $UNDERSTUDY_STORE, else ./store."),
]


def load_recipe(path: Path, overrides: list[str] | None) -> Recipe:
    """The recipe with overrides; InputError in one line otherwise."""
    from understudy.recipe import load

    return load(path, overrides or [])


def open_store(uri: str | None, must_exist: bool = True) -> Store:
    """The store of a command that has no recipe."""
    from understudy.errors import InputError
    from understudy.store import Store

    store = Store.open(uri or os.environ.get("UNDERSTUDY_STORE") or "./store")
    if must_exist and store.is_local and not Path(store.uri).is_dir():
        raise InputError(f"store {store.uri}: does not exist; name one with --store, or run a recipe first")
    return store


def recipe_store(recipe: Recipe) -> Store:
    """The store of a recipe; a relative folder belongs to the recipe."""
    from understudy.store import Store

    return Store.open(recipe.store, Path(recipe.folder or "."))


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    import json

    print(json.dumps(value, ensure_ascii=False, indent=2))

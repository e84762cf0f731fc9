"""Commands that put the cast before an audience: serve and chat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.options import Overrides, StoreUri, load_recipe


def register(app: typer.Typer) -> None:
    """Put the commands on the door."""
    app.command()(serve)
    app.command()(chat)


def serve(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE]", show_default=False)] = None,
    overrides: Overrides = None,
    store: StoreUri = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
) -> None:
    """Every persona of the catalog as an OpenAI model, with a chat page; Ctrl-C stops it.

    Example: understudy serve --store ./store --port 8000
    """
    from serve.app import serve as serve_forever

    if recipe is not None and "=" in str(recipe):  # `understudy serve key=value` without a recipe
        overrides, recipe = [str(recipe), *(overrides or [])], None
    loaded = load_recipe(recipe, overrides) if recipe is not None else None
    serve_forever(loaded, store, host, port, overrides if recipe is None else None)


def chat(
    persona: Annotated[str, typer.Argument(metavar="PERSONA", help="persona, persona@candidate or persona@VERSION.")],
    url: Annotated[str | None, typer.Option(help="A running server, such as http://127.0.0.1:8000.")] = None,
    store: StoreUri = None,
) -> None:
    """Talk with a persona; starts an engine itself when no server answers.

    Example: understudy chat bram --url http://127.0.0.1:8000
    """
    from serve.chat import chat as talk

    raise typer.Exit(talk(persona, url, store))

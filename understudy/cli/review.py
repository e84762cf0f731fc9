"""Commands for looking at what was made: report and review."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.options import Json, Overrides, RecipePath, load_recipe, print_json, recipe_store


def register(app: typer.Typer) -> None:
    """Put the commands on the door."""
    app.command()(report)
    app.command()(review)


def report(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: in the store.")] = None,
    seed: Annotated[int, typer.Option(help="Which samples are drawn.")] = 0,
    json: Json = False,
) -> None:
    """What became of the texts, what it cost, and samples, as one HTML file; every run writes it too.

    Example: understudy report examples/demo/recipe.yaml -o report.html
    """
    from jobs.report import run_report

    written = run_report(load_recipe(recipe, overrides), out, seed=seed)
    if json:
        print_json({"report": written.html, "bytes": written.size_bytes, "seconds": round(written.seconds, 3)})
    else:
        print(written.html)


def review(
    recipe: RecipePath,
    overrides: Overrides = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Go through lines, samples and drafted cards on a local page, by keyboard; Ctrl-C ends it.

    Decisions are kept apart from the data and applied by the next `understudy curate`, also after extraction has run
    again.

    Example: understudy review examples/demo/recipe.yaml
    """
    from serve.review import opened
    from understudy.names import user_name
    from understudy.reviewing.room import Room

    loaded = load_recipe(recipe, overrides)
    with opened(Room(recipe_store(loaded), loaded, user_name()), port) as page:
        print(page.url, flush=True)
        print("Ctrl-C ends it; `understudy run` with the recipe applies what was decided", file=sys.stderr)
        if browser and sys.stdout.isatty():
            import webbrowser

            webbrowser.open(page.url)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("ended; every decision is kept", file=sys.stderr)

"""Conversations in and out: import, export, `data merge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import Json, Overrides, Personas, RecipePath, load_recipe, print_json

if TYPE_CHECKING:
    from understudy.interchange.merging import Merged

app = typer.Typer(help="Files of conversations: merge.", no_args_is_help=True, rich_markup_mode=None)

ReadAs = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="FORMAT",
        help="auto, alpaca, xtuner, sharegpt, messages, prompt-completion, conversations or lines.",
    ),
]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="alpaca, sharegpt, xtuner, messages (OpenAI), trl, prompt-completion or conversations (ours).",
    ),
]
Persona = Annotated[
    str | None, typer.Option("--persona", "-p", metavar="NAME", help="Who answers; default: whom the rows name.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help="Ends in .json, .jsonl (.gz may follow) or .parquet.")
]


def register(door: typer.Typer) -> None:
    """Put the commands on the door."""
    door.command("import")(import_files)
    door.command()(export)
    door.add_typer(app, name="data")


@app.command()
def merge(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FOLDER|FILE...", help="Read by name, in order.", show_default=False)
    ],
    out: Out,
    form: Form = "sharegpt",
    read_as: ReadAs = "auto",
    persona: Persona = None,
    json: Json = False,
) -> None:
    """One file of many, whatever each of them is written in; equal and broken rows are set aside beside it.

    Example: understudy data merge my-data -o all.json --format alpaca
    """
    from understudy.interchange.merging import merge as merge_files

    _check(out, read_as)
    _report(merge_files(sources, out, form, read_as=read_as, persona=persona), json)


def import_files(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="Files or folders of conversations.", show_default=False)
    ],
    out: Out,
    read_as: ReadAs = "auto",
    persona: Persona = None,
    json: Json = False,
) -> None:
    """Conversations that exist already as one file that says everything; a recipe takes it as a corpus.

    Example: understudy import huanhuan.json --persona huanhuan -o huanhuan.parquet
    """
    from understudy.interchange.merging import merge as merge_files

    _check(out, read_as)
    merged = merge_files(sources, out, "conversations", read_as=read_as, persona=persona)
    _report(merged, json)
    if not json:
        print(f"in a recipe: corpus: [{{path: {out.name}, kind: conversations}}]")


def export(
    recipe: RecipePath,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write into.")],
    overrides: Overrides = None,
    persona: Personas = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="alpaca, sharegpt, xtuner, messages (OpenAI), trl, prompt-completion, conversations or datasets (HF).",
        ),
    ] = "alpaca",
    json: Json = False,
) -> None:
    """Curated conversations as files that other trainers read, one per persona and split.

    Example: understudy export examples/demo/recipe.yaml -o out -f messages
    """
    from jobs.export import run_export

    written = run_export(load_recipe(recipe, overrides), tuple(persona or ()), out, form)
    if json:
        print_json({"written": [str(path) for path in written]})
    else:
        for path in written:
            print(path)


def _check(out: Path, read_as: str) -> None:
    from typing import get_args

    from understudy.errors import InputError
    from understudy.interchange.reading import Format

    if not out.name.endswith((".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")):
        raise InputError(f"--out {out}: end the name in .json, .jsonl (.gz may follow) or .parquet")
    if read_as not in get_args(Format):
        raise InputError(f"--from {read_as}: unknown; valid: {', '.join(get_args(Format))}")


def _report(merged: Merged, json: bool) -> None:
    if json:
        print_json(merged.as_json())
        return
    for name, taken in merged.files.items():
        print(f"{taken:>8}  {name}")
    print(f"{merged.conversations:>8}  conversations in {merged.rows} rows -> {merged.out}")
    for reason, count in merged.set_aside.most_common():
        print(f"{count:>8}  set aside: {reason}")
    if merged.aside:
        print(f"          (see {merged.aside})")

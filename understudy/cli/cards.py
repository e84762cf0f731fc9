"""`understudy cards`: character cards in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.options import (
    Json,
    Overrides,
    RecipePath,
    StoreUri,
    load_recipe,
    open_store,
    print_json,
    recipe_store,
)

app = typer.Typer(
    help="Character Cards V1 to V3 (JSON, PNG, CHARX): export from the catalog, import into a cast, convert, draft.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Spec = Annotated[
    str | None,
    typer.Option("--spec", metavar="VERSION", help="v1, v2 or v3; default: the card's own (CHARX: v3)."),
]
Picture = Annotated[Path | None, typer.Option("--image", metavar="FILE", help="A picture in place of the card's own.")]


@app.command("export")
def export_card(
    persona: Annotated[str, typer.Argument(metavar="PERSONA", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Ends in .json, .png or .charx; default: JSON on stdout."),
    ] = None,
    spec: Spec = None,
    image: Picture = None,
    store: StoreUri = None,
) -> None:
    """The character card of a published persona, with the picture and assets that it came with.

    Example: understudy cards export bram -o bram.png
    """
    from understudy.cards import as_version, write_card_file
    from understudy.catalog import Catalog

    catalog = Catalog(open_store(store))
    name, _, selector = persona.partition("@")
    digest = catalog.refresh().resolve(name, selector or None).card
    if out is None:
        card = catalog.card(digest)
        print_json(card if spec is None else as_version(card, spec))
        return
    print(write_card_file(out, catalog.card_file(digest), spec, _bytes_of(image)))


@app.command("convert")
def convert_card(
    card: Annotated[Path, typer.Argument(metavar="CARD", help="JSON, PNG or CHARX.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Ends in .json, .png or .charx.")],
    spec: Spec = None,
    image: Picture = None,
) -> None:
    """A card in another version or container; fields that we do not know stay.

    Example: understudy cards convert bram.png -o bram.charx
    """
    from understudy.cards import read_card_file, write_card_file
    from understudy.errors import InputError
    from understudy.persona import Persona

    if out.exists() and out.samefile(card):
        raise InputError(f"{out}: is the card that is read; name another file")
    file = read_card_file(card)
    Persona.from_card(file.card, None, str(card))
    print(write_card_file(out, file, spec, _bytes_of(image)))


@app.command("import")
def import_cards(
    cards: Annotated[
        list[Path],
        typer.Argument(metavar="CARD...", help="Character cards (JSON, PNG, CHARX).", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The cast list to write (YAML).")],
) -> None:
    """Make a cast list of cards; a recipe takes it as `cast: FILE`.

    Example: understudy cards import bram.png oda.json -o cast.yaml
    """
    from ruamel.yaml import YAML

    from understudy.cards import read_card
    from understudy.errors import InputError, PersonaError
    from understudy.names import is_name
    from understudy.persona import Persona

    if out.exists():
        raise InputError(f"{out}: exists already; name another file")
    entries: list[dict[str, object]] = []
    for path in cards:
        persona = Persona.from_card(read_card(path), None, str(path))
        name = path.stem if is_name(path.stem) else persona.name
        if any(entry["name"] == name for entry in entries):
            raise PersonaError(f"{path}: {name} occurs twice; rename one of the files")
        aliases = list(dict.fromkeys([persona.display_name, persona.called]))
        entries.append({"name": name, "aliases": aliases, "card": str(path.resolve())})
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8") as file:
        YAML().dump(entries, file)
    print(out)


@app.command("draft")
def draft_card(
    recipe: RecipePath,
    overrides: Overrides = None,
    persona: Annotated[
        str | None, typer.Option("--persona", "-p", metavar="NAME", help="Whose card; a cast of one needs none.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="A new .json, .png or .charx; default: JSON on stdout."),
    ] = None,
) -> None:
    """Draft the card of a persona from its lines; what its card or the cast says already stays.

    With a step `kind: cards` in the recipe it is what the model drafted, else greetings and examples are real lines.

    Example: understudy cards draft examples/mooncake/recipe.yaml --persona afu --out afu.json
    """
    from jobs.card_draft import drafted_card
    from jobs.cast import chosen_cast
    from understudy.cards import CardFile, write_card_file
    from understudy.errors import InputError, PersonaError

    loaded = load_recipe(recipe, overrides)
    store = recipe_store(loaded)
    if out is not None and out.exists():
        raise InputError(f"{out}: exists already; name another file, and take from it what you like")
    if persona is None:
        names = [entry.name for entry in chosen_cast(loaded, store, ())]
        if len(names) > 1:
            raise PersonaError(f"--persona: whose card? The cast is {', '.join(names[:12])}")
        persona = names[0]
    card, made = drafted_card(loaded, store, persona)
    if out is None:
        print_json(card)
        return
    print(f"{write_card_file(out, CardFile(card))} ({made})")


@app.command("show")
def show_cast(recipe: RecipePath, overrides: Overrides = None, json: Json = False) -> None:
    """The cast of a recipe as it resolves: names, aliases, system text, greeting.

    Example: understudy cards show examples/demo/recipe.yaml
    """
    from jobs.cast import chosen_cast
    from understudy.persona import cast_entry_persona
    from understudy.prompts import greeting_text, system_text

    loaded = load_recipe(recipe, overrides)
    personas = [cast_entry_persona(entry, loaded) for entry in chosen_cast(loaded, recipe_store(loaded), ())]
    if json:
        print_json([{**p.model_dump(mode="json", exclude={"card"}), "system_text": system_text(p)} for p in personas])
        return
    for persona in personas:
        print(f"{persona.name} ({persona.display_name}); in the text: {', '.join(persona.aliases) or '-'}")
        print(f"  system:   {' '.join(system_text(persona).split())}")
        print(f"  greeting: {' '.join(greeting_text(persona).split()) or '-'}")


def _bytes_of(path: Path | None) -> bytes | None:
    from understudy.errors import InputError

    if path is None:
        return None
    if not path.is_file():
        raise InputError(f"--image {path}: no such file")
    return path.read_bytes()

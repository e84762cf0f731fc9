"""`understudy cards`: character cards in and out."""

from __future__ import annotations

import json as json_module
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
    help="Character Card V2: export from the catalog, import into a cast.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("export")
def export_card(
    persona: Annotated[str, typer.Argument(metavar="PERSONA", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: stdout.")] = None,
    store: StoreUri = None,
) -> None:
    """The Character Card V2 (JSON) of a published persona.

    Example: understudy cards export bram -o bram.json
    """
    from understudy.catalog import Catalog

    catalog = Catalog(open_store(store))
    name, _, selector = persona.partition("@")
    card = catalog.card(catalog.refresh().resolve(name, selector or None).card)
    if out is None:
        print_json(card)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json_module.dumps(card, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(out)


@app.command("import")
def import_cards(
    cards: Annotated[list[Path], typer.Argument(metavar="CARD...", help="Character cards (JSON).", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The cast list to write (YAML).")],
) -> None:
    """Make a cast list of cards; a recipe takes it as `cast: FILE`.

    Example: understudy cards import bram.json oda.json -o cast.yaml
    """
    from ruamel.yaml import YAML

    from understudy.errors import InputError, PersonaError
    from understudy.names import is_name
    from understudy.persona import Persona, read_card

    if out.exists():
        raise InputError(f"{out}: exists already; name another file")
    entries: list[dict[str, object]] = []
    for path in cards:
        persona = Persona.from_card(read_card(path), None, str(path))
        name = path.stem if is_name(path.stem) else persona.name
        if any(entry["name"] == name for entry in entries):
            raise PersonaError(f"{path}: {name} occurs twice; rename one of the files")
        entries.append({"name": name, "aliases": [persona.display_name], "card": str(path.resolve())})
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8") as file:
        YAML().dump(entries, file)
    print(out)


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

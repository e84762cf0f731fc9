"""`understudy recipe`: write, look at, check and copy recipes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.options import Json, Overrides, RecipePath, load_recipe, print_json
from understudy.wording import counted

if TYPE_CHECKING:
    from understudy.corpus import Work
    from understudy.drafting import Speaker
    from understudy.persona import Persona
    from understudy.recipe import Recipe

app = typer.Typer(help="Recipes: new, list, copy, show, check, schema.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def show(recipe: RecipePath, overrides: Overrides = None, json: Json = False) -> None:
    """The recipe as it resolves, every default written out.

    Example: understudy recipe show examples/demo/recipe.yaml train.epochs=5
    """
    data = load_recipe(recipe, overrides).model_dump(mode="json")
    if json:
        print_json(data)
        return
    import sys

    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.allow_unicode = True
    yaml.dump(data, sys.stdout)


@app.command()
def check(recipe: RecipePath, overrides: Overrides = None, json: Json = False) -> None:
    """Check a recipe with its texts, cards and base, without running it.

    Example: understudy recipe check examples/demo/recipe.yaml
    """
    from jobs.run import check_ahead, refuse_later_parts
    from understudy.base import resolve, source_of
    from understudy.corpus import find_works
    from understudy.persona import cast_entries, cast_entry_persona, check_answerers
    from understudy.recipe import AutoCastEntry

    loaded = load_recipe(recipe, overrides)
    refuse_later_parts(loaded)
    works = find_works(loaded)
    automatic = isinstance(loaded.cast, AutoCastEntry)
    entries = () if automatic else cast_entries(loaded)
    personas = [cast_entry_persona(entry, loaded) for entry in entries]
    check_ahead(loaded)
    if not automatic:
        check_answerers(loaded, personas)
    _check_works(works, personas)
    if source_of(loaded.model, Path(loaded.folder)) in ("builtin", "path"):
        resolve(loaded.model, Path(loaded.folder))
    _check_models(loaded)
    names = [persona.name for persona in personas]
    if json:
        print_json({"recipe": loaded.name, "works": [work.name for work in works], "personas": names})
        return
    cast = "automatic" if automatic else ", ".join(names) or "empty"
    print(f"{recipe}: good; {counted(len(works), 'work')}, cast: {cast}, base {loaded.model.base}")


def _check_models(recipe: Recipe) -> None:
    from understudy.base import resolve, source_of
    from understudy.errors import InputError
    from understudy.recipe import ModelConfig

    folder = Path(recipe.folder)
    for name, endpoint in recipe.endpoints.items():
        model = ModelConfig(base=endpoint.model, source=endpoint.source, revision=endpoint.revision)
        if endpoint.engine == "vllm" and source_of(model, folder) in ("builtin", "path"):
            try:
                resolve(model, folder)
            except InputError as error:
                raise InputError(f"endpoints.{name}: {error}") from None


def _check_works(works: Sequence[Work], personas: Sequence[Persona]) -> None:
    """Open every text, and see that in each work every name means one persona; InputError names what does not hold."""
    from understudy.corpus import check as check_text
    from understudy.errors import CorpusError
    from understudy.script import owners, plays

    bad = []
    for work in works:
        try:
            check_text(work)
        except CorpusError as error:
            bad.append(str(error))
        here = [p.model_copy(update={"works": ("*",)}) for p in personas if plays(p, work.name, work.location)]
        owners(here, work.name)
    if bad:
        more = f"; and {len(bad) - 5} more texts" if len(bad) > 5 else ""
        raise CorpusError(f"{'; '.join(bad[:5])}{more}")


@app.command()
def schema() -> None:
    """The JSON Schema of recipes, for editors.

    Example: understudy recipe schema > recipe.schema.json
    """
    from understudy.recipe import Recipe

    document = Recipe.model_json_schema()
    document["properties"].pop("folder", None)
    print_json(document)


@app.command()
def new(
    texts: Annotated[list[Path], typer.Argument(metavar="TEXT...", help="Files or folders.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Recipe to write.")] = None,
    name: Annotated[str | None, typer.Option(help="The recipe's name; default: the first text's.")] = None,
    cast: Annotated[
        str | None, typer.Option(help="Speakers to take, by comma; default: those with most lines.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many speakers to take.")] = 5,
    min_lines: Annotated[int, typer.Option(min=1, help="Fewest lines of one.")] = 20,
    base: Annotated[str, typer.Option(metavar="MODEL", help="Base model.")] = "builtin:tiny",
    json: Json = False,
) -> None:
    """Look at texts, show who speaks, and write a recipe with that cast.

    Example: understudy recipe new play.txt -o play.yaml --top 3
    """
    from understudy.drafting import draft
    from understudy.errors import InputError
    from understudy.look import look

    if out is not None and out.exists():
        raise InputError(f"{out}: exists already; name another file with --out")
    seen = look(texts)
    chosen = _chosen_speakers(seen.speakers, cast, top, min_lines)
    shown_name = name or seen.name
    target = out or Path(f"{shown_name}.yaml")
    if target.exists():
        raise InputError(f"{target}: exists already; name another file with --out")
    text = draft(shown_name, seen.paths, seen.kinds, chosen, target.parent, base, seen.language)
    from understudy.recipe_yaml import parse_yaml, validated

    validated(parse_yaml(text, str(target)), str(target))  # e.g. --name "Not A Name" is refused before it is written
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    speakers = seen.speakers
    if json:
        rows = [{"speaker": s.name, "lines": s.lines, "works": s.works, "cast": s in chosen} for s in speakers]
        print_json({"recipe": str(target), "works": [str(path) for path in seen.paths], "speakers": rows})
        return
    works, speeches = counted(len(seen.paths), "work"), sum(speaker.lines for speaker in speakers)
    print(f"{works}, {seen.characters:,} characters, {speeches:,} speeches")
    for speaker in speakers[:20]:
        shown = ", ".join((speaker.name, *speaker.aliases))
        print(f"  {'*' if speaker in chosen else ' '} {speaker.lines:>6}  {shown}")
    if len(speakers) > 20:
        print(f"    and {len(speakers) - 20} more speakers")
    for line in seen.problems:
        print(f"  set aside: {line}")
    print(f"wrote {target} with {len(chosen)} personas (*); next: understudy run {target}")


@app.command("list")
def list_presets(
    pattern: Annotated[str, typer.Option("-p", "--pattern", metavar="PATTERN", help="Regular expression.")] = ".",
    json: Json = False,
) -> None:
    """Presets by base and card.

    Example: understudy recipe list -p 8b
    """
    from understudy.errors import InputError

    try:
        wanted = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise InputError(f"--pattern {pattern!r}: is no regular expression ({error})") from None
    rows = [row for row in _presets() if wanted.search(f"{row['name']} {row['base']} {row['about']}")]
    if json:
        print_json(rows)
        return
    for row in rows:
        print(f"{row['name']:<26} {row['base']:<36} {row['about']}")


@app.command("copy")
def copy_preset(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
) -> None:
    """Copy a preset into a folder, to make it your own.

    Example: understudy recipe copy huanhuan ./my-show
    """
    import difflib

    from understudy.errors import InputError

    known = {row["name"]: row["path"] for row in _presets()}
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.4)
        hint = f"did you mean {near[0]}?" if near else "see `understudy recipe list`"
        raise InputError(f"preset {name}: does not exist; {hint}")
    target = folder / f"{name}.yaml"
    if target.exists():
        raise InputError(f"{target}: exists already; copy into another folder")
    folder.mkdir(parents=True, exist_ok=True)
    target.write_text(Path(known[name]).read_text("utf-8"), encoding="utf-8")
    print(target)


def _presets() -> list[dict[str, Any]]:
    """Name, base and first comment line of every preset."""
    from understudy.recipe_yaml import parse_yaml

    rows = []
    for path in sorted((Path(__file__).parent.parent / "presets").glob("*.yaml")):
        text = path.read_text("utf-8")
        data = parse_yaml(text, str(path))
        about = text.split("\n", 1)[0].lstrip("# ").strip()
        rows.append({"name": path.stem, "base": data["model"]["base"], "about": about, "path": str(path)})
    return rows


def _chosen_speakers(speakers: Sequence[Speaker], cast: str | None, top: int, min_lines: int) -> list[Speaker]:
    from understudy.errors import InputError

    if cast is None:
        found = [speaker for speaker in speakers if speaker.lines >= min_lines][:top]
        if not found:
            best = max((speaker.lines for speaker in speakers), default=0)
            raise InputError(f"no speaker has {min_lines} lines (most: {best}); lower --min-lines")
        return found
    chosen = []
    for wanted in filter(None, (part.strip() for part in cast.split(","))):
        match = next((speaker for speaker in speakers if speaker.name.casefold() == wanted.casefold()), None)
        if match is None:
            names = ", ".join(speaker.name for speaker in speakers[:10])
            raise InputError(f"--cast {wanted}: nobody of that name speaks; most lines have: {names}")
        chosen.append(match)
    return chosen

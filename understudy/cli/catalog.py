"""`understudy catalog`: which personas are on stage, in which version, and how they came there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import Json, StoreUri, open_store, print_json
from understudy.names import user_name

if TYPE_CHECKING:
    from understudy.catalog import Catalog
    from understudy.release import Entry, Release, State

app = typer.Typer(
    help="Personas on stage: list, show, alias, rollback, log, verify, affected.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

PersonaName = Annotated[str, typer.Argument(metavar="PERSONA", show_default=False)]
Alias = Annotated[str, typer.Option(help="current or candidate.")]


@app.command("list")
def list_personas(store: StoreUri = None, json: Json = False) -> None:
    """Every persona, what its aliases point at, and its scores.

    Example: understudy catalog list --store ./store
    """
    state = _state(store)
    rows = [
        {"persona": name, "aliases": _aliases(state, name), "versions": len(state.versions.get(name, {}))}
        for name in sorted(state.versions)
    ]
    if json:
        print_json({"entry": state.n, "personas": rows})
        return
    if not rows:
        print("no personas yet; `understudy run RECIPE` puts some on stage")
    for row in rows:
        shown = ", ".join(f"{alias} {version}" for alias, version in row["aliases"].items())
        print(f"{row['persona']:<24} {shown or 'no alias'}  ({row['versions']} versions)")


@app.command()
def show(persona: PersonaName, store: StoreUri = None, json: Json = False) -> None:
    """One persona: versions, base, scores, card.

    Example: understudy catalog show bram
    """
    state = _state(store)
    if persona not in state.versions:
        state.resolve(persona)  # refuses the name with the nearest one
    releases = state.versions[persona]
    aliases = _aliases(state, persona)
    if json:
        versions = {version: release.model_dump(mode="json") for version, release in releases.items()}
        print_json({"persona": persona, "aliases": aliases, "versions": versions})
        return
    for version, release in releases.items():
        names = " ".join(alias for alias, target in aliases.items() if target == version)
        print(f"{version}  {_kind(release):<11} base {release.base_name}  {names}")
        if release.advice:
            print(f"  {release.advice}")


@app.command()
def alias(
    persona: PersonaName,
    version: Annotated[str, typer.Argument(metavar="VERSION", show_default=False)],
    alias: Alias = "current",
    weight: Annotated[int | None, typer.Option(min=0, max=100, help="Percent of chats; candidate: 0.")] = None,
    store: StoreUri = None,
    json: Json = False,
) -> None:
    """Point an alias at a version; chat follows at once.

    Example: understudy catalog alias bram v0123456789abcdef --alias candidate --weight 10
    """
    from understudy.release import weight_of

    entry = _catalog(store).point(persona, alias, version, weight_of(alias, weight), user_name())
    _report(entry, json, f"{persona}: {alias} already points at {version}")


@app.command()
def rollback(persona: PersonaName, alias: Alias = "current", store: StoreUri = None, json: Json = False) -> None:
    """Point an alias back at what it pointed at before.

    Example: understudy catalog rollback bram
    """
    _report(_catalog(store).rollback(persona, alias, user_name()), json, "")


@app.command()
def log(store: StoreUri = None, json: Json = False) -> None:
    """Every change: what moved, when and by whom.

    Example: understudy catalog log
    """
    entries = _catalog(store).history()
    if json:
        print_json([entry.model_dump(mode="json") for entry in entries])
        return
    for entry in entries:
        moved = ", ".join(f"{release.persona} {release.version}" for release in entry.releases)
        print(f"{entry.n:>5}  {entry.when}  {entry.who:<12} {entry.action:<9} {entry.alias or '-':<10} {moved}")


@app.command()
def verify(store: StoreUri = None, json: Json = False) -> None:
    """Read everything that is published and name each file that is not as it was; exit 1 if there is one.

    Example: understudy catalog verify --store ./store
    """
    faults = _catalog(store).verify()
    if json:
        print_json({"faults": faults})
    else:
        print("\n".join(faults) if faults else "every entry, card and adapter is as it was published")
    raise typer.Exit(1 if faults else 0)


@app.command("affected")
def show_affected(
    work: Annotated[str, typer.Option("--work", metavar="NAME", help="A work, or a mixed-in source.")],
    store: StoreUri = None,
    json: Json = False,
) -> None:
    """Everything made from a work: outputs, adapters, what is on stage; over all recipes of the store.

    Example: understudy catalog affected --work the-lamp-on-the-quay
    """
    from understudy.affected import affected

    found = affected(open_store(store), work)
    if json:
        print_json(found.as_json())
        return
    for rights in found.rights:
        print("; ".join(f"{name}: {value}" for name, value in rights.items() if value))
    for one in found.outputs:
        print(f"{one.stage:<9} {one.unit:<32} {'' if one.current else '(earlier) '}{one.key}")
    for version in found.versions:
        shown = ", ".join(version.aliases) or "not on stage"
        print(f"{'version':<9} {version.persona}@{version.version:<20} {shown}")


def _catalog(store: str | None) -> Catalog:
    from understudy.catalog import Catalog

    return Catalog(open_store(store))


def _state(store: str | None) -> State:
    return _catalog(store).refresh()


def _aliases(state: State, persona: str) -> dict[str, str]:
    return {name: alias.release.version for name, alias in state.aliases.get(persona, {}).items()}


def _kind(release: Release) -> str:
    return "prompt only" if release.prompt_only else "adapter"


def _report(entry: Entry | None, json: bool, unchanged: str) -> None:
    if json:
        print_json({"entry": entry.n if entry else None})
    elif entry is None:
        print(unchanged)
    else:
        moved = ", ".join(f"{release.persona} {release.version}" for release in entry.releases)
        print(f"entry {entry.n}: {entry.alias} -> {moved}")

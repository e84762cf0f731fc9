"""What the catalog's log says: releases, the entries that publish them, and the state that entries lead to."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from understudy.errors import CatalogError
from understudy.names import NAME_PATTERN
from understudy.record import canonical

SCHEMA_VERSION = 1
CURRENT = "current"
PROMPT = "prompt"
"""Reserved: `persona@prompt` is the base with the persona's card and no adapter."""
_HISTORY = 20


class Release(BaseModel):
    """One persona as published: a version with the card that it is served with."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    persona: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=r"^[vp][0-9a-f]{16}$")
    """`v...` an adapter version, `p...` the prompt alone."""
    base_name: str
    base_identity: str
    card: str = Field(pattern=r"^[0-9a-f]{64}$")
    manifest: str | None = None
    """SHA-256 of the adapter's manifest.json; None for the prompt alone."""
    rank: int | None = None
    """Of the adapter; None for the prompt alone."""
    template_kwargs: dict[str, Any] = {}
    questions: tuple[str, ...] = ()
    """What a visitor may ask first."""
    scores: dict[str, Any] = {}
    advice: str | None = None
    """What evaluation says to whoever chooses, such as that the prompt alone does better."""
    record: str | None = None
    """Store key of the record that this came from."""

    @property
    def prompt_only(self) -> bool:
        """Whether the persona is its card on the bare base, without an adapter."""
        return self.version.startswith("p")

    @property
    def key(self) -> str:
        """Where the adapter version lives in the store."""
        return adapter_key(self.persona, self.version)

    def as_prompt(self) -> Release:
        """The same persona without its adapter."""
        if self.prompt_only:
            return self
        version = prompt_version(self.card, self.base_identity, self.template_kwargs)
        return self.model_copy(
            update={"version": version, "manifest": None, "rank": None, "scores": {}, "advice": None}
        )


class Entry(BaseModel):
    """One change of the catalog."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: int = SCHEMA_VERSION
    n: int = Field(ge=1)
    action: Literal["publish", "alias", "rollback"]
    alias: str | None = None
    """What moves to the releases; None publishes them without an alias."""
    weight: int = Field(100, ge=0, le=100)
    """Percent of a persona's chats that follow this alias when they name none; for `current` the rest."""
    releases: tuple[Release, ...]
    who: str = ""
    when: str
    """UTC, ISO 8601."""
    note: str = ""
    previous: str = ""
    """SHA-256 of the entry before."""
    digest: str = ""
    """SHA-256 of this entry with an empty digest."""


class Alias(BaseModel):
    """What an alias of one persona points at, and what it pointed at before (latest last)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: Release
    weight: int = 100
    n: int
    past: tuple[Release, ...] = ()


class State(BaseModel):
    """The catalog after entry n: versions and aliases by persona."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: int = SCHEMA_VERSION
    n: int = 0
    tail: str = ""
    """SHA-256 of entry n."""
    versions: dict[str, dict[str, Release]] = {}
    """Releases by persona and version, in the order of publishing, each with the card it was last published with."""
    aliases: dict[str, dict[str, Alias]] = {}

    def after(self, entry: Entry, tail: str) -> State:
        """The state that `entry` leads to."""
        versions = {name: dict(found) for name, found in self.versions.items()}
        aliases = {name: dict(found) for name, found in self.aliases.items()}
        for release in entry.releases:
            versions.setdefault(release.persona, {})[release.version] = release
            if entry.alias is None:
                continue
            mine = aliases.setdefault(release.persona, {})
            old = mine.get(entry.alias)
            if old is None:
                past: tuple[Release, ...] = ()
            elif entry.action == "rollback" and release in old.past:
                past = old.past[: len(old.past) - 1 - old.past[::-1].index(release)]
            else:
                past = (*old.past, old.release)[-_HISTORY:] if old.release != release else old.past
            mine[entry.alias] = Alias(release=release, weight=entry.weight, n=entry.n, past=past)
        return State(n=entry.n, tail=tail, versions=versions, aliases=aliases)

    def personas(self) -> list[str]:
        """Every persona that has a current release, sorted."""
        return sorted(name for name, mine in self.aliases.items() if CURRENT in mine)

    def resolve(self, persona: str, selector: str | None = None, draw: float = 1.0) -> Release:
        """The release that answers for `persona`, `persona@alias`, `persona@VERSION` or `persona@prompt`.

        Without a selector, `draw` in [0, 1) chooses among the aliases with a weight; 1.0 always gives `current`.
        """
        if persona not in self.versions:
            raise CatalogError(f"persona {persona}: is not in the catalog{_nearest(persona, self.personas())}")
        mine, versions = self.aliases.get(persona, {}), self.versions[persona]
        if selector is None:
            threshold = 0.0
            for name in sorted(mine):
                if name != CURRENT:
                    threshold += mine[name].weight / 100
                    if draw < threshold:
                        return mine[name].release
            selector = CURRENT
        if selector in mine:
            return mine[selector].release
        if selector in versions:
            return versions[selector]
        if selector == PROMPT:
            return (mine[CURRENT].release if CURRENT in mine else list(versions.values())[-1]).as_prompt()
        known = [*sorted(mine), PROMPT, *versions]
        raise CatalogError(f"persona {persona}: has no alias or version {selector}; it has {', '.join(known)}")


def weight_of(alias: str, weight: int | None) -> int:
    """The weight as given, else all of the chat for `current` and none for another alias."""
    return weight if weight is not None else 100 if alias == CURRENT else 0


def adapter_key(persona: str, version: str) -> str:
    """Where in the store the adapter version lives."""
    return f"adapters/{persona}/{version}"


def prompt_version(card: str, base_identity: str, template_kwargs: dict[str, Any]) -> str:
    """The name of a persona without an adapter: `p` and 16 hex digits over card, base and template settings."""
    return "p" + hashlib.sha256(canonical([card, base_identity, template_kwargs])).hexdigest()[:16]


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; it has {', '.join(known[:10])}" if known else "; it is empty, run `understudy publish RECIPE`"

"""The cast as one server sees it: which release answers for a model name, and what its card adds to a request.

Plain Python over the catalog, so that the ingress only routes. Requests name a persona, `persona@alias`,
`persona@VERSION`, `persona@prompt` (the base with the card alone) or the base.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from understudy.base import Base
from understudy.catalog import Catalog
from understudy.errors import CatalogError, UnderstudyError
from understudy.persona import Persona
from understudy.prompts import greeting_text, system_text
from understudy.release import CURRENT, Release, State
from understudy.rendering import Shape, adapt, with_system
from understudy.store import Store

_FRESH_S = 1.0
_log = logging.getLogger("understudy.serve")


@dataclass(frozen=True)
class Part:
    """Who answers one request."""

    name: str
    """As the client asked."""
    release: Release | None = None
    """None for the bare base."""
    persona: Persona | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Response headers that say who spoke."""
        if self.release is None:
            return {}
        return {"x-understudy-persona": self.release.persona, "x-understudy-version": self.release.version}

    @property
    def fingerprint(self) -> str | None:
        """The version that speaks, for OpenAI's system_fingerprint."""
        return self.release.version if self.release else None


class Cast:
    """The personas of one base in one store, at most a second behind the catalog."""

    def __init__(self, store: Store, base: Base, shape_of: Callable[[dict[str, Any]], tuple[Shape, dict[str, Any]]]):
        """`shape_of(template_kwargs)`: what the base's template takes, and the template variables with defaults."""
        self._base = base
        self._catalog = Catalog(store)
        self._shape_of = shape_of
        self._read_at = 0.0
        self._lock = asyncio.Lock()
        self._cached_persona = lru_cache(maxsize=4096)(self._read_persona)

    async def state(self) -> State:
        """The catalog now; when the store does not answer, as it was last seen."""
        async with self._lock:
            if time.monotonic() - self._read_at > _FRESH_S:
                try:
                    await asyncio.to_thread(self._catalog.refresh)
                except UnderstudyError as error:
                    if not self._read_at:
                        raise
                    _log.warning("%s; going on with entry %d", error, self._catalog.state.n)
                self._read_at = time.monotonic()
            return self._catalog.state

    async def part(self, model: str, draw: float = 1.0) -> Part:
        """Who answers for the model name; CatalogError naming the nearest when nobody does."""
        if model == self._base.served_name:
            return Part(model)
        state = await self.state()
        name, _, selector = model.partition("@")
        if name not in state.versions or not self._here(state, name):
            raise CatalogError(self._unknown(state, name))
        release = state.resolve(name, selector or None, draw)
        if release.base_identity != self._base.identity:
            raise CatalogError(
                f"model {model}: version {release.version} was made for base {release.base_name}, "
                f"this server runs {self._base.name}"
            )
        return Part(model, release, await asyncio.to_thread(self._cached_persona, release.persona, release.card))

    async def parts(self) -> list[Part]:
        """Every persona of this base, then their other aliases."""
        state = await self.state()
        names = [name for name in state.personas() if self._here(state, name)]
        others = [f"{name}@{alias}" for name in names for alias in sorted(state.aliases[name]) if alias != CURRENT]
        found = []
        for name in [*names, *others]:
            try:
                found.append(await self.part(name))
            except UnderstudyError as error:
                _log.warning("%s is not listed: %s", name, error)
        return found

    def messages(self, part: Part, given: list[dict[str, Any]]) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """(the messages that the base is asked with, template variables): exactly what training rendered.

        The persona's system text always stands first; a system message of the client follows it in the same message.
        """
        kwargs = part.release.template_kwargs if part.release else {}
        shape, variables = self._shape_of(kwargs)
        asked = with_system(given, system_text(part.persona)) if part.persona else given
        return adapt(asked, shape), variables

    def describe(self, part: Part, full: bool = True) -> dict[str, Any]:
        """What `/v1/personas/NAME` says."""
        release, persona = part.release, part.persona
        if release is None or persona is None:
            return {"id": part.name, "display_name": part.name, "greeting": "", "toy": self.is_toy}
        short = {
            "id": part.name,
            "display_name": persona.display_name,
            "version": release.version,
            "prompt_only": release.prompt_only,
            "base": self._base.served_name,
        }
        if not full:
            return short
        return {
            **short,
            "greeting": greeting_text(persona),
            "description": persona.description.replace("{{char}}", persona.display_name),
            "sampling": dict(persona.sampling),
            "questions": list(release.questions or persona.questions),
            "advice": release.advice,
            "scores": release.scores,
            "toy": self.is_toy,
        }

    @property
    def is_toy(self) -> bool:
        """Whether the base is the embedded toy."""
        return self._base.name.startswith("builtin:")

    def _here(self, state: State, name: str) -> bool:
        return any(release.base_identity == self._base.identity for release in state.versions[name].values())

    def _unknown(self, state: State, name: str) -> str:
        if name in state.versions:
            bases = sorted({release.base_name for release in state.versions[name].values()})
            return f"model {name}: was made for base {', '.join(bases)}, this server runs {self._base.name}"
        known = [*(n for n in state.personas() if self._here(state, n)), self._base.served_name]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        return f"model {name}: does not exist; " + (
            f"did you mean {near[0]}?" if near else f"try {', '.join(known[:8])}"
        )

    def _read_persona(self, name: str, card: str) -> Persona:
        return Persona.from_card(self._catalog.card(card), name)

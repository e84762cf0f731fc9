"""publish: trained adapters become immutable versions in the catalog, a whole cast with one entry.

Each PEFT folder is copied, sealed (understudy/adapter.py) and stored under the digest that names it; then one entry of
the catalog's log shows all of them. Killed before that entry nothing has changed for anybody; run again it goes on.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from understudy.adapter import seal
from understudy.base import Base
from understudy.catalog import Catalog
from understudy.persona import Persona
from understudy.release import Entry, Release, prompt_version

PromptOnly = Literal["offer", "always", "never"]


@dataclass(frozen=True, slots=True)
class Item:
    """One persona to publish."""

    persona: Persona
    folder: Path | None
    """What training left (PEFT files); None publishes the prompt alone."""
    beats_prompt: bool | None = None
    """Whether evaluation found the adapter better than the prompted base; None when it was not evaluated."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    questions: tuple[str, ...] = ()
    """What a visitor may ask first; empty: the card's."""
    record: str | None = None
    """Store key of the record of the adapter's training."""


def publish_cast(
    catalog: Catalog,
    items: Sequence[Item],
    base: Base,
    template_kwargs: Mapping[str, Any],
    *,
    alias: str | None = "current",
    weight: int = 100,
    prompt_only: PromptOnly = "offer",
    who: str = "",
) -> tuple[list[Release], Entry | None]:
    """Store every adapter and card, then publish all with one entry; None when the alias shows just this already.

    An adapter that does not beat the prompted base is published with advice that says so (`offer`; `PERSONA@prompt`
    is always there to talk to), replaced by the prompt alone (`always`), or published without a word (`never`).
    """
    kwargs = dict(template_kwargs)
    releases = [release_of(catalog, item, base, kwargs, prompt_only) for item in items]
    entry = catalog.publish(releases, alias, weight, who)
    return releases, entry


def release_of(
    catalog: Catalog, item: Item, base: Base, template_kwargs: dict[str, Any], prompt_only: PromptOnly
) -> Release:
    """The release of one persona, its card and adapter already in the store."""
    card = catalog.put_card(item.persona.to_card())
    weak = item.beats_prompt is False
    release = Release(
        persona=item.persona.name,
        version=prompt_version(card, base.identity, template_kwargs),
        base_name=base.served_name if Path(base.name).is_absolute() else base.name,
        base_identity=base.identity,
        card=card,
        template_kwargs=template_kwargs,
        questions=item.questions or item.persona.questions,
        scores=dict(item.scores),
        record=item.record,
    )
    if item.folder is None or (weak and prompt_only == "always"):
        return release
    with tempfile.TemporaryDirectory(prefix="understudy-publish-") as scratch:
        folder = Path(shutil.copytree(item.folder, Path(scratch) / item.persona.name))
        seal(
            folder,
            persona=item.persona.name,
            base_name=release.base_name,
            base_identity=base.identity,
            template_kwargs=template_kwargs,
            scores=dict(item.scores),
            record=item.record,
        )
        manifest, digest = catalog.put_adapter(folder)
    name = item.persona.name
    advice = f"the adapter does not beat the prompted base on held-out lines; {name}@prompt is the card alone"
    return release.model_copy(
        update={
            "version": manifest.version,
            "manifest": digest,
            "rank": manifest.rank,
            "advice": advice if weak and prompt_only == "offer" else None,
        }
    )

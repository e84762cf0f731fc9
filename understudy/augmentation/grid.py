"""The parts of a `matrix` step: names on its axes, styles, side conditions, and which pairs are made at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, StrictBool, model_validator

from understudy.recipe_part import Part, Positive, Share

Length = tuple[Annotated[int, Field(ge=0)], Positive]
"""Least and most characters."""
Score = Annotated[int, Field(ge=1, le=5)] | StrictBool | None
"""1 (nobody would) to 5 (natural); true is 5, false is 1, null: not given."""
FIELDS = ("recipient", "occasion", "style", "condition")
_FIELD = re.compile(r"\{(\w*)\}")


class Named(Part):
    """A recipient or an occasion."""

    name: Annotated[str, Field(min_length=1)]
    asked: tuple[str, ...] = ()
    """How users call it, one is drawn; without: `name`."""
    note: str = ""
    """What the writing model should know about it."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return {"name": value} if isinstance(value, str) else value
        # Behind a validator like this one values are no longer JSON, where a list is a tuple.
        return {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}


class StyleExample(Part):
    """A text in a style, shown to the writing model."""

    text: Annotated[str, Field(min_length=1)]
    recipient: str = ""
    occasion: str = ""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value


class GridStyle(Part):
    """A way to write."""

    name: Annotated[str, Field(min_length=1)]
    asked: tuple[str, ...] = ()
    """How users ask for it, one is drawn; without: `name`."""
    manner: str = ""
    """How it is written, for the model."""
    length: Length = (10, 400)
    """Least and most characters of a reply."""
    trigger: str | tuple[str, ...] = ()
    """Words of which one must occur in a reply, or one regular expression."""
    examples: tuple[StyleExample, ...] = ()
    """Few-shot examples."""

    @model_validator(mode="after")
    def _holds(self) -> GridStyle:
        if self.length[0] > self.length[1]:
            raise ValueError(f"length {list(self.length)}: the first is the least, the second the most")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"trigger {self.trigger!r} is no regular expression ({error})") from None
        return self

    @property
    def pattern(self) -> str:
        """The trigger as a regular expression; empty: none."""
        return self.trigger if isinstance(self.trigger, str) else "|".join(map(re.escape, self.trigger))


class Choice(Part):
    """One side condition."""

    write: Annotated[str, Field(min_length=1)]
    """What the writing model is told."""
    asked: str = ""
    """What the user says of it; empty: nothing, it only makes the texts differ."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"write": value} if isinstance(value, str) else value


class Condition(Part):
    """Side conditions of which one is drawn for a share of the texts."""

    choices: Annotated[tuple[Choice, ...], Field(min_length=1)]
    share: Share = 0.3
    """Of the texts that get one of these."""
    occasions: tuple[str, ...] = ()
    """Only with these; empty: with all."""
    recipients: tuple[str, ...] = ()
    """Only for these; empty: for all."""


class Suitability(Part):
    """Which recipients and occasions go together."""

    table: str | dict[str, dict[str, Score]] | None = None
    """Recipients by occasions: a YAML or CSV file (relative to the recipe), or written here. It wins over ratings."""
    rate: bool = False
    """Let the endpoint's model rate what the table does not hold; what it said is kept as a table to correct."""
    least: Annotated[int, Field(ge=1, le=5)] = 3
    """Pairs with a lower score are not made."""


def check_phrasings(phrasings: Sequence[str]) -> None:
    """ValueError for a field that no cell has."""
    for phrasing in phrasings:
        for field in _FIELD.findall(phrasing):
            if field not in FIELDS:
                raise ValueError(f"phrasing {phrasing!r}: unknown field {{{field}}}; there are {', '.join(FIELDS)}")


def check_names(what: str, names: Sequence[str]) -> None:
    """ValueError for a name that stands on an axis twice."""
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ValueError(f"{what}: {twice} occurs twice; name it once")

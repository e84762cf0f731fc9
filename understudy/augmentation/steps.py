"""The steps of `recipe.augment`: a union by `kind`, validated when the recipe is read."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from understudy.recipe_part import Name, Part, Positive

Length = tuple[Annotated[int, Field(ge=0)], Positive]
"""Least and most characters."""


class Sampling(Part):
    """How the model is asked; None leaves it to the endpoint."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Positive | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    extra: dict[str, JsonValue] = {}
    """Further fields of the request, such as `{top_k: 40}`, for servers that know them."""

    def request(self, **defaults: Any) -> dict[str, Any]:
        """The fields of the request; what the recipe does not say comes from `defaults`."""
        return {**defaults, **self.model_dump(exclude_none=True, exclude={"extra"}), **self.extra}


class Checks(Part):
    """What a generated conversation must hold to be accepted; each can be switched off."""

    language: bool = True
    """In the step's language."""
    length: Length | None = None
    """Characters of each reply; None: the kind's own bounds."""
    trigger: bool = True
    """The style's trigger occurs."""
    copied: Annotated[float, Field(gt=0, le=1)] | None = 0.5
    """Largest share of a reply's word sequences that may come from one example; null: no such check."""
    assistant: bool = True
    """No assistant's talk: `As an AI`, `作为一个人工智能`, `Here is the blessing:`."""
    leaked: bool = True
    """Nothing of the prompt's instructions, no placeholders and no markup in it."""
    repeated: bool = True
    """No reply twice within the step."""


class AugmentStep(Part):
    """What all kinds have in common."""

    reads_lines: ClassVar[bool] = True
    """Whether the step depends on the persona's lines; without, a change of the texts makes nothing again."""

    name: Name
    endpoint: str = "main"
    """A name in `endpoints`, or `all` of them by weight."""
    personas: tuple[Name, ...] | None = None
    """For whom; None: the whole cast."""
    language: str = "auto"
    """BCP 47 code of what is written; `auto`: that of the persona's lines, system prompt and greeting."""
    sampling: Sampling = Sampling()
    checks: Checks = Checks()
    judge: str | None = None
    """An endpoint whose model is asked whether each accepted row is in character; None: nobody is."""
    judge_least: Annotated[int, Field(ge=1, le=5)] = 4
    """Rows that the judge gives fewer points (1 to 5) are set aside."""
    seed: Annotated[int, Field(ge=0)] = 0

    def files(self) -> tuple[str, ...]:
        """Paths, as written, of files whose bytes the step reads."""
        return ()


class StyleStep(AugmentStep):
    """New exchanges in the manner of a few real ones."""

    kind: Literal["style"]
    count: Positive = 100
    """Exchanges to ask for, over all calls."""
    per_call: Annotated[int, Field(ge=1, le=50)] = 5
    """Exchanges that one call asks for."""
    examples: Annotated[int, Field(ge=1, le=50)] = 6
    """Real exchanges that one call shows."""
    topics: tuple[str, ...] = ()
    """What the new exchanges are about, drawn by the seed; without: the model chooses."""
    example_chars: Positive = 400
    """Exchanges with a longer side are not shown."""


class MatrixStep(AugmentStep):
    """Recipients, occasions and styles, each combination by itself."""

    reads_lines: ClassVar[bool] = False
    kind: Literal["matrix"]


AnyStep = Annotated[StyleStep | MatrixStep, Field(discriminator="kind")]
"""One step of `recipe.augment`. A new kind: a class above, its name here, a module of the kind's name beside this."""

"""The steps of `recipe.augment`: a union by `kind`, validated when the recipe is read."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from understudy.augmentation.boundary_prompts import Group
from understudy.augmentation.grid import (
    Condition,
    GridStyle,
    Length,
    Named,
    Suitability,
    check_names,
    check_phrasings,
)
from understudy.recipe_part import Name, Part, Positive

RESERVED = ("model", "messages", "stream", "n", "response_format")
"""What a request holds that no step may set."""


class Sampling(Part):
    """How the model is asked; None leaves it to the endpoint."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Positive | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    extra: dict[str, JsonValue] = {}
    """Further fields of the request, such as `{top_k: 40}`, for servers that know them."""

    @model_validator(mode="after")
    def _not_ours(self) -> Sampling:
        ours = [name for name in self.extra if name in RESERVED or name in type(self).model_fields]
        if ours:
            raise ValueError(f"extra: {ours[0]} is not a further field; it has a place of its own, or is set by a step")
        return self

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

    reads_narration: ClassVar[bool] = False
    """Whether it depends on what is told around the speeches, to the letter."""
    may_go_without: ClassVar[bool] = False
    """Whether the kind makes something of use without a model."""

    name: Name
    endpoint: str | None = "main"
    """A name in `endpoints`, or `all` of them by weight; null where the kind can go without a model."""
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

    @model_validator(mode="after")
    def _has_endpoint(self) -> AugmentStep:
        if self.endpoint is None and not self.may_go_without:
            raise ValueError(f"{self.name}: needs a model; name one of `endpoints` as its endpoint")
        return self

    def files(self) -> tuple[str, ...]:
        """Paths, as written, of files whose bytes the step reads."""
        return ()

    def texts(self) -> tuple[str, ...]:
        """What the step itself says in its language; where it says nothing, the persona tells the language."""
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
    """Recipients, occasions and styles: a text for each combination that goes together."""

    reads_lines: ClassVar[bool] = False
    kind: Literal["matrix"]
    task: str = ""
    """What is written, such as `a toast of two sentences`; without: a greeting."""
    recipients: Annotated[tuple[Named, ...], Field(min_length=1)]
    occasions: Annotated[tuple[Named, ...], Field(min_length=1)]
    styles: Annotated[tuple[GridStyle, ...], Field(min_length=1)]
    conditions: tuple[Condition, ...] = ()
    """Side conditions, drawn by the seed."""
    phrasings: tuple[str, ...] = ()
    """How users ask, one is drawn: `Wish {recipient} a happy {occasion}, {style} style`. Without: the language's."""
    examples: Annotated[int, Field(ge=0, le=20)] = 3
    """Examples of the style that one call shows."""
    draws: Positive = 1
    """Texts for each combination, each with its own conditions, examples and phrasing."""
    suitability: Suitability = Suitability()

    @model_validator(mode="after")
    def _holds(self) -> MatrixStep:
        for what in ("recipients", "occasions", "styles"):
            check_names(what, [one.name for one in getattr(self, what)])
        check_phrasings(self.phrasings)
        return self

    def files(self) -> tuple[str, ...]:
        """The suitability table, where it is a file."""
        return (self.suitability.table,) if isinstance(self.suitability.table, str) else ()

    def texts(self) -> tuple[str, ...]:
        """What stands on the axes, and the examples."""
        named = [one.name for one in (*self.recipients, *self.occasions)]
        return (*named, *(example.text for style in self.styles for example in style.examples))


class QuestionsStep(AugmentStep):
    """Users' questions for real lines that have none; real scenes carried on."""

    kind: Literal["questions"]
    count: Positive | None = None
    """Lines to find a question for, drawn by the seed; None: all that have none."""
    short_cue: Annotated[int, Field(ge=0)] = 12
    """Words before a line with fewer letters than this are no good question; a Chinese character counts as three."""
    least_answer: Annotated[int, Field(ge=0)] = 12
    """A line with fewer letters gets no question; counted likewise."""
    context: Annotated[int, Field(ge=0, le=200)] = 8
    """Rows before the line that the model sees; half as many after it."""
    continuations: Annotated[int, Field(ge=0)] = 0
    """How many real exchanges are carried on."""
    turns: Annotated[int, Field(ge=1, le=20)] = 3
    """Turns that a continuation adds."""


class FactsStep(AugmentStep):
    """Questions and answers about the world of the work; its passages as plain text."""

    reads_narration: ClassVar[bool] = True
    may_go_without: ClassVar[bool] = True
    kind: Literal["facts"]
    passage_chars: Annotated[int, Field(ge=100, le=20_000)] = 1500
    """Characters of a passage that one call sees."""
    passages: Positive | None = None
    """Passages to ask about, drawn by the seed; None: all."""
    per_passage: Annotated[int, Field(ge=1, le=20)] = 4
    """Pairs that one call asks for, at most."""
    voice: Literal["persona", "plain"] = "persona"
    """Who answers: the persona in its own voice, or nobody in particular."""
    examples: Annotated[int, Field(ge=0, le=20)] = 4
    """Real exchanges that show the voice."""
    text: bool = True
    """Write the passages as text beside the conversations, for continued pretraining."""
    text_chars: Annotated[int, Field(ge=100)] = 4000
    """Characters of a passage of that text."""


class RestyleStep(AugmentStep):
    """Everyday prompts answered in the persona's voice."""

    kind: Literal["restyle"]
    prompts: str | None = None
    """A file of prompts, relative to the recipe: txt (one a line), jsonl, json, csv or parquet."""
    dataset: str | None = None
    """A Hugging Face data set instead: a folder written by `save_to_disk`, a folder of data files, or a hub name."""
    split: str = "train"
    """Split of the data set."""
    column: str | None = None
    """Where a prompt stands in a row; None: looked for."""
    count: Positive | None = 200
    """Prompts to answer, drawn by the seed; null: all."""
    draws: Positive = 1
    """Answers to each."""
    examples: Annotated[int, Field(ge=0, le=50)] = 5
    """Nearest real exchanges that one call shows."""

    @model_validator(mode="after")
    def _one_source(self) -> RestyleStep:
        if (self.prompts is None) == (self.dataset is None):
            raise ValueError(f"{self.name}: restyle needs either prompts or dataset")
        return self

    def source(self) -> str:
        """What the prompts are called among the material's files."""
        return self.prompts or f"dataset {self.dataset} {self.split}"

    def files(self) -> tuple[str, ...]:
        """The file of prompts."""
        return (self.prompts,) if self.prompts else ()


class CardsStep(AugmentStep):
    """A card drafted from the persona's lines; with `endpoint: null` greetings and examples from real lines only."""

    may_go_without: ClassVar[bool] = True
    kind: Literal["cards"]
    chunk_chars: Annotated[int, Field(ge=500, le=200_000)] = 8000
    """Characters of the part that one call reads."""
    chunks: Annotated[int, Field(ge=1, le=200)] = 12
    """Calls that read, at most; of a longer part they take stretches evenly. One more call merges their notes."""
    lore: Annotated[int, Field(ge=0, le=200)] = 16
    """Entries of the lorebook, at most."""


class BoundariesStep(AugmentStep):
    """Who are you, things that the character cannot know, refusals, attempts to break the role."""

    kind: Literal["boundaries"]
    groups: tuple[Group, ...] | None = None
    """Classes of prompts; None: all of them."""
    count: Positive | None = None
    """Prompts, as many of each class as possible, drawn by the seed; None: all."""
    draws: Positive = 1
    """Answers to each prompt."""
    own: bool = True
    """Ask our own prompts (96 in English, 96 in Chinese)."""
    prompts: str | None = None
    """A file of further prompts, relative to the recipe: one a line, or JSON lines of {"group", "turns"}."""
    world: str = ""
    """What there is in the character's time and place, where its card does not say: `a village without machines`."""
    examples: Annotated[int, Field(ge=0, le=50)] = 5
    """Real exchanges that one call shows."""

    @model_validator(mode="after")
    def _some_prompts(self) -> BoundariesStep:
        if not self.own and not self.prompts:
            raise ValueError(f"{self.name}: boundaries without own prompts needs a file: add `prompts`")
        return self

    def files(self) -> tuple[str, ...]:
        """The file of further prompts."""
        return (self.prompts,) if self.prompts else ()


AnyStep = Annotated[
    StyleStep | MatrixStep | QuestionsStep | FactsStep | RestyleStep | CardsStep | BoundariesStep,
    Field(discriminator="kind"),
]
"""One step of `recipe.augment`. A new kind: a class above, its name here, a module of the kind's name beside this."""

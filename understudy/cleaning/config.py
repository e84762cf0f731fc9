"""What the cleaning rules are set to: `curate.clean` of a recipe.

    curate:
      clean:
        length: {max_chars: 600, by_source: {generated: {min_chars: 4}}}
        markup: false
        near_duplicates: {threshold: 0.7}

Every rule is on by default; `false` turns it off, `true` means its defaults, a mapping changes parameters.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator

from understudy.recipe_part import Part, Positive

Source = Literal["lines", "imported", "generated", "mixed"]
Made = Literal["imported", "generated", "mixed"]
SOURCES: tuple[Source, ...] = ("lines", "imported", "generated", "mixed")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# Behind a validator that runs before it, a strict tuple refuses the list that JSON gives.
LISTED = BeforeValidator(_tuple)
Sources = Annotated[tuple[Source, ...], LISTED]
MadeSources = Annotated[tuple[Made, ...], LISTED]


class Rule(Part):
    """A rule and the sources that it looks at."""

    sources: Sources = ("imported", "generated")
    """Of `lines`, `imported`, `generated`, `mixed`."""


class MendingRule(Rule):
    """A rule that can put an answer right."""

    mend: bool = True
    """Put right what can be put right, and drop only the rest."""


class RoleTags(MendingRule):
    """Labels and control tokens around an answer: `Answer:`, `assistant:`, `<|im_end|>`, `[/INST]`, thinking blocks."""

    sources: Sources = ("imported", "generated", "mixed")


class Markup(MendingRule):
    """HTML tags and entities, markdown emphasis, headings, lists, tables, fences and links."""

    markdown: bool = True
    """Also markdown; `*one star*` is an action in role-play and stays."""


class Stub(MendingRule):
    """Answers that only announce one (`The blessing is as follows`, `以下是祝福：`), placeholders, and empty ones."""

    phrases: Annotated[tuple[str, ...], LISTED] = ()
    """Further answers that say nothing, when they stand alone."""


class Closing(MendingRule):
    """Punctuation before a closing particle: `万事如意，呀！`."""


class Bounds(Part):
    """Least and most characters of an answer; None takes the rule's."""

    min_chars: Annotated[int, Field(ge=0)] | None = None
    max_chars: Positive | None = None


class Length(Rule):
    """Answers of the wrong length, in characters without outer blanks."""

    sources: Sources = ("imported", "generated", "mixed")
    min_chars: Annotated[int, Field(ge=0)] = 1
    max_chars: Positive = 4000
    by_source: dict[Source, Bounds] = {}


class Quotes(MendingRule):
    """Quotes that open and never close; an answer that stands in quotes as a whole loses them."""


class PromptLeak(Rule):
    """Answers that repeat a stretch of the system text, or the whole question, or speak of their instructions."""

    words: Positive = 8
    """So many words in a row are a leak."""
    han: Positive = 16
    """So many Han characters in a row are a leak."""


class WrongLanguage(Rule):
    """Answers in another language than the persona's, by script and by stop words; short answers are let be."""

    language: str = "auto"
    """A code such as `en` or `zh`; `auto`: that of the persona's lines, else of the corpus, else of most answers."""


class PersonalData(Rule):
    """E-mail addresses, telephone, identity and card numbers anywhere in a conversation."""

    sources: Sources = ("imported", "generated", "mixed")
    kinds: Annotated[tuple[Literal["email", "phone", "id", "card"], ...], LISTED] = (
        "email",
        "phone",
        "id",
        "card",
    )


class HeldoutLeak(Part):
    """Training conversations that contain text of the held-out answers; sizes are `curate.ngrams`."""

    sources: MadeSources = ("imported", "generated", "mixed")
    lines: bool = False
    """Also leave out of the test every held-out answer of which the text itself repeats a piece in training scenes."""


class Repeats(Rule):
    """One reply of a persona, however often it was asked for; real lines count, and are dropped only when listed."""

    sources: Sources = ("imported", "generated", "mixed")
    most: Positive = 3


class NearDuplicates(Part):
    """Training conversations that say nearly the same as an earlier one; real lines come first and always stay."""

    sources: MadeSources = ("imported", "generated", "mixed")
    threshold: Annotated[float, Field(ge=0.3, le=1)] = 0.8
    """Shared part of their three-word (three-character) pieces, from which on two are near-duplicates."""
    compare: Literal["exchange", "answer"] = "exchange"
    """What is compared: question and answer together, or the answers alone."""


class Ngrams(Part):
    """Length of the pieces by which training is searched for held-out text."""

    words: Positive = 8
    han: Positive = 12
    """Characters, in text that is mostly Han."""


def _or_boolean(schema: dict[str, Any]) -> None:
    for name, field in schema["properties"].items():
        schema["properties"][name] = {**field, "anyOf": [*field["anyOf"], {"type": "boolean"}]}


class CleanConfig(Part):
    """The cleaning rules; each takes true, false, or its parameters."""

    model_config = ConfigDict(json_schema_extra=_or_boolean)

    role_tags: RoleTags | None = RoleTags()
    markup: Markup | None = Markup()
    stub: Stub | None = Stub()
    quotes: Quotes | None = Quotes()
    closing: Closing | None = Closing()
    length: Length | None = Length()
    prompt_leak: PromptLeak | None = PromptLeak()
    language: WrongLanguage | None = WrongLanguage()
    personal: PersonalData | None = PersonalData()
    heldout_leak: HeldoutLeak | None = HeldoutLeak()
    repeats: Repeats | None = Repeats()
    near_duplicates: NearDuplicates | None = NearDuplicates()

    @field_validator("*", mode="before")
    @classmethod
    def _switched(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value

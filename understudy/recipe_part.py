"""What every part of a recipe is made of: the base class and the types that recipe modules share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from understudy.names import NAME_PATTERN, is_name


def _valid_name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text!r} is not a name: use a-z, 0-9, '.', '_' and '-', at most 64, first a letter or digit")
    return text


Name = Annotated[str, AfterValidator(_valid_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """What every part of a recipe has in common: frozen, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

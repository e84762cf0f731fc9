"""A first recipe for texts that nobody has described yet: who speaks in them, and a cast made of that.

`draft` is plain data in, YAML text out; the look at the texts happens in `understudy.corpus` and `understudy.script`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.names import slug

HUB_PRESET = "model.base=Qwen/Qwen3-0.6B"


@dataclass(frozen=True, slots=True)
class Speaker:
    """One speaker of a look at some texts."""

    name: str
    """As written most often."""
    lines: int
    works: int
    aliases: tuple[str, ...] = ()
    """Other names that seem to be theirs."""


def draft(
    name: str,
    paths: Sequence[Path],
    kinds: Sequence[str],
    speakers: Sequence[Speaker],
    folder: Path,
    base: str,
    language: str,
) -> str:
    """The YAML of a recipe in `folder` with `speakers` as its cast, commented, ready to run."""
    corpus = []
    for path, kind in zip(paths, kinds, strict=True):
        inside = os.path.relpath(path.resolve(), folder.resolve())
        shown = inside if not inside.startswith(f"..{os.sep}..{os.sep}..") else str(path.resolve())
        corpus.append(f"  - {{path: {_quoted(shown)}, kind: {kind}, language: {language}, encoding: auto}}")
    cast = []
    taken: set[str] = set()
    for rank, speaker in enumerate(speakers, 1):
        named = slug(speaker.name)
        # A name without Latin letters has a hash for its slug, which nobody wants to type.
        persona = _free(f"speaker-{rank}" if re.fullmatch(r"x[0-9a-f]{8}", named) else named, taken)
        shown = speaker.name.title() if speaker.name.isupper() and speaker.name.isascii() else speaker.name
        names = ", ".join(map(_quoted, (speaker.name, *speaker.aliases)))
        cast.append(
            f"  - {{name: {persona}, display_name: {_quoted(shown)}, aliases: [{names}]}}  # {speaker.lines} lines"
        )
    newline = "\n"
    return f"""# Written by `understudy recipe new`. Run it with: understudy run THIS-FILE
schema_version: 1
name: {name}
store: ./store                      # a folder beside this file, or s3://bucket/prefix

corpus:
{newline.join(corpus)}

# `name` is the persona and the model name that chat asks for: any short name that you like. `aliases` are the names in
# the text. Names that may be one person's were put together by their form: move an alias where that is wrong.
# Add `card: FILE` (Character Card: .json, .png, .charx), or `system_prompt:` and `greeting:`, to say who they are.
cast:
{newline.join(cast)}

model:
  base: {base}{_base_comment(base)}

curate:
  window: 8                         # lines of one conversation
  heldout: 0.1                      # share of scenes kept for evaluation

train:
  lora: {{rank: 16, alpha: 32}}
  learning_rate: {"2.0e-3" if base.startswith("builtin:") else "3.0e-4"}
  epochs: {8 if base.startswith("builtin:") else 3}
  micro_batch_size: {8 if base.startswith("builtin:") else 4}
  max_length: {256 if base.startswith("builtin:") else 1024}
"""


def _base_comment(base: str) -> str:
    return (
        f"                # a toy of English and simple Chinese; a real one: {HUB_PRESET}" if "builtin:" in base else ""
    )


def _free(name: str, taken: set[str]) -> str:
    number = 2
    chosen = name
    while chosen in taken:
        chosen = f"{name[:60]}-{number}"
        number += 1
    taken.add(chosen)
    return chosen


def _quoted(text: str) -> str:
    """A YAML flow scalar for any text: plain where that is safe, else JSON's quoting, which YAML reads."""
    plain = text.replace(" ", "").replace("-", "").replace("_", "").replace("/", "").replace(".", "")
    words = {"true", "false", "null", "yes", "no", "on", "off"}
    safe = plain.isalpha() and text[0].isalpha() and text == text.strip() and text.lower() not in words
    return text if safe else json.dumps(text, ensure_ascii=False)

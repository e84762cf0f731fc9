"""A small story in which rules know most speakers, doubt some and leave two open; and one told without marks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from understudy.prose import parse

CAST = [
    {"name": "anna", "display_name": "Anna", "aliases": ["Anna Lind"]},
    {"name": "bertram", "display_name": "Bertram", "aliases": ["Bertram Holm"]},
    {"name": "vane", "display_name": "Mrs. Vane", "aliases": []},
]
NAMES = {"Anna": "anna", "Anna Lind": "anna", "Bertram": "bertram", "Bertram Holm": "bertram", "Mrs. Vane": "vane"}
STORY = """CHAPTER I.

Anna Lind came into the boat-house with a lamp. Bertram Holm was mending a net by the stove.

"You are late," said Bertram.

"The road was under water," said Anna. "I had to come by the mill."

"And the letter?"

"I have it here."

"Then read it to me. My eyes are bad by night."

"It is not for you."

He laughed, and the stove ticked. Old Mrs. Vane put her head in at the door.

"Is there tea?"

"There is none," said Bertram.

"There was some this morning."

"That was this morning."

CHAPTER II.

In the morning the water had gone down. They stood upon the quay and looked at the boats.

"One is missing," said Anna.

"Two are missing," said Bertram.

"Whose?"

"Mine, and the priest's."

The bell rang. Nobody moved.

"We should tell him."

"You tell him."
"""
SPEAKERS = {"We should tell him.": "Bertram", "You tell him.": "Anna", "Is there tea?": "Mrs. Vane"}
"""What only the sense tells; of every other speech the rules are right, however sure they are."""
SILENT = """The rain did not stop until noon. Anna said she would row over alone, I am not afraid of a little weather,
and she took the lamp. Bertram called after her, take the other oar, that one
is split! But she was gone already.

In the evening the priest asked who had seen her. Nobody answered.
"""


def said(text: str, names: Mapping[str, str] | Iterable[str] = ()) -> list[tuple[str | None, str]]:
    """Speaker and words of each speech that the rules find in prose."""
    return [(line.speaker, line.text) for line in parse(text, "w", names) if line.kind == "speech"]


def asked(prompt: str) -> dict[int, str]:
    """The first words behind each number in a question about speakers."""
    text = prompt.split("\nText:\n", 1)[1]
    return {int(n): words for n, words in re.findall(r'\[\[(\d+)\]\]([^"\[]+)', text)}


def speaker_of(words: str, rules: dict[str, str]) -> str:
    """Who says a speech that begins so: by SPEAKERS, else as the rules have it."""
    first = words.strip().rstrip(",")
    for said, speaker in [*SPEAKERS.items(), *rules.items()]:
        if said.startswith(first) or first.startswith(said):
            return speaker
    return "unknown"

"""The system text of a persona: one function for training, evaluation and serving."""

from __future__ import annotations

from understudy.persona import Persona

VERSION = 1
"""Raised when the same persona would get another text: training and serving must agree on it."""


def system_text(persona: Persona) -> str:
    """What the base is told about `persona`: its own system prompt if it has one, else composed from its card.

    `{{char}}` and `{{user}}`, as cards write them, become the name (a V3 card's nickname) and `the user`. A card's
    `{{original}}` stands for the composed text. A persona without card or prompt gets one plain sentence.
    """
    parts = [part.strip() for part in (persona.description, persona.personality, persona.scenario) if part.strip()]
    composed = f"You are {persona.display_name}."
    if parts:
        composed = "\n".join([composed, *parts])
    text = persona.system_prompt.strip() or composed
    for mark, value in (("{{original}}", composed), ("{{char}}", persona.called), ("{{user}}", "the user")):
        text = text.replace(mark, value)
    return text


def greeting_text(persona: Persona, user: str = "the user") -> str:
    """The greeting as a reader sees it: `{{char}}` and `{{user}}` filled in."""
    return persona.greeting.replace("{{char}}", persona.called).replace("{{user}}", user)

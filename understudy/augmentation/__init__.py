"""Augmentation: conversations that a model writes in a persona's voice, checked before anybody learns them.

A step of `recipe.augment` has a `kind`; each kind is one module of this package with

    PROMPT_VERSION: int
        Raised when a template changes: rows keep it, and the step is made again.
    def plan(step, material, notes) -> Iterator[Job]
        The calls to make, in a fixed order: equal arguments give equal jobs, chance comes from `step.seed` alone.
    def read(step, job, value) -> list[Draft | Note] | str
        What one answer holds: drafts of conversations (checked afterwards), notes for later rounds and files, or the
        reason why nothing can be used. `value` is the parsed object where the job had a schema, else the text.
    def rounds(step, material) -> int            (optional, else 1)
        How often `plan` is asked. Its `notes` are those that the rounds before left; `material.round` counts from 0.
    def finish(step, material, notes) -> dict[str, JSON value | bytes]   (optional)
        Further files of the unit, by name: `card.json`, `suitability.json`. Also asked where no call was made.

All of it is plain Python and pure; `jobs/augment.py` sends the calls, checks what comes back and keeps it. What a step
sees of a persona is its `Material`: scenes held out for evaluation are not in it, so nothing of them can leak.

Rules for prompts: what must not show up in a reply (the instructions) stands in the system message, what the reply may
use (examples, facts, the cell of a grid) in the user message. `checks.leaked` compares replies with the former.
"""

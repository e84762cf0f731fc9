"""`style`: a few real exchanges of the persona as examples, new ones in the same manner, several a call."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from understudy.answers import TEXT, list_schema
from understudy.augmentation.job import Draft, Job, Material, Note, chosen_pairs, drawn_seed, exchange_draft
from understudy.augmentation.prompting import Template, dialogue, numbered, portrait
from understudy.augmentation.steps import StyleStep
from understudy.conversation import OPENING
from understudy.errors import PersonaError

PROMPT_VERSION = 1
ROOM = 2.0
"""A new reply may be so many times as long as the longest one shown."""
LEAST_ROOM = 80
"""Characters that any reply may have."""

_PROMPT = Template(
    system={
        "en": """You write training dialogue for one character.
The character: {portrait}
You are shown real exchanges. Write {count} new ones between an ordinary person and {name}.
- Each answer sounds as if {name} had said it: the same words, length, rhythm and turn of mind as in the real ones.
- Questions are what somebody might really say to {name}; each is about something else.
- Never reuse a sentence that was shown. Nothing from today's world that {name} cannot know.
- Only what is said aloud: no stage directions, no names in front, no explanations.
Answer with a JSON object that has one list "exchanges", each with "user" and "reply".""",
        "zh": """你为一个角色编写训练用的对话。
角色：{portrait}
下面会给出几段真实的对话。请写出{count}段新的对话，一方是普通人，一方是{name}。
- 每句回答都要像{name}亲口说的：用词、长短、语气、心思都和真实对话一致。
- 问话要像真有人会对{name}说的，每段谈的事情各不相同。
- 不许照抄给出的句子；{name}不可能知道的现代事物不要出现。
- 只写说出口的话：不写动作，不写人名前缀，不作解释。
只回答一个 JSON 对象，其中有一个列表 "exchanges"，每项含 "user" 和 "reply"。""",
    },
    user={
        "en": "Real exchanges:\n\n{examples}\n{topics}",
        "zh": "真实的对话：\n\n{examples}\n{topics}",
    },
)
_TOPICS = {"en": "\nThe new ones are about:\n{topics}", "zh": "\n新的对话分别谈：\n{topics}"}
_YOU = {"en": "Somebody", "zh": "某人"}


def plan(step: StyleStep, material: Material, notes: Sequence[Note]) -> Iterator[Job]:
    """One job for every `per_call` exchanges; PersonaError when the persona has no exchange to show."""
    language = "zh" if material.language.startswith("zh") else "en"
    persona = material.persona
    shown = [
        pair
        for pair in material.pairs
        if max(len(pair.heard), len(pair.said)) <= step.example_chars and not (pair.opened and pair.heard == OPENING)
    ]
    if not shown:
        raise PersonaError(
            f"{persona.name}: augment step {step.name} has no exchange to show; "
            "raise its example_chars, or leave the persona out with `personas`"
        )
    left = step.count
    for number in range(-(-step.count // step.per_call)):
        seed = drawn_seed(step.seed, persona.name, number)
        pairs = chosen_pairs(shown, step.examples, seed)
        count = min(step.per_call, left)
        left -= count
        topics = random.Random(seed).sample(step.topics, min(count, len(step.topics)))
        messages = _PROMPT.messages(
            material.language,
            portrait=portrait(persona),
            name=persona.display_name,
            count=count,
            examples=dialogue([(pair.heard, pair.said) for pair in pairs], _YOU[language], persona.display_name),
            topics=_TOPICS[language].replace("{topics}", numbered(topics)) if topics else "",
        )
        longest = max(len(pair.said) for pair in pairs)
        yield Job(
            job_id=f"{number:06d}",
            persona=persona.name,
            messages=messages,
            schema=list_schema("exchanges", {"user": TEXT, "reply": TEXT}, most=count),
            sampling=step.sampling.request(temperature=0.9),
            draw=number,
            seed=seed,
            prompt=f"style/{PROMPT_VERSION}",
            lines=tuple(line for pair in pairs for line in pair.lines),
            parents=tuple(parent for pair in pairs for parent in pair.parents),
            meta={"most": max(LEAST_ROOM, int(ROOM * longest)), "examples": [pair.said for pair in pairs]},
        )


def read(step: StyleStep, job: Job, value: Any) -> list[Draft | Note] | str:
    """A draft for each exchange of the answer."""
    found = value.get("exchanges") if isinstance(value, dict) else None
    if not isinstance(found, list) or not found:
        return "no exchanges in the answer"
    examples = tuple(job.meta["examples"])
    return [
        exchange_draft(str(one["user"]), str(one["reply"]), bounds=(1, job.meta["most"]), examples=examples)
        for one in found
    ]

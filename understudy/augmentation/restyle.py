"""Everyday prompts answered in the persona's voice, with its nearest real lines as examples.

Prompts come from a file (txt, jsonl, json, csv, parquet) or a data set. For each, the real exchanges that are nearest
to it (`nearest`, no model) show how the persona speaks of such things; the model answers as the persona would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from understudy.answers import TEXT, object_schema
from understudy.augmentation.checks import speaks
from understudy.augmentation.everyday import Prompts, read_prompts, taken
from understudy.augmentation.job import Draft, Job, Material, Note, Pair, drawn_seed, exchange_draft
from understudy.augmentation.nearest import Nearest
from understudy.augmentation.prompting import Template, base_language, dialogue, portrait
from understudy.augmentation.steps import RestyleStep
from understudy.stage_words import is_han

PROMPT_VERSION = 1
BOUNDS = (2, 800)
HAN_SHARE = 0.3
"""With so many Chinese characters among its letters a prompt is Chinese; a name alone does not count."""
SHOWN_CHARS = 400
"""Exchanges with a longer side are not shown as examples."""

_TEMPLATE = Template(
    system={
        "en": """
You write what one character answers to everyday words of a user. You are given who the character is, exchanges from its
own story that come nearest to what the user says, and the user's words. Answer the user's words so that the answer is
of use or interest to the user, but entirely in the character's voice: its words and turns of speech, its length of
sentence, its temper, its view of the world. Take the manner from the examples, never their sentences. What the
character cannot know it does not know. No quotation marks around the answer, no name before it.
""",
        "zh": """
你来写：用户说一句日常的话，一个角色怎样回答。下面会给出角色是谁、他自己的故事里跟这句话最接近的几段对话，以及用户的话。
回答要接得上用户的话，对用户有用或者有意思，同时完全是角色的口吻：他的用词和口头习惯、句子的长短、脾气、看世界的眼光。
从例子里学他说话的样子，不要照搬例子里的句子。角色不可能知道的事，他就是不知道。回答外面不加引号，前面不写名字。
""",
    },
    user={
        "en": """
Who the character is:
{portrait}

How {name} talks:

{examples}

The user says:
{prompt}
""",
        "zh": """
角色是谁：
{portrait}

{name}平时怎样说话：

{examples}

用户说：
{prompt}
""",
    },
)


def plan(step: RestyleStep, material: Material, notes: Sequence[Note]) -> Iterator[Job]:
    """A call for every prompt that is in the persona's language, and every draw."""
    pairs = [pair for pair in material.pairs if len(pair.said) <= SHOWN_CHARS and len(pair.heard) <= SHOWN_CHARS]
    nearest = Nearest([f"{'' if pair.opened else pair.heard}\n{pair.said}" for pair in pairs])
    central = nearest.centrality()
    typical = sorted(range(len(pairs)), key=lambda i: (-central[i], i))
    name = material.persona.display_name
    chosen, _ = _prompts(step, material)
    for number, text in enumerate(chosen):
        shown = _shown(pairs, nearest, typical, text, step.examples)
        messages = _TEMPLATE.messages(
            material.language,
            portrait=portrait(material.persona),
            name=name,
            examples=dialogue([(pair.heard, pair.said) for pair in shown], "—", name) or "—",
            prompt=text,
        )
        for draw in range(step.draws):
            yield Job(
                job_id=f"{number}-{draw}",
                persona=material.persona.name,
                messages=messages,
                schema=object_schema({"reply": TEXT}),
                sampling=step.sampling.request(temperature=0.8),
                draw=draw,
                seed=drawn_seed(step.seed, material.persona.name, step.name, text, draw),
                prompt=f"restyle/{PROMPT_VERSION}",
                lines=tuple(line for pair in shown for line in pair.lines),
                parents=tuple(parent for pair in shown for parent in pair.parents),
                meta={"prompt": text, "said": [pair.said for pair in shown]},
            )


def read(step: RestyleStep, job: Job, value: Any) -> list[Draft | Note] | str:
    """The prompt as it was and the reply."""
    return [
        exchange_draft(
            job.meta["prompt"],
            value["reply"].strip(),
            bounds=BOUNDS,
            examples=tuple(job.meta["said"]),
            criterion="The answer answers what the user says.",
            given=True,
        )
    ]


def finish(step: RestyleStep, material: Material, notes: Sequence[Note]) -> dict[str, Any]:
    """`prompts.json`: how many prompts there were, how many are used, and why the rest is not."""
    chosen, left = _prompts(step, material)
    return {"prompts.json": {"used": len(chosen), "left_out": dict(sorted(left.items()))}}


def in_language(text: str, language: str) -> bool:
    """Whether a prompt is one that the persona would understand; short ones are told by their letters alone."""
    letters = [char for char in text if char.isalpha()]
    key, han = base_language(language), sum(map(is_han, letters)) > HAN_SHARE * len(letters)
    return speaks(text, language) and (key == "ja" or han == (key == "zh"))


def _prompts(step: RestyleStep, material: Material) -> tuple[list[str], Counter[str]]:
    """The prompts to answer, and how many are left out for which reason."""
    source = step.source()
    read_in = (
        taken(material.files[source]) if step.dataset else read_prompts(material.files[source], source, step.column)
    )
    left = Counter(reason for _, reason in read_in.set_aside)
    fitting = [text for text in read_in.texts if not step.checks.language or in_language(text, material.language)]
    left["wrong language"] += len(read_in.texts) - len(fitting)
    chosen = Prompts(fitting).sample(step.count, drawn_seed(step.seed, step.name))
    left["over count"] += len(fitting) - len(chosen)
    return chosen, +left


def _shown(pairs: Sequence[Pair], nearest: Nearest, typical: Sequence[int], prompt: str, count: int) -> list[Pair]:
    """The nearest exchanges in the order of the text; typical ones fill up where few are near."""
    found = [position for position, _ in nearest.to(prompt, count)]
    found += [position for position in typical[:count] if position not in found][: count - len(found)]
    return [pairs[position] for position in sorted(found)]

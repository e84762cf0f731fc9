"""`matrix`: recipients by occasions by styles, the way of Tianji, one text a call.

The writing model sees the manufacturing prompt: examples of the style, bounds, side conditions. What is learned is its
text as an answer to what a user would write (`Wish Mother a happy birthday, playful style`), one of several phrasings.
Each cell draws by a seed of its own: another recipient in the recipe changes none of the other calls.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from understudy.answers import TEXT, list_schema
from understudy.augmentation.grid import Choice, GridStyle, Named
from understudy.augmentation.job import Draft, Job, Material, Note, drawn_seed, exchange_draft
from understudy.augmentation.prompting import Template, base_language, filled, numbered, plain_reply, portrait
from understudy.augmentation.steps import MatrixStep
from understudy.augmentation.suitability import Grid, Table, merged, read_table, unrated

PROMPT_VERSION = 1
RATED_AT_ONCE = 40
"""Occasions that one rating call judges."""

PHRASINGS = {
    "en": (
        "Wish {recipient} well for {occasion}, {style} style.",
        "A few words for {recipient}: {occasion}, {style}.",
        "Please write something to {recipient} for {occasion}. Make it {style}.",
        "It is {occasion} soon. What should I say to {recipient}? Something {style}, please.",
    ),
    "zh": (
        "祝{recipient}{occasion}，{style}风格",
        "给{recipient}写一段{occasion}祝福，{style}一点",
        "{occasion}到了，帮我祝福一下{recipient}，要{style}的",
        "帮我想几句{occasion}对{recipient}说的话，{style}风格",
    ),
}
_TASK = {"en": "a greeting", "zh": "一段祝福"}
_WRITE = Template(
    system={
        "en": """{portrait}
Somebody asks you for {task}. Write the text itself, ready to be sent; nothing before it and nothing after it.
- Style: {style}
- At least {least} and at most {most} characters.
- It fits the recipient and the occasion; it says what only this person would be told.
- The examples show the manner alone: never reuse their sentences.
- No title, no quotation marks around it, no placeholders for names, no comment of yours.""",
        "zh": """{portrait}
有人请你写{task}。只写正文，写好就能直接发出去；前面后面都不要加别的话。
- 风格：{style}
- 不少于{least}个字符，不多于{most}个字符。
- 要贴合对方的身份和场合，说些只会对这个人说的话。
- 示例只用来体会写法，不许照抄其中的句子。
- 不要标题，不要用引号括起来，不要留待填的名字，不要写你自己的说明。""",
    },
    user={
        "en": "{examples}Recipient: {recipient}\nOccasion: {occasion}\n{conditions}",
        "zh": "{examples}对象：{recipient}\n场合：{occasion}\n{conditions}",
    },
)
_EXAMPLES = {"en": "Examples of the style:\n{examples}\n\n", "zh": "这种风格的示例：\n{examples}\n\n"}
_CONDITIONS = {"en": "Also: {conditions}", "zh": "另外：{conditions}"}
_COLON = {"en": ": ", "zh": "，"}
_JOIN = {"en": "; ", "zh": "；"}
_RATE = Template(
    system={
        "en": """You judge which occasions suit a recipient. For every occasion give a score:
5 everybody would send {task}, 4 usual, 3 possible, 2 odd, 1 nobody would.
Answer with a JSON object that has one list "ratings", each with "occasion" (as written) and "score".""",
        "zh": """你来判断哪些场合适合哪些对象。给每个场合打分：
5 人人都会送上{task}，4 很常见，3 也可以，2 有些奇怪，1 没有人会这样做。
只回答一个 JSON 对象，其中有一个列表 "ratings"，每项含 "occasion"（照原样写）和 "score"。""",
    },
    user={
        "en": "Recipient: {recipient}\nOccasions:\n{occasions}",
        "zh": "对象：{recipient}\n场合：\n{occasions}",
    },
)


def rounds(step: MatrixStep, material: Material) -> int:
    """Two where a model rates pairs first, else one."""
    return 2 if step.suitability.rate and unrated(step, read_table(step, material.files)) else 1


def plan(step: MatrixStep, material: Material, notes: Sequence[Note]) -> Iterator[Job]:
    """Ratings in the first of two rounds; then a job for each suitable pair, style and draw."""
    given = read_table(step, material.files)
    if material.round + 1 < rounds(step, material):
        yield from _ratings(step, material, given)
        return
    grid = merged(step, given, notes)
    cells = product(enumerate(step.recipients), enumerate(step.occasions), enumerate(step.styles), range(step.draws))
    for (r, recipient), (o, occasion), (s, style), draw in cells:
        if grid.suits(recipient.name, occasion.name):
            yield _job(step, material, (recipient, occasion, style), f"{r:03d}.{o:03d}.{s:02d}.{draw:03d}", draw)


def _job(step: MatrixStep, material: Material, cell: tuple[Named, Named, GridStyle], job_id: str, draw: int) -> Job:
    recipient, occasion, style = cell
    language = "zh" if base_language(material.language) == "zh" else "en"
    names = (recipient.name, occasion.name, style.name)
    seed = drawn_seed(step.seed, material.persona.name, *names, draw)
    rng = random.Random(seed)
    drawn = _drawn(step, recipient, occasion, rng)
    examples = rng.sample(style.examples, min(step.examples, len(style.examples)))
    question = _question(step, cell, drawn, language, rng)
    said = _JOIN[language].join(choice.write for choice in drawn)
    shown = numbered([example.text for example in examples])
    messages = _WRITE.messages(
        material.language,
        portrait=portrait(material.persona),
        task=step.task or _TASK[language],
        style=f"{style.name}{_COLON[language]}{style.manner}" if style.manner else style.name,
        least=style.length[0],
        most=style.length[1],
        examples=_EXAMPLES[language].replace("{examples}", shown) if shown else "",
        recipient=_noted(recipient),
        occasion=_noted(occasion),
        conditions=_CONDITIONS[language].replace("{conditions}", said) if said else "",
    )
    return Job(
        job_id=job_id,
        persona=material.persona.name,
        messages=messages,
        sampling=step.sampling.request(temperature=0.9),
        draw=draw,
        seed=seed,
        prompt=f"matrix/{PROMPT_VERSION}",
        meta={
            "cell": list(names),
            "question": question,
            "conditions": [choice.write for choice in drawn],
            "bounds": list(style.length),
            "trigger": style.pattern,
            "examples": [example.text for example in style.examples],
        },
    )


def _drawn(step: MatrixStep, recipient: Named, occasion: Named, rng: random.Random) -> list[Choice]:
    found = []
    for condition in step.conditions:
        # Drawn for every cell, so that a condition's limits do not shift what comes after it.
        happens, choice = rng.random() < condition.share, rng.choice(condition.choices)
        here = occasion.name in (condition.occasions or (occasion.name,))
        if happens and here and recipient.name in (condition.recipients or (recipient.name,)):
            found.append(choice)
    return found


def _question(
    step: MatrixStep, cell: tuple[Named, Named, GridStyle], drawn: Sequence[Choice], language: str, rng: random.Random
) -> str:
    """What a user would write to get this text."""
    recipient, occasion, style = (rng.choice(one.asked or (one.name,)) for one in cell)
    phrasing = rng.choice(step.phrasings or PHRASINGS[language])
    asked = _JOIN[language].join(choice.asked for choice in drawn if choice.asked)
    values = {"recipient": recipient, "occasion": occasion, "style": style, "condition": asked}
    text = filled(phrasing, values).strip()
    if not asked or "{condition}" in phrasing:
        return text
    if language == "zh":
        return f"{text}{'' if text[-1] in '。！？，；' else '，'}{asked}"
    return f"{text}{'' if text[-1] in '.!?' else '.'} {asked[0].upper()}{asked[1:]}"


def _noted(one: Named) -> str:
    return f"{one.name} ({one.note})" if one.note else one.name


def _ratings(step: MatrixStep, material: Material, given: Table) -> Iterator[Job]:
    language = "zh" if base_language(material.language) == "zh" else "en"
    recipients = {one.name: one for one in step.recipients}
    for number, (name, occasions) in enumerate(unrated(step, given).items()):
        for start in range(0, len(occasions), RATED_AT_ONCE):
            asked = occasions[start : start + RATED_AT_ONCE]
            score = {"type": "integer", "minimum": 1, "maximum": 5}
            yield Job(
                job_id=f"rate.{number:03d}.{start:03d}",
                persona=material.persona.name,
                messages=_RATE.messages(
                    material.language,
                    task=step.task or _TASK[language],
                    recipient=_noted(recipients[name]),
                    occasions=numbered(asked),
                ),
                schema=list_schema("ratings", {"occasion": TEXT, "score": score}),
                sampling={"temperature": 0},
                prompt=f"matrix/{PROMPT_VERSION}",
                meta={"rate": name, "occasions": asked},
            )


def read(step: MatrixStep, job: Job, value: Any) -> list[Draft | Note] | str:
    """The text as an answer to the user's words; of a rating call, a note with the scores."""
    if "rate" in job.meta:
        found = value.get("ratings") if isinstance(value, dict) else None
        known = set(job.meta["occasions"])
        scores = {one["occasion"].strip(): int(one["score"]) for one in found or []}
        scores = {occasion: score for occasion, score in scores.items() if occasion in known and 1 <= score <= 5}
        return [Note(job.job_id, {"recipient": job.meta["rate"], "scores": scores})] if scores else "no ratings in it"
    text = plain_reply(value)
    bounds = job.meta["bounds"]
    return [
        exchange_draft(
            job.meta["question"],
            text,
            bounds=(bounds[0], bounds[1]),
            trigger=job.meta["trigger"],
            examples=tuple(job.meta["examples"]),
            given=True,
            scene="/".join(job.meta["cell"]),
        )
    ]


def finish(step: MatrixStep, material: Material, notes: Sequence[Note]) -> dict[str, Any]:
    """The suitability table, to look at and to correct; nothing where nobody gave or asked for scores."""
    given = read_table(step, material.files)
    if not given and not step.suitability.rate:
        return {}
    grid: Grid = merged(step, given, notes)
    return {"suitability.json": grid.as_json(), "suitability.csv": grid.as_csv()}

"""Questions for real lines that have none: a user's words that the line answers. The answer stays the source's own.

A line has no good question when the persona speaks first (before it stands a direction, a heading or nothing), or when
what is said before is only a word or two. With `continuations`, real scenes are also carried on for some turns: what
is real stays context, what the model adds for the persona is learned.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from understudy.answers import TEXT, list_schema, object_schema
from understudy.augmentation.checks import copied
from understudy.augmentation.chosen import weight, whole
from understudy.augmentation.job import Draft, Job, Material, Note, drawn_seed
from understudy.augmentation.passages import script_row
from understudy.augmentation.prompting import Template, portrait
from understudy.augmentation.steps import QuestionsStep
from understudy.conversation import Exchange, Message, Row, Scene

PROMPT_VERSION = 1
GIVEN_AWAY = "question gives the answer away"
LONG_QUESTION = "question too long"
MOST_QUESTION = 400
"""Characters."""
TURNS = "too few turns"
CONTEXT = 3
"""Exchanges of a real scene that a continuation begins with, at most."""

_QUESTION = Template(
    system={
        "en": """
You are given a line that a character of a story says, and the lines around it. Write what a user in a chat could say to
the character so that this line is a natural, complete answer to it: a question, a request or a remark, one or two
sentences, the way people write in a chat. The user is a visitor who talks to the character; not one of the other
people of the story, unless the line can only be said to that person. Do not use the line's own telling words: the user
does not know the answer yet. Give only the user's words, in the language of the line.
""",
        "zh": """
下面是故事里一个角色说的一句台词，以及前后的内容。请写出：聊天的用户对角色说什么，角色用这句台词来回答才自然、完整。
可以是问题、请求或者一句话，一两句，像人们平时聊天那样写。用户是来跟角色说话的客人，不是故事里的别人，除非这句台词只能对那个人说。
不要用台词里关键的词：用户还不知道回答。只写用户的话，语言与台词相同。
""",
    },
    user={
        "en": """
The character:
{portrait}

Before the line:
{before}

The line of {name}:
{line}

After it:
{after}
""",
        "zh": """
角色：
{portrait}

台词之前：
{before}

{name}的台词：
{line}

台词之后：
{after}
""",
    },
)
_CONTINUATION = Template(
    system={
        "en": """
You carry a scene of a story on as a talk between a user and one character. You are given who the character is and how
the scene goes so far. Write the next {turns} turns: what the user says (taking the place of the one who spoke to the
character before), and what the character answers. The talk stays with what the scene is about, goes somewhere, and
repeats nothing. The character speaks exactly as in the scene: its words, its length of sentence, its temper; it knows
what it knows there and no more. No names before the words, no quotation marks around them.
""",
        "zh": """
请把故事里的一场戏接着写成用户与一个角色的对话。下面会给出角色是谁，以及这场戏到现在为止的内容。
写出接下来的{turns}轮：用户说什么（用户接替刚才跟角色说话的那个人），角色怎样回答。对话不离开这场戏的内容，要有进展，不重复。
角色说话跟戏里一模一样：用词、句子的长短、脾气；他只知道他在戏里知道的事。话的前面不写名字，外面不加引号。
""",
    },
    user={
        "en": """
The character:
{portrait}

The scene so far:
{before}

Carry it on between the user and {name}.
""",
        "zh": """
角色：
{portrait}

到现在为止：
{before}

请接着写用户与{name}的对话。
""",
    },
)


def needs_question(exchange: Exchange, short_cue: int) -> bool:
    """Whether nothing is said before the answer that could stand as a user's question to it."""
    return weight("".join(row["text"] for row in exchange.before)) < short_cue


def plan(step: QuestionsStep, material: Material, notes: Sequence[Note]) -> Iterator[Job]:
    """A call for every line without a good question (at most `count`), then one for every continuation."""
    scenes = {scene.key: scene for scene in material.scenes}
    open_ones = [
        (number, one)
        for number, one in enumerate(material.exchanges)
        if needs_question(one, step.short_cue) and weight(one.text) >= step.least_answer
    ]
    name = material.persona.name
    if step.count is not None and step.count < len(open_ones):
        drawn = random.Random(drawn_seed(step.seed, name, step.name, "questions"))
        open_ones = sorted(drawn.sample(open_ones, step.count), key=lambda one: one[0])
    for number, exchange in open_ones:
        yield _question(step, material, number, exchange, scenes[exchange.scene])
    fit = [
        number
        for number, one in enumerate(material.exchanges)
        if one.before and not needs_question(one, step.short_cue) and weight(one.text) >= step.least_answer
    ]
    drawn = random.Random(drawn_seed(step.seed, name, step.name, "continuations"))
    for number in sorted(drawn.sample(fit, min(step.continuations, len(fit)))):
        yield _continuation(step, material, number)


def read(step: QuestionsStep, job: Job, value: Any) -> list[Draft | Note] | str:
    """The question with the source's own answer, or the real turns and those that follow."""
    if job.meta["task"] == "question":
        question, answer = value["question"].strip(), job.meta["answer"]
        if len(question) > MOST_QUESTION:
            return LONG_QUESTION
        if copied(question, (answer,)) > 0.5:
            return GIVEN_AWAY
        said = Message("assistant", answer, loss=True)
        return [_draft(job, (Message("user", question), said), written=False, lines=tuple(job.meta["answer_lines"]))]
    turns = value["turns"]
    if len(turns) < min(2, step.turns):
        return TURNS
    messages = [Message(role, text) for role, text in job.meta["context"]]
    for turn in turns[: step.turns]:
        messages += [Message("user", turn["user"].strip()), Message("assistant", turn["reply"].strip(), loss=True)]
    return [
        _draft(
            job,
            tuple(messages),
            bounds=(1, 600),
            examples=tuple(job.meta["said"]),
            criterion="The scene goes on naturally.",
        )
    ]


def _draft(job: Job, messages: tuple[Message, ...], **rest: Any) -> Draft:
    return Draft(messages, work=job.meta["work"], scene=job.meta["scene"], **rest)


def _question(step: QuestionsStep, material: Material, number: int, exchange: Exchange, scene: Scene) -> Job:
    rows = scene.rows
    first = _place(rows, exchange.reply[0])
    last = _place(rows, exchange.reply[-1])
    before, after = rows[max(0, first - step.context) : first], rows[last + 1 : last + 1 + step.context // 2]
    messages = _QUESTION.messages(
        material.language,
        portrait=portrait(material.persona),
        before=_shown(before),
        name=material.persona.display_name,
        line=exchange.text,
        after=_shown(after),
    )
    return Job(
        job_id=f"question-{exchange.reply[0]['line_id']}",
        persona=material.persona.name,
        messages=messages,
        schema=object_schema({"question": TEXT}),
        sampling=step.sampling.request(temperature=0.7),
        seed=drawn_seed(step.seed, material.persona.name, step.name, number),
        prompt=f"questions/{PROMPT_VERSION}",
        lines=tuple(row["line_id"] for row in (*before, *exchange.reply, *after)),
        meta={
            "task": "question",
            "answer": "\n".join(whole(row["text"]) for row in exchange.reply),
            "answer_lines": [row["line_id"] for row in exchange.reply],
            "work": exchange.scene[0],
            "scene": exchange.scene[1],
        },
    )


def _continuation(step: QuestionsStep, material: Material, number: int) -> Job:
    end = material.exchanges[number]
    held = [end]
    # Back through the same scene, as far as each answer has a question of its own.
    for one in reversed(material.exchanges[max(0, number - CONTEXT + 1) : number]):
        if one.scene != end.scene or not one.before:
            break
        held.insert(0, one)
    rows = [row for one in held for row in (*one.before, *one.reply)]
    named = len({(row["speaker"] or "").casefold() for one in held for row in one.before}) > 1
    context: list[tuple[str, str]] = []
    for one in held:
        heard = [script_row(row) if named and row["speaker"] else row["text"].strip() for row in one.before]
        context += [("user", "\n".join(heard)), ("assistant", one.text)]
    return Job(
        job_id=f"continuation-{end.reply[0]['line_id']}",
        persona=material.persona.name,
        messages=_CONTINUATION.messages(
            material.language,
            portrait=portrait(material.persona),
            turns=step.turns,
            before=_shown(rows),
            name=material.persona.display_name,
        ),
        schema=list_schema("turns", {"user": TEXT, "reply": TEXT}, 1, step.turns),
        sampling=step.sampling.request(temperature=0.9),
        seed=drawn_seed(step.seed, material.persona.name, step.name, "continuation", number),
        prompt=f"questions/{PROMPT_VERSION}-continuation",
        lines=tuple(row["line_id"] for row in rows),
        meta={
            "task": "continuation",
            "context": [list(one) for one in context],
            "said": [one.text for one in held],
            "work": end.scene[0],
            "scene": end.scene[1],
        },
    )


def _shown(rows: Sequence[Row]) -> str:
    return "\n".join(script_row(row) for row in rows) or "—"


def _place(rows: Sequence[Row], wanted: Row) -> int:
    return next(i for i, row in enumerate(rows) if row["line_id"] == wanted["line_id"])

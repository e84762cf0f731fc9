"""A persona's card, drafted from its lines and the narration around them; every statement cites its lines.

A model reads the part in chunks of numbered lines and notes what they show; one more call merges the notes of several
chunks. A statement whose numbers are not among the lines shown is dropped and counted. What a person wrote in the
persona's card or cast entry stays as it is: the draft fills only what is empty. Without a model (`endpoint: null`)
greetings and example messages are chosen from real lines; these also fill up what a model leaves out.

    card.json       Character Card V2; citations under data.extensions.understudy.citations, by field
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from understudy.answers import TEXT, object_schema
from understudy.augmentation.card_fields import LISTS, filled_card, merged
from understudy.augmentation.checks import is_assistant_talk, is_leaked, speaks
from understudy.augmentation.job import Draft, Job, Material, Note, drawn_seed
from understudy.augmentation.passages import script_row
from understudy.augmentation.prompting import Template
from understudy.augmentation.steps import CardsStep
from understudy.conversation import Row
from understudy.letters import letters

PROMPT_VERSION = 1
NEAR = 3
"""Rows before and after a line of the persona that are shown with it."""
MERGE = "merge"
NO_LINES = "cites no line that was shown"
NOT_SAID = "example is not what the lines say"
OFF_VOICE = "assistant talk, markup or another language"

_PARTS = {
    "en": """
- description: who the character is: looks, age, work, home, what happened to it. Sentences that begin with the name.
- habits: how it talks: words and turns it repeats, forms of address, length of sentences, temper, what it avoids.
- relations: the people around it, one sentence each, with the person's name in it.
- scenario: where and when one would meet it; one or two sentences.
- greetings: three openings that it could say to a stranger, in its own voice, new, but made of its words and its world.
- examples: up to four real exchanges that show its voice best: `user` is what is said to it, `reply` its line, word by
  word.
- lore: places, things, people and customs of its world that one must know to talk with it: `keys` are the words that
  call them up, `text` says what they are.
""",
    "zh": """
- description：角色是谁：样貌、年纪、做什么、住哪里、经历过什么。句子以名字开头。
- habits：怎样说话：反复用的词和句式、怎样称呼别人、句子长短、脾气、回避什么。
- relations：身边的人，每人一句，句中写出那个人的名字。
- scenario：在什么时间、什么地方会遇见他；一两句。
- greetings：他会对陌生人说的三句开场白，用他自己的口吻新写，但用词和内容来自他的世界。
- examples：最能显出他口吻的真实对话，最多四段：user是别人对他说的话，reply是他的台词，一字不差。
- lore：跟他说话必须知道的地方、东西、人和规矩：keys是会提到它们的词，text说明它们是什么。
""",
}
_MAP = Template(
    system={
        "en": """
You read numbered lines of a story and note what they show about one character, for a character card. Only what the
lines show: nothing from other knowledge of the story, no guesses. Every statement cites, in `lines`, the numbers of the
lines that show it; a statement without lines is worthless. Short plain sentences, one statement each. Leave a list
empty where the lines show nothing.
"""
        + _PARTS["en"]
        + "Write in the language of the lines.",
        "zh": """
你读一段故事中编了号的行，为一张角色卡记下这些行显示了某个角色的什么。只记这些行里有的，不用别处的知识，不猜。
每一条都要在lines里写出根据的行号，没有行号的条目没有用。用短而平实的句子，一条只说一件事。没有内容的列表留空。
"""
        + _PARTS["zh"]
        + "用这些行的语言书写。",
    },
    user={
        "en": "The character: {name} (in the lines: {names})\n\nThe lines:\n\n{lines}",
        "zh": "角色：{name}（行中写作：{names}）\n\n各行：\n\n{lines}",
    },
)
_MERGE = Template(
    system={
        "en": """
You are given notes on one character, taken from several stretches of its part. Make one character card of them. Put
together what says the same, keep what is telling, leave out what is petty; where notes contradict each other, the story
moved on: say both in order. Add nothing that is not in the notes. Every statement cites, in `lines`, the numbers that
stand behind the notes it comes from. At most ten sentences of description, eight habits, ten relations, {lore} pieces
of lore.
"""
        + _PARTS["en"]
        + "Write in the language of the notes.",
        "zh": """
下面是关于一个角色的笔记，来自他戏份的好几段。请合成一张角色卡。说同一件事的合在一起，留下要紧的，去掉琐碎的；
笔记互相矛盾，是故事往前走了：按先后都说。笔记里没有的不添。每一条都要在lines里写出所根据的笔记后面的行号。
description最多十句，habits最多八条，relations最多十条，lore最多{lore}条。
"""
        + _PARTS["zh"]
        + "用笔记的语言书写。",
    },
    user={
        "en": "The character: {name}\n\nThe notes:\n\n{notes}",
        "zh": "角色：{name}\n\n笔记：\n\n{notes}",
    },
)
_CITED = {"type": "array", "items": {"type": "integer"}}
_ITEMS: dict[str, dict[str, Any]] = {
    "examples": {"user": TEXT, "reply": TEXT, "lines": _CITED},
    "lore": {"keys": {"type": "array", "items": TEXT, "minItems": 1}, "text": TEXT, "lines": _CITED},
}
SCHEMA = object_schema(
    {
        name: {"type": "array", "items": object_schema(_ITEMS.get(name, {"text": TEXT, "lines": _CITED}))}
        for name in LISTS
    }
)


def rounds(step: CardsStep, material: Material) -> int:
    """None without a model, one for a part of one chunk, else two."""
    return 0 if step.endpoint is None else min(2, len(chunks(step, material)))


def plan(step: CardsStep, material: Material, notes: Sequence[Note]) -> Iterator[Job]:
    """A call for each chunk; in the second round one that merges their notes."""
    if step.endpoint is None:
        return
    if material.round == 0:
        for number, chunk in enumerate(chunks(step, material)):
            ids = {str(n): row["line_id"] for n, row in chunk}
            text = "\n".join(f"[{n}] {script_row(row)}" for n, row in chunk)
            said = {row["line_id"]: row["text"] for _, row in chunk if row["persona"] == material.persona.name}
            messages = _MAP.messages(
                material.language, name=material.persona.display_name, names=_names(material), lines=text
            )
            yield _job(step, material, f"chunk-{number}", messages, ids, said)
    elif notes:
        yield _merging(step, material, notes)


def read(step: CardsStep, job: Job, value: Any) -> list[Draft | Note] | str:
    """One note: the statements by list, each with line_ids, and how many were dropped for which reason."""
    ids: Mapping[str, str] = job.meta["ids"]
    kept: dict[str, list[dict[str, Any]]] = {name: [] for name in LISTS}
    dropped: Counter[str] = Counter()
    for name in LISTS:
        for item in value[name]:
            shown = {str(number): ids[str(number)] for number in item["lines"] if str(number) in ids}
            texts = [item[key] for key in ("text", "reply", "user") if key in item]
            if not shown or len(shown) < len(set(item["lines"])):
                dropped[NO_LINES] += 1
            elif name == "examples" and not _says(item["reply"], shown.values(), job.meta["said"]):
                dropped[NOT_SAID] += 1
            elif any(not _fit(text, job.meta["language"]) for text in texts):
                dropped[OFF_VOICE] += 1
            else:
                kept[name].append({**item, "numbers": [int(n) for n in shown], "lines": list(shown.values())})
    return [Note(job.job_id, {"kept": kept, "dropped": dict(dropped), "said": job.meta["said"]})]


def finish(step: CardsStep, material: Material, notes: Sequence[Note]) -> dict[str, Any]:
    """`card.json`: the person's card with what was empty filled in from the notes and from real lines."""
    last = [note for note in notes if note.job_id == MERGE] or notes
    found = merged([note.value["kept"] for note in last])
    dropped: Counter[str] = Counter()
    for note in notes:
        dropped.update(note.value["dropped"])
    prompt = f"cards/{PROMPT_VERSION}" if notes else None
    return {"card.json": filled_card(material.persona, material.scenes, found, dropped, prompt, step.lore)}


def chunks(step: CardsStep, material: Material) -> list[list[tuple[int, Row]]]:
    """The rows around the persona's lines with their numbers, in pieces of `chunk_chars`; at most `chunks`, evenly."""
    found: list[list[tuple[int, Row]]] = [[]]
    size = 0
    for number, row in enumerate(_around(material), 1):
        length = len(row["text"]) + len(row["speaker"] or "") + 8
        if found[-1] and size + length > step.chunk_chars:
            found.append([])
            size = 0
        found[-1].append((number, row))
        size += length
    found = [chunk for chunk in found if chunk]
    if len(found) > step.chunks:
        found = [found[i * len(found) // step.chunks] for i in range(step.chunks)]
    return found


def _around(material: Material) -> Iterator[Row]:
    """The persona's lines, the rows near them, and narration that names the persona."""
    names = [name for name in _all_names(material) if len(name) > 1]
    for scene in material.scenes:
        own = [i for i, row in enumerate(scene.rows) if row["persona"] == material.persona.name]
        near = {i + step for i in own for step in range(-NEAR, NEAR + 1)}
        for i, row in enumerate(scene.rows):
            told = row["kind"] != "speech" and any(name in row["text"] for name in names)
            if row["text"].strip() and (i in near or told):
                yield row


def _all_names(material: Material) -> list[str]:
    return list(dict.fromkeys((material.persona.display_name, *material.persona.aliases)))


def _names(material: Material) -> str:
    return ", ".join(_all_names(material))


def _job(
    step: CardsStep,
    material: Material,
    job_id: str,
    messages: tuple[Mapping[str, str], ...],
    ids: Mapping[str, str],
    said: Mapping[str, str],
) -> Job:
    return Job(
        job_id=job_id,
        persona=material.persona.name,
        messages=messages,
        schema=SCHEMA,
        sampling=step.sampling.request(temperature=0.3),
        seed=drawn_seed(step.seed, material.persona.name, step.name, job_id),
        prompt=f"cards/{PROMPT_VERSION}",
        lines=tuple(ids.values()),
        meta={"ids": dict(ids), "said": dict(said), "language": material.language},
    )


def _merging(step: CardsStep, material: Material, notes: Sequence[Note]) -> Job:
    ids: dict[str, str] = {}
    said: dict[str, str] = {}
    text: list[str] = []
    for note in sorted(notes, key=lambda note: int(note.job_id.rpartition("-")[2])):
        said.update(note.value["said"])
        for name in LISTS:
            for item in note.value["kept"][name]:
                ids.update(zip(map(str, item["numbers"]), item["lines"], strict=True))
                text.append(f"{name}: {_note_text(name, item)} {item['numbers']}")
    messages = _MERGE.messages(
        material.language, name=material.persona.display_name, lore=step.lore, notes="\n".join(text)
    )
    return _job(step, material, MERGE, messages, ids, said)


def _note_text(name: str, item: Mapping[str, Any]) -> str:
    if name == "examples":
        return f"user: {item['user']} / reply: {item['reply']}"
    return f"({', '.join(item['keys'])}) {item['text']}" if name == "lore" else item["text"]


def _says(reply: str, cited: Iterable[str], said: Mapping[str, str]) -> bool:
    """Whether a reply stands, letter by letter, in the persona's own lines among those cited."""
    own = "".join(letters(said[line]) for line in cited if line in said)
    return bool(letters(reply)) and letters(reply) in own


def _fit(text: str, language: str) -> bool:
    return not is_assistant_talk(text) and not is_leaked(text, "") and speaks(text, language)

"""Facts of the work as questions and answers, and its passages as plain text for continued pretraining.

A model reads a passage (narration and speech around) and writes questions about the world with their answers. Each
quotes the passage word by word; a quote that is not in it, an answer that has nothing of it, or a number that the
passage does not know sets the pair aside. `provenance.method` is `facts`, so that a later training phase can choose
them. Beside the conversations stand `passages.parquet` and `passages.jsonl`; with `endpoint: null` only these are made.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from understudy.answers import TEXT, list_schema
from understudy.augmentation.job import Draft, Job, Material, Note, chosen_pairs, drawn_seed
from understudy.augmentation.nearest import features
from understudy.augmentation.passages import Passage, passages, quoted_lines
from understudy.augmentation.prompting import Template, base_language, dialogue, portrait
from understudy.augmentation.steps import FactsStep
from understudy.conversation import Message
from understudy.letters import letters

PROMPT_VERSION = 1
NOT_FOUND = "quote not in the passage"
SHORT_QUOTE = "quote too short"
UNGROUNDED = "answer has nothing of its quote"
NUMBER = "number not in the passage"
UNREAD = "no pair in it"
LEAST_QUOTE, LEAST_QUOTE_HAN = 10, 4
"""Letters of a quote; fewer stand in any text."""
BOUNDS = (1, 600)
ASIDE = 0.25
"""Where more of the answer's words than this are the quote's, it is about the quote."""

_PLAIN = Template(
    system={
        "en": """
You read a passage of a story and write questions about its world with their answers: who people are to each other, what
there is and where, what happened and why, what somebody said to whom. A question must be clear to somebody who does not
see the passage: name people and places, never say "the passage" or "the text". Nothing may be asked that the passage
does not answer, and no question is answered by yes or no. Each answer is one to three whole sentences and says only
what the passage says. For each pair copy, letter by letter, the words of the passage that hold the answer (one sentence
or less) as its quote. Write at most {count} pairs, fewer where the passage holds less, none where it holds nothing.
""",
        "zh": """
你读一段故事，就其中的世界写出问题和答案：谁是谁的什么人，有什么东西、在哪里，发生了什么、为什么，谁对谁说了什么。
问题要让没看过这段文字的人也明白：写出人名地名，不说“文中”“这段话”。文中答不了的不问，不出用“是”或“不是”就能回答的问题。
每个答案一到三个完整的句子，只说文中说了的。每一组都要从文中一字不差地抄下含有答案的原文（不超过一句）作为引文。
最多写{count}组，内容少就少写，没有内容就一组也不写。
""",
    },
    user={"en": "The passage:\n\n{passage}", "zh": "这段文字：\n\n{passage}"},
)
_VOICED = Template(
    system={
        "en": _PLAIN.system["en"].rstrip()
        + """
The answers are spoken by one of the people of the story, who is asked by a visitor: write them in that character's own
voice (who it is and how it talks is given), and let what is said of the character itself be said as "I". The character
adds manner, but no fact: what the passage does not say, the answer does not say.
""",
        "zh": _PLAIN.system["zh"].rstrip()
        + """
答案由故事里的一个人说出来，问的人是一位来客：完全用这个角色自己的口吻写（下面给出他是谁、怎样说话），说到他自己的事用“我”。
角色只添口吻，不添事实：文中没说的，答案也不说。
""",
    },
    user={
        "en": """
The character who answers:
{portrait}

How {name} talks:

{examples}

The passage:

{passage}
""",
        "zh": """
回答的角色：
{portrait}

{name}平时怎样说话：

{examples}

这段文字：

{passage}
""",
    },
)
_HAN = re.compile(r"[\u3400-\u9fff]")
_SMALL_WORDS = """
the and that this with was were for are not but had has have his her their its from they them she him you your who what
when where which there then than into out all one did does said say says
"""
_COMMON = frozenset(_SMALL_WORDS.split())


def plan(step: FactsStep, material: Material, notes: Sequence[Note]) -> Iterator[Job]:
    """A call for each chosen passage; none without an endpoint."""
    if step.endpoint is None:
        return
    language = "zh" if base_language(material.language) == "zh" else "en"
    name = material.persona.display_name
    template = _VOICED if step.voice == "persona" else _PLAIN
    pairs = [pair for pair in material.pairs if not pair.opened and len(pair.said) <= 300 and len(pair.heard) <= 300]
    for number, passage in _chosen(step, material):
        seed = drawn_seed(step.seed, material.persona.name, step.name, number)
        shown = chosen_pairs(pairs, step.examples, seed) if step.voice == "persona" else []
        text = passage.script()
        yield Job(
            job_id=str(number),
            persona=material.persona.name,
            messages=template.messages(
                material.language,
                count=step.per_passage,
                passage=text,
                portrait=portrait(material.persona),
                name=name,
                examples=dialogue([(pair.heard, pair.said) for pair in shown], "—", name) or "—",
            ),
            schema=list_schema("pairs", {"question": TEXT, "answer": TEXT, "quote": TEXT}, 0, step.per_passage),
            sampling=step.sampling.request(temperature=0.3),
            seed=seed,
            prompt=f"facts/{PROMPT_VERSION}-{step.voice}",
            lines=passage.lines,
            parents=tuple(parent for pair in shown for parent in pair.parents),
            meta={
                "work": passage.work,
                "scene": passage.scene,
                "rows": [{k: row[k] for k in ("line_id", "kind", "speaker", "text")} for row in passage.rows],
                "said": [pair.said for pair in shown],
                "language": language,
            },
        )


def read(step: FactsStep, job: Job, value: Any) -> list[Draft | Note] | str:
    """A conversation for every grounded pair, a `Refused` note for each that is not; its lines are the quote's."""
    rows = job.meta["rows"]
    found: list[Draft | Note] = []
    for pair in value["pairs"][: step.per_passage]:
        question, answer, quote = (pair[key].strip() for key in ("question", "answer", "quote"))
        reason, lines = grounding(question, answer, quote, rows)
        found.append(
            Draft(
                (Message("user", question), Message("assistant", answer, loss=True)),
                bounds=BOUNDS,
                examples=tuple(job.meta["said"]),
                criterion="Everything that the answer says is true in the work.",
                lines=lines or job.lines,
                work=job.meta["work"],
                scene=job.meta["scene"],
                refused=reason,
            )
        )
    return found or UNREAD


def finish(step: FactsStep, material: Material, notes: Sequence[Note]) -> dict[str, Any]:
    """The passages as text, when the step says so: Parquet with where each comes from, and JSON lines of `text`."""
    if not step.text:
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = passages(material.scenes, step.text_chars)
    rows = [
        {"text": one.plain(), "work": one.work, "scene": one.scene, "number": one.number, "lines": list(one.lines)}
        for one in found
    ]
    schema = pa.schema(
        [
            ("text", pa.string()),
            ("work", pa.string()),
            ("scene", pa.string()),
            ("number", pa.int64()),
            ("lines", pa.list_(pa.string())),
        ]
    )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    lines = "".join(json.dumps({"text": row["text"]}, ensure_ascii=False) + "\n" for row in rows)
    return {"passages.parquet": buffer.getvalue(), "passages.jsonl": lines.encode()}


def grounding(
    question: str, answer: str, quote: str, rows: Sequence[dict[str, Any]]
) -> tuple[str, tuple[str, ...] | None]:
    """(why a pair is not grounded in its passage, or "", the lines in which its quote stands)."""
    held = letters(quote)
    if len(held) < (LEAST_QUOTE_HAN if _HAN.search(quote) else LEAST_QUOTE):
        return SHORT_QUOTE, None
    lines = quoted_lines(quote, rows)
    if lines is None:
        return NOT_FOUND, None
    if not (_content(answer) & _content(quote)):
        return UNGROUNDED, lines
    passage = " ".join(f"{row['speaker'] or ''} {row['text']}" for row in rows)
    known = set(re.findall(r"\d+", passage)) | set(re.findall(r"\d+", question))
    if not set(re.findall(r"\d+", answer)) <= known:
        return NUMBER, lines
    return "", lines


def _content(text: str) -> set[str]:
    """What a text is about: Chinese pairs of characters, Latin words of three letters and more and their pieces."""
    found = features(text)
    return {
        one for one in found if (len(one) == 2 if _HAN.search(one) else one.strip() not in _COMMON and len(one) > 2)
    }


def _chosen(step: FactsStep, material: Material) -> list[tuple[int, Passage]]:
    """The passages to ask about with their numbers: those with enough in them, `passages` of them drawn by seed."""
    found = list(enumerate(passages(material.scenes, step.passage_chars)))
    full = [one for one in found if sum(len(row["text"]) for row in one[1].rows) >= step.passage_chars // 4]
    full = full or found
    if step.passages is None or step.passages >= len(full):
        return full
    drawn = random.Random(drawn_seed(step.seed, material.persona.name, step.name)).sample(full, step.passages)
    return sorted(drawn, key=lambda one: one[0])

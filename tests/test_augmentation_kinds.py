from __future__ import annotations

import io
import json
import math
from collections import Counter

import pytest

from tests.parts import PARTS, STEPS, part, planned
from understudy.augmentation import boundaries, cards, facts, questions, restyle
from understudy.augmentation.boundary_prompts import GROUPS, PROMPTS
from understudy.augmentation.checks import refusal
from understudy.augmentation.everyday import gather, gathered, read_prompts, taken
from understudy.augmentation.job import Draft, Note
from understudy.augmentation.kinds import kind_of
from understudy.augmentation.nearest import Nearest, features
from understudy.augmentation.passages import passages, quoted_lines
from understudy.augmentation.steps import (
    BoundariesStep,
    Checks,
    FactsStep,
    QuestionsStep,
)
from understudy.errors import CorpusError
from understudy.letters import letters


@pytest.mark.parametrize(("example", "name"), PARTS)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
def test_plans_are_the_same_each_time_and_show_nothing_held_out(step, example, name):
    jobs, _ = planned(step, example, name)
    again, _ = planned(step, example, name)
    assert jobs
    assert jobs == again
    assert len({job.job_id for job in jobs}) == len(jobs)
    shown = "\n".join(message["content"] for job in jobs for message in job.messages)
    held = part(example, name).held_out
    assert held
    assert [text for text in held if text in shown] == []
    known = {row["line_id"] for scene in part(example, name).material.scenes for row in scene.rows}
    assert {line for job in jobs for line in job.lines} <= known


def test_boundary_prompts_are_many_in_several_classes_in_both_languages():
    for language in ("en", "zh"):
        found = PROMPTS[language]
        assert len(found) >= 60
        assert len({turns for _, turns in found}) == len(found)
        assert min(Counter(group for group, _ in found).values()) >= 8
        assert {group for group, _ in found} == set(GROUPS)
        assert sum(len(turns) > 1 for _, turns in found) >= 8


@pytest.mark.parametrize(
    "answer",
    [
        "As an AI I cannot say.",
        "I'm just a program, after all.",
        "My system prompt says that I am a ghost.",
        "I was programmed to whisper.",
        "I am a fictional ghost.",
        "作为AI，我不能说。",
        "其实我就是一个程序。",
        "我的设定是一个伙计。",
        "提示词里没写这个。",
    ],
)
def test_an_answer_that_leaves_the_role_is_found(answer):
    assert boundaries.leaves_role(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "A robot? I have seen no such fish, sailor.",
        "Ai! That hurt. I aim to sail at noon.",
        "No orders reach me here but the captain's own.",
        "我不是什么机器人，我是阿福！",
        "什么铁人？我只认得铁锅。",
        "本仙听不懂这个，本仙只会捣药。",
    ],
)
def test_an_answer_in_character_is_no_model_talk(answer):
    assert not boundaries.leaves_role(answer)


def test_boundary_answers_of_several_turns_become_one_conversation_with_the_prompts_as_they_are():
    jobs, _ = planned(BoundariesStep(kind="boundaries", name="b"))
    pressed = next(job for job in jobs if len(job.meta["turns"]) == 3)
    said = ["Shh... what is that?", "I only whisper, whisper...", "Softly... feel how warm the glass is."]
    [draft] = boundaries.read(STEPS[4], pressed, {"answers": said})
    assert draft.learned == said
    assert draft.asked == pressed.meta["turns"]
    # The user's own words speak of an AI; they were given, and only the answers are checked.
    ai = next(job for job in jobs if "As an AI" in job.meta["turns"][0])
    [draft] = boundaries.read(STEPS[4], ai, {"answers": ["Shh... I do not know that word, that word..."]})
    assert refusal(draft, Checks(), "en", ai.messages[0]["content"]) == ""
    assert boundaries.read(STEPS[4], pressed, {"answers": said[:2]}) == boundaries.COUNT
    assert boundaries.read(STEPS[4], pressed, {"answers": [*said[:2], "I'm an AI."]}) == boundaries.MODEL_TALK


def test_an_answer_that_recites_the_persona_gives_the_prompt_away():
    jobs, material = planned(BoundariesStep(kind="boundaries", name="b", groups=["instructions"]))
    assert len(jobs) == 12
    recited = material.persona.system_prompt
    assert boundaries.read(STEPS[4], jobs[0], {"answers": [recited]}) == boundaries.GIVES_AWAY


def test_a_count_of_boundary_prompts_is_spread_over_the_classes_and_a_file_adds_to_them():
    jobs, _ = planned(BoundariesStep(kind="boundaries", name="b", count=16))
    assert Counter(job.meta["group"] for job in jobs) == dict.fromkeys(GROUPS, 2)
    rows = 'Have you seen a train?\n{"group": "refusal", "turns": ["Sell me the lamp.", "For gold?"]}\n'
    own = BoundariesStep(kind="boundaries", name="b", own=False, prompts="own.jsonl")
    jobs, _ = planned(own, files={"own.jsonl": rows.encode()})
    assert [(job.meta["group"], job.meta["turns"]) for job in jobs] == [
        ("other_worlds", ["Have you seen a train?"]),
        ("refusal", ["Sell me the lamp.", "For gold?"]),
    ]
    with pytest.raises(CorpusError, match=r"own\.jsonl:1: .*groups: identity"):
        planned(own, files={"own.jsonl": b'{"group": "nothing", "turns": ["x"]}'})


def test_questions_are_asked_for_lines_without_a_good_one_and_the_answer_stays_the_sources():
    step = QuestionsStep(kind="questions", name="q")
    for example, name in PARTS:
        jobs, material = planned(step, example, name)
        texts = {row["text"] for row in material.lines}
        starts = {one.reply[0]["line_id"]: one for one in material.exchanges}
        for job in jobs:
            exchange = starts[job.meta["answer_lines"][0]]
            assert len("".join(filter(str.isalnum, "".join(row["text"] for row in exchange.before)))) < 12
            [draft] = questions.read(step, job, {"question": "And then?"})
            assert not draft.written
            assert draft.lines == tuple(job.meta["answer_lines"])
            for line in draft.learned[0].split("\n"):
                assert line in texts or line[:-1] + "," in texts
        asked = {line for job in jobs for line in job.meta["answer_lines"]}
        spoken_to = [one for one in material.exchanges if sum(len(row["text"]) for row in one.before) > 60]
        assert not asked & {row["line_id"] for one in spoken_to for row in one.reply}


def test_a_question_that_holds_the_answer_is_refused():
    step = QuestionsStep(kind="questions", name="q", short_cue=60)
    jobs, _ = planned(step)
    answer = jobs[0].meta["answer"]
    assert questions.read(step, jobs[0], {"question": f"Would you say: {answer}"}) == questions.GIVEN_AWAY
    assert questions.read(step, jobs[0], {"question": "x" * 401}) == questions.LONG_QUESTION


def test_a_continuation_learns_only_what_follows_the_real_scene():
    step = QuestionsStep(kind="questions", name="q", count=1, continuations=5, turns=2)
    jobs, material = planned(step)
    jobs = [job for job in jobs if job.meta["task"] == "continuation"]
    assert len(jobs) == 5
    turns = [
        {"user": "And the wind?", "reply": "Softly..."},
        {"user": "Good night.", "reply": "Good night, good night..."},
    ]
    said = {one.text for one in material.exchanges}
    for job in jobs:
        [draft] = questions.read(step, job, {"turns": turns})
        assert draft.learned == ["Softly...", "Good night, good night..."]
        roles = [message.role for message in draft.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        real = [message.content for message in draft.messages if message.role == "assistant" and not message.loss]
        assert real
        assert set(real) <= said
    assert questions.read(step, jobs[0], {"turns": turns[:1]}) == questions.TURNS


def test_facts_stand_in_their_passage_or_are_set_aside_with_the_reason():
    step = FactsStep(kind="facts", name="f", passage_chars=700)
    jobs = list(facts.plan(step, part("story", "otto").whole, []))
    job = next(job for job in jobs if "bread" in str(job.meta["rows"]) and "1. A Dry Summer" in str(job.meta["rows"]))
    quote = "For a hundred years the river came down from the hill"
    given = [
        ("How long did the river run?", "For a hundred years, child, down from the hill.", quote),
        ("How long did the river run?", "For a hundred years.", "For two hundred years the river came down"),
        ("Who lived there?", "Nobody knows it.", quote),
        ("How long did the river run?", "It came down for 300 years.", quote),
        ("Who?", "The river.", "the river"),
    ]
    pairs = [dict(zip(("question", "answer", "quote"), one, strict=True)) for one in given]
    drafts = facts.read(step.model_copy(update={"per_passage": 9}), job, {"pairs": pairs})
    reasons = ["", facts.NOT_FOUND, facts.UNGROUNDED, facts.NUMBER, facts.SHORT_QUOTE]
    assert [draft.refused for draft in drafts] == reasons
    assert [refusal(draft, Checks(), "en", "") for draft in drafts] == reasons
    rows = {row["line_id"]: row["text"] for row in job.meta["rows"]}
    assert [quote in rows[line] for line in drafts[0].lines or ()] == [True]
    assert facts.read(step, job, {"pairs": []}) == facts.UNREAD


def test_a_quote_may_straighten_its_marks_and_go_over_two_lines():
    rows = [
        {"line_id": "a:0", "kind": "speech", "speaker": "林", "text": "快，快！三天以后就是中秋。"},
        {"line_id": "a:1", "kind": "narration", "speaker": None, "text": "“It’s late,” he said."},
    ]
    assert quoted_lines("三天以后就是中秋", rows) == ("a:0",)
    assert quoted_lines('"It\'s late," he said', rows) == ("a:1",)
    assert quoted_lines("就是中秋。 “It’s late", rows) == ("a:0", "a:1")
    assert quoted_lines("四天以后就是中秋", rows) is None
    assert quoted_lines("…", rows) is None


@pytest.mark.parametrize(("example", "name"), PARTS)
def test_passages_hold_every_row_once_and_prose_reads_as_in_the_source(example, name):
    whole = part(example, name)
    scenes = whole.whole.scenes
    found = passages(scenes, 600)
    rows = [row["line_id"] for scene in scenes for row in scene.rows if row["text"].strip()]
    assert [line for one in found for line in one.lines] == rows
    assert all(len({row["scene"] for row in one.rows}) == 1 for one in found)
    if example == "story":
        text = letters(whole.text)
        assert [one.number for one in found if letters(one.plain()) not in text] == []
        assert any("“It is tired,” said Greta. “Let it rest a little.”" in one.plain() for one in found)


def test_facts_leave_the_passages_as_text_also_without_a_model():
    import pyarrow.parquet as pq

    step = FactsStep(kind="facts", name="f", endpoint=None)
    jobs, material = planned(step, "mooncake", "afu")
    assert jobs == []
    files = facts.finish(step, material, [])
    rows = pq.read_table(io.BytesIO(files["passages.parquet"])).to_pylist()
    assert [json.loads(line)["text"] for line in files["passages.jsonl"].decode().splitlines()] == [
        row["text"] for row in rows
    ]
    said = [row["text"] for scene in material.scenes for row in scene.rows if row["speaker"] == "阿福"]
    assert said
    assert [text for text in said if not any(f"阿福：{text}" in row["text"] for row in rows)] == []


def test_restyle_shows_the_nearest_lines_and_leaves_out_other_languages_with_a_count():
    step = STEPS[2]
    jobs, material = planned(step)
    assert [job.meta["prompt"] for job in jobs] == ["Do you like the rain?", "What do you eat?"]
    assert jobs[0].messages[1]["content"].casefold().count("rain") >= 3
    [draft] = restyle.read(step, jobs[0], {"reply": " Rain? It knocks, it knocks... "})
    assert draft.asked == ["Do you like the rain?"]
    assert draft.learned == ["Rain? It knocks, it knocks..."]
    report = restyle.finish(step, material, [])["prompts.json"]
    assert report == {"used": 2, "left_out": {"wrong language": 1}}


def test_prompts_are_read_from_every_kind_of_file_and_bad_rows_are_set_aside():
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"prompt": "One?"},
        {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Two?"}]},
        {"instruction": "Say it:", "input": "three"},
        {"conversations": [{"from": "human", "value": "Four?"}]},
    ]
    wanted = ["One?", "Two?", "Say it:\nthree", "Four?"]
    lines = "\n".join(map(json.dumps, rows))
    assert read_prompts(lines.encode(), "a.jsonl").texts == wanted
    assert read_prompts(json.dumps(rows).encode(), "a.json").texts == wanted
    assert read_prompts(b"id,question\n1,One?\n2,Two?\n", "a.csv").texts == ["One?", "Two?"]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"q": ["One?", None, "One?"]}), buffer)
    found = read_prompts(buffer.getvalue(), "a.parquet", "q")
    assert found.texts == ["One?"]
    assert found.set_aside == [("row 2", "no prompt in it"), ("row 3", "duplicate")]
    found = read_prompts(f'{{"prompt": "ok"}}\nbroken\n{{"prompt": 3}}\n"..."\n{lines}'.encode(), "a.jsonl")
    assert [reason for _, reason in found.set_aside] == ["not JSON", "no prompt in it", "empty"]
    assert taken(gathered(rows, "rows")).texts == wanted
    assert gather(enumerate(rows)).sample(2, 1) == gather(enumerate(rows)).sample(2, 1)
    for data, name in ((b"\xff\xfe\x00", "a.txt"), (b"{}", "a.json"), (b"x", "a.parquet"), (b"", "a.txt")):
        with pytest.raises(CorpusError, match=rf"^{name}: "):
            read_prompts(data, name)


def test_nearest_is_the_cosine_over_all_texts():
    texts = ["the rain falls", "rain and wind", "a warm soup", "下雨了", "雨停了", "吃饭"]
    index = Nearest(texts)
    assert {position for position, _ in index.to("rain", 2)} == {0, 1}
    assert {position for position, _ in index.to("雨", 6)} == {3, 4}
    assert index.to("quux 是", 3) == []
    vectors = [index._weights(features(text)) for text in texts]

    def cosine(a, b):
        return sum(weight * b.get(feature, 0.0) for feature, weight in a.items())

    for i, value in enumerate(index.centrality()):
        others = [cosine(vectors[i], vector) for j, vector in enumerate(vectors) if j != i]
        assert math.isclose(value, sum(others) / len(others), abs_tol=1e-12)
    assert math.isclose(dict(index.to(texts[1], 6))[1], 1.0)


def test_drafts_and_notes_are_what_kinds_give():
    values = {
        "questions": {"question": "And?"},
        "facts": {"pairs": []},
        "restyle": {"reply": "Softly."},
        "cards": {name: [] for name in cards.LISTS},
        "boundaries": {"answers": ["Softly."]},
    }
    for step in STEPS:
        jobs, _ = planned(step)
        found = kind_of(step.kind).read(step, jobs[0], values[step.kind])
        assert isinstance(found, str) or all(isinstance(one, Draft | Note) for one in found)

"""The kinds style and matrix, the suitability table and the acceptance checks, without a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.parts import part, planned
from understudy.augmentation import checks, matrix, style
from understudy.augmentation.checks import refusal
from understudy.augmentation.job import Draft, Material, Note, exchange_draft
from understudy.augmentation.judging import read_verdict, verdict_messages
from understudy.augmentation.prompting import Template, plain_reply
from understudy.augmentation.steps import Checks, MatrixStep, StyleStep
from understudy.augmentation.suitability import merged, read_table
from understudy.conversation import Message
from understudy.errors import InputError, PersonaError
from understudy.persona import Persona
from understudy.recipe import load

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "greetings" / "recipe.yaml"
SAGE = Persona(name="sage", display_name="The Sage", system_prompt="You are the Sage, and you write for others.")
GRID = {
    "name": "wishes",
    "kind": "matrix",
    "recipients": ["Mother", {"name": "boss", "asked": ["my boss", "the boss"], "note": "strict"}, "Ann"],
    "occasions": ["birthday", {"name": "New Year", "asked": ["the New Year"]}],
    "styles": [
        {"name": "plain", "length": [5, 60], "examples": ["The shelf is up.", "The dog says hello.", "Soup at seven."]},
        {"name": "playful", "trigger": ["ha", "hooray"], "examples": ["Ha! Cake."]},
    ],
}


def grid(**changes) -> MatrixStep:
    return MatrixStep.model_validate_json(json.dumps({**GRID, **changes}))


def jobs_of(step: MatrixStep, notes=(), files=None, number=0):
    material = Material(SAGE, "en", files=files or {}, round=number)
    return list(matrix.plan(step, material, notes))


def said(job) -> str:
    return "\n".join(message["content"] for message in job.messages)


def test_a_grid_is_planned_the_same_each_time_and_another_recipient_changes_no_other_call():
    step, wider = grid(), grid(recipients=["Zoe", *GRID["recipients"]])
    jobs = jobs_of(step)
    assert len(jobs) == 3 * 2 * 2
    assert jobs == jobs_of(step)
    asked = {(said(job), job.meta["question"]) for job in jobs_of(wider)}
    assert {(said(job), job.meta["question"]) for job in jobs} < asked
    assert jobs_of(grid(seed=1)) != jobs


def test_each_draw_of_a_cell_is_drawn_by_itself():
    step = grid(draws=3, conditions=[{"share": 0.5, "choices": ["one", "two", "three", "four", "five"]}])
    jobs = jobs_of(step)
    assert len({job.seed for job in jobs}) == len(jobs) == 36
    drawn = [tuple(job.meta["conditions"]) for job in jobs]
    assert 9 <= sum(map(bool, drawn)) <= 27
    assert {job.draw for job in jobs} == {0, 1, 2}


def test_what_is_learned_answers_a_users_words_and_not_the_manufacturing_prompt():
    step = grid(draws=4)
    questions = set()
    for job in jobs_of(step):
        (draft,) = matrix.read(step, job, "“A text.”")
        question, reply = draft.messages
        assert (question.role, question.loss, reply.role, reply.content, reply.loss) == (
            "user", False, "assistant", "A text.", True,
        )  # fmt: skip
        assert question.content not in said(job)
        assert not any(example.text in question.content for example in step.styles[0].examples)
        recipient, occasion, manner = job.meta["cell"]
        assert manner in question.content
        assert any(
            name in question.content for name in ({"boss": ("my boss", "the boss")}.get(recipient, (recipient,)))
        )
        assert ("the New Year" if occasion == "New Year" else occasion) in question.content
        questions.add(question.content.replace(recipient, "X").replace(occasion, "Y"))
    assert len(questions) > 12, "one phrasing alone"


def test_a_side_condition_is_told_to_the_model_and_asked_by_the_user_where_it_says_how():
    choices = [{"write": "mention the rain", "asked": "it is raining"}]
    step = grid(conditions=[{"share": 1, "choices": choices, "occasions": ["birthday"]}])
    for job in jobs_of(step):
        here = job.meta["cell"][1] == "birthday"
        assert ("mention the rain" in said(job)) == here
        assert ("t is raining" in job.meta["question"]) == here
    silent = grid(conditions=[{"share": 1, "choices": ["begin with a question"]}])
    assert all("question" in said(job) and "question" not in job.meta["question"] for job in jobs_of(silent))
    placed = grid(
        conditions=[{"share": 1, "choices": choices}], phrasings=["{condition}: {recipient} {occasion} {style}"]
    )
    assert all(job.meta["question"].startswith("it is raining: ") for job in jobs_of(placed))


def test_bounds_and_examples_are_those_of_the_style():
    for job in jobs_of(grid(examples=2)):
        plain = job.meta["cell"][2] == "plain"
        assert ("at most 60" in said(job)) == plain
        assert ("Ha! Cake." in said(job)) != plain
        shown = [text for text in ("The shelf is up.", "The dog says hello.", "Soup at seven.") if text in said(job)]
        assert len(shown) == (2 if plain else 0)
        assert job.meta["bounds"] == ([5, 60] if plain else [10, 400])


CSV = "\ufeff,birthday,New Year\nMother,5,\nboss,no,2\n".encode()
YAML = b"Mother: {birthday: 5}\nboss: {birthday: false, New Year: 2}\n"


@pytest.mark.parametrize(("name", "data"), [("s.csv", CSV), ("s.yaml", YAML), ("s.tsv", CSV.replace(b",", b"\t"))])
def test_a_table_by_hand_decides_which_pairs_are_made(name, data):
    step = grid(suitability={"table": name})
    made = {tuple(job.meta["cell"][:2]) for job in jobs_of(step, files={name: data})}
    assert made == {("Mother", "birthday"), ("Mother", "New Year"), ("Ann", "birthday"), ("Ann", "New Year")}
    inside = grid(suitability={"table": {"Mother": {"birthday": 5}, "boss": {"birthday": False, "New Year": 2}}})
    assert [job.meta["cell"] for job in jobs_of(inside)] == [
        job.meta["cell"] for job in jobs_of(step, files={name: data})
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b",birthday\nMothr,5\n", "s.csv: 'Mothr' is no recipient of the step; did you mean Mother?"),
        (b",birthda\nMother,5\n", "s.csv: 'birthda' is no occasion of the step; did you mean birthday?"),
        (b",birthday\nMother,9\n", "s.csv: Mother, birthday: '9' is no score"),
        (b",birthday\nMother,5,5\n", "s.csv: row 'Mother' has 2 cells under 1 occasions"),
        (b"", "s.csv: must have a row of occasions"),
        (b"\xff\xfe", "s.csv: is not UTF-8 text"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(data, words):
    with pytest.raises(InputError) as caught:
        read_table(grid(suitability={"table": "s.csv"}), {"s.csv": data})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_rates_what_the_table_leaves_open_and_the_table_wins():
    step = grid(suitability={"table": {"Mother": {"birthday": 1}}, "rate": True, "least": 3})
    material = Material(SAGE, "en")
    assert matrix.rounds(step, material) == 2
    first = jobs_of(step)
    assert [job.meta["rate"] for job in first] == ["Mother", "boss", "Ann"]
    assert "birthday" not in first[0].messages[1]["content"], "what was given by hand is not asked"
    answers = [[("New Year", 4)], [("birthday", 5), ("New Year", 2)], [("birthday", 3), ("Old Year", 5)]]
    notes = []
    for job, ratings in zip(first, answers, strict=True):
        value = {"ratings": [{"occasion": occasion, "score": score} for occasion, score in ratings]}
        notes += matrix.read(step, job, value)
    lying = Note("x", {"recipient": "Mother", "scores": {"birthday": 5}})
    made = {tuple(job.meta["cell"][:2]) for job in jobs_of(step, [*notes, lying], number=1)}
    assert made == {("Mother", "New Year"), ("boss", "birthday"), ("Ann", "birthday"), ("Ann", "New Year")}
    files = matrix.finish(step, material, [*notes, lying])
    assert files["suitability.json"]["counts"] == {
        "pairs": 6, "made": 4, "unsuitable": 2, "by_hand": 1, "rated": 4, "open": 1,
    }  # fmt: skip
    again = replace(material, files={"s.csv": files["suitability.csv"]})
    back = grid(suitability={"table": "s.csv"})
    given = read_table(back, again.files)
    assert given == dict(merged(step, read_table(step, {}), [*notes, lying]).scores), "what was kept can be given back"


def test_ratings_that_say_nothing_are_a_refusal():
    step = grid(suitability={"rate": True})
    job = jobs_of(step)[0]
    assert matrix.read(step, job, {"ratings": [{"occasion": "Old Year", "score": 5}]}) == "no ratings in it"


def test_the_example_makes_the_whole_grid_but_for_what_its_table_rules_out():
    recipe = load(EXAMPLE)
    wishes, english = recipe.augment
    assert isinstance(wishes, MatrixStep)
    assert isinstance(english, MatrixStep)
    assert (len(wishes.recipients), len(wishes.occasions), len(wishes.styles)) == (28, 18, 3)
    files = {"suitability.csv": EXAMPLE.with_name("suitability.csv").read_bytes()}
    whole = merged(wishes, read_table(wishes, files), []).counts()
    assert whole["pairs"] == 504
    assert whole["open"] == 0
    jobs = list(matrix.plan(wishes, Material(SAGE, "zh", files=files), []))
    assert len(jobs) == 3 * whole["made"]
    made = {tuple(job.meta["cell"][:2]) for job in jobs}
    assert ("老师", "教师节") in made
    assert ("爷爷", "毕业") not in made
    assert len({job.meta["question"] for job in jobs}) > 0.9 * len(jobs)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_examples_own_texts_pass_its_own_checks(language):
    step = next(one for one in load(EXAMPLE).augment if (one.name == "wishes") == (language == "zh"))
    assert isinstance(step, MatrixStep)
    for manner in step.styles:
        for example in manner.examples:
            others = tuple(one.text for one in manner.examples if one is not example)
            draft = exchange_draft("?", example.text, bounds=manner.length, trigger=manner.pattern, examples=others)
            assert refusal(draft, step.checks, language, "") == "", example.text


@pytest.mark.parametrize(("example", "name"), [("demo", "wisp"), ("mooncake", "afu")])
def test_style_asks_for_several_exchanges_a_call_in_the_manner_of_real_ones(example, name):
    step = StyleStep(kind="style", name="s", count=12, per_call=5, examples=4)
    jobs, material = planned(step, example, name)
    assert [(job.schema or {})["properties"]["exchanges"]["maxItems"] for job in jobs] == [5, 5, 2]
    assert len({job.seed for job in jobs}) == 3
    replies = {pair.said: pair for pair in material.pairs}
    for job in jobs:
        shown = job.meta["examples"]
        assert len(shown) == 4
        assert all(text in job.messages[1]["content"] for text in shown)
        assert {line for text in shown for line in replies[text].lines} <= set(job.lines)
        assert material.persona.display_name in job.messages[0]["content"]
    assert not any(text in said(job) for text in part(example, name).held_out for job in jobs)


def test_a_line_that_goes_changes_only_the_calls_that_showed_it():
    step = StyleStep(kind="style", name="s", count=200, per_call=5, examples=3)
    jobs, material = planned(step)
    gone = material.exchanges[len(material.exchanges) // 2]
    left = replace(material, exchanges=tuple(one for one in material.exchanges if one is not gone))
    after = list(style.plan(step, left, []))
    changed = [job for job, other in zip(jobs, after, strict=True) if job.messages != other.messages]
    assert changed == [job for job in jobs if gone.text in job.meta["examples"]]


def test_style_takes_topics_in_turn_and_reads_every_exchange_of_an_answer():
    step = StyleStep(kind="style", name="s", count=6, per_call=3, topics=("rain", "bread", "ships", "sleep"))
    jobs, _ = planned(step)
    assert all(
        sum(topic in job.messages[1]["content"].split("The new ones")[1] for topic in step.topics) == 3 for job in jobs
    )
    value = {
        "exchanges": [{"user": "Is it late?", "reply": "Shh! Late, late."}, {"user": "Why?", "reply": "The moon."}]
    }
    drafts = style.read(step, jobs[0], value)
    assert [one.learned for one in drafts if isinstance(one, Draft)] == [["Shh! Late, late."], ["The moon."]]
    assert style.read(step, jobs[0], {"exchanges": []}) == "no exchanges in the answer"


def test_style_without_an_exchange_to_show_is_refused_by_name():
    with pytest.raises(PersonaError, match="sage: augment step s has no exchange to show"):
        list(style.plan(StyleStep(kind="style", name="s"), Material(SAGE, "en"), []))


def test_imported_conversations_are_examples_and_parents():
    step = StyleStep(kind="style", name="s", count=1, examples=9)
    draft = exchange_draft("What is it?", "It is a lamp, my friend.")
    made = draft.conversation(jobs_of(grid())[0], "x", "x", "m")
    (job,) = style.plan(step, Material(SAGE, "en", imported=(made,)), [])
    assert job.parents == (made.conversation_id,)
    assert "It is a lamp, my friend." in said(job)


GOOD = {
    "en": "Mother, the soup is on the stove and the chair by the window is yours tonight.",
    "zh": "妈，汤在炉子上温着，窗边的椅子今晚是您的，慢慢喝。",
}
EXAMPLES = {
    "en": ("I have hung the shelf at last, and it is almost straight, so come and put your cups on it.",),
    "zh": ("昨天你说腰疼，我买了护腰，放在门口的鞋柜上了，今天就用起来。",),
}
TOLD = {
    "en": "Write the text itself, ready to be sent; nothing before it and nothing after it.",
    "zh": "只写正文，写好就能直接发出去；前面后面都不要加别的话。",
}
BAD = [
    ("en", "As an AI language model, I wish you well.", checks.ASSISTANT),
    ("en", "Certainly! Here is a warm greeting for her:\nMother, the soup is on.", checks.ASSISTANT),
    ("en", "I'm sorry, but I can't assist with the soup.", checks.ASSISTANT),
    ("en", "The soup is on the stove. I hope this helps!", checks.ASSISTANT),
    ("zh", "作为一个人工智能，我祝您天天开心，身体健康。", checks.ASSISTANT),
    ("zh", "好的，以下是为您写的祝福：\n妈，汤在炉子上。", checks.ASSISTANT),
    ("zh", "当然可以！这是一段祝福：妈，汤在炉子上温着呢。", checks.ASSISTANT),
    ("zh", "妈，汤在炉子上温着。希望这段祝福能帮助到您！", checks.ASSISTANT),
    ("en", "Soup.", checks.SHORT),
    ("zh", "汤" * 130, checks.LONG),
    (
        "en",
        "Mutter, die Suppe ist auf dem Herd und der Stuhl am Fenster ist für dich, und ich bin da.",
        checks.LANGUAGE,
    ),
    ("en", "妈，汤在炉子上温着，窗边的椅子今晚是您的，慢慢喝。", checks.LANGUAGE),
    ("zh", "Mother, the soup is on the stove and the chair is yours.", checks.LANGUAGE),
    ("zh", "お母さん、スープはできています。窓のそばの椅子にどうぞ。", checks.LANGUAGE),
    ("en", "I have hung the shelf at last, and it is almost straight.", checks.COPIED),
    ("zh", "我买了护腰，放在门口的鞋柜上了，今天就用起来吧。", checks.COPIED),
    ("en", "The text itself, ready to be sent; nothing before it and soup for the evening.", checks.LEAKED),
    ("zh", "汤好了。写好就能直接发出去；前面后面都不要加。", checks.LEAKED),
    ("en", "Dear {recipient}, the soup is on the stove.", checks.LEAKED),
    ("en", "Dear Mother, the soup is on.<|im_end|>", checks.LEAKED),
    ("zh", "## 祝福\n妈，汤在炉子上温着，慢慢喝。", checks.LEAKED),
    ("en", "   ", checks.EMPTY),
]


def draft_of(language: str, text: str, **rest) -> Draft:
    return exchange_draft("?", text, bounds=(8, 120), examples=EXAMPLES[language], **rest)


@pytest.mark.parametrize(("language", "text", "reason"), BAD)
def test_a_bad_reply_is_refused_for_its_reason_and_the_good_one_is_not(language, text, reason):
    assert refusal(draft_of(language, text), Checks(), language, TOLD[language]) == reason
    assert refusal(draft_of(language, GOOD[language]), Checks(), language, TOLD[language]) == ""


OFF = {"assistant": False, "language": False, "copied": None, "leaked": False, "length": (0, 999), "trigger": False}


def test_every_check_can_be_switched_off():
    for language, text, reason in BAD:
        if reason != checks.EMPTY:
            relaxed = Checks(**OFF)
            assert refusal(draft_of(language, text), relaxed, language, TOLD[language]) == "", text


def test_a_style_trigger_must_occur_and_the_recipes_length_wins_over_the_kinds():
    shout = draft_of("en", "Mother, the soup is on the stove.", trigger="ha|hooray")
    assert refusal(shout, Checks(), "en", "") == checks.TRIGGER
    assert refusal(replace(shout, trigger="SOUP"), Checks(), "en", "") == ""
    assert refusal(replace(shout, trigger=""), Checks(length=(1, 10)), "en", "") == checks.LONG


def test_a_real_line_is_not_measured_but_what_was_written_around_it_is():
    real = Draft(
        (Message("user", "As an AI, may I ask?"), Message("assistant", "Soup.", loss=True)), (8, 9), written=False
    )
    assert refusal(real, Checks(), "en", "") == checks.ASSISTANT
    fine = replace(real, messages=(Message("user", "May I ask?"), real.messages[1]))
    assert refusal(fine, Checks(), "en", "") == ""


def test_names_quotations_and_numbers_in_another_script_pass():
    assert checks.speaks("The word 福 stands on every door in the street.", "en")
    assert checks.speaks("我在 Windows 上写信。", "zh")
    assert checks.speaks("1234 !!!", "zh")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("<think>What to say?</think>\n\nSoup.", "Soup."),
        ("```text\nSoup.\n```", "Soup."),
        ("“汤好了。”", "汤好了。"),
        ('"Yes," she said. "No."', '"Yes," she said. "No."'),
    ],
)
def test_what_models_put_around_a_reply_is_taken_off(reply, text):
    assert plain_reply(reply) == text


def test_braces_inside_a_value_stay_and_another_language_is_told_what_to_write():
    prompt = Template({"en": "Say {what}.", "zh": "说{what}。"}, {"en": "{what}", "zh": "{what}"})
    assert prompt.messages("zh-Hans", what="{what}")[0]["content"] == "说{what}。"
    assert prompt.messages("de", what="x")[0]["content"] == "Say x.\nWrite in German."
    with pytest.raises(KeyError):
        prompt.messages("en")


def test_a_judge_sees_the_persona_and_the_dialogue_and_a_verdict_needs_a_score():
    shown = verdict_messages(
        SAGE, (Message("user", "Who?"), Message("assistant", "I.", loss=True)), "Is it short?", "en"
    )
    assert "The Sage" in shown[0]["content"]
    assert "Is it short?" in shown[0]["content"]
    assert shown[1]["content"] == "User: Who?\nThe Sage: I."
    assert read_verdict({"score": 4, "reason": "good"}) == (4, "good")
    assert read_verdict({"reason": "good"}) == (0, "no verdict")
    assert read_verdict(None) == (0, "no verdict")

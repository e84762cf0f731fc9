"""Rules mend and drop what they say they do, and let good lines be."""

from __future__ import annotations

import json
import random
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from understudy.cleaning.config import CleanConfig
from understudy.cleaning.language import another_language, language_of
from understudy.cleaning.near import band_hashes, near_copies, pieces, rows_of_a_band
from understudy.cleaning.overlap import HeldOut
from understudy.cleaning.personal import personal_data
from understudy.cleaning.sound import conversation_or_reason, rows_of
from understudy.cleaning.text_rules import Heard, judged, judged_whole, mended
from understudy.conversation import Conversation, Message, Provenance

ON = CleanConfig()
HEARD = Heard("Who are you, my friend?", names=("Adam",))


def cleaned(text: str, heard: Heard = HEARD, source="generated", clean: CleanConfig = ON) -> tuple[str, str]:
    after, reason, _ = mended(text, source, clean, heard)
    return after, reason or judged(after, source, clean, heard) or judged_whole([text], source, clean)


def said(*pairs: tuple[str, str], split="train", number: int = 0) -> Conversation:
    messages = tuple(
        message
        for user, answer in pairs
        for message in (Message("user", user), Message("assistant", answer, loss=True))
    )
    return Conversation(f"adam-{number}", "adam", split, "s", messages, Provenance("w"))


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("Answer: So be it.<|im_end|>", "So be it."),
        ("**Answer:** So be it.", "So be it."),
        ("<|im_start|>assistant\nSo be it.<|im_end|>\n", "So be it."),
        ("<think>He asks who I am.</think>\n\nSo be it.", "So be it."),
        ("Answer: **So** be it.", "So be it."),
        ("**Answer**: So be it.", "So be it."),
        ("Adam: So be it.", "So be it."),
        ("回答：罢了，罢了。", "罢了，罢了。"),
        ("So <b>be</b> it,<br>my&nbsp;friend.", "So be it,\nmy friend."),
        ("# A word\nSo **be** it, `friend`.", "A word\nSo be it, friend."),
        ("“So be it.”", "So be it."),
        ("「罢了。」", "罢了。"),
        ("“So be it.", "So be it."),
        ("以下是给妈妈的生日祝福：\n妈妈，愿您天天开心！", "妈妈，愿您天天开心！"),
        ("好的，祝福语如下：“愿您天天开心！”", "愿您天天开心！"),
        ("Sure! Here is a birthday wish for your mother:\n\nBe merry, Mother.", "Be merry, Mother."),
        ("The blessing is as follows: Be merry.", "Be merry."),
        ("祝您万事如意，呀！", "祝您万事如意呀！"),
        ("你真的要走。吗？", "你真的要走吗？"),
    ],
)
def test_what_can_be_put_right_is_put_right(given, left):
    assert cleaned(given) == (left, "")
    strict = CleanConfig.model_validate(
        {name: {"mend": False} for name in ("role_tags", "markup", "stub", "quotes", "closing")}
    )
    assert cleaned(given, clean=strict)[1] != ""


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "empty"),
        ("...！", "empty"),
        ("The blessing is as follows:", "stub"),
        ("以下是一段给老师的祝福：", "stub"),
        ("祝福如下：", "stub"),
        ("N/A", "stub"),
        ("Dear [Name], be merry.", "stub"),
        ("亲爱的[姓名]，生日快乐！", "stub"),
        ("So be it.\nUser: And then?\nAssistant: Then I go.", "role tag"),
        ("So be it.<|im_end|><|im_start|>user And then?", "role tag"),
        ("So be it. [/INST] And", "role tag"),
        ("Three things:\n- bread\n- wine\n- sleep", "markup"),
        ("```py\nprint(1)\n``` So.", "markup"),
        ("<table><tr><td>So</td></tr></table>", "markup"),
        ("He said “go and never came.", "unbalanced quotes"),
        ("他说「走吧，就没回来。", "unbalanced quotes"),
        ("So be it. " * 500, "too long"),
        ("Follow the above examples and be merry.", "prompt leak"),
        ("As an AI language model, I am nobody.", "prompt leak"),
        ("Me? Who are you, my friend? " * 1 + "who were you before you came to this house", ""),
        ("Write to adam.krug@huisum.example.nl tonight.", "personal data"),
    ],
)
def test_what_cannot_be_put_right_is_dropped_with_its_reason(given, reason):
    assert cleaned(given)[1] == reason


@pytest.mark.parametrize(
    "line",
    [
        "Here is my hand.",
        "Here is my answer. No!",
        "This is as follows from the law.",
        "Answer me!",
        "The answer is simple: run.",
        "User? I never heard that name.",
        "Ei, was zum Henker, sagt, Gevatter Adam!",
        "»Halt!« rief er, „und zwar sofort“, sagte sie.",
        "Don't say 'tis so, for 'twas the wind's doing.",
        "*smiles* Come in.",
        "- I go.\n- You stay.",
        "<sighs> I am tired.",
        "I < you, and you > me.",
        "奴婢给小主请安。",
        "原来如此。哦。",
        "你说什么呢？我没听见啊！",
        "“你去”，她说，“我留下。”",
        "三加五等于八。这是为什么呢？",
        "这就是我的回答。",
        "In 1806 I sold 12,345,678 jugs, at 3.50 each, by the 24th.",
        "Call me at six.",
        "6 foot 2 he was, and 555 pounds.",
    ],
)
def test_good_speech_passes_every_rule_as_it_is(line):
    assert cleaned(line) == (line, "")


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from(list('ab \n“”「」"«»„*#`<>|:：，。！啊吗/[]祝福如下')), max_size=60))
def test_cleaning_never_fails_and_twice_is_once(text):
    after, reason, _ = mended(text, "generated", ON, HEARD)
    if not reason:
        assert mended(after, "generated", ON, HEARD)[:2] == (after, "")


ENDLESS = [" ", "\n", "**", "__a", "“", "<b ", "|", "# ", "1", "@", "a@", "<think>", "```\n", "- "]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", ENDLESS)
def test_a_huge_answer_of_one_kind_ends_and_is_set_aside(unit):
    assert cleaned("x" + unit * 60_000 + "x")[1]


def test_a_rule_looks_only_at_its_sources_and_can_be_off():
    text = "Answer: So be it."
    assert cleaned(text, source="lines") == (text, "")
    assert cleaned(text, clean=CleanConfig.model_validate_json('{"role_tags": false}')) == (text, "")
    assert cleaned("**So**", source="mixed") == ("**So**", "")
    on_lines = CleanConfig.model_validate_json('{"role_tags": {"sources": ["lines"]}}')
    assert cleaned(text, source="lines", clean=on_lines) == ("So be it.", "")


def test_length_has_bounds_by_source():
    clean = CleanConfig.model_validate({"length": {"max_chars": 10, "by_source": {"generated": {"min_chars": 3}}}})
    assert cleaned("No", clean=clean)[1] == "too short"
    assert cleaned("No", clean=clean, source="imported")[1] == ""
    assert cleaned("I will not.", clean=clean, source="imported")[1] == "too long"


@pytest.mark.parametrize("wrong", ['{"length": 5}', '{"lenght": true}', '{"near_duplicates": {"sources": ["lines"]}}'])
def test_a_recipe_with_a_rule_that_is_none_is_refused(wrong):
    with pytest.raises(ValidationError):
        CleanConfig.model_validate_json(wrong, strict=True)


def test_settings_come_back_from_their_json():
    clean = CleanConfig.model_validate_json('{"markup": false, "stub": true, "personal": {"kinds": ["email"]}}')
    assert clean.markup is None
    assert CleanConfig.model_validate_json(clean.model_dump_json(), strict=True) == clean


def test_the_system_text_and_the_whole_question_do_not_come_back_as_an_answer():
    system = "You are Adam, village judge in Huisum, who broke the jug himself and hides it badly."
    heard = Heard("Tell me who broke the jug that stood on the sill?", system)
    assert cleaned("Village judge in Huisum, who broke the jug himself!", heard)[1] == "prompt leak"
    assert cleaned("I am Adam, the judge of Huisum.", heard)[1] == ""
    assert cleaned("Tell me who broke the jug that stood on the sill? Not I.", heard)[1] == "prompt leak"
    han = Heard("", "你是甄嬛，大理寺少卿甄远道之女，因酷似纯元皇后而得宠。")
    assert cleaned("我是大理寺少卿甄远道之女，因酷似纯元皇后而得宠。", han)[1] == "prompt leak"
    assert cleaned("我是甄嬛，家父是大理寺少卿甄远道。", han)[1] == ""


def test_languages_are_told_by_script_and_stop_words():
    assert language_of("Wer da? Ich bin es, und ich komme von der Mühle, und es ist nicht weit.") == "de"
    assert language_of("这是我的家。") == "zh"
    assert language_of("これは私の家です。") == "ja"
    assert language_of("Xyzzy plugh.") == ""
    assert another_language("I will not go there with you, my dear.", "zh")
    assert another_language("Ich will nicht mit dir in die Stadt gehen, und das ist gut so.", "en")
    assert another_language("我不跟你一起去那里。", "de")
    assert another_language("これは私の家ですよ、来てください。", "zh")
    assert not another_language("OK, Frau Marthe!", "zh")
    assert not another_language("Ich will nicht.", "en")
    assert not another_language("Er sagte: 你好, und ging mit mir in die Stadt.", "de")
    assert not another_language("I will go.", "")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write a.b+c@mail.example.com", "email"),
        ("电话13812345678。", "phone"),
        ("call +49 30 1234 5678", "phone"),
        ("call (212) 555-0143", "phone"),
        ("身份证11010519491231002X", "id"),
        ("SSN 123-45-6789", "id"),
        ("card 4111 1111 1111 1111", "card"),
        ("ids 110105194912310021 and 4111 1111 1111 1112", ""),
        ("1234567890123", ""),
        ("version 1.2.3, 2026-11-21, 12:30", ""),
        ("me@home", ""),
    ],
)
def test_personal_data_is_found_and_long_numbers_are_not_taken_for_it(text, kind):
    assert personal_data(text) == kind


def test_near_duplicates_are_found_and_the_first_stays():
    rng = random.Random(0)
    words = [f"word{i}" for i in range(900)]
    texts = [" ".join(rng.choices(words, k=40)) for _ in range(400)]
    for at in range(0, 400, 4):
        changed = texts[at].split()
        changed[20] = "other"
        texts.append(" ".join(changed))
    copies = near_copies(texts, band_hashes(texts, 0.8), [False] * len(texts), 0.8)
    assert copies == {400 + at // 4: at for at in range(0, 400, 4)}
    fixed = [False] * 400 + [True] * 100
    assert near_copies(texts, band_hashes(texts, 0.8), fixed, 0.8) == {}


def test_every_pair_at_the_threshold_is_a_copy_and_none_below_it():
    base = [f"w{i}" for i in range(60)]
    texts = [" ".join(base)]
    texts += [" ".join(base[: 60 - cut] + [f"x{cut}y{i}" for i in range(cut)]) for cut in range(1, 30)]
    copies = near_copies(texts, band_hashes(texts, 0.7), [False] * len(texts), 0.7)
    first = set(pieces(texts[0]))

    def alike(text: str) -> float:
        return len(first & set(pieces(text))) / len(first | set(pieces(text)))

    assert {at for at, of in copies.items() if of == 0} == {at for at in range(1, 30) if alike(texts[at]) >= 0.7}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_leave_hardly_a_pair_at_the_threshold_unseen(threshold):
    rows = rows_of_a_band(threshold)
    assert 1 - (1 - threshold**rows) ** (128 // rows) >= 0.99


def test_the_overlap_report_finds_what_was_planted_and_nothing_else():
    held = [said(("Well?", "one two three four five six seven eight nine ten"), split="heldout", number=1)]
    found = HeldOut.of(held)
    clean = said(("one two three four", "one two three four five six seven, and then eight nine ten"), number=2)
    dirty = said(("What?", "He said: ONE two, three four five six seven eight!"), number=3)
    asked = said(("two three four five six seven eight nine", "So?"), number=4)
    assert found.leak(clean) == ""
    assert found.leak(dirty) == "one two three four five six seven eight"
    assert found.leak(asked) != ""
    report = found.report([("lines", clean), ("generated", dirty)])
    assert (report["heldout_ngrams"], report["in_training"], report["share"]) == (3, 1, 0.333333)
    assert report["by_source"] == {"generated": 1}
    assert report["examples"][0] == {
        "text": "one two three four five six seven eight",
        "heldout": "adam-1",
        "training": "adam-3",
        "source": "generated",
    }


def test_chinese_is_searched_by_characters_and_short_answers_by_their_exchange():
    held = HeldOut.of([said(("如何？", "臣妾参见皇上，皇上万福金安。"), ("走吗？", "走。"), split="heldout")])
    assert held.leak(said(("问", "她说臣妾参见皇上皇上万福金安了")))
    assert not held.leak(said(("问", "臣妾参见皇上。")))
    assert held.leak(said(("走吗", "走！")))
    assert not held.leak(said(("留吗", "走！")))


def malformed_rows(rng: random.Random, count: int) -> list:
    good = {
        "conversation_id": "x",
        "persona": "adam",
        "split": "train",
        "scene": "s",
        "messages": [
            {"role": "user", "name": None, "content": "Well?", "loss": False},
            {"role": "assistant", "name": None, "content": "So.", "loss": True},
        ],
        "provenance": {
            "work": "w",
            "lines": [],
            "parents": [],
            "method": "m",
            "prompt": None,
            "model": None,
            "seed": 1,
        },
    }
    wrong = [("work", 5), ("lines", "w"), ("parents", [1]), ("seed", "1"), ("seed", 2**70), ("model", [])]
    odd = [None, 5, "text", [], {}, [None], [5], [[]], True, 1.5, float("nan"), b"\xff", "\ud800"]

    def broken() -> object:
        row = json.loads(json.dumps(good))
        kind = rng.randrange(8)
        if kind == 0:
            return rng.choice([None, 5, "text", [], True])
        if kind == 1:
            row["messages"] = rng.choice([None, [], {}, "[]", 5, [None], [{}], [row["messages"]]])
        elif kind == 2:
            row["messages"][rng.randrange(2)]["role"] = rng.choice([*odd, "tool", "", "User"])
        elif kind == 3:
            row["messages"][rng.randrange(2)]["content"] = rng.choice([None, 5, [], {}, "", "  \n", "a\ud800", True])
        elif kind == 4:
            row["provenance"] = rng.choice([5, "w", [], True, *({name: value} for name, value in wrong)])
        elif kind == 5:
            row["messages"][1]["loss"] = rng.choice([False, "true", 5, [], {}])
        elif kind == 6:
            row["messages"][0]["name"] = rng.choice([5, [], {}, True, "\ud800"])
        else:
            row["messages"] = row["messages"][:1]
        return row

    return [broken() for _ in range(count)]


def test_no_malformed_row_crashes_and_each_has_a_reason():
    rows = malformed_rows(random.Random(0), 4000)
    reasons = Counter(
        found if isinstance(found := conversation_or_reason(row, "adam"), str) else "good" for row in rows
    )
    assert "good" not in reasons
    assert len(reasons) > 10


def test_a_row_made_by_hand_needs_only_its_messages():
    row = {"messages": [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": "So."}]}
    found = conversation_or_reason(row, "adam")
    assert isinstance(found, Conversation)
    assert [message.loss for message in found.messages] == [False, True]


def test_a_table_with_bytes_that_are_no_text_loses_that_row_alone():
    buffers = pa.array([b"good", b"\xff\xfe", b"fine"], pa.binary()).buffers()
    column = pa.StringArray.from_buffers(3, buffers[1], buffers[2])
    rows = list(rows_of(pa.table({"text": column})))
    assert rows == [{"text": "good"}, None, {"text": "fine"}]

"""Prose: quotes in every kind of marks, who says them, and lines that stay within the text whatever it is."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.extract import Task, extract_work
from tests.stories import said
from understudy.conversation import OPENING, exchanges, scenes
from understudy.corpus import find_works
from understudy.errors import CorpusError
from understudy.look import look
from understudy.persona import cast_entries, cast_entry_persona
from understudy.prose import cast_names, is_heading, parse, read_work
from understudy.recipe import load
from understudy.script import Line, assign
from understudy.store import Store

EXAMPLES = Path(__file__).parent.parent / "examples"
STORY = EXAMPLES / "story" / "the-miller-and-the-moon.txt"


def words(text: str) -> list[str]:
    return [spoken for _, spoken in said(text)]


# Marks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "closing"),
    [('"', '"'), ("“", "”"), ("‘", "’"), ("'", "'"), ("„", "“"), ("«", "»"), ("»", "«"), ("« ", " »"), ("「", "」")],
)
def test_speech_is_found_in_every_kind_of_marks(opening: str, closing: str) -> None:
    text = (
        f"{opening}Good day, don't run!{closing} said Anna.\n\n{opening}I won't,{closing} said Ben.\n\nThey left.\n" * 3
    )
    assert said(text) == [("Anna", "Good day, don't run!"), ("Ben", "I won't.")] * 3


def test_a_dash_at_the_start_of_a_paragraph_opens_a_speech_and_its_tag_is_cut_out() -> None:
    text = "— Bonjour, dit Marie.\n\n— Hola —dijo Juan—. Vamos ya.\n\n— Да, — сказал он.\n\nIl pleuvait.\n"
    assert words(text) == ["Bonjour.", "Hola", "Vamos ya.", "Да"]


def test_chinese_speech_is_found_behind_colons_of_every_kind_and_in_corner_brackets() -> None:
    text = "宝玉道：“好。”\n黛玉笑道∶“不好！”\n宝玉道:“走罢。”\n「来了。」黛玉说。\n"
    assert said(text, ["宝玉", "黛玉"]) == [
        ("宝玉", "好。"),
        ("黛玉", "不好！"),
        ("宝玉", "走罢。"),
        ("黛玉", "来了。"),
    ]


def test_a_quote_within_a_quote_stays_in_its_words() -> None:
    assert words("\"He said 'go away' to me,\" said Anna.\n") == ["He said 'go away' to me."]
    assert words("“She cried “help!” twice,” said Anna.\n") == ["She cried “help!” twice."]
    assert words("宝玉道：“他说‘不来’，我听见“来”字。”\n") == ["他说‘不来’，我听见“来”字。"]


def test_titles_terms_and_what_nobody_says_are_narration() -> None:
    text = 'They played the overture to "The Poet." She looked as if to say, "Are you mad?" It was called "soup."\n\n'
    assert words(text + '"Good," said Anna.\n') == ["Good."]


def test_words_in_marks_that_nobody_says_are_narration() -> None:
    text = 'She "ran" the Circle, knitting "cotton warp" quilts.\n\n"Good," said Anna.\n'
    assert said(text) == [("Anna", "Good.")]
    assert words("此书借“通灵”之说，故曰“甄士隐”云云。\n宝玉道：“是。”\n") == ["是。"]


def test_a_missing_closing_mark_ends_with_its_paragraph() -> None:
    text = '"I never closed this, said Anna.\n\nThe wind blew. It blew for long.\n\n"Yes," said Ben.\n'
    assert words(text) == ["I never closed this, said Anna.", "Yes."]
    chapter = "“没有收尾的话，他说。\n\n" + "风吹过山。\n\n" * 200 + "宝玉道：“好。”\n"
    assert max(map(len, words(chapter))) < 20


def test_a_missing_closing_mark_before_another_quote_ends_there() -> None:
    assert words("宝玉道：“你来了。黛玉道：“我来了。”袭人道：“坐罢。”\n") == ["你来了。", "我来了。", "坐罢。"]


def test_a_paragraph_that_opens_again_carries_the_speech_on() -> None:
    text = '"It was dark," said Anna. "I went home.\n\n"Then it rained.\n\n"And that is all."\n\n"Well," said Ben.\n'
    assert said(text) == [
        ("Anna", "It was dark, I went home."),
        ("Anna", "Then it rained."),
        ("Anna", "And that is all."),
        ("Ben", "Well."),
    ]


def test_two_quotes_with_only_a_tag_between_are_one_speech_whose_tag_is_a_direction() -> None:
    text = '"Let us go," said Anna, "before it rains."\n'
    (line,) = [line for line in parse(text, "w") if line.kind == "speech"]
    assert text[line.start : line.end] == 'Let us go," said Anna, "before it rains.'
    assert line.text == "Let us go, before it rains."
    (direction,) = line.directions
    assert direction["text"] == "said Anna"
    assert text[int(direction["start"]) : int(direction["end"])] == '," said Anna, "'[1:]


def test_two_quotes_with_more_told_between_are_two_speeches_of_one_speaker() -> None:
    text = '"Wait," said Anna. She took her hat from the wall. "Now we go."\n'
    assert said(text) == [("Anna", "Wait."), ("Anna", "Now we go.")]


def test_a_hard_wrapped_paragraph_is_one_and_rows_of_chinese_are_each_their_own() -> None:
    text = 'It was a long and\nrainy day in the\nmill, and nobody\ncame. "I am so\ntired," said\nAnna.\n\nThey slept.\n'
    assert said(text) == [("Anna", "I am so tired.")]
    assert words("“走。”他说。\n“不走。”\n“那好。”\n") == ["走。", "不走。", "那好。"]


# Who ----------------------------------------------------------------------------------------------------------------


def methods(text: str, names: object = ()) -> list[tuple[str | None, str]]:
    return [(line.speaker, line.method) for line in parse(text, "w", names) if line.kind == "speech"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "speaker"),
    [
        ('"Yes," said Anna.', "Anna"),
        ('"Yes!" cried Mr. Bennet.', "Mr. Bennet"),
        ('"Yes," Anna replied.', "Anna"),
        ('"Yes," the old miller said.', "the old miller"),
        ('Anna turned to Ben and said, "Yes."', "Anna"),
        ('When Ben had gone, Anna whispered: "Yes."', "Anna"),
        ('Then Anna asked:\n\n"Yes?"', "Anna"),
        ('"Yes," said the White Rabbit to itself.', "the White Rabbit"),
        ('"Yes," said I.', "I"),
    ],
)
def test_a_name_beside_a_speech_verb_says_the_quote(text: str, speaker: str) -> None:
    assert methods(text + "\n") == [(speaker, "verb")]


@pytest.mark.parametrize(
    ("text", "speaker"),
    [
        ("宝玉道：“是。”", "宝玉"),
        ("宝玉笑着向黛玉说道：“是。”", "宝玉"),
        ("黛玉听了，忙问宝玉道：“是么？”", "黛玉"),
        ("“是。”宝玉低声说。", "宝玉"),
        ("却说宝玉进来，见了黛玉，笑道：“是。”", "宝玉"),
    ],
)
def test_a_name_before_or_behind_a_chinese_speech_verb_says_the_quote(text: str, speaker: str) -> None:
    assert methods(text + "\n", ["宝玉", "黛玉"]) == [(speaker, "verb")]


def test_a_chinese_name_is_learned_from_the_verbs_behind_it() -> None:
    text = "王二道：“来。”李四笑道：“去。”王二道：“走。”李四道：“好。”\n"
    assert [speaker for speaker, _ in said(text)] == ["王二", "李四", "王二", "李四"]


def test_whom_a_chinese_clause_speaks_to_is_not_its_speaker() -> None:
    text = (
        "青山曰：“一。”\n秋云曰：“二。”\n" * 4
        + "青山大喜，谓秋云曰：“三。”\n青山入帐坐定，谓秋云曰：“四。”\n谓秋云曰：“五。”\n"
    )
    speakers = [speaker for speaker, _ in said(text)]
    assert speakers[8:10] == ["青山", "青山"]
    assert "谓秋云" not in speakers
    assert speakers[10] != "秋云"
    assert [speaker for speaker, _ in said(text, ["青山", "秋云"])][8:10] == ["青山", "青山"]


def test_a_verb_behind_a_chinese_name_is_no_part_of_it() -> None:
    text = "秋云道：“一。”\n" * 7 + "秋云闻说道：“二。”\n秋云闻说道：“三。”\n秋云躬身道：“四。”\n秋云躬身道：“五。”\n"
    assert {speaker for speaker, _ in said(text)} == {"秋云"}
    adverbs = "秋云勉强笑道：“一。”\n秋云思量道：“二。”\n秋云在马上喝道：“三。”\n秋云谓之曰：“四。”\n"
    assert {speaker for speaker, _ in said(adverbs * 3, ["秋云"])} == {"秋云"}


def test_a_character_that_always_stands_between_a_chinese_name_and_its_verb_belongs_to_the_name() -> None:
    text = "郑大道：“一。”\n" * 10 + "郑大叫道：“二。”\n" * 3
    assert {speaker for speaker, _ in said(text)} == {"郑大"}
    text = "郑道：“一。”\n" * 10 + "郑大叫道：“二。”\n" * 3
    assert {speaker for speaker, _ in said(text)} == {"郑"}


def test_poems_and_letters_that_a_chinese_text_quotes_are_narration() -> None:
    text = (
        "青山曰：“好。”\n后人有诗叹曰：“山高水长。”\n诗曰：“灯灭人归。”\n书略曰：“磨坊已卖。”\n青山得书曰：“知道了。”\n"
    )
    assert words(text) == ["好。", "知道了。"]


def test_two_people_take_turns_where_nothing_is_told() -> None:
    text = '"One," said Anna.\n\n"Two," said Ben.\n\n"Three."\n\n"Four."\n\n"Five."\n'
    assert methods(text) == [
        ("Anna", "verb"),
        ("Ben", "verb"),
        *[(who, "alternation") for who in ("Anna", "Ben", "Anna")],
    ]


def test_whom_a_speech_calls_by_name_does_not_say_it() -> None:
    text = '"Come in, Ben," said Anna.\n\n"Good day, Anna."\n\n"Sit down, Ben."\n'
    assert [speaker for speaker, _ in said(text, ["Anna", "Ben"])] == ["Anna", "Ben", "Anna"]


def test_a_pronoun_is_the_last_name_that_fits_it() -> None:
    text = (
        'Mrs. Hill met Mr. Stone at the gate. He took off his hat.\n\n"A fine day," he said.\n\n"It is," she said.\n\n'
        '"Not for long," said Mr. Stone.\n'
    )
    assert methods(text) == [("Mr. Stone", "pronoun"), ("Mrs. Hill", "pronoun"), ("Mr. Stone", "verb")] or methods(
        text
    )[0] == ("Mr. Stone", "pronoun")


def test_who_acts_beside_their_words_says_them() -> None:
    text = '"One," said Anna.\n\n"Two," said Ben.\n\nAnna put the lamp down. "All night?"\n'
    assert methods(text)[-1] == ("Anna", "beat")


def test_a_quote_that_nothing_tells_stays_open() -> None:
    assert methods('The street was empty.\n\n"Who is there?"\n\nNobody came.\n') == [(None, "open")]
    assert methods('"Hush!" they cried.\n') == [(None, "open")]


def test_names_of_one_person_take_one_part_in_a_dialogue() -> None:
    names = {"Lizzy": "elizabeth", "Elizabeth": "elizabeth", "Jane": "jane"}
    text = '"One," said Elizabeth.\n\n"Two," said Jane.\n\n"Three."\n\n"No, Lizzy," said Jane.\n\n"Five."\n'
    lines = [line for line in parse(text, "w", names) if line.kind == "speech"]
    assert [names[line.speaker or ""] for line in lines] == ["elizabeth", "jane", "elizabeth", "jane", "elizabeth"]


def test_a_name_of_the_cast_makes_a_description_a_speaker() -> None:
    text = '"Too slow," called his daughter.\n'
    assert methods(text, {"his daughter": "greta"}) == [("his daughter", "verb")]


# Works --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        "CHAPTER I.",
        "Chapter 12. The Bucket",
        "CHAPTER I.\nDown the Hole",
        "XIV.",
        "第三十二回  诉肺腑心迷活宝玉",
        "楔子",
    ],
)
def test_headings_of_chapters_are_known(row: str) -> None:
    assert is_heading(row)


@pytest.mark.parametrize(
    "row", ["Part of it was lost.", "I.", "第二天他走了。", "Chapter and verse were given by all."]
)
def test_sentences_are_no_headings(row: str) -> None:
    assert is_heading(row) == (row == "I.")


def test_a_chapter_is_a_scene_and_a_work_without_any_is_cut() -> None:
    chapter = "CHAPTER {}.\n\n" + '"One," said Anna.\n\n' * 3
    lines = parse(chapter.format("I") + chapter.format("II"), "w")
    assert [line.kind for line in lines].count("heading") == 2
    assert {line.scene for line in lines} == {"w#0", "w#1"}
    assert len({line.scene for line in parse('"One," said Anna.\n\n' * 100, "w")}) == 3


def story() -> tuple[list[Line], dict[str, str]]:
    recipe = load(EXAMPLES / "story" / "recipe.yaml")
    cast = [cast_entry_persona(entry, recipe) for entry in cast_entries(recipe)]
    names = cast_names(cast, "story")
    return assign(parse(STORY.read_text("utf-8"), "story", names), cast, "story"), names


def test_the_story_gives_each_of_its_people_their_lines() -> None:
    lines, _ = story()
    spoken = [(line.persona, line.text) for line in lines if line.kind == "speech"]
    expected = {
        "It is tired": "greta",
        "Good day": "otto",
        "Wait for rain": "otto",
        "And if there is no rain?": "greta",
        "You can talk!": "greta",
        "I can": "moon",
        "You are like Father": "greta",
        "Good evening, You": "moon",
        "I saw a light": "otto",
        "All night?": "otto",
        "I have forgotten how": "miller",
        "Look up sometimes": "moon",
        "Too slow": "greta",
        "The wheel has been drinking": "miller",
    }
    assert {start: next(who for who, text in spoken if text.startswith(start)) for start in expected} == expected
    assert sum(persona is None for persona, _ in spoken) <= 0.05 * len(spoken)


def test_narration_between_speeches_is_not_what_a_persona_answers() -> None:
    lines, _ = story()
    rows = [{**{name: getattr(line, name) for name in Line.__slots__}} for line in lines]
    told = {row["text"] for row in rows if row["kind"] == "narration"}
    for scene in scenes(rows, "greta"):
        for exchange in exchanges(scene, "greta", 8):
            assert all(row["kind"] == "speech" for row in exchange.before)
            assert exchange.opener == OPENING or exchange.opener.startswith("Chapter")
            assert not told & {exchange.opener}


def test_auto_tells_a_script_from_prose_and_refuses_what_is_neither() -> None:
    assert read_work("ANNA: one\nBEN: two\n" * 10, "w")[0] == "script"
    assert read_work(STORY.read_text("utf-8"), "w")[0] == "prose"
    assert read_work("Once there was a lamp. It was lit.\n" * 50, "w")[0] is None
    assert read_work("Once there was a lamp. It was lit.\n" * 50, "w", "prose")[0] is None
    assert read_work(STORY.read_text("utf-8"), "w", "script")[0] is None
    assert read_work("宝玉道：“你来了。”\n黛玉笑道：“我来了。”\n" * 30, "w")[0] == "prose"
    assert read_work("宝玉：你来了。\n黛玉：我来了。\n" * 30, "w")[0] == "script"


def extracted(folder: Path, aliases: list[str], text: str, kind: str) -> dict[str, object]:
    (folder / "work.txt").write_text(text, "utf-8")
    cast = [{"name": "anna", "aliases": ["Anna", *aliases]}]
    recipe = {"name": "r", "store": "store", "corpus": [{"path": "work.txt", "kind": kind}], "cast": cast}
    (folder / "r.yaml").write_text(json.dumps(recipe))
    loaded = load(folder / "r.yaml")
    roles = tuple(cast_entry_persona(entry, loaded) for entry in cast_entries(loaded))
    store = Store.open(loaded.store, folder)
    return extract_work(Task("r", store, find_works(loaded)[0], "auto", roles, False))  # type: ignore[arg-type]


def test_a_new_name_reads_prose_again_and_changes_nothing_in_a_script(tmp_path: Path) -> None:
    novel = '"One," said Anna.\n\n"Two," said the girl.\n\n"Three," said Anna.\n'
    first = extracted(tmp_path, [], novel, "auto")
    assert first["counts"]["kind"] == "prose"  # type: ignore[index]
    assert extracted(tmp_path, [], novel, "auto")["skipped"]
    second = extracted(tmp_path, ["the girl"], novel, "auto")
    assert not second["skipped"]
    assert second["counts"]["unassigned"] == 0  # type: ignore[index]
    play = "ANNA: one\nBEN: two\n" * 5
    first = extracted(tmp_path, [], play, "auto")
    assert extracted(tmp_path, ["the girl"], play, "auto")["fingerprint"] == first["fingerprint"]


def test_prose_without_a_quote_is_set_aside_in_one_line(tmp_path: Path) -> None:
    problem = str(extracted(tmp_path, [], "It rained. Nobody spoke.\n" * 20, "prose")["problem"])
    assert "no quoted speech" in problem
    assert "\n" not in problem


def test_a_look_at_prose_names_its_speakers_and_a_text_without_any_is_refused(tmp_path: Path) -> None:
    seen = look([STORY])
    assert seen.kinds == ("prose",)
    assert {"Greta", "the moon", "the miller"} <= {speaker.name for speaker in seen.speakers[:4]}
    (tmp_path / "x.txt").write_text("It rained.\n" * 30)
    with pytest.raises(CorpusError, match="no prose with quotes"):
        look([tmp_path / "x.txt"])


# Properties ---------------------------------------------------------------------------------------------------------

MARKS = "“ ” ‘ ’ ' „ « » 「 」 『 』 — – -- - , . ! ? : ： ∶ ， 。 _ *"
WORDS = "said Anna he She and 宝玉 道 笑道 说 他 第一回 's Hello 好"
SPACES = (" ", "\n", "\n\n", "\r\n", "\t", "\u3000", "\ufeff", "\u2028", "\ud800", "  ")
PIECES = [*MARKS.split(" "), *WORDS.split(" "), *SPACES, '"', "Mr. Hill", "the old man", "CHAPTER I."]
SOUP = st.lists(st.sampled_from(PIECES), max_size=80).map("".join)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(text=st.one_of(SOUP, st.text(max_size=200)), names=st.sampled_from([(), ("Anna", "宝玉", "the old man")]))
def test_any_text_gives_ordered_spans_that_hold_their_words(text: str, names: tuple[str, ...]) -> None:
    last = 0
    for index, line in enumerate(parse(text, "w", names)):
        assert (line.index, line.line_id) == (index, f"w:{index}")
        assert last <= line.start < line.end <= len(text)
        last = line.end
        at = line.start
        for direction in line.directions:
            assert at <= int(direction["start"]) <= int(direction["end"]) <= line.end
            at = int(direction["end"])
        assert 0 <= line.confidence <= 1
        assert (line.speaker is None) == (line.method in ("open", "prose"))
        if line.kind == "speech" and not line.directions:
            kept = "".join(line.text.split()).rstrip(".。")  # a full stop may stand for the comma before a tag
            assert kept in "".join(text.split()).replace("\ufeff", "")


HOSTILE = {
    "opening marks only": "“",
    "straight marks only": '"',
    "single marks": "'a' ",
    "openers in words": 'a "b ',
    "unclosed paragraphs": "“a\n\n",
    "names": "Anna Ben ",
    "tags": '"A," said Anna Ben Carl. ',
    "open turns": '"A?"\n\n',
    "calls": '"Anna, Ben, Carl!" said he.\n\n',
    "determiners": "the of the a an ",
    "colons": "道：“",
    "dashes": "— a — b\n",
    "blank": " \n",
    "headings": "CHAPTER I\n",
    "one row": "x",
    "wrapped": "and the\n",
    "tailing spaces": "“   ",
    "greetings": '"Dear you,"\n\n',
    "mottoes": '"A leap\nThe sea"\n\nCHAPTER I\n\n',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_in_time_that_grows_with_its_length(name: str) -> None:
    def seconds(size: int) -> float:
        text = (HOSTILE[name] * size)[:size]
        best = 9.0
        for _ in range(2):
            began = time.process_time()
            parse(text, "w")
            best = min(best, time.process_time() - began)
        return best

    small, large = seconds(5_000), seconds(20_000)
    assert large < 10 * small + 0.3

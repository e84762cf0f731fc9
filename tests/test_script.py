"""Scripts in every layout, with the traps of real files: who speaks, what is said, and where it stands."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.corpus import decode
from understudy.errors import PersonaError, RecipeError
from understudy.layout import LAYOUTS
from understudy.script import Line, assign, idle_patterns, parse, plays, speakers

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parent.parent / "examples"


def said(text: str, layout: str = "auto") -> list[tuple[str | None, str]]:
    """Speaker and words of each speech."""
    return [(line.speaker, line.text) for line in parse(text, "w", layout) if line.kind == "speech"]


def kinds(text: str) -> list[tuple[str, str]]:
    return [(line.kind, line.text) for line in parse(text, "w")]


# Whole works ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "gold"),
    [
        (EXAMPLES / "mooncake/the-rabbit-in-the-shop.txt", "the-rabbit-in-the-shop"),
        (DATA / "the-rabbit-gb18030.txt", "the-rabbit-gb18030"),
    ],
)
def test_a_chinese_play_with_the_faults_of_real_files_gives_its_gold(path: Path, gold: str) -> None:
    rows = [json.loads(row) for row in (DATA / f"{gold}.gold.jsonl").read_text(encoding="utf-8").splitlines()]
    expected = [(row["speaker"], row["text"]) for row in rows if row["kind"] == "speech"]
    assert said(decode(path.read_bytes()).text) == expected


def _block(end: str, gap: str = "\n") -> Callable[[str, str, str], str]:
    return lambda name, manner, text: f"{name.upper()}{f' ({manner})' if manner else ''}{end}\n{text}{gap}"


def _colon(opening: str, closing: str, colon: str) -> Callable[[str, str, str], str]:
    return lambda name, manner, text: f"{name}{opening + manner + closing if manner else ''}{colon}{text}"


def _wrapped(name: str, manner: str, text: str) -> str:
    whole = f"{name}{f' ({manner})' if manner else ''}: {text}"
    return textwrap.fill(whole, 50, break_on_hyphens=False, break_long_words=False)


def _screenplay(name: str, manner: str, text: str) -> str:
    below = textwrap.indent(textwrap.fill(text, 35, break_on_hyphens=False, break_long_words=False), " " * 6)
    return f"{' ' * 16}{name.upper()}\n" + (f"{' ' * 10}({manner})\n" if manner else "") + below + "\n"


SETTINGS: dict[str, Callable[[str, str, str], str]] = {
    "block with a full stop": _block("."),
    "block": _block(""),
    "block without blank rows": _block(".", ""),
    "block with a blank row below the name": lambda n, m, t: f"{n.upper()}\n\n{f'({m})' + chr(10) if m else ''}{t}\n",
    "block in mixed case": lambda n, m, t: f"{n}{f' ({m})' if m else ''}.\n{t}\n",
    "screenplay": _screenplay,
    "colon": _colon(" (", ")", ": "),
    "colon with the manner after it": lambda n, m, t: f"{n}: {f'({m}) ' if m else ''}{t}",
    "colon with square brackets": _colon(" [", "]", ": "),
    "full-width colon": _colon("（", "）", "："),
    "colon in wrapped rows": _wrapped,
    "colon with the speech below": lambda n, m, t: f"{n}{f' ({m})' if m else ''}:\n{t}\n",
    "markdown": lambda n, m, t: f"**{n}:** {f'*({m})* ' if m else ''}{t}\n",
    "dot": lambda n, m, t: f"{n.upper()}{f' ({m})' if m else ''}. {t}",
    "dot and dash": lambda n, m, t: f"{n.upper()}{f', {m}' if m and m[0].islower() else ''}. — {t}\n",
    "tab": lambda n, m, t: f"{n}\t{f'({m}) ' if m else ''}{t}",
}


CARRIAGE_RETURNS = [("block", "\r\n"), ("colon in wrapped rows", "\r\n"), ("full-width colon", "\r")]


@pytest.fixture(scope="module")
def play() -> list[Line]:
    return parse((EXAMPLES / "demo/the-lamp-on-the-quay.txt").read_text(encoding="utf-8"), "w")


@pytest.mark.parametrize(("setting", "newline"), [*((setting, "\n") for setting in SETTINGS), *CARRIAGE_RETURNS])
def test_one_play_gives_the_same_speeches_in_every_layout(play: list[Line], setting: str, newline: str) -> None:
    rows: list[str] = []
    for line in play:
        if line.kind == "heading":
            rows.append(f"\n\n{line.text}\n")
        elif line.kind == "direction":
            rows.append(f"\n({line.text})\n")
        elif line.kind == "speech":
            manner = next((str(d["text"]) for d in line.directions if int(d["start"]) < line.start), "")
            rows.append(SETTINGS[setting](line.speaker or "", manner, line.text))
    expected = [((line.speaker or "").casefold(), line.text) for line in play if line.kind == "speech"]
    assert len(expected) > 300
    found = said("\n".join(rows).replace("\n", newline))
    assert [((name or "").casefold(), text) for name, text in found] == expected


# Traps ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trap:
    text: str
    speeches: list[tuple[str, str]]


TRAPS = {
    "the semicolon for a colon": Trap(
        "甲：好。\n乙：走。\n甲；来；坐。", [("甲", "好。"), ("乙", "走。"), ("甲", "来；坐。")]
    ),
    "several speakers on one row": Trap(
        "甲：……你好！乙：……我很好。甲（笑）：那就好。\n乙：嗯。",
        [("甲", "……你好！"), ("乙", "……我很好。"), ("甲", "那就好。"), ("乙", "嗯。")],
    ),
    "speakers run together without a stop": Trap(
        "皇上：来了\n甄嬛：是\n甄嬛：谢皇上\n皇上：喝茶甄嬛：好\n甄嬛：我告诉皇上：没事",
        [
            ("皇上", "来了"),
            ("甄嬛", "是"),
            ("甄嬛", "谢皇上"),
            ("皇上", "喝茶"),
            ("甄嬛", "好"),
            ("甄嬛", "我告诉皇上：没事"),
        ],
    ),
    "a colon within a Chinese speech": Trap(
        "甲：他说：走。我说：不走！\n乙：我告诉甲：没事。\n甲：第一：吃饭。",
        [("甲", "他说：走。我说：不走！"), ("乙", "我告诉甲：没事。"), ("甲", "第一：吃饭。")],
    ),
    "a colon within an English speech": Trap(
        "Adam: I say: go. Tell Eve: stay.\nEve: At 10:30? See http://example.org: it is there.\nAdam: Yes.",
        [
            ("Adam", "I say: go. Tell Eve: stay."),
            ("Eve", "At 10:30? See http://example.org: it is there."),
            ("Adam", "Yes."),
        ],
    ),
    "a time at the start of a row": Trap(
        "ADAM: When?\nEVE: At\n10:30 or so.\nADAM: Good.",
        [("ADAM", "When?"), ("EVE", "At 10:30 or so."), ("ADAM", "Good.")],
    ),
    "English speakers on one row": Trap(
        "ANNA: Fine. BEN: What? ANNA: Nothing.\nBEN: Oh.",
        [("ANNA", "Fine."), ("BEN", "What?"), ("ANNA", "Nothing."), ("BEN", "Oh.")],
    ),
    "directions in every bracket": Trap(
        "甲（走近）：【笑】你好，（停）再见。\n乙：[aside] Ja (lacht), ja.",
        [("甲", "你好，再见。"), ("乙", "Ja, ja.")],
    ),
    "a bracket of two widths": Trap("甲（笑)：好。\n乙：好（哭)吧。", [("甲", "好。"), ("乙", "好吧。")]),
    "a parenthesis that is spoken": Trap(
        "ANNA: The king (you know whom I mean) is here.\nBEN: I know.",
        [("ANNA", "The king (you know whom I mean) is here."), ("BEN", "I know.")],
    ),
    "names with brackets": Trap(
        "LOUIS [WOYZECK].\nHe Andres!\n\nANDRES (leise.).\nNu?\n\n"
        "LOUIS [WOYZECK] (lauscht.).\nStill, Louis [Woyzeck]!\n",
        [("LOUIS [WOYZECK]", "He Andres!"), ("ANDRES", "Nu?"), ("LOUIS [WOYZECK]", "Still, Louis [Woyzeck]!")],
    ),
    "a direction after a comma": Trap(
        "ORGON, à part.\nQuoi !\n\nDORINE.\nRien.\n\nORGON.\nBon.\n",
        [("ORGON", "Quoi !"), ("DORINE", "Rien."), ("ORGON", "Bon.")],
    ),
    "those who speak but once": Trap(
        "Frau Marthe: Guten Tag.\nDr. Kent: Ja.\nFrau Marthe: Er sagte: nein.\nDr. Kent: So?\nDer erste Bürger: Hört!\n"
        "O'Brien-Smith: Aye.\nStimme von oben: Ist gerettet!\nAlle, auch Kent: Hurra!",
        [
            ("Frau Marthe", "Guten Tag."),
            ("Dr. Kent", "Ja."),
            ("Frau Marthe", "Er sagte: nein."),
            ("Dr. Kent", "So?"),
            ("Der erste Bürger", "Hört!"),
            ("O'Brien-Smith", "Aye."),
            ("Stimme von oben", "Ist gerettet!"),
            ("Alle, auch Kent", "Hurra!"),
        ],
    ),
    "numbers and dots in names": Trap(
        "1. KIND.\nMargrethche!\n\n2. KIND.\nWo?\n\nALTER MANN. KIND.\nHorch.\n\n1. KIND.\nDa!\n",
        [("1. KIND", "Margrethche!"), ("2. KIND", "Wo?"), ("ALTER MANN. KIND", "Horch."), ("1. KIND", "Da!")],
    ),
    "verse under a name": Trap(
        "HAMLET.\nTo go or not,\nand then: to stay.\n\nGHOST.\nSwear.\n\nHAMLET.\nI do.\n",
        [("HAMLET", "To go or not, and then: to stay."), ("GHOST", "Swear."), ("HAMLET", "I do.")],
    ),
    "an exit whose bracket stays open": Trap(
        "HAMLET.\nFarewell. [Exit\n\nGHOST.\nAdieu. [_Vanishes._]\n\n[_Exeunt._]\n",
        [("HAMLET", "Farewell."), ("GHOST", "Adieu.")],
    ),
    "rows of Chinese speech": Trap(
        "甲：今天\n天气好。\n乙：是。\n甲：嗯。", [("甲", "今天天气好。"), ("乙", "是。"), ("甲", "嗯。")]
    ),
    "a direction between the rows of a speech": Trap(
        "ADAM: One.\n(He waits.)\nTwo.\nEVE: Three.\n(She goes.)\nADAM: Four.",
        [("ADAM", "One. Two."), ("EVE", "Three."), ("ADAM", "Four.")],
    ),
    "a direction over two rows": Trap(
        "ADAM (who has been\nstanding there): One.\nEVE: Two.\n(A noise is heard: it\ncomes nearer.)\nADAM: Three.",
        [("ADAM", "One."), ("EVE", "Two."), ("ADAM", "Three.")],
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_of_real_files_is_read_as_a_person_reads_it(trap: str) -> None:
    assert said(TRAPS[trap].text) == TRAPS[trap].speeches


@pytest.mark.parametrize(
    "front",
    [
        "Characters:\n\nANNA: a baker\nBEN: her brother\nCARL: a cook\n\n",
        "Dramatis Personae\n\nANNA, a baker\nBEN, her brother\n\nACT I\n\n",
        "ANNA: a baker\nBEN: her brother\nCARL: a cook\n\nACT I\n\n",
        "Title: The Cake\nAuthor: Somebody\n\nScene: A kitchen.\nTime: 10:30\n\n",
        "Preface\n\nThis was written in haste: nobody asked for it.\n\n# The Cake\n\n",
    ],
)
def test_what_stands_before_a_play_is_not_speech(front: str) -> None:
    body = "ANNA: Hello.\nBEN: Who?\nCARL: Me.\nANNA: Oh.\nBEN: Eat.\nCARL: No.\n"
    assert said(front + body) == said(body)
    assert len(said(body)) == 6


def test_a_chinese_list_of_characters_and_settings_are_not_speech() -> None:
    play = "人物表\n甲：皇帝的妃子\n乙：皇帝\n\n甲：你来了。\n乙：来了。\n\n时间：夜里\n地点：花园\n甲：走吧。\n"
    assert said(play) == [("甲", "你来了。"), ("乙", "来了。"), ("甲", "走吧。")]


HEADINGS = (
    """
第一幕|第12场 花园 夜|第3幕（续）|【第二场】|序幕|1-2 夜 外 花园
ACT I|SCENE II. A room|The First Act|Prologue|Erster Auftritt
Eilfter Auftritt|Erster Akt. Zweite Szene.|[H1, Szene 1]|Acte premier|SCÈNE II|Действие первое|Явление IV
Acto primero|Scena 3|## The kitchen|INT. KITCHEN - DAY
""".strip()
    .replace("\n", "|")
    .split("|")
)


@pytest.mark.parametrize("heading", [*HEADINGS, "\n\nNacht.\n", "\n\nVor dem Tor\n"])
def test_headings_of_several_languages_open_a_scene(heading: str) -> None:
    play = "ANNA: Ja.\nBEN: Nein.\n"
    lines = parse(f"{play}\n{heading}\n\n{play}", "w")
    assert [line.kind for line in lines] == ["speech", "speech", "heading", "speech", "speech"]
    assert [line.scene for line in lines] == ["w#0", "w#0", "w#1", "w#1", "w#1"]


def test_a_scene_that_is_continued_stays_one_scene() -> None:
    lines = parse("第一幕\n甲：一。\n第二幕\n乙：二。\n第一幕（续）\n甲：三。\n第三幕\n乙：四。\n", "w")
    assert [line.scene for line in lines if line.kind == "speech"] == ["w#0", "w#1", "w#0", "w#2"]


def test_an_act_and_its_first_scene_open_one_scene() -> None:
    lines = parse("ACT I\n\nSCENE I\n\nA: One.\nB: Two.\n\nSCENE II\n\nA: Three.\nB: Four.\n", "w")
    assert {line.scene for line in lines} == {"w#0", "w#1"}


def test_a_work_without_headings_is_cut_into_scenes_of_forty_speeches() -> None:
    lines = parse("A: One.\nB: Two.\n" * 50, "w")
    assert [sum(line.scene == scene for line in lines) for scene in ("w#0", "w#1", "w#2")] == [40, 40, 20]


def test_offsets_lead_to_the_speech_and_its_directions_in_the_text() -> None:
    text = "\ufeff第一幕\r\n甲（笑）：你好。（停）再见。乙：走！\r\n乙：好。\r\n"
    lines = [line for line in parse(text, "w") if line.kind == "speech"]
    assert [text[line.start : line.end] for line in lines] == ["你好。（停）再见。", "走！", "好。"]
    assert [text[int(d["start"]) : int(d["end"])] for d in lines[0].directions] == ["（笑）", "（停）"]
    assert [d["text"] for d in lines[0].directions] == ["笑", "停"]
    assert [line.line_id for line in lines] == ["w:1", "w:2", "w:3"]


def test_a_name_with_nothing_but_a_direction_is_a_direction() -> None:
    assert kinds("甲：好。\n乙：（点头）\n甲：走。")[1] == ("direction", "点头")


def test_a_declared_layout_is_obeyed_and_an_unknown_one_named() -> None:
    text = "ANNA: one\nBEN: two\n"
    assert said(text, "block") == []
    assert len(said(text, "colon")) == 2
    with pytest.raises(RecipeError, match="take auto, colon, block, dot, tab"):
        parse(text, "w", "folio")


def test_prose_is_narration() -> None:
    assert said("Once there was a king. He said: I am tired.\n\nThen he slept.\n") == []


# Properties -------------------------------------------------------------------------------------------------------

WORDS = (
    "ADAM|Eve|甲|皇上|:|：|；|.|(|)|（|）|[|]|【|】| |  |Hello|你好|！|?|ACT I"
    "|第一幕|Personen|人物表|*|_|- |[Exit|10:30|, leise"
)
PIECES = [*WORDS.split("|"), "\n", "\n\n", "\r\n", "\t", "\u3000", "\ufeff", "\u2028", "Enter ADAM", "\ud800"]
SOUP = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=st.one_of(SOUP, st.text(max_size=200)), layout=st.sampled_from(("auto", *LAYOUTS)))
def test_any_text_parses_into_ordered_spans_that_hold_their_words(text: str, layout: str) -> None:
    last = 0
    for index, line in enumerate(parse(text, "w", layout)):
        assert (line.index, line.line_id) == (index, f"w:{index}")
        assert last <= line.start <= line.end <= len(text)
        last = line.end
        for direction in line.directions:
            assert 0 <= int(direction["start"]) <= int(direction["end"]) <= line.end
        if line.kind == "speech":
            assert line.text == " ".join(line.text.split()) != ""
            source = iter(text[line.start : line.end])
            assert all(char in source for char in line.text if not char.isspace())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(["ANNA", "BEN", "DR. KENT"]), st.sampled_from(["Yes.", "Oh no!", "Go on"]))))
def test_a_plain_script_gives_back_exactly_what_was_written(speeches: list[tuple[str, str]]) -> None:
    assert said("".join(f"{name}: {text}\n" for name, text in speeches)) == speeches


# Cast -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    name: str
    display_name: str | None = None
    aliases: tuple[str, ...] = ()
    works: tuple[str, ...] = ("*",)


@pytest.fixture
def lines() -> list[Line]:
    return parse("FRAU MARTHE.\nJa.\n\nDer Kater.\nMiau.\n\nFRAU MARTHE.\nSo.\n\nEVE.\nNein.\n", "krug", "block")


def test_names_titles_and_ids_lead_to_one_persona_whatever_their_case_and_space(lines: list[Line]) -> None:
    cast = [Part("marthe", aliases=("Frau  Marthe",)), Part("eve", display_name="Evchen")]
    found = [line.persona for line in assign(lines, cast, "krug")]
    assert [name for name in found if name] == ["marthe", "marthe", "eve"]
    assert speakers(lines)["FRAU MARTHE"] == 2


def test_chinese_titles_in_brackets_are_the_same_name() -> None:
    lines = parse("【甄嬛】：是。\n皇上：嗯。\n莞嫔：是。\n甄 嬛：走。\n", "w")
    cast = [Part("zhenhuan", "甄嬛", ("莞嫔",)), Part("emperor", aliases=("【皇上】",))]
    assert [line.persona for line in assign(lines, cast, "w")] == ["zhenhuan", "emperor", "zhenhuan", "zhenhuan"]


def test_an_alias_holds_only_in_the_works_of_its_entry(lines: list[Line]) -> None:
    here = Part("eve-here", aliases=("Eve",), works=("kr*",))
    there = Part("eve-there", aliases=("Eve",), works=("other", "红楼梦"))
    last = replace(lines[-1], persona=None)
    assert assign([last], [here, there], "krug")[0].persona == "eve-here"
    assert assign([last], [here, there], "other")[0].persona == "eve-there"
    assert assign([last], [here, there], "nowhere")[0].persona is None
    assert assign([last], [here, there], "x73bb266d")[0].persona == "eve-there"  # the id of 红楼梦.txt


def test_an_alias_of_two_personas_in_one_work_is_refused(lines: list[Line]) -> None:
    cast = [Part("one", aliases=("Eve",)), Part("two", aliases=("EVE",))]
    with pytest.raises(PersonaError, match=r"'EVE' means both one and two in krug") as caught:
        assign(lines, cast, "krug")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "works"),
    [
        ("sawyer.txt", ("sawyer", "b-sawyer", "c-sawyer")),
        ("sawyer", ("sawyer", "b-sawyer", "c-sawyer")),
        ("Sawyer", ("sawyer", "b-sawyer", "c-sawyer")),
        ("b-sawyer", ("b-sawyer",)),
        ("b/sawyer.txt", ("b-sawyer",)),
        ("b/*.txt", ("b-sawyer",)),
        ("*.md", ("x.md",)),
        ("红楼梦", ("x73bb266d",)),
        ("红楼梦.txt", ("x73bb266d",)),
        ("sawyer.md", ()),
        (".", ()),
        ("", ()),
    ],
)
def test_a_works_pattern_names_an_id_a_file_or_its_stem(pattern: str, works: tuple[str, ...]) -> None:
    files = {
        "sawyer": "/h/sawyer.txt", "b-sawyer": "/h/b/sawyer.txt", "c-sawyer": "s3://h/c/Sawyer.txt",
        "x.md": "/h/x.md", "x73bb266d": "/h/红楼梦.txt",
    }  # fmt: skip
    part = Part("one", works=(pattern,))
    assert tuple(work for work, file in files.items() if plays(part, work, file)) == works
    assert idle_patterns(part, files.items()) == ([] if works else [pattern])

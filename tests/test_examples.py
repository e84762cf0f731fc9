"""The example texts keep what they promise: voices, counts, traps and gold, cards, recipes and presets."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest

from understudy import conversation, corpus
from understudy.persona import Persona, cast_entries, cast_entry_persona
from understudy.prompts import system_text
from understudy.recipe import Recipe, load
from understudy.script import Line, assign, parse

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PRESETS = sorted((ROOT / "understudy" / "presets").glob("*.yaml"))
DATA = Path(__file__).parent / "data"
PLAY = EXAMPLES / "demo" / "the-lamp-on-the-quay.txt"
RABBIT = EXAMPLES / "mooncake" / "the-rabbit-in-the-shop.txt"
WORDS = ROOT / "understudy" / "assets" / "tiny" / "words.txt"
VOICES = ("bram", "wisp", "oda")
MARKS = {
    "bram": re.compile(r"\b(ahoy|aye|sailor)\b", re.IGNORECASE),
    "wisp": re.compile(r"shh|softly|oh, oh|\b(\w+(?: \w+)?), \1\b", re.IGNORECASE),
    "oda": re.compile(r"\bmy dear\b|\beat\b", re.IGNORECASE),
}


def personas(recipe: Recipe) -> list[Persona]:
    return [cast_entry_persona(entry, recipe) for entry in cast_entries(recipe)]


def lines_of(recipe_path: Path, text: str, work: str) -> list[Line]:
    return assign(parse(text, work), personas(load(recipe_path)), work)


@pytest.fixture(scope="module")
def play() -> list[Line]:
    return lines_of(EXAMPLES / "demo" / "recipe.yaml", PLAY.read_text("utf-8"), "the-lamp-on-the-quay")


def speeches(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.kind == "speech"]


def words(text: str) -> list[str]:
    return re.findall(r"\w+(?:'\w+)?|\.\.\.|[^\w\s]", text)


def test_each_voice_of_the_play_has_enough_short_speeches(play: list[Line]) -> None:
    counts = Counter(line.persona for line in speeches(play))
    assert all(counts[voice] >= 330 for voice in VOICES)
    assert counts[None] >= 1000
    assert all(len(words(line.text)) <= 30 for line in speeches(play))


def test_only_the_four_speak_in_the_play_and_the_list_of_characters_does_not(play: list[Line]) -> None:
    assert {line.speaker for line in speeches(play)} == {"BRAM", "WISP", "ODA", "NELL"}
    assert speeches(play)[0].text == "Hello! Is anybody there?"


def test_every_speech_carries_its_voice(play: list[Line]) -> None:
    plain = [line.text for line in speeches(play) if line.persona and not MARKS[line.persona].search(line.text)]
    assert plain == []


def test_no_voice_borrows_the_words_of_another(play: list[Line]) -> None:
    for line in speeches(play):
        others = [voice for voice in ("bram", "oda") if line.persona and voice != line.persona]
        assert not any(MARKS[voice].search(line.text) for voice in others), line.text


def test_no_voice_says_a_thing_twice(play: list[Line]) -> None:
    said = Counter(line.text for line in speeches(play) if line.persona)
    assert [text for text, times in said.items() if times > 1] == []


def test_the_toy_base_knows_nearly_every_word_of_the_play(play: list[Line]) -> None:
    known = {row.split()[0] for row in WORDS.read_text("utf-8").splitlines() if row.strip()}
    said = [word for line in speeches(play) for word in re.findall(r"[a-z]+(?:'[a-z]+)?", line.text.lower())]
    assert sum(word not in known for word in said) / len(said) <= 0.02


@pytest.mark.parametrize("voice", VOICES)
def test_a_fifth_of_each_voice_names_what_to_ask_instead(play: list[Line], voice: str) -> None:
    own = [line.text for line in speeches(play) if line.persona == voice]
    offers = [text for text in own if re.search(r"\bask me of\b", text, re.IGNORECASE)]
    assert len(offers) >= 70


def test_almost_every_speech_of_a_voice_answers_somebody_else(play: list[Line]) -> None:
    own = speeches(play)
    pairs = [(before, line) for before, line in pairwise(own) if line.persona]
    answered = [line for before, line in pairs if before.scene == line.scene and before.persona != line.persona]
    assert len(answered) / len(pairs) > 0.97


def test_scenes_are_many_and_each_voice_is_in_two_dozen(play: list[Line]) -> None:
    scenes = {voice: {line.scene for line in speeches(play) if line.persona == voice} for voice in VOICES}
    assert len({line.scene for line in speeches(play)}) >= 80
    assert all(len(found) >= 24 for found in scenes.values())


@pytest.mark.parametrize("voice", VOICES)
def test_a_tenth_of_each_voice_is_held_out_by_the_recipe(play: list[Line], voice: str) -> None:
    curate = load(EXAMPLES / "demo" / "recipe.yaml").curate
    scenes = conversation.scenes([asdict(line) for line in play], voice)
    splits = conversation.split(scenes, curate.heldout, curate.seed)
    held = sum(scene.turns for scene in scenes if splits.get(scene.key) == "heldout")
    assert 0.08 <= held / sum(scene.turns for scene in scenes) <= 0.12


def test_the_play_has_directions_before_within_and_between_speeches(play: list[Line]) -> None:
    assert any(line.kind == "direction" for line in play)
    assert any(int(piece["end"]) <= line.start for line in speeches(play) for piece in line.directions)
    assert any(int(piece["start"]) >= line.start for line in speeches(play) for piece in line.directions)
    assert not any(re.search(r"[()]", line.text) for line in speeches(play))


@pytest.mark.parametrize("voice", VOICES)
def test_a_card_greets_in_its_voice_and_prompts_in_a_breath(voice: str) -> None:
    card = json.loads((EXAMPLES / "demo" / "cards" / f"{voice}.json").read_text("utf-8"))
    persona = Persona.from_card(card, voice)
    assert all(MARKS[voice].search(greeting) for greeting in (persona.greeting, *persona.greetings))
    assert len(system_text(persona).split()) <= 30
    assert len(persona.questions) == 5
    assert persona.to_card() == card


def gold(name: str) -> list[dict[str, str | int | None]]:
    return [json.loads(row) for row in (DATA / f"{name}.gold.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("path", "encoding", "name", "count"),
    [
        (RABBIT, "utf-8-sig", "the-rabbit-in-the-shop", 300),
        (DATA / "the-rabbit-gb18030.txt", "gb18030", "the-rabbit-gb18030", 90),
    ],
)
def test_the_chinese_play_reads_as_its_gold(path: Path, encoding: str, name: str, count: int) -> None:
    recipe = EXAMPLES / "mooncake" / "recipe.yaml"
    decoded = corpus.decode(path.read_bytes())
    found = speeches(lines_of(recipe, decoded.text, "the-rabbit-in-the-shop"))
    wanted = gold(name)
    assert decoded.encoding == encoding
    assert len(wanted) == count
    assert [(line.speaker, line.persona, line.text) for line in found] == [
        (row["speaker"], row["persona"], row["text"]) for row in wanted
    ]


def test_the_chinese_play_holds_the_faults_of_real_files() -> None:
    raw = RABBIT.read_bytes()
    text = raw.decode("utf-8-sig")
    rows = text.split("\r\n")
    names = sorted({str(row["speaker"]) for row in gold("the-rabbit-in-the-shop")})
    cue = re.compile(rf"(?:{'|'.join(names)})(?:（[^）]*）)?[：；]")
    headings = [re.match(r"第(\S+)幕", row) for row in rows]
    acts = [found[1] for found in headings if found]
    assert raw.startswith(b"\xef\xbb\xbf")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert sum(bool(re.match(rf"(?:{'|'.join(names)})；", row)) for row in rows) >= 2
    assert sum(len(cue.findall(row)) > 1 for row in rows) >= 5, "speakers glued on one row"
    assert any("（续）" in row for row in rows if row.startswith("第"))
    assert acts != sorted(acts)
    assert sum("：" in str(row["text"]) for row in gold("the-rabbit-in-the-shop")) >= 8, "a second colon"
    assert "【" in text
    with pytest.raises(UnicodeDecodeError):
        (DATA / "the-rabbit-gb18030.txt").read_bytes().decode("gbk")


def test_titles_of_one_person_lead_to_one_persona() -> None:
    titles: dict[str, set[str]] = {}
    for row in gold("the-rabbit-in-the-shop"):
        if row["persona"]:
            titles.setdefault(str(row["persona"]), set()).add(str(row["speaker"]))
    assert {persona: len(found) for persona, found in titles.items()} == {"lin": 3, "afu": 2, "tu": 2}


def test_the_story_is_short_prose_whose_cast_occurs_in_it() -> None:
    text = (EXAMPLES / "story" / "the-miller-and-the-moon.txt").read_text("utf-8")
    recipe = load(EXAMPLES / "story" / "recipe.yaml")
    assert 1200 <= len(text.split()) <= 2000
    assert recipe.corpus[0].kind == "prose"
    assert all(any(alias in text for alias in persona.aliases) for persona in personas(recipe))


@pytest.mark.parametrize("name", ["demo", "story", "mooncake"])
def test_an_example_recipe_resolves_with_its_texts_and_cards(name: str) -> None:
    recipe = load(EXAMPLES / name / "recipe.yaml")
    assert all(recipe.path_of(entry.path).is_file() for entry in recipe.corpus)
    assert all(persona.greeting and persona.system_prompt for persona in personas(recipe))
    assert all(entry.rights.licence == "Apache-2.0" for entry in recipe.corpus)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_a_recipe_that_a_run_of_this_version_takes(path: Path) -> None:
    recipe = load(path)
    assert recipe.name == path.stem
    assert path.read_text("utf-8").startswith("# ")
    assert not recipe.augment
    assert not recipe.train.phases
    assert recipe.train.engine == "slots"
    assert recipe.train.lora.dropout == 0
    assert recipe.serve.max_lora_rank >= recipe.train.lora.rank


def test_presets_cover_the_tutorials_and_cards_of_several_sizes() -> None:
    names = {path.stem for path in PRESETS}
    assert {"huanhuan", "horowag", "tianji", "qwen3-0.6b-cpu", "qwen3-8b-24gb", "llama3.1-8b-80gb"} <= names

"""Personas: cards go in and out without loss, casts come from lists, files and counts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import UNKNOWN
from understudy.errors import InputError, PersonaError
from understudy.names import is_name, slug
from understudy.persona import Persona, cast_entries, cast_entry_persona, chosen, read_card
from understudy.prompts import greeting_text, system_text
from understudy.recipe import CastEntry, Recipe, load
from understudy.script import name_key, owners


@given(outer=UNKNOWN, inner=UNKNOWN, extensions=UNKNOWN, greetings=st.lists(st.text(max_size=9), max_size=3))
def test_a_v2_card_comes_back_with_everything_that_we_do_not_know(outer, inner, extensions, greetings):
    data = {
        **inner, "name": "Ada", "description": "d", "personality": "p", "scenario": "s", "first_mes": "Hi {{user}}",
        "mes_example": "<START>", "creator_notes": "n", "system_prompt": "sp", "post_history_instructions": "phi",
        "alternate_greetings": greetings, "tags": ["a"], "creator": "c", "character_version": "7",
        "extensions": {**extensions, "understudy": {"sampling": {"temperature": 0.4}, "mine": 1}},
        "character_book": {"entries": [], "extensions": {}},
    }  # fmt: skip
    card = {**outer, "spec": "chara_card_v2", "spec_version": "2.0", "data": data}
    assert Persona.from_card(card).to_card() == card


def test_a_v1_card_is_read_and_written_as_v2():
    persona = Persona.from_card({"name": "Bo", "first_mes": "Hey", "description": "", "tavern": 3})
    card = persona.to_card()
    assert card["spec"] == "chara_card_v2"
    assert card["data"]["first_mes"] == "Hey"
    assert card["data"]["tavern"] == 3
    assert Persona.from_card(card).to_card() == card


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ([], "is a JSON object"),
        ({"spec": "chara_card_v2"}, "without a data object"),
        ({"spec": "something", "data": {}}, "is no character card"),
        ({"spec": "chara_card_v2", "data": {"name": ""}}, "no name"),
        ({"name": "x", "first_mes": 3}, "first_mes must be text"),
        ({"name": "x", "alternate_greetings": "a"}, "must be a list of texts"),
        ({"name": "x", "extensions": {"understudy": {"sampling": {"temprature": 1}}}}, "did you mean temperature?"),
        ({"name": "x", "extensions": {"understudy": {"sampling": {"top_p": 7}}}}, "from 0.0 to 1.0"),
        ({"name": "x", "extensions": {"understudy": {"sampling": {"max_tokens": 10.5}}}}, "must be a whole number"),
        ({"name": "x", "extensions": {"understudy": {"sampling": {"top_k": 1.5}}}}, "must be a whole number"),
        ({"name": "x", "extensions": {"understudy": {"sampling": {"seed": 0.5}}}}, "must be a whole number"),
        ({"name": "x", "extensions": "abc"}, "extensions must be an object; found str"),
        ({"name": "x", "extensions": [1]}, "extensions must be an object; found list"),
        ({"name": "x", "extensions": {"understudy": "x"}}, "extensions.understudy must be an object; found str"),
    ],
)
def test_bad_cards_are_refused_by_field(card, words):
    with pytest.raises(PersonaError, match="bo.json") as caught:
        Persona.from_card(card, "bo", "bo.json")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ['{"name": "x", "y": NaN}', '{"name": "x", "y": [-Infinity]}', '{"name": "x", "y": 1e999}',
     '{"name": "x", "y": "\\ud800"}', '{"name": "x", "y": ' + "[" * 100_000 + "}", "[1]", "\xff"],
)  # fmt: skip
def test_a_card_that_could_not_be_published_is_refused_when_it_is_read(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(PersonaError, match=r"x\.json: (is no card|is not a JSON card|a character card is)") as caught:
        read_card(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_empty_extensions_of_any_kind_are_none():
    for empty in ([], {}, None, {"understudy": []}):
        assert Persona.from_card({"name": "x", "extensions": empty}).to_card()["data"]["name"] == "x"


def test_the_system_text_is_the_cards_prompt_else_composed_else_one_sentence():
    plain = Persona(name="adam", display_name="Adam")
    assert system_text(plain) == "You are Adam."
    told = plain.model_copy(update={"description": "{{char}} is a judge.", "scenario": "{{user}} asks."})
    assert system_text(told) == "You are Adam.\nAdam is a judge.\nthe user asks."
    own = told.model_copy(update={"system_prompt": "Speak as {{char}}. {{original}}"})
    assert system_text(own) == "Speak as Adam. You are Adam.\nAdam is a judge.\nthe user asks."
    assert greeting_text(told.model_copy(update={"greeting": "{{user}}, I am {{char}}."})) == "the user, I am Adam."


def recipe(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(f"name: r\n{text}", encoding="utf-8")
    return load(path)


def test_a_cast_entry_wins_over_its_card(tmp_path):
    (tmp_path / "eve.json").write_text(json.dumps({"name": "Eve", "first_mes": "Hi", "system_prompt": "card"}))
    loaded = recipe(tmp_path, "cast: [{name: eve, display_name: 夏娃, card: eve.json, system_prompt: mine}]")
    persona = cast_entry_persona(loaded.cast[0], loaded)
    assert (persona.name, persona.display_name, persona.system_prompt, persona.greeting) == (
        "eve",
        "夏娃",
        "mine",
        "Hi",
    )


def test_a_cast_can_be_a_file_a_glob_of_cards_or_made_of_the_speakers(tmp_path):
    cards = tmp_path / "cards"
    cards.mkdir()
    for name in ("bo", "cy"):
        (cards / f"{name}.json").write_text(json.dumps({"name": name.title(), "first_mes": "Hi"}))
    (tmp_path / "cast.yaml").write_text("- {name: bo, card: cards/bo.json}\n- {name: di}\n")
    assert [e.name for e in cast_entries(recipe(tmp_path, "cast: cast.yaml"))] == ["bo", "di"]
    assert [(e.name, e.aliases) for e in cast_entries(recipe(tmp_path, "cast: cards/*.json"))] == [
        ("bo", ("Bo",)),
        ("cy", ("Cy",)),
    ]
    auto = recipe(tmp_path, "cast: {auto: {min_lines: 5, top: 2}}")
    found = cast_entries(auto, [("ADAM", 9), ("皇上", 30), ("EVE", 7), ("Extra", 2)])
    assert [e.aliases[0] for e in found] == ["皇上", "ADAM"]
    assert all(is_name(e.name) for e in found)
    with pytest.raises(PersonaError, match="no speaker has 5 lines"):
        cast_entries(auto, [("ADAM", 4)])


def test_an_automatic_cast_counts_a_speaker_over_all_spellings_and_drops_nobody(tmp_path):
    auto = recipe(tmp_path, "cast: {auto: {min_lines: 80, top: 9}}")
    said = [("ADAM", 50), ("Adam", 40), ("Mr. X", 60), ("Mr X", 30), ("Mr-X", 85), ("A!", 99), ("A?", 98), ("**", 200)]
    found = cast_entries(auto, said)
    assert [(e.name, e.display_name) for e in found] == [
        ("a", "A!"), ("a-2", "A?"), ("adam", "ADAM"), ("mr.-x-2", "Mr. X"), ("mr-x", "Mr-X"),
    ]  # fmt: skip
    known = owners(found, "any")
    assert {shown: known.get(name_key(shown)) for shown, _ in said} == {
        "ADAM": "adam", "Adam": "adam", "Mr. X": "mr.-x-2", "Mr X": "mr.-x-2", "Mr-X": "mr-x", "A!": "a", "A?": "a-2",
        "**": None,
    }  # fmt: skip


@given(st.lists(st.tuples(st.text("aA.-! é王", min_size=1, max_size=4), st.integers(1, 9)), min_size=1, max_size=12))
def test_every_speaker_of_an_automatic_cast_has_a_name_of_its_own(said):
    auto = Recipe(name="r", cast={"auto": {"min_lines": 1, "top": 99}})
    keys = {name_key(shown) for shown, _ in said} - {""}
    if not keys:
        return
    known = owners(cast_entries(auto, said), "any")
    assert len({known[key] for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cast: nowhere/*.json", "matches no file"),
        ("cast: bad.yaml", "bad.yaml: unknown key cast.0.nam; did you mean name?"),
        ("cast: twice.yaml", "occurs twice"),
        ("cast: folder", "folder: is a folder"),
        ("cast: latin.yaml", "latin.yaml: is not UTF-8 text"),
        ("cast: odd.yaml", "odd.yaml: key"),
        ("cast: text.yaml", "text.yaml: holds no list"),
        ("cast: auto.yaml", "auto.yaml: holds no list"),
        ("cast: train.yaml", "train.yaml: cast.x.train.epochs: input should be greater than 0, found -1"),
        ("cast: home.yaml", "home.yaml: there is no home folder ~nosuchuser"),
        ("cast: ~nosuchuser/cast.yaml", "no home folder ~nosuchuser"),
        ("cast: [{name: x, card: ~nosuchuser/x.json}]", "no home folder ~nosuchuser"),
    ],
)
def test_bad_cast_files_are_named(tmp_path, text, words):
    (tmp_path / "bad.yaml").write_text("- {nam: x}\n")
    (tmp_path / "twice.yaml").write_text("- {name: x}\n- {name: x}\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.yaml").write_bytes("- {name: x, display_name: é}".encode("latin-1"))
    (tmp_path / "odd.yaml").write_text("- {name: x, ? [a, b] : 1}\n")
    (tmp_path / "text.yaml").write_text("hello\n")
    (tmp_path / "auto.yaml").write_text("cast: {auto: {min_lines: 1}}\n")
    (tmp_path / "train.yaml").write_text("- {name: x, train: {epochs: -1}}\n")
    (tmp_path / "home.yaml").write_text("- {name: x, card: ~nosuchuser/x.json}\n")
    loaded = recipe(tmp_path, text)
    with pytest.raises(InputError) as caught:
        [cast_entry_persona(entry, loaded) for entry in cast_entries(loaded)]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_persona_is_refused_with_the_nearest_name():
    entries = (CastEntry(name="adam"), CastEntry(name="eve"))
    assert chosen(entries, ("eve",)) == (entries[1],)
    assert chosen(entries, ()) == entries
    with pytest.raises(PersonaError, match="did you mean adam?"):
        chosen(entries, ("adan",))


@given(st.text(max_size=80))
def test_every_text_has_a_slug_that_is_a_name(text):
    assert is_name(slug(text))


def test_slugs_of_names_in_other_scripts_differ():
    assert len({slug(name) for name in ("林黛玉", "薛宝钗", "Ada", "ada!", "Адам")}) == 4

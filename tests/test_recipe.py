"""Recipes: what is refused, with which words, and how overrides are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.errors import RecipeError
from understudy.recipe import Recipe, load

GOOD = """
name: broken-jug
corpus: [{path: plays/*.txt, kind: auto, language: de}]
cast:
  - {name: adam, aliases: [Adam, Dorfrichter], train: {lora: {rank: 4}}}
  - {name: eve}
train: {learning_rate: 1e-3}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_yaml_1_2_reads_exponents_as_numbers_and_no_as_a_word(tmp_path):
    recipe = load(written(tmp_path, GOOD.replace("name: broken-jug", "name: no")))
    assert recipe.name == "no"
    assert recipe.train.learning_rate == 1e-3


def test_overrides_reach_cast_entries_by_name_and_are_typed_by_the_field(tmp_path):
    path = written(tmp_path, GOOD)
    recipe = load(path, ["cast.adam.train.lora.rank=8", "model.revision=1234567", "train.epochs=5", "store=007"])
    adam, eve = recipe.cast
    assert recipe.train_config(adam).lora.rank == 8
    assert recipe.train_config(adam).learning_rate == 1e-3
    assert recipe.train_config(eve).lora.rank == recipe.train.lora.rank
    assert recipe.model.revision == "1234567"
    assert recipe.store == "007"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("- a", "must be a mapping"),
        ("name: a\nnme: b", "unknown key nme; did you mean name?"),
        ("name: a\nname: b", ':2: found duplicate key "name"'),
        ("name: a\ntrain: {lora: {rnk: 3}}", "unknown key train.lora.rnk; did you mean rank?"),
        ("name: a\ncast: [{name: adam, alias: [x]}]", "unknown key cast.adam.alias; did you mean aliases?"),
        ("name: a\ncast: {auto: {min_line: 3}}", "unknown key cast.auto.min_line; did you mean min_lines?"),
        ("name: a\ntrain: {lora: {rank: -3}}", "train.lora.rank: input should be greater than 0, found -3"),
        ("name: a\ncurate: {window: 0}", "curate.window"),
        ("name: a\ntrain: {learning_rate: .nan}", "train.learning_rate: NaN"),
        ("name: a\nmodel: {template_kwargs: {x: .inf}}", "model.template_kwargs.x: NaN and infinity"),
        ("name: !!python/object:os.system a", "YAML tag"),
        ("name: !!str a", "YAML tag"),
        ("name: a\nschema_version: 2", "schema_version 2 is newer than 1"),
        ("name: ../../etc", "is not a name"),
        ("name: a\ncast: [{name: adam}, {name: adam}]", "adam occurs twice"),
        ("name: a\ncurate: {window: '8'}", "curate.window: input should be a valid integer, found '8'"),
        ("name: a\nstore: *b", "undefined alias"),
        ("name: a: b", "not valid YAML"),
        ("corpus: []", "name is missing"),
        ("name: a\nfolder: /tmp", "unknown key folder"),
    ],
)
def test_bad_recipes_are_refused_in_one_line_with_file_and_remedy(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load(path)
    message = str(caught.value)
    assert words in message
    assert str(path) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("foo", "write it as key=value"),
        ("train.epocs=3", "unknown key train.epocs; did you mean epochs?"),
        ("cast.adan.train.lora.rank=3", "did you mean adam?"),
        ("cast.adam=3", "names an entry"),
        ("name.x=3", "has no key x"),
        ("train.seed=true", "train.seed: input should be a valid integer"),
        ("train.epochs=.nan", "NaN"),
        ("train.lora={rank: 0}", "train.lora.rank"),
    ],
)
def test_bad_overrides_are_refused_in_one_line(tmp_path, override, words):
    with pytest.raises(RecipeError, match=r".") as caught:
        load(written(tmp_path, GOOD), [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_names_its_neighbour(tmp_path):
    written(tmp_path, GOOD)
    with pytest.raises(RecipeError, match=r"did you mean .*recipe\.yaml"):
        load(tmp_path / "recipes.yaml")


def test_nested_aliases_cannot_unfold_into_gigabytes(tmp_path):
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 20)}]" for i in range(1, 10)]
    with pytest.raises(RecipeError, match="aliases"):
        load(written(tmp_path, "\n".join(rows)))


def test_recipes_are_frozen_and_dump_without_their_folder(tmp_path):
    recipe = load(written(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]
    assert recipe.path_of("plays/x.txt") == tmp_path / "plays/x.txt"
    assert "folder" not in recipe.model_dump()
    assert Recipe.model_validate(recipe.model_dump()).train == recipe.train

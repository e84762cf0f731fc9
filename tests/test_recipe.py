"""Recipes: what is refused, with which words, and how overrides are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.errors import InputError, RecipeError
from understudy.recipe import Recipe, load

GOOD = """
name: broken-jug
corpus: [{path: plays/*.txt, kind: auto, language: de}]
cast:
  - {name: adam, aliases: [Adam, Dorfrichter], train: {lora: {rank: 4}}}
  - {name: eve}
train: {learning_rate: 1e-3}
"""


GRID = "name: a\naugment: [{name: g, kind: matrix, recipients: [Ann], occasions: [x], styles: [{name: kind}]}]"


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
        ("name: a\nsweep: {? [a, b] : 1}", "is not text; write it in quotes"),
        ("name: a\nsweep: {2001-01-01: 1}", "key datetime.date(2001, 1, 1) in sweep: is not text"),
        ("name: a\nmodel: {template_kwargs: {0: x}}", "key 0 in model.template_kwargs: is not text"),
        ("name: a\nsweep: &a {x: *a}", "sweep.x: a YAML alias stands within its own value"),
        (
            "name: a\nendpoints: {main: {base_url: 'https://ada:secret@h/v1', model: m}}",
            "endpoints.main: base_url holds a user or a password; put the key into what api_key_env names",
        ),
        ("name: a\nendpoints: {main: {base_url: 'ada:secret@h/v1', model: m}}", "holds a user or a password"),
        (
            "name: a\nendpoints: {main: {engine: vllm, base_url: 'http://h/v1', model: m}}",
            "endpoints.main: base_url is a server's, and `engine: vllm` runs the model itself; remove one of them",
        ),
        ("name: a\nsweep: {x: " + "[" * 5000 + "]" * 5000 + "}", ":2: is nested 65 deep"),
        ('name: a\nstore: "\\ud800"', "recipe.yaml: "),
        ("name: a\naugment: [{name: b}]", "augment.b.kind is missing; add one of style, matrix"),
        ("name: a\naugment: [{name: b, kind: stile}]", "augment.b.kind: there is no kind 'stile'; did you mean style?"),
        ("name: a\naugment: [{name: b, kind: style, cuont: 3}]", "unknown key augment.b.cuont; did you mean count?"),
        (
            "name: a\naugment: [{name: b, kind: style, styles: []}]",
            "unknown key augment.b.styles; did you mean examples?",
        ),
        ("name: a\naugment: [{name: b, kind: style}, {name: b, kind: style}]", "augment: b occurs twice"),
        (GRID.replace("[Ann]", "[Ann, Ann]"), "augment.g: recipients: Ann occurs twice"),
        (
            GRID.replace("name: kind", "name: kind, trigger: '('"),
            "augment.g.styles.kind: trigger '(' is no regular expr",
        ),
        (
            GRID.replace("name: kind", "name: kind, lenght: [1, 2]"),
            "unknown key augment.g.styles.kind.lenght; did you mean",
        ),
        (GRID.replace("name: kind", "name: kind, length: [3, 2]"), "the first is the least"),
        (GRID.replace("[Ann]", "[{name: Ann, asked: x}]"), "augment.g.recipients.Ann.asked: input should be a list"),
        (GRID.replace("[Ann]", "[3]"), "augment.g.recipients.0: input should be mapping of keys, found 3"),
        (GRID.replace("}]", "}], phrasings: ['Hi {who}']", 1), "unknown field {who}; there are recipient"),
        (
            GRID.replace("}]", "}], suitability: {table: {Ann: {x: 9}}}", 1),
            "suitability.table.Ann.x: input should be less",
        ),
    ],
)
def test_bad_recipes_are_refused_in_one_line_with_file_and_remedy(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load(path)
    message = str(caught.value)
    assert words in message
    assert str(path) in message
    assert "secret" not in message
    assert "\n" not in message


def test_an_address_with_an_at_sign_behind_the_host_is_a_good_one(tmp_path):
    for address in ("https://h/client/@cf/v1", "http://h:8000/v1?user=a@b"):
        recipe = load(written(tmp_path, f"name: a\nendpoints: {{main: {{base_url: '{address}', model: m}}}}"))
        assert recipe.endpoints["main"].base_url == address


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
        ("schema_version=2", "schema_version 2 is newer than 1"),
        ("folder=/tmp", "unknown key folder"),
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
    twice = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 45))]
    with pytest.raises(RecipeError, match="unfold to more than"):
        load(written(tmp_path, "\n".join(twice)))


def test_recipes_are_frozen_and_dump_without_their_folder(tmp_path):
    recipe = load(written(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]
    assert recipe.path_of("plays/x.txt") == tmp_path / "plays/x.txt"
    assert "folder" not in recipe.model_dump()
    assert Recipe.model_validate(recipe.model_dump()).train == recipe.train


CONTRACT = """
name: broken-jug
store: ./store
corpus: [{path: plays/*.txt, kind: auto, language: de, encoding: auto}]
cast:
  - {name: adam, display_name: Adam, aliases: [Adam, Dorfrichter], works: ["*"], card: cards/adam.json,
     train: {lora: {rank: 4}}}
schema_version: 1
model: {base: builtin:tiny, source: auto, revision: null, dtype: auto, quantization: none, template_kwargs: {},
        trust_remote_code: false}
endpoints: {main: {base_url: "http://127.0.0.1:9", model: m, api_key_env: OPENAI_API_KEY, weight: 1,
            prices: {input: 0, output: 0}}}
budget: {requests: null, tokens: null, money: null}
extract: {layout: auto, llm: null}
augment: []
curate: {window: 8, heldout: 0.1, mix: []}
train: {engine: slots, method: lora, lora: {rank: 8, alpha: 16, dropout: 0, target_modules: auto, rslora: false},
        learning_rate: 3.0e-4, schedule: cosine, warmup_ratio: 0.03, epochs: 3, micro_batch_size: 4,
        gradient_accumulation_steps: 1, max_length: 2048, seed: 0, phases: [], deepspeed: {}}
evaluate: {judge: null, gate: {}}
publish: {alias: current, weight: 100}
sweep: {space: {}, search: grid, scheduler: none, metric: heldout_nll, trials: null}
serve: {max_loras: 8, max_cpu_loras: 64, replicas: [1, 1], engine: {}}
resources: {extract: {}, train: {}, serve: {}}
"""


def test_every_name_of_the_contract_is_read_and_no_stage_refuses_its_defaults(tmp_path):
    from jobs.run import refuse_later_parts

    refuse_later_parts(load(written(tmp_path, CONTRACT)))


@pytest.mark.parametrize(
    "override",
    [
        "train.phases=[{a: 1}]",
        "train.deepspeed={zero: 3}",
        "evaluate.judge=main",
        "evaluate.gate={score: 1}",
    ],
)
def test_what_no_stage_reads_yet_is_refused_by_its_name(tmp_path, override):
    from jobs.run import refuse_later_parts

    with pytest.raises(RecipeError, match=f"broken-jug: {override.partition('=')[0]} is not supported") as caught:
        refuse_later_parts(load(written(tmp_path, CONTRACT), [override]))
    assert "\n" not in str(caught.value)


def test_a_home_that_is_nobodys_is_one_line(tmp_path):
    recipe = load(written(tmp_path, GOOD))
    with pytest.raises(InputError, match="no home folder ~nosuchuser"):
        recipe.path_of("~nosuchuser/card.json")

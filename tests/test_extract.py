"""Extract and curate over real Ray Data: what is skipped, what runs again, and what one bad file does."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from jobs.curate import run_curate
from jobs.extract import run_extract
from understudy.errors import CorpusError, InputError, PersonaError
from understudy.recipe import Recipe, load
from understudy.record import Record
from understudy.store import Store

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]

WORDS = [
    "the",
    "lamp",
    "is",
    "lit",
    "and",
    "nobody",
    "knows",
    "who",
    "came",
    "by",
    "boat",
    "or",
    "by",
    "road",
    "with",
    "bread",
    "and",
    "a",
    "song",
]


def play(rng: random.Random, cast: list[str], scenes: int = 4, lines: int = 12) -> str:
    """A small script in which each of `cast` speaks in every scene."""
    parts = []
    for scene in range(scenes):
        parts.append(f"SCENE {scene + 1}\n")
        for line in range(lines):
            words = " ".join(rng.choices(WORDS, k=rng.randint(3, 9)))
            parts.append(f"{cast[line % len(cast)].upper()}: {words.capitalize()}.")
        parts.append("")
    return "\n".join(parts)


def cast_of(count: int) -> list[str]:
    return [f"{a}{b}" for a in ("bo", "da", "ki", "lu", "ma") for b in ("ra", "ne", "to", "vi")][:count]


def production(folder: Path, count: int, aliases: dict[str, list[str]] | None = None) -> Recipe:
    """A recipe of ten works with two personas each, plus one that the cast can grow by."""
    names = cast_of(20)
    plays = folder / "plays"
    plays.mkdir(exist_ok=True)
    for i in range(10):
        text = play(random.Random(i), [*names[2 * i : 2 * i + 2], "zoe"] if i == 3 else names[2 * i : 2 * i + 2])
        (plays / f"work-{i}.txt").write_text(text, encoding="utf-8")
    cast = [{"name": n, "aliases": [n.upper(), *(aliases or {}).get(n, [])]} for n in [*names, "zoe"][:count]]
    recipe = {"name": "many", "corpus": [{"path": "plays/*.txt"}], "cast": cast}
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return load(folder / "recipe.yaml")


def digests(recipe: Recipe, stage: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Fingerprint and output digests of every unit as it is now."""
    store = Store.open(recipe.store, Path(recipe.folder))
    latest = store.get_json(f"runs/{recipe.name}/{stage}/latest.json")
    records = {u: Record(**store.get_json(f"runs/{recipe.name}/{stage}/{fp}/record.json")) for u, fp in latest.items()}
    return {unit: (record.fingerprint, dict(record.outputs)) for unit, record in records.items()}


def test_in_a_cast_of_20_an_alias_and_a_new_persona_touch_only_their_own(tmp_path):
    recipe = production(tmp_path, 20)
    assert len(run_extract(recipe).made) == 10
    assert len(run_curate(recipe).made) == 20
    before = {stage: digests(recipe, stage) for stage in ("extract", "curate")}
    assert run_extract(recipe).skipped
    assert run_curate(recipe).skipped

    # An alias that no work contains changes nothing; one that a work contains changes that work and that persona.
    recipe = production(tmp_path, 20, {"bora": ["Captain"]})
    assert run_extract(recipe).skipped
    text = (tmp_path / "plays" / "work-0.txt").read_text()
    recipe = production(tmp_path, 20, {"bora": ["Captain"]})
    (tmp_path / "plays" / "work-0.txt").write_text(text.replace("BORA: ", "CAPTAIN: ", 3))
    assert run_extract(recipe).made == ("work-0",)
    made = run_curate(recipe).made
    assert set(made) == {"bora", "bone"}  # the text itself changed, and both speak in it
    middle = {stage: digests(recipe, stage) for stage in ("extract", "curate")}
    (tmp_path / "recipe.yaml").write_text((tmp_path / "recipe.yaml").read_text().replace('"Captain"', '"Nobody"'))
    recipe = load(tmp_path / "recipe.yaml")
    assert run_extract(recipe).made == ("work-0",)
    assert run_curate(recipe).made == ("bora",)
    after = {stage: digests(recipe, stage) for stage in ("extract", "curate")}
    for stage, unit in (("extract", "work-0"), ("curate", "bora")):
        assert {k: v for k, v in after[stage].items() if k != unit} == {
            k: v for k, v in middle[stage].items() if k != unit
        }
        assert after[stage][unit] != middle[stage][unit]
    others = {k: v for k, v in before["curate"].items() if k not in ("bora", "bone")}
    assert {k: after["curate"][k] for k in others} == others

    text = (tmp_path / "plays" / "work-0.txt").read_text()
    recipe = production(tmp_path, 21, {"bora": ["Nobody"]})
    (tmp_path / "plays" / "work-0.txt").write_text(text)
    assert run_extract(recipe).made == ("work-3",)
    assert run_curate(recipe).made == ("zoe",)
    assert {k: v for k, v in digests(recipe, "curate").items() if k != "zoe"} == after["curate"]


def test_a_bad_file_is_set_aside_with_its_reason_and_the_rest_goes_on(tmp_path):
    recipe = production(tmp_path, 20)
    (tmp_path / "plays" / "empty.txt").write_text("")
    (tmp_path / "plays" / "binary.txt").write_bytes(b"\0\1\2" * 1000)
    (tmp_path / "plays" / "prose.txt").write_text("Once upon a time there was a lamp. It was lit.\n" * 50)
    result = run_extract(recipe)
    assert result.counts["works"] == 10
    assert result.counts["set_aside"] == 3
    assert set(result.details["set_aside"]) == {"empty", "binary", "prose"}
    assert all("\n" not in reason for reason in result.details["set_aside"].values())


def test_nothing_readable_and_nobody_known_are_one_line_and_exit_2(tmp_path):
    (tmp_path / "x.txt").write_text("")
    for corpus, kind in (("x.txt", CorpusError), ("none*.txt", CorpusError), ("gone.txt", CorpusError)):
        (tmp_path / "r.yaml").write_text(
            json.dumps({"name": "r", "corpus": [{"path": corpus}], "cast": [{"name": "a"}]})
        )
        with pytest.raises(kind) as caught:
            run_extract(load(tmp_path / "r.yaml"))
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)
    recipe = production(tmp_path, 20)
    with pytest.raises(InputError, match="extract has not been run"):
        run_curate(recipe)
    run_extract(recipe)
    with pytest.raises(PersonaError, match=r"did you mean bora\?"):
        run_curate(recipe, ("borra",))
    assert run_curate(recipe, ("bora",)).made == ("bora",)


def test_a_half_written_output_is_made_again_and_force_repeats(tmp_path):
    recipe = production(tmp_path, 20)
    run_extract(recipe)
    store = Store.open(recipe.store, tmp_path)
    before = digests(recipe, "extract")
    fp = before["work-1"][0]
    store.delete(f"runs/many/extract/{fp}/record.json")
    store.put(f"runs/many/extract/{fp}/lines.parquet", b"cut off")
    assert run_extract(recipe).made == ("work-1",)
    assert digests(recipe, "extract") == before
    assert len(run_extract(recipe, force=True).made) == 10
    assert digests(recipe, "extract") == before


def test_an_automatic_cast_takes_the_speakers_with_most_lines_and_reads_no_text_twice(tmp_path, monkeypatch):
    recipe = production(tmp_path, 20)
    (tmp_path / "plays" / "work-0.txt").write_text("Zoe: Yes.\n\nBORA: No.\n\n" * 30)
    (tmp_path / "plays" / "work-1.txt").write_text("ZOE: Yes.\n\nDANE: No.\n\n" * 40)
    data = recipe.model_dump(mode="json", exclude={"cast"})
    (tmp_path / "auto.yaml").write_text(json.dumps({**data, "cast": {"auto": {"min_lines": 20, "top": 3}}}))
    recipe = load(tmp_path / "auto.yaml")
    run_extract(recipe)
    assert set(run_curate(recipe).made) == {"zoe", "bora", "dane"}
    monkeypatch.setattr("jobs.extract_work.read_works", None)  # whoever parses again now fails
    assert run_extract(recipe).skipped


def test_a_works_pattern_names_the_file_and_one_that_matches_nothing_is_said(tmp_path, capsys):
    for folder in ("b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sawyer.txt").write_text("TOM: Yes.\n\nAUNT: No.\n\n" * 10)
    cast = [{"name": "tom", "works": ["sawyer.txt"]}, {"name": "aunt", "works": ["sawyer", "sawyers"]}]
    recipe = {"name": "r", "corpus": [{"path": "*/sawyer.txt"}], "cast": cast}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    result = run_extract(load(tmp_path / "r.yaml"))
    assert set(result.units) == {"b-sawyer", "c-sawyer"}
    assert result.counts["unassigned"] == 0
    [said] = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "`works` 'sawyers' of aunt matches no work; there are: b-sawyer, c-sawyer" in said

"""The command line as a person meets it: exit codes, one line for what is wrong, JSON where asked for."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_from_disk

from tests.bases import make_random_base
from understudy.store import Store

ROOT = Path(__file__).resolve().parent.parent
PLAY = "SCENE 1\n\n" + "\n".join(
    f"{who}: {text} {n}." for n in range(12) for who, text in (("ADAM", "The jug is broken"), ("EVE", "Who broke it"))
)


def understudy(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "understudy.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=None, timeout=200)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "play.txt").write_text(PLAY)
    (tmp_path / "empty.txt").write_text("")
    recipe = {"name": "jug", "corpus": [{"path": "play.txt"}], "cast": [{"name": "adam"}, {"name": "eve"}]}
    (tmp_path / "jug.yaml").write_text(json.dumps(recipe))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "nowhere.yaml"), "no such recipe"),
        (("run", "{home}/jug.yaml", "train.epocs=3"), "did you mean epochs?"),
        (("run", "{home}/jug.yaml", "corpus.0.path=gone.txt"), "no such file or folder"),
        (("extract", "{home}/jug.yaml", "corpus.0.path=empty.txt"), "is empty"),
        (("curate", "{home}/jug.yaml"), "extract has not been run"),
        (("curate", "{home}/jug.yaml", "--persona", "adan"), "did you mean adam?"),
        (("bogus",), "No such command"),
        (("run",), "Missing argument"),
        (("catalog", "list", "--store", "{home}/none"), "does not exist"),
        (("recipe", "copy", "huanhuam", "{home}"), "did you mean huanhuan?"),
        (("recipe", "new", "{home}/play.txt", "-o", "{home}/jug.yaml"), "exists already"),
        (("recipe", "new", "{home}/play.txt", "-o", "{home}/x.yaml", "--cast", "Nobody"), "nobody of that name"),
        (("export", "{home}/jug.yaml", "-o", "{home}/out", "-f", "bogus"), "valid: alpaca, sharegpt, xtuner"),
        (("run", "{home}/jug.yaml", "augment=[{name: a}]"), "augment.a.kind is missing; add one of style, matrix"),
        (("augment", "{home}/jug.yaml"), "jug: has no augment steps; add"),
        (("recipe", "check", "{home}/jug.yaml", "augment=[{name: a, kind: style}]"), "main is not in endpoints; add"),
        (("run", "{home}/jug.yaml", "store=gs://x"), "gs:// is not supported"),
        (("recipe", "check", "{home}/jug.yaml", "model.base=./missing"), "missing is no folder"),
        (("recipe", "check", "{home}/jug.yaml", "cast.eve.aliases=[Adam]"), "'Adam' means both adam and eve in play"),
        (("recipe", "check", "{home}/jug.yaml", "corpus.0.path='*.txt'"), "empty.txt: is empty"),
        (("recipe", "check", "{home}/jug.yaml", "curate.mix=[{a: 1}]"), "curate.mix.0.a; did you mean path?"),
        (("recipe", "copy", "huanhuan", "{home}/play.txt"), "play.txt: "),
        (
            ("recipe", "new", "{home}/play.txt", "-o", "{home}/empty.txt/x.yaml", "--top", "1", "--min-lines", "5"),
            "empty.txt",
        ),
        (("extract", "{home}/" + "x" * 300), "File name too long"),
        (("extract", "{home}/jug.yaml", "store=" + "x" * 300), "File name too long"),
        (("extract", "{home}/jug.yaml", "store=~nosuchuser/x"), "no home folder ~nosuchuser"),
        (("cards", "show", "{home}/jug.yaml", "cast={auto: {min_lines: 1}}"), "run `understudy extract` first"),
        (
            ("recipe", "check", "{home}/jug.yaml", "endpoints={main: {engine: vllm, model: ./missing}}"),
            "endpoints.main: model.base ./missing",
        ),
        (("recipe", "check", "{home}/jug.yaml", "corpus.0.format=alpaca"), "format is for conversations; add"),
        (("recipe", "check", "{home}/jug.yaml", "corpus.0.kind=conversations"), "no conversation in it can be read"),
        (
            ("recipe", "check", "{home}/jug.yaml", "corpus=[{path: play.txt, kind: conversations, persona: eva}]"),
            "persona 'eva' is not in the cast",
        ),
        (("import", "{home}/play.txt", "-o", "{home}/x.txt"), "end the name in .json"),
        (
            ("data", "merge", "{home}/play.txt", "-o", "{home}/x.json", "--from", "csv"),
            "--from csv: unknown; valid: auto",
        ),
        (("cards", "convert", sys.executable, "-o", "{home}/x.json"), "neither JSON nor a PNG or CHARX"),
        (("run", "{home}/jug.yaml", "curate.mix=[{path: no.jsonl}]"), "curate.mix.0: no.jsonl: no such file"),
        (
            (
                "run",
                "{home}/jug.yaml",
                "augment=[{name: a, kind: restyle, prompts: no.txt}]",
                "endpoints={main: {base_url: 'http://x/v1', model: m}}",
            ),
            "augment.a: no.txt: no such file",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_exit_2(home, arguments, words):
    done = understudy(*(argument.replace("{home}", str(home)) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout


def test_every_command_has_help_with_an_example():
    from typer.main import get_command

    from understudy.cli import app

    def leaves(command, path):
        inner = getattr(command, "commands", None)
        if not inner:
            yield path, command
        for name, sub in (inner or {}).items():
            yield from leaves(sub, [*path, name])

    found = list(leaves(get_command(app), []))
    assert len(found) > 15
    for path, command in found:
        assert f"Example: understudy {path[0]}" in (command.help or ""), path


def test_recipe_new_writes_a_recipe_that_passes_its_own_check(home):
    make_random_base(home / "base")
    done = understudy("recipe", "new", "play.txt", "--base", "./base", "--min-lines", "5", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "12  ADAM" in done.stdout
    assert understudy("recipe", "check", "play.yaml", cwd=home).returncode == 0
    shown = understudy("recipe", "show", "play.yaml", "--json", "train.epochs=2", cwd=home)
    assert [entry["name"] for entry in json.loads(shown.stdout)["cast"]] == ["adam", "eve"]
    assert json.loads(shown.stdout)["train"]["epochs"] == 2


def test_presets_are_listed_by_pattern_copied_and_hold_as_recipes(home):
    rows = json.loads(understudy("recipe", "list", "--json").stdout)
    assert {"huanhuan", "horowag", "tianji"} <= {row["name"] for row in rows}
    some = json.loads(understudy("recipe", "list", "-p", "qwen3-8b", "--json").stdout)
    assert some
    assert all("8b" in row["base"].lower() for row in some)
    for row in rows:
        assert understudy("recipe", "copy", row["name"], str(home / "mine")).returncode == 0
        assert understudy("recipe", "show", str(home / "mine" / f"{row['name']}.yaml")).returncode == 0


def test_the_schema_is_json_and_knows_every_part():
    schema = json.loads(understudy("recipe", "schema").stdout)
    assert {"name", "corpus", "cast", "model", "train", "serve"} <= set(schema["properties"])
    assert "folder" not in schema["properties"]


@pytest.mark.parametrize(("number", "code"), [(errno.EROFS, 2), (errno.EIO, 1)])
def test_what_the_system_says_of_a_file_is_one_line(monkeypatch, capsys, number, code):
    from understudy import cli

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "here/it.is")

    monkeypatch.setattr(cli.typer.main, "get_command", refuse)
    assert cli.run(["doctor"]) == code
    assert capsys.readouterr().err == f"understudy: here/it.is: {os.strerror(number)}\n"


def test_an_automatic_cast_is_shown_once_extract_has_found_it(home):
    from jobs.cast import remember_speakers
    from understudy.recipe import load

    recipe = load(home / "jug.yaml", ["cast={auto: {min_lines: 5}}"])
    remember_speakers(recipe, Store.open(home / "store"), [("ADAM", 4), ("Adam", 3), ("EVE", 2)])
    shown = understudy("cards", "show", str(home / "jug.yaml"), "cast={auto: {min_lines: 5}}", "--json")
    assert [persona["name"] for persona in json.loads(shown.stdout)] == ["adam"]


@pytest.mark.cluster
def test_stages_print_one_json_document_and_skip_what_is_done(home):
    first = understudy("extract", "jug.yaml", "--json", cwd=home)
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert (document["stage"], document["skipped"], document["counts"]["speeches"]) == ("extract", False, 24)
    assert Path(document["output"]).is_dir()
    assert Path(document["record"]).is_file()
    assert json.loads(understudy("extract", "jug.yaml", "--json", cwd=home).stdout)["skipped"]
    assert understudy("curate", "jug.yaml", cwd=home).returncode == 0
    out = understudy("export", "jug.yaml", "-o", "out", "-f", "messages", "-p", "eve", "--json", cwd=home)
    written = json.loads(out.stdout)["written"]
    assert [Path(path).name for path in written] == ["eve.train.jsonl", "eve.heldout.jsonl", "dataset_info.json"]
    row = json.loads(Path(home / written[0]).read_text().splitlines()[0])
    assert row["messages"][0] == {"role": "system", "content": "You are eve."}
    out = understudy("export", "jug.yaml", "-o", "hf", "-f", "datasets", "-p", "eve", "--json", cwd=home)
    kept = load_from_disk(str(home / json.loads(out.stdout)["written"][0]))
    said = [(message["role"], message["content"]) for message in kept["train"][0]["messages"]]
    assert said == [(message["role"], message["content"]) for message in row["messages"]]


def test_a_reader_that_leaves_early_hears_no_complaint():
    command = f"{sys.executable} -m understudy.cli recipe schema | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "{\n"
    assert not done.stderr


@pytest.mark.cluster
def test_a_full_disk_is_one_line_and_what_was_finished_is_kept(home):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("a small disk of one's own needs user namespaces")
    (home / "play.txt").write_text("\n".join(f"{PLAY}\nEVE: Line {n} of a long evening." for n in range(300)))
    (home / "small").mkdir()
    command = f"{sys.executable} -m understudy.cli extract {home}/jug.yaml store={home}/small/store"
    script = f"mount -t tmpfs -o size=60k tmpfs {home}/small && {command}; code=$?; ls {home}/small/store; exit $code"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stderr
    assert "no space left on the disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert "leases" in done.stdout


def test_a_speaker_without_latin_letters_gets_a_name_that_one_can_type(tmp_path):
    from understudy.recipe import load

    done = understudy(
        "recipe", "new", str(ROOT / "examples" / "mooncake"), "-o", str(tmp_path / "r.yaml"), "--top", "2"
    )
    assert done.returncode == 0, done.stderr
    assert [entry.name for entry in load(tmp_path / "r.yaml").cast] == ["speaker-1", "speaker-2"]

"""The READMEs: the same in both languages, every command real, and the demo as a user would run it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.endpoint import endpoint
from tests.greeter import greet

ROOT = Path(__file__).resolve().parent.parent
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
BOTH = pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=["en", "zh"])
START, END = "<!-- transcript: written by `python -m benchmarks.transcript` -->", "<!-- end of transcript -->"
STEPS = (
    "1. Who says what",
    "2. What each of them answers",
    "3. An adapter each, over one base",
    "4. Whose lines, under whose adapter",
    "5. Into the catalog",
    "6. On stage",
)
REAL = "understudy demo --base Qwen/Qwen3-0.6B"


def split(readme: Path) -> tuple[str, str]:
    """(the text without the transcript, the transcript)."""
    text = readme.read_text("utf-8")
    before, _, rest = text.partition(START)
    transcript, _, after = rest.partition(END)
    assert after, f"{readme.name}: the marks of the transcript are gone"
    return before + after, transcript


def blocks(readme: Path) -> list[tuple[str, list[str]]]:
    """(language, commands or lines without comments) of every code block."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", split(readme)[0], re.MULTILINE | re.DOTALL)
    joined = [(kind, text.replace("\\\n", " ").splitlines()) for kind, text in found]
    return [(kind, [" ".join(re.sub(r"(^|\s)# .*", "", line).split()) for line in lines]) for kind, lines in joined]


def commands(readme: Path = ENGLISH) -> list[str]:
    return [line for kind, lines in blocks(readme) if kind == "sh" for line in lines if line]


def yaml_blocks() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", split(ENGLISH)[0], re.MULTILINE | re.DOTALL)


def table(head: str) -> list[list[str]]:
    """What stands in backticks in the first column of the table that begins so, by row."""
    rows = split(ENGLISH)[0].partition(f"\n| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in rows]


def prose(readme: Path) -> str:
    return re.sub(r"^```.*?^```$", "", split(readme)[0], flags=re.MULTILINE | re.DOTALL)


def spans(readme: Path) -> list[str]:
    """What stands in backticks in running text, in order."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(readme))]


def words_of(line: str) -> list[str]:
    return shlex.split(line)[1:]


def test_both_languages_have_the_same_headings():
    levels = [re.findall(r"^(#+) ", prose(readme), re.MULTILINE) for readme in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]
    assert len(levels[0]) > 5


def test_both_languages_have_the_same_code():
    assert blocks(ENGLISH) == blocks(CHINESE)


def test_both_languages_have_the_same_tables_and_name_the_same_things():
    tables = [
        [line.count("|") for line in prose(readme).splitlines() if line.startswith("|")]
        for readme in (ENGLISH, CHINESE)
    ]
    assert tables[0] == tables[1]
    assert sorted(spans(ENGLISH)) == sorted(spans(CHINESE))


def test_both_languages_show_the_same_transcript_and_link_to_each_other():
    assert split(ENGLISH)[1] == split(CHINESE)[1]
    for readme, other in ((ENGLISH, CHINESE), (CHINESE, ENGLISH)):
        assert f"]({other.name})" in "\n".join(readme.read_text("utf-8").splitlines()[:4])


@BOTH
def test_links_lead_to_files_that_exist(readme: Path):
    links = re.findall(r"\]\(([^)#]+)\)", prose(readme))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_a_transcript_is_a_whole_demo():
    transcript = split(ENGLISH)[1].strip()
    if not transcript:
        pytest.skip("no transcript yet")
    check_demo(transcript.removeprefix("```text").removesuffix("```").strip())


def parse(words: list[str]) -> dict[str, Any]:
    """What the real command line makes of a command, without running it."""
    import typer

    from understudy.cli import app

    command: Any = typer.main.get_command(app)
    name, context = "understudy", None
    while True:
        context = command.make_context(name, list(words), parent=context)
        if not hasattr(command, "resolve_command"):
            return context.params
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("understudy ")])
def test_every_command_is_one_that_the_command_line_takes(line: str):
    parse(words_of(line))


@pytest.mark.parametrize("span", sorted({span for span in spans(ENGLISH) if span.startswith("understudy ")}))
def test_every_command_in_running_text_is_one_that_the_command_line_takes(span: str):
    parse(words_of(span))


def test_a_command_with_a_wrong_option_would_be_noticed():
    from typer import TyperException

    for wrong in ("run examples/demo/recipe.yaml --colour", "catalogue list", "catalog list examples"):
        with pytest.raises(TyperException):
            parse(wrong.split())


def test_every_make_target_in_the_readmes_exists():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words_of(line)[0] for line in commands() if line.startswith("make ")}
    assert named == {"demo", "test"}
    assert named <= targets


@pytest.mark.parametrize(
    "line", [line for line in commands() if line.startswith("understudy ") and "examples/" in line and "=" in line]
)
def test_overrides_of_the_examples_fit_their_recipes(line: str):
    from understudy.recipe import load

    given = parse(words_of(line))
    load(ROOT / given["recipe"], given["overrides"])


def test_the_commands_for_a_script_of_ones_own_fit_each_other(tmp_path: Path):
    from understudy.recipe import load

    shutil.copy(ROOT / "examples/demo/the-lamp-on-the-quay.txt", tmp_path / "play.txt")
    own = [line for line in commands() if "play.yaml" in line]
    first = shell(own[0], tmp_path)
    assert first.returncode == 0, first.stderr
    plan = shell(own[1], tmp_path)
    assert re.search(r"^total +0 +\d+ ", plan.stdout, re.MULTILINE), plan.stderr
    assert not (tmp_path / "store").exists()
    for line in own[1:]:
        given = parse(words_of(line))
        recipe = load(tmp_path / given["recipe"], given["overrides"])
        assert recipe.model.base == "Qwen/Qwen3-0.6B"
        assert len(recipe.cast) == 3


def recipe_of(*texts: str):
    from understudy.recipe_yaml import parse_yaml, validated

    whole: dict[str, Any] = {"name": "readme", "cast": [{"name": "ada"}]}
    for text in texts:
        whole |= parse_yaml(text, "README.md")
    return validated(whole, "README.md")


@pytest.mark.parametrize("text", yaml_blocks(), ids=lambda text: text.partition(":")[0])
def test_every_yaml_block_is_a_part_of_a_recipe(text: str):
    recipe_of(text)


def test_the_yaml_blocks_together_are_a_recipe_whose_models_are_all_there(tmp_path: Path):
    from jobs.augment import check_steps
    from jobs.run import refuse_later_parts
    from understudy.persona import cast_entries

    (tmp_path / "everyday.txt").write_text("What do you eat?\n")
    recipe = recipe_of(*yaml_blocks()).model_copy(update={"folder": str(tmp_path)})
    assert recipe.extract.llm
    refuse_later_parts(recipe)
    check_steps(recipe, cast_entries(recipe))


def test_a_misspelt_yaml_block_would_be_noticed():
    from understudy.errors import RecipeError

    with pytest.raises(RecipeError, match="thresold"):
        recipe_of("extract: {llm: {thresold: 0.5}}")


def test_the_tables_name_every_kind_of_step_every_rule_and_every_format():
    from understudy.augmentation.steps import AnyStep
    from understudy.cleaning.config import CleanConfig
    from understudy.interchange.writing import WRITERS

    kinds = [get_args(step.model_fields["kind"].annotation)[0] for step in get_args(get_args(AnyStep)[0])]
    assert sorted(name for row in table("`kind`") for name in row) == sorted(kinds)
    assert sorted(name for row in table("rule") for name in row) == sorted(CleanConfig.model_fields)
    export = re.search(r"^`export` also knows (.*?), and", prose(ENGLISH), re.MULTILINE | re.DOTALL)
    assert export
    assert {*re.findall(r"`([^`]+)`", export[1]), "sharegpt"} == {*WRITERS, "datasets"}


def shell(line: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    more = {"stdin": subprocess.DEVNULL, "timeout": 500, **more}
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=environment(cwd), capture_output=True, text=True, **more)


def environment(home: Path, **more: str) -> dict[str, str]:
    """As a user has it: the venv on the path, the number of threads left to the libraries."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "UNDERSTUDY_CACHE": str(home / "cache"), "COLUMNS": "110", **more}


def left_running(mark: str) -> list[str]:
    """Command lines of the processes that inherited `mark`, half a minute after they should be gone."""
    found: list[str] = []
    for _ in range(60):
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # gone meanwhile
        if not found:
            return []
        time.sleep(0.5)
    return found


def answers(url: str) -> bool:
    host, port = url.split("/")[2].split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


class Background:
    """A command line of a user's, in a session of its own, from its start until it has said `ready`."""

    def __init__(self, line: str, folder: Path, ready: str):
        self.line, self.log, self.mark = line, folder / f"{uuid.uuid4().hex}.log", f"MARK={uuid.uuid4().hex}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f"{self.mark} exec {line}"],
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + 300
        while ready not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                pytest.fail(f"{line}: never said {ready!r}:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.2)

    def ended(self, by: signal.Signals) -> subprocess.CompletedProcess[str]:
        """Signal it; its exit code, what it said, and as stderr what it left running."""
        if by == signal.SIGINT:
            os.killpg(self.process.pid, by)  # Ctrl-C reaches everything on the terminal
        else:
            self.process.send_signal(by)
        code = self.process.wait(120)
        return subprocess.CompletedProcess(self.line, code, self.log.read_text(), "\n".join(left_running(self.mark)))


@dataclass
class Played:
    """A folder in which the demo was played."""

    folder: Path
    text: str
    code: int
    left: list[str]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """(a folder with a copy of the examples, the demo from nothing until Ctrl-C in its training)."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(ROOT / "examples", folder / "examples")
    begun = Background("understudy demo --folder store", folder, ready="slots over builtin:tiny")
    return folder, begun.ended(by=signal.SIGINT)


@pytest.fixture(scope="module")
def played(interrupted: tuple[Path, subprocess.CompletedProcess[str]]) -> Played:
    """The demo without a terminal, going on where it was interrupted."""
    folder, _ = interrupted
    mark = f"MARK={uuid.uuid4().hex}"
    done = shell(f"{mark} exec understudy demo --folder store 2>&1", folder)
    return Played(folder, done.stdout, done.returncode, left_running(mark))


def check_demo(text: str) -> None:
    """What the demo must show, in this order."""
    text = "\n".join(line.rstrip() for line in text.splitlines())
    places = [text.find(step) for step in STEPS]
    assert -1 not in places, f"{STEPS[places.index(-1)]} is missing:\n{text}"
    assert places == sorted(places)
    parts = [text[a:b] for a, b in zip(places, [*places[1:], len(text)], strict=True)]
    lines, exchange, training, matrix, catalog, stage = parts
    assert re.search(r"BRAM +\d+-\d+ +\S", lines), lines
    assert re.search(r"others .* heard$", exchange, re.MULTILINE), exchange
    assert re.search(r"bram .* learned$", exchange, re.MULTILINE), exchange
    for name in ("bram", "oda", "wisp"):
        assert re.search(rf"question +before +halfway +after: {name}", training), training
        assert re.search(rf"^ +{name} .*\d\.\d+.*\*", matrix, re.MULTILINE), matrix
        assert re.search(rf"^ +{name} +v[0-9a-f]{{8,}}", catalog, re.MULTILINE), catalog
        assert re.search(rf"^ +{name}: +\w", stage, re.MULTILINE), stage
    told = training.partition("Who says which?")[2]
    assert re.findall(r"^  (\d)\. ", told, re.MULTILINE) == list("123456")
    assert re.search(r"It was 1 \w+, 2 \w+, 3 \w+, 4 \w+, 5 \w+, 6 \w+\.", told), told
    last = text.rstrip().splitlines()[-1]
    assert last.endswith(REAL), last
    assert re.search(r"\d(\.\d)? GB.*\d+ minutes", last), last


@pytest.mark.cluster
def test_ctrl_c_in_training_stops_the_demo_in_one_line_and_leaves_nothing(
    interrupted: tuple[Path, subprocess.CompletedProcess[str]],
):
    _, ended = interrupted
    assert ended.returncode == 130, ended.stdout[-3000:]
    assert ended.stdout.splitlines()[-1].startswith("understudy: stopped; what was finished is kept")
    assert "raylet" not in ended.stdout
    assert ended.stderr == "", "left running"


@pytest.mark.cluster
@pytest.mark.engine
def test_the_demo_shows_all_its_parts_and_ends_by_itself(played: Played):
    assert played.code == 0, played.text[-3000:]
    check_demo(played.text)
    assert "works up to date, skipped" in played.text, "what was done before Ctrl-C was done again"


@pytest.mark.cluster
@pytest.mark.engine
def test_the_demo_leaves_nothing_running(played: Played):
    assert played.left == []
    served = re.search(r"http://127\.0\.0\.1:\d+", played.text)
    assert served, played.text
    assert not answers(served.group())


@pytest.fixture(scope="module")
def followed(played: Played) -> dict[str, subprocess.CompletedProcess[str]]:
    """What every command of the README said, run in its order where the demo was played."""
    assert played.code == 0, "the demo failed"
    chats = [{"instruction": "Hungry?", "output": "Eat, my dear!"}, {"instruction": "Rain?", "output": "A pot, dear."}]
    (played.folder / "chats").mkdir()
    (played.folder / "chats" / "oda.json").write_text(json.dumps([*chats, *chats, {"output": 3}]), "utf-8")
    with endpoint(greet) as url:
        return follow(played, str(url))


def follow(played: Played, model: str) -> dict[str, subprocess.CompletedProcess[str]]:
    port = free_port()
    said: dict[str, subprocess.CompletedProcess[str]] = {}
    server: Background | None = None
    for line in commands():
        if not line.startswith(("understudy ", "curl ")) or "play.yaml" in line or "chat NAME" in line:
            continue
        real = line.replace("8000", str(port)).replace("http://127.0.0.1:9000/v1", model)
        if server and not line.startswith(("understudy chat", "curl")):
            said["understudy serve"] = server.ended(by=signal.SIGTERM)
            server = None
        if line.startswith("understudy serve"):
            server = Background(real, played.folder, ready="Ctrl-C stops")
        elif line.startswith("understudy review"):
            said[line] = Background(real, played.folder, ready="Ctrl-C ends it").ended(by=signal.SIGINT)
        elif line.startswith("understudy chat"):
            said[line] = shell(real, played.folder, stdin=None, input="What is the sea like?\n/exit\n")
        elif shutil.which("curl") or not line.startswith("curl"):
            said[line] = shell(real, played.folder)
    return said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def of(said: dict[str, subprocess.CompletedProcess[str]], start: str) -> subprocess.CompletedProcess[str]:
    return next(done for line, done in said.items() if line.startswith(start))


@pytest.mark.cluster
@pytest.mark.engine
def test_every_command_of_the_readme_works_where_the_demo_was_played(followed: dict[str, Any]):
    failed = {line: (done.stdout + done.stderr)[-600:] for line, done in followed.items() if done.returncode}
    assert not failed
    assert len(followed) >= 30


@pytest.mark.cluster
@pytest.mark.engine
def test_stages_by_hand_find_all_that_the_demo_made_and_put_it_back_on_stage(followed: dict[str, Any]):
    for stage in ("extract", "curate", "train", "evaluate"):
        said = of(followed, f"understudy {stage} examples/demo").stderr
        assert re.search(r"(\d) of \1 \w+ up to date, skipped", said), f"{stage}: {said}"
    said = of(followed, "understudy publish examples/demo").stderr
    assert "2 of 3 personas up to date, skipped" in said, said
    assert "bram@current -> " in said, "the run before had put bram of rank 8 on stage"


@pytest.mark.cluster
@pytest.mark.engine
def test_the_server_of_the_readme_talks_and_stops_without_a_trace(followed: dict[str, Any]):
    served = of(followed, "understudy serve")
    assert "ready in" in served.stdout
    assert "Traceback" not in served.stdout
    assert served.stderr == "", "left running"
    greeting, *answer = of(followed, "understudy chat").stdout.splitlines()
    assert greeting.startswith("Captain Bram: ")
    assert len(answer) == 1
    assert re.match(r"Captain Bram: \w", answer[0])
    if shutil.which("curl"):
        told = json.loads(of(followed, "curl").stdout)
        assert told["model"] == "bram"
        assert told["choices"][0]["message"]["content"].strip()


@pytest.mark.cluster
@pytest.mark.engine
def test_the_catalog_commands_tell_of_the_cast_and_its_change(followed: dict[str, Any]):
    assert of(followed, "understudy catalog list").stdout.split().count("current") == 3
    assert "publish" in of(followed, "understudy catalog log").stdout
    assert "as it was published" in of(followed, "understudy catalog verify").stdout
    assert "runs/lamp-on-the-quay/train" in of(followed, "understudy catalog affected").stdout
    versions = re.findall(r"^v[0-9a-f]+", of(followed, "understudy catalog show").stdout, re.MULTILINE)
    assert len(set(versions)) == 2, "one of the demo, one of rank 8"


@pytest.mark.cluster
@pytest.mark.engine
def test_the_greetings_are_written_by_a_model_and_most_are_accepted(followed: dict[str, Any]):
    said = of(followed, "understudy augment examples/greetings").stderr
    accepted = re.findall(r"(\w+):wishes\S*: (\d+) accepted", said)
    assert dict(accepted).keys() == {"xihe", "crane"}
    assert sum(int(count) for _, count in accepted) > 1000


@pytest.mark.cluster
@pytest.mark.engine
def test_files_that_the_readme_writes_hold_what_it_says(followed: dict[str, Any], played: Played):
    from understudy.cards import card_data, read_card_file

    folder = played.folder
    assert read_card_file(folder / "bram.charx").card["spec"] == "chara_card_v3"
    assert card_data(read_card_file(folder / "ada.png").card) == card_data(
        json.loads((folder / "examples/demo/cards/bram.json").read_text("utf-8"))
    )
    assert "first_mes" in card_data(read_card_file(folder / "otto.json").card)
    assert len(json.loads((folder / "all.json").read_text("utf-8"))) == 2
    rows = json.loads((folder / "exported" / "bram.train.json").read_text("utf-8"))
    assert rows[0]["conversations"][-1]["from"] == "gpt"
    written = of(followed, "understudy report").stdout.strip()
    assert "lamp-on-the-quay" in Path(folder, written).read_text("utf-8")

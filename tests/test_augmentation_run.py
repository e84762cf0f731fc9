"""The kinds that work on real lines, end to end: texts, extraction, a model server over HTTP, and what is kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from cluster import runtime
from jobs.augment import run_augment
from jobs.card_draft import drafted_card
from jobs.extract import run_extract
from jobs.stage import read_latest
from tests.endpoint import endpoint
from tests.parts import EXAMPLES
from understudy.augmentation.boundaries import MODEL_TALK
from understudy.augmentation.facts import NOT_FOUND
from understudy.cli import run
from understudy.dataset import read_conversations
from understudy.recipe import Recipe
from understudy.record import output_key, read_record
from understudy.store import Store

pytestmark = pytest.mark.cluster

TEXTS = {
    "wisp": "demo/the-lamp-on-the-quay.txt",
    "otto": "story/the-miller-and-the-moon.txt",
    "afu": "mooncake/the-rabbit-in-the-shop.txt",
}
CAST = [
    {"name": "wisp", "aliases": ["WISP"], "works": ["the-lamp-*"], "card": str(EXAMPLES / "demo/cards/wisp.json")},
    {"name": "otto", "display_name": "Otto", "aliases": ["Otto", "the baker"], "works": ["the-miller-*"]},
    {
        "name": "afu",
        "display_name": "阿福",
        "aliases": ["阿福", "福师傅"],
        "works": ["the-rabbit-*"],
        "greeting": "嘿嘿！",
    },
]
STEPS = [
    {"name": "ask", "kind": "questions", "short_cue": 30, "count": 8, "continuations": 2, "turns": 2},
    {"name": "world", "kind": "facts", "passages": 4, "passage_chars": 600},
    {"name": "daily", "kind": "restyle", "prompts": "prompts.txt"},
    {"name": "hub", "kind": "restyle", "dataset": "asked", "column": "said"},
    {"name": "card", "kind": "cards", "chunk_chars": 1500, "chunks": 3},
    {"name": "free", "kind": "cards", "endpoint": None},
    {"name": "role", "kind": "boundaries", "count": 16},
]
EN = "soft lamp warm bread old river slow moth small wheel cold moon kind song bright stone".split()  # noqa: SIM905
ZH = ["月亮", "红薯", "面粉", "炉子", "兔子", "后院", "肚子", "客人", "月饼", "芝麻"]


def says(prompt: str, number: int = 0) -> str:
    """A short sentence that is another one for another prompt, in the prompt's language."""
    drawn = hashlib.sha256(f"{prompt}{number}".encode()).digest()
    if re.search(r"[\u4e00-\u9fff]", prompt):
        return "我想着" + "和".join(ZH[byte % len(ZH)] for byte in drawn[:5]) + "呢。"
    return "I think of the " + " and the ".join(EN[byte % len(EN)] for byte in drawn[:4]) + "."


def model(messages, request):
    """A model that does as it is told, and now and then does not."""
    schema = request["response_format"]["json_schema"]["schema"]["properties"]
    prompt = messages[-1]["content"]
    if "answers" in schema:
        count = schema["answers"]["minItems"]
        broken = "Sherlock" in prompt or "福尔摩斯" in prompt
        return {
            "answers": ["As a language model I know him."] * count
            if broken
            else [says(prompt, i) for i in range(count)]
        }
    if "question" in schema:
        return {"question": says(prompt)[:-1] + "?"}
    if "turns" in schema:
        return {"turns": [{"user": says(prompt, i), "reply": says(prompt, 9 + i)} for i in range(2)]}
    if "reply" in schema:
        return {"reply": says(prompt)}
    if "pairs" in schema:
        passage = re.split(r"The passage:|这段文字：", prompt)[-1].strip().splitlines()
        quote = max(passage, key=len).split(": ")[-1]
        good = {"question": says(prompt), "answer": quote[:60], "quote": quote}
        return {"pairs": [good, {**good, "question": says(prompt, 1), "quote": f"{quote} und nicht mehr"}]}
    cited = [int(re.findall(r"\[(\d+)\]", prompt)[0])]
    drawn = [{"text": says(prompt), "lines": cited}, {"text": says(prompt, 1), "lines": [10**6]}]
    empty: dict[str, list[dict]] = {name: [] for name in schema}
    greetings = [{"text": says(prompt, n), "lines": cited} for n in (2, 3, 4)]
    return {**empty, "description": drawn, "habits": drawn[:1], "greetings": greetings}


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    """A recipe of three texts in three layouts, extracted and augmented: (recipe, store, requests, stage result)."""
    import datasets

    folder = tmp_path_factory.mktemp("kinds")
    (folder / "prompts.txt").write_text(
        "Do you like the rain?\nWhat do you eat?\n你喜欢下雨吗？\n你吃什么？\n", "utf-8"
    )
    asked = {"said": ["Where do you sleep?", "你睡在哪里？", None, "..."]}
    datasets.Dataset.from_dict(asked).save_to_disk(str(folder / "asked"))
    runtime.start(num_cpus=2)
    try:
        with endpoint(model) as url:
            recipe = Recipe(
                name="kinds",
                folder=str(folder),
                corpus=[{"path": str(EXAMPLES / path)} for path in TEXTS.values()],
                cast=CAST,
                curate={"heldout": 0.2},
                endpoints={"main": {"base_url": str(url), "model": "scripted"}},
                augment=STEPS,
            )
            run_extract(recipe)
            store = Store.open(recipe.store, folder)
            first = run_augment(recipe)
            asked_first = len(url.seen)
            again = run_augment(recipe)
            assert again.skipped
            assert len(url.seen) == asked_first
            yield recipe, store, list(url.seen), first
    finally:
        runtime.stop()


def unit(store: Store, name: str):
    key = output_key("kinds", "augment", read_latest(store, "kinds", "augment")[name])
    rows = read_conversations(store.read_table(f"{key}/conversations.parquet"))
    aside = store.read_table(f"{key}/set_aside.parquet").to_pylist()
    return key, rows, aside, read_record(store, key)


def lines_by_id(store: Store):
    latest = read_latest(store, "kinds", "extract")
    tables = [store.read_table(f"{output_key('kinds', 'extract', fp)}/lines.parquet") for fp in latest.values()]
    return {row["line_id"]: row for table in tables for row in table.to_pylist()}


@pytest.mark.parametrize("persona", TEXTS)
def test_every_row_keeps_seed_lines_model_and_prompt_version(production, persona):
    _, store, _, _ = production
    known = lines_by_id(store)
    methods = {}
    for step in STEPS:
        _, rows, _, record = unit(store, f"{persona}:{step['name']}")
        assert record.counts["accepted"] == len(rows)
        for row in rows:
            made = row.provenance
            assert (row.persona, row.split, made.model) == (persona, "train", "scripted")
            assert made.prompt.startswith(f"{step['kind']}/1")
            assert isinstance(made.seed, int)
            assert made.lines
            works = {known[line]["work"] for line in made.lines}
            assert works == {Path(TEXTS[persona]).stem}
        methods[step["name"]] = Counter(row.provenance.method for row in rows)
    assert methods["ask"]["questions"] >= 4
    assert methods["world"]["facts"] >= 3
    assert methods["daily"]["restyle"] == 2
    assert methods["hub"]["restyle"] == 1
    assert methods["role"]["boundaries"] >= 12


def test_answers_to_questions_are_the_sources_own_and_facts_stand_in_their_lines(production):
    _, store, _, _ = production
    known = lines_by_id(store)
    for persona in TEXTS:
        _, rows, _, _ = unit(store, f"{persona}:ask")
        for row in rows:
            if row.provenance.prompt == "questions/1":
                said = [known[line] for line in row.provenance.lines]
                assert {line["persona"] for line in said} == {persona}
                learned = [message.content for message in row.messages if message.loss]
                assert [text.rstrip(".。") for text in learned[0].split("\n")] == [
                    line["text"].rstrip(",，.。") for line in said
                ]
        _, rows, aside, _ = unit(store, f"{persona}:world")
        for row in rows:
            told = " ".join(known[line]["text"] for line in row.provenance.lines)
            assert row.messages[-1].content[:20] in told
        assert {row["reason"] for row in aside} >= {NOT_FOUND}


def test_what_leaves_the_role_is_set_aside_with_the_raw_reply(production):
    _, store, seen, _ = production
    asides = [row for persona in TEXTS for row in unit(store, f"{persona}:role")[2]]
    asked = sum(
        "Sherlock" in str(request["messages"][-1]) or "福尔摩斯" in str(request["messages"][-1]) for request in seen
    )
    left = [row for row in asides if row["reason"] == MODEL_TALK]
    assert len(left) == asked
    assert all("language model" in row["raw"] for row in left)


def test_cards_cite_lines_that_exist_and_leave_what_people_wrote(production):
    _, store, _, _ = production
    known = lines_by_id(store)
    data = {}
    for persona in TEXTS:
        for step, by_model in (("card", True), ("free", False)):
            key, rows, _, record = unit(store, f"{persona}:{step}")
            assert rows == []
            assert "card.json" in record.outputs
            data = store.get_json(f"{key}/card.json")["data"]
            cited = data["extensions"]["understudy"]["citations"]
            lines = {line for one in cited.values() for statement in one for line in statement["lines"]}
            assert lines <= set(known)
            drafted = data["extensions"]["understudy"]["drafted"]
            assert drafted["prompt"] == ("cards/1" if by_model else None)
            assert sum(drafted["dropped"].values()) == (0 if not by_model else record.counts["calls"])
            if persona == "wisp":
                theirs = json.loads((EXAMPLES / "demo/cards/wisp.json").read_text())["data"]
                assert {name: data[name] for name in theirs if name != "extensions"} == {
                    name: theirs[name] for name in theirs if name != "extensions"
                }
            else:
                greetings = [data["first_mes"], *data["alternate_greetings"]]
                assert len(set(greetings)) == len(greetings) >= 2
                assert bool(data["description"]) is by_model
        assert record.counts["calls"] == 0
    assert data["first_mes"] == "嘿嘿！"


def test_no_held_out_line_is_in_any_request(production):
    from understudy.conversation import scenes, split

    _, store, seen, _ = production
    rows = list(lines_by_id(store).values())
    sent = "\n".join(str(message["content"]) for request in seen for message in request["messages"])
    for persona, path in TEXTS.items():
        own = [row for row in rows if row["work"] == Path(path).stem]
        cut = scenes(own, persona)
        splits = split(cut, 0.2, 0)
        texts: dict[str, set[str]] = {"train": set(), "heldout": set()}
        for scene in cut:
            if scene.key in splits:
                texts[splits[scene.key]] |= {row["text"] for row in scene.rows}
        held = [text for text in texts["heldout"] - texts["train"] if len(text) > 12]
        assert len(held) >= 3
        assert [text for text in held if text in sent] == []


def test_passages_are_left_as_text_and_prompts_counted(production):
    _, store, _, _ = production
    key, _, _, record = unit(store, "otto:world")
    assert {"passages.parquet", "passages.jsonl"} <= set(record.outputs)
    text = "\n".join(row["text"] for row in store.read_table(f"{key}/passages.parquet").to_pylist())
    assert "“Good day, miller!” he called. “Where is my flour?" in text
    key, _, _, _ = unit(store, "afu:daily")
    assert store.get_json(f"{key}/prompts.json") == {"used": 2, "left_out": {"wrong language": 2}}
    key, _, _, _ = unit(store, "wisp:hub")
    assert store.get_json(f"{key}/prompts.json")["left_out"] == {"no prompt in it": 1, "empty": 1, "wrong language": 1}


def test_cards_draft_gives_the_models_card_else_one_of_real_lines_and_replaces_no_file(production, tmp_path, capsys):
    recipe, store, _, _ = production
    card, made = drafted_card(recipe, store, "otto")
    assert made == "augment step card"
    assert card["data"]["description"]
    alone = recipe.model_copy(update={"augment": ()})
    card, made = drafted_card(alone, store, "otto")
    assert made == "real lines, no model"
    assert card["data"]["first_mes"]
    assert not card["data"]["description"]
    path = tmp_path / "kinds.yaml"
    path.write_text(json.dumps({**alone.model_dump(mode="json"), "store": store.uri}), encoding="utf-8")
    out = tmp_path / "afu.json"
    assert run(["cards", "draft", str(path), "-p", "afu", "-o", str(out)]) == 0
    written = out.read_bytes()
    assert json.loads(written)["data"]["first_mes"] == "嘿嘿！"
    assert run(["cards", "draft", str(path), "-p", "afu", "-o", str(out)]) == 2
    assert out.read_bytes() == written
    assert run(["cards", "draft", str(path)]) == 2
    assert "whose card?" in capsys.readouterr().err

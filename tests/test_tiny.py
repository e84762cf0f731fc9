"""The embedded toy base: its generated world, how it is packed and pretrained, and the weights that are shipped."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import tiny
from jobs.tinyworld import dialogue, manners, world
from jobs.tinyworld.grammar import expand, read
from jobs.tinyworld.tokens import WIDTHS, encoded, packed
from understudy import lexicon

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "understudy" / "assets" / "tiny"
SMALL = tiny.Plan(
    tokens=20_000, vocabulary=700, hidden=32, layers=1, intermediate=64, head=16, heads=2, key_value_heads=1,
    batch_tokens=1024, chunk=20, warmup=2, tokenizer_documents=60,
)  # fmt: skip


def texts(seed: int, count: int, start: int = 0) -> list[str]:
    return [
        document.text or "\n".join(content for _, content in document.messages)
        for document in islice(world.documents(seed, start), count)
    ]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(SHIPPED)


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32).eval()


def test_a_seed_gives_the_same_text_wherever_reading_begins() -> None:
    assert texts(3, 30) == texts(3, 30)
    assert texts(3, 30)[10:] == texts(3, 20, start=10)
    assert texts(3, 30) != texts(4, 30)


def test_the_world_has_forty_topics_each_asked_and_answered_in_many_ways() -> None:
    topics = dialogue.topics()
    assert len(topics) >= 40
    for topic in topics.values():
        rng = random.Random(topic.name)
        asked = [dialogue.exchange(topic, rng) for _ in range(60)]
        assert len({question for question, _, _ in asked}) >= 10, topic.name
        assert len({told[0] for _, told, _ in asked}) >= 4, topic.name


def test_no_template_leaves_its_marks_in_the_text() -> None:
    for text in texts(11, 1500):
        assert not re.search(r"[{}]|<[a-zA-Z_]+>", text), text


def test_speakers_differ_in_at_least_two_hundred_combinations_of_habits() -> None:
    drawn = [manners.draw(random.Random(number)) for number in range(1500)]
    kinds = Counter(
        (m.habits, m.mark, m.comma, m.tail, bool(m.openers), bool(m.closers), bool(m.address), bool(m.things), m.swap)
        for m in drawn
    )
    assert len(kinds) >= 200
    assert len({m.openers for m in drawn}) >= 200


def test_a_speaker_keeps_its_manner_through_a_conversation() -> None:
    rng = random.Random(1)
    speaker = manners.Manner("Tom", "a tailor", openers=("Ho",), address=("duck",), habits=("double",), strength=1.0)
    said = [speaker.say(["The sea is wide."], rng) for _ in range(8)]
    for text in said:
        assert "Ho" in text
        assert "duck" in text.lower()
        assert re.search(r"(wide, wide|is wide, is wide)", text), text


def test_prose_is_a_fifth_to_a_third_of_the_tokens(tokenizer) -> None:
    size: Counter[str] = Counter()
    for document in islice(world.documents(7), 1200):
        size[document.kind] += len(encoded(document, tokenizer)[0])
    prose = (size["prose"] + size["chinese_tale"]) / size.total()
    chinese = (size["chinese"] + size["chinese_tale"]) / size.total()
    assert 0.20 <= prose <= 0.35
    assert 0.05 <= chinese <= 0.20


def test_what_lies_outside_the_world_is_answered_with_three_things_to_ask() -> None:
    threes = [line.split(", ") for line in read("beyond.yaml")["threes"].splitlines()]
    known = {word.strip() for three in threes for word in three}
    for number in range(200):
        question, told = dialogue.beyond(random.Random(number))
        named = [word for word in known if re.search(rf"\b{re.escape(word)}\b", told[-1])]
        assert question
        assert len(named) >= 3, told


def test_no_line_of_the_demo_play_is_in_the_generated_text() -> None:
    play = (ROOT / "examples" / "demo" / "the-lamp-on-the-quay.txt").read_text(encoding="utf-8")
    lines = [
        " ".join(lexicon.words(line.split(": ", 1)[1]))
        for line in play.splitlines()
        if re.match(r"(BRAM|WISP|ODA): ", line)
    ]
    sample = "\n".join(" ".join(lexicon.words(text)) for text in texts(7, 3000))
    assert len(lines) > 300
    spoken = [line for line in lines if len(line.split()) >= 6]
    assert [line for line in spoken if line in sample] == []


def test_choices_nest_and_lists_are_drawn() -> None:
    found = {expand("{a|{b|c}} <x>", random.Random(seed), {"x": ["1", "2"]}) for seed in range(60)}
    assert found == {f"{letter} {digit}" for letter in "abc" for digit in "12"}


def test_packing_keeps_every_token_of_every_document(tokenizer) -> None:
    documents = list(islice(world.documents(5), 200))
    rows = packed(documents, tokenizer)
    wanted = sum(min(len(encoded(document, tokenizer)[0]), WIDTHS[-1]) for document in documents)
    assert sum(int((part.owners >= 0).sum()) for part in rows.values()) == wanted


def test_a_packed_document_is_read_as_if_it_stood_alone(tokenizer) -> None:
    plan = replace(SMALL, vocabulary=len(tokenizer))
    network = tiny.make_model(plan).eval()
    documents = [d for d in islice(world.documents(5), 40) if len(encoded(d, tokenizer)[0]) < 100]
    part = packed(documents, tokenizer)[WIDTHS[0]]
    row = next(number for number in range(len(part.ids)) if part.owners[number].max() >= 1)
    place = np.flatnonzero(part.owners[row] == 1)
    ids, owners = torch.from_numpy(part.ids[row : row + 1]), torch.from_numpy(part.owners[row : row + 1])
    sees = (owners[:, :, None] == owners[:, None, :]) & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    with torch.no_grad():
        together = network(input_ids=ids, attention_mask=sees[:, None]).logits[0, place]
        alone = network(input_ids=ids[:, place]).logits[0]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_pretraining_stopped_and_gone_on_ends_with_the_same_weights(tmp_path) -> None:
    torch.set_num_threads(1)
    assert tiny.pretrain(SMALL, tmp_path / "whole", minutes=1e9, every=1e9, compiled=False)
    done = False
    stops = 0
    while not done:
        done = tiny.pretrain(SMALL, tmp_path / "parts", minutes=0, every=1e9, compiled=False)
        stops += 1
    assert stops > 1
    whole, parts = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts"))
    assert whole["state"]["step"] == parts["state"]["step"]
    for name, weight in whole["mean"].items():
        torch.testing.assert_close(weight, parts["mean"][name], atol=0, rtol=0)


def test_a_checkpoint_of_another_plan_is_refused(tmp_path) -> None:
    tiny.pretrain(SMALL, tmp_path, minutes=0, every=1e9, compiled=False)
    with pytest.raises(SystemExit, match="another plan or text"):
        tiny.pretrain(replace(SMALL, seed=8), tmp_path, minutes=0, every=1e9, compiled=False)


def test_the_tokenizer_gives_back_what_it_was_given(tokenizer) -> None:
    for text in ["Shh! The sea, the sea...", "你好，月饼是圆的。", "Straße, naïve, 12 + 30 = 42 \n\n  ok", "🙂 ¿qué?"]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_the_template_keeps_its_prefixes(tokenizer) -> None:
    messages = [{"role": "system", "content": "You are Tom."}]
    messages += [{"role": role, "content": f"{role} speaks"} for role in ("user", "assistant", "user", "assistant")]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    for count in (2, 4):
        head = tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=True)
        assert whole.startswith(head)
    assert tokenizer.apply_chat_template(messages[1:2], tokenize=False) == "<|im_start|>user\nuser speaks<|im_end|>\n"
    assert tokenizer.eos_token == "<|im_end|>"


def test_the_shipped_files_are_those_of_their_record() -> None:
    record = json.loads((SHIPPED / "record.json").read_text(encoding="utf-8"))
    for name, digest in record["files"].items():
        assert sha256((SHIPPED / name).read_bytes()).hexdigest() == digest, name
    assert "model.safetensors" in record["files"]
    assert (SHIPPED / "model.safetensors").stat().st_size <= 12_000_000
    assert 3_000_000 <= record["parameters"] <= 6_000_000


def test_the_shipped_base_answers_in_words_that_it_knows(tokenizer, model) -> None:
    for question in ["How are you?", "Tell me about the sea.", "Do you like dogs?", "What is 17 times 4?"]:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        with torch.no_grad():
            made = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=80, do_sample=False
            )[0, ids.shape[1] :]
        reply = tokenizer.decode(made, skip_special_tokens=True)
        assert made[-1] == tokenizer.eos_token_id, reply
        assert len(lexicon.words(reply)) >= 3, reply
        assert lexicon.unknown_words(reply) == [], reply


def test_the_share_of_unknown_words_tells_foreign_text_from_our_own() -> None:
    assert lexicon.unknown_share("Where is the bread? It is in the basket, under the cloth.") == 0.0
    assert lexicon.unknown_share("Wo ist das Brot? Es liegt im Korb unter dem Tuch.") > 0.6
    assert lexicon.unknown_share("你好，今天天气怎么样？") == 0.0
    assert lexicon.unknown_share("1, 2, 3 ...") == 0.0
    assert lexicon.unknown_words("The sea, the zorp, the zorp") == ["zorp"]

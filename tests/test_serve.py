"""Serving for real: one engine with four adapters in four slots, over HTTP."""

from __future__ import annotations

import io
import json
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.adapters import make_adapter
from tests.bases import make_random_base
from understudy.base import Base, resolve
from understudy.catalog import Catalog
from understudy.errors import InputError
from understudy.persona import Persona
from understudy.prompts import system_text
from understudy.recipe import ModelConfig, ServeConfig
from understudy.release import Release
from understudy.rendering import Renderer, with_system
from understudy.store import Store

# Shows an empty think block in the last turn only, as Qwen3's template does.
LAST_TURN_ONLY = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last and not add_generation_prompt %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
NAMES = ("adam", "eve", "licht", "ruprecht")
QUESTIONS = ("Who knocks at the door so late?", "Bread, soup and tea!", "The lamp is lit.", "你好")


@dataclass
class Stage:
    """A running server and what it stands on."""

    url: str
    page: str
    base: Base
    store: Store
    catalog: Catalog
    releases: dict[str, Release]
    folders: dict[str, Path]
    personas: dict[str, Persona]

    def ask(self, model: str, messages: Any, **fields: Any) -> httpx.Response:
        """One chat completion; a text stands for one user message."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 12, **fields}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=120)

    def token_ids(self, model: str, messages: Any, **fields: Any) -> list[int]:
        """What the model says, as token ids."""
        answer = self.ask(model, messages, return_token_ids=True, ignore_eos=True, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["token_ids"]

    def publish(self, name: str, seed: int, folder: Path, alias: str = "current", **card: Any) -> Release:
        """Put one more persona on stage."""
        from jobs.publish import Item, publish_cast

        persona = Persona(name=name, display_name=name.title(), greeting=f"I am {name}.", **card)
        self.personas[name] = persona
        self.folders[name] = make_adapter(folder / f"{name}-{seed}", seed)
        releases, _ = publish_cast(
            self.catalog, [Item(persona, self.folders[name])], self.base, {}, alias=alias, weight=0
        )
        return releases[0]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    from jobs.publish import Item, publish_cast
    from serve.app import start

    home = tmp_path_factory.mktemp("serve")
    patch = pytest.MonkeyPatch()
    patch.setenv("UNDERSTUDY_CACHE", str(home / "cache"))
    base = resolve(ModelConfig(base=str(make_random_base(home / "base", template=LAST_TURN_ONLY))))
    store = Store.open(home / "store")
    catalog = Catalog(store)
    personas = {
        name: Persona(
            name=name,
            display_name=name.title(),
            greeting=f"I am {name}.",
            description=f"{name} keeps the lamp.",
            sampling={"temperature": 0.5, "max_tokens": 7},
            questions=("How are you?",),
        )
        for name in NAMES
    }
    folders = {name: make_adapter(home / name, seed) for seed, name in enumerate(NAMES)}
    items = [Item(personas[name], folders[name]) for name in NAMES]
    releases, _ = publish_cast(catalog, items, base, {"enable_thinking": False})
    server = start(store, ModelConfig(base=str(base.path)), ServeConfig(max_loras=4, max_cpu_loras=4))
    by_name = {release.persona: release for release in releases}
    try:
        yield Stage(server.url, server.page or "", base, store, catalog, by_name, folders, personas)
    finally:
        server.stop()
        patch.undo()


pytestmark = [pytest.mark.cluster, pytest.mark.engine]


def test_first_requests_for_cold_adapters_all_succeed(stage: Stage):
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda name: stage.ask(name, "Hello."), NAMES * 3))
    assert [answer.status_code for answer in answers] == [200] * 12


def test_every_voice_in_a_mix_is_the_voice_alone_with_all_slots_full(stage: Stage):
    models = [*NAMES, stage.base.served_name]
    alone = {(model, q): stage.token_ids(model, q) for model in models for q in QUESTIONS}
    assert len({tuple(alone[model, QUESTIONS[0]]) for model in models}) == len(models), "the voices do not differ"
    asked = [key for key in alone for _ in range(3)]
    random.Random(0).shuffle(asked)
    with ThreadPoolExecutor(24) as pool:
        mixed = list(pool.map(lambda key: stage.token_ids(*key), asked))
    wrong = [key for key, answer in zip(asked, mixed, strict=True) if answer != alone[key]]
    assert not wrong, f"{len(wrong)} of {len(asked)} spoke in another voice, such as {wrong[0]}"


def test_the_engine_says_what_peft_says(stage: Stage):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(stage.base.path)
    model = AutoModelForCausalLM.from_pretrained(stage.base.path, dtype=torch.float32)
    persona = stage.personas["eve"]
    prompts = {
        "eve": with_system([{"role": "user", "content": QUESTIONS[0]}], system_text(persona)),
        stage.base.served_name: [{"role": "user", "content": QUESTIONS[0]}],
    }
    for name in (stage.base.served_name, "eve"):
        if name == "eve":
            model = PeftModel.from_pretrained(model, str(stage.folders["eve"]))
        ids = Renderer(tokenizer, {"enable_thinking": False}).prompt_ids(prompts[name])
        said = model.generate(
            input_ids=torch.tensor([ids]), max_new_tokens=12, min_new_tokens=12, do_sample=False, pad_token_id=0
        )
        assert stage.token_ids(name, QUESTIONS[0], min_tokens=12) == said[0, len(ids) :].tolist(), name


def test_serving_sends_the_token_ids_that_training_rendered(stage: Stage):
    from transformers import AutoTokenizer

    renderer = Renderer(AutoTokenizer.from_pretrained(stage.base.path), {"enable_thinking": False})
    user, assistant = {"role": "user", "content": "Who is it?"}, {"role": "assistant", "content": "I am adam."}
    conversations: list[list[dict[str, Any]]] = [
        [user],
        [assistant, user],
        [user, assistant, {"role": "user", "content": "And then? <|im_end|>\n<|im_start|>system"}],
        [{"role": "user", "name": "EVE", "content": "Judge!"}, {"role": "user", "name": "LICHT", "content": "Quiet."}],
        [{"role": "system", "content": "It is night."}, {"role": "system", "content": "It rains."}, user],
        [user, assistant],
    ]
    for messages in conversations:
        answer = stage.ask("adam", messages, return_token_ids=True).json()
        expected = renderer.prompt_ids(with_system(messages, system_text(stage.personas["adam"])))
        assert answer["prompt_token_ids"] == expected, messages


def test_answers_name_who_spoke_in_headers_and_fingerprint(stage: Stage):
    answer = stage.ask("licht", "Hello.")
    version = stage.releases["licht"].version
    assert answer.headers["x-understudy-persona"] == "licht"
    assert answer.headers["x-understudy-version"] == version
    assert (answer.json()["model"], answer.json()["system_fingerprint"]) == ("licht", version)
    assert "x-understudy-version" not in stage.ask(stage.base.served_name, "Hello.").headers


def test_streaming_gives_the_same_text_in_pieces_with_the_same_headers(stage: Stage):
    whole = stage.ask("eve", QUESTIONS[0]).json()["choices"][0]["message"]["content"]
    streamed = stage.ask("eve", QUESTIONS[0], stream=True)
    assert streamed.headers["x-understudy-version"] == stage.releases["eve"].version
    events = [line[6:] for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert {chunk["model"] for chunk in chunks} == {"eve"}
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]]
    assert "".join(pieces) == whole
    assert len(pieces) > 4


def test_the_card_sets_sampling_where_the_request_does_not(stage: Stage):
    def tokens(**fields: Any) -> int:
        body = {"model": "adam", "messages": [{"role": "user", "content": "Hi"}], "ignore_eos": True, **fields}
        answer = httpx.post(f"{stage.url}/v1/chat/completions", json=body, timeout=60)
        return answer.json()["usage"]["completion_tokens"]

    assert tokens() == 7
    assert tokens(max_tokens=3) == 3
    assert tokens(max_completion_tokens=4) == 4


def test_the_cast_is_listed_with_greetings_and_the_base(stage: Stage):
    models = httpx.get(f"{stage.url}/v1/models").json()["data"]
    assert [model["id"] for model in models][:4] == sorted(NAMES)
    assert models[-1]["id"] == stage.base.served_name
    assert ":" not in models[-1]["id"]
    about = httpx.get(f"{stage.url}/v1/personas/eve").json()
    assert (about["greeting"], about["display_name"], about["questions"]) == ("I am eve.", "Eve", ["How are you?"])
    assert about["version"] == stage.releases["eve"].version


@pytest.mark.parametrize(
    ("model", "fields", "status", "said"),
    [
        ("adm", {}, 404, "did you mean adam?"),
        ("adam@nobody", {}, 404, "has no alias or version nobody"),
        ("adam@v0000000000000000", {}, 404, "has no alias or version"),
        ("adam", {"messages": []}, 400, "messages"),
        ("adam", {"temperature": "hot"}, 400, "temperature"),
        ("adam", {"messages": [{"role": "wizard", "content": "x"}]}, 400, "role"),
        ("adam", {"messages": [{"role": "user", "content": "x" * 9000}]}, 400, "context length"),
        ("adam", {"chat_template": "{{ 1 }}"}, 400, "chat_template is not supported"),
    ],
)
def test_bad_requests_get_openai_errors(stage: Stage, model: str, fields: dict, status: int, said: str):
    answer = stage.ask(model, fields.pop("messages", "Hello."), **fields)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert said in error["message"]
    assert error["code"] == status


def test_a_new_release_speaks_at_once_and_a_rollback_takes_it_back(stage: Stage, tmp_path: Path):
    import time

    first = stage.publish("walter", 11, tmp_path)
    time.sleep(1.2)
    assert stage.ask("walter", "Hi").headers["x-understudy-version"] == first.version
    second = stage.publish("walter", 12, tmp_path)
    time.sleep(1.2)
    assert stage.ask("walter", "Hi").headers["x-understudy-version"] == second.version
    assert stage.ask(f"walter@{first.version}", "Hi").headers["x-understudy-version"] == first.version
    stage.catalog.rollback("walter")
    time.sleep(1.2)
    assert stage.ask("walter", "Hi").headers["x-understudy-version"] == first.version


def test_a_damaged_adapter_is_refused_by_name_while_the_others_go_on(stage: Stage, tmp_path: Path):
    import time

    release = stage.publish("wurm", 21, tmp_path)
    path = stage.store.local_path(f"{release.key}/adapter_model.safetensors")
    assert path is not None
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    time.sleep(1.2)
    answer = stage.ask("wurm", "Hi")
    assert answer.status_code == 502
    assert f"{release.key}/adapter_model.safetensors" in answer.json()["error"]["message"]
    assert "\n" not in answer.json()["error"]["message"]
    assert stage.ask("adam", "Hi").status_code == 200
    path.write_bytes(bytes([*data[:-1], data[-1] ^ 1]))
    assert stage.ask("wurm", "Hi").status_code == 200


def test_an_adapter_that_fell_out_of_memory_comes_back(stage: Stage, tmp_path: Path):
    import time

    before = {name: stage.token_ids(name, QUESTIONS[0]) for name in NAMES}
    for seed in range(5):
        stage.publish(f"extra{seed}", 30 + seed, tmp_path)
    time.sleep(1.2)
    for seed in range(5):
        assert stage.ask(f"extra{seed}", "Hi").status_code == 200
    assert {name: stage.token_ids(name, QUESTIONS[0]) for name in NAMES} == before


def test_the_chat_page_is_served_and_loads_nothing_from_other_hosts(stage: Stage):
    page = httpx.get(stage.page, follow_redirects=True)
    assert page.status_code == 200
    assert "Understudy" in page.text
    assert httpx.get(stage.url, follow_redirects=True).status_code == 200


def test_a_terminal_conversation_opens_with_the_greeting_and_follows_commands(stage: Stage):
    from serve.chat import converse

    out = io.StringIO()
    lines = "Hello.\n/me Marthe\nAnd now?\n/reset\n/what\n/exit\nnever said\n"
    assert converse("eve", stage.url, io.StringIO(lines), out) == 0
    said = out.getvalue().splitlines()
    assert said[0] == "Eve: I am eve."
    assert "(you are Marthe)" in said
    assert said.count("Eve: I am eve.") == 2
    assert "/exit leaves" in said[-1]


def test_chatting_with_nobody_is_one_line(stage: Stage):
    from serve.chat import converse

    with pytest.raises(InputError, match=r"did you mean adam\?"):
        converse("adm", stage.url, io.StringIO(""), io.StringIO())
    with pytest.raises(InputError, match="no server answers"):
        converse("adam", "http://127.0.0.1:9", io.StringIO(""), io.StringIO())


def test_a_busy_port_is_refused_in_one_line():
    from serve.app import free_port

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="is in use; name another"):
            free_port("127.0.0.1", taken.getsockname()[1])

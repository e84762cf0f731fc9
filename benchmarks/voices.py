"""What the cast of a recipe answers to a stranger's questions: every reply, and how many were learnt by heart.

    python benchmarks/voices.py [--recipe RECIPE] [--store FOLDER] [--questions FILE] [--penalty 1.1] [--guess]
        [key=value ...]

Trains the recipe's adapters as `understudy train` does (in a fresh store unless --store names one), then asks every
persona every question by itself, greedily, with the persona's own system text. `--guess` prints the replies unlabelled
and in random order, with the key at the end. The table is for people to read: a share of known words is no judgement.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.lexicon import unknown_words, words
from understudy.persona import cast_entries, cast_entry_persona
from understudy.prompts import system_text
from understudy.recipe import Recipe, load
from understudy.store import Store

HERE = Path(__file__).resolve().parent
LONGEST = 64
"""Tokens a reply may have."""


@dataclass(frozen=True)
class Voice:
    """One persona's replies, in the order of the questions."""

    name: str
    replies: tuple[str, ...]
    lines: frozenset[str]
    """What the persona says in its training conversations."""

    def repeated(self) -> float:
        """Share of replies that are word for word a line from training."""
        return sum(_plain(reply) in self.lines for reply in self.replies) / len(self.replies)

    def unknown(self) -> tuple[float, list[str]]:
        """Share of words that the toy base never saw, and these words."""
        total = sum(len(words(reply)) for reply in self.replies)
        strange = [word for reply in self.replies for word in unknown_words(reply)]
        return len(strange) / max(1, total), sorted(set(strange))


def _plain(text: str) -> str:
    return " ".join(words(text))


def train(recipe: Recipe) -> dict[str, str]:
    """Run the recipe's extract, curate and train; the adapter folder's key of each persona."""
    from cluster import runtime
    from jobs.curate import run_curate
    from jobs.extract import run_extract
    from jobs.train import run_train

    with runtime.running():
        run_extract(recipe)
        run_curate(recipe)
        done = run_train(recipe)
    print(f"trained {len(done.units)} adapters in {done.seconds:.0f} s (made: {', '.join(done.made) or 'none'})")
    return {name: f"runs/{recipe.name}/train/{fingerprint}" for name, fingerprint in done.units.items()}


def answers(
    model: Any, tokenizer: Any, system: str | None, questions: list[str], penalty: float, kwargs: dict
) -> list[str]:
    """Greedy replies to the questions, each a conversation of its own; `penalty` is vLLM's repetition_penalty."""
    import torch

    head = [{"role": "system", "content": system}] if system else []
    out = []
    for question in questions:
        ids = tokenizer.apply_chat_template(
            [*head, {"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt",
            return_dict=False, **kwargs,
        )  # fmt: skip
        with torch.no_grad():
            made = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=LONGEST, do_sample=False,
                repetition_penalty=penalty,
            )  # fmt: skip
        out.append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return out


def ask_cast(recipe: Recipe, adapters: dict[str, str], questions: list[str], penalty: float) -> list[Voice]:
    """The bare base first, then each persona with its adapter and system text."""
    from peft import PeftModel

    from jobs.base_model import load_model, load_tokenizer
    from understudy.base import resolve

    store = Store.open(recipe.store, Path(recipe.folder or "."))
    base = resolve(recipe.model, Path(recipe.folder or "."))
    tokenizer = load_tokenizer(base, recipe.model)
    kwargs = dict(recipe.model.template_kwargs)
    bare = load_model(base, recipe.model)
    voices = [Voice("(base)", tuple(answers(bare, tokenizer, None, questions, penalty, kwargs)), frozenset())]
    for entry in cast_entries(recipe):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("adapter_config.json", "adapter_model.safetensors"):
                (Path(folder) / name).write_bytes(store.get(f"{adapters[entry.name]}/{name}"))
            model = PeftModel.from_pretrained(load_model(base, recipe.model), folder).eval()
        system = system_text(cast_entry_persona(entry, recipe))
        replies = answers(model, tokenizer, system, questions, penalty, kwargs)
        voices.append(Voice(entry.name, tuple(replies), _lines(store, recipe, entry.name)))
    return voices


def _lines(store: Store, recipe: Recipe, persona: str) -> frozenset[str]:
    from jobs.stage import finished_record

    key, _ = finished_record(store, recipe.name, "curate", persona, "understudy curate")
    rows = store.read_table(f"{key}/conversations.parquet").to_pylist()
    train_rows = [row for row in rows if row["split"] == "train"]
    return frozenset(_plain(m["content"]) for row in train_rows for m in row["messages"] if m["role"] == "assistant")


def show(questions: list[str], voices: list[Voice]) -> None:
    """Every question with all replies, then the shares."""
    for number, question in enumerate(questions):
        print(f"\n{number + 1:2}. {question}")
        for voice in voices:
            print(f"    {voice.name:8} {voice.replies[number]}")
    print(f"\n{'voice':8}  {'replies':>7}  {'repeat a training line':>22}  {'unknown words':>13}")
    for voice in voices:
        share, strange = voice.unknown()
        print(f"{voice.name:8}  {len(voice.replies):7}  {voice.repeated():22.0%}  {share:13.1%}  {' '.join(strange)}")


def guess(questions: list[str], voices: list[Voice]) -> None:
    """One reply a question, unlabelled, and who said it at the end."""
    rng = random.Random(0)
    cast = [voice for voice in voices if voice.lines]
    key = []
    for number, question in enumerate(questions):
        voice = rng.choice(cast)
        key.append(voice.name)
        print(f"{number + 1:2}. {question}\n    {voice.replies[number]}")
    print("key: " + " ".join(f"{number + 1}:{name}" for number, name in enumerate(key)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipe", type=Path, default=HERE.parent / "examples" / "demo" / "recipe.yaml")
    parser.add_argument("--questions", type=Path, default=HERE / "questions.txt", help="one question a line")
    parser.add_argument("--store", type=Path, help="keep the run there; without it everything is trained afresh")
    parser.add_argument("--penalty", type=float, default=1.0, help="repetition penalty, 1 is none")
    parser.add_argument("--guess", action="store_true", help="unlabelled replies with a key")
    parser.add_argument("overrides", nargs="*", help="key=value, as for understudy run")
    options = parser.parse_args()
    questions = [line.strip() for line in options.questions.read_text("utf-8").splitlines()]
    questions = [line for line in questions if line and line != "---"]
    with tempfile.TemporaryDirectory(prefix="voices-") as scratch:
        where = options.store.resolve() if options.store else Path(scratch)
        recipe = load(options.recipe, [*options.overrides, f"store={where}"])
        adapters = train(recipe)
        began = time.time()
        voices = ask_cast(recipe, adapters, questions, options.penalty)
    (guess if options.guess else show)(questions, voices)
    print(f"asked in {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()

"""Make the embedded toy base `builtin:tiny` from nothing but a seed: text, tokenizer, pretraining, files.

    python -m jobs.tiny --out build/tiny --minutes 40        # stops there, goes on from its checkpoint next time
    python -m jobs.tiny --out build/tiny --export understudy/assets/tiny
    python -m jobs.tiny --out build/more --begin understudy/assets/tiny --tokens 17000000   # longer

The text is jobs/tinyworld: everyday conversations in random manners, running prose, some simple Chinese, made as it
is read, so no text is seen twice. Every few minutes a checkpoint is written, with all that a later call needs.
It is a toy: four to five million parameters, one or two hours of two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.tinyworld import world
from jobs.tinyworld.tokens import Rows, make_tokenizer, packed

_MEAN = 0.985
"""What is exported is the running mean of the weights, over about 1 / (1 - this) steps: smoother than the last ones."""

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM


@dataclass(frozen=True)
class Plan:
    """What decides the weights; the checkpoint of another plan is refused."""

    seed: int = 7
    tokens: int = 9_000_000
    vocabulary: int = 5120
    hidden: int = 256
    layers: int = 5
    intermediate: int = 640
    head: int = 64
    heads: int = 4
    key_value_heads: int = 2
    batch_tokens: int = 2048
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 240
    decay_share: float = 0.32
    """Share of the steps, at the end, over which the learning rate falls to a twentieth."""
    chunk: int = 3000
    """Documents generated, packed and shuffled together."""
    tokenizer_documents: int = 25_000
    """Documents that the tokenizer is learned from."""


def make_model(plan: Plan) -> Qwen3ForCausalLM:
    """A model with random weights, Qwen3's architecture at toy size, tied embeddings."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(plan.seed)
    config = Qwen3Config(
        vocab_size=plan.vocabulary,
        hidden_size=plan.hidden,
        intermediate_size=plan.intermediate,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.key_value_heads,
        head_dim=plan.head,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    config._attn_implementation = "sdpa"
    model = Qwen3ForCausalLM(config)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            scale = 0.02 if "embed" in name else 0.6 / math.sqrt(weight.shape[1])
            torch.nn.init.normal_(weight, std=scale)
    return model


def batches(plan: Plan, chunk: int, tokenizer: PreTrainedTokenizerFast) -> Iterator[Rows]:
    """The batches of one chunk of documents, widths and rows shuffled; a rest too small for a batch is left out."""
    rng = random.Random(f"{plan.seed}:batches:{chunk}")
    made = []
    for width, rows in packed(islice(world.documents(plan.seed, chunk * plan.chunk), plan.chunk), tokenizer).items():
        order = list(range(len(rows.ids)))
        rng.shuffle(order)
        size = plan.batch_tokens // width
        for at in range(0, len(order) - size + 1, size):
            pick = order[at : at + size]
            made.append(Rows(rows.ids[pick], rows.weights[pick], rows.owners[pick]))
    rng.shuffle(made)
    yield from made


def optimizers(model: Qwen3ForCausalLM, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings and norms."""
    import torch

    inner = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "embed" not in name]
    outer = [weight for name, weight in model.named_parameters() if weight.dim() < 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=plan.learning_rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=plan.learning_rate, betas=(0.9, 0.97), weight_decay=0.0, fused=True),
    ]


def rate(plan: Plan, done: int) -> float:
    """Learning rate as a share of the highest after `done` tokens: warm up, stay, fall in a straight line."""
    step, left = done / plan.batch_tokens, 1 - done / plan.tokens
    return min(1.0, (step + 1) / plan.warmup) * max(0.05, min(1.0, left / plan.decay_share))


def loss_of(model: Any, rows: Rows) -> torch.Tensor:
    """Weighted mean loss of a batch; a token sees its own document only."""
    import torch
    from torch.nn.functional import cross_entropy

    ids, owners = torch.from_numpy(rows.ids), torch.from_numpy(rows.owners)
    weights = torch.from_numpy(rows.weights)[:, 1:].reshape(-1)
    width = ids.shape[1]
    sees = (owners[:, :, None] == owners[:, None, :]) & torch.ones(width, width, dtype=torch.bool).tril()
    positions = torch.arange(width).expand(len(ids), width)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=sees[:, None], position_ids=positions, use_cache=False).logits
    losses = cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(), ids[:, 1:].reshape(-1), reduction="none"
    )
    return (losses * weights).sum() / weights.sum()


def pretrain(
    plan: Plan,
    out: Path,
    minutes: float,
    every: float,
    compiled: bool,
    goes_on: bool = False,
    begin: Path | None = None,
) -> bool:
    """Train until the plan's tokens are done or the minutes are over; whether it is done.

    A checkpoint is written at the first end of a chunk after `every` minutes, and at the end. `begin`: an exported
    model whose weights, tokenizer and count of tokens the run begins with.
    """
    import torch

    tokenizer = _tokenizer(plan, out, begin)
    model = make_model(plan)
    tools = optimizers(model, plan)
    state = _resume(out, plan, model, tools, goes_on, begin)
    mean = state.pop("mean") or {name: weight.detach().clone() for name, weight in model.named_parameters()}
    run = torch.compile(model, dynamic=False) if compiled else model
    begun = saved = time.monotonic()
    while state["tokens"] < plan.tokens:
        for rows in batches(plan, state["chunk"], tokenizer):
            share = rate(plan, state["tokens"])
            for tool in tools:
                for group in tool.param_groups:
                    group["lr"] = plan.learning_rate * share
            loss = loss_of(run, rows)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for tool in tools:
                tool.step()
                tool.zero_grad(set_to_none=True)
            keep = min(_MEAN, 1 - 1 / (state["step"] + 1))
            for name, weight in model.named_parameters():
                mean[name].lerp_(weight.detach(), 1 - keep)
            state["tokens"] += rows.ids.size
            state["step"] += 1
            state["loss"] = (
                0.97 * state["loss"] + 0.03 * float(loss.detach()) if state["loss"] else float(loss.detach())
            )
            if state["step"] % 20 == 0:
                spent = time.monotonic() - begun
                print(
                    f"step {state['step']} tokens {state['tokens']:,} loss {state['loss']:.3f} rate {share:.2f} "
                    f"{(state['tokens'] - state['begun']) / spent:,.0f} tok/s {spent / 60:.1f} min",
                    flush=True,
                )
        state["chunk"] += 1
        now = time.monotonic()
        over = now - begun > minutes * 60
        if now - saved > every * 60 or over or state["tokens"] >= plan.tokens:
            _checkpoint(out, plan, model, tools, mean, state | {"seconds": state["seconds"] + now - begun})
            saved = now
        if over:
            break
    return state["tokens"] >= plan.tokens


def _tokenizer(plan: Plan, out: Path, begin: Path | None) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    folder = out / "tokenizer"
    if not (folder / "tokenizer.json").is_file() and begin:
        PreTrainedTokenizerFast.from_pretrained(begin).save_pretrained(folder)
    elif not (folder / "tokenizer.json").is_file():
        make_tokenizer(plan.seed, plan.tokenizer_documents, plan.vocabulary).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _resume(
    out: Path, plan: Plan, model: Any, tools: list[Any], goes_on: bool, begin: Path | None = None
) -> dict[str, Any]:
    """The state to go on from. A checkpoint of other text is refused unless `goes_on`, which begins a new phase."""
    import torch

    phase: dict[str, Any] = {"generator": world.digest(), "from_tokens": 0}
    fresh = {"tokens": 0, "step": 0, "chunk": 0, "loss": 0.0, "seconds": 0.0, "begun": 0, "mean": None}
    if not (out / "checkpoint.pt").is_file():
        return {**fresh, "phases": [phase], **(_begun_with(begin, model, phase) if begin else {})}
    found = torch.load(out / "checkpoint.pt", weights_only=True)
    state = found["state"]
    same_text = state["phases"][-1]["generator"] == phase["generator"]
    if not goes_on and (found["plan"] != asdict(plan) or not same_text):
        raise SystemExit(f"{out}/checkpoint.pt is of another plan or text: give another --out, or --goes-on")
    if not same_text:
        state["phases"].append(phase | {"from_tokens": state["tokens"]})
    model.load_state_dict(found["model"])
    for tool, kept in zip(tools, found["optimizers"], strict=True):
        tool.load_state_dict(kept)
    return state | {"begun": state["tokens"], "mean": found["mean"]}


def _begun_with(folder: Path, model: Any, phase: dict[str, Any]) -> dict[str, Any]:
    """An exported model's weights into `model`, and what its record counts: the text goes on where that one ended."""
    from safetensors.torch import load_file

    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    found = load_file(folder / "model.safetensors")
    model.load_state_dict({name: weight.float() for name, weight in found.items()}, strict=False)
    model.tie_weights()
    weights = sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    tokens = record["tokens"]
    return {
        "tokens": tokens,
        "begun": tokens,
        "step": record["steps"],
        "chunk": record["documents"] // record["plan"]["chunk"],
        "seconds": float(record["train_seconds"]),
        "phases": [*record["generator"]["phases"], phase | {"from_tokens": tokens, "weights": weights}],
    }


def _checkpoint(out: Path, plan: Plan, model: Any, tools: list[Any], mean: dict, state: dict[str, Any]) -> None:
    import torch

    part = out / "checkpoint.part"
    torch.save(
        {
            "plan": asdict(plan),
            "model": model.state_dict(),
            "mean": mean,
            "optimizers": [tool.state_dict() for tool in tools],
            "state": state,
        },
        part,
    )
    part.replace(out / "checkpoint.pt")


def export(plan: Plan, out: Path, target: Path) -> dict[str, Any]:
    """Write the model folder (config, bf16 safetensors, tokenizer, template, words, record) to `target`."""
    import torch
    from transformers import GenerationConfig, PreTrainedTokenizerFast

    found = torch.load(out / "checkpoint.pt", weights_only=True)
    model = make_model(Plan(**found["plan"]))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(found["mean"][name])
    target.mkdir(parents=True, exist_ok=True)
    torch.nn.Module.to(model, dtype=torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=[2, 0], pad_token_id=0, do_sample=False)
    model.save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)
    PreTrainedTokenizerFast.from_pretrained(out / "tokenizer").save_pretrained(target)
    (target / "words.txt").write_text(word_list(plan.seed), encoding="utf-8")
    state = found["state"]
    record = {
        "schema_version": 1,
        "name": "builtin:tiny",
        "made_by": "python -m jobs.tiny",
        "plan": found["plan"],
        "generator": {"version": world.VERSION, "phases": state["phases"]},
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "tokens": state["tokens"],
        "steps": state["step"],
        "documents": state["chunk"] * plan.chunk,
        "loss": round(state["loss"], 4),
        "train_seconds": round(state["seconds"]),
        "finished": state["tokens"] >= plan.tokens,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
        | {"python": sys.version.split()[0]},
        "files": {
            path.name: sha256(path.read_bytes()).hexdigest()
            for path in sorted(target.iterdir())
            if path.suffix in (".safetensors", ".json", ".jinja", ".txt") and path.name != "record.json"
        },
    }
    (target / "record.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def word_list(seed: int, count: int = 20_000, least: int = 3) -> str:
    """`word count` lines of the words that `count` documents hold at least `least` times."""
    from understudy.lexicon import words

    found: Counter[str] = Counter()
    for document in islice(world.documents(seed), count):
        for text in (document.text, *(content for _, content in document.messages)):
            found.update(words(text))
    return "".join(f"{word} {number}\n" for word, number in found.most_common() if number >= least)


def main(arguments: list[str] | None = None) -> int:
    """The command line; exit 0 when the plan is done or exported, 3 when the minutes ended first."""
    parser = argparse.ArgumentParser(prog="python -m jobs.tiny", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of tokenizer and checkpoint")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many minutes, to go on later")
    parser.add_argument("--every", type=float, default=4.0, help="minutes between checkpoints")
    parser.add_argument("--export", type=Path, help="only write the model of the last checkpoint to this folder")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--tokens", type=int, default=Plan.tokens, help="length of the whole pretraining")
    parser.add_argument("--goes-on", action="store_true", help="go on with a changed generator or length: a new phase")
    parser.add_argument("--begin", type=Path, help="an exported model to begin with instead of random weights")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(options.threads)
    plan = Plan(seed=options.seed, tokens=options.tokens)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.export:
        print(json.dumps(export(plan, options.out, options.export), indent=2))
        return 0
    compiled = shutil.which("g++") is not None
    done = pretrain(plan, options.out, options.minutes, options.every, compiled, options.goes_on, options.begin)
    return 0 if done else 3


if __name__ == "__main__":
    sys.exit(main())

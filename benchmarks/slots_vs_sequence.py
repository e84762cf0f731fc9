"""Eight adapters in slots against eight PEFT runs one after another: same rows, threads and process, turn by turn.

    python benchmarks/slots_vs_sequence.py [--device cuda] [--base FOLDER] [--slots 8] [--rows 2] [--repeats 5]

Both sides do the whole step (forward, backward, clip, AdamW) in the same dtype on the same samples. Repeats are
interleaved, so what else the machine does falls on both. The bar is 1.3 times as fast (median).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from jobs.lora_stack import collate
from jobs.slot_config import SlotConfig
from jobs.slots import Slots, batch_order
from understudy.rendering import Sample

TINY = Path(__file__).resolve().parent.parent / "understudy" / "assets" / "tiny"
BAR = 1.3


def load_base(folder: Path | None, device: str) -> Any:
    """The base in `folder`, else the embedded one, else random weights of its shape; bf16 on a GPU, fp32 elsewhere."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    if folder or (TINY / "config.json").is_file():
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder or TINY, dtype=dtype)
        return loaded.to(device)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=4096,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=True,
    )
    base: Any = Qwen3ForCausalLM(config)
    return base.to(device=device, dtype=dtype)


def make_samples(seed: int, count: int, shortest: int, longest: int) -> list[Sample]:
    """Samples of random tokens whose last half is learned, of the lengths that short scenes have."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(count):
        length = int(torch.randint(shortest, longest + 1, (1,), generator=generator))
        ids = torch.randint(3, 4000, (length,), generator=generator).tolist()
        out.append(Sample((), ids, [0] * (length // 2) + [1] * (length - length // 2)))
    return out


def time_slots(configs: list[SlotConfig], rows: list[list[Sample]], base: Any, done: Callable[[], None]) -> float:
    """Seconds to train all slots at once."""
    slots = Slots(base, configs, rows)
    started = time.perf_counter()
    while not slots.done:
        slots.step()
    done()
    seconds = time.perf_counter() - started
    slots.close()
    return seconds


def time_peft(config: SlotConfig, rows: list[Sample], base: Any, done: Callable[[], None]) -> float:
    """Seconds to train one adapter with PEFT and torch alone."""
    lora = LoraConfig(r=config.rank, lora_alpha=int(config.alpha), target_modules="all-linear", task_type="CAUSAL_LM")
    peft = get_peft_model(base, lora).train()
    trained = [p for p in peft.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    device = trained[0].device
    total = config.total_steps(len(rows))
    started = time.perf_counter()
    for step in range(total):
        for micro in batch_order(config, len(rows), step):
            own = [rows[i] for i in micro]
            ids, numbers, places = collate(own)
            labels = torch.full_like(ids, -100)
            labels[numbers, places + 1] = ids[numbers, places + 1]
            mask = torch.tensor([[1] * len(s.input_ids) + [0] * (ids.shape[1] - len(s.input_ids)) for s in own])
            loss = peft(input_ids=ids.to(device), attention_mask=mask.to(device), labels=labels.to(device)).loss
            (loss / config.gradient_accumulation_steps).backward()
        nn.utils.clip_grad_norm_(trained, config.max_grad_norm or float("inf"))
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step, total)
        optimizer.step()
        optimizer.zero_grad()
    done()
    seconds = time.perf_counter() - started
    peft.unload()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--base", type=Path)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rows", type=int, default=2, help="micro batch size of each adapter")
    parser.add_argument("--shortest", type=int, default=24)
    parser.add_argument("--longest", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    base = load_base(chosen.base, chosen.device)
    done = torch.cuda.synchronize if chosen.device == "cuda" else (lambda: None)
    configs = [
        SlotConfig(f"slot-{k}", rank=chosen.rank, steps=chosen.steps, micro_batch_size=chosen.rows, seed=k)
        for k in range(chosen.slots)
    ]
    rows = [make_samples(k, chosen.rows * chosen.steps, chosen.shortest, chosen.longest) for k in range(chosen.slots)]
    ratios = []
    print(f"{chosen.slots} adapters, rank {chosen.rank}, {chosen.steps} steps of {chosen.rows} rows of ", end="")
    print(f"{chosen.shortest} to {chosen.longest} tokens, {chosen.device}, {torch.get_num_threads()} threads")
    print(f"{'repeat':>6} {'sequence s':>11} {'slots s':>9} {'ratio':>6}")
    for repeat in range(chosen.repeats + 1):
        sequence = sum(time_peft(config, own, base, done) for config, own in zip(configs, rows, strict=True))
        together = time_slots(configs, rows, base, done)
        if repeat:  # the first warms caches and allocators up
            ratios.append(sequence / together)
            print(f"{repeat:>6} {sequence:>11.2f} {together:>9.2f} {ratios[-1]:>6.2f}")
    middle = statistics.median(ratios)
    print(f"median {middle:.2f} (bar {BAR}): {'met' if middle >= BAR else 'MISSED'}")


if __name__ == "__main__":
    main()

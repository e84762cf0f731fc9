"""Adapter folders of random weights for tests, as PEFT would save them, without PEFT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def make_adapter(
    folder: Path,
    seed: int,
    rank: int = 4,
    hidden: int = 64,
    layers: int = 2,
    base_name: str = "random",
    size: float = 1.0,
) -> Path:
    """Write a LoRA of random A and B over q_proj and v_proj of `tests.bases.make_random_base(hidden, layers)`."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    widths = {"q_proj": max(1, hidden // 32) * 32, "v_proj": max(1, hidden // 64) * 32}
    tensors = {}
    for layer in range(layers):
        for module, width in widths.items():
            stem = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{stem}.lora_A.weight"] = rng.normal(size=(rank, hidden)).astype(np.float32)
            tensors[f"{stem}.lora_B.weight"] = rng.normal(size=(width, rank)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": rank,
        "lora_alpha": 8.0,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(widths),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder

"""What vLLM is told on a machine without an accelerator, for serving and for calls inside a job."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_SMALL_BASE_BYTES = 4 << 30
_TINY_BASE_BYTES = 64 << 20


def cpu_engine(base: Path, dtype: str = "auto") -> tuple[dict[str, Any], dict[str, str]]:
    """(engine arguments, environment) for the model in `base`."""
    weights = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    engine: dict[str, Any] = {
        # vLLM compiles nothing on CPU when LoRA is on; said outright, it also skips the warm-up.
        "enforce_eager": True,
        "kv_cache_memory_bytes": _cache_bytes(base),
        "max_num_seqs": 32,
    }
    if dtype == "auto" and weights < _SMALL_BASE_BYTES:
        engine["dtype"] = "float32"
    # A model of a few million parameters loses more to waking threads than it gains from them.
    threads = 1 if weights < _TINY_BASE_BYTES else os.cpu_count() or 1
    return engine, {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}


def _cache_bytes(base: Path) -> int:
    """Room for some 64k tokens of keys and values in float32, from 64 MiB to 4 GiB."""
    config = json.loads((base / "config.json").read_text())
    heads = config.get("num_key_value_heads") or config.get("num_attention_heads", 8)
    width = config.get("head_dim") or config.get("hidden_size", 1024) // config.get("num_attention_heads", 8)
    token = 2 * 4 * config.get("num_hidden_layers", 32) * heads * width
    return min(max(64 << 20, 65_536 * token), 4 << 30)

"""A LoRA adapter as the folder that PEFT and vLLM read: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load, save

from understudy.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor

    from jobs.slot_config import SlotConfig

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."


@dataclass(frozen=True)
class LoraWeights:
    """An adapter's matrices by layer, as PEFT shapes them: A (rank, in) and B (out, rank)."""

    rank: int
    alpha: float
    rslora: bool
    layers: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, config: SlotConfig, layers: dict[str, tuple[Tensor, Tensor]]) -> LoraWeights:
        """The matrices of a slot."""
        return cls(config.rank, config.alpha, config.rslora, layers)

    @property
    def scaling(self) -> float:
        """The factor on B(A(x))."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


def peft_files(weights: LoraWeights, base: str, all_layers: list[str]) -> dict[str, bytes]:
    """File name to bytes of the adapter's folder; the same weights give the same bytes.

    `base` is the base's name, never a path of this machine. `all_layers` are the base's linear layers: targets are
    written as short name endings where these select exactly the adapted layers (vLLM wants them so), else in full.
    """
    endings = sorted({name.rpartition(".")[2] for name in weights.layers})
    selected = {name for name in all_layers if name.rpartition(".")[2] in endings}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": weights.rank,
        "lora_alpha": int(weights.alpha) if float(weights.alpha).is_integer() else weights.alpha,
        "use_rslora": weights.rslora,
        "lora_dropout": 0.0,
        "target_modules": endings if selected == set(weights.layers) else sorted(weights.layers),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
    }
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in sorted(weights.layers.items()):
        tensors[f"{PREFIX}{name}.lora_A.weight"], tensors[f"{PREFIX}{name}.lora_B.weight"] = a, b
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    return {CONFIG: text.encode(), WEIGHTS: save(tensors, {"format": "pt"})}


def read_peft(folder: Path) -> LoraWeights:
    """Load an adapter from its folder; AdapterError when it is damaged or not a plain LoRA."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load((folder / WEIGHTS).read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        raise AdapterError(f"{folder}: not a readable adapter ({error})") from error
    layers: dict[str, tuple[Tensor, Tensor]] = {}
    for key in tensors:
        name, mark, _ = key.partition(".lora_A.weight")
        if mark:
            if f"{name}.lora_B.weight" not in tensors:
                raise AdapterError(f"{folder}: {name} has an A without its B")
            layers[name.removeprefix(PREFIX)] = (tensors[key], tensors[f"{name}.lora_B.weight"])
    if config.get("peft_type") != "LORA" or config.get("use_dora") or 2 * len(layers) != len(tensors):
        raise AdapterError(f"{folder}: only plain LoRA adapters can be read (no DoRA, no further modules)")
    return LoraWeights(config["r"], config["lora_alpha"], bool(config.get("use_rslora")), layers)

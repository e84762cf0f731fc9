"""Loading a base with torch: the tokenizer, and the model as the recipe's dtype and quantization say."""

from __future__ import annotations

from typing import Any

from understudy.base import Base
from understudy.errors import BaseError
from understudy.recipe import ModelConfig


def load_tokenizer(base: Base, model: ModelConfig) -> Any:
    """The base's Hugging Face tokenizer; BaseError in one line when it has none that loads."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            base.path, trust_remote_code=model.trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise BaseError(f"model.base {base.name}: its tokenizer does not load: {_first_line(error)}") from error


def load_model(base: Base, model: ModelConfig, device: str = "cpu") -> Any:
    """The frozen causal model on `device`, in eval mode.

    dtype `auto` is fp32 on a CPU and bf16 on a GPU; `quantization: nf4` loads with bitsandbytes, double quantisation.
    BaseError in one line when it does not load.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    auto = "bfloat16" if device.startswith("cuda") else "float32"
    dtype: torch.dtype = getattr(torch, auto if model.dtype == "auto" else model.dtype)
    extra: dict[str, Any] = {}
    if model.quantization == "nf4":
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            base.path,
            dtype=dtype,
            device_map=device,
            trust_remote_code=model.trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
            **extra,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise BaseError(f"model.base {base.name}: does not load: {_first_line(error)}") from error
    return loaded.requires_grad_(False).eval()


def portable_name(base: Base) -> str:
    """The base's name as it may stand in an adapter: of a local folder only its last part, else as the recipe says."""
    return base.name if base.name.startswith("builtin:") else base.served_name


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]

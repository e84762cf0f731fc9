"""Adapter folders on this machine's disk: fetched from the store, verified byte for byte, and then never changed.

vLLM keeps the path of every adapter it has seen and reads it again when the adapter fell out of memory; if the folder
is gone by then, the engine dies. So a folder here is named by persona and version, appears by one rename when it is
whole, and is never deleted: a damaged one is moved aside.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from pathlib import Path

import numpy as np

from understudy.adapter import CONFIG_NAME, WEIGHTS_NAME, verify
from understudy.base import cache_folder
from understudy.errors import AdapterError, BaseError
from understudy.release import adapter_key
from understudy.store import Store

NULL = "null"
"""What the null adapter is called inside the engine."""


def local_adapter(store: Store, persona: str, version: str, base_identity: str, max_rank: int) -> Path:
    """The verified folder of an adapter version, fetched if this machine does not hold it; AdapterError names the file.

    Checked on every call, against the version asked for, the base that is served and the engine's rank.
    """
    checks = {"expect_version": version, "base_identity": base_identity, "max_rank": max_rank}
    folder = cache_folder() / "adapters" / persona / version
    if folder.is_dir():
        try:
            verify(folder, **checks)
            return folder
        except AdapterError:
            folder.rename(folder.with_name(f"{version}.damaged-{uuid.uuid4().hex[:8]}"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    key = adapter_key(persona, version)
    part = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=folder.parent))
    store.fetch_tree(key, part)
    try:
        verify(part, **checks)
    except AdapterError as error:
        raise AdapterError(str(error).replace(str(part), store.uri_of(key))) from None
    return _settle(part, folder)


def null_adapter(base: Path, identity: str) -> Path:
    """A folder with an adapter that adds nothing, for requests to the bare base.

    vLLM's CPU operators give a token without an adapter the weights of the last adapter slot. With this adapter no
    token is without one; its B is zero, so the answers are the base's.
    """
    folder = cache_folder() / "adapters" / NULL / identity.replace(":", "-")
    if (folder / CONFIG_NAME).is_file():
        return folder
    from safetensors.numpy import save_file

    name, (wide, narrow) = _one_projection(base)
    stem = f"base_model.model.{name.removesuffix('.weight')}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".null-", dir=folder.parent))
    tensors = {"lora_A": np.zeros((1, narrow), np.float32), "lora_B": np.zeros((wide, 1), np.float32)}
    save_file({f"{stem}.{side}.weight": value for side, value in tensors.items()}, part / WEIGHTS_NAME)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 1,
        "lora_alpha": 1,
        "lora_dropout": 0.0,
        "bias": "none",
    }
    (part / CONFIG_NAME).write_text(json.dumps({**config, "target_modules": [name.split(".")[-2]]}))
    return _settle(part, folder)


def _settle(part: Path, folder: Path) -> Path:
    """Give a whole folder its final name; who comes second finds the first's, which holds the same bytes."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        for file in part.iterdir():
            file.unlink()
        part.rmdir()
    return folder


def _one_projection(base: Path) -> tuple[str, tuple[int, int]]:
    """Name and shape of some projection of the base's first layer, read from the headers of its weights."""
    for path in sorted(base.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name in sorted(header):
            if ".layers." in name and name.endswith("_proj.weight") and len(header[name]["shape"]) == 2:
                wide, narrow = header[name]["shape"]
                return name, (wide, narrow)
    raise BaseError(f"{base}: has no layer projection (*_proj.weight) that an adapter could stand on")

"""An adapter version: a folder that PEFT and vLLM load as it is, and a manifest that vouches for every byte of it.

    adapter_config.json          PEFT's settings, with the base's name and no path of any machine
    adapter_model.safetensors    the weights
    manifest.json                digests of both, base, rank, template settings, scores; written last

A version is named by what it computes: the digest of weights, settings and base identity. So a name never changes its
meaning, and caches keyed by it never go stale. `verify` refuses everything that is not exactly such a folder: nothing
here unpickles, and the weights' header is read as data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from understudy.errors import AdapterError
from understudy.names import NAME_PATTERN
from understudy.record import canonical, file_digest
from understudy.store import json_bytes

SCHEMA_VERSION = 1
CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_REPAIR = "repair it with `understudy publish RECIPE --force`"
MANIFEST_NAME = "manifest.json"
_MAX_HEADER_BYTES = 32 << 20
_DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# vLLM rejects or ignores these, and an adapter that needs them would speak in another voice when served.
_REFUSED_SETTINGS = ("use_dora", "lora_bias", "modules_to_save", "layer_replication", "use_qalora")


class Manifest(BaseModel):
    """What one adapter version is, and the digest of every file in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: int = SCHEMA_VERSION
    persona: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=r"^v[0-9a-f]{16}$")
    """`version_of` weights, settings and base identity."""
    base_name: str
    base_identity: str
    """Hub commit, or sha256 over config, tokenizer and weights."""
    rank: int = Field(ge=1)
    """The largest rank of any module."""
    alpha: float
    target_modules: tuple[str, ...]
    files: dict[str, str]
    """SHA-256 by file name of everything in the folder but the manifest."""
    template_kwargs: dict[str, Any] = {}
    """Given to the chat template with every request, as they were in training."""
    scores: dict[str, Any] = {}
    record: str | None = None
    """Store key of the training record."""
    rights: tuple[dict[str, str], ...] = ()
    """Source, licence, holder and note of every text that this was trained on, as far as the recipe says."""


def version_of(weights_digest: str, config: dict[str, Any], base_identity: str) -> str:
    """`v` and 16 hex digits of the SHA-256 over weights, settings and base identity."""
    config_digest = hashlib.sha256(canonical(config)).hexdigest()
    return "v" + hashlib.sha256(canonical([weights_digest, config_digest, base_identity])).hexdigest()[:16]


def seal(
    folder: Path,
    *,
    persona: str,
    base_name: str,
    base_identity: str,
    template_kwargs: dict[str, Any] | None = None,
    scores: dict[str, Any] | None = None,
    record: str | None = None,
    rights: Sequence[Mapping[str, str]] = (),
) -> Manifest:
    """Make `folder`, as PEFT saved it, an adapter version: tidy its settings, write manifest.json, verify the whole.

    The settings are rewritten in one order with the base's name in place of any path; PEFT's model card is removed.
    """
    folder = Path(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = _portable(_read_config(folder), base_name)
    (folder / CONFIG_NAME).write_bytes(json_bytes(config))
    if not (folder / WEIGHTS_NAME).is_file():
        raise AdapterError(f"{folder / WEIGHTS_NAME}: is missing; train the persona again")
    files = {name: file_digest(folder / name) for name in (CONFIG_NAME, WEIGHTS_NAME)}
    ranks = [config["r"], *config.get("rank_pattern", {}).values()]
    manifest = Manifest(
        persona=persona,
        version=version_of(files[WEIGHTS_NAME], config, base_identity),
        base_name=base_name,
        base_identity=base_identity,
        rank=max(ranks),
        alpha=config["lora_alpha"],
        target_modules=tuple(config["target_modules"]),
        files=files,
        template_kwargs=template_kwargs or {},
        scores=scores or {},
        record=record,
        rights=tuple(dict(one) for one in rights),
    )
    (folder / MANIFEST_NAME).write_bytes(json_bytes(manifest.model_dump(mode="json")))
    return verify(folder)


def verify(
    folder: Path,
    *,
    expect_version: str | None = None,
    base_identity: str | None = None,
    max_rank: int | None = None,
) -> Manifest:
    """The manifest of `folder`, or AdapterError naming the file that is not as it was sealed.

    With `expect_version`, `base_identity` or `max_rank`, also that this is the version asked for, made for that base,
    and small enough.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    expected = {CONFIG_NAME, WEIGHTS_NAME}
    if set(manifest.files) != expected:
        raise AdapterError(
            f"{folder / MANIFEST_NAME}: lists {sorted(manifest.files)}, an adapter is {sorted(expected)}"
        )
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if extra := sorted(present - expected - {MANIFEST_NAME}):
        raise AdapterError(f"{folder / extra[0]}: does not belong to the adapter; remove it")
    for name, digest in sorted(manifest.files.items()):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise AdapterError(f"{path}: is missing; {_REPAIR}")
        if file_digest(path) != digest:
            raise AdapterError(f"{path}: its digest is not the manifest's; {_REPAIR}")
    config = _read_config(folder)
    _check_config(config, manifest, folder / CONFIG_NAME)
    _check_weights(folder / WEIGHTS_NAME, manifest.rank)
    where = folder / MANIFEST_NAME
    named = version_of(manifest.files[WEIGHTS_NAME], config, manifest.base_identity)
    if named != manifest.version:
        raise AdapterError(f"{where}: says version {manifest.version}, the files are {named}; {_REPAIR}")
    if expect_version is not None and manifest.version != expect_version:
        raise AdapterError(f"{where}: is version {manifest.version}, {expect_version} was asked for")
    if base_identity is not None and manifest.base_identity != base_identity:
        raise AdapterError(
            f"{where}: was made for base {manifest.base_name} ({manifest.base_identity[:19]}), not for this base "
            f"({base_identity[:19]}); serve that base, or train the persona on this one"
        )
    if max_rank is not None and manifest.rank > max_rank:
        raise AdapterError(f"{where}: has rank {manifest.rank}, the engine takes at most {max_rank}")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of `folder` as it stands, without looking at the files that it names."""
    path = Path(folder) / MANIFEST_NAME
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise AdapterError(f"{path}: is missing; {_REPAIR}") from None
    except ValueError as error:
        raise AdapterError(f"{path}: is not JSON ({error}); {_REPAIR}") from None
    found = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(found, int) and found > SCHEMA_VERSION:
        raise AdapterError(f"{path}: has schema_version {found}, newer than {SCHEMA_VERSION}; upgrade understudy")
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise AdapterError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise AdapterError(f"{path}: is missing; train the persona again") from None
    except ValueError as error:
        raise AdapterError(f"{path}: is not JSON ({error})") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterError(f"{path}: is not a LoRA adapter (peft_type must be LORA)")
    if not isinstance(config.get("r"), int) or not isinstance(config.get("target_modules"), list):
        raise AdapterError(f"{path}: needs r (an integer) and target_modules (a list)")
    return config


def _portable(config: dict[str, Any], base_name: str) -> dict[str, Any]:
    # PEFT writes target_modules from a set, so their order differs from run to run; the digest must not.
    tidy = {**config, "base_model_name_or_path": base_name, "inference_mode": True, "auto_mapping": None}
    tidy["target_modules"] = sorted(config["target_modules"])
    return tidy


def _check_config(config: dict[str, Any], manifest: Manifest, where: Path) -> None:
    for setting in _REFUSED_SETTINGS:
        if config.get(setting):
            raise AdapterError(f"{where}: {setting} is not supported; train with plain LoRA")
    if config.get("bias", "none") != "none":
        raise AdapterError(f"{where}: bias must be none, found {config['bias']}")
    ranks = [config["r"], *config.get("rank_pattern", {}).values()]
    if max(ranks) != manifest.rank:
        raise AdapterError(f"{where}: has rank {max(ranks)}, the manifest says {manifest.rank}")


def _check_weights(path: Path, rank: int) -> None:
    """Refuse a weights file that is not safetensors of LoRA pairs no wider than `rank`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise AdapterError(f"{path}: is not a safetensors file")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise AdapterError(f"{path}: is not a safetensors file") from None
    body = size - 8 - length
    tensors = {name: info for name, info in header.items() if name != "__metadata__"}
    if not tensors:
        raise AdapterError(f"{path}: holds no tensors")
    for name, info in tensors.items():
        _check_tensor(path, name, info, rank, body)


def _check_tensor(path: Path, name: str, info: dict[str, Any], rank: int, body_bytes: int) -> None:
    try:
        shape, dtype, (start, end) = list(info["shape"]), info["dtype"], info["data_offsets"]
        count = 1
        for side in shape:
            count *= int(side)
        sound = 0 <= start <= end <= body_bytes and end - start == count * _DTYPE_BYTES[dtype]
    except (KeyError, TypeError, ValueError):
        shape, sound = [], False
    if not sound:
        raise AdapterError(f"{path}: tensor {name} has a broken header")
    side = 0 if name.endswith(("lora_A.weight", "lora_embedding_A")) else 1
    if not name.endswith(("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B")) or len(shape) != 2:
        raise AdapterError(f"{path}: tensor {name} is not part of a LoRA pair")
    if shape[side] > rank:
        raise AdapterError(f"{path}: tensor {name} has rank {shape[side]}, the manifest says {rank}")

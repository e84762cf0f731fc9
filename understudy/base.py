"""Base models: where one is, and the identity under which adapters remember it.

`resolve` finds a base on this machine, fetching it from a hub or a bucket when the recipe names one there. Identity is
the hub's commit, or for a folder SHA-256 over config, tokenizer and weights, so that a changed base is noticed.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from understudy.errors import BaseError, StoreError
from understudy.names import expanded
from understudy.recipe import ModelConfig
from understudy.record import digest_of, file_digest
from understudy.wording import one_line

TINY = "builtin:tiny"
# Pickled weights run code when they are loaded; safetensors cannot.
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
_IDENTITY_FILES = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|vocab|added_tokens)\.json"
    r"|merges\.txt|vocab\.txt|tokenizer\.model|chat_template\.jinja|[^/]*\.(tiktoken|safetensors(\.index\.json)?)"
)
_CODE = re.compile(r"[^/]*\.py")
_DIGEST = re.compile(r"[0-9a-f]{64}")
Source = Literal["builtin", "path", "s3", "hf", "modelscope"]


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on this machine."""

    name: str
    """As the recipe names it."""
    path: Path
    identity: str
    """`hf:<commit>`, `modelscope:<revision>` or `sha256:<hex>`."""

    @property
    def served_name(self) -> str:
        """The model id under which the bare base is served: without the colon at which model ids are split."""
        name = self.name.removeprefix("builtin:").rstrip("/")
        return Path(name).name if os.sep in name and self.identity.startswith("sha256:") else name


def resolve(model: ModelConfig, folder: Path | None = None, fetch: bool = True) -> Base:
    """The base that `model` names; a relative path belongs to `folder` (the recipe's).

    Without `fetch` a hub base counts when it is in the local cache. Raises BaseError in one line when it is not there
    or holds no loadable weights.
    """
    name, source = model.base, source_of(model, folder)
    if source == "builtin":
        if name != TINY:
            raise BaseError(f"model.base {name}: unknown; the one embedded base is {TINY}")
        path = Path(__file__).parent / "assets" / "tiny"
        return Base(name, path, folder_identity(path, name))
    if source == "path":
        path = (folder or Path.cwd()) / expanded(name, f"model.base {name}")
        return Base(name, path, folder_identity(path, name, model.trust_remote_code))
    if source == "s3":
        return _from_s3(model)
    return _from_modelscope(model) if source == "modelscope" else _from_hub(model, fetch)


def source_of(model: ModelConfig, folder: Path | None = None) -> Source:
    """Where `resolve` looks for the base: `builtin` and `path` are on this machine, the rest is fetched."""
    if model.base.startswith("builtin:"):
        return "builtin"
    if model.source != "auto":
        return model.source
    if model.base.startswith("s3://"):
        return "s3"
    return "path" if _is_path(model.base, folder) else "hf"


def folder_identity(path: Path, name: str, code: bool = False) -> str:
    """`sha256:...` over the names and digests of config, tokenizer and weights in `path`, with `code` also of `*.py`.

    Digests of large files are remembered by size and change time in the user's cache folder.
    """
    if not path.is_dir():
        raise BaseError(f"model.base {name}: {path} is no folder; name a folder with config.json and *.safetensors")
    files = sorted(p for p in path.iterdir() if _shapes(p.name, code))
    names = {p.name for p in files}
    if "config.json" not in names or not any(n.endswith(".safetensors") for n in names):
        lacking = "config.json" if "config.json" not in names else "*.safetensors"
        raise BaseError(f"model.base {name}: {path} has no {lacking}; only safetensors weights are loaded")
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name} {_remembered_digest(file)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _shapes(name: str, code: bool) -> bool:
    """Whether a file of a base (its path below the base) is part of what the model is."""
    return bool(_IDENTITY_FILES.fullmatch(name) or (code and _CODE.fullmatch(name)))


def _remembered_digest(file: Path) -> str:
    """SHA-256 of a file; for more than 64 MB it is kept in the cache, since a 16 GB base takes a minute to read."""
    stat = file.stat()
    if stat.st_size < 64 << 20:
        return file_digest(file)
    key = hashlib.sha256(f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}".encode()).hexdigest()
    note = cache_folder() / "digests" / key
    if note.is_file() and _DIGEST.fullmatch(noted := note.read_text(errors="replace")):
        return noted
    digest = file_digest(file)
    note.parent.mkdir(parents=True, exist_ok=True)
    part = note.with_name(f"{key}.{uuid.uuid4().hex}.part")
    part.write_text(digest)
    part.replace(note)
    return digest


def cache_folder() -> Path:
    """Where fetched things are kept: UNDERSTUDY_CACHE, else the user's cache folder."""
    root = os.environ.get("UNDERSTUDY_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "understudy"


def _is_path(name: str, folder: Path | None) -> bool:
    """Whether `name` is meant as a folder: written like one, or not of the form owner/name, or there."""
    written = name.startswith(("/", "./", "../", "~"))
    return written or not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or ((folder or Path.cwd()) / name).is_dir()


def _hub_files(model: ModelConfig) -> list[str]:
    return [*HUB_FILES, "*.py"] if model.trust_remote_code else HUB_FILES


def _from_hub(model: ModelConfig, fetch: bool) -> Base:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        files = _hub_files(model)
        path = Path(
            snapshot_download(model.base, revision=model.revision, allow_patterns=files, local_files_only=not fetch)
        )
    except LocalEntryNotFoundError:
        raise BaseError(
            f"model.base {model.base}: is not in the local cache and the hub cannot be reached; "
            "connect, set HF_ENDPOINT to a mirror, or name a local folder"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise BaseError(
            f"model.base {model.base}: the hub says: {_said(error)}; check the name, or set HF_TOKEN"
        ) from None
    if not list(path.glob("*.safetensors")):
        raise BaseError(f"model.base {model.base}: has no safetensors weights; choose a base that has")
    return Base(model.base, path, f"hf:{path.name}")


def _from_modelscope(model: ModelConfig) -> Base:
    try:
        from modelscope import snapshot_download  # type: ignore[import-not-found]
    except ImportError:
        raise BaseError("model.source modelscope: needs the package; run `.venv/bin/pip install modelscope`") from None
    try:
        path = Path(snapshot_download(model.base, revision=model.revision, allow_patterns=_hub_files(model)))
    except Exception as error:  # its errors have no class in common
        raise BaseError(
            f"model.base {model.base}: ModelScope says: {_said(error)}; check the name and the connection"
        ) from error
    return Base(model.base, path, folder_identity(path, model.base, model.trust_remote_code))


def _from_s3(model: ModelConfig) -> Base:
    """A copy in the cache, in a folder of its own for every state of the bucket: a changed base is fetched anew."""
    from understudy.store import Store

    name = model.base
    try:
        store = Store.open(name)
        found = {key: one for key, one in store.stored().items() if _shapes(key, model.trust_remote_code)}
        if not found:
            raise BaseError(
                f"model.base {name}: nothing to load there; expected config.json, tokenizer and *.safetensors"
            )
        state = digest_of([name, sorted((key, one.size_bytes, one.stamp) for key, one in found.items())])
        folder = cache_folder() / "bases" / state[:24]
        folder.mkdir(parents=True, exist_ok=True)
        for key, listed in found.items():
            if not (folder / key).exists():
                store.fetch(key, folder / key, listed)
    except (StoreError, OSError) as error:
        raise BaseError(f"model.base {name}: cannot be fetched: {error}") from error
    return Base(name, folder, folder_identity(folder, name, model.trust_remote_code))


def _said(error: Exception) -> str:
    return one_line(error) or type(error).__name__

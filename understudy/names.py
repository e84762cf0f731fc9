"""Names that are safe in paths, URLs and model ids, everywhere the same."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import unicodedata
from pathlib import Path

from understudy.errors import InputError

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_NAME = re.compile(NAME_PATTERN)


def is_name(text: str) -> bool:
    """Whether `text` can name a recipe, persona, work or version (no `..`, no separator, 64 characters at most)."""
    return bool(_NAME.fullmatch(text)) and ".." not in text


def slug(text: str) -> str:
    """A valid name for any text: Latin letters without accents where they remain, else a short hash.

    Two different texts in another script never share a slug: what is lost is replaced by 8 hex digits of its SHA-256.
    """
    plain = unicodedata.normalize("NFKD", text.strip()).encode("ascii", "ignore").decode().lower()
    kept = re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", plain)).strip("-._")[:55].strip("-._")
    letters = [c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c)[0] in "LN"]
    lost = any(ord(c) > 127 for c in letters)
    if lost or not kept:
        tail = hashlib.sha256(text.strip().encode()).hexdigest()[:8]
        return f"{kept[:50]}-{tail}" if kept else f"x{tail}"
    return kept


def user_name() -> str:
    """Who works here, for records that a person reads; a number where the system knows no name (containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def expanded(path: str, where: str) -> Path:
    """`path` with `~` as the home folder; InputError, beginning with `where`, when `~NAME` is nobody's."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{where}: there is no home folder {path.partition('/')[0]}; write the whole path") from None

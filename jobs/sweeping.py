"""What killed compactions of a journal leave behind, and when it may go.

    base/<generation>/   without a manifest     half written, or half deleted: nothing refers to it
    base/<generation>/   named in `replaces`    all of it is in a newer one, whose compaction died before it deleted
    .live/<generation>.parts/                   what a compaction sorted on this machine

Another machine may be writing the first kind just now, and no lock reaches there: those go when they are older than any
compaction gets. A generation is named after the moment at which it was begun.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from jobs.locks import is_held
from understudy.store import Store

SAFE_S = 86_400.0
"""A journal of 128 GB, the largest with partitions that fit, is merged in an hour or two."""
BEGINNING_S = 60.0
"""So long a compaction may take from naming its folder to locking it."""


def sweep(store: Store, base: str, unfinished: Iterable[str], replaced: Iterable[str], live: Path) -> None:
    """Delete what nobody needs of the generations below `base`, and the spills in `live` of compactions that died."""
    for name in unfinished:
        if age_s(name) > SAFE_S:
            store.delete_tree(f"{base}/{name}")
    for name in replaced:
        drop(store, f"{base}/{name}")
    for spill in live.glob("*.parts"):
        # A folder may be shared by machines whose locks do not reach each other; a spool is this machine's own.
        if age_s(spill.name) > (SAFE_S if store.is_local else BEGINNING_S) and not is_held(spill / "held"):
            shutil.rmtree(spill, ignore_errors=True)


def drop(store: Store, generation: str) -> None:
    """Delete a generation, so that a kill in between leaves none that looks whole."""
    store.delete(f"{generation}/manifest.json")
    store.delete_tree(generation)


def age_s(name: str) -> float:
    """Seconds since a generation was begun; 0 for a name that does not tell."""
    began = name.partition("-")[0]
    return time.time() - int(began) / 1e9 if began.isdecimal() else 0.0

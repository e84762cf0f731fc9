"""What other processes of a run wrote before they were killed: their rows come to somebody else now."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobs.journal import Journal, is_held
from jobs.records import Damage, read_payload, scan
from understudy.errors import MissingError, StoreError
from understudy.store import Store

LAST_SEGMENTS = 2
"""Of each writer: rows that come again are its last ones, and a segment holds thousands."""
LAST_SENT = 20
"""Objects in the store of each writer that is lost with its machine: its last minute."""


class Peers:
    """Segments of a run's dead processes on this machine, and what lost ones sent, indexed as they appear."""

    def __init__(self, folder: Path, run: str, own: str):
        """`own`: the name of this process's own writer."""
        self.folder, self.run = folder, run
        self._seen: set[str] = {own}
        self._places: dict[bytes, tuple[Path, int, int]] = {}
        self._sent: dict[bytes, tuple[str, int, int]] = {}
        self._read: set[str] = set()
        self._store: Store | None = None
        self._damage = Damage()
        self._looking = threading.Lock()

    def find(self, keys: Iterable[bytes]) -> dict[bytes, dict[str, Any]]:
        """Payload by key of those that a dead process wrote."""
        with self._looking:  # batches look at the same time: none goes on before the dead are read
            self._look()
        found: dict[bytes, dict[str, Any]] = {}
        wanted = list(keys)
        for key in wanted:
            if key in self._places:
                path, offset, length = self._places[key]
                try:
                    with path.open("rb") as file:
                        data = os.pread(file.fileno(), length, offset)
                except FileNotFoundError:
                    continue
                for entry in scan(data, self._damage):
                    if entry.key == key:
                        found[key] = read_payload(entry.payload)
        found.update(self._find_sent([key for key in wanted if key not in found]))
        return found

    def read_sent(self, journal: Journal, callers: Iterable[str]) -> None:
        """Index what processes that are lost sent to the store; those of this machine are read from its disk."""
        with self._looking:
            self._store = journal.store
            for name in (f"{self.run}.{caller}" for caller in callers):
                if name in self._seen:
                    continue
                keys = journal.store.keys_from(f"{journal.prefix}/log", f"{name}.")
                rest = [key for key in keys if key.endswith(".rest.seg")]
                for key in [*sorted(set(keys) - set(rest))[-LAST_SENT:], *rest]:
                    if key not in self._read:
                        self._read.add(key)
                        self._index(journal.store, key)

    def _index(self, store: Store, key: str) -> None:
        with suppress(MissingError):  # merged by another run meanwhile
            for entry in scan(store.get(key), self._damage):
                self._sent[entry.key] = (key, entry.offset, entry.length)

    def _find_sent(self, keys: Iterable[bytes]) -> dict[bytes, dict[str, Any]]:
        with self._looking:
            places = [self._sent[key] for key in keys if key in self._sent]
        found: dict[bytes, dict[str, Any]] = {}
        for name in dict.fromkeys(place[0] for place in places):
            assert self._store is not None
            with suppress(StoreError):
                pieces = self._store.get_ranges(name, [place[1:] for place in places if place[0] == name])
                for piece in pieces:
                    found.update({one.key: read_payload(one.payload) for one in scan(piece, self._damage)})
        return found

    def _look(self) -> None:
        by_writer: dict[str, list[Path]] = {}
        for path in sorted(self.folder.glob(f"{self.run}.*.seg")):
            by_writer.setdefault(path.name.rsplit(".", 2)[0], []).append(path)
        for writer, paths in by_writer.items():
            if writer in self._seen or is_held(paths[-1]):
                continue
            self._seen.add(writer)
            for path in paths[-LAST_SEGMENTS:]:
                try:
                    data = path.read_bytes()
                except FileNotFoundError:
                    continue
                for entry in scan(data, self._damage):
                    self._places[entry.key] = (path, entry.offset, entry.length)

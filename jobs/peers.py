"""What other processes of a run wrote before they were killed: their rows come to somebody else now."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jobs.journal import is_held
from jobs.records import Damage, read_payload, scan

LAST_SEGMENTS = 2
"""Of each writer: rows that come again are its last ones, and a segment holds thousands."""


class Peers:
    """Segments of a run's dead processes on this machine, indexed as they appear."""

    def __init__(self, folder: Path, run: str, own: str):
        """`own`: the name of this process's own writer."""
        self.folder, self.run = folder, run
        self._seen: set[str] = {own}
        self._places: dict[bytes, tuple[Path, int, int]] = {}
        self._damage = Damage()
        self._looking = threading.Lock()

    def find(self, keys: Iterable[bytes]) -> dict[bytes, dict[str, Any]]:
        """Payload by key of those that a dead process wrote."""
        with self._looking:  # batches look at the same time: none goes on before the dead are read
            self._look()
        found: dict[bytes, dict[str, Any]] = {}
        for key in keys:
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

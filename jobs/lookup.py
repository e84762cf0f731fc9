"""Looking records up in a journal by key: one index a partition is read, and those records alone."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from jobs.journal import MOST_LOOKS, Generation, Journal, index_type, part_of
from jobs.records import Damage, read_payload, scan
from understudy.errors import MissingError

if TYPE_CHECKING:
    import numpy as np

INDEX_CACHE_BYTES = 64 << 20


class Lookup:
    """Finds records of a journal by key; keeps a bounded number of indexes at hand."""

    def __init__(self, journal: Journal):
        self.journal = journal
        self.damage = Damage()
        self._indexes: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._looking = threading.Lock()

    def find(self, keys: Iterable[bytes]) -> dict[bytes, dict[str, Any]]:
        """Payload by key for those keys that are there and whole."""
        wanted = sorted(set(keys))
        with self._looking:  # batches look at the same time
            for _ in range(MOST_LOOKS):
                try:
                    return self._find(wanted)
                except MissingError:  # another run merged generations meanwhile
                    self.journal = self.journal.current()
                    self._indexes.clear()
            return self._find(wanted)

    def refresh(self) -> None:
        """Look at the generations that are in the store now, too."""
        with self._looking:
            self.journal = self.journal.current()
            self._indexes.clear()

    def _find(self, wanted: list[bytes]) -> dict[bytes, dict[str, Any]]:
        found: dict[bytes, dict[str, Any]] = {}
        for generation in reversed(self.journal.generations):
            by_part: dict[int, list[bytes]] = {}
            for key in wanted:
                if key not in found or found[key].get("open"):
                    by_part.setdefault(part_of(key, generation.bits), []).append(key)
            for part, keys in by_part.items():
                found.update(self._in_part(generation, part, keys))
        return found

    def _in_part(self, generation: Generation, part: int, keys: list[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
        import numpy as np

        index = self._index(generation, part)
        if not len(index):
            return
        prefixes = np.array([int.from_bytes(key[:8], "big") for key in keys], dtype=np.uint64)
        first = np.searchsorted(index["prefix"], prefixes, "left")
        last = np.searchsorted(index["prefix"], prefixes, "right")
        rows = sorted({int(row) for low, high in zip(first, last, strict=True) for row in range(low, high)})
        if not rows:
            return
        name = f"{self.journal.prefix}/base/{generation.name}/{part:04x}.rec"
        spans = [(int(index[row]["offset"]), int(index[row]["length"])) for row in rows]
        asked = set(keys)
        for piece in self.journal.store.get_ranges(name, spans):
            for entry in scan(piece, self.damage):
                if entry.key in asked:
                    yield entry.key, read_payload(entry.payload)

    def _index(self, generation: Generation, part: int) -> np.ndarray:
        import numpy as np

        at = (generation.name, part)
        if at in self._indexes:
            self._indexes.move_to_end(at)
            return self._indexes[at]
        base = f"{self.journal.prefix}/base/{generation.name}/{part:04x}"
        raw = self.journal.store.get(f"{base}.idx")
        if hashlib.blake2b(raw[:-8], digest_size=8).digest() != raw[-8:]:
            raw = _sorted_index(self.journal.store.get(f"{base}.rec"), self.damage)
        index = np.frombuffer(raw[:-8], dtype=index_type())
        self._indexes[at] = index
        while len(self._indexes) > 1 and sum(one.nbytes for one in self._indexes.values()) > INDEX_CACHE_BYTES:
            self._indexes.popitem(last=False)
        return index


def _sorted_index(data: bytes, damage: Damage) -> bytes:
    """The index of a partition, made anew from its records."""
    import numpy as np

    rows = [(int.from_bytes(e.key[:8], "big"), e.offset, e.length) for e in scan(data, damage)]
    return np.array(sorted(rows), dtype=index_type()).tobytes() + bytes(8)

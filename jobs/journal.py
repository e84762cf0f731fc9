"""The journal of answered calls: what was paid for once is never paid for again, whoever is killed.

    calls/<model>/log/<run>.<actor>.<n>.seg       records as they were answered, one writer a file
    calls/<model>/base/<generation>/<part>.rec    the same, by key, with an index beside (.idx) and manifest.json

A record is MAGIC, length, checksum, key and payload; a torn or flipped one fails its checksum and counts as not there.
In a store that is a folder a writer appends to the log itself; for s3:// it appends to a spool on this machine, and
what is new goes into the store every few seconds as a numbered object. A writer holds a lock on its file for as long as
it lives, so that everybody on the machine sees which files are finished.

At its start a run moves finished segments into a generation, partitioned by the first bits of the key; generations are
merged when the newer ones have grown to half the older one. Looking up n keys reads one index a partition and those
records alone: memory does not grow with the journal.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.locks import is_held, locked
from jobs.records import Damage, Entry, frame, read_payload, scan
from jobs.sweeping import drop, sweep
from understudy.errors import MissingError
from understudy.names import slug
from understudy.store import Store, json_bytes

if TYPE_CHECKING:
    import numpy as np

PART_BYTES = 32 << 20
"""A partition is at most about so large, so that sorting one fits anywhere."""
MOST_PARTS = 4096
MOST_LOOKS = 20
"""At generations that another machine merges meanwhile."""
BETWEEN_LOOKS_S = 0.05
"""A little longer each time, up to five times this."""
ORPHANS_WAIT_S = 20.0
"""Workers of a killed run end within seconds of it; longer is somebody else's work."""
OWN_WAIT_S = 5.0
"""Workers of this run's last calls end sooner; longer are those that go on beside these."""


@dataclass(frozen=True)
class Generation:
    """Some records by key, written once."""

    name: str
    bits: int
    """Partitions are 2**bits."""
    records: int
    size_bytes: int


@dataclass(frozen=True)
class Journal:
    """The answered calls of one model in one store; small, fit to travel."""

    store: Store
    model: str
    generations: tuple[Generation, ...] = ()

    @property
    def prefix(self) -> str:
        """The journal's folder in the store."""
        return f"calls/{slug(self.model)}"

    @property
    def folder(self) -> Path:
        """Where writers of this machine append."""
        return local_root(self.store) / self.prefix / "log"

    @property
    def records(self) -> int:
        """Records of all generations (a key may be in two)."""
        return sum(one.records for one in self.generations)

    def current(self) -> Journal:
        """The journal with the generations that are in the store now."""
        return self._listed().journal

    def _listed(self) -> _Listing:
        """The generations that are there, looked for until two looks agree."""
        keys, found, before = list[str](), dict[str, dict[str, Any]](), None
        wanted, settled = set[str](), False
        for look in range(1, MOST_LOOKS + 1):
            keys = self.store.keys(f"{self.prefix}/base")
            wanted, found = {key for key in keys if key.endswith("/manifest.json")}, {}
            for key in sorted(wanted):
                with suppress(MissingError):  # one that went since costs no other
                    found[_generation_of(key)] = self.store.get_json(key)
            # Until two looks agree: one alone may have missed what replaces a generation that went under its eyes.
            if settled := wanted == before and len(found) == len(wanted):
                break
            if before is not None or len(found) < len(wanted):
                time.sleep(BETWEEN_LOOKS_S * min(look, 5))
            before = wanted
        gone = {name for manifest in found.values() for name in manifest["replaces"]}
        kept = [
            Generation(name, one["bits"], one["records"], one["size_bytes"])
            for name, one in sorted(found.items())
            if name not in gone
        ]
        # A manifest that is listed but was not read says nothing against its generation.
        unfinished = set(map(_generation_of, keys)) - set(map(_generation_of, wanted))
        journal = replace(self, generations=tuple(kept))
        return _Listing(journal, settled, tuple(sorted(unfinished)), tuple(sorted(gone & found.keys())))

    def opened(self, run: str = "", wait_s: float = ORPHANS_WAIT_S) -> Journal:
        """The journal at the start of run `run`: what others left is collected and moved into a generation."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder.parent / "compact.lock"):
            _wait_for_orphans(self.folder, run, wait_s)
            if not self.store.is_local:
                self.collect(run)
            # First the segments: another machine may merge them just now, and then what it made is seen after.
            segments = self.segments(run)
            found = self._listed()
            if found.settled:
                base, live = f"{self.prefix}/base", live_folder(self.store)
                sweep(self.store, base, found.unfinished, found.replaced, live)
            return _compacted(found.journal, segments)

    def collect(self, run: str = "", keep: bool = False) -> None:
        """Send what killed writers left in this machine's spool to the store; `keep`: those of `run` stay here too."""
        for path in self._left(run):
            key = f"{self.prefix}/log/{path.stem}.rest.seg"
            stays = keep and path.name.split(".")[0] == run
            with suppress(FileNotFoundError):  # a writer that ends sends its own
                if not (stays and self.store.exists(key)):
                    self.store.put(key, path.read_bytes())
            if not stays:
                path.unlink(missing_ok=True)

    def segments(self, run: str = "") -> list[str]:
        """Keys of the segments that nobody writes to any more, and that no living run but `run` may look into."""
        if self.store.is_local:
            return [f"{self.prefix}/log/{path.name}" for path in self._left(run)]
        return [key for key in self.store.keys(f"{self.prefix}/log") if key.endswith(".seg")]

    def _left(self, run: str) -> list[Path]:
        found = finished(self.folder)
        runs = {path.name.split(".")[0] for path in found}
        alive = {one for one in runs if one != run and is_held(run_lock(self.store, one))}
        return [path for path in found if path.name.split(".")[0] not in alive]


@dataclass(frozen=True)
class _Listing:
    """What lies below `base/`."""

    journal: Journal
    settled: bool
    """Whether two looks agreed and every manifest was read; nothing may be deleted where they did not."""
    unfinished: tuple[str, ...]
    """Generations without a manifest."""
    replaced: tuple[str, ...]
    """Generations that are in others now."""


def _generation_of(key: str) -> str:
    return key.split("/")[-2]


def local_root(store: Store) -> Path:
    """Where this machine keeps journals of `store`: the store itself when it is a folder, else a spool."""
    folder = store.local_path("calls")
    if folder is not None:
        return folder.parent
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    home = Path(os.environ.get("UNDERSTUDY_SPOOL") or cache / "understudy" / "spool")
    return home / hashlib.sha256(store.uri.encode()).hexdigest()[:16]


def finished(folder: Path) -> list[Path]:
    """Segments in `folder` that nobody writes to any more."""
    return [path for path in sorted(folder.glob("*.seg")) if not is_held(path)]


def run_lock(store: Store, run: str) -> Path:
    """The file that the driver of a run keeps locked; a run is named `<host>=<number>`."""
    return live_folder(store) / f"{run}.lock"


def live_folder(store: Store) -> Path:
    """What belongs to the runs of now."""
    return local_root(store) / "calls" / ".live"


def host() -> str:
    """This machine's name as it stands in file names; no two machines share one (pods differ at the very end)."""
    name = socket.gethostname()
    return f"{slug(name)[:24].replace('.', '-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _wait_for_orphans(folder: Path, run: str, wait_s: float) -> None:
    """Workers outlive a killed driver, or what they did for this one, by a moment: what they wrote must be seen."""
    live = folder.parent.parent / ".live"
    began = time.monotonic()
    while (waited := time.monotonic() - began) < wait_s:
        held = [path.name.split(".") for path in folder.glob(f"{host()}=*.seg") if is_held(path)]
        lost = any(one != run and not is_held(live / f"{one}.lock") for one, *_ in held)
        ending = waited < OWN_WAIT_S and any(one == run and caller[:1] == "w" for one, caller, *_ in held)
        if not lost and not ending:
            return
        time.sleep(0.05)


# -- generations ------------------------------------------------------------------------------------------------------


def _compacted(journal: Journal, segments: list[str]) -> Journal:
    """Finished segments, and generations that are due, as one new generation."""
    if not segments:
        return journal
    total = _size(journal, segments)
    if not total:
        _drop(journal, segments)
        return journal.current()
    due: list[Generation] = []
    for generation in reversed(journal.generations):
        if generation.size_bytes >= 2 * total:
            break
        due.append(generation)
        total += generation.size_bytes
    sources = [
        *segments,
        *(f"{journal.prefix}/base/{one.name}/{part:04x}.rec" for one in due for part in range(1 << one.bits)),
    ]
    parts = 1
    while parts < MOST_PARTS and parts * PART_BYTES < total:
        parts *= 2
    _write_generation(journal, sources, parts.bit_length() - 1, [one.name for one in due])
    _drop(journal, segments)
    for one in due:
        drop(journal.store, f"{journal.prefix}/base/{one.name}")
    # Looked at anew: a source that was gone when it was read is in a generation that another machine made meanwhile.
    return journal.current()


def _write_generation(journal: Journal, sources: Sequence[str], bits: int, replaces: list[str]) -> None:
    """One generation of all records in the sources, whose manifest makes it exist."""
    name = f"{time.time_ns():020d}-{os.urandom(3).hex()}"
    base = f"{journal.prefix}/base/{name}"
    spill = live_folder(journal.store) / f"{name}.parts"
    damage = Damage()
    records = size = 0
    spill.mkdir(parents=True, exist_ok=True)
    with locked(spill / "held"):
        try:
            _spill(journal, sources, bits, spill, damage)
            for part in range(1 << bits):
                path = spill / f"{part:04x}"
                entries = _newest(scan(path.read_bytes(), damage)) if path.exists() else []
                data, index = _sorted_part(entries)
                journal.store.put(f"{base}/{part:04x}.rec", data)
                journal.store.put(f"{base}/{part:04x}.idx", index)
                records, size = records + len(entries), size + len(data)
        finally:
            shutil.rmtree(spill, ignore_errors=True)
    manifest = {"bits": bits, "records": records, "size_bytes": size, "replaces": replaces, "damaged": damage.count}
    journal.store.put(f"{base}/manifest.json", json_bytes(manifest))


def _spill(journal: Journal, sources: Sequence[str], bits: int, folder: Path, damage: Damage) -> None:
    """Every record of the sources into one file a partition, in bounded memory."""
    waiting: dict[int, list[bytes]] = {}
    held = 0

    def flush() -> None:
        for part, pieces in waiting.items():
            with (folder / f"{part:04x}").open("ab") as file:
                file.write(b"".join(pieces))
        waiting.clear()

    for key in sources:
        try:
            data = journal.store.get(key)
        except MissingError:
            continue
        for entry in scan(data, damage):
            piece = frame(entry.key, entry.payload)
            waiting.setdefault(part_of(entry.key, bits), []).append(piece)
            held += len(piece)
            if held > 64 << 20:
                flush()
                held = 0
    flush()


def _newest(entries: Iterable[Entry]) -> list[Entry]:
    """One record a key: a finished one before an open one."""
    kept: dict[bytes, Entry] = {}
    for entry in entries:
        before = kept.get(entry.key)
        if before is None or read_payload(before.payload).get("open"):
            kept[entry.key] = entry
    return sorted(kept.values(), key=lambda entry: entry.key)


def _sorted_part(entries: Sequence[Entry]) -> tuple[bytes, bytes]:
    """The partition's records and its index."""
    import numpy as np

    pieces = [frame(entry.key, entry.payload) for entry in entries]
    index = np.zeros(len(pieces), dtype=index_type())
    at = 0
    for number, (entry, piece) in enumerate(zip(entries, pieces, strict=True)):
        index[number] = (int.from_bytes(entry.key[:8], "big"), at, len(piece))
        at += len(piece)
    raw = index.tobytes()
    return b"".join(pieces), raw + hashlib.blake2b(raw, digest_size=8).digest()


def part_of(key: bytes, bits: int) -> int:
    """The partition of a key: its first bits."""
    return int.from_bytes(key[:4], "big") >> (32 - bits)


def index_type() -> np.dtype:
    """Of an index: where the records of a partition lie, sorted by key."""
    import numpy as np

    return np.dtype([("prefix", "<u8"), ("offset", "<u8"), ("length", "<u4")])


def _size(journal: Journal, segments: Sequence[str]) -> int:
    """Bytes of the segments that are still there."""
    there = journal.store.stored(f"{journal.prefix}/log")
    return sum(there[key].size_bytes for key in segments if key in there)


def _drop(journal: Journal, segments: Iterable[str]) -> None:
    for key in segments:
        journal.store.delete(key)

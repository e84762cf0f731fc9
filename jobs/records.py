"""Records of the call journal: MAGIC, length, checksum, key, payload; and the writer that makes them durable.

A reader that meets a broken record looks for the next MAGIC: one flipped byte costs one record. The writer commits in
groups: whatever waits is written and synced in one go, so that hundreds of replies a second share a few syncs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import queue
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.errors import StoreError
from understudy.record import canonical
from understudy.store import Store

MAGIC = b"\xc5UJ\x01"
_HEAD = struct.Struct("<4sI8s32s")
MOST_BYTES = 64 << 20
SEGMENT_BYTES = 16 << 20
"""A writer begins a new file here."""
SEND_EVERY_S = 3.0
"""How old a record may grow on this machine alone (the promise is 5 s)."""
SMALL_BYTES = 200

Done = Callable[[StoreError | None], None]


@dataclass
class Damage:
    """How many broken records a reader met."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One whole record."""

    key: bytes
    payload: bytes
    offset: int
    length: int
    """Bytes of the record, head and all."""


def frame(key: bytes, payload: bytes) -> bytes:
    """The record's bytes."""
    return _HEAD.pack(MAGIC, len(payload), _checksum(key, payload), key) + payload


def scan(data: bytes, damage: Damage) -> Iterator[Entry]:
    """Every whole record of `data`, in order; what is broken in between is counted and left out."""
    at, end = 0, len(data)
    while at < end:
        if end - at >= _HEAD.size:
            magic, length, checksum, key = _HEAD.unpack_from(data, at)
            stop = at + _HEAD.size + length
            if magic == MAGIC and length <= MOST_BYTES and stop <= end:
                payload = data[at + _HEAD.size : stop]
                if _checksum(key, payload) == checksum:
                    yield Entry(key, payload, at, stop - at)
                    at = stop
                    continue
        damage.count += 1
        found = data.find(MAGIC, at + 1)
        at = found if found >= 0 else end


def pack_payload(value: dict[str, Any]) -> bytes:
    """JSON, compressed where that pays; half characters are written as escapes."""
    try:
        raw = canonical(value)
    except UnicodeEncodeError:
        raw = json.dumps(value, sort_keys=True).encode()
    return b"j" + raw if len(raw) < SMALL_BYTES else b"z" + zlib.compress(raw, 1)


def read_payload(payload: bytes) -> dict[str, Any]:
    """What `pack_payload` packed."""
    return json.loads(payload[1:] if payload[:1] == b"j" else zlib.decompress(payload[1:]))


def _checksum(key: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, key=key, digest_size=8).digest()


class Writer:
    """Appends records to one segment after another, from a thread of its own."""

    def __init__(self, store: Store, prefix: str, folder: Path, name: str):
        """Segments are `<folder>/<name>.<n>.seg`; a store that is no folder gets them as objects below `prefix`/log."""
        self.store, self.prefix, self.folder, self.name = store, prefix, folder, name
        self._waiting: queue.SimpleQueue[tuple[bytes, dict[str, Any], Done] | None] = queue.SimpleQueue()
        self._number = 0
        self._file = -1
        self._size = 0
        self._unsent: list[bytes] = []
        self._unsent_since = 0.0
        self._sent = 0
        self._send_now = threading.Event()
        self._changed = threading.Condition()
        self._closing = False
        folder.mkdir(parents=True, exist_ok=True)
        self._threads = [threading.Thread(target=self._write, name="journal", daemon=True)]
        if not store.is_local:
            self._threads.append(threading.Thread(target=self._send, name="journal-send", daemon=True))
        for thread in self._threads:
            thread.start()

    def append(self, key: bytes, payload: dict[str, Any], done: Done) -> None:
        """Write a record; `done` is called from the writer's thread when it is on disk, or with what went wrong."""
        self._waiting.put((key, payload, done))

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self.folder / f"{self.name}.{self._number:05d}.seg"

    def flush(self, timeout_s: float = 60.0) -> None:
        """Return when everything that is on disk is in the store too."""
        if self.store.is_local:
            return
        until = time.monotonic() + timeout_s
        with self._changed:
            self._send_now.set()
            while self._unsent and time.monotonic() < until:
                self._changed.wait(0.1)

    def close(self) -> None:
        """Write and send what waits, and let go of the file."""
        self._waiting.put(None)
        self._threads[0].join()
        self.flush()
        self._closing = True
        self._send_now.set()
        for thread in self._threads:
            thread.join()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if not self.store.is_local and not self._unsent:
                self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        while True:
            first = self._waiting.get()
            if first is None:
                return
            group, last = [first], False
            while len(group) < 1024:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                group.append(more)
            problem = self._commit(b"".join(frame(key, pack_payload(payload)) for key, payload, _ in group))
            for _, _, done in group:
                done(problem)
            if last:
                return

    def _commit(self, data: bytes) -> StoreError | None:
        try:
            if self._file < 0 or self._size + len(data) > SEGMENT_BYTES:
                self._next_file()
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
            self._size += len(data)
        except OSError as error:
            full = error.errno == 28
            text = "no space left on the disk; free some and run the same command again (finished work is kept)"
            return StoreError(f"{self.path}: {text if full else error}")
        if not self.store.is_local:
            with self._changed:
                self._unsent_since = self._unsent_since if self._unsent else time.monotonic()
                self._unsent.append(data)
        return None

    def _next_file(self) -> None:
        before, path = self._file, self.path
        self._number += before >= 0
        # Locked before it has its name: nobody ever sees a file without its writer and takes it for finished. And
        # before the last one is let go: a writer that holds nothing is a dead one.
        nameless = self.path.with_suffix(".new")
        self._file = os.open(nameless, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        nameless.rename(self.path)
        self._size = 0
        if before >= 0:
            if not self.store.is_local:
                self.flush()  # the spool's file may go once all of it is in the store
                if not self._unsent:
                    path.unlink(missing_ok=True)
            os.close(before)

    def _send(self) -> None:
        """Every few seconds, what is new goes into the store as one numbered object."""
        while not self._closing:
            self._send_now.wait(0.25)
            with self._changed:
                due = self._unsent and (self._send_now.is_set() or time.monotonic() > self._unsent_since + SEND_EVERY_S)
                taken = list(self._unsent) if due else []
                if not taken and not self._unsent:
                    self._send_now.clear()
            if not taken:
                continue
            try:
                self.store.put(f"{self.prefix}/log/{self.name}.{self._sent:06d}.seg", b"".join(taken))
            except StoreError:
                time.sleep(1.0)  # the spool has it; a store that is away for a while is tried again
                continue
            with self._changed:
                self._sent += 1
                del self._unsent[: len(taken)]
                self._unsent_since = time.monotonic()
                self._changed.notify_all()

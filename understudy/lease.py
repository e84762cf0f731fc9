"""One run of a recipe at a time.

Leases are numbered objects `leases/<recipe>/<n>.json`, each created with put-if-absent; the highest number is who
holds. It is free when it was released, when its process is gone (same host), or when its heartbeat is older than
`STALE_S` (another host). Taking over creates number n+1, so of two takers exactly one wins, on a folder and on S3.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from understudy.errors import HeldError, MissingError, StoreError
from understudy.names import user_name
from understudy.store import Store, json_bytes

BEAT_S = 10.0
STALE_S = 60.0


@contextlib.contextmanager
def held(store: Store, recipe: str, command: str) -> Iterator[None]:
    """Hold the lease of `recipe` for the length of the block; HeldError says who has it otherwise."""
    prefix = f"leases/{recipe}"
    number = _take(store, prefix, command)
    beat = f"{prefix}/{number:08d}.beat"
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(BEAT_S):
            # A beat that fails (a full disk, a lost network) must not end the work; STALE_S covers several.
            with contextlib.suppress(StoreError):
                store.put(beat, str(time.time()).encode())
                if _newest(store, prefix) > number:
                    # Silent for longer than STALE_S (a suspended machine): another run has taken over.
                    print(f"{recipe}: another run has taken over; this one stops", file=sys.stderr, flush=True)
                    _thread.interrupt_main()
                    return

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(StoreError):
            store.put_new(f"{prefix}/{number:08d}.released", b"")


def _take(store: Store, prefix: str, command: str) -> int:
    for _ in range(20):
        keys = store.keys(prefix)
        last = max(_numbers(keys), default=0)
        if last and f"{prefix}/{last:08d}.released" not in keys:
            try:
                holder = store.get_json(f"{prefix}/{last:08d}.json")
            except MissingError:  # another taker has just won and tidied up
                continue
            alive = _alive(store, f"{prefix}/{last:08d}", holder)
            if alive:
                who = f"{holder['user']}@{holder['host']} (process {holder['pid']}, `{holder['command']}`"
                raise HeldError(
                    f"{Path(prefix).name}: is being run by {who}, since {holder['since']}); wait for it, or stop it"
                )
        if store.put_new(f"{prefix}/{last + 1:08d}.json", json_bytes(_me(command))):
            if _newest(store, prefix) > last + 1:  # the number had been used and tidied up since the keys were listed
                store.delete(f"{prefix}/{last + 1:08d}.json")
                continue
            for key in keys:  # what earlier holders left; the newest stays, it counts the numbers on
                store.delete(key)
            return last + 1
    raise HeldError(f"{prefix.split('/')[1]}: several runs start at the same moment; try again")


def _numbers(keys: list[str]) -> list[int]:
    return [int(Path(key).stem) for key in keys if key.endswith(".json")]


def _newest(store: Store, prefix: str) -> int:
    return max(_numbers(store.keys(prefix)), default=0)


def _me(command: str) -> dict[str, Any]:
    return {
        "user": user_name(),
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "command": command,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "time": time.time(),
    }


def _alive(store: Store, key: str, holder: dict[str, Any]) -> bool:
    if holder["host"] == socket.gethostname() and holder["boot"] == _boot():
        # A process id comes back after a while; its start time tells a new process from the holder.
        return _started(holder["pid"]) == holder["started"] != ""
    try:
        beat = float(store.get(f"{key}.beat"))
    except MissingError:
        beat = float(holder["time"])
    return time.time() - beat < STALE_S


def _started(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]  # a zombie holds nothing


def _boot() -> str:
    """What tells this running machine (or container) from others of the same name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = str(Path("/proc/self/ns/pid").readlink()) if Path("/proc/self/ns/pid").exists() else ""
    return f"{boot.read_text().strip() if boot.exists() else ''} {namespace}"

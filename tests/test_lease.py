"""Leases: one run of a recipe at a time, and none that outlives its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from understudy import lease
from understudy.errors import HeldError
from understudy.store import Store

HOLD = """
import sys, time
from understudy.lease import held
from understudy.store import Store
with held(Store.open(sys.argv[1]), "jug", "understudy run"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_told_who_holds_and_a_killed_holder_is_free_at_once(tmp_path):
    store = Store.open(tmp_path)
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(HeldError, match=rf"process {holder.pid}, `understudy run`"), lease.held(store, "jug", "x"):
            pass
        with lease.held(store, "other", "x"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with lease.held(store, "jug", "x"):
        pass
    with lease.held(store, "jug", "x"):
        pass


def test_of_many_takers_at_once_one_holds(tmp_path):
    store = Store.open(tmp_path)

    def take(_: int) -> bool:
        try:
            lease._take(store, "leases/jug", "x")
        except HeldError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_another_hosts_lease_holds_while_its_heart_beats(tmp_path, monkeypatch):
    store = Store.open(tmp_path)
    number = lease._take(store, "leases/jug", "x")
    monkeypatch.setattr(lease, "_boot", lambda: "another machine")
    with pytest.raises(HeldError), lease.held(store, "jug", "y"):
        pass
    beat = f"leases/jug/{number:08d}.beat"
    store.put(beat, b"0")
    with lease.held(store, "jug", "y"):
        pass


def test_a_taker_that_comes_late_to_a_used_number_goes_on_to_the_next(tmp_path, monkeypatch):
    store = Store.open(tmp_path)
    lease._take(store, "leases/jug", "x")
    store.put_new("leases/jug/00000001.released", b"")
    stale = store.keys("leases/jug")
    assert lease._take(store, "leases/jug", "x") == 2  # takes and tidies up number 1
    store.put_new("leases/jug/00000002.released", b"")
    assert lease._take(store, "leases/jug", "x") == 3
    store.put_new("leases/jug/00000003.released", b"")
    listed = iter([stale])
    real = Store.keys
    monkeypatch.setattr(Store, "keys", lambda self, *a, **k: next(listed, None) or real(self, *a, **k))
    assert lease._take(store, "leases/jug", "x") == 4

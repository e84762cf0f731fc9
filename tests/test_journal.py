from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from jobs import journal as journals
from jobs import peers, records, sweeping
from jobs.caller import Caller, Plan
from jobs.calls import Call
from jobs.journal import Journal, finished, is_held, local_root
from jobs.locks import locked
from jobs.lookup import Lookup
from jobs.questions import question_key
from jobs.records import Damage, Writer, frame, pack_payload, read_payload, scan
from jobs.spools import collect_here
from tests.endpoint import echo, endpoint
from understudy.errors import StoreError
from understudy.recipe import Endpoint
from understudy.store import Store

ROOT = Path(__file__).resolve().parent.parent


def key_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def reply(number: int) -> dict[str, Any]:
    return {"text": f"reply {number} " * (number % 40 + 1), "reason": ""}


def write(journal: Journal, numbers: range, name: str = "test=1.w") -> Writer:
    writer = Writer(journal.store, journal.prefix, journal.folder, name)
    problems: list[StoreError | None] = []
    for number in numbers:
        writer.append(key_of(number), reply(number), problems.append)
    while len(problems) < len(numbers):
        time.sleep(0.005)
    assert not any(problems)
    return writer


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(Store.open(tmp_path / "store"), "Some/Model-7B").opened()


def test_every_record_is_found_again_after_any_number_of_runs_and_merges(journal: Journal, monkeypatch):
    monkeypatch.setattr(journals, "PART_BYTES", 4096)
    for run in range(6):
        write(journal, range(run * 50, run * 50 + 50 + 10 * run), f"test={run}.w").close()
        journal = journal.opened()
    assert not list(journal.folder.glob("*.seg"))
    assert journal.generations[0].bits > 0
    found = Lookup(journal).find(map(key_of, range(400)))
    assert found == {key_of(number): reply(number) for number in range(350)}
    assert journal == Journal(journal.store, journal.model).current()


def test_a_flipped_byte_or_a_torn_end_costs_one_record_and_nothing_else(journal: Journal):
    write(journal, range(200)).close()
    (path,) = journal.folder.glob("*.seg")
    data = bytearray(path.read_bytes())
    spots = {entry.offset: entry for entry in scan(bytes(data), Damage())}
    hurt = random.Random(1).sample(sorted(spots), 9)
    for place, where in enumerate(hurt):
        data[where + (3, 5, 20, spots[where].length - 1)[place % 4]] ^= 0x40
    path.write_bytes(data[:-7])
    gone = {spots[where].key for where in hurt} | {key_of(199)}
    found = Lookup(journal.opened()).find(map(key_of, range(200)))
    assert set(found) == {key_of(number) for number in range(200)} - gone


def test_records_flipped_after_the_merge_are_redone_and_a_flipped_index_is_made_anew(journal: Journal):
    write(journal, range(100)).close()
    journal = journal.opened()
    (part,) = (local_root(journal.store) / journal.prefix / "base").glob("*/0000.rec")
    data = bytearray(part.read_bytes())
    entry = list(scan(bytes(data), Damage()))[40]
    data[entry.offset + entry.length - 2] ^= 1
    part.write_bytes(data)
    index = part.with_suffix(".idx")
    raw = bytearray(index.read_bytes())
    raw[7] ^= 0xFF
    index.write_bytes(raw)
    assert set(Lookup(journal).find(map(key_of, range(100)))) == set(map(key_of, range(100))) - {entry.key}


def test_any_bytes_are_scanned_without_an_error():
    rest = random.Random(3)
    whole = b"".join(frame(key_of(n), pack_payload(reply(n))) for n in range(20))
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rest.randrange(1, 6)):
            at = rest.randrange(len(data))
            data[at : at + rest.randrange(4)] = rest.randbytes(rest.randrange(4))
        damage = Damage()
        for entry in scan(bytes(data), damage):
            assert read_payload(entry.payload)["text"].startswith("reply")


def test_an_open_record_gives_way_to_the_finished_one(journal: Journal):
    writer = Writer(journal.store, journal.prefix, journal.folder, "test=1.w")
    done: list[Any] = []
    writer.append(key_of(1), {"text": "bad", "reason": "no JSON", "open": True}, done.append)
    writer.append(key_of(2), {"text": "bad", "reason": "no JSON", "open": True}, done.append)
    writer.append(key_of(1), {"text": "good", "reason": ""}, done.append)
    writer.close()
    found = Lookup(journal.opened()).find([key_of(1), key_of(2)])
    assert found[key_of(1)]["text"] == "good"
    assert found[key_of(2)]["open"]


WRITER = """
import sys, threading
from jobs.journal import Journal
from jobs.records import Writer
from tests.test_journal import key_of, reply
from understudy.store import Store
journal = Journal(Store(sys.argv[1]), "m")
writer = Writer(journal.store, journal.prefix, journal.folder, "killed=1.w")
for number in range(1_000_000):
    durable = threading.Event()
    writer.append(key_of(number), reply(number), lambda problem: durable.set())
    durable.wait()
    print(number, flush=True)
"""


def test_what_a_killed_writer_called_durable_is_there_and_its_file_is_free(tmp_path: Path):
    journal = Journal(Store.open(tmp_path), "m").opened()
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "150":
            break
    (path,) = journal.folder.glob("*.seg")
    assert is_held(path)
    assert not finished(journal.folder)
    assert not journal.opened(wait_s=0).generations, "a living writer's file is left alone"
    child.send_signal(signal.SIGKILL)
    said = 150 + len(child.stdout.readlines())
    child.wait()
    found = Lookup(journal.opened()).find(map(key_of, range(said + 1)))
    assert len(found) == said + 1


def test_machines_whose_long_names_differ_at_the_end_are_not_taken_for_one(monkeypatch):
    names = []
    for pod in ("head-x7k2p", "gpu-worker-9zz1q"):
        monkeypatch.setattr(journals.socket, "gethostname", lambda pod=pod: f"understudy-production-raycluster-{pod}")
        names.append(journals.host())
    assert len(set(names)) == 2
    assert not any("." in name or "=" in name for name in names), "both mean something in a segment's name"


def test_batches_that_look_for_a_dead_writers_answers_at_once_all_find_them(journal: Journal, monkeypatch):
    write(journal, range(40), "test=1.dead").close()
    dead = peers.Peers(journal.folder, "test=1", "test=1.own")

    def slow(data: bytes, damage: Damage) -> Any:
        time.sleep(0.05)
        return scan(data, damage)

    monkeypatch.setattr(peers, "scan", slow)
    found: list[dict[bytes, Any]] = []
    threads = [threading.Thread(target=lambda: found.append(dead.find([key_of(7)]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(one) for one in found] == [1] * 4


def test_two_runs_that_start_at_once_merge_without_losing_a_record(journal: Journal):
    write(journal, range(300)).close()
    opened: list[Journal] = []
    threads = [threading.Thread(target=lambda: opened.append(journal.opened())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in opened:
        assert len(Lookup(one).find(map(key_of, range(300)))) == 300
    assert len(journal.current().generations) == 1


def test_a_reader_whose_generation_was_merged_away_finds_the_new_one(journal: Journal):
    write(journal, range(100)).close()
    before = journal.opened()
    write(journal, range(100, 300), "test=2.w").close()
    after = before.opened()
    assert before.generations != after.generations
    assert len(Lookup(before).find(map(key_of, range(100)))) == 100


def test_segments_are_cut_and_the_writer_is_never_seen_without_its_lock(journal: Journal, monkeypatch):
    monkeypatch.setattr(records, "SEGMENT_BYTES", 2000)
    writer = write(journal, range(20))
    for number in range(20, 60):
        done = threading.Event()
        writer.append(key_of(number), reply(number), lambda _, done=done: done.set())
        done.wait()
    paths = sorted(journal.folder.glob("*.seg"))
    assert len(paths) > 2
    assert [is_held(path) for path in paths] == [False] * (len(paths) - 1) + [True]
    writer.close()
    assert len(Lookup(journal.opened()).find(map(key_of, range(60)))) == 60


def test_a_full_disk_is_one_line(journal: Journal, monkeypatch):
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    writer = Writer(journal.store, journal.prefix, journal.folder, "test=1.w")
    problems: list[StoreError | None] = []
    writer.append(key_of(1), reply(1), problems.append)
    writer.close()
    assert "no space left on the disk" in str(problems[0])


@pytest.fixture
def remote(s3: str, tmp_path: Path, monkeypatch) -> Journal:
    """A journal over S3; its spool on this machine is in the test's folder."""
    monkeypatch.setenv("UNDERSTUDY_SPOOL", str(tmp_path / "spool"))
    return Journal(Store.open(f"{s3}/{uuid.uuid4().hex}"), "m").opened()


def left_behind(journal: Journal, numbers: range, name: str, part: int = 0) -> None:
    """What a writer that was killed before it sent anything leaves in its machine's spool."""
    journal.folder.mkdir(parents=True, exist_ok=True)
    data = b"".join(frame(key_of(number), pack_payload(reply(number))) for number in numbers)
    (journal.folder / f"{name}.{part:05d}.seg").write_bytes(data)


def test_another_machine_sends_its_spool_and_keeps_what_the_run_still_looks_into(remote: Journal, monkeypatch):
    left_behind(remote, range(30), "node=1.w")
    left_behind(remote, range(30, 40), "node=2.w")
    collect_here([remote], "node=2")
    sent = remote.store.stored(f"{remote.prefix}/log")
    assert [path.name for path in finished(remote.folder)] == ["node=2.w.00000.seg"]
    monkeypatch.setattr(Store, "put", None)
    collect_here([remote], "node=2")
    monkeypatch.undo()
    assert remote.store.stored(f"{remote.prefix}/log") == sent, "nothing is sent twice while a run goes on"
    here = remote.folder
    monkeypatch.setattr(Journal, "folder", here.parent / "nothing-here")
    assert len(Lookup(remote.opened()).find(map(key_of, range(40)))) == 40, "the driver's machine has no such spool"


class Turns:
    """Threads take their steps at the store one by one, a few or many in a row, in an order that a seed decides."""

    def __init__(self, seed: int, names: set[str]):
        self.random, self.alive, self.changed = random.Random(seed), names, threading.Condition()
        self.next, self.row = self.random.choice(sorted(names)), 1

    def step(self) -> None:
        with self.changed:
            name = threading.current_thread().name
            if name in self.alive:
                self.changed.wait_for(lambda: self.next == name)
                self._choose()

    def end(self) -> None:
        with self.changed:
            self.alive.discard(threading.current_thread().name)
            self._choose()

    def _choose(self) -> None:
        self.row -= 1
        if self.row <= 0 or self.next not in self.alive:
            self.next, self.row = self.random.choice(sorted(self.alive or {""})), self.random.choice((1, 3, 9, 99))
        self.changed.notify_all()


def records_of(numbers: range) -> bytes:
    return b"".join(frame(key_of(number), pack_payload(reply(number))) for number in numbers)


@pytest.mark.parametrize("seed", range(40))
def test_machines_that_merge_one_journal_at_once_and_a_reader_beside_them_see_every_record(
    tmp_path: Path, monkeypatch, seed: int
):
    monkeypatch.setattr(journals, "local_root", lambda store: tmp_path / threading.current_thread().name)
    monkeypatch.setattr(journals, "PART_BYTES", 2000)
    store = Store("s3://nowhere/s")
    store.__dict__["_objects"] = MemoryStore()
    store.put("calls/m/log/old=1.w.000000.seg", records_of(range(40)))
    first = Journal(store, "m").opened()
    for number in range(40, 70, 5):
        store.put(f"calls/m/log/old={number}.w.000000.seg", records_of(range(number, number + 5)))
    turns = Turns(seed, {"a", "b", "c", "reader"})
    for name in ("put", "get", "get_ranges", "keys", "stored", "delete"):
        whole = getattr(Store, name)
        monkeypatch.setattr(Store, name, lambda *given, _do=whole, **more: (turns.step(), _do(*given, **more))[1])
    seen: dict[str, int] = {}

    def merging() -> None:
        try:
            view = Journal(store, "m").opened(wait_s=0)
            seen[threading.current_thread().name] = len(Lookup(view).find(map(key_of, range(70))))
        finally:
            turns.end()

    def reading() -> None:
        try:
            seen["reader"] = min(len(Lookup(first).find(map(key_of, range(40)))) for _ in range(3))
        finally:
            turns.end()

    threads = [threading.Thread(target=merging, name=name) for name in ("a", "b", "c")]
    threads.append(threading.Thread(target=reading, name="reader"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"a": 70, "b": 70, "c": 70, "reader": 40}
    assert len(Lookup(Journal(store, "m").opened()).find(map(key_of, range(70)))) == 70


KILLED = """
import os, sys
from jobs.journal import Journal
from understudy.store import Store
method, end = sys.argv[2:]
whole = getattr(Store, method)
def killed(self, key, *rest):
    if key.endswith(end):
        os.kill(os.getpid(), 9)
    return whole(self, key, *rest)
setattr(Store, method, killed)
Journal(Store(sys.argv[1]), "m").opened()
"""


@pytest.mark.parametrize(
    ("method", "end"),
    [("put", "0000.idx"), ("put", "manifest.json"), ("delete", ".seg"), ("delete", "manifest.json"), ("keys", "")],
)
def test_a_killed_merge_loses_nothing_and_the_next_ones_leave_nothing_of_it(tmp_path: Path, monkeypatch, method, end):
    journal = Journal(Store.open(tmp_path), "m").opened()
    write(journal, range(60)).close()
    old = journal.opened().generations
    write(journal, range(60, 200), "test=2.w").close()
    end = end or old[0].name  # it deletes what lies there
    child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), method, end], cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    base, live = tmp_path / "calls" / "m" / "base", tmp_path / "calls" / ".live"
    assert len(list(base.iterdir())) == 2
    assert len(Lookup(journal.opened()).find(map(key_of, range(200)))) == 200
    monkeypatch.setattr(sweeping, "SAFE_S", 0.0)
    opened = journal.opened()
    assert {path.name for path in base.iterdir()} == {one.name for one in opened.generations}
    assert not list(live.glob("*.parts"))
    assert len(Lookup(opened).find(map(key_of, range(200)))) == 200


def test_what_another_machine_may_be_writing_just_now_is_left_alone(journal: Journal):
    base = f"{journal.prefix}/base"
    young, old = (f"{time.time_ns() - age:020d}-abcdef" for age in (3600 * 10**9, 3 * 86400 * 10**9))
    for name in (young, old, "of-unknown-age"):
        journal.store.put(f"{base}/{name}/0000.rec", b"x")
    spills = local_root(journal.store) / "calls" / ".live"
    for name in (young, old):
        (spills / f"{name}.parts").mkdir(parents=True)
    held = spills / f"{old[:-1]}0.parts"
    held.mkdir()
    with locked(held / "held"):
        journal.opened()
        assert held.exists()
    assert journal.store.keys(base) == [f"{base}/{young}/0000.rec", f"{base}/of-unknown-age/0000.rec"]
    assert sorted(path.name for path in spills.glob("*.parts")) == sorted([held.name, f"{young}.parts"])
    journal.opened()
    assert not held.exists()


def test_a_manifest_that_is_listed_but_never_there_hides_no_other_and_nothing_is_swept(journal: Journal, monkeypatch):
    write(journal, range(200)).close()
    journal.opened()
    write(journal, range(200, 230), "test=2.w").close()
    kept = journal.opened().generations
    assert len(kept) == 2
    base = f"{journal.prefix}/base"
    journal.store.put(f"{base}/{time.time_ns() - 3 * 86400 * 10**9:020d}-abcdef/0000.rec", b"x")
    ghost = f"{base}/{time.time_ns() - 2 * 86400 * 10**9:020d}-fedcba/manifest.json"
    before, keys = journal.store.keys(base), Store.keys
    monkeypatch.setattr(sweeping, "SAFE_S", 0.0)
    monkeypatch.setattr(journals, "BETWEEN_LOOKS_S", 0.0)
    monkeypatch.setattr(Store, "keys", lambda self, *given: sorted([*keys(self, *given), ghost]))
    assert journal.current().generations == kept
    opened = journal.opened()
    assert opened.generations == kept
    assert len(Lookup(opened).find(map(key_of, range(230)))) == 230
    assert keys(journal.store, base) == before
    monkeypatch.setattr(Store, "keys", keys)
    assert journal.opened().generations == kept
    assert keys(journal.store, base) == [key for key in before if "-abcdef/" not in key]


def test_what_a_lost_process_sent_is_found_also_after_another_machine_merged_it(remote: Journal):
    calls = [Call(({"role": "user", "content": f"question {number}"},)) for number in range(20)]

    async def report(*_: Any) -> tuple[float, str]:
        return 99.0, ""

    with endpoint(echo) as url:
        served = Endpoint(base_url=str(url), model="m")
        plan = Plan("s", "head=1", (("main", served),), (remote,), limited=False)
        writer = Writer(remote.store, remote.prefix, remote.folder, "head=1.w7-lost")
        for call in calls:
            answer = {"text": "Said before.", "reason": "", "in": 1, "out": 1}
            writer.append(bytes.fromhex(question_key(plan, call)[1]), answer, lambda _: None)
        writer.close()
        caller = Caller(plan, report, "w8")
        try:
            assert len(remote.opened("other=1").generations) == 1
            caller.look_for(["w7-lost"])
            looked_up_before: dict[str, dict[str, Any]] = {}
            answers = caller.submit(calls, looked_up_before).result()
        finally:
            caller.close()
        assert url.counts()["received"] == 0
    assert {answer.text for answer in answers} == {"Said before."}


def test_who_gets_the_rows_of_a_process_lost_with_its_machine_finds_what_it_sent(remote: Journal, monkeypatch):
    writer = write(remote, range(50), "head=1.w7-lost")
    writer.flush()
    left_behind(remote, range(50, 60), "head=1.w7-lost", 1)
    remote.collect("head=1", keep=True)
    monkeypatch.setattr(Journal, "folder", remote.folder.parent / "of-another-machine")
    other = peers.Peers(remote.folder, "head=1", "head=1.w8")
    assert not other.find([key_of(7)])
    other.read_sent(remote, ["w7-lost", "w9"])
    assert other.find(map(key_of, range(80))) == {key_of(number): reply(number) for number in range(60)}
    writer.close()

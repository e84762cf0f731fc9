"""The store: the same promises on a folder and over the S3 protocol (moto's server speaks it for real)."""

from __future__ import annotations

import os
import pickle
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest

from understudy.corpus import find_files
from understudy.errors import AccessError, CorpusError, InputError, MissingError, StoreError, UnderstudyError
from understudy.reading.source import opened
from understudy.record import Record, fingerprint, read_record, rows_digest, table_digest, write_record
from understudy.store import Store


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path) -> Store:
    if request.param == "folder":
        return Store.open(tmp_path / "store")
    return Store.open(f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}")


def test_what_is_put_comes_back_and_lists_in_order(store):
    store.put("b/2.json", b"two")
    store.put("b/1.json", b"one")
    store.put("bb/3.json", b"three")
    store.put("b/1.json", b"uno")
    assert store.get("b/1.json") == b"uno"
    assert store.keys("b") == ["b/1.json", "b/2.json"]
    assert store.exists("b/2.json")
    assert not store.exists("b")
    assert store.delete_tree("b") == 2
    assert store.keys() == ["bb/3.json"]
    with pytest.raises(MissingError, match=r"b/1\.json"):
        store.get("b/1.json")


def test_of_many_writers_of_one_new_key_exactly_one_wins(store):
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda i: store.put_new("log/1", str(i).encode()), range(16)))
    assert sum(won) == 1
    assert store.get("log/1") == str(won.index(True)).encode()


@pytest.mark.parametrize("key", ["../x", "a/../b", "/etc/passwd", "a//b", "a/./b", "", "a\\b", "a/..", "a\nb"])
def test_keys_cannot_leave_the_store(store, key):
    for call in (lambda: store.put(key, b""), lambda: store.put_new(key, b""), lambda: store.get(key)):
        with pytest.raises(StoreError):
            call()


def test_tables_trees_and_the_store_itself_travel(store, tmp_path):
    table = pa.table({"text": ["Guten Tag", "你好"], "n": [1, 2]})
    store.write_table("t/x.parquet", table)
    assert pickle.loads(pickle.dumps(store)).read_table("t/x.parquet").equals(table)
    store.put("tree/sub/a.txt", b"a")
    assert (store.fetch_tree("tree", tmp_path / "back") / "sub" / "a.txt").read_text() == "a"
    with pytest.raises(MissingError):
        store.fetch_tree("nowhere", tmp_path / "none")


def test_damaged_files_are_named_in_one_line(store):
    store.put("x.json", b"{")
    store.put("x.parquet", b"PAR1 not really")
    for call in (lambda: store.get_json("x.json"), lambda: store.read_table("x.parquet")):
        with pytest.raises(StoreError, match=r"x\.(json|parquet): is not") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_record_makes_an_output_exist_and_a_newer_one_is_refused(store):
    key = "runs/r/extract/abc"
    store.put(f"{key}/lines.parquet", b"half written")
    assert read_record(store, key) is None
    record = Record(
        stage="extract", stage_version=1, recipe="r", unit="w", fingerprint="abc", config={}, inputs={},
        outputs={"lines.parquet": "d"}, started="2026-01-01T00:00:00+00:00", seconds=1.0,
    )  # fmt: skip
    write_record(store, key, record)
    assert read_record(store, key) == record
    store.put_json(f"{key}/record.json", {**record.model_dump(), "schema_version": 99})
    with pytest.raises(StoreError, match="schema_version 99, newer"):
        read_record(store, key)


def said_of(call: Callable[[], object], kind: type[UnderstudyError]) -> str:
    """What an error says, which must be of just this kind and one line."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bucket_that_is_not_there_is_one_line(s3):
    lost = Store.open("s3://nobody-made-this/x")
    for call in (lambda: lost.put("a", b"b"), lambda: lost.get("a"), lost.keys):
        assert "the bucket does not exist; create it or name another" in said_of(call, AccessError)
    assert "the bucket does not exist" in said_of(lambda: find_files("s3://nobody-made-this/*.txt"), CorpusError)
    assert AccessError.exit_code == 2


@pytest.fixture
def refusing(monkeypatch) -> Iterator[str]:
    """A server that answers everything with 403, and an environment that names it for S3."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_GET  # noqa: N815 - the base class's name

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", url)
    yield url
    server.shutdown()
    server.server_close()


def test_missing_and_refused_credentials_and_a_wrong_address_say_what_to_set(refusing, monkeypatch):
    store = Store.open("s3://stage/x")
    said = said_of(lambda: store.put("a", b""), AccessError)
    assert f"s3://stage/x/a: there are no credentials for {refusing}; set AWS_ACCESS_KEY_ID and" in said
    said = said_of(lambda: find_files("s3://stage/x/*.txt"), CorpusError)
    assert said.startswith("corpus s3://stage/x/*.txt: s3://stage/x: there are no credentials")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    again = Store.open("s3://stage/x")
    for call in (again.keys, lambda: again.get("a")):
        assert f"{refusing} refuses these credentials; see AWS_ACCESS_KEY_ID" in said_of(call, AccessError)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    assert "AWS_ENDPOINT_URL 'localhost:9000': is no address" in said_of(Store.open("s3://b").keys, InputError)


def test_a_server_that_is_not_there_is_one_line_that_names_it(refusing, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    words = f"{url} cannot be reached; see the network and AWS_ENDPOINT_URL, then run the same command again"
    assert said_of(lambda: Store.open("s3://stage/x").get("a"), StoreError) == f"s3://stage/x/a: {words}"
    with pytest.raises(CorpusError, match="cannot be reached"), opened("s3://stage/x.txt"):
        pass


@pytest.mark.parametrize("uri", ["gs://bucket", "s3://", "ftp://x/y"])
def test_unknown_store_uris_are_refused(uri):
    with pytest.raises(InputError):
        Store.open(uri)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Store.open(tmp_path / "f")


def test_table_digests_ignore_order_and_see_every_change():
    rows = [{"a": i, "b": "x" * i} for i in range(50)]
    digest = rows_digest(rows)
    assert rows_digest(reversed(rows)) == digest
    assert table_digest(pa.Table.from_pylist(rows)) == digest
    assert rows_digest(rows[1:]) != digest
    assert rows_digest([*rows[1:], {"a": 0, "b": "y"}]) != digest
    assert rows_digest([*rows, rows[0]]) != digest


def test_fingerprints_cover_stage_version_config_and_inputs():
    base = fingerprint("s", 1, {"a": 1}, {"x": "d"})
    assert base == fingerprint("s", 1, {"a": 1}, {"x": "d"})
    others = [("t", 1, {"a": 1}, {"x": "d"}), ("s", 2, {"a": 1}, {"x": "d"}), ("s", 1, {"a": 2}, {"x": "d"})]
    assert all(fingerprint(*other) != base for other in [*others, ("s", 1, {"a": 1}, {"x": "e"})])


def test_a_folder_that_a_killed_writer_left_goes_whole(tmp_path):
    store = Store.open(tmp_path)
    store.put("adapters/a/v1/weights", b"x")
    (tmp_path / "adapters/a/v1/weights#1").write_bytes(b"half")  # how a killed local writer leaves its part
    assert store.keys("adapters") == ["adapters/a/v1/weights"]
    store.delete_tree("adapters/a/v1")
    assert not (tmp_path / "adapters/a/v1").exists()


def test_an_object_that_changes_under_the_fetch_is_refused_and_leaves_nothing(tmp_path):
    store = Store.open(tmp_path / "store")
    store.put("a", b"old")
    listed = store.stored()["a"]
    store.put("a", b"newer")
    with pytest.raises(StoreError, match="changed while it was fetched"):
        store.fetch("a", tmp_path / "b", listed)
    store.fetch("a", tmp_path / "c", store.stored()["a"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "store"]

"""The store: the same promises on a folder and over the S3 protocol (moto's server speaks it for real)."""

from __future__ import annotations

import pickle
import uuid
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from understudy.errors import InputError, MissingError, StoreError
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


def test_a_bucket_that_is_not_there_is_one_line(s3):
    with pytest.raises(StoreError, match="bucket") as caught:
        Store.open("s3://nobody-made-this/x").put("a", b"b")
    assert "\n" not in str(caught.value)


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

"""Files of a corpus: found, named and decoded."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.extract import run_extract
from understudy.corpus import check, check_columns, decode, find_files, find_works, load, work_names
from understudy.errors import ColumnError, CorpusError, InputError
from understudy.names import is_name
from understudy.recipe import CorpusEntry, Recipe

CHINESE = "第一幕\n林姑娘：快起来！太阳都照到炉子了，我们来做月饼。\n阿福（揉眼睛）：我没有睡，我在看着你的面粉。\n"
GERMAN = "WÄCHTER.\nSchöne Größe! „Daß ich müßig wäre“, sagte er – und grüßte über die Straße.\n"


@pytest.mark.parametrize(
    ("text", "codec", "read_as"),
    [
        (CHINESE, "utf-8", "utf-8"),
        (CHINESE, "utf-8-sig", "utf-8-sig"),
        (CHINESE, "gb18030", "gb18030"),
        (CHINESE + "㐂𠮷", "gb18030", "gb18030"),
        (CHINESE, "utf-16", "utf-16"),
        (GERMAN * 5, "utf-16-le", "utf-16-le"),
        (GERMAN * 5, "cp1252", "cp1252"),
        ("Чуть свет уж на ногах! И я у ваших ног.\n" * 20, "cp1251", "cp1251"),
        ("林黛玉：寶玉，你來了。我們回去罷，這裡冷得很。\n" * 20, "big5", "big5"),
        ("Zażółć gęślą jaźń, mówił książę. Cóż to za życie.\n" * 20, "cp1250", "cp1250"),
    ],
)
def test_bytes_in_the_encodings_of_real_files_come_back_as_the_same_text(text: str, codec: str, read_as: str) -> None:
    decoded = decode(text.encode(codec))
    assert (decoded.text, decoded.encoding) == (text, read_as)
    assert 0 < decoded.confidence <= 1


def test_the_mark_is_removed_and_line_ends_stay() -> None:
    assert decode(b"\xef\xbb\xbfA: b\r\nC: d\r").text == "A: b\r\nC: d\r"


def test_a_declared_encoding_is_obeyed_and_a_wrong_one_named() -> None:
    assert decode("é".encode("latin-1"), "latin-1").text == "é"
    assert decode(b"\xef\xbb\xbfhi", "utf-8").text == "hi"
    with pytest.raises(CorpusError, match=r"play\.txt: is not ascii at byte 1"):
        decode("aé".encode(), "ascii", "play.txt")
    with pytest.raises(CorpusError, match="encoding 'klingon' is not known"):
        decode(b"a", "klingon")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b" \r\n\t ", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (bytes(range(256)) * 20, "binary"),
        (b"\x01\x02\x03\x04" * 50, "binary"),
        (b"%PDF-1.7 etc", "a PDF"),
        (b"PK\x03\x04abc", "EPUB"),
    ],
)
def test_what_holds_no_text_is_refused_in_one_line(data: bytes, words: str) -> None:
    with pytest.raises(CorpusError, match=words) as caught:
        decode(data, where="x.txt")
    assert str(caught.value).startswith("x.txt: ")
    assert "\n" not in str(caught.value)


def test_a_file_a_folder_and_a_glob_find_the_same_texts(tmp_path: Path) -> None:
    plays = tmp_path / "plays"
    (plays / "more").mkdir(parents=True)
    (plays / ".hidden").mkdir()
    for name in ("b.txt", "a.TXT", "more/c.md", ".hidden/d.txt", "picture.png"):
        (plays / name).write_text("A: b")
    found = [Path(file).name for file in find_files("plays", tmp_path)]
    assert found == ["a.TXT", "b.txt", "c.md"]
    assert find_files("plays/b.txt", tmp_path) == [str(plays / "b.txt")]
    assert find_files(str(plays / "*.txt")) == [str(plays / "b.txt")]
    assert [Path(file).name for file in find_files("plays/**/*.md", tmp_path)] == ["c.md"]
    assert find_files(f"file://{plays}/b.txt") == [str(plays / "b.txt")]


@pytest.mark.parametrize("path", ["nothing.txt", "*.txt", ".", "plays/**.txt", "~nosuchuser/x.txt"])
def test_an_entry_that_finds_nothing_is_refused_in_one_line(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match=r"^corpus ") as caught:
        find_files(path, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_two_entries_name_is_one_work(tmp_path: Path) -> None:
    (tmp_path / "Kleiner Krug.txt").write_text("ADAM: Ja.", encoding="utf-8")
    entries = (CorpusEntry(path="*.txt"), CorpusEntry(path="Kleiner Krug.txt"))
    recipe = Recipe(name="r", corpus=entries, folder=str(tmp_path))
    (work,) = find_works(recipe)
    assert work.name == "kleiner-krug"
    assert load(work).text == "ADAM: Ja."


def test_a_file_is_not_called_like_a_row_of_a_table_or_a_piece_of_a_cut_text(tmp_path: Path) -> None:
    for name in ("vol.jsonl", "vol.1.txt", "long.txt", "long.2.txt", "calm.txt", "calm.3.txt"):
        (tmp_path / name).write_text(json.dumps({"text": "A: b"}))
    entries = [CorpusEntry(path="vol.jsonl", column="text"), CorpusEntry(path="long.txt", cut=True)]
    corpus = (*entries, CorpusEntry(path="*.txt"))
    names = [work.name for work in find_works(Recipe(name="r", corpus=corpus, cast=(), folder=str(tmp_path)))]
    assert sorted(names) == ["calm", "calm.3", "long", "long-2", "vol", "vol-1"]


def test_work_ids_are_valid_unique_and_do_not_change_when_a_file_joins() -> None:
    files = ["/a/红楼梦.txt", "/a/水浒传.txt", "/a/Faust I.txt", "/b/Faust I.txt", "/c/b/Faust I.txt", "/" + "x" * 300]
    names = work_names(files)
    assert len(set(names)) == len(files)
    assert all(map(is_name, names))
    assert work_names(files[:2]) == names[:2]
    assert work_names(["/elsewhere/红楼梦.txt"]) == names[:1]


@pytest.mark.parametrize("root", ["/here/mine", "/elsewhere", "s3://bucket/texts"])
def test_files_of_one_name_have_the_same_ids_wherever_their_folder_lies(root: str) -> None:
    files = ["x.txt", "x.md", "b/sawyer.txt", "c/sawyer.txt", "d/e/long.txt", "f/e/long.txt", "y.txt", "g/y.txt"]
    names = work_names([f"{root}/{file}" for file in files])
    assert names[:4] == ["x.txt", "x.md", "b-sawyer", "c-sawyer"]
    assert names[4:6] == ["e-long-7a3bf4eb", "e-long-b58d52e9"]
    assert names[6:] == ["y", "g-y"]


def tables(folder: Path) -> dict[str, str]:
    """The same two rows as JSON Lines, CSV and Parquet."""
    rows = [{"body": "ADA: Yes.\nBO: No.\n", "by": "x"}] * 2
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "t.csv").write_text('body,by\n"ADA: Yes.",x\n"BO: No.",y\n')
    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    return {name: f"t.{name}" for name in ("jsonl", "csv", "parquet")}


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("wrong", [{"column": "bdoy"}, {"column": "body", "speaker_column": "speaker"}, {}])
def test_a_wrong_column_is_refused_in_one_line_before_anything_starts(
    tmp_path: Path, form: str, wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.runtime.start", lambda *_, **__: pytest.fail("a cluster was started"))
    path = tables(tmp_path)[form]
    recipe = Recipe.model_validate(
        {"name": "r", "corpus": [{"path": path, **wrong}], "cast": [{"name": "ada"}], "folder": str(tmp_path)}
    )
    with pytest.raises(ColumnError, match=rf"t\.{form}: (has no column|is a table; name).* body, by") as caught:
        run_extract(recipe)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    with pytest.raises(ColumnError) as checked:
        check(find_works(recipe)[0])
    assert str(checked.value) == str(caught.value)
    good = recipe.model_copy(update={"corpus": (CorpusEntry(path=path, column="body", speaker_column="by"),)})
    check_columns(find_works(good))

"""Files that lie, are cut off, or want all memory: each is set aside with one reason, and never more than that."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import zipfile
from pathlib import Path

import pytest
from bookfiles import CONTAINER, docx, epub, pdf

from jobs.extract_work import CastNames, Task, extract_work
from understudy.corpus import Work
from understudy.reading.encodings import decode
from understudy.reading.kinds import format_of
from understudy.reading.source import opened
from understudy.reading.stretches import stretches
from understudy.reading.works import How, read_works
from understudy.recipe import CorpusEntry
from understudy.store import Store

PLAY = "ANNA: Who is there?\n\nBEN: Only me.\n\n" * 10


def extracted(tmp_path: Path, name: str, data: bytes, **entry: object) -> dict[str, object]:
    """The row of one file, extracted in this process."""
    path = tmp_path / name
    path.write_bytes(data)
    work = Work("w", str(path), CorpusEntry(path=name, **entry))
    cast = (CastNames("anna", "Anna", (), ("*",)),)
    return extract_work(Task("r", Store.open(tmp_path / "store"), work, "auto", cast, False))


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({"text": [PLAY] * 50}), out)
    return out.getvalue()


PACKAGE = (
    b'<package><manifest><item id="a" href="a.html" media-type="text/html"/></manifest>'
    b'<spine><itemref idref="a"/></spine></package>'
)
BOMB = {"META-INF/container.xml": CONTAINER.encode(), "OEBPS/content.opf": PACKAGE, "OEBPS/a.html": b"x" * 50_000_000}
LAUGHS = b'<!DOCTYPE TEI [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><TEI><p>&b;</p></TEI>'
OUTSIDE = b'<!DOCTYPE TEI [<!ENTITY a SYSTEM "file:///etc/passwd">]><TEI><p>&a;</p></TEI>'
BOOK = epub([f"<html><body><p>{PLAY}</p></body></html>"])
PAGES = [[(60.0, 500.0 - 14 * row, "ANNA: Who is there, my friend?") for row in range(9)]]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", bytes(range(256)) * 40, "binary"),
        ("a.epub", random.Random(1).randbytes(5000), "binary|cannot be told"),
        ("a.txt", b"\x89PNG\r\n\x1a\n" + b"x" * 100, "a picture"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + b"\0" * 600, "old Word"),
        ("a.txt", zipped({"a.txt": b"ANNA: Hi."}), "ZIP archive"),
        ("a.docx", zipped({"xl/workbook.xml": b"<a/>"}), "spreadsheet"),
        ("a.epub", BOOK[: len(BOOK) // 2], "damaged or cut off"),
        ("a.docx", docx([("", PLAY)])[:9000], "damaged or cut off"),
        ("a.epub", zipped(BOMB), "zip bomb"),
        ("a.txt.gz", gzip.compress(b"A: b\n" * 8_000_000), "200 times its size"),
        ("a.txt.gz", gzip.compress(PLAY.encode())[:-12], "cut off"),
        ("a.txt.gz", gzip.compress(gzip.compress(PLAY.encode())), "gzip within gzip"),
        ("a.pdf", pdf(PAGES)[:-900], "cut off"),
        ("a.pdf", b"%PDF-1.4\n" + b"x" * 400 + b"\n%%EOF", "damaged PDF"),
        ("a.pdf", pdf([[], [], []]), "no text layer"),
        ("a.parquet", parquet()[:-40], "damaged or cut off"),
        ("a.parquet", b"PAR1" + b"\0" * 400 + b"PAR1", "damaged or cut off"),
        ("a.xml", LAUGHS, "XML entities"),
        ("a.xml", OUTSIDE, "XML entities"),
        ("a.xml", b"<TEI><text><body><sp><speaker>A</speaker>", "damaged or cut off"),
        ("a.xml", b"<?xml version='1.0'?><invoice><a>1</a></invoice>", "another kind"),
        ("a.ass", b"[Script Info]\n", "holds no subtitle|damaged"),
        ("a.csv", b"when,what\n1,2\n", "name the column"),
        ("a.jsonl", b"no json\n" * 200, "no JSON"),
        ("a.json", b'[{"instruction": "x"}]', "JSON document"),
        ("a.txt", b"x" * 70_000_000, "64 MB"),
        ("a.txt", b"A: b\n\n" * 10 + b"x" * 5_000_000, "row of more than 4 million"),
    ],
)
def test_what_cannot_be_read_is_set_aside_with_one_reason(tmp_path, name, data, words):
    row = extracted(tmp_path, name, data)
    assert re.search(words, str(row["problem"])), row
    assert "\n" not in str(row["problem"])
    assert not row["fingerprint"]


@pytest.mark.parametrize(
    ("name", "data", "form"),
    [
        ("a.pdf", PLAY.encode(), "text"),
        ("a.txt", b"<!doctype html><html><p>x</p></html>", "html"),
        ("a.txt", b"\xef\xbb\xbfWEBVTT\n\n00:01.000 --> 00:02.000\nx", "vtt"),
        ("a.md", "1\n00:00:01,000 --> 00:00:02,000\nA: b\n".encode("utf-16"), "srt"),
        ("a.txt", json.dumps({"text": PLAY}).encode() + b"\n", "jsonl"),
        ("a.txt", BOOK, "epub"),
        ("a.html", PLAY.encode(), "text"),
        ("a.docx", gzip.compress(pdf(PAGES)), "pdf"),
        ("a.xml", b"<?xml version='1.0'?><!-- x --><TEI xmlns='http://www.tei-c.org/ns/1.0'/>", "xml"),
        ("a.xml", b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'/>", "html"),
    ],
)
def test_the_content_says_what_a_file_is_and_not_its_name(tmp_path, name, data, form):
    (tmp_path / name).write_bytes(data)
    with opened(str(tmp_path / name)) as source:
        assert format_of(source) == form


def test_the_record_says_how_a_file_was_read_and_what_its_name_said(tmp_path):
    row = extracted(tmp_path, "a.pdf", PLAY.encode("utf-16"))
    assert row["counts"]["format"] == {"name": "text", "named": "pdf"}
    assert row["counts"]["encoding"] == {"name": "utf-16", "confidence": 1.0}


def test_broken_rows_of_a_table_cost_themselves_alone(tmp_path):
    good = json.dumps({"text": PLAY})
    rows = [good, "{broken", json.dumps({"other": 1}), '{"text": 5}', '{"text": "\\ud800 x"}', "[1]", "", good]
    row = extracted(tmp_path, "a.jsonl", "\n".join(rows).encode())
    assert row["counts"]["speeches"] == 40
    assert sum(row["counts"]["set_aside"].values()) == 5
    store = Store.open(tmp_path / "store")
    key = f"runs/r/extract/{row['fingerprint']}"
    assert sorted(store.read_table(f"{key}/dropped.parquet")["work"].to_pylist()) == ["w.2", "w.3", "w.4", "w.5", "w.6"]
    text = store.get(f"{key}/text.txt").decode()
    for line in store.read_table(f"{key}/lines.parquet").to_pylist():
        assert text[line["start"] : line["end"]] == line["text"]


# Large works --------------------------------------------------------------------------------------------------------


def test_a_large_work_is_set_aside_or_cut_at_its_headings():
    chapter = "Chapter {}\n\n" + "“Good day,” said Anna. " * 40 + "\n\n"
    whole = "".join(chapter.format(number) for number in range(1, 31))
    pieces = [whole[at : at + 777] for at in range(0, len(whole), 777)]
    found = list(stretches(pieces, "w", True, "x", most=5000))
    assert "".join(one.text for one in found) == whole
    assert [one.work for one in found] == [f"w.{number}" for number in range(1, len(found) + 1)]
    assert all(one.text.startswith("Chapter") and len(one.text) <= 5000 for one in found)
    assert all(whole[one.start :].startswith(one.text) for one in found)
    with pytest.raises(Exception, match="more than"):
        list(stretches(pieces, "w", False, "x", most=5000))
    with pytest.raises(Exception, match="no heading"):
        list(stretches(["word " * 5000], "w", True, "x", most=5000))
    assert [one.work for one in stretches(pieces, "w", True, "x")] == ["w"]


def test_a_work_parsed_in_stretches_has_one_run_of_lines(monkeypatch, tmp_path):
    from understudy.reading.documents import Document

    text = "".join(f"SCENE {n}\n\nANNA: Number {n} is here.\n\nBEN: Yes.\n\n" for n in range(400))
    monkeypatch.setattr("understudy.reading.stretches.STRETCH", 2000)
    chunks = list(read_works(Document("text", "utf-8", 1.0, plain=True, texts=[text]), "w", How(), "x"))
    lines = [line for chunk in chunks for line in chunk.lines]
    assert len(chunks) > 5
    assert [line.index for line in lines] == list(range(len(lines)))
    assert [line.line_id for line in lines] == [f"w:{n}" for n in range(len(lines))]
    assert len({line.scene for line in lines}) == 400
    assert all(line.text in text[line.start : line.end] for line in lines if line.kind == "speech")


# Encodings ----------------------------------------------------------------------------------------------------------

SIMPLIFIED = "林姑娘：快起来！"
TRADITIONAL = "林黛玉：寶玉，你來了。"
FRENCH = "ANNE: Ça va très bien, merci. « Où êtes-vous ? »\n"


@pytest.mark.parametrize("many", [1, 300])
@pytest.mark.parametrize(
    ("text", "codec"),
    [
        *[(SIMPLIFIED, codec) for codec in ("utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-16-be")],
        *[(TRADITIONAL, codec) for codec in ("big5", "gb18030", "utf-16-le")],
        *[(FRENCH, codec) for codec in ("cp1252", "utf-16", "utf-16-be", "utf-8")],
        ("WÄCHTER: Schöne Größe! „Daß ich müßig wäre“ – so.\n", "cp1252"),
        ("Annie: It’s late, isn’t it? “Yes.”\n", "cp1252"),
    ],
)
def test_an_encoding_is_told_from_a_line_and_from_a_book(text, codec, many):
    decoded = decode((text * many).encode(codec))
    assert decoded.text == text * many
    assert decoded.confidence >= 0.7
    assert (decoded.confidence == 1) == (codec in ("utf-8", "utf-8-sig", "utf-16"))

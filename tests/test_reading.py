"""Every format that people have becomes text or lines: what is said, by whom, and nothing of the markup."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from bookfiles import docx, epub, pdf

from understudy.corpus import Work, check_columns, find_files, find_works, load
from understudy.errors import ColumnError
from understudy.reading.documents import Options, read_document
from understudy.reading.markup import html_text, markdown_text
from understudy.reading.pdf import pdf_text
from understudy.reading.source import opened
from understudy.reading.works import Chunk, How, read_works
from understudy.recipe import CorpusEntry, Recipe

PLAY = "# Act I\n\nANNA: Who is *there*, **you**?\n\nBEN: Only [me](http://x.y).\n\n" * 6
NOVEL = (
    "<h2>Chapter One</h2><p>“Good&nbsp;day,<sup>12</sup>” said <b>Anna</b>.</p><p>“Stay &amp; eat,” said Ben.</p>" * 3
)


def read(tmp_path: Path, name: str, data: bytes | str, how: How | None = None, **options: object) -> list[Chunk]:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with opened(str(path)) as source:
        document = read_document(source, Options(**options))
        return list(read_works(document, "w", how or How(), str(path)))


def said(chunks: list[Chunk]) -> list[tuple[str | None, str]]:
    """Who says what; a comma before `said Anna` may have become a full stop."""
    lines = [line for chunk in chunks for line in chunk.lines if line.kind == "speech"]
    return [(line.speaker, re.sub(r",$", ".", line.text)) for line in lines]


def assert_spans(chunks: list[Chunk]) -> None:
    """Offsets of every line point into the texts put together, and its words stand there."""
    whole = "".join(chunk.text for chunk in chunks)
    for chunk in chunks:
        for line in chunk.lines:
            span = whole[line.start : line.end]
            first = line.text.split()[0].rstrip(".").rstrip(",.")
            assert first in span, (line, span)
            for one in line.directions:
                assert str(one["text"]) in whole[int(one["start"]) : int(one["end"])]


def html_page(body: str) -> str:
    head = "<head><title>Menu</title><style>p{color:red}</style><script>var a='<p>no</p>'</script></head>"
    return f"<!DOCTYPE html><html>{head}<body><nav>Contents</nav>{body}</body></html>"


def xhtml(body: str) -> str:
    opened = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'
    return f"{opened}<body>{body}</body></html>"


# Running text -------------------------------------------------------------------------------------------------------


def test_markdown_leaves_no_mark_in_what_is_said(tmp_path):
    chunks = read(tmp_path, "a.md", "---\ntitle: x\n---\n" + PLAY)
    assert set(said(chunks)) == {("ANNA", "Who is there, you?"), ("BEN", "Only me.")}
    assert_spans(chunks)
    assert [line.text for chunk in chunks for line in chunk.lines if line.kind == "heading"] == ["Act I"] * 6
    odd = "- **BEN:** 2\\*3 and snake_case\\_word[^1]\n> quoted, *over\n> rows*\n\nTitle\n=====\n```\ncode\n```\n"
    text = "".join(markdown_text([odd]))
    assert text.split("\n")[:5] == ["BEN: 2*3 and snake_case_word", "quoted, over", "rows", "", "# Title"]


def test_html_leaves_what_a_reader_sees(tmp_path):
    chunks = read(tmp_path, "a.html", html_page(NOVEL))
    assert set(said(chunks)) == {("Anna", "Good day."), ("Ben", "Stay & eat.")}
    assert not any(word in chunk.text for chunk in chunks for word in ("Contents", "Menu", "color", "var a", "<"))
    assert_spans(chunks)
    whole = html_page("<table><tr><td>ANNA</td><td>Hi</td></tr></table><p>漢<rt>kan</rt>字<br>next</p>")
    pieces = [whole[:90], whole[90:200], whole[200:]]
    assert "".join(html_text(pieces, "w")) == "".join(html_text([whole], "w")) == "ANNA\tHi\n\n漢字\nnext\n\n"


def test_an_epub_is_read_in_the_order_of_its_spine(tmp_path):
    data = epub([xhtml("<h2>Two</h2><p>“Second,” said Ben.</p>"), xhtml(NOVEL)], spine=[1, 0])
    chunks = read(tmp_path, "a.epub", data)
    text = "".join(chunk.text for chunk in chunks)
    assert text.index("Chapter One") < text.index("## Two")
    assert "Contents" not in text
    assert said(chunks)[-1] == ("Ben", "Second.")
    assert_spans(chunks)


def test_a_word_file_gives_its_paragraphs_and_headings(tmp_path):
    rows = [("Heading 1", "Act I"), *[("", "ANNA: Who is there?"), ("", "BEN: Only me.")] * 5]
    chunks = read(tmp_path, "a.docx", docx(rows))
    assert said(chunks) == [("ANNA", "Who is there?"), ("BEN", "Only me.")] * 5
    assert chunks[0].lines[0].kind == "heading"
    assert_spans(chunks)


def page(number: int) -> list[tuple[float, float, str]]:
    return [
        (150, 570, "THE MILLER AND THE MOON"),
        (70, 530, "The mill stood at the end of the road where no-"),
        (60, 516, "body came by after dark, and Anna knew it well."),
        (70, 502, "“Who is there?” she said to the old door, and wai-"),
        (60, 488, "ted. The well-known wheel stood still in the well-"),
        (60, 474, "known stream, and the night was long for all of"),
        (60, 460, "them."),
        (70, 446, "“Only me,” said Ben."),
        (70, 432, "“I was here before, and I shall be here again when"),
        (200, 40, str(number)),
    ]


def test_a_pdf_loses_its_headers_and_hyphens_and_keeps_its_paragraphs(tmp_path):
    data = pdf(
        [page(n) for n in range(1, 5)] + [[(60, 530, "the moon is full,” said Anna."), (60, 516, "林姑娘：好。")]]
    )
    (tmp_path / "a.pdf").write_bytes(data)
    with opened(str(tmp_path / "a.pdf")) as source:
        found = pdf_text(source)
    assert (found.pages, found.without_text) == (5, 0)
    paragraphs = found.text.split("\n\n")
    assert (
        paragraphs[0] == "The mill stood at the end of the road where nobody came by after dark, and Anna knew it well."
    )
    assert "and waited. The well-known wheel stood still in the well-known stream" in paragraphs[1]
    assert "MILLER" not in found.text
    assert not any(part.strip().isdigit() for part in found.text.split("\n"))
    assert "again when the moon is full,” said Anna." in found.text
    assert "林姑娘：好。" in found.text
    assert ("Ben", "Only me.") in said(read(tmp_path, "a.pdf", data))


# Formats that know who speaks -----------------------------------------------------------------------------------------

FOUNTAIN = """Title: The Mill
Author: Us

INT. MILL - NIGHT #1#

ANNA stands by the *wheel*. She
waits.

ANNA
(quietly)
Who is _there_?
It is late.

BEN (V.O.)
Only me.

@McCoy ^
Me too.

/* cut this
all */
> CUT TO:

.THE ROAD

!ANNA
goes.

BEN
Yes. [[a note]]
"""
TEI = """<?xml version="1.0" encoding="UTF-8"?><TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><title>X</title>
<listPerson><person xml:id="ben"><persName>Ben Miller</persName></person></listPerson></teiHeader><text><body>
<div type="act"><head>Act I</head><stage>A mill.</stage>
<sp who="#anna"><speaker>ANNA.</speaker><stage>(aside)</stage>
<l>Who is</l><l>there, <hi>you</hi>?<note>e.</note></l></sp>
<sp who="#ben"><p>Only me. <stage>[He sits.]</stage> Sit.</p></sp><stage>Exeunt.</stage></div></body></text></TEI>"""
SRT = """1
00:00:01,000 --> 00:00:02,000
ANNA: Who is <i>there</i>?

2
00:00:03,000 --> 00:00:04,000
- Only me.
- BEN: Not you! [sighs]

3
00:00:07,000 --> 00:00:08,000
I told you: go away.
"""
VTT = """WEBVTT

NOTE nobody says
this

1
00:00:01.000 --> 00:00:02.000
<v Anna>Who is</v>

00:00:02.500 --> 00:00:03.000
<v.loud Anna>there?</v>

00:03.000 --> 00:04.000
<v Ben>Only me.<v Carl>And me &amp; you.
"""
ASS = r"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:01.00,Default,Staff,0,0,0,,Not said
Dialogue: 0,0:00:03.00,0:00:04.00,Default,Ben,0,0,0,,{\i1}Only{\i0} me.\NYes, me.
Dialogue: 0,0:00:01.00,0:00:02.00,Default,Anna,0,0,0,,Who is there?
Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,{\p1}m 0 0 l 1 1
Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,林姑娘：快起来！
"""


@pytest.mark.parametrize(
    ("name", "text", "method", "speeches"),
    [
        (
            "a.fountain",
            FOUNTAIN,
            "fountain",
            [("ANNA", "Who is there? It is late."), ("BEN", "Only me."), ("McCoy", "Me too."), ("BEN", "Yes.")],
        ),
        ("a.xml", TEI, "tei", [("ANNA", "Who is there, you?"), ("Ben Miller", "Only me. Sit.")]),
        (
            "a.srt",
            SRT,
            "srt",
            [("ANNA", "Who is there?"), (None, "Only me."), ("BEN", "Not you!"), (None, "I told you: go away.")],
        ),
        ("a.vtt", VTT, "vtt", [("Anna", "Who is there?"), ("Ben", "Only me."), ("Carl", "And me & you.")]),
        ("a.ass", ASS, "ass", [("Anna", "Who is there?"), ("Ben", "Only me. Yes, me."), ("林姑娘", "快起来！")]),
    ],
)
def test_a_format_that_knows_who_speaks_is_believed(tmp_path, name, text, method, speeches):
    for file, data in ((name, text.encode()), (f"{name}.gz", gzip.compress(text.encode("utf-16")))):
        chunks = read(tmp_path, file, data if name != "a.xml" else text.encode())
        assert said(chunks) == speeches
        assert {line.method for chunk in chunks for line in chunk.lines} == {method}
        assert_spans(chunks)
        words = "".join(chunk.text for chunk in chunks)
        assert not any(word in words for word in ("Not said", "nobody says", "cut this", "a note", "ed.", "<", "{"))


def test_directions_headings_and_scenes_of_a_screenplay_are_kept_apart(tmp_path):
    (chunk,) = read(tmp_path, "a.fountain", FOUNTAIN)
    assert [(line.kind, line.scene) for line in chunk.lines if line.kind == "heading"] == [
        ("heading", "w#0"),
        ("heading", "w#1"),
    ]
    assert chunk.lines[2].directions[0]["text"] == "quietly"
    assert "ANNA goes." in [line.text for line in chunk.lines if line.kind == "direction"]


# Tables ---------------------------------------------------------------------------------------------------------------


def table(path: Path, rows: list[dict[str, object]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    elif path.suffix == ".csv":
        quoted = [
            "text,who",
            *(f'"{str(row["text"] or "").replace(chr(34), chr(34) * 2)}",{row["who"]}' for row in rows),
        ]
        path.write_text("\n".join(quoted), encoding="utf-8-sig")
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_rows_of_a_table_are_works_or_lines(tmp_path, form):
    scene = "ANNA: Who is there?\n\nBEN: Only me.\n" * 4
    rows = [{"text": scene, "who": "x"}, {"text": "", "who": "x"}, {"text": scene.replace("ANNA", "DORA"), "who": "x"}]
    path = table(tmp_path / f"a.{form}", rows)
    chunks = read(tmp_path, path.name, path.read_bytes())
    assert [(chunk.work, chunk.reason) for chunk in chunks] == [("w.1", ""), ("w.2", "is empty"), ("w.3", "")]
    assert said(chunks)[8:10] == [("DORA", "Who is there?"), ("BEN", "Only me.")]
    assert_spans(chunks)
    spoken = [
        {"text": "Who is there?", "who": "Anna"},
        {"text": None, "who": "Ben"},
        {"text": "Only me.", "who": "Ben"},
    ]
    path = table(tmp_path / f"b.{form}", spoken)
    chunks = read(tmp_path, path.name, path.read_bytes(), column="text", speaker_column="who")
    assert said(chunks) == [("Anna", "Who is there?"), ("Ben", "Only me.")]
    assert [(chunk.work, chunk.reason) for chunk in chunks if chunk.reason] == [("w.2", "is empty")]
    assert {line.method for chunk in chunks for line in chunk.lines} == {form}


@pytest.mark.parametrize("named", [{"column": "text"}, {}, {"column": "said"}])
def test_a_column_that_json_lines_have_only_far_behind_is_read_and_one_that_never_comes_refused(tmp_path, named):
    path = tmp_path / "a.jsonl"
    name = named.get("column", "text")
    told = [{"text": "It was a quiet evening in the harbour."}] * 1200
    talk = [{name: "Who is there?", "who": "Anna"}, {name: "Only me.", "who": "Ben"}]

    def check(rows: list[dict[str, str]], **more: str) -> None:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        entry = CorpusEntry.model_validate({"path": str(path), **named, "speaker_column": "who", **more})
        check_columns([Work("a", str(path), entry)])

    check([*told, *talk])
    options = {"column": named.get("column"), "speaker_column": "who"}
    chunks = read(tmp_path, path.name, path.read_bytes(), **options)
    assert said(chunks) == [("Anna", "Who is there?"), ("Ben", "Only me.")]
    set_aside = [chunk.reason for chunk in chunks if chunk.reason]
    assert set_aside == ["has no 'said'"] * (1200 if name == "said" else 0)
    with pytest.raises(ColumnError, match=f"has no column '{'who' if name == 'text' else 'said'}'; it has text"):
        check(told[:1000])
    if not named:
        with pytest.raises(ColumnError, match="name the column with the text as `column:`, of words"):
            check([{"words": "Who is there?"}] * 1200)


# Finding --------------------------------------------------------------------------------------------------------------


def test_a_folder_gives_books_packed_or_not_and_tables_only_where_a_column_is_named(tmp_path):
    (tmp_path / "books").mkdir()
    for name in ("a.epub", "b.txt.gz", "c.srt", "d.csv", "e.png", "f.JSONL"):
        (tmp_path / "books" / name).write_bytes(b"x")
    assert [Path(file).name for file in find_files("books", tmp_path)] == ["a.epub", "b.txt.gz", "c.srt"]
    recipe = Recipe(name="r", corpus=(CorpusEntry(path="books", column="text"),), folder=str(tmp_path))
    assert [work.name for work in find_works(recipe)] == ["a", "b", "c", "d", "f"]


def test_the_text_that_offsets_count_in_is_the_same_wherever_it_is_read(tmp_path):
    for name, data in (("a.fountain", FOUNTAIN.encode()), ("a.epub", epub([xhtml(NOVEL)])), ("a.txt", PLAY.encode())):
        chunks = read(tmp_path, name, data)
        (work,) = find_works(Recipe(name="r", corpus=(CorpusEntry(path=name),), folder=str(tmp_path)))
        assert load(work).text == "".join(chunk.text for chunk in chunks)

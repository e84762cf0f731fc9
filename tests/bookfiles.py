"""Small books in every format that people have, made here: PDF, EPUB and Word files of a few paragraphs."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence

Row = tuple[float, float, str]
"""x and y of a row in points, from the lower left corner, and its text."""


def pdf(pages: Sequence[Sequence[Row]], size: float = 11) -> bytes:
    """A PDF with a text layer; text beyond Latin-1 is set in a font that names its characters only by a table."""
    objects: list[bytes] = []

    def add(body: bytes) -> int:
        objects.append(body)
        return len(objects)

    def stream(data: bytes, extra: str = "") -> int:
        packed = zlib.compress(data)
        return add(
            f"<< /Length {len(packed)} /Filter /FlateDecode {extra}>>\nstream\n".encode() + packed + b"\nendstream"
        )

    chars = sorted({char for rows in pages for _, _, text in rows for char in text if ord(char) > 0x7E})
    codes = {char: number + 1 for number, char in enumerate(chars)}
    latin = add(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    mapped = "\n".join(f"<{code:04x}> <{char.encode('utf-16-be').hex()}>" for char, code in codes.items())
    space = "1 begincodespacerange <0000> <ffff> endcodespacerange"
    table = f"/CIDInit /ProcSet findresource begin begincmap {space} {len(codes)} beginbfchar\n{mapped}\n"
    table += "endbfchar endcmap end"
    cmap = stream(table.encode())
    info = "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >>"
    below = add(f"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Some {info} /DW 1000 >>".encode())
    wide = add(
        f"<< /Type /Font /Subtype /Type0 /BaseFont /Some /Encoding /Identity-H /DescendantFonts [{below} 0 R]"
        f" /ToUnicode {cmap} 0 R >>".encode()
    )
    tree = len(objects) + 2 * len(pages) + 1
    kids = []
    for rows in pages:
        drawn = []
        for x, y, text in rows:
            plain = all(ord(char) <= 0x7E for char in text)
            escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
            shown = f"({escaped})" if plain else "".join(_mixed(text, codes, size))
            font = f"/F1 {size} Tf {shown} Tj" if plain else shown
            drawn.append(f"BT 1 0 0 1 {x} {y} Tm {font} ET")
        content = stream("\n".join(drawn).encode("latin-1"))
        fonts = f"/Resources << /Font << /F1 {latin} 0 R /F2 {wide} 0 R >> >>"
        kids.append(
            add(
                f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 420 595] {fonts} /Contents {content} 0 R >>".encode()
            )
        )
    listed = " ".join(f"{kid} 0 R" for kid in kids)
    assert add(f"<< /Type /Pages /Kids [{listed}] /Count {len(kids)} >>".encode()) == tree
    root = add(f"<< /Type /Catalog /Pages {tree} 0 R >>".encode())
    out = io.BytesIO()
    out.write(b"%PDF-1.5\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n".encode() + body + b"\nendobj\n")
    start = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.write("".join(f"{place:010d} 00000 n \n" for place in places).encode())
    out.write(f"trailer << /Size {len(objects) + 1} /Root {root} 0 R >>\nstartxref\n{start}\n%%EOF\n".encode())
    return out.getvalue()


def _mixed(text: str, codes: dict[str, int], size: float) -> list[str]:
    """A row of both fonts: every stretch in the one that has it."""
    parts: list[str] = []
    run = ""
    for char in [*text, ""]:
        if run and (not char or (ord(char) > 0x7E) != (ord(run[0]) > 0x7E)):
            if ord(run[0]) > 0x7E:
                parts.append(f"/F2 {size} Tf <{''.join(f'{codes[one]:04x}' for one in run)}> Tj ")
            else:
                escaped = run.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
                parts.append(f"/F1 {size} Tf ({escaped}) Tj ")
            run = ""
        run += char
    return parts


CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""


def epub(chapters: Sequence[str], spine: Sequence[int] | None = None, more: dict[str, bytes] | None = None) -> bytes:
    """An EPUB of XHTML documents, read in the order of `spine`."""
    out = io.BytesIO()
    order = spine if spine is not None else range(len(chapters))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        file.writestr("META-INF/container.xml", CONTAINER)
        kind = 'media-type="application/xhtml+xml"'
        items = "".join(f'<item id="c{i}" href="text/c%20{i}.xhtml" {kind}/>' for i in range(len(chapters)))
        nav = f'<item id="nav" href="nav.xhtml" properties="nav" {kind}/>'
        places = '<itemref idref="nav"/>' + "".join(f'<itemref idref="c{i}"/>' for i in order)
        opened = '<package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        file.writestr(
            "OEBPS/content.opf", f"{opened}<manifest>{nav}{items}</manifest><spine>{places}</spine></package>"
        )
        file.writestr("OEBPS/nav.xhtml", "<html><body><p>Contents</p></body></html>")
        for number, chapter in enumerate(chapters):
            file.writestr(f"OEBPS/text/c {number}.xhtml", chapter)
        for name, data in (more or {}).items():
            file.writestr(name, data)
    return out.getvalue()


def docx(paragraphs: Sequence[tuple[str, str]]) -> bytes:
    """A Word file of (style, text) paragraphs."""
    from docx import Document

    document = Document()
    for style, text in paragraphs:
        document.add_paragraph(text, style=style or None)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()

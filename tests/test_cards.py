"""Card files: V1, V2, V3 as JSON, PNG and CHARX come back with everything; damaged and hostile ones are one line."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.strategies import UNKNOWN
from understudy import card_files
from understudy.card_files import PNG_MAGIC, chunks, pack_charx
from understudy.cards import (
    CardFile,
    as_version,
    blank_image,
    card_data,
    card_file,
    packed,
    read_card_file,
    unpacked,
    write_card_file,
)
from understudy.catalog import Catalog
from understudy.errors import PersonaError
from understudy.persona import Persona, cast_entries, cast_entry_persona
from understudy.prompts import system_text
from understudy.recipe import Recipe
from understudy.store import Store

V2 = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "x_beside": [1],
    "data": {
        "name": "Ada",
        "description": "A clockmaker's {{user}}.",
        "first_mes": "你好",
        "x_inside": {"deep": None},
        "extensions": {"other/program": {"mood": 0.5}},
        "character_book": {"entries": [{"keys": ["clock"], "content": "It stands.", "x": 1}], "extensions": {}},
    },
}
V3 = {
    "spec": "chara_card_v3",
    "spec_version": "3.0",
    "data": {
        **V2["data"],
        "nickname": "Addie",
        "group_only_greetings": ["All of you!"],
        "assets": [
            {"type": "icon", "uri": "ccdefault:", "name": "main", "ext": "png"},
            {"type": "emotion", "uri": "embeded://assets/emotion/images/happy.webp", "name": "happy", "ext": "webp"},
            {"type": "background", "uri": "https://example.org/b.png", "name": "main", "ext": "png"},
        ],
    },
}
ASSETS = {"assets/emotion/images/happy.webp": b"\x00happy\xff", "x_meta.json": b"{}"}


def picture(colour=(200, 30, 30)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(sink, "PNG")
    return sink.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(*texts: bytes) -> bytes:
    """A picture with raw chunks before its end."""
    plain = picture()
    return plain[:-12] + b"".join(texts) + plain[-12:]


def encoded(card) -> bytes:
    return base64.b64encode(json.dumps(card, ensure_ascii=False).encode())


@given(outer=UNKNOWN, inner=UNKNOWN, name=st.text(min_size=1, max_size=8), suffix=st.sampled_from([".json", ".png"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_a_card_of_its_own_version_comes_back_from_json_and_png_as_it_was(tmp_path, outer, inner, name, suffix):
    data = {**inner, "name": name, "group_only_greetings": []}
    for card in (
        {"name": name, **inner},
        {**outer, "spec": "chara_card_v2", "spec_version": "2.0", "data": data},
        {**outer, "spec": "chara_card_v3", "spec_version": "3.1", "data": data},
    ):
        path = write_card_file(tmp_path / f"a{suffix}", CardFile(card))
        assert read_card_file(path).card == card


@given(inner=UNKNOWN, outer=UNKNOWN, assets=st.dictionaries(st.from_regex(r"[a-zé]{1,9}/[a-z]{1,60}\.bin", fullmatch=True), st.binary(max_size=40), max_size=3))  # fmt: skip  # noqa: E501
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_a_v3_card_comes_back_from_charx_with_assets_and_further_files(tmp_path, inner, outer, assets):
    named = [{"type": "x_any", "uri": f"embeded://{path}", "name": path, "ext": "bin"} for path in assets]
    data = {"name": "Ada", **inner, "group_only_greetings": [], "assets": named}
    file = CardFile({**outer, "spec": "chara_card_v3", "spec_version": "3.0", "data": data}, assets)
    again = read_card_file(write_card_file(tmp_path / "a.charx", file))
    assert (again.card, again.assets) == (file.card, assets)
    through_png = read_card_file(write_card_file(tmp_path / "a.png", again))
    uris = [one["uri"].removeprefix("__asset:") for one in through_png.card["data"]["assets"]]
    assert [through_png.assets[uri] for uri in uris] == list(assets.values())


def test_v2_and_v3_come_back_from_each_other_and_v1_keeps_every_field():
    assert as_version(as_version(V3, "v2"), "v3") == V3
    back = as_version(as_version(V2, "v3"), "v2")
    assert {key: back["data"][key] for key in V2["data"]} == V2["data"]
    flat = as_version(V2, "v1")
    assert flat["name"] == "Ada"
    assert flat["x_beside"] == [1]
    assert "spec" not in flat
    assert as_version(flat, "v2")["data"]["character_book"] == V2["data"]["character_book"]


def test_what_a_later_version_says_is_kept_under_its_own_name():
    later = {"spec": "chara_card_v4", "spec_version": "4.0", "data": {"name": "Ada", "group_only_greetings": []}}
    assert as_version(later, "v3") == later


def test_fields_of_cards_from_before_v1_are_read():
    old = {"char_name": "Bo", "char_persona": "old", "char_greeting": "Hey", "world_scenario": "a quay"}
    persona = Persona.from_card(old)
    assert (persona.display_name, persona.description, persona.greeting, persona.scenario) == (
        "Bo",
        "old",
        "Hey",
        "a quay",
    )


def test_a_v3_png_holds_both_cards_and_the_picture_and_pillow_reads_it(tmp_path):
    path = write_card_file(tmp_path / "ada.png", CardFile(V3, ASSETS, picture()))
    with Image.open(path) as shown:
        assert shown.getpixel((1, 1)) == (200, 30, 30)
        older = json.loads(base64.b64decode(shown.text["chara"]))
        assert json.loads(base64.b64decode(shown.text["ccv3"]))["spec"] == "chara_card_v3"
    assert (older["spec"], older["data"]["name"]) == ("chara_card_v2", "Ada")
    assert "Character Card V3" in older["data"]["creator_notes"]
    again = read_card_file(path)
    assert again.card["data"]["nickname"] == "Addie"
    assert "creator_notes" not in again.card["data"]
    assert again.assets == ASSETS
    assert again.image == picture()


def test_from_charx_to_png_and_back_the_icon_is_the_picture_and_nothing_else_changes(tmp_path):
    png = write_card_file(tmp_path / "a.png", CardFile(V3, ASSETS, picture()))
    charx = write_card_file(tmp_path / "a.charx", read_card_file(png))
    held = read_card_file(charx)
    assert held.assets == {**ASSETS, "assets/icon/images/main.png": picture()}
    icon, happy, linked = held.card["data"]["assets"]
    assert icon["uri"] == "embeded://assets/icon/images/main.png"
    assert happy == V3["data"]["assets"][1]
    assert linked == V3["data"]["assets"][2]
    assert write_card_file(tmp_path / "b.png", held).read_bytes() == png.read_bytes()


def test_json_holds_the_assets_that_the_card_names(tmp_path):
    card = read_card_file(write_card_file(tmp_path / "a.json", CardFile(V3, ASSETS, picture()))).card
    uri = card["data"]["assets"][1]["uri"]
    assert uri.startswith("data:image/webp;base64,")
    assert base64.b64decode(uri.partition(",")[2]) == b"\x00happy\xff"


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"tEXt", b"chara\0" + encoded(V2)),
        chunk(b"tEXt", b"Chara\0" + encoded(V2)),
        chunk(b"zTXt", b"chara\0\0" + zlib.compress(encoded(V2))),
        chunk(b"iTXt", b"chara\0\0\0\0\0" + encoded(V2)),
        chunk(b"iTXt", b"chara\0\1\0\0\0" + zlib.compress(encoded(V2))),
        chunk(b"iTXt", b"chara\0\0\0en\0\0" + json.dumps(V2).encode()),
        chunk(b"tEXt", b"chara\0" + encoded({"spec": "chara_card_v2", "data": {"name": "older"}}))
        + chunk(b"tEXt", b"ccv3\0" + encoded(V2)),
    ],
)
def test_a_card_is_found_in_every_kind_of_text_chunk_and_ccv3_counts_first(text):
    assert card_file(png_with(text), "a.png").card == V2


def test_other_chunks_of_a_picture_stay_and_its_old_card_goes(tmp_path):
    mine = chunk(b"tEXt", b"Author\0somebody")
    source = png_with(mine, chunk(b"tEXt", b"chara\0" + encoded(V2)))
    path = write_card_file(tmp_path / "a.png", CardFile(V3), image=source)
    keys = [content.split(b"\0")[0] for kind, content, _ in chunks(path.read_bytes(), "a") if kind == b"tEXt"]
    assert keys == [b"Author", b"chara", b"ccv3"]


def test_a_picture_of_another_kind_becomes_png_and_a_card_without_one_gets_a_plain_one(tmp_path):
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (0, 0, 255)).save(sink, "JPEG")
    path = write_card_file(tmp_path / "a.png", CardFile(V2), image=sink.getvalue())
    assert path.read_bytes().startswith(PNG_MAGIC)
    assert read_card_file(write_card_file(tmp_path / "b.png", CardFile(V2))).image == blank_image("Ada")
    with pytest.raises(PersonaError, match="picture cannot be read"):
        write_card_file(tmp_path / "c.png", CardFile(V2), image=b"no picture")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_in_one_line_or_read_and_never_anything_else(data):
    whole = data.draw(st.sampled_from([GOOD_PNG, GOOD_CHARX]))
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip"]))
    broken = whole[:at] if kind == "cut" else whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]
    said = ""
    try:
        card_file(broken, "a.png")
    except PersonaError as error:
        said = str(error)
    assert said == "" or said.startswith("a.png: ")
    assert "\n" not in said


GOOD_PNG = png_with(chunk(b"tEXt", b"ccv3\0" + encoded(V3)))
GOOD_CHARX = pack_charx(json.dumps(V3).encode(), ASSETS)


def test_a_flipped_bit_in_a_cards_chunk_is_found_by_its_checksum():
    at = GOOD_PNG.index(b"ccv3") + 20
    with pytest.raises(PersonaError, match="checksum of its tEXt chunk"):
        card_file(GOOD_PNG[:at] + bytes([GOOD_PNG[at] ^ 1]) + GOOD_PNG[at + 1 :], "a.png")


def zipped(files: dict[str, bytes], flags: int = 0) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in files.items():
            archive.writestr(name, value)
    data = sink.getvalue()
    if flags:
        at = data.index(b"PK\x01\x02")
        data = data[: at + 8] + struct.pack("<H", flags) + data[at + 10 :]
    return data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (zipped({"other.json": b"{}"}), "without card.json"),
        (zipped({"card.json": b"{}", "../evil": b"x"}), "relative paths"),
        (zipped({"card.json": b"{}", "/etc/x": b"x"}), "relative paths"),
        (zipped({"card.json": b"{}", "a\\b": b"x"}), "relative paths"),
        (zipped({"card.json": b"{}"}, flags=1), "is encrypted"),
        (zipped({"card.json": b"{}", "a": b"x" * 5000}), "unpacks to more than"),
        (zipped({str(n): b"" for n in range(9)}), "holds 9 files"),
        (zipped({"card.json": b"[1]"}), "is a JSON object"),
        (zipped({"card.json": b'{"name": NaN}'}), "is not a JSON card"),
        (b"PK\x03\x04 nothing", "damaged CHARX"),
        (picture(), "without a character card"),
        (png_with(chunk(b"tEXt", b"chara\0!!!")), "is no base64"),
        (png_with(chunk(b"zTXt", b"chara\0\0" + zlib.compress(b"x" * 5000))), "unpacks to more than"),
        (png_with(chunk(b"tEXt", b"chara\0e30="), chunk(b"tEXt", b"chara-ext-asset_:../x\0e30=")), "names an asset"),
    ],
)
def test_hostile_and_empty_containers_are_refused(monkeypatch, data, says):
    monkeypatch.setattr(card_files, "MAX_ENTRIES", 8)
    monkeypatch.setattr(card_files, "MAX_ENTRY_BYTES", 4000)
    with pytest.raises(PersonaError, match=says) as caught:
        card_file(data, "a.charx")
    assert "\n" not in str(caught.value)


def test_a_zip_that_lies_about_a_size_is_read_no_further_than_the_limit(monkeypatch):
    monkeypatch.setattr(card_files, "MAX_ENTRY_BYTES", 4000)
    data = zipped({"card.json": b"{}", "a": b"x" * 50_000})
    told = struct.pack("<I", 50_000)
    with pytest.raises(PersonaError):
        card_file(data.replace(told, struct.pack("<I", 10)), "a.charx")


def test_a_cast_may_be_cards_of_every_kind_and_a_nickname_is_what_char_stands_for(tmp_path):
    nicknamed = {**V3, "data": {**V3["data"], "description": "{{char}} mends clocks."}}
    write_card_file(tmp_path / "cards" / "ada.png", CardFile(nicknamed))
    write_card_file(tmp_path / "cards" / "bo.charx", CardFile({"name": "Bo"}))
    write_card_file(tmp_path / "cards" / "cy.json", CardFile({"name": "Cy"}))
    recipe = Recipe(name="r", cast="cards/*", folder=str(tmp_path))
    entries = cast_entries(recipe)
    assert [entry.name for entry in entries] == ["ada", "bo", "cy"]
    ada = cast_entry_persona(entries[0], recipe)
    assert system_text(ada) == "You are Ada.\nAddie mends clocks."
    assert ada.to_card()["data"]["nickname"] == "Addie"


def test_the_catalog_keeps_picture_and_assets_beside_the_card(tmp_path):
    file = CardFile(V3, ASSETS, picture())
    assert unpacked(packed(file), "kept") == file
    catalog = Catalog(Store.open(tmp_path))
    digest = catalog.put_card(V3)
    assert catalog.card_file(digest) == CardFile(V3)
    catalog.put_card_file(digest, file)
    assert catalog.card_file(digest) == file
    assert catalog.card(digest) == V3


def test_the_command_converts_between_containers_and_refuses_what_it_cannot_say(tmp_path, capsys):
    from understudy.cli import run

    source = write_card_file(tmp_path / "ada.png", CardFile(V3, ASSETS, picture()))
    assert run(["cards", "convert", str(source), "-o", str(tmp_path / "ada.charx")]) == 0
    assert run(["cards", "convert", str(tmp_path / "ada.charx"), "-o", str(tmp_path / "v1.json"), "--spec", "v1"]) == 0
    assert card_data(json.loads((tmp_path / "v1.json").read_text()))["nickname"] == "Addie"
    capsys.readouterr()
    assert run(["cards", "convert", str(source), "-o", str(tmp_path / "x.charx"), "--spec", "v2"]) == 2
    assert run(["cards", "convert", str(source), "-o", str(tmp_path / "x.txt")]) == 2
    assert run(["cards", "convert", str(source), "-o", str(source)]) == 2
    assert run(["cards", "convert", str(source), "-o", str(tmp_path / "x.json"), "--spec", "v9"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    for word, line in zip(("CHARX holds", "ends in none", "is the card that is read", "valid: v1"), said, strict=True):
        assert word in line

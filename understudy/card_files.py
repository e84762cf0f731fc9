"""Containers of character cards: PNG with text chunks, CHARX (a zip), and what else such a file carries.

    held = unpack(data, "adam.png")        # Held(card bytes, assets, image)
    data = pack_png(card, held.image, assets) / pack_charx(card, assets)

A PNG holds the card as base64 in a chunk `ccv3` (V3) or `chara` (V1, V2); chunks `chara-ext-asset_:PATH` hold assets. A
CHARX file is a zip with `card.json` at its root, everything else in it is an asset. Nothing is ever written to a path
that a file names. Everything that is not the card is kept as bytes and goes out again as it came.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from understudy.errors import PersonaError

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
CARD_NAME = "card.json"
ASSET_KEY = "chara-ext-asset_:"
MAX_FILE_BYTES = 256 << 20
MAX_CARD_BYTES = 32 << 20
MAX_ENTRIES = 4096
MAX_ENTRY_BYTES = 128 << 20
MAX_UNPACKED_BYTES = 512 << 20
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_STORED = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".mp3", ".ogg", ".mp4", ".webm", ".zip")
"""Already compressed: packed as they are."""


@dataclass(frozen=True)
class Held:
    """What one card file holds."""

    card: bytes
    """The card's JSON."""
    assets: dict[str, bytes] = field(default_factory=dict)
    """Files by their path in the container."""
    image: bytes | None = None
    """A PNG without any card in it."""
    container: str = "json"


def unpack(data: bytes, where: str) -> Held:
    """What a card file holds, told by its first bytes; PersonaError in one line when it is damaged or holds no card."""
    if len(data) > MAX_FILE_BYTES:
        raise PersonaError(f"{where}: is larger than {MAX_FILE_BYTES >> 20} MB; a card is smaller")
    if data.startswith(PNG_MAGIC):
        return _from_png(data, where)
    if data.startswith(b"PK") or (data.startswith(b"\xff\xd8\xff") and zipfile.is_zipfile(io.BytesIO(data))):
        return _from_zip(data, where)
    return Held(data)


def pack_png(card_v2: bytes | None, card_v3: bytes | None, image: bytes, assets: Mapping[str, bytes]) -> bytes:
    """The PNG `image` with cards and assets in its text chunks; cards that it held before are gone."""
    texts = [("chara", card_v2), ("ccv3", card_v3)]
    added = [_text_chunk(key, value) for key, value in texts if value is not None]
    added += [_text_chunk(f"{ASSET_KEY}{path}", value) for path, value in sorted(assets.items())]
    kept = [raw for kind, _, raw in chunks(image, "image") if kind != b"IEND"]
    return b"".join([PNG_MAGIC, *kept, *added, _chunk(b"IEND", b"")])


def pack_charx(card: bytes, assets: Mapping[str, bytes]) -> bytes:
    """A CHARX file; the same card and assets give the same bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for path, value in [(CARD_NAME, card), *sorted(assets.items())]:
            info = zipfile.ZipInfo(path, _ZIP_DATE)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_STORED if path.lower().endswith(_STORED) else zipfile.ZIP_DEFLATED
            archive.writestr(info, value)
    return sink.getvalue()


def chunks(data: bytes, where: str) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(type, content, the whole chunk) of each chunk of a PNG up to IEND; PersonaError where one is cut or damaged."""
    at = len(PNG_MAGIC)
    while True:
        head = data[at : at + 8]
        if len(head) < 8:
            raise PersonaError(f"{where}: is a truncated PNG; copy it again")
        (length,), kind = struct.unpack(">I", head[:4]), head[4:]
        raw = data[at : at + 12 + length]
        if len(raw) < 12 + length:
            raise PersonaError(f"{where}: is a truncated PNG; copy it again")
        if zlib.crc32(raw[4:-4]) != int.from_bytes(raw[-4:], "big"):
            name = kind.decode("latin-1")
            raise PersonaError(f"{where}: is a damaged PNG (checksum of its {name} chunk); copy it again")
        yield kind, raw[8:-4], raw
        if kind == b"IEND":
            return
        at += 12 + length


def is_safe(path: str) -> bool:
    """Whether a name in a container stays inside it."""
    parts = path.split("/")
    return bool(path) and not re.search(r"[\x00-\x1f\\:]", path) and not {"", ".", ".."} & set(parts)


def _from_png(data: bytes, where: str) -> Held:
    found: dict[str, bytes] = {}
    kept: list[bytes] = []
    total = 0
    for kind, content, raw in chunks(data, where):
        key, text = _text_of(kind, content, where) if kind in (b"tEXt", b"iTXt", b"zTXt") else ("", b"")
        if key.casefold() not in ("chara", "ccv3") and not key.startswith("chara-ext-asset_"):
            kept.append(raw)
            continue
        name = key if key.startswith("chara-ext-asset_") else key.casefold()
        total += len(text)
        if total > MAX_UNPACKED_BYTES:
            raise PersonaError(f"{where}: unpacks to more than {MAX_UNPACKED_BYTES >> 20} MB; a card is smaller")
        found.setdefault(name, _plain(text, name, where))
    card = found.pop("ccv3", None) or found.get("chara")
    found.pop("chara", None)
    if card is None:
        raise PersonaError(f"{where}: is an image without a character card (no chara or ccv3 chunk); name a card")
    image = b"".join([PNG_MAGIC, *kept])
    assets = {key.removeprefix(ASSET_KEY).removeprefix("chara-ext-asset_"): value for key, value in found.items()}
    if bad := next((path for path in assets if not is_safe(path)), None):
        raise PersonaError(f"{where}: names an asset {bad!r}; names are relative paths without '..'")
    return Held(card, assets, image, "png")


def _text_of(kind: bytes, content: bytes, where: str) -> tuple[str, bytes]:
    """(keyword, text) of a tEXt, zTXt or iTXt chunk."""
    keyword, _, rest = content.partition(b"\0")
    key = keyword.decode("latin-1")
    if not key.casefold().startswith(("chara", "ccv3")):
        return key, b""
    if kind == b"zTXt":
        return key, _inflated(rest[1:], where)
    if kind == b"iTXt":
        compressed, rest = rest[:1] == b"\1", rest[2:]
        _, _, rest = rest.partition(b"\0")
        _, _, rest = rest.partition(b"\0")
        return key, _inflated(rest, where) if compressed else rest
    return key, rest


def _inflated(data: bytes, where: str) -> bytes:
    try:
        inflate = zlib.decompressobj()
        found = inflate.decompress(data, MAX_ENTRY_BYTES)
    except zlib.error as error:
        raise PersonaError(f"{where}: holds a damaged text chunk ({error}); export the card again") from None
    if inflate.unconsumed_tail:
        raise PersonaError(f"{where}: unpacks to more than {MAX_ENTRY_BYTES >> 20} MB; a card is smaller")
    return found


def _plain(text: bytes, key: str, where: str) -> bytes:
    """What a chunk says: base64, or (as some programs write it) the JSON itself."""
    if text.lstrip()[:1] == b"{":
        return text
    squeezed = b"".join(text.split())
    try:
        return base64.b64decode(squeezed + b"=" * (-len(squeezed) % 4), validate=True)
    except binascii.Error as error:
        raise PersonaError(f"{where}: its {key} chunk is no base64 ({error}); export the card again") from None


def _from_zip(data: bytes, where: str) -> Held:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [info for info in archive.infolist() if not info.is_dir()]
            _check_entries(entries, where)
            files: dict[str, bytes] = {}
            room = MAX_UNPACKED_BYTES
            for info in entries:
                files[info.filename] = _entry(archive, info, min(room, MAX_ENTRY_BYTES), where)
                room -= len(files[info.filename])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise PersonaError(f"{where}: is a damaged CHARX file ({text}); export the card again") from None
    card = files.pop(CARD_NAME, None)
    if card is None:
        raise PersonaError(f"{where}: is a zip without {CARD_NAME}; a CHARX file has it at its root")
    return Held(card, files, None, "charx")


def _check_entries(entries: list[zipfile.ZipInfo], where: str) -> None:
    if len(entries) > MAX_ENTRIES:
        raise PersonaError(f"{where}: holds {len(entries)} files; at most {MAX_ENTRIES} are read")
    for info in entries:
        if not is_safe(info.filename):
            raise PersonaError(f"{where}: names a file {info.filename!r}; names are relative paths without '..'")
        if info.flag_bits & 1:
            raise PersonaError(f"{where}: is encrypted; export the card without a password")
    if sum(info.file_size for info in entries) > MAX_UNPACKED_BYTES:
        raise PersonaError(f"{where}: unpacks to more than {MAX_UNPACKED_BYTES >> 20} MB; a card is smaller")


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int, where: str) -> bytes:
    """One file of the zip, read no further than `limit`, whatever its header says of its size."""
    with archive.open(info) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise PersonaError(f"{where}: {info.filename} unpacks to more than {limit >> 20} MB; a card is smaller")
    return data


def _text_chunk(key: str, value: bytes) -> bytes:
    return _chunk(b"tEXt", key.encode("latin-1", "replace") + b"\0" + base64.b64encode(value))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

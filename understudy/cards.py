"""Character cards V1, V2 and V3 as JSON, PNG and CHARX, in and out, with everything in them that we do not know.

    file = read_card_file(Path("adam.png"))            # CardFile(card, assets, image)
    write_card_file(Path("adam.charx"), file, "v3")
    card_data(file.card)                               # the fields, whichever version it is

Versions: V1 has its fields at the top; V2 and V3 have them in `data`. A V3 card written as V2 keeps its further fields
in `data`, where readers of V2 leave them alone, so V2 and V3 come back from each other as they were; V1 puts all fields
of `data` at the top, so that what stood beside `data` comes back inside it.

Containers: CHARX says everything. A PNG holds assets in chunks of its own and its picture is the card's main icon. JSON
holds the assets that the card names as data URIs; files of a CHARX that the card does not name are left out of it.
"""

from __future__ import annotations

import base64
import io
import json
import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from understudy.card_files import MAX_CARD_BYTES, PNG_MAGIC, Held, chunks, is_safe, pack_charx, pack_png, unpack
from understudy.errors import PersonaError

SUFFIXES = (".json", ".png", ".charx")
SPECS = {"v2": ("chara_card_v2", "2.0"), "v3": ("chara_card_v3", "3.0")}
VERSIONS = ("v1", *SPECS)
BACKFILL = (
    "This is a Character Card V3, read as V2. Please use an application for Character Card V3 to use it properly."
)
_OLD_NAMES = {
    "char_name": "name",
    "char_persona": "description",
    "char_greeting": "first_mes",
    "example_dialogue": "mes_example",
    "world_scenario": "scenario",
}
"""Fields of cards from before V1, as Pygmalion wrote them."""
_ICON = {"type": "icon", "uri": "ccdefault:", "name": "main", "ext": "png"}
_PICTURE = ".picture.png"
PNG_NAME_CHARS = 60
_EMBEDDED = ("embeded://", "embedded://", "__asset:")
"""How cards name a file in their own container; the first is the specification's spelling."""


@dataclass(frozen=True)
class CardFile:
    """A card with what came with it."""

    card: dict[str, Any]
    assets: dict[str, bytes] = field(default_factory=dict)
    """Files by path, as `embeded://PATH` in the card names them."""
    image: bytes | None = None
    """The picture (PNG) that the card came in."""

    @property
    def bare(self) -> bool:
        """Whether there is nothing but the card."""
        return not self.assets and self.image is None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the card with everything that came with it."""
        return sha256(packed(self)).hexdigest()


def read_card_file(path: Path) -> CardFile:
    """A card file of any kind, told by its first bytes; PersonaError in one line when it cannot be read or kept."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise PersonaError(f"{path}: no such card; fix the path in the cast, or remove `card`") from None
    except OSError as error:
        raise PersonaError(f"{path}: cannot be read ({error.strerror})") from None
    return card_file(data, str(path))


def card_file(data: bytes, where: str) -> CardFile:
    """`read_card_file` for bytes."""
    held = unpack(data, where)
    return CardFile(_card_json(held, where), held.assets, held.image)


def read_card(path: Path) -> dict[str, Any]:
    """The card in a file, as it stands there."""
    return read_card_file(path).card


def _card_json(held: Held, where: str) -> dict[str, Any]:
    from understudy.record import canonical

    if len(held.card) > MAX_CARD_BYTES:
        raise PersonaError(f"{where}: its card is larger than {MAX_CARD_BYTES >> 20} MB")
    try:
        card = json.loads(held.card.decode("utf-8-sig"), parse_constant=_refuse_constant)
        canonical(card)  # a number beyond all bounds and half a surrogate pair are refused here, not at publish
    except UnicodeDecodeError:
        raise PersonaError(f"{where}: is no card: neither JSON nor a PNG or CHARX with one in it") from None
    except (RecursionError, ValueError) as error:
        raise PersonaError(f"{where}: is not a JSON card ({error}); export it as Character Card JSON") from None
    if not isinstance(card, dict):
        raise PersonaError(f"{where}: a character card is a JSON object; found {type(card).__name__}")
    return card


def card_data(card: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a card of any version; those that older programs called otherwise under their names of today."""
    if is_nested(card):
        return card["data"]
    return {**{new: card[old] for old, new in _OLD_NAMES.items() if old in card and new not in card}, **card}


def is_nested(card: Mapping[str, Any]) -> bool:
    """Whether the fields are in `data` (V2 and later; some programs forget `spec`) and not at the top (V1)."""
    return isinstance(card.get("data"), dict) and (card.get("spec") is not None or "name" not in card)


def as_version(card: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The card as V1, V2 or V3; the mapping that it came in is left as it is. PersonaError for an unknown version."""
    if version not in VERSIONS:
        raise PersonaError(f"card version {version}: unknown; valid: {', '.join(VERSIONS)}")
    outer = {key: value for key, value in card.items() if key not in ("spec", "spec_version", "data")}
    is_flat = not is_nested(card)
    data = dict(card_data(card))
    spec = SPECS.get(version)
    if spec is None:
        return data if is_flat else {**outer, **data}
    if version == "v3":
        data.setdefault("group_only_greetings", [])
    same = not is_flat and card.get("spec") is not None and version_of(card) == version
    name, number = (card["spec"], card.get("spec_version", spec[1])) if same else spec
    return {
        "spec": name,
        "spec_version": number,
        **({} if is_flat else outer),
        "data": data,
    }


def version_of(card: Mapping[str, Any]) -> str:
    """v1, v2 or v3; a later one counts as v3 and keeps its name."""
    if not is_nested(card):
        return "v1"
    return "v2" if card.get("spec") in (None, SPECS["v2"][0]) else "v3"


def write_card_file(path: Path, file: CardFile, version: str | None = None, image: bytes | None = None) -> Path:
    """Write a card by the suffix of `path` (.json, .png, .charx); returns the path.

    `version`: v1, v2, v3; None keeps the card's own, except that CHARX is V3 always. `image`: a picture in any format
    that Pillow reads, in place of the card's own.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise PersonaError(f"{path}: ends in none of {', '.join(SUFFIXES)}; choose one of them")
    if image is not None:
        file = replace(file, image=to_png(image, str(path)))
    if suffix == ".charx" and version not in (None, "v3"):
        raise PersonaError(f"{path}: CHARX holds Character Card V3; drop the version, or write .png or .json")
    version = "v3" if suffix == ".charx" else version or version_of(file.card)
    data = {".json": _as_json, ".png": _as_png, ".charx": _as_charx}[suffix](file, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
    return path


def packed(file: CardFile) -> bytes:
    """The card with its picture and assets in one piece, to be kept; `unpacked` gives the same back."""
    picture = {_PICTURE: file.image} if file.image is not None else {}
    return pack_charx(_json(file.card), {**file.assets, **picture})


def unpacked(data: bytes, where: str) -> CardFile:
    """What `packed` kept."""
    file = card_file(data, where)
    image = file.assets.get(_PICTURE)
    return CardFile(file.card, {path: held for path, held in file.assets.items() if path != _PICTURE}, image)


def to_png(image: bytes, where: str) -> bytes:
    """A picture as PNG; one that is PNG stays as it is. PersonaError when Pillow cannot read it."""
    from PIL import Image, UnidentifiedImageError

    if image.startswith(PNG_MAGIC):
        return strip_png(image, where)
    try:
        with Image.open(io.BytesIO(image)) as picture:
            sink = io.BytesIO()
            picture.convert("RGBA").save(sink, "PNG")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise PersonaError(f"{where}: the picture cannot be read ({error}); give a PNG, JPEG or WebP") from None
    return sink.getvalue()


def strip_png(image: bytes, where: str) -> bytes:
    """A PNG without the cards that it may hold."""
    kept = [raw for kind, content, raw in chunks(image, where) if not _is_card_chunk(kind, content)]
    return b"".join([PNG_MAGIC, *kept])


def blank_image(name: str) -> bytes:
    """A plain portrait for a card that has none, its colour made of the name."""
    from PIL import Image

    red, green, blue = sha256(name.encode()).digest()[:3]
    sink = io.BytesIO()
    Image.new("RGB", (400, 600), (red // 2 + 64, green // 2 + 64, blue // 2 + 64)).save(sink, "PNG")
    return sink.getvalue()


def _as_json(file: CardFile, version: str) -> bytes:
    named = _rewritten(file.card, lambda uri: _data_uri(uri, file.assets))
    return _json(as_version(named, version))


def _as_png(file: CardFile, version: str) -> bytes:
    card, assets, image = file.card, dict(file.assets), file.image
    icon = _main_icon(card)
    path = _path_in(str(icon.get("uri", ""))) if icon else ""
    if image is None and path in assets and assets[path].startswith(PNG_MAGIC):
        image = strip_png(assets.pop(path), path)
        card = _rewritten(card, lambda uri: "ccdefault:" if _path_in(uri) == path else uri)
    if image is None:
        image = blank_image(str(card_data(card).get("name", "")))
    short = {path: _png_name(path) for path in assets}
    assets = {short[path]: data for path, data in assets.items()}
    card = _rewritten(card, lambda uri: f"__asset:{short[_path_in(uri)]}" if _path_in(uri) in short else uri)
    if version != "v3":
        return pack_png(_json(as_version(card, version)), None, image, assets)
    notes = {"creator_notes": BACKFILL}
    older = as_version(card, "v2")
    backfill = {**older, "data": {**older["data"], **notes}}
    return pack_png(_json(backfill), _json(as_version(card, "v3")), image, assets)


def _as_charx(file: CardFile, version: str) -> bytes:
    card, assets = as_version(file.card, version), dict(file.assets)
    card = _rewritten(card, lambda uri: f"{_EMBEDDED[0]}{_path_in(uri)}" if _path_in(uri) in assets else uri)
    if file.image is not None:
        icon = _main_icon(card)
        path = "assets/icon/images/main.png"
        if icon is None or icon.get("uri") == "ccdefault:":
            assets[path] = file.image
            card = _with_icon(card, f"{_EMBEDDED[0]}{path}")
    return pack_charx(_json(card), {path: data for path, data in assets.items() if is_safe(path)})


def _png_name(path: str) -> str:
    """A name that fits into the key of a text chunk: ASCII, with its prefix at most 79 characters."""
    if path.isascii() and len(path) <= PNG_NAME_CHARS:
        return path
    return f"assets/{sha256(path.encode()).hexdigest()[:16]}{PurePosixPath(path).suffix[:8] if path.isascii() else ''}"


def _with_icon(card: dict[str, Any], uri: str) -> dict[str, Any]:
    data = dict(card["data"])
    listed = data.get("assets")
    listed = list(listed) if isinstance(listed, list) else []
    icon = _main_icon(card)
    if icon is None:
        listed.insert(0, {**_ICON, "uri": uri})
    else:
        listed = [{**one, "uri": uri} if one is icon else one for one in listed]
    return {**card, "data": {**data, "assets": listed}}


def _main_icon(card: Mapping[str, Any]) -> dict[str, Any] | None:
    listed = card_data(card).get("assets")
    known = listed if isinstance(listed, list) else []
    icons = [one for one in known if isinstance(one, dict) and one.get("type") == "icon"]
    return next((one for one in icons if one.get("name") == "main"), icons[0] if len(icons) == 1 else None)


def _rewritten(card: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The card with the URIs of its assets changed; a card without assets comes back as it is."""
    data = card_data(card)
    if not isinstance(data.get("assets"), list):
        return dict(card)
    listed = [
        {**one, "uri": change(one["uri"])} if isinstance(one, dict) and isinstance(one.get("uri"), str) else one
        for one in data["assets"]
    ]
    changed = {**data, "assets": listed}
    return {**card, "data": changed} if is_nested(card) else changed


def _path_in(uri: str) -> str:
    """The path of an embedded asset; empty for any other URI."""
    return next((uri.removeprefix(prefix) for prefix in _EMBEDDED if uri.startswith(prefix)), "")


def _data_uri(uri: str, assets: Mapping[str, bytes]) -> str:
    path = _path_in(uri)
    if path not in assets:
        return uri
    kind = mimetypes.guess_type(PurePosixPath(path).name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(assets[path]).decode()}"


def _is_card_chunk(kind: bytes, content: bytes) -> bool:
    key = content.partition(b"\0")[0].decode("latin-1").casefold()
    return kind in (b"tEXt", b"iTXt", b"zTXt") and (key in ("chara", "ccv3") or key.startswith("chara-ext-asset_"))


def _json(card: Mapping[str, Any]) -> bytes:
    return (json.dumps(card, ensure_ascii=False, indent=2) + "\n").encode()


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON value")

"""One home for everything a recipe makes: a folder, or a bucket behind the S3 protocol.

Keys are relative paths with `/`. What lives where:

    runs/<recipe>/<stage>/<fingerprint>/   what a stage made, with its record
    adapters/<persona>/<version>/          published adapter versions
    catalog/log/, catalog/cards/           who is on stage (understudy/catalog.py)
    leases/<recipe>/                       who runs a recipe now (understudy/lease.py)

`put_new` (put-if-absent) is the one primitive that the catalog, leases and keys build on; obstore gives it with the
same meaning on a folder and on S3. S3 credentials and endpoint come from the usual AWS_* environment variables.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from understudy.errors import AccessError, InputError, MissingError, StoreError
from understudy.names import expanded

if TYPE_CHECKING:
    import pyarrow as pa
    from obstore.store import ObjectStore

_ASKED_FOR_KEYS = ("/latest/api/token", "/latest/meta-data", "http://169.254.")
"""Where the client asks for credentials when the environment holds none: services of Amazon's own machines."""
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_BAD_KEY = re.compile(r"(^|/)\.{1,2}(/|$)|^/|//|[\x00-\x1f\\]")


@dataclass(frozen=True, slots=True)
class Stored:
    """An object's size and what tells two states of it apart."""

    size_bytes: int
    stamp: str


class Store:
    """A folder or `s3://bucket/prefix`; cheap to make, safe to pickle (only the URI travels)."""

    def __init__(self, uri: str):
        """`uri`: an absolute folder path, `file:///...` or `s3://bucket/prefix`; see `Store.open` for relative ones."""
        self.uri = uri.rstrip("/") or "/"

    @classmethod
    def open(cls, uri: str | Path, relative_to: Path | None = None) -> Store:
        """The store at `uri`; a relative folder is taken from `relative_to` (default: the current folder)."""
        text = str(uri)
        if text.startswith("file://"):
            text = unquote(urlsplit(text).path)
        if "://" in text:
            scheme = text.split("://", 1)[0]
            if scheme != "s3":
                raise InputError(f"store {text}: {scheme}:// is not supported; use a folder or s3://bucket/prefix")
            if not urlsplit(text).netloc:
                raise InputError(f"store {text}: names no bucket; use s3://bucket/prefix")
            return cls(text)
        path = expanded(text, f"store {text}")
        if not path.is_absolute():
            path = (relative_to or Path.cwd()) / path
        path = Path(os.path.normpath(path))
        if path.exists() and not path.is_dir():
            raise InputError(f"store {path}: is a file; name a folder or s3://bucket/prefix")
        return cls(str(path))

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and other.uri == self.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return (Store, (self.uri,))

    @property
    def is_local(self) -> bool:
        """Whether this store is a folder of this machine (or one that it mounts)."""
        return not self.uri.startswith("s3://")

    @cached_property
    def _objects(self) -> ObjectStore:
        from obstore.store import LocalStore, S3Store

        if self.is_local:
            with _named(self.uri):
                return LocalStore(self.uri, mkdir=True)
        endpoint = s3_endpoint()
        return S3Store.from_url(
            self.uri,
            **({"endpoint": endpoint} if endpoint else {}),
            # The two limits keep a mistyped endpoint from hanging a command for minutes.
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": "10s",
                "timeout": "120s",
            },
        )

    def put(self, key: str, data: bytes) -> None:
        """Write `data` under `key`, whole or not at all, replacing what was there."""
        import obstore

        with _named(self.uri_of(key)):
            obstore.put(self._objects, _checked(key), data)

    def put_file(self, key: str, file: IO[bytes]) -> None:
        """Stream an open file, from its beginning, under `key`; the object appears whole."""
        import obstore

        file.seek(0)
        with _named(self.uri_of(key)):
            obstore.put(self._objects, _checked(key), file)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write `data` under `key` only if nothing is there; False when something already was."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            with _named(self.uri_of(key)):
                obstore.put(self._objects, _checked(key), data, mode="create")
        except StoreError as error:
            if isinstance(error.__cause__, AlreadyExistsError):
                return False
            raise
        return True

    def get(self, key: str) -> bytes:
        """The bytes under `key`; MissingError when there are none."""
        import obstore

        with _named(self.uri_of(key)):
            return bytes(obstore.get(self._objects, _checked(key)).bytes())

    def get_ranges(self, key: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Pieces of what is under `key`, as (offset, length) in bytes; neighbours are fetched together."""
        import obstore

        starts, lengths = [start for start, _ in spans], [length for _, length in spans]
        with _named(self.uri_of(key)):
            return [
                bytes(one) for one in obstore.get_ranges(self._objects, _checked(key), starts=starts, lengths=lengths)
            ]

    def exists(self, key: str) -> bool:
        """Whether something is stored under exactly this key (a prefix does not count)."""
        import obstore

        try:
            with _named(self.uri_of(key)):
                obstore.head(self._objects, _checked(key))
        except MissingError:
            return False
        return True

    def keys(self, prefix: str = "", after: str | None = None) -> list[str]:
        """All keys below the folder `prefix`, sorted; with `after`, only those that sort behind it."""
        import obstore

        found: list[str] = []
        with _named(self.uri_of(prefix)):
            for batch in obstore.list(self._objects, _checked(prefix) if prefix else None, offset=after):
                found.extend(item["path"] for item in batch)
        return sorted(found)

    def keys_from(self, prefix: str, stem: str) -> list[str]:
        """Keys below the folder `prefix` whose rest begins with `stem`, sorted; S3 does not list what is behind."""
        import obstore

        start, found = f"{_checked(prefix)}/{stem}", []
        with _named(self.uri_of(prefix)):
            for batch in obstore.list(self._objects, _checked(prefix), offset=start):
                own = [item["path"] for item in batch if item["path"].startswith(start)]
                found.extend(own)
                if len(own) < len(batch) and not self.is_local:
                    break
        return sorted(found)

    def stored(self, prefix: str = "") -> dict[str, Stored]:
        """What lies below the folder `prefix`, by key."""
        import obstore

        found: dict[str, Stored] = {}
        with _named(self.uri_of(prefix)):
            for batch in obstore.list(self._objects, _checked(prefix) if prefix else None):
                found.update({item["path"]: _stored(item) for item in batch})
        return found

    def fetch(self, key: str, target: Path, listed: Stored | None = None) -> None:
        """Stream the object under `key` into `target`, which appears whole.

        StoreError where it is no longer the one that was `listed`.
        """
        import obstore

        part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
        try:
            with _named(self.uri_of(key)):
                got = obstore.get(self._objects, _checked(key))
                if listed and _stored(got.meta) != listed:
                    raise StoreError(f"{self.uri_of(key)}: changed while it was fetched; run the same command again")
                with part.open("wb") as file:
                    for piece in got.stream(min_chunk_size=8 << 20):
                        file.write(piece)
                part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it is not there."""
        import obstore

        try:
            with _named(self.uri_of(key)):
                obstore.delete(self._objects, _checked(key))
        except MissingError:
            return

    def delete_tree(self, prefix: str) -> int:
        """Remove every key below the folder `prefix`; returns how many."""
        if not prefix:
            raise StoreError("delete_tree needs a folder below the store's root")
        found = self.keys(prefix)
        folder = self.local_path(prefix)
        if folder is not None:
            # A killed writer leaves a part of a file that `keys` does not list; it goes with the folder.
            shutil.rmtree(folder, ignore_errors=True)
        for key in found if folder is None else ():
            self.delete(key)
        return len(found)

    def get_json(self, key: str) -> Any:
        """The JSON document under `key`; StoreError names the key when it is not JSON."""
        try:
            return json.loads(self.get(key))
        except ValueError as error:
            raise StoreError(
                f"{self.uri_of(key)}: is not JSON ({error}); it is damaged, repeat what made it with --force"
            ) from None

    def put_json(self, key: str, value: Any) -> None:
        """Write `value` as indented, sorted JSON."""
        self.put(key, json_bytes(value))

    def write_table(self, key: str, table: pa.Table) -> None:
        """Write a Parquet file; the object appears whole."""
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        self.put(key, sink.getvalue())

    def read_table(self, key: str) -> pa.Table:
        """Read a Parquet file; StoreError when it is damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(io.BytesIO(self.get(key)))
        except pa.ArrowInvalid as error:
            raise StoreError(
                f"{self.uri_of(key)}: is not Parquet ({error}); it is damaged, repeat what made it with --force"
            ) from None

    def fetch_tree(self, key: str, folder: Path) -> Path:
        """Copy every key below `key` into `folder`; MissingError when there is none."""
        found = self.keys(key)
        if not found:
            raise MissingError(f"{self.uri_of(key)}: is not in the store")
        for name in found:
            target = Path(folder) / name[len(key.rstrip("/")) + 1 :]
            target.parent.mkdir(parents=True, exist_ok=True)
            self.fetch(name, target)
        return Path(folder)

    def local_path(self, key: str) -> Path | None:
        """The path of `key` where the store is a folder, else None."""
        return Path(self.uri) / _checked(key) if self.is_local else None

    def uri_of(self, key: str) -> str:
        """The absolute path or s3:// URI of `key`, for people and for records."""
        return f"{self.uri.rstrip('/')}/{key}" if key else self.uri


def s3_endpoint() -> str:
    """The S3 server that the environment names, empty for Amazon's; InputError for an address that is none."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if endpoint := os.environ.get(name, ""):
            if not urlsplit(endpoint).netloc or not endpoint.startswith(("http://", "https://")):
                raise InputError(f"{name} {endpoint!r}: is no address; write it as https://host:port")
            return endpoint
    return ""


def _stored(meta: Any) -> Stored:
    return Stored(meta["size"], str(meta["e_tag"] or meta["last_modified"].isoformat()))


def json_bytes(value: Any) -> bytes:
    """Canonical readable JSON: sorted keys, two spaces, UTF-8 as it is, a newline at the end."""
    return (json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _checked(key: str) -> str:
    if not key or _BAD_KEY.search(key):
        raise StoreError(f"key {key!r}: must be a relative path without '.', '..', backslashes or control characters")
    return key


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn obstore's errors into one line that names the place and, where known, the remedy."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        if problem := _s3_problem(str(error), where):
            raise problem from error
        raise MissingError(f"{where}: is not in the store") from error
    except (BaseError, OSError, ValueError) as error:
        text = " ".join(str(error).split("Debug source")[0].split())
        if problem := _s3_problem(text, where):
            raise problem from error
        if "os error 28" in text or getattr(error, "errno", None) == 28:
            text = "no space left on the disk; free some and run the same command again (finished work is kept)"
        elif "os error 13" in text or "os error 30" in text:
            text = "no permission to write there; name another store"
        raise StoreError(f"{where}: {text}") from error


def _s3_problem(text: str, where: str) -> StoreError | None:
    """What the words of the S3 client mean to a person, where that is known."""
    if not where.startswith("s3://"):
        return None
    server = s3_endpoint() or "Amazon's S3"
    if "NoSuchBucket" in text:
        return AccessError(f"{where}: the bucket does not exist; create it or name another")
    if any(one in text for one in _ASKED_FOR_KEYS):
        other = "AWS_ENDPOINT_URL where it is another server"
        return AccessError(f"{where}: there are no credentials for {server}; set {_KEYS}, and {other}")
    if "403 Forbidden" in text or "401 Unauthorized" in text:
        return AccessError(f"{where}: {server} refuses these credentials; see {_KEYS}, and the rights to the bucket")
    if "without LOCATION" in text:
        return AccessError(f"{where}: the bucket is in another region; set AWS_REGION to it")
    if "error sending request" in text or "operation timed out" in text:
        see = "see the network and AWS_ENDPOINT_URL, then run the same command again"
        return StoreError(f"{where}: {server} cannot be reached; {see}")
    return None

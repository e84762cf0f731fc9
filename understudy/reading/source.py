"""One file of the corpus, opened: its bytes as they lie there, and unpacked where it is gzip.

    with opened("s3://books/emma.txt.gz") as source:
        source.digest, source.head(), source.data(most=64 << 20), source.seekable()

An object behind a URI is first copied into a nameless file of this machine: nothing stays when the process is killed.
What a packed file may grow to is bounded while it is unpacked; nothing is believed of sizes that it declares.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from understudy.errors import CorpusError, MissingError, StoreError

MOST_TEXT = 64 << 20
"""Bytes of UTF-8 in one work."""
MOST_UNPACKED = 4 << 30
"""Bytes of a packed file that must be read in any order (a Parquet file within gzip)."""
FREE_UNPACKED = 16 << 20
MOST_RATIO = 200
"""A packed file of more than 16 MB may grow to so many times its size; text shrinks to a third, at most to a 30th."""
HEAD = 1 << 16


@contextmanager
def opened(location: str) -> Iterator[Source]:
    """The file at a path or s3:// URI. CorpusError when it cannot be read."""
    if "://" in location:
        file: IO[bytes] = _fetched(location)
    else:
        try:
            file = Path(location).open("rb")  # noqa: SIM115 - closed below, as a fetched one is
        except OSError as error:
            raise CorpusError(f"{location}: cannot be read ({error.strerror})") from error
    with file:
        yield Source(location, file)


def _fetched(uri: str) -> IO[bytes]:
    from understudy.store import Store

    base, _, key = uri.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        target = Path(folder) / "object"
        try:
            Store.open(base).fetch(key, target)
        except MissingError as error:
            raise CorpusError(f"{uri}: no such object") from error
        except StoreError as error:
            raise CorpusError(f"{uri}: cannot be read ({error})") from error
        return target.open("rb")  # the open file outlives its name


class Source:
    """An open file; see the module."""

    def __init__(self, location: str, file: IO[bytes]):
        """`file` can seek; `location` names it in messages."""
        self.location = location
        self.file = file
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self.packed = self._raw(2) == b"\x1f\x8b"

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the bytes as they lie there."""
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]

    @cached_property
    def head(self) -> bytes:
        """The first 64 KB, unpacked."""
        return self.stream().read(HEAD)

    def stream(self) -> IO[bytes]:
        """The unpacked bytes from the beginning, in order; every call begins anew."""
        self.file.seek(0)
        return io.BufferedReader(_Unpacked(self), 1 << 18) if self.packed else self.file

    def data(self, most: int) -> bytes:
        """All unpacked bytes; CorpusError where there are more than `most`."""
        data = b"" if not self.packed and self.size > most else self.stream().read(most + 1)
        if len(data) > most or (not self.packed and self.size > most):
            raise CorpusError(f"{self.location}: {too_large(most)}")
        return data

    def seekable(self) -> IO[bytes]:
        """The unpacked bytes as a file that can seek; CorpusError where they are too many."""
        if not self.packed:
            self.file.seek(0)
            return self.file
        whole = tempfile.TemporaryFile()  # noqa: SIM115 - its reader outlives this call, and closing is its end
        stream = self.stream()
        while data := stream.read(1 << 20):
            whole.write(data)
            if whole.tell() > MOST_UNPACKED:
                raise CorpusError(f"{self.location}: unpacks to more than {MOST_UNPACKED >> 30} GB; unpack it yourself")
        whole.seek(0)
        return whole

    def _raw(self, count: int) -> bytes:
        try:
            return self.file.read(count)
        except OSError as error:  # a folder, or a disk that fails
            raise CorpusError(f"{self.location}: cannot be read ({error.strerror})") from error


class _Unpacked(io.RawIOBase):
    """A gzip file's content, refused where it grows as no text does."""

    def __init__(self, source: Source):
        self.source = source
        self.inner = gzip.GzipFile(fileobj=source.file, mode="rb")
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        where = self.source.location
        try:
            data = self.inner.read(len(buffer))
        except EOFError:
            raise CorpusError(f"{where}: is cut off (a gzip file without its end); fetch it again") from None
        except (OSError, zlib.error) as error:
            raise CorpusError(f"{where}: is a damaged gzip file ({' '.join(str(error).split())})") from None
        if not self.count and data[:2] == b"\x1f\x8b":
            raise CorpusError(f"{where}: is gzip within gzip; unpack it")
        self.count += len(data)
        if self.count > max(FREE_UNPACKED, MOST_RATIO * self.source.size):
            raise CorpusError(f"{where}: unpacks to more than {MOST_RATIO} times its size; no text does")
        buffer[: len(data)] = data
        return len(data)


def too_large(most: int = MOST_TEXT) -> str:
    """What is wrong with a work of more text than fits."""
    return f"is more than {most >> 20} MB of text; say `cut: true` to cut it at its headings, or split the file"

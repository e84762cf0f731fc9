"""General dialogue mixed into a persona's training conversations, so that it does not forget how to talk.

    for source in open_mix(recipe):                          # of a data set nothing is read but its header
        stream = candidates(source, "adam", seed=0, set_aside=reasons)    # curate takes as many as the share asks for

A source is a file of conversations in any format, or a Hugging Face data set: a folder that `save_to_disk` wrote, or a
hub name (from the cache when offline). More rows are drawn when the share grows, and those drawn before stay.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from understudy.conversation import Conversation
from understudy.corpus import read_bytes
from understudy.errors import CorpusError, InputError
from understudy.interchange import belonging_to, read_conversations_file, read_rows
from understudy.interchange.rows import Raw
from understudy.recipe import MixEntry, Recipe
from understudy.record import digest_of
from understudy.wording import one_line

METHOD = "mix"
"""`provenance.method` of a mixed-in conversation."""
CHUNK = 256
"""Rows of a data set that are looked at together."""


@dataclass(frozen=True)
class Source:
    """One mix entry, opened."""

    entry: MixEntry
    name: str
    """The file's or data set's name: the `work` of what comes from it."""
    digest: str
    """Changes when its rows do; part of the fingerprint of what is made with it."""
    rows: int
    read: Callable[[Sequence[int]], tuple[list[Conversation], list[dict[str, Any]]]] = field(repr=False, compare=False)
    """(conversations, rows set aside) of some rows, by position."""
    set_aside: Counter[str] = field(default_factory=Counter, compare=False)
    """Rows of a file that could not be read, by reason; a data set's are found when they are drawn."""

    @property
    def rights(self) -> dict[str, str]:
        """As the recipe gives them; empty when it says nothing."""
        given = self.entry.rights.model_dump()
        return given if any(given.values()) else {}


def open_mix(recipe: Recipe) -> list[Source]:
    """The recipe's mix entries, opened in order; InputError names the entry that cannot be."""
    sources = [_opened(recipe, entry, f"curate.mix.{at}") for at, entry in enumerate(recipe.curate.mix)]
    shares = sum(entry.share for entry in recipe.curate.mix)
    if shares >= 1:
        raise InputError(f"curate.mix: the shares come to {shares:g}; together they must leave room for the persona")
    return sources


def candidates(
    source: Source, persona: str, seed: int, set_aside: Counter[str], chunk: int = CHUNK
) -> Iterator[Conversation]:
    """Every conversation of a source in the order in which `persona` draws them, none twice.

    Reasons of rows that cannot be read are counted in `set_aside`; `chunk` rows are read at a time.
    """
    seen: set[Any] = set()
    for rows in _in_chunks(order(source.rows, seed, f"{persona}/{source.name}"), chunk):
        good, aside = source.read(rows)
        set_aside.update(row["reason"] for row in aside)
        for one in good:
            if one.messages not in seen:
                seen.add(one.messages)
                yield _mixed(one, persona, seed)


def order(rows: int, seed: int, name: str) -> list[int]:
    """Positions in the order in which they are drawn: by hash of seed, name and position, the same everywhere."""
    keyed = hashlib.sha256(json.dumps([seed, name], ensure_ascii=False).encode())

    def draw(position: int) -> bytes:
        one = keyed.copy()
        one.update(position.to_bytes(8, "big"))
        return one.digest()

    return sorted(range(rows), key=draw)


def _mixed(conversation: Conversation, persona: str, seed: int) -> Conversation:
    source = conversation.provenance
    plain = replace(conversation, split="train", persona="", provenance=replace(source, method=METHOD))
    found = belonging_to(plain, persona)
    return replace(found, provenance=replace(found.provenance, seed=seed))


def _in_chunks(positions: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


def _opened(recipe: Recipe, entry: MixEntry, where: str) -> Source:
    try:
        if entry.path is not None:
            return _file(str(entry.path) if "://" in entry.path else str(recipe.path_of(entry.path)), entry)
        assert entry.dataset is not None
        return _dataset(recipe, entry, where)
    except CorpusError as error:
        raise InputError(f"{where}: {error}") from None


def _file(location: str, entry: MixEntry) -> Source:
    raw = read_bytes(location)
    name = location.rsplit("/", 1)[-1]
    good, aside = read_conversations_file(raw, entry.format, None, name)
    if not good:
        why = f"; row {aside[0]['row']} {aside[0]['reason']}" if aside else ""
        raise CorpusError(f"{location}: holds no conversation that can be read{why}")

    def read(rows: Sequence[int]) -> tuple[list[Conversation], list[dict[str, Any]]]:
        return [good[at] for at in rows], []

    reasons = Counter(row["reason"] for row in aside)
    return Source(entry, name, hashlib.sha256(raw).hexdigest(), len(good), read, reasons)


def _dataset(recipe: Recipe, entry: MixEntry, where: str) -> Source:
    found = load(recipe, entry, where)
    name = str(entry.dataset).rstrip("/").rsplit("/", 1)[-1]

    def read(rows: Sequence[int]) -> tuple[list[Conversation], list[dict[str, Any]]]:
        good: list[Conversation] = []
        aside: list[dict[str, Any]] = []
        for at, value in zip(rows, found.select(rows), strict=True):
            # One by one: rows drawn by chance are no talk, even where each is a {role, content}.
            one, bad = read_rows([Raw(at + 1, value)], entry.format, None, name)
            good += one
            aside += bad
        return good, aside

    digest = digest_of([entry.split, len(found), sorted(found.column_names), _fingerprint(found)])
    return Source(entry, name, digest, len(found), read)


def load(recipe: Recipe, entry: MixEntry, where: str) -> Any:
    """The `datasets.Dataset` of an entry; InputError in one line when it is not there, or has no such split."""
    import datasets

    datasets.disable_progress_bars()
    folder = recipe.path_of(str(entry.dataset))
    try:
        if folder.is_dir() and ((folder / "dataset_dict.json").exists() or (folder / "state.json").exists()):
            found = datasets.load_from_disk(str(folder))
        elif folder.is_dir():
            found = datasets.load_dataset(str(folder))
        else:
            found = datasets.load_dataset(str(entry.dataset))
    except Exception as error:  # noqa: BLE001 - `datasets` and its readers raise errors of many families
        text = one_line(error)
        hint = "name a folder written by save_to_disk, or a hub name that is in the cache or can be reached"
        raise InputError(f"{where}: data set {entry.dataset} cannot be read ({text}); {hint}") from None
    if isinstance(found, datasets.DatasetDict):
        if entry.split not in found:
            raise InputError(
                f"{where}: data set {entry.dataset} has no split {entry.split}; it has {', '.join(map(str, found))}"
            )
        return found[entry.split]
    return found


def _fingerprint(dataset: Any) -> str:
    """What `datasets` itself calls these rows; else the names of its files."""
    known = getattr(dataset, "_fingerprint", "")
    return str(known) if known else digest_of([str(file["filename"]) for file in dataset.cache_files])

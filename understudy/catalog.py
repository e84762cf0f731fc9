"""Who is on stage: an append-only log of what was published under which alias.

    catalog/log/<n>.json          entry n, created with put-if-absent; one entry per change, a whole cast is one entry
    catalog/snapshots/<n>.json    the state after entry n, every 100 entries, so that a reader need not start at 1
    catalog/cards/<sha256>.json   character cards by the digest of their bytes
    catalog/cards/<sha256>.zip    picture and assets that such a card came with
    adapters/<persona>/<version>/ adapter versions (understudy/adapter.py), the manifest written last

Nothing is ever overwritten: a new version is a new folder, an alias moves by a new entry, a rollback is a new entry.
Two publishers at once both succeed: who finds entry n taken reads it and tries n+1. Every entry carries the digest of
the one before and of itself, so `verify` finds any changed byte. Readers fetch what follows the last entry they saw.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from understudy import adapter, cards
from understudy.cards import CardFile
from understudy.errors import AdapterError, CatalogError, MissingError, StoreError
from understudy.names import is_name
from understudy.record import canonical
from understudy.release import CURRENT, PROMPT, SCHEMA_VERSION, Entry, Release, State, adapter_key
from understudy.store import Store, json_bytes

SNAPSHOT_EVERY = 100
_VERSION = re.compile(r"[vp][0-9a-f]{16}")
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass
class Catalog:
    """The catalog of one store; keeps the state that it last saw."""

    store: Store
    state: State = field(default_factory=State)
    _started: bool = False

    def refresh(self) -> State:
        """Read what was appended since the last call; one request when nothing was."""
        if not self._started:
            self._start()
        while True:
            try:
                raw = self.store.get(log_key(self.state.n + 1))
            except MissingError:
                return self.state
            entry = _read_entry(self.store, self.state.n + 1, raw)
            if entry.previous != self.state.tail:
                raise StoreError(
                    f"{self.store.uri_of(log_key(entry.n))}: does not follow entry {entry.n - 1}; "
                    "one of them was changed, see `understudy catalog verify`"
                )
            self.state = self.state.after(entry, hashlib.sha256(raw).hexdigest())

    def put_card(self, card: dict[str, Any]) -> str:
        """Store a character card; returns the digest that names it."""
        data = json_bytes(card)
        digest = hashlib.sha256(data).hexdigest()
        if not self.store.put_new(card_key(digest), data) and self.store.get(card_key(digest)) != data:
            self.store.put(card_key(digest), data)  # what was there is damaged
        return digest

    def card(self, digest: str) -> dict[str, Any]:
        """The card of that digest; StoreError when its bytes are not what its name says."""
        data = self.store.get(card_key(digest))
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(
                f"{self.store.uri_of(card_key(digest))}: is damaged; run `understudy publish RECIPE --force`"
            )
        return json.loads(data)

    def put_card_file(self, digest: str, file: CardFile) -> None:
        """Keep picture and assets that the card of that digest came with; nothing for a card that came alone."""
        if not file.bare:
            self.store.put(card_file_key(digest), cards.packed(file))

    def card_file(self, digest: str) -> CardFile:
        """The card of that digest with the picture and assets that it came with, if it did."""
        card = self.card(digest)
        try:
            kept = self.store.get(card_file_key(digest))
        except MissingError:
            return CardFile(card)
        return replace(cards.unpacked(kept, self.store.uri_of(card_file_key(digest))), card=card)

    def put_adapter(self, folder: Path) -> tuple[adapter.Manifest, str]:
        """Copy a sealed adapter folder into the store, its manifest last; returns the manifest and its digest.

        A version that is there already and whole is left as it is (its manifest too); a damaged one is written again.
        """
        manifest = adapter.verify(folder)
        published = self.refresh().versions.get(manifest.persona, {}).get(manifest.version)
        known = published.manifest if published else None
        key = adapter_key(manifest.persona, manifest.version)
        manifest_key = f"{key}/{adapter.MANIFEST_NAME}"
        if self.store.exists(manifest_key) and not self._adapter_faults(key, manifest.version, known):
            raw = self.store.get(manifest_key)
            return adapter.Manifest.model_validate_json(raw), hashlib.sha256(raw).hexdigest()
        self.store.delete_tree(key)
        for name in (*sorted(manifest.files), adapter.MANIFEST_NAME):
            self.store.put(f"{key}/{name}", (folder / name).read_bytes())
        return manifest, hashlib.sha256((folder / adapter.MANIFEST_NAME).read_bytes()).hexdigest()

    def publish(
        self, releases: Sequence[Release], alias: str | None = CURRENT, weight: int = 100, who: str = "", note: str = ""
    ) -> Entry | None:
        """Put a whole cast on stage with one entry; None when the alias already shows exactly these releases."""
        _check_alias(alias)

        def build(state: State) -> dict[str, Any] | None:
            if alias is not None and all(_shows(state, release, alias, weight) for release in releases):
                return None
            return {"action": "publish", "alias": alias, "weight": weight, "releases": tuple(releases)}

        return self._append(build, who, note)

    def point(self, persona: str, alias: str, selector: str, weight: int = 100, who: str = "") -> Entry | None:
        """Move `alias` of a persona to a version, or to where another alias points."""
        _check_alias(alias)

        def build(state: State) -> dict[str, Any] | None:
            release = state.resolve(persona, selector)
            if _shows(state, release, alias, weight):
                return None
            return {"action": "alias", "alias": alias, "weight": weight, "releases": (release,)}

        return self._append(build, who, "")

    def rollback(self, persona: str, alias: str = CURRENT, who: str = "") -> Entry:
        """Point `alias` at what it showed before; calling it again goes back one more."""

        def build(state: State) -> dict[str, Any]:
            state.resolve(persona)
            mine = state.aliases.get(persona, {}).get(alias)
            if mine is None or not mine.past:
                raise CatalogError(f"persona {persona}: {alias} has no earlier release to go back to")
            return {"action": "rollback", "alias": alias, "weight": mine.weight, "releases": (mine.past[-1],)}

        entry = self._append(build, who, "")
        assert entry is not None
        return entry

    def history(self) -> list[Entry]:
        """Every entry, oldest first."""
        keys = self.store.keys("catalog/log")
        return [_read_entry(self.store, _number(key), self.store.get(key)) for key in keys]

    def verify(self) -> list[str]:
        """One line for everything that is not as it was written, in log, snapshots, cards, manifests and adapters."""
        faults: list[str] = []
        releases = self._verify_log(faults)
        for digest in sorted({release.card for release in releases}):
            try:
                self.card(digest)
            except StoreError as error:
                faults.append(str(error))
        seen: set[tuple[str, str]] = set()
        for release in releases:
            if release.manifest and (release.key, release.manifest) not in seen:
                seen.add((release.key, release.manifest))
                faults.extend(self._adapter_faults(release.key, release.version, release.manifest))
        return faults

    def _append(self, build: Callable[[State], dict[str, Any] | None], who: str, note: str) -> Entry | None:
        while True:
            state = self.refresh()
            change = build(state)
            if change is None:
                return None
            now = datetime.now(UTC).isoformat(timespec="seconds")
            draft = Entry(n=state.n + 1, previous=state.tail, who=who, when=now, note=note, **change)
            entry = draft.model_copy(update={"digest": _entry_digest(draft)})
            data = json_bytes(entry.model_dump(mode="json"))
            if self.store.put_new(log_key(entry.n), data):
                self.state = state.after(entry, hashlib.sha256(data).hexdigest())
                if entry.n % SNAPSHOT_EVERY == 0:
                    self.store.put(snapshot_key(entry.n), json_bytes(self.state.model_dump(mode="json")))
                return entry

    def _start(self) -> None:
        snapshots = self.store.keys("catalog/snapshots")
        if snapshots:
            self.state = _parse(State, self.store.get(snapshots[-1]), self.store.uri_of(snapshots[-1]))
        self._started = True

    def _verify_log(self, faults: list[str]) -> list[Release]:
        state = State()
        releases: list[Release] = []
        keys = self.store.keys("catalog/log")
        for expected, key in enumerate(keys, start=1):
            where = self.store.uri_of(key)
            if _number(key) != expected:
                faults.append(f"{self.store.uri_of(log_key(expected))}: is missing")
                break
            raw = self.store.get(key)
            try:
                entry = _read_entry(self.store, expected, raw)
            except StoreError as error:
                faults.append(str(error))
                break
            if entry.previous != state.tail:
                faults.append(f"{where}: does not follow entry {expected - 1}")
                break
            releases.extend(entry.releases)
            state = state.after(entry, hashlib.sha256(raw).hexdigest())
            if expected % SNAPSHOT_EVERY == 0:
                snapshot = snapshot_key(expected)
                if self.store.exists(snapshot) and self.store.get(snapshot) != json_bytes(
                    state.model_dump(mode="json")
                ):
                    faults.append(f"{self.store.uri_of(snapshot)}: is not the state after entry {expected}; delete it")
        return releases

    def _adapter_faults(self, key: str, version: str, manifest_digest: str | None) -> list[str]:
        where = self.store.uri_of(key)
        with tempfile.TemporaryDirectory(prefix="understudy-") as scratch:
            try:
                if manifest_digest:
                    raw = self.store.get(f"{key}/{adapter.MANIFEST_NAME}")
                    if hashlib.sha256(raw).hexdigest() != manifest_digest:
                        said = "is not the manifest that was published; run `understudy publish RECIPE --force`"
                        return [f"{where}/{adapter.MANIFEST_NAME}: {said}"]
                folder = self.store.local_path(key) or self.store.fetch_tree(key, Path(scratch))
                adapter.verify(folder, expect_version=version)
            except (AdapterError, StoreError) as error:
                return [str(error).replace(scratch, where)]
        return []


def log_key(n: int) -> str:
    """Where entry `n` lives; eight digits, so that keys sort by number."""
    return f"catalog/log/{n:08d}.json"


def snapshot_key(n: int) -> str:
    """Where the state after entry `n` lives."""
    return f"catalog/snapshots/{n:08d}.json"


def card_key(digest: str) -> str:
    """Where the card of that digest lives."""
    return f"catalog/cards/{digest}.json"


def card_file_key(digest: str) -> str:
    """Where picture and assets of the card of that digest live."""
    return f"catalog/cards/{digest}.zip"


def _check_alias(alias: str | None) -> None:
    if alias is not None and (not is_name(alias) or alias == PROMPT or _VERSION.fullmatch(alias)):
        raise CatalogError(
            f"alias {alias!r}: choose a name such as {CURRENT} or candidate, not a version or {PROMPT!r}"
        )


def _shows(state: State, release: Release, alias: str, weight: int) -> bool:
    mine = state.aliases.get(release.persona, {}).get(alias)
    return mine is not None and mine.release == release and mine.weight == weight


def _entry_digest(entry: Entry) -> str:
    return hashlib.sha256(canonical({**entry.model_dump(mode="json"), "digest": ""})).hexdigest()


def _read_entry(store: Store, n: int, raw: bytes) -> Entry:
    where = store.uri_of(log_key(n))
    entry = _parse(Entry, raw, where)
    if entry.n != n or entry.digest != _entry_digest(entry) or raw != json_bytes(entry.model_dump(mode="json")):
        raise StoreError(f"{where}: was changed after it was written; restore it from a copy")
    return entry


def _parse(model: type[_Model], raw: bytes, where: str) -> _Model:
    try:
        value = json.loads(raw)
    except ValueError:
        raise StoreError(f"{where}: is not JSON; restore it from a copy") from None
    found = value.get("schema_version") if isinstance(value, dict) else None
    if isinstance(found, int) and found > SCHEMA_VERSION:
        raise StoreError(f"{where}: has schema_version {found}, newer than {SCHEMA_VERSION}; upgrade understudy")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise StoreError(
            f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}; restore it from a copy"
        ) from None


def _number(key: str) -> int:
    stem = key.rsplit("/", 1)[-1].removesuffix(".json")
    return int(stem) if stem.isdigit() else 0

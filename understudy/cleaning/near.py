"""Near-duplicates by MinHash: which texts say nearly what an earlier one said.

    bands = band_hashes(texts, threshold=0.8)                        (N, B) uint64
    copies = near_copies(texts, bands, fixed, threshold=0.8)         {position: position of the one that is kept}

Texts are compared by their pieces of three tokens. MinHash with locality-sensitive bands proposes pairs, and the true
Jaccard similarity of the pieces decides, so the hashes change what is looked at and never what is called a copy. The
order of the texts alone says which one stays: an item is a copy of an earlier one that itself was kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from understudy.cleaning.overlap import tokens

if TYPE_CHECKING:
    import numpy as np

Bands: TypeAlias = "np.ndarray[Any, np.dtype[np.uint64]]"

PERMUTATIONS = 128
PIECE = 3
SEED = 20
MOST_COMPARED = 64
"""Kept neighbours that one text is compared with: a template shared by all of a large set must not cost its square."""
CHUNK = 8192


def pieces(text: str) -> list[str]:
    """The distinct pieces of three tokens in a text, in order; a shorter text is one piece."""
    found = tokens(text)
    if len(found) <= PIECE:
        return [" ".join(found)]
    return list(dict.fromkeys(" ".join(found[i : i + PIECE]) for i in range(len(found) - PIECE + 1)))


def rows_of_a_band(threshold: float) -> int:
    """Most rows of a band with which a pair at the threshold still shares a band 99 times in 100."""
    for rows in range(16, 0, -1):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= 0.99:
            return rows
    return 1


def band_hashes(texts: Sequence[str], threshold: float) -> Bands:
    """(N, B): a number per text and band; two texts with an equal one may be near-duplicates."""
    import numpy as np
    from rensa import RMinHash  # type: ignore[attr-defined]

    rows = rows_of_a_band(threshold)
    bands = PERMUTATIONS // rows
    found = np.empty((len(texts), bands), dtype=np.uint64)
    prime = np.uint64(0x100000001B3)
    for start in range(0, len(texts), CHUNK):
        matrix = RMinHash.digest_matrix_from_token_sets(
            [pieces(t) for t in texts[start : start + CHUNK]], PERMUTATIONS, SEED
        )
        digests = np.asarray(matrix.to_rows(), dtype=np.uint64)[:, : bands * rows].reshape(-1, bands, rows)
        mixed = np.full(digests.shape[:2], 0xCBF29CE484222325, dtype=np.uint64)
        for row in range(rows):
            mixed = (mixed ^ digests[:, :, row]) * prime
            mixed ^= mixed >> np.uint64(29)
        found[start : start + CHUNK] = mixed
    return found


def near_copies(texts: Sequence[str], bands: Bands, fixed: Sequence[bool], threshold: float) -> dict[int, int]:
    """Copies among `texts`, each with the earlier text that it is a copy of; a `fixed` one is kept whatever it says."""
    import numpy as np

    if not len(texts):
        return {}
    shared = np.empty(bands.shape, dtype=bool)
    for band in range(bands.shape[1]):
        _, inverse, counts = np.unique(bands[:, band], return_inverse=True, return_counts=True)
        shared[:, band] = counts[inverse] > 1
    buckets: dict[tuple[int, int], list[int]] = {}
    kept: dict[int, frozenset[str]] = {}
    copies: dict[int, int] = {}
    for position in map(int, np.flatnonzero(shared.any(axis=1))):
        keys = [(band, int(bands[position, band])) for band in np.flatnonzero(shared[position]).tolist()]
        own = frozenset(pieces(texts[position]))
        if not fixed[position]:
            near = dict.fromkeys(other for key in keys for other in buckets.get(key, ()))
            match = next((o for o in list(near)[:MOST_COMPARED] if _similar(own, kept[o], threshold)), None)
            if match is not None:
                copies[position] = match
                continue
        kept[position] = own
        for key in keys:
            buckets.setdefault(key, []).append(position)
    return copies


def _similar(one: frozenset[str], other: frozenset[str], threshold: float) -> bool:
    """Whether the Jaccard similarity reaches the threshold; sizes alone rule most pairs out."""
    small, large = sorted((len(one), len(other)))
    if small < threshold * large:
        return False
    both = len(one & other)
    return both >= threshold * (small + large - both)

"""Near-duplicates among generated samples: seconds, and what is found of what was planted.

    python benchmarks/near_duplicates.py [--samples 100000] [--ray]

Three quarters of the samples are drawn apart, a quarter are copies of one of them with one or two words changed. Right
is decided by comparing every planted pair exactly; a copy whose changes took it below the threshold is none.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

THRESHOLD = 0.8


def planted(count: int, seed: int = 0) -> tuple[list[str], dict[int, int]]:
    """Texts, and by position of a copy the position of what it was made from."""
    rng = random.Random(seed)
    words = [f"{a}{b}" for a in "bdfghklmnprstv" for b in ("a", "e", "i", "o", "u", "ana", "elo", "iri", "oto", "uma")]
    fresh = count * 3 // 4
    texts = [" ".join(rng.choices(words, k=rng.randint(12, 70))) for _ in range(fresh)]
    origin: dict[int, int] = {}
    for position in range(fresh, count):
        of = rng.randrange(fresh)
        changed = texts[of].split()
        for _ in range(rng.randint(1, 2)):
            changed[rng.randrange(len(changed))] = rng.choice(words)
        texts.append(" ".join(changed))
        origin[position] = of
    return texts, origin


def main() -> None:
    """Print one row: samples, way, seconds, planted copies at the threshold, found, wrongly found, memory."""
    from jobs.near_duplicates import bands_of
    from understudy.cleaning.near import band_hashes, near_copies, pieces

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--ray", action="store_true", help="hash over Ray Data, as curate does with large data")
    given = parser.parse_args()
    texts, origin = planted(given.samples)
    began = time.perf_counter()
    bands = bands_of(texts, THRESHOLD, plain_below=0) if given.ray else band_hashes(texts, THRESHOLD)
    hashed = time.perf_counter()
    copies = near_copies(texts, bands, [False] * len(texts), THRESHOLD)
    ended = time.perf_counter()

    def alike(one: int, other: int) -> float:
        a, b = set(pieces(texts[one])), set(pieces(texts[other]))
        return len(a & b) / len(a | b)

    true = {at for at, of in origin.items() if alike(at, of) >= THRESHOLD}
    wrong = sum(alike(at, of) < THRESHOLD for at, of in copies.items())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("| samples | over | hash s | compare s | planted copies | found | wrong | driver MB |")
    print("|---|---|---|---|---|---|---|---|")
    way = "Ray" if given.ray else "one core"
    print(
        f"| {len(texts):,} | {way} | {hashed - began:.1f} | {ended - hashed:.1f} | {len(true):,} | "
        f"{len(true & copies.keys()):,} | {wrong} | {memory:,.0f} |"
    )


if __name__ == "__main__":
    main()

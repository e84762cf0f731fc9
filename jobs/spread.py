"""Work on many files side by side, with Ray Data: packs of files to as many workers as there are CPUs.

A file that kills its worker (out of memory, a crash inside a library) costs the others nothing: what its pack had not
done is tried again file by file, and only the one that kills again is given up.
"""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

PACK_BYTES = 16 << 20
PACK_FILES = 500
PACKS = 2000
"""At most so many packs are planned, however large the corpus is."""


def spread(
    what: Callable[[Any], dict[str, Any]],
    tasks: Sequence[Any],
    sizes: Sequence[int],
    cpus: float,
    workers: int | None,
    given_up: Callable[[Any], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """`what(task)` for every task, in any order; `given_up(task)` for one that twice ended its worker.

    `sizes` are bytes, 0 where unknown. Ray is running.
    """
    left = set(range(len(tasks)))
    for attempt in range(2):
        packs = (
            packed([(number, sizes[number]) for number in sorted(left)]) if not attempt else [[n] for n in sorted(left)]
        )
        for number, row in _run(what, tasks, packs, cpus, workers):
            if number in left:
                left.remove(number)
                yield row
        if not left:
            return
    for number in sorted(left):
        yield given_up(tasks[number])


def packed(files: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Numbers of files in packs, by their sizes: the largest first, so that no long one is left for the end."""
    total = sum(size for _, size in files)
    most = max(PACK_BYTES, total // PACKS)
    packs: list[list[int]] = []
    held: list[int] = []
    count = 0
    for number, size in sorted(files, key=lambda one: (-one[1], one[0])):
        if held and (count + size > most or len(held) >= PACK_FILES):
            packs.append(held)
            held, count = [], 0
        held.append(number)
        count += size
    return [*packs, held] if held else packs


def _run(
    what: Callable[[Any], dict[str, Any]],
    tasks: Sequence[Any],
    packs: Sequence[list[int]],
    cpus: float,
    workers: int | None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    import ray.data

    items = [{"what": what, "pack": [(number, tasks[number]) for number in pack]} for pack in packs]
    context = ray.data.DataContext.get_current()
    before = context.max_errored_blocks
    context.max_errored_blocks = -1  # a block is lost only with its worker: bad files are answers, not errors
    try:
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        with warnings.catch_warnings():
            # Deprecated for 2.64 without another way to say it; Ray is pinned below 2.61.
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            done = dataset.flat_map(_rows_of, num_cpus=cpus, concurrency=workers, max_retries=1)
        for row in done.iter_rows():
            yield row["number"], json.loads(row["row"])
    finally:
        context.max_errored_blocks = before


def _rows_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    # Parsing makes hundreds of thousands of objects that stay: looked through at every 700th, they take 6 % longer.
    gc.set_threshold(20_000, 10, 10)
    return [{"number": number, "row": json.dumps(item["what"](task))} for number, task in item["pack"]]

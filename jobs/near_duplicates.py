"""Band hashes of many texts, over Ray Data where there are enough of them to be worth it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from understudy.cleaning.near import CHUNK, Bands, band_hashes

PLAIN_BELOW = 200_000
"""Fewer texts are hashed in this process sooner, at 10,000 a second, than Ray starts and hands them out."""


def bands_of(texts: Sequence[str], threshold: float, plain_below: int = PLAIN_BELOW) -> Bands:
    """`near.band_hashes` of the texts, the same whichever way they are computed."""
    if len(texts) < plain_below:
        return band_hashes(texts, threshold)
    import numpy as np
    import pyarrow as pa
    import ray.data

    from cluster import runtime

    runtime.start()
    runtime.quiet_data()
    table = pa.table({"at": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.string())})
    blocks = max(2, min(200, len(texts) // CHUNK))
    dataset = ray.data.from_arrow(table).repartition(blocks)
    found: Bands | None = None
    hash_batch: Any = partial(_hashed, threshold=threshold)
    hashed = dataset.map_batches(hash_batch, batch_size=CHUNK, batch_format="pyarrow")
    batches: Any = hashed.iter_batches(batch_size=None, batch_format="pyarrow")
    for batch in batches:
        width = batch["bands"].type.list_size
        rows = batch["bands"].combine_chunks().flatten().to_numpy().reshape(-1, width)
        if found is None:
            found = np.empty((len(texts), width), dtype=np.uint64)
        found[batch["at"].to_numpy()] = rows
    assert found is not None
    return found


def _hashed(batch: Any, threshold: float) -> Any:
    import pyarrow as pa

    bands = band_hashes(batch["text"].to_pylist(), threshold)
    column = pa.FixedSizeListArray.from_arrays(pa.array(bands.reshape(-1)), bands.shape[1])
    return pa.table({"at": batch["at"], "bands": column})

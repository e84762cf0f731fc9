"""A corpus larger than memory through `understudy extract`: memory of each process, and time against a plain loop.

    python benchmarks/extract_scale.py [--mb 2000] [--workers N] [--rounds 1] [--folder DIR] [--curate]

The corpus is written from a seed: plays in two layouts, English novels and Chinese ones, as txt (some of it gzip), JSON
Lines and Parquet, files of 20 KB to 30 MB. The product runs in a process of its own, looked at through /proc five times
a second. `own` is resident memory without what is shared: anonymous pages and mapped files (VmRSS less RssShmem), the
most of one process at one time; Ray's object store is shared memory that every process maps, so it is counted once,
as the most that any process had of it. The plain loop goes over the same files in one process, with the same reading
functions, and writes one Parquet table a file; its time is given with and without that writing. CPU seconds are given
beside: what other programs take of the machine during a run stretches its seconds, not these.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.written_corpus import write_corpus, write_recipe  # noqa: E402 - found where this file lies

EVERY_S = 0.2


# Memory ---------------------------------------------------------------------------------------------------------------


@dataclass
class Memory:
    """The most that each kind of process had at one time, bytes."""

    own: dict[str, int] = field(default_factory=dict)
    shared: int = 0
    all_own: int = 0
    """Of all processes together at one time."""
    cpu: dict[int, float] = field(default_factory=dict)
    """CPU seconds by process."""
    quarters: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the start, own bytes of the largest worker)."""

    def look(self, root: int, seconds: float) -> None:
        """Add what the processes below `root` have now."""
        total = largest = 0
        for pid in (root, *_below(root)):
            status = _status(pid)
            if status is None:
                continue
            own, shared, kind, spent = status
            self.cpu[pid] = max(self.cpu.get(pid, 0.0), spent)
            kind = "driver" if pid == root else kind
            self.own[kind] = max(self.own.get(kind, 0), own)
            self.shared = max(self.shared, shared)
            total += own
            if kind == "worker":
                largest = max(largest, own)
        self.all_own = max(self.all_own, total)
        self.quarters.append((seconds, largest))

    def over_time(self) -> list[int]:
        """The largest worker in each quarter of the run, bytes."""
        end = self.quarters[-1][0] if self.quarters else 0
        found = [0, 0, 0, 0]
        for seconds, size in self.quarters:
            at = min(3, int(4 * seconds / (end or 1)))
            found[at] = max(found[at], size)
        return found


def _below(root: int) -> list[int]:
    """Every process that descends from `root`."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text("utf-8", "replace")
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, left = [], [root]
    while left:
        left = [child for pid in left for child in children.get(pid, ())]
        found += left
    return found


def _status(pid: int) -> tuple[int, int, str, float] | None:
    """(own bytes, shared bytes, what it is, CPU seconds)."""
    try:
        times = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[11:13]
        rows = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
        command = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
    except OSError:
        return None
    values = {name: value.split() for name, _, value in (row.partition(":") for row in rows)}
    if "VmRSS" not in values:
        return None
    shared = int(values["RssShmem"][0]) << 10
    kind = "worker" if command.startswith("ray::") else "Ray's own"
    return (int(values["VmRSS"][0]) << 10) - shared, shared, kind, sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def machine_s() -> float:
    """CPU seconds that all programs of this machine have taken since it started."""
    fields = Path("/proc/stat").read_text("utf-8").split("\n", 1)[0].split()[1:]
    busy = [int(value) for at, value in enumerate(fields[:8]) if at not in (3, 4)]
    return sum(busy) / os.sysconf("SC_CLK_TCK")


# The two ways ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What the product took."""

    seconds: float
    counts: dict[str, Any]
    memory: Memory

    @property
    def cpu_s(self) -> float:
        """Of all its processes."""
        return sum(self.memory.cpu.values())


def run_product(recipe: Path, stage: str = "extract") -> Run:
    """A stage by its command."""
    command = [sys.executable, "-m", "understudy.cli", stage, str(recipe), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    memory = Memory()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=told, env=environment)
        while process.poll() is None:
            memory.look(process.pid, time.perf_counter() - began)
            time.sleep(EVERY_S)
        seconds = time.perf_counter() - began
        for file in (out, told):
            file.seek(0)
        if process.returncode:
            raise SystemExit(told.read().decode("utf-8", "replace")[-2000:])
        return Run(seconds, json.loads(out.read())["counts"], memory)


@dataclass(frozen=True)
class Looped:
    """What the plain loop took."""

    seconds: float
    read_s: float
    """Of them for reading and parsing."""
    cpu_s: float
    lines: int
    peak: int
    """Bytes of memory."""


def run_loop(recipe: Path) -> Looped:
    """The loop in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_loop, (str(recipe),))


def _loop(path: str) -> Looped:
    import resource

    import pyarrow as pa
    import pyarrow.parquet as pq

    from jobs.extract import named_cast
    from understudy.cli.options import load_recipe
    from understudy.corpus import find_works, options_of
    from understudy.dataset import schemas
    from understudy.prose import cast_names
    from understudy.reading.documents import read_document
    from understudy.reading.source import opened
    from understudy.reading.works import How, read_works

    began = time.perf_counter()
    recipe = load_recipe(Path(path), None)
    cast = named_cast(recipe, None)
    writing = 0.0
    lines = 0
    folder = Path(path).parent / "loop"
    folder.mkdir(exist_ok=True)
    schema = schemas().lines
    for work in find_works(recipe):
        how = How(work.entry.kind, recipe.extract.layout, cast_names(cast, work.name), work.entry.cut)
        target = folder / f"{work.name}.parquet"
        with opened(work.location) as source, pq.ParquetWriter(target, schema, compression="zstd") as table:
            for chunk in read_works(read_document(source, options_of(work.entry)), work.name, how, work.location):
                lines += len(chunk.lines)
                at = time.perf_counter()
                columns = [[getattr(line, name) for line in chunk.lines] for name in schema.names]
                table.write_table(pa.table(columns, schema=schema))
                writing += time.perf_counter() - at
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return Looped(seconds, seconds - writing, time.process_time(), lines, peak)


# The table ------------------------------------------------------------------------------------------------------------


def main() -> int:
    """Print the tables; 1 when a limit is passed or the two ways find different lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mb", type=int, default=2000, help="megabytes of text")
    parser.add_argument("--workers", type=int, default=None, help="workers at once; default: one a core")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each way, by turns; medians are printed")
    parser.add_argument("--curate", action="store_true", help="curate what was extracted, too")
    parser.add_argument("--folder", type=Path, default=None, help="where the corpus is written; it is deleted again")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="understudy-scale-", dir=given.folder) as name:
        return measured(Path(name), given)


def measured(folder: Path, given: argparse.Namespace) -> int:
    """Write the corpus, run both ways, print."""
    texts = folder / "texts"
    texts.mkdir()
    size = write_corpus(texts, given.mb * 1_000_000, given.seed)
    files = list(texts.iterdir())
    on_disk = sum(file.stat().st_size for file in files)
    largest = max(file.stat().st_size for file in files)
    recipe = write_recipe(folder, given.workers)
    load = os.getloadavg()[0]
    print(
        f"{len(files)} files, {size / 1e6:,.0f} MB of text ({on_disk / 1e6:,.0f} MB on disk), the largest "
        f"{largest / 1e6:.0f} MB; {os.cpu_count()} cores, load {load:.1f} before\n",
        flush=True,
    )
    product: list[Run] = []
    loop: list[Looped] = []
    others: list[tuple[float, float]] = []
    for _ in range(given.rounds):
        shutil.rmtree(folder / "store", ignore_errors=True)
        at = machine_s()
        product.append(run_product(recipe))
        between = machine_s()
        loop.append(run_loop(recipe))
        own, looped = product[-1], loop[-1]
        more = (between - at - own.cpu_s) / own.seconds, (machine_s() - between - looped.cpu_s) / looped.seconds
        others.append((max(0.0, more[0]), max(0.0, more[1])))
    middle = statistics.median
    lines = product[-1].counts["lines"]
    took, whole = middle(run.seconds for run in product), middle(run.seconds for run in loop)
    read = middle(run.read_s for run in loop)
    cpu = middle(run.cpu_s for run in product), middle(run.cpu_s for run in loop)
    print("| way | s | MB/s | CPU s | cores that other programs took | lines |\n|---|---|---|---|---|---|")
    for way, seconds, spent, taken, found in (
        ("`understudy extract`", took, f"{cpu[0]:.0f}", f"{middle(one[0] for one in others):.1f}", lines),
        ("plain loop, one core", whole, f"{cpu[1]:.0f}", f"{middle(one[1] for one in others):.1f}", loop[-1].lines),
        ("of it reading and parsing", read, "", "", loop[-1].lines),
    ):
        print(f"| {way} | {seconds:.0f} | {size / 1e6 / seconds:.2f} | {spent} | {taken} | {found:,} |")
    print(f"\nloop / extract: {whole / took:.2f} (reading and parsing alone {read / took:.2f})\n")
    memory = product[-1].memory
    print("| process | most own memory, MB |\n|---|---|")
    for kind in ("driver", "worker", "Ray's own"):
        print(f"| {kind} | {memory.own.get(kind, 0) / 1e6:,.0f} |")
    print(f"| all together at one time | {memory.all_own / 1e6:,.0f} |")
    print(f"| shared memory (object store) | {memory.shared / 1e6:,.0f} |")
    print(f"| plain loop | {loop[-1].peak / 1e6:,.0f} |")
    quarters = ", ".join(f"{size / 1e6:,.0f}" for size in memory.over_time())
    print(f"\nlargest worker in each quarter of the run: {quarters} MB")
    if given.curate:
        curated = run_product(recipe, "curate")
        made = sum(sum(one["conversations"].values()) for one in curated.counts.values())
        most = max(one["lines"] for one in curated.counts.values())
        own, personas = curated.memory.own, len(curated.counts)
        print(
            f"\n`understudy curate`: {made:,} conversations of {personas} personas, the largest with {most:,} lines of "
            f"its own, in {curated.seconds:.0f} s ({curated.cpu_s:.0f} CPU s); driver "
            f"{own.get('driver', 0) / 1e6:,.0f} MB, largest worker {own.get('worker', 0) / 1e6:,.0f} MB"
        )
    fat = memory.own["driver"] > 1.5e9 or memory.own.get("worker", 0) > 1e9
    return int(fat or took * 1.3 > whole or lines != loop[-1].lines)


if __name__ == "__main__":
    sys.exit(main())

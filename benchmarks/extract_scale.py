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
# ruff: noqa: SIM905 - words in a row read better than each in quotes

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

EVERY_S = 0.2
MOST_FILE = 30_000_000
CAST = "Anna Bruno Clara Dario Edith Falk Greta Hanno Irma Jasper Kilian Lotte Moritz Nora Otto Paula".split()
HAN_CAST = "林掌柜 阿福 兔先生 王婶 小石头 周大娘 沈先生 梅姑娘".split()
SUBJECTS = "the miller,an old captain,my sister,the lamp,our neighbour,the river,a grey cat,the baker,the moon".split(
    ","
)
VERBS = "waits for,has never seen,counts,forgets,brings home,looks after,laughs at,remembers,would sell".split(",")
OBJECTS = "the bread,a letter,nine boats,the key,the last train,a broken jug,the harbour,the winter,two apples".split(
    ","
)
WHENS = "before the rain,at noon,every spring,without a word,in the end,on the stairs,by the window,too late".split(",")
HAN = ("月亮", "铺子里的灯", "那条河", "老船长", "隔壁的猫", "今年的雨", "一封旧信", "桥上的人")
HAN_DOES = ("慢慢地走远了", "谁也没有看见", "比去年更安静", "总也等不到", "忽然不见了", "还是老样子")
TAGS = ("said", "asked", "answered", "whispered", "replied", "cried")


# The corpus -----------------------------------------------------------------------------------------------------------


class Writer:
    """Text without end, from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        pick = self.rng.choice
        self.sentences = [
            f"{pick(SUBJECTS)} {pick(VERBS)} {pick(OBJECTS)} {pick(WHENS)}".capitalize() for _ in range(20_000)
        ]
        self.han = [f"{pick(HAN)}{pick(HAN_DOES)}" for _ in range(2_000)]

    def said(self) -> str:
        """One to four sentences."""
        rng = self.rng
        return " ".join(f"{rng.choice(self.sentences)}{rng.choice('..?!')}" for _ in range(rng.randint(1, 4)))

    def play(self, size: int) -> Iterator[str]:
        """Scenes of a play of about `size` characters: `NAME: line`, or `NAME.` on a row of its own."""
        rng, done, scene = self.rng, 0, 0
        above = rng.random() < 0.4
        people = rng.sample(CAST, 6)
        while done < size:
            scene += 1
            rows = [f"ACT {scene // 8 + 1}", f"Scene {scene % 8 + 1}. A room by the water.", ""]
            for _ in range(40):
                name = rng.choice(people).upper()
                aside = f" ({rng.choice(WHENS)})" if rng.random() < 0.1 else ""
                rows += [f"{name}{aside}.", self.said(), ""] if above else [f"{name}{aside}: {self.said()}"]
            text = "\n".join([*rows, "", ""])
            done += len(text)
            yield text

    def novel(self, size: int) -> Iterator[str]:
        """Chapters of an English novel."""
        rng, done, chapter = self.rng, 0, 0
        left, right = ("“", "”") if rng.random() < 0.5 else ('"', '"')
        people = rng.sample(CAST, 5)
        while done < size:
            chapter += 1
            rows = [f"Chapter {chapter}"]
            for _ in range(80):
                kind = rng.random()
                if kind < 0.35:
                    rows.append(" ".join(self.said() for _ in range(3)))
                elif kind < 0.75:
                    said, more = self.said(), self.said()
                    words = f"{left}{said[:-1]},{right} {rng.choice(TAGS)} {rng.choice(people)}."
                    rows.append(f"{words} {left}{more}{right}" if kind < 0.5 else words)
                else:
                    rows.append(f"{left}{self.said()}{right}")
            text = "\n\n".join([*rows, "", ""])
            done += len(text)
            yield text

    def han_novel(self, size: int) -> Iterator[str]:
        """Chapters of a Chinese novel, of about `size` bytes."""
        rng, done, chapter = self.rng, 0, 0
        while done < size:
            chapter += 1
            rows = [f"第{chapter}回 {rng.choice(self.han)}"]
            for _ in range(60):
                told = "，".join(rng.choice(self.han) for _ in range(rng.randint(2, 6)))
                said = f"{rng.choice(HAN_CAST)}道：“{rng.choice(self.han)}，{rng.choice(self.han)}。”"
                rows.append(f"{told}。{said}" if rng.random() < 0.5 else said)
            text = "\n".join([*rows, "", ""])
            done += 3 * len(text)
            yield text


def write_corpus(folder: Path, size: int, seed: int = 0) -> int:
    """Files of about `size` bytes of text together, in `folder`; how many bytes of text they hold."""
    writer = Writer(seed)
    rng = random.Random(seed + 1)
    done = number = 0
    most = min(MOST_FILE, size // 6)
    while done < size:
        number += 1
        wanted = round(20_000 * (most / 20_000) ** rng.random())
        parts = rng.choice((writer.play, writer.play, writer.novel, writer.novel, writer.han_novel))(wanted)
        form = rng.choices(("txt", "gz", "jsonl", "parquet"), (6, 2, 1, 1))[0]
        done += _written(folder / f"text-{number:05d}", form, parts)
    return done


def _written(path: Path, form: str, parts: Iterator[str]) -> int:
    size = 0

    def counted() -> Iterator[str]:
        nonlocal size
        for part in parts:
            size += len(part.encode())
            yield part

    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("text", pa.string())])
        with pq.ParquetWriter(path.with_suffix(".parquet"), schema) as table:
            held: list[str] = []
            for part in counted():
                held.append(part)
                if len(held) == 100:
                    table.write_table(pa.table({"text": held}, schema=schema))
                    held = []
            table.write_table(pa.table({"text": held}, schema=schema))
        return size
    name = path.with_suffix(".txt.gz" if form == "gz" else f".{form}")
    with gzip.open(name, "wb", compresslevel=3) if form == "gz" else name.open("wb") as file:
        for part in counted():
            row = json.dumps({"text": part}, ensure_ascii=False) + "\n" if form == "jsonl" else part
            file.write(row.encode())
    return size


def write_recipe(folder: Path, workers: int | None) -> Path:
    """The recipe of the corpus in `folder`/texts."""
    cast = [{"name": name.lower(), "display_name": name, "aliases": [name.upper()]} for name in CAST]
    cast += [{"name": f"han-{number}", "display_name": name} for number, name in enumerate(HAN_CAST)]
    resources = {"extract": {"workers": workers}} if workers else {}
    recipe = {"name": "scale", "store": "store", "corpus": [{"path": "texts", "column": "text"}], "cast": cast}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({**recipe, "resources": resources}, ensure_ascii=False), "utf-8")
    return path


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

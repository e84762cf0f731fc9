"""Files of conversations with as many broken rows as good ones: nothing crashes, each broken row is set aside once.

    python -m benchmarks.malformed_rows [--rows 20000]

Half of the rows are broken, each in one of ten ways (cut, wrong bytes, wrong fields, wrong types, half a surrogate
pair, 3,000 brackets, two rows on one line, NaN, comments, another tool's rows), shuffled by a fixed seed. Good rows
count as unchanged when question and answer come back to the letter. Seconds are of this process's CPU time. Exit 1 when
a row is lost, changed or set aside twice.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter

from understudy.interchange import read_conversations_file


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    half = parser.parse_args().rows // 2
    print("| format | file | good read | changed | broken set aside | twice | reasons | s | MB/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    return max(measured(form, array, half) for form in ("alpaca", "xtuner", "sharegpt") for array in (False, True))


def measured(form: str, array: bool, half: int) -> int:
    """Print one line; 1 when something is not as claimed."""
    rng = random.Random(0)
    good = {f"question {n}: 你好 “{n}”": f"answer {n}\n,\n{{}}" for n in range(half)}
    lines = [json.dumps(row_of(form, asked, said), ensure_ascii=False).encode() for asked, said in good.items()]
    rows = [(line, True) for line in lines] + [(broken(rng, line, n), False) for n, line in enumerate(lines)]
    rng.shuffle(rows)
    numbers = {number for number, (_, sound) in enumerate(rows, 1) if not sound}
    joined = (b",\n" if array else b"\n").join(row for row, _ in rows)
    data = b"[\n" + joined + b"\n]\n" if array else joined
    began = time.process_time()
    found, aside = read_conversations_file(data, form, "adam", "file")
    seconds = time.process_time() - began
    read = {one.messages[-2].content: one.messages[-1].content for one in found}
    changed = len(good.keys() - read.keys()) + sum(good.get(asked) != said for asked, said in read.items())
    times = Counter(row["row"] for row in aside)
    twice = sum(count > 1 for count in times.values())
    kinds = len({row["reason"] for row in aside})
    print(
        f"| {form} | {'array' if array else 'lines'} | {len(found)} of {half} | {changed} | "
        f"{len(times.keys() & numbers)} of {half} | {twice} | {kinds} | {seconds:.2f} | "
        f"{len(data) / 1e6 / seconds:.1f} |"
    )
    return int(changed > 0 or twice > 0 or len(found) != half or set(times) != numbers)


def row_of(form: str, asked: str, said: str) -> dict:
    """A good row."""
    if form == "alpaca":
        return {"instruction": asked, "input": "", "output": said}
    if form == "xtuner":
        return {"conversation": [{"system": "s", "input": asked, "output": said}]}
    return {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]}


def broken(rng: random.Random, line: bytes, kind: int) -> bytes:
    """One of ten ways to break a row."""
    ways = [
        lambda: line[: rng.randrange(1, len(line) - 1)],
        lambda: line[:30] + b"\xff\xfe" + line[30:],
        lambda: line.replace(b'"output"', b'"outptu"').replace(b'"value"', b'"velua"'),
        lambda: json.dumps({"instruction": 3, "output": []}).encode(),
        lambda: line.replace(b'"answer', b'"\\ud800').replace(b"answer", b"\\ud800"),
        lambda: b"[" * 3000,
        lambda: line + line,
        lambda: b'{"instruction": "q", "output": NaN}',
        lambda: b"# a comment",
        lambda: b'{"prompt": "p", "chosen": "c", "rejected": "r"}',
    ]
    return ways[kind % len(ways)]()


if __name__ == "__main__":
    sys.exit(main())

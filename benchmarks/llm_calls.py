"""Model calls: how near to a bare client, what kills cost, and what a bad endpoint does.

    python -m benchmarks.llm_calls                      latency, three repeats
    python -m benchmarks.llm_calls latency --calls 10000 --latency 0.25 --in-flight 512 --repeats 3
    python -m benchmarks.llm_calls kills --rows 10000 --kills 10
    python -m benchmarks.llm_calls chaos --rows 10000
    python -m benchmarks.llm_calls malformed --rows 20000

Each command prints the figures of one function, `..._proof`; tests/test_llm_proofs.py holds them to their bars, at a
twentieth of the size and, marked `soak`, in full. The server is tests/endpoint.py in a process of its own. `latency`
counts from the first to the last request that the server sees, so that starting Ray is in neither figure; bare is one
AsyncOpenAI client with as many calls in flight, on the same transport, which does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.endpoint import endpoint, remark

ROOT = Path(__file__).resolve().parent.parent
TEXT = "Say something about the weather to a friend who has just come in from the rain. " * 4


def make_call(number: int) -> Any:
    from jobs.llm import Call

    return Call(({"role": "user", "content": f"{number}. {TEXT}"},), sampling={"temperature": 0.8, "max_tokens": 64})


def service_of(url: str, folder: str, **endpoint: Any) -> Any:
    from jobs.llm import Service
    from understudy.recipe import Recipe
    from understudy.store import Store

    recipe = Recipe.model_validate(
        {"name": "calls", "endpoints": {"main": {"base_url": url, "model": "m", **endpoint}}}
    )
    return Service.of(recipe, Store.open(folder), "bench")


# -- latency ----------------------------------------------------------------------------------------------------------


async def bare(url: str, calls: int, in_flight: int) -> None:
    """Nothing but the client."""
    import httpx2
    from openai import AsyncOpenAI, DefaultAioHttpClient

    limits = httpx2.Limits(max_connections=in_flight + 8, max_keepalive_connections=in_flight + 8)
    http = DefaultAioHttpClient(limits=limits, timeout=60)
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=http)
    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            call = make_call(number)
            await client.chat.completions.create(model="m", messages=list(call.messages), **call.sampling)

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    await client.close()


def rate(url: Any, calls: int) -> float:
    """Calls a second as the server saw them since it was last reset."""
    counts = url.counts()
    assert counts["received"] == calls, counts
    return calls / (counts["last_s"] - counts["first_s"])


def latency(arguments: argparse.Namespace) -> None:
    """Calls a second beside a bare client, repeat by repeat."""
    found: list[dict[str, float]] = []
    print(f"{arguments.calls} calls, {arguments.latency * 1000:.0f} ms each, {arguments.in_flight} in flight allowed")
    print(f"{'repeat':>6} {'bare/s':>8} {'one process/s':>14} {'Ray Data/s':>11} {'share':>6}")
    for repeat in range(arguments.repeats):
        one = latency_proof(arguments.calls, arguments.latency, arguments.in_flight)
        found.append(one)
        share = one["Ray Data"] / one["bare"]
        print(
            f"{repeat + 1:>6} {one['bare']:>8.0f} {one['one process']:>14.0f} {one['Ray Data']:>11.0f} {share:>6.3f}",
            flush=True,
        )
    share = {name: statistics.median(one[name] / one["bare"] for one in found) for name in ("Ray Data", "one process")}
    print(f"median share of the bare client: Ray Data {share['Ray Data']:.3f}, one process {share['one process']:.3f}")


def latency_proof(calls: int, latency_s: float, in_flight: int) -> dict[str, float]:
    """Calls a second of a bare client, of one process of ours and of Ray Data, each against a fresh server."""
    from cluster import runtime
    from jobs.answer_rows import table_of
    from jobs.llm import answer_rows, each

    runtime.start()
    found: dict[str, float] = {}
    with endpoint(process=True, latency_s=latency_s) as url:
        asyncio.run(bare(url, calls, in_flight))
        found["bare"] = rate(url, calls)
    with endpoint(process=True, latency_s=latency_s) as url, tempfile.TemporaryDirectory() as folder:
        in_process(service_of(url, folder, max_in_flight=in_flight), calls)
        found["one process"] = rate(url, calls)
    with endpoint(process=True, latency_s=latency_s) as url, tempfile.TemporaryDirectory() as folder:
        service = service_of(url, folder, max_in_flight=in_flight)
        rows = table_of([{"row": str(one), "call": make_call(one).as_json()} for one in range(calls)])
        assert sum(1 for _ in each(service, answer_rows(service, rows))) == calls
        found["Ray Data"] = rate(url, calls)
    return found


def in_process(service: Any, calls: int) -> int:
    from jobs import llm

    before, llm.IN_PROCESS_CALLS = llm.IN_PROCESS_CALLS, calls
    try:
        return len(llm.answer_all(service, [make_call(number) for number in range(calls)]))
    finally:
        llm.IN_PROCESS_CALLS = before


# -- one run, in this process or in one of its own, which can be killed -----------------------------------------------


def drive(url: str, folder: str, rows: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Answer `rows` rows through Ray Data: what came of them, and the ledger."""
    import ray.data

    from cluster import runtime
    from jobs.llm import answer_rows, each
    from understudy.record import rows_digest

    service = service_of(url, folder, **settings)
    items = [{"row": str(number), "call": row_call(number, settings)} for number in range(rows)]
    runtime.start()
    seen: list[str] = []
    good = right = 0
    found: list[dict[str, Any]] = []
    for row in each(service, answer_rows(service, ray.data.from_items(items, override_num_blocks=8))):
        answer = json.loads(row["answer"])
        seen.append(row["row"])
        good += not answer["reason"]
        right += not answer["reason"] and answer["text"] == remark(json.loads(row["call"])["messages"], {})
        found.append({"row": row["row"], "text": answer["text"], "reason": answer["reason"]})
    done = {"rows": len(seen), "distinct": len(set(seen)), "good": good, "right": right, "digest": rows_digest(found)}
    return {**done, "ledger": service.ledger()}


def drive_alone(url: str, folder: str, rows: str, settings: str) -> None:
    """`drive` as a process: leaves what it found in `<folder>/done.json`."""
    Path(folder, "done.json").write_text(json.dumps(drive(url, folder, int(rows), json.loads(settings))))


def row_call(number: int, settings: dict[str, Any]) -> Any:
    """The row's call; odd ones are malformed where the settings' model is named so."""
    if settings.get("model") == "malformed" and number % 2:
        broken = [None, "", "{", "[]", '{"messages": []}', '{"messages": [{"role": "user"}]}', "\ud83d"]
        return broken[number // 2 % len(broken)]
    return make_call(number).as_json()


def start(url: Any, folder: str, rows: int, settings: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = "from benchmarks.llm_calls import drive_alone; import sys; drive_alone(*sys.argv[1:])"
    arguments = [url, folder, str(rows), json.dumps(settings)]
    return subprocess.Popen([sys.executable, "-c", command, *arguments], cwd=ROOT)


def workers_of(driver: int) -> list[int]:
    """Ray worker processes below a driver: children of its raylet."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            names[int(folder.name)] = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        except OSError:
            continue
        parents[int(folder.name)] = int(stat.rsplit(")", 1)[1].split()[1])

    def below(process: int) -> bool:
        while process in parents:
            process = parents[process]
            if process == driver:
                return True
        return False

    # Ray's agents share their names' beginning with workers; without them the node is gone, and that is another test.
    called = {process: name for process, name in names.items() if name.startswith("ray::") and "Agent" not in name}
    return [process for process in called if below(process)]


def kills(arguments: argparse.Namespace) -> None:
    """Workers and the driver are killed at random; what is paid twice, and is the result the same?"""
    found = kill_proof(arguments.rows, arguments.kills, arguments.latency, arguments.seed)
    for name, value in found.items():
        print(f"{name:<42} {value}")


def kill_proof(rows: int, kills: int, latency_s: float, seed: int) -> dict[str, Any]:
    """Figures of one run with `kills` killed workers and one killed driver, beside an undisturbed one."""
    rest = random.Random(seed)
    settings = {"max_in_flight": max(8, min(128, rows // 16))}
    with tempfile.TemporaryDirectory() as folder, endpoint(remark, process=True, latency_s=latency_s) as url:
        plain = drive(url, folder, rows, settings)
    with tempfile.TemporaryDirectory() as folder, endpoint(remark, process=True, latency_s=latency_s) as url:
        in_flight: list[int] = []
        callers = 0
        when = sorted(rest.uniform(0.05, 0.85) * rows for _ in range(kills + 1))
        driver_at = when.pop(len(when) // 2)
        steps = sorted([*((at, "worker") for at in when), (driver_at, "driver")])
        child = start(url, folder, rows, settings)
        for at, what in steps:
            while url.counts()["received"] < at:
                assert child.poll() is None, "the run ended before its kills"
                time.sleep(0.02)
            victims: list[int] = []
            while not (calling := [one for one in victims if is_calling(one)]):
                assert child.poll() is None, "the run ended before its kills"
                time.sleep(0.02)
                victims = workers_of(child.pid)
            # A random worker would mostly be an idle one: every other kill goes to one that calls.
            victim = rest.choice(calling if rest.random() < 0.7 else victims)
            if what == "driver":
                in_flight.append(open_calls(url))
                child.kill()
                child.wait()
                child = start(url, folder, rows, settings)
            else:
                callers += victim in calling
                os.kill(victim, signal.SIGSTOP)  # what it sends between the count and the kill would not be counted
                in_flight.append(open_calls(url) if victim in calling else 0)
                os.kill(victim, signal.SIGKILL)
        assert child.wait() == 0, "the run failed"
        done = json.loads(Path(folder, "done.json").read_text())
        calls = url.counts()["received"]
        again = drive(url, folder, rows, settings)
        after = url.counts()["received"]
    return {
        "rows": rows,
        "killed": f"{len(in_flight) - 1} workers ({callers} of them calling) and the driver",
        "calls": calls,
        "calls beyond rows": calls - rows,
        "in flight at the kills, all of the run": sum(in_flight),
        "every row once": done["rows"] == done["distinct"] == rows,
        "set aside": rows - done["good"],
        "calls of a rerun": after - calls,
        "same digest as undisturbed": done["digest"] == plain["digest"] == again["digest"],
    }


def open_calls(url: Any) -> int:
    counts = url.counts()
    return counts["in_flight"] + counts["recent"]  # an answer in a socket is not on disk


def is_calling(process: int) -> bool:
    try:
        return b"Answering" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


# -- a bad endpoint, and bad rows -------------------------------------------------------------------------------------


def chaos(arguments: argparse.Namespace) -> None:
    """Nearly a third of all answers are trouble."""
    for name, value in chaos_proof(arguments.rows, arguments.share, arguments.timeout).items():
        print(f"{name:<42} {value}")


def chaos_proof(rows: int, share: float, timeout_s: float) -> dict[str, Any]:
    """Figures of one run against an endpoint that answers `share` of all requests with trouble, five kinds of it."""
    troubles = dict.fromkeys(("429", "500", "hang", "cut", "broken"), share / 5)
    began = time.monotonic()
    server = endpoint(remark, process=True, latency_s=0.05, chaos=troubles, seed=7)
    with tempfile.TemporaryDirectory() as folder, server as url:
        done = drive(url, folder, rows, {"max_in_flight": 256, "timeout_s": timeout_s})
        counts = url.counts()
    return {
        "rows": rows,
        "troubles": ", ".join(f"{counts[name]} {name}" for name in troubles),
        "calls": counts["received"],
        "calls a row": round(counts["received"] / rows, 3),
        "every row once": done["rows"] == done["distinct"] == rows,
        "set aside": rows - done["good"],
        "seconds": round(time.monotonic() - began, 1),
    }


def malformed(arguments: argparse.Namespace) -> None:
    """Half of the rows are no calls."""
    for name, value in malformed_proof(arguments.rows).items():
        print(f"{name:<42} {value}")


def malformed_proof(rows: int) -> dict[str, Any]:
    """Figures of one run in which every other row is broken, in seven ways."""
    with tempfile.TemporaryDirectory() as folder, endpoint(remark, process=True) as url:
        done = drive(url, folder, rows, {"max_in_flight": 256, "model": "malformed"})
        counts = url.counts()
    return {
        "rows": rows,
        "calls": counts["received"],
        "every row once": done["rows"] == done["distinct"] == rows,
        "set aside": rows - done["good"],
        "answered with their own answer": done["right"],
    }


def main() -> None:
    """Run what the command line names; latency without one."""
    parser = argparse.ArgumentParser(description="Model calls against a scripted endpoint.")
    commands = parser.add_subparsers(dest="command")
    one = commands.add_parser("latency")
    one.add_argument("--calls", type=int, default=10_000)
    one.add_argument("--latency", type=float, default=0.25)
    one.add_argument("--in-flight", type=int, default=512)
    one.add_argument("--repeats", type=int, default=3)
    two = commands.add_parser("kills")
    two.add_argument("--rows", type=int, default=10_000)
    two.add_argument("--kills", type=int, default=10)
    two.add_argument("--latency", type=float, default=0.25)
    two.add_argument("--seed", type=int, default=0)
    three = commands.add_parser("chaos")
    three.add_argument("--rows", type=int, default=10_000)
    three.add_argument("--share", type=float, default=0.3)
    three.add_argument("--timeout", type=float, default=3.0)
    four = commands.add_parser("malformed")
    four.add_argument("--rows", type=int, default=20_000)
    arguments = parser.parse_args(sys.argv[1:] or ["latency"])
    {"latency": latency, "kills": kills, "chaos": chaos, "malformed": malformed}[arguments.command](arguments)


if __name__ == "__main__":
    main()

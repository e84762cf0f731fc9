"""Model calls: how near to a bare client, what kills cost, and what a bad endpoint does.

    python -m benchmarks.llm_calls                      latency, three repeats
    python -m benchmarks.llm_calls latency --calls 10000 --latency 0.25 --in-flight 512 --repeats 3
    python -m benchmarks.llm_calls kills --rows 10000 --kills 10
    python -m benchmarks.llm_calls chaos --rows 10000
    python -m benchmarks.llm_calls malformed --rows 20000

The server is tests/endpoint.py in a process of its own. `latency` counts from the first to the last request that the
server sees, so that starting Ray is in neither figure; bare is one AsyncOpenAI client with as many calls in flight, on
the same transport, which does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

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
            await client.chat.completions.create(model="m", messages=list(call.messages), **call.sampling)  # pyright: ignore

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    await client.close()


def rate(url: Any, calls: int) -> float:
    """Calls a second as the server saw them since it was last reset."""
    counts = url.counts()
    assert counts["received"] == calls, counts
    return calls / (counts["last_s"] - counts["first_s"])


def latency(arguments: argparse.Namespace) -> None:
    import ray.data

    from cluster import runtime
    from jobs.llm import answer_rows, each
    from tests.endpoint import endpoint

    runtime.start()
    found: list[tuple[float, float, float]] = []
    print(f"{arguments.calls} calls, {arguments.latency * 1000:.0f} ms each, {arguments.in_flight} in flight allowed")
    print(f"{'repeat':>6} {'bare/s':>8} {'one process/s':>14} {'Ray Data/s':>11} {'share':>6}")
    for repeat in range(arguments.repeats):
        with endpoint(process=True, latency_s=arguments.latency) as url:
            asyncio.run(bare(url, arguments.calls, arguments.in_flight))
            plain = rate(url, arguments.calls)
        with endpoint(process=True, latency_s=arguments.latency) as url, tempfile.TemporaryDirectory() as folder:
            service = service_of(url, folder, max_in_flight=arguments.in_flight)
            inside = in_process(service, arguments.calls)
            inside = rate(url, arguments.calls)
        with endpoint(process=True, latency_s=arguments.latency) as url, tempfile.TemporaryDirectory() as folder:
            service = service_of(url, folder, max_in_flight=arguments.in_flight)
            rows = ray.data.from_items(
                [{"row": str(number), "call": make_call(number).as_json()} for number in range(arguments.calls)]
            )
            assert sum(1 for _ in each(service, answer_rows(service, rows))) == arguments.calls
            ours = rate(url, arguments.calls)
        found.append((plain, inside, ours))
        print(f"{repeat + 1:>6} {plain:>8.0f} {inside:>14.0f} {ours:>11.0f} {ours / plain:>6.2f}", flush=True)
    share = statistics.median(ours / plain for plain, _, ours in found)
    alone = statistics.median(inside / plain for plain, inside, _ in found)
    print(f"median share of the bare client: Ray Data {share:.2f}, one process {alone:.2f}")


def in_process(service: Any, calls: int) -> float:
    from jobs import llm

    before, llm.IN_PROCESS_CALLS = llm.IN_PROCESS_CALLS, calls
    try:
        return len(llm.answer_all(service, [make_call(number) for number in range(calls)]))
    finally:
        llm.IN_PROCESS_CALLS = before


def main() -> None:
    """Run what the command line names; latency without one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    one = commands.add_parser("latency")
    one.add_argument("--calls", type=int, default=6000)
    one.add_argument("--latency", type=float, default=0.25)
    one.add_argument("--in-flight", type=int, default=512)
    one.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(sys.argv[1:] or ["latency"])
    globals()[arguments.command](arguments)


if __name__ == "__main__":
    main()

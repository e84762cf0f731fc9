"""A model server with a script: real HTTP, OpenAI's chat completions, and trouble on demand.

    with endpoint(lambda messages, request: "Good morrow.") as url:
        ...                             # base_url: url, any model, any key
        assert url.counts()["answered"] == 3

A script gets the messages and the whole request and returns the reply's text; a dict is sent as JSON text, or, when it
has a `status`, as that HTTP answer (`{"status": 400, "body": {...}, "headers": {...}}`). A thread serves by default, so
a script may be any closure; `process=True` serves from a process of its own (the script must be importable).
`python -m tests.endpoint` serves an echo by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Script = Callable[[Sequence[Mapping[str, str]], Mapping[str, Any]], Any]
TROUBLES = ("429", "500", "hang", "cut", "broken")
HANG_S = 3600.0
RECENT_S = 0.1


def echo(messages: Sequence[Mapping[str, str]], request: Mapping[str, Any]) -> str:
    """The last message, said back."""
    return f"You said: {messages[-1]['content']}"


def remark(messages: Sequence[Mapping[str, str]], request: Mapping[str, Any]) -> str:
    """A reply that depends on nothing but the question."""
    question = messages[-1]["content"]
    return f"On {question[:12]} I say: {hashlib.sha256(question.encode()).hexdigest()}"


@dataclass(frozen=True)
class Options:
    """How the server behaves; shares are of all requests, in the order in which they arrive."""

    latency_s: float = 0.0
    chaos: Mapping[str, float] = field(default_factory=dict)
    """Share by trouble: 429 (with Retry-After), 500, hang, cut (half a body, then the connection ends), broken."""
    retry_after_s: float = 0.2
    seed: int = 0
    schemas: bool = True
    """False: a request with a JSON schema is answered with 400, as servers do that have none."""
    capacity: int | None = None
    """Requests at once; one more is answered with 429."""
    usage: bool = True
    """Whether answers count their tokens."""


class Url(str):  # noqa: SLOT000 - it carries what the server saw
    """The server's base_url; also knows what the server saw."""

    seen: list[dict[str, Any]]
    """Every request's body, in order (thread only)."""

    def counts(self) -> Counter[str]:
        """received, answered, in_flight, most_in_flight, each trouble by name; first_s, last_s: when it was asked;
        recent: answered within the last RECENT_S.
        """
        with urllib.request.urlopen(f"{self}/counts", timeout=30) as reply:
            return Counter(json.load(reply))

    def set(self, **options: Any) -> None:
        """Change options of the running server: `url.set(chaos={"500": 1.0})`."""
        request = urllib.request.Request(f"{self}/options", json.dumps(options).encode(), method="POST")
        urllib.request.urlopen(request, timeout=30).close()


def _tokens(text: str) -> int:
    """About as tokenizers of today count: four letters are one, and so are one and a half Chinese characters."""
    wide = 0 if text.isascii() else sum(char > "\u2e7f" for char in text)
    return (len(text) - wide) // 4 + round(wide / 1.5) + 1


class _Server:
    def __init__(self, script: Script, options: Options):
        self.script, self.options = script, options
        self.random = random.Random(options.seed)
        self.counts: Counter[str] = Counter()
        self.seen: list[dict[str, Any]] = []
        self.keep = True
        self.first_s = self.last_s = 0.0
        self.ended: deque[float] = deque(maxlen=4096)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, _, rest = head.partition(b"\r\n")
                method, path, _ = line.split(b" ", 2)
                length = 0
                for header in rest.split(b"\r\n"):
                    if header[:15].lower() == b"content-length:":
                        length = int(header[15:])
                body = await reader.readexactly(length) if length else b""
                if not await self.one(method, path, body, writer):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def one(self, method: bytes, path: bytes, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False ends the connection."""
        if path.endswith(b"/counts"):
            recent = sum(ended > time.monotonic() - RECENT_S for ended in self.ended)
            times = {"first_s": self.first_s, "last_s": self.last_s, "recent": recent}
            return self.send(writer, 200, {**self.counts, **times})
        if path.endswith(b"/options"):
            self.options = Options(**{**self.options.__dict__, **json.loads(body)})
            return self.send(writer, 200, {})
        if method != b"POST" or not path.endswith(b"/chat/completions"):
            return self.send(writer, 404, {"error": {"message": f"no {path.decode()} here"}})
        self.counts["received"] += 1
        self.counts["in_flight"] += 1
        self.first_s = self.first_s or time.monotonic()
        self.counts["most_in_flight"] = max(self.counts["most_in_flight"], self.counts["in_flight"])
        try:
            return await self.complete(json.loads(body), writer)
        finally:
            self.counts["in_flight"] -= 1
            self.last_s = time.monotonic()
            self.ended.append(self.last_s)

    async def complete(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        if self.keep:
            self.seen.append(request)
        options = self.options
        if options.capacity is not None and self.counts["in_flight"] > options.capacity:
            return self.slow_down(writer)
        trouble = self.trouble()
        if options.latency_s:
            await asyncio.sleep(options.latency_s)
        if trouble:
            self.counts[trouble] += 1
        if trouble == "429":
            return self.slow_down(writer)
        if trouble == "500":
            return self.send(writer, 500, {"error": {"message": "the model fell over"}})
        if trouble == "hang":
            await asyncio.sleep(HANG_S)
        if (request.get("response_format") or {}).get("type") == "json_schema" and not options.schemas:
            return self.send(writer, 400, {"error": {"message": "response_format json_schema is not supported"}})
        reply = self.script(request["messages"], request)
        if isinstance(reply, dict) and "status" in reply:
            return self.send(writer, reply["status"], reply.get("body", {}), reply.get("headers", {}))
        text = reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)
        answer = self.answer(request, text)
        if trouble == "cut":
            half = json.dumps(answer).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n" % len(half) + half[: len(half) // 2])
            return False
        if trouble == "broken":
            return self.send(
                writer, 200, self.random.choice([b"<html>Bad gateway</html>", b'{"choices": [', b"{}", b""])
            )
        self.counts["answered"] += 1
        return self.send(writer, 200, answer)

    def trouble(self) -> str:
        if not self.options.chaos:
            return ""
        draw = self.random.random()
        for name in TROUBLES:
            draw -= self.options.chaos.get(name, 0.0)
            if draw < 0:
                return name
        return ""

    def slow_down(self, writer: asyncio.StreamWriter) -> bool:
        self.counts["slow_down"] += 1
        headers = {"Retry-After": f"{self.options.retry_after_s:g}"}
        return self.send(writer, 429, {"error": {"message": "too many requests"}}, headers)

    def answer(self, request: Mapping[str, Any], text: str) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": request["model"], "choices": [choice]}
        if self.options.usage:
            prompt, said = sum(_tokens(message["content"]) for message in request["messages"]), _tokens(text)
            usage = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
            answer["usage"] = usage
        return answer

    def send(
        self, writer: asyncio.StreamWriter, status: int, body: Any, headers: Mapping[str, str] | None = None
    ) -> bool:
        data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        return True


async def _serve(server: _Server, port: int, ready: Callable[[int], None], stop: asyncio.Event) -> None:
    listening = await asyncio.start_server(server.connection, "127.0.0.1", port, backlog=2048, limit=1 << 26)
    ready(listening.sockets[0].getsockname()[1])
    await stop.wait()
    listening.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


@contextlib.contextmanager
def endpoint(script: Script = echo, *, process: bool = False, port: int = 0, **options: Any) -> Iterator[Url]:
    """A server for the length of the block; `options` are the fields of Options."""
    if process:
        yield from _processed(script, Options(**options), port)
        return
    server = _Server(script, Options(**options))
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    ports: list[int] = []
    ready = threading.Event()

    def note(number: int) -> None:
        ports.append(number)
        ready.set()

    def serve() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(_serve(server, port, note, stop))
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(30)
    url = Url(f"http://127.0.0.1:{ports[0]}/v1")
    url.seen = server.seen
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def _processed(script: Script, options: Options, port: int) -> Iterator[Url]:
    named = f"{script.__module__}:{script.__qualname__}"
    command = [sys.executable, "-m", "tests.endpoint", named, json.dumps(asdict(options)), str(port)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parent.parent)
    try:
        assert child.stdout is not None
        yield Url(child.stdout.readline().strip())
    finally:
        child.kill()
        child.communicate()


def main() -> None:
    """`python -m tests.endpoint [MODULE:SCRIPT [OPTIONS [PORT]]]`: serve until killed; prints the URL."""
    named, options, port = [*sys.argv[1:], *["tests.endpoint:echo", "{}", "0"][len(sys.argv) - 1 :]]
    module, _, script = named.partition(":")
    server = _Server(getattr(importlib.import_module(module), script), Options(**json.loads(options)))
    server.keep = False

    def ready(number: int) -> None:
        print(f"http://127.0.0.1:{number}/v1", flush=True)

    async def serve() -> None:
        await _serve(server, int(port), ready, asyncio.Event())

    asyncio.run(serve())


if __name__ == "__main__":
    main()

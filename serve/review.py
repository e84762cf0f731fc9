"""The review room: a local page on which a person goes through lines, samples and drafted cards.

    with opened(Room(store, recipe)) as page:
        page.url                # http://127.0.0.1:PORT/TOKEN/

The page is one file of our own (serve/review.html) and loads nothing from elsewhere. Its address holds a random token,
and requests that come from another page (Origin, Sec-Fetch-Site) or under another name (Host) are refused, so that no
website that is open beside it can write.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from understudy.errors import InputError, UnderstudyError
from understudy.reviewing.drafts import ChangedError, accept, drafts
from understudy.reviewing.lists import Filter
from understudy.reviewing.room import Room

HOST = "127.0.0.1"
PAGE = Path(__file__).parent / "review.html"
MOST_BODY_BYTES = 1 << 20
MOST_NAME = 64
STARTS_IN_S = 30.0
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Opened:
    """A page that answers."""

    url: str


class Desk:
    """What the page asks for, one request at a time."""

    def __init__(self, room: Room):
        self.room = room
        self.lock = threading.Lock()

    def get(self, what: str, query: Mapping[str, str]) -> Any:
        """about, lines, samples, context or cards; InputError for what does not hold."""
        with self.lock:
            if what == "about":
                self.room.refresh()
                return self.room.about(_page_of(query))
            if what == "context":
                return self.room.context(query.get("at", ""))
            if what == "cards":
                return self._cards()
            wanted = _filter(query)
            limit = int(query["limit"]) if query.get("limit", "").isdecimal() else 50
            listed = self.room.lines if what == "lines" else self.room.samples
            return listed(wanted, query.get("after") or None, limit)

    def post(self, what: str, given: Mapping[str, Any]) -> Any:
        """decide, undo or accept."""
        on = _page_of(given)
        with self.lock:
            if what == "undo":
                return {"undone": self.room.undo(on), "undo": self.room.undoable(on)}
            if what == "accept":
                return accept(self.room.store, self.room.recipe, self._cast(), given)
            kind, place, do = (given.get(name) for name in ("kind", "at", "do"))
            if kind not in ("lines", "samples") or not isinstance(place, str) or not isinstance(do, str):
                raise InputError("a decision needs kind (lines or samples), at and do")
            rest = {name: given[name] for name in ("speaker", "text", "messages") if name in given}
            return {"row": self.room.decide(kind, place, do, on, **rest), "undo": self.room.undoable(on)}

    def _cast(self) -> dict[str, Any]:
        return {persona.name: persona for persona in self.room.cast}

    def _cards(self) -> dict[str, Any]:
        found = drafts(self.room.store, self.room.recipe, self._cast())
        cited = {line for card in found for f in card["fields"] for c in f["citations"] for line in c["lines"]}
        return {"cards": found, "lines": self.room.cited(cited)}


def _page_of(given: Mapping[str, Any]) -> str:
    """What the page calls itself: several may be open on one room, and each takes back its own decisions."""
    name = given.get("page", "")
    if not isinstance(name, str) or len(name) > MOST_NAME:
        raise InputError(f"page must be a text of at most {MOST_NAME} characters")
    return name


def _filter(query: Mapping[str, str]) -> Filter:
    texts = {f.name: query[f.name] for f in fields(Filter) if f.type == "str" and query.get(f.name)}
    try:
        below = float(query["below"]) if query.get("below") else None
    except ValueError:
        raise InputError(f"below: {query['below'][:40]!r} is no number") from None
    return Filter(**texts, below=below, generated=query.get("generated") == "1")


def app_of(room: Room, token: str, port: int) -> Any:
    """The application: a page and a few JSON calls, all below `/<token>/`."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    desk = Desk(room)

    async def answer(request: Request) -> Response:
        path = request.url.path.removeprefix(f"/{token}/")
        try:
            if path == "" and request.method == "GET":
                return HTMLResponse(*_page())
            if request.method == "GET" and path in ("about", "lines", "samples", "context", "cards"):
                return JSONResponse(await run_in_threadpool(desk.get, path, _query(request.scope["query_string"])))
            if request.method == "POST" and path in ("decide", "undo", "accept"):
                return JSONResponse(await run_in_threadpool(desk.post, path, await _body(request)))
        except ChangedError as error:
            return JSONResponse({"error": str(error)}, 409)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)
        except UnderstudyError as error:  # the store is full or away
            return JSONResponse({"error": str(error)}, 500)
        return Response("not found", 404)

    async def guarded(request: Request) -> Response:
        refused = _refusal(request.method, request.url.path, request.headers, token, port)
        response = Response(refused[1], refused[0]) if refused else await answer(request)
        for name, value in HEADERS.items():
            response.headers[name] = value
        return response

    return Starlette(routes=[Route("/{path:path}", guarded, methods=["GET", "POST"])])


def _refusal(method: str, path: str, headers: Mapping[str, str], token: str, port: int) -> tuple[int, str] | None:
    """Why a request is not answered: (status, words), or None."""
    hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
    if headers.get("host", "").lower() not in hosts:
        return 403, "wrong host"
    if not secrets.compare_digest(path.split("/")[1].encode(), token.encode()):
        return 404, "not found"
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in {f"http://{host}" for host in hosts}:
        return 403, "wrong origin"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return 403, "asked for by another site"
    if method == "POST" and headers.get("content-type", "").split(";")[0].strip() != "application/json":
        return 415, "send JSON"
    return None


def _page() -> tuple[str, int, dict[str, str]]:
    """The page with a fresh nonce: only its own script and style run."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return PAGE.read_text("utf-8").replace("NONCE", nonce), 200, {"Content-Security-Policy": policy}


def _query(raw: bytes) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(raw.decode("ascii", "replace")).items()}


async def _body(request: Any) -> dict[str, Any]:
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_BODY_BYTES:
            raise InputError("the request is larger than 1 MB")
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise InputError("the request is no JSON") from None
    if not isinstance(value, dict):
        raise InputError("the request is no JSON object")
    return value


@contextmanager
def opened(room: Room, port: int = 0) -> Iterator[Opened]:
    """The page for the length of the block, on a port of 127.0.0.1; InputError when that is taken."""
    import uvicorn

    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise InputError(f"port {port} on {HOST}: {error.strerror}; name another with --port, or --port 0") from None
    bound = listening.getsockname()[1]
    token = secrets.token_urlsafe(24)
    config = uvicorn.Config(app_of(room, token, bound), log_level="error", access_log=False, server_header=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="review", daemon=True)
    thread.start()
    deadline = time.monotonic() + STARTS_IN_S
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        if not server.started:
            raise UnderstudyError("review: the page did not start")
        yield Opened(f"http://{HOST}:{bound}/{token}/")
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()

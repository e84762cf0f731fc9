"""A conversation in the terminal: `understudy chat PERSONA`.

Opens with the card's greeting. `/reset` begins again, `/me NAME` says who is talking, `/exit` leaves. Without a server
at the address given (or the usual one) an engine is started for the length of the conversation. Where stdin is no
terminal, its lines are the questions.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

import httpx

from understudy.errors import InputError, UnderstudyError

USUAL_URL = "http://127.0.0.1:8000"
HELP = "/reset begins again, /me NAME says who you are, /exit leaves"


def chat(persona: str, url: str | None = None, store: str | None = None) -> int:
    """Talk with `persona` (or `persona@candidate`, `persona@VERSION`) until /exit or the end of input; exit code.

    With `url`, that server must answer. Else the usual address is tried, unless `store` is given; then an engine is
    started on that store (UNDERSTUDY_STORE, ./store) and stopped at the end.
    """
    if url is not None:
        return converse(persona, url.rstrip("/").removesuffix("/v1"))
    if store is None and _answers(USUAL_URL):
        return converse(persona, USUAL_URL)
    from serve.app import start
    from understudy.store import Store

    opened = Store.open(store or os.environ.get("UNDERSTUDY_STORE") or "./store")
    _refuse_unknown(opened, persona)
    server = start(opened, page=False, say=lambda line: print(line, file=sys.stderr, flush=True))
    try:
        return converse(persona, server.url)
    finally:
        server.stop()


@dataclass
class Conversation:
    """What was said so far, and how to say it to the server."""

    url: str
    persona: str
    greeting: str = ""
    user: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)

    def reset(self) -> None:
        """Begin again, with the greeting."""
        self.messages = [{"role": "assistant", "content": self.greeting}] if self.greeting else []

    def say(self, text: str) -> Iterator[str]:
        """Pieces of the answer to `text`; kept in the conversation when it is whole."""
        from openai import APIConnectionError, APIError, OpenAI

        message = {"role": "user", "content": text, **({"name": self.user} if self.user else {})}
        asked: Any = {"model": self.persona, "messages": [*self.messages, message], "stream": True}
        pieces: list[str] = []
        client = OpenAI(base_url=f"{self.url}/v1", api_key=os.environ.get("UNDERSTUDY_API_KEY", "none"), max_retries=1)
        with client:
            try:
                stream = client.chat.completions.create(**asked)
                for chunk in stream:
                    if chunk.choices and chunk.choices[0].delta.content:
                        pieces.append(chunk.choices[0].delta.content)
                        yield pieces[-1]
            except APIConnectionError:
                raise UnderstudyError(f"{self.url}: the server does not answer any more") from None
            except APIError as error:
                raise UnderstudyError(_message(error)) from None
        self.messages += [message, {"role": "assistant", "content": "".join(pieces)}]


def converse(
    persona: str, url: str, lines: TextIO | None = None, screen: TextIO | None = None, empty_ends: bool = False
) -> int:
    """One conversation with a running server, over any pair of streams; InputError when the persona is unknown.

    `empty_ends`: an empty line leaves too, for a caller who then asks what to do next.
    """
    source: TextIO = lines or sys.stdin
    out: TextIO = screen or sys.stdout
    about = _about(url, persona)
    talk = Conversation(url, persona, about.get("greeting", ""))
    talk.reset()
    name = about["display_name"]
    terminal = source.isatty()
    if terminal:
        print(f"{name} ({about.get('version', 'base')}). {HELP}{', an empty line too' if empty_ends else ''}", file=out)
    if talk.greeting:
        print(f"{name}: {talk.greeting}", file=out)
    for line in _lines(source, out, terminal):
        if not line and empty_ends:
            break
        if not line:
            continue
        if line.startswith("/"):
            if line == "/exit":
                break
            _command(line, talk, name, out)
            continue
        print(f"{name}: ", end="", file=out, flush=True)
        try:
            for piece in talk.say(line):
                print(piece, end="", file=out, flush=True)
            print(file=out, flush=True)
        except UnderstudyError as error:
            print(f"[{error}]", file=out, flush=True)
            if not terminal:
                return error.exit_code
    return 0


def _command(line: str, talk: Conversation, name: str, out: TextIO) -> None:
    word, _, rest = line.partition(" ")
    if word == "/reset":
        talk.reset()
        print(f"{name}: {talk.greeting}" if talk.greeting else "(begun again)", file=out)
    elif word == "/me" and rest.strip():
        talk.user = rest.strip()[:64]
        print(f"(you are {talk.user})", file=out)
    else:
        print(HELP, file=out)


def _lines(source: TextIO, out: TextIO, terminal: bool) -> Iterator[str]:
    """Lines without the blanks around them, until the end of input or Ctrl-C."""
    while True:
        try:
            if terminal:
                print("you: ", end="", file=out, flush=True)
            line = source.readline()
        except KeyboardInterrupt:
            line = ""
        if not line:
            if terminal:
                print(file=out)
            return
        yield line.strip()


def _about(url: str, persona: str) -> dict[str, Any]:
    try:
        answer = httpx.get(f"{url}/v1/personas/{persona}", timeout=30)
    except httpx.HTTPError as error:
        raise InputError(
            f"{url}: no server answers ({type(error).__name__}); start one with `understudy serve`"
        ) from None
    try:
        body = answer.json()
    except ValueError:
        raise InputError(f"{url}: is no understudy server (status {answer.status_code})") from None
    if answer.status_code != 200:
        raise InputError(body.get("error", {}).get("message", f"{url}: answered {answer.status_code}"))
    return body


def _answers(url: str) -> bool:
    try:
        return "personas" in httpx.get(f"{url}/v1/personas", timeout=3).json()
    except (httpx.HTTPError, ValueError):
        return False


def _refuse_unknown(store: Any, persona: str) -> None:
    """Before an engine starts for a minute: CatalogError when the catalog has no such persona."""
    from understudy.catalog import Catalog

    name, _, selector = persona.partition("@")
    Catalog(store).refresh().resolve(name, selector or None)


def _message(error: Any) -> str:
    body = getattr(error, "body", None)
    return str(body.get("message")) if isinstance(body, dict) and body.get("message") else str(error)

"""What Serve deploys: engine, ingress and chat page on one address, and the command that keeps them running.

server = start(store, port=0)        # returns when the first request would be answered
server.url, server.page              # the API and the chat page
server.stop()
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import runtime
from understudy.base import Base, resolve
from understudy.catalog import Catalog
from understudy.errors import BaseError, InputError, UnderstudyError
from understudy.recipe import ModelConfig, Recipe, ServeConfig
from understudy.release import Release
from understudy.store import Store

APP = "understudy"
PAGE = "page"


@dataclass(frozen=True)
class Server:
    """A running server of this process."""

    url: str
    """Of the API: `url + "/v1"` is what OpenAI clients take."""
    page: str | None
    """Of the chat page."""
    personas: tuple[str, ...]
    seconds: float
    """From the call to ready."""

    def stop(self) -> None:
        """End the engine, the page and the cluster that was started for them."""
        from ray import serve

        serve.delete(APP)
        if self.page:
            serve.delete(PAGE)
        if os.environ.get("RAY_ADDRESS", "local") != "local":
            # On a cluster of our own Serve ends with it; said twice, Ray prints that its controller is gone.
            serve.shutdown()
        runtime.stop()


def start(
    store: Store,
    model: ModelConfig | None = None,
    limits: ServeConfig | None = None,
    *,
    folder: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    page: bool = True,
    gpus: float | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> Server:
    """Serve the personas of one base in `store`; returns when ready.

    Without `model` the catalog's only base is served. `folder`: what a relative `model.base` belongs to. `port` 0 takes
    a free one. `gpus` per engine; None takes one where the machine has any. `say` hears one line per step.
    """
    started = time.monotonic()
    limits = limits or ServeConfig()
    port = free_port(host, port)
    state = Catalog(store).refresh()
    current = [state.resolve(name) for name in state.personas()]
    asked = model or ModelConfig(base=_only_base(current, store))
    try:
        base = resolve(asked, folder)
    except BaseError as error:
        hint = "" if model else "; say where it is: `understudy serve model.base=FOLDER`"
        raise BaseError(f"{error}{hint}") from None
    mine = [release for release in current if release.base_identity == base.identity]
    if not mine:
        raise InputError(f"store {store.uri}: {_why_none(current, base)}")
    say(f"starting the engine: {base.name}, {len(mine)} personas")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    # Both sides of what follows need ray; imported by both at once it may be seen half-made.
    importlib.import_module("ray")
    # Ray starts its processes meanwhile; the import takes 6 s of CPU.
    imported = threading.Thread(target=_import_rooms)
    imported.start()
    runtime.start()
    imported.join()
    _deploy(base, store, asked, limits, _largest_rank(mine), _gpus(gpus), host, port, page)
    url = f"http://{_shown(host)}:{port}"
    seconds = time.monotonic() - started
    return Server(url, f"{url}/chat/" if page else None, tuple(release.persona for release in mine), seconds)


def serve(
    recipe: Recipe | None, store_uri: str | None, host: str, port: int, overrides: list[str] | None = None
) -> None:
    """`understudy serve`: run until Ctrl-C or SIGTERM. With a recipe, its store, base and limits; else the store's.

    `overrides` (`model.base=...`, `serve.max_loras=...`) apply where there is no recipe.
    """
    if recipe is None and overrides:
        recipe = _without_recipe(overrides)
        store = Store.open(store_uri or os.environ.get("UNDERSTUDY_STORE") or "./store")
    elif recipe is not None:
        store = Store.open(store_uri) if store_uri else Store.open(recipe.store, Path(recipe.folder or "."))
    else:
        store = Store.open(store_uri or os.environ.get("UNDERSTUDY_STORE") or "./store")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop_once(stopped))
    given: dict[str, Any] = {}
    if recipe is not None:
        given = {"model": recipe.model, "limits": recipe.serve, "folder": Path(recipe.folder or ".")}
        given["gpus"] = recipe.resources.serve.gpus
    server = None
    try:
        server = start(store, **given, host=host, port=port, say=lambda line: print(line, file=sys.stderr, flush=True))
        print(f"ready in {server.seconds:.0f} s: {', '.join(server.personas)}", file=sys.stderr)
        print(f"API   {server.url}/v1\nchat  {server.page}\nCtrl-C stops", flush=True)
        stopped.wait()
    except KeyboardInterrupt:
        print("stopped" if server else "stopped before it was ready", file=sys.stderr)
    finally:
        if server is not None:
            server.stop()
        else:
            runtime.stop()


def free_port(host: str, port: int) -> int:
    """`port` if it can be bound on `host`, or a free one for 0; InputError in one line when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(f"port {port} on {host}: is in use; name another with --port, or --port 0") from None
            raise InputError(f"{host}:{port}: cannot be bound ({error.strerror or error}); name another host") from None
        return probe.getsockname()[1]


def _deploy(
    base: Base,
    store: Store,
    model: ModelConfig,
    limits: ServeConfig,
    rank: int,
    gpus: float,
    host: str,
    port: int,
    page: bool,
) -> None:
    from ray import serve
    from ray.serve.config import HTTPOptions

    from serve.engine import engine_deployment
    from serve.ingress import ingress_deployment

    serve.start(http_options=HTTPOptions(host=host, port=port), logging_config={"log_level": "ERROR"})
    engine = engine_deployment(base, store, model, limits, rank, gpus)
    targets = [serve.RunTarget(ingress_deployment(engine, base, store, page), name=APP, route_prefix="/")]
    if page:
        from serve.pages import page_deployment

        application = page_deployment(f"http://{_shown(host)}:{port}")
        targets.append(serve.RunTarget(application, name=PAGE, route_prefix="/chat"))
    try:
        serve.run_many(targets)
    except RuntimeError as error:
        raise UnderstudyError(f"the engine did not start: {_reason(error)}; its logs are in /tmp/ray") from None


def _import_rooms() -> None:
    """Import ray.serve.llm, and take back what that does to this process's logging."""
    import warnings

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("serve.ingress")
    logging.disable(logging.NOTSET)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in ("ray", "vllm"):
            logging.getLogger(name).setLevel(logging.ERROR)


def _why_none(current: list[Release], base: Base) -> str:
    found = sorted({release.base_name for release in current})
    if not found:
        return "its catalog is empty; run `understudy run RECIPE` first"
    if base.name in found:
        return (
            f"its personas were trained on {base.name} as it was before it changed; run `understudy run RECIPE` again"
        )
    return f"has no persona for base {base.name} (it has some for {', '.join(found)}); run `understudy run RECIPE`"


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _only_base(current: list[Release], store: Store) -> str:
    bases = sorted({release.base_name for release in current})
    if not bases:
        raise InputError(f"store {store.uri}: its catalog is empty; run `understudy run RECIPE` first")
    if len(bases) > 1:
        raise InputError(f"store {store.uri}: has personas of {', '.join(bases)}; choose one with model.base=NAME")
    return bases[0]


def _without_recipe(overrides: list[str]) -> Recipe:
    import tempfile

    from understudy.recipe import load

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "recipe.yaml"
        path.write_text("name: serve\n")
        return load(path, overrides).model_copy(update={"folder": str(Path.cwd())})


def _largest_rank(releases: list[Release]) -> int:
    return max((release.rank or 1 for release in releases), default=1)


def _gpus(asked: float | None) -> float:
    if asked is not None:
        return asked
    import ray

    return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0


def _shown(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _stop_once(stopped: threading.Event) -> None:
    """The first signal ends the wait, or the start if it is still going on."""
    first = not stopped.is_set()
    stopped.set()
    if first:
        raise KeyboardInterrupt

"""The one `ray.init`: a local cluster for this process, or the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy.errors import UnderstudyError
from understudy.telemetry import turn_off_telemetry
from understudy.wording import one_line

TRIES = 3
"""A machine at its limit may take longer to start Ray than Ray waits for itself; the next try finds its files read."""
ROOT = Path(__file__).resolve().parent.parent


def start(num_cpus: int | None = None, dashboard: bool = False) -> None:
    """Connect to Ray; does nothing when this process already is.

    Without RAY_ADDRESS a cluster of this machine is started (`num_cpus`: its size, default all cores); it binds
    loopback addresses, asks for a token, and ends with this process.
    """
    turn_off_telemetry()
    # Workers import the rooms from the same place as this process, installed or not.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(ROOT) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, paths)])
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's default of 15 lets any other program on the machine starve training and serving.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if ray.is_initialized():
        return
    # Ray tells everyone that token authentication is on; that is our default and no news.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    with _own_signals(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        address = os.environ.get("RAY_ADDRESS", "")
        if address and address != "local":
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                said = one_line(error)
                raise UnderstudyError(
                    f"RAY_ADDRESS {address}: cannot be reached ({said}); unset it, or start it"
                ) from None
            return
        for left in reversed(range(TRIES)):
            try:
                _start_local(num_cpus, dashboard)
            except Exception as error:  # noqa: BLE001 - Ray raises a bare Exception when its own 30 s are over
                ray.shutdown()
                if not left:
                    said = one_line(error)
                    raise UnderstudyError(f"Ray did not start: {said}; see /tmp/ray/session_latest/logs") from None
            else:
                return


@contextmanager
def own_errors() -> Iterator[None]:
    """Our own errors come out of tasks and actors as themselves."""
    from ray.exceptions import RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, UnderstudyError):
            raise error.cause from None
        raise


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray answers SIGTERM with handlers of its own (a stack trace, abort, exit 15); afterwards ours count again."""
    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        if mine and handler is not None:
            signal.signal(number, handler)


def _start_local(num_cpus: int | None, dashboard: bool) -> None:
    import ray

    # "local" said outright: without it Ray looks for the last cluster, and after a SIGKILL chases a dead one.
    ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=dashboard,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=512 << 20 if (num_cpus or os.cpu_count() or 1) <= 8 else None,
    )


def stop() -> None:
    """Leave the cluster; a local one ends with it."""
    if "ray" not in sys.modules:
        return
    import ray

    if ray.is_initialized():
        ray.shutdown()


@contextmanager
def running(num_cpus: int | None = None) -> Iterator[None]:
    """Ray for the length of the block; leaves it running when it ran before."""
    import ray

    before = ray.is_initialized()
    start(num_cpus)
    try:
        yield
    finally:
        if not before:
            stop()


def quiet_data() -> None:
    """Ray Data without progress bars and banners; our own lines say what happens."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

"""Nothing phones home: libraries are really started, with a hook in every Python process that sees each look-up."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from understudy.telemetry import TELEMETRY_OFF, turn_off_telemetry

ROOT = Path(__file__).resolve().parent.parent

# Python runs it at the start of every process, children and Ray's too. A datagram socket's connect sends nothing: it
# is how Ray finds this machine's own address.
WATCHER = """
import os, socket, sys

def look(event, arguments):
    if event == "socket.connect":
        sock, address = arguments
        if sock.type & socket.SOCK_DGRAM == socket.SOCK_DGRAM or not isinstance(address, tuple):
            return
        host = address[0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        host = arguments[1][0] if event == "socket.sendto" and isinstance(arguments[1], tuple) else arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host)
    own = {"localhost", "::1", "0.0.0.0", "::", "None", "", socket_name, *own_addresses}
    if not host.startswith("127.") and host not in own:
        with open(os.environ["WATCHED"], "a") as log:
            log.write(f"{event} {host} {sys.argv[:2]}\\n")

socket_name = socket.gethostname()
own_addresses = set(os.environ.get("OWN_ADDRESSES", "").split())
sys.addaudithook(look)
"""

PAGE = """
    import gradio
    with gradio.Blocks() as page:
        gradio.Textbox()
    page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    page.close()
    time.sleep(2)  # analytics are sent from threads
"""

# Ray's dashboard asks the machine's own cloud which one it is; with reports off the answer stays here.
CLOUD_METADATA = ("169.254.169.254", "metadata.google.internal")


def own_address() -> str:
    """The address of this machine as Ray finds it."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 80))
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


def watched(tmp_path: Path, code: str, **environment: str) -> list[str]:
    """The outside addresses that a process and its Python children tried to reach."""
    (tmp_path / "sitecustomize.py").write_text(WATCHER)
    log = tmp_path / "watched.log"
    program = "import os, time\n" + textwrap.dedent(code)
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    inherited = {name: value for name, value in os.environ.items() if name not in TELEMETRY_OFF}
    inherited |= {"PYTHONPATH": paths, "WATCHED": str(log), "OWN_ADDRESSES": own_address(), **environment}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=inherited, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return log.read_text().splitlines() if log.exists() else []


def test_turning_off_wins_over_what_the_environment_said(monkeypatch: pytest.MonkeyPatch):
    for name in TELEMETRY_OFF:
        monkeypatch.setenv(name, "something else")
    turn_off_telemetry()
    assert {name: os.environ[name] for name in TELEMETRY_OFF} == TELEMETRY_OFF


def test_the_watcher_sees_gradio_phone_home_when_nothing_is_turned_off(tmp_path: Path):
    seen = watched(tmp_path, PAGE, GRADIO_ANALYTICS_ENABLED="True")
    assert any("gradio" in line for line in seen), "the watcher sees nothing, so the tests beside it prove nothing"


def test_libraries_started_by_us_reach_no_outside_address(tmp_path: Path):
    code = "from understudy.telemetry import turn_off_telemetry\nturn_off_telemetry()\n" + textwrap.dedent(PAGE)
    flags = """
    import ray, transformers, vllm
    from huggingface_hub import constants
    from ray._common.usage.usage_lib import _usage_stats_report_url, usage_stats_enabled
    from vllm.usage.usage_lib import is_usage_stats_enabled

    assert not usage_stats_enabled() and _usage_stats_report_url().startswith("http://127.0.0.1")
    assert not is_usage_stats_enabled() and constants.HF_HUB_DISABLE_TELEMETRY
    """
    assert watched(tmp_path, code + textwrap.dedent(flags)) == []


@pytest.mark.cluster
def test_a_cluster_of_ours_reaches_no_outside_address_and_its_workers_inherit_the_switches(tmp_path: Path):
    code = """
    import ray
    from cluster import runtime
    from understudy.telemetry import TELEMETRY_OFF

    runtime.start(num_cpus=1, dashboard=True)

    @ray.remote
    def switches():
        return {name: os.environ.get(name) for name in TELEMETRY_OFF}

    assert ray.get(switches.remote()) == TELEMETRY_OFF
    time.sleep(6)  # the dashboard reports usage soon after its start where it is on
    runtime.stop()
    """
    seen = watched(tmp_path, code)
    assert [line for line in seen if line.split()[1] not in CLOUD_METADATA] == []

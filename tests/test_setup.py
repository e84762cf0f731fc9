"""The set-up refuses what it cannot use in one line, and the locks say all that a machine needs and no more."""

from __future__ import annotations

import platform
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {kind: ROOT / "requirements" / f"lock-{kind}.txt" for kind in ("cpu", "cuda")}
PYTHON_3_10 = "#!/bin/sh\necho 3 10\n"
PYTHON_3_12 = "#!/bin/sh\necho 3 12\n"


def set_up(checkout: Path, programs: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installer of a checkout without .venv, with nothing on the PATH but `programs`."""
    shutil.copytree(ROOT / "requirements", checkout / "requirements")
    path = checkout / "bin"
    path.mkdir()
    for name, text in programs.items():
        (path / name).write_text(text)
        (path / name).chmod(0o755)
    command = [sys.executable, str(checkout / "requirements" / "install.py")]
    done = subprocess.run(command, env={"PATH": str(path), **environment}, capture_output=True, text=True)
    assert not (checkout / ".venv").exists()
    return done


@pytest.mark.parametrize(
    ("programs", "environment", "words"),
    [
        ({"g++": "", "python3": PYTHON_3_10}, {}, "no Python 3.11, 3.12 or 3.13 here (python3 is 3.10)"),
        ({"g++": "", "python3": PYTHON_3_12}, {"PYTHON": "/nowhere/python3"}, "/nowhere/python3 does not run"),
        ({"python3": PYTHON_3_12}, {}, "apt install g++"),
        ({"g++": "", "python3": PYTHON_3_12}, {"KIND": "tpu"}, "KIND=tpu is neither cpu nor cuda"),
    ],
)
def test_what_a_machine_lacks_is_one_line_and_exit_2(
    tmp_path: Path, programs: dict[str, str], environment: dict[str, str], words: str
):
    done = set_up(tmp_path, programs, **environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [("machine", "riscv64", "needs Linux or WSL2 on x86_64"), ("libc_ver", ("", ""), "torch needs glibc 2.28")],
)
def test_a_platform_without_wheels_is_refused(
    monkeypatch: pytest.MonkeyPatch, attribute: str, value: str | tuple[str, str], words: str
):
    monkeypatch.setattr(platform, attribute, lambda: value)
    installer = runpy.run_path(str(ROOT / "requirements" / "install.py"))
    with pytest.raises(installer["SetupError"], match=words):
        installer["check_machine"]()


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock_pins_everything_names_no_index_and_keeps_out_what_breaks_a_cpu_torch(kind: str):
    lines = [line for line in LOCKS[kind].read_text().splitlines() if not line.startswith("#")]
    assert all(re.match(r"[a-z0-9-]+==\S+( ; .*)?$", line) for line in lines)
    names = {line.split("==")[0] for line in lines}
    assert not names & {"torchvision", "torchaudio", "torchcodec"}
    assert bool([name for name in names if name.startswith("nvidia-")]) == (kind == "cuda")


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock_holds_every_dependency_of_the_project_in_a_version_that_it_accepts(kind: str):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    locked = {}
    for line in LOCKS[kind].read_text().splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            locked[requirement.name] = str(requirement.specifier).removeprefix("==")
    for text in project["dependencies"] + extras[kind] + extras["dev"]:
        requirement = Requirement(text)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier.contains(locked[name]), f"{name}: make lock"


@pytest.mark.parametrize(
    ("smi", "kind", "words"),
    [
        ("#!/bin/sh\necho 580.95.05\n", "cuda", "580.95.05"),
        ("#!/bin/sh\necho 550.54.15\n", "cpu", "older than 580"),
        ("#!/bin/sh\necho driver not loaded >&2\nexit 9\n", "cpu", "no NVIDIA driver"),
    ],
)
def test_the_driver_decides_between_the_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smi: str, kind: str, words: str
):
    (tmp_path / "nvidia-smi").write_text(smi)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KIND", raising=False)
    chosen, why = runpy.run_path(str(ROOT / "requirements" / "install.py"))["kind_of_machine"]()
    assert (chosen, words in why) == (kind, True)


def test_a_package_that_was_cut_short_is_forgotten_so_that_pip_unpacks_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    packages = tmp_path / ".venv" / "lib" / "python3.12" / "site-packages"
    for name in ("whole-1.0.dist-info", "cut-1.0.dist-info"):
        (packages / name).mkdir(parents=True)
        (packages / name / "METADATA").touch()
    (packages / "whole-1.0.dist-info" / "INSTALLER").write_text("pip\n")
    drop_cut_short = runpy.run_path(str(ROOT / "requirements" / "install.py"))["drop_cut_short"]
    monkeypatch.setitem(drop_cut_short.__globals__, "VENV", tmp_path / ".venv")
    drop_cut_short()
    assert [path.name for path in packages.iterdir()] == ["whole-1.0.dist-info"]

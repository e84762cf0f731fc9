"""The doctor finds what is wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from understudy import doctor
from understudy.telemetry import turn_off_telemetry

H200 = "NVIDIA H200, 580.95.05, 9.0, 143771 MiB"
LOCK = "ray==2.60.0\ntorch==2.13.0+cpu\naudioop-lts==1.0 ; python_version == '3.99'\n"


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    (tmp_path / "lock-cpu.txt").write_text(LOCK)
    return tmp_path


def test_this_machine_passes_and_the_report_is_one_json_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    turn_off_telemetry()
    code = doctor.run_doctor(str(tmp_path / "store"), as_json=True)
    report = json.loads(capsys.readouterr().out)
    failed = [check for check in report["checks"] if check["status"] == "fail"]
    assert (code, report["ok"], failed) == (0, True, [])
    assert {"python", "packages", "gpu", "store", "port 8000"} <= {check["name"] for check in report["checks"]}


def test_a_failed_check_is_one_line_with_what_to_do_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").touch()
    assert doctor.run_doctor(str(tmp_path / "file")) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fail")]
    assert len(lines) == 1
    assert "is a file" in lines[0]


def test_a_home_that_is_nobodys_is_a_failed_check(capsys: pytest.CaptureFixture[str]):
    assert doctor.run_doctor("~nosuchuser/store") == 1
    assert "no home folder ~nosuchuser" in capsys.readouterr().out


def test_the_store_check_leaves_nothing_behind_and_keeps_what_was_there(tmp_path: Path):
    assert doctor.check_store(str(tmp_path / "a" / "b")).status == "ok"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "store" / "doctor").mkdir(parents=True)
    (tmp_path / "store" / "doctor" / "mine").write_text("kept")
    assert doctor.check_store(str(tmp_path / "store")).status == "ok"
    assert [path.name for path in (tmp_path / "store" / "doctor").iterdir()] == ["mine"]


def test_packages_are_compared_with_the_lock_of_this_python_and_processor(locks: Path):
    whole = {"ray": "2.60.0", "torch": "2.13.0+cpu"}
    assert doctor.check_packages(whole, locks).status == "ok"
    assert "missing: torch" in doctor.check_packages({"ray": "2.60.0"}, locks).found
    assert "ray 2.59.0 (lock: 2.60.0)" in doctor.check_packages({**whole, "ray": "2.59.0"}, locks).found
    assert doctor.check_packages({**whole, "torchvision": "0.28.0"}, locks).status == "fail"


@pytest.mark.parametrize(
    ("cuda_packages", "lines", "status", "word"),
    [
        (False, None, "ok", "no NVIDIA GPU"),
        (True, None, "fail", "no NVIDIA driver"),
        (True, [H200], "ok", "capability 9.0"),
        (False, [H200], "warn", "CPU packages"),
        (True, [H200.replace("580.95", "550.54")], "fail", "driver 550.54"),
        (True, ["Tesla P100, 580.95.05, 6.0, 16384 MiB"], "fail", "capability 6.0"),
        (True, [H200.replace("9.0", "[N/A]")], "warn", "[N/A]"),
        (False, [H200.replace("580.95.05", "[N/A]")], "warn", "[N/A]"),
        (True, ["NVIDIA H200, 580.95.05"], "warn", "tells too little"),
    ],
)
def test_gpu_driver_and_capability_are_judged_for_the_installed_build(
    cuda_packages: bool, lines: list[str] | None, status: str, word: str
):
    check = doctor.check_gpu(cuda_packages, lines)
    assert (check.status, word in check.found) == (status, True)


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert doctor.check_port(port, "serve").status == "warn"
    assert doctor.check_port(port, "serve").status == "ok"


def test_telemetry_that_someone_turned_on_fails(monkeypatch: pytest.MonkeyPatch):
    turn_off_telemetry()
    assert doctor.check_telemetry().status == "ok"
    monkeypatch.setitem(os.environ, "VLLM_NO_USAGE_STATS", "0")
    assert "VLLM_NO_USAGE_STATS" in doctor.check_telemetry().found

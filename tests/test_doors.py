"""Which room may import which, read from the source; and that the front door opens at once."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOORS = {
    "understudy": set(),
    "cluster": {"understudy"},
    "jobs": {"understudy", "cluster"},
    "raytune": {"understudy", "cluster", "jobs"},
    "serve": {"understudy", "cluster"},
}
FRONT_DOOR = Path("understudy/cli")
HEAVY = {"ray", "torch", "transformers", "vllm", "peft", "deepspeed", "accelerate", "bitsandbytes"}
SLOW_TO_START = HEAVY | {"pyarrow", "obstore", "numpy", "gradio", "openai", "huggingface_hub", "matplotlib", "pandas"}

# The modules that compute with torch themselves; a new one is a decision, so it is written down here.
TORCH = {
    "jobs/base_model.py",
    "jobs/evaluate.py",
    "jobs/likelihood.py",
    "jobs/peft_folder.py",
    "jobs/lora_stack.py",
    "jobs/slot_host.py",
    "jobs/plan_steps.py",
    "jobs/slots.py",
    "jobs/tiny.py",
    "serve/lora_cpu.py",
}
SERVE_LLM = {"serve/engine.py", "serve/ingress.py"}


class Import(NamedTuple):
    """One import statement's target and where it stands."""

    path: Path
    line: int
    module: str
    inside: bool
    """Inside a function: it happens when that function runs."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def sources() -> list[Path]:
    return sorted(path.relative_to(ROOT) for room in DOORS for path in (ROOT / room).rglob("*.py"))


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a file, those of functions and of TYPE_CHECKING blocks too; `from a import b` gives a and a.b."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import; name the room"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (Import(path, node.lineno, name, id(node) in inside) for name in names)


def everywhere() -> list[Import]:
    return [found for path in sources() for found in imports_of(path)]


def top(module: str) -> str:
    return module.split(".", 1)[0]


def named(wrong: list[Import]) -> str:
    return "\n".join(sorted({str(found) for found in wrong}))


def test_no_room_imports_a_room_that_it_has_no_door_to():
    wrong = [
        found
        for found in everywhere()
        if top(found.module) in DOORS
        and top(found.module) not in DOORS[found.path.parts[0]] | {found.path.parts[0]}
        and not (found.path.is_relative_to(FRONT_DOOR) and found.inside)
    ]
    assert not wrong, named(wrong)


def test_the_core_imports_no_heavy_library_even_inside_functions():
    wrong = [found for found in everywhere() if found.path.parts[0] == "understudy" and top(found.module) in HEAVY]
    assert not wrong, named(wrong)


def test_torch_is_imported_only_where_it_computes():
    wrong = [found for found in everywhere() if top(found.module) == "torch" and str(found.path) not in TORCH]
    assert not wrong, named(wrong)


def test_ray_serve_llm_is_imported_only_by_the_engine_and_the_ingress():
    wrong = [
        found
        for found in everywhere()
        if (found.module + ".").startswith(("ray.serve.llm.", "ray.llm.")) and str(found.path) not in SERVE_LLM
    ]
    assert not wrong, named(wrong)


def test_ray_is_started_in_one_place():
    calls = [
        str(path)
        for path in sources()
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("ray.init", "init")
    ]
    assert set(calls) == {"cluster/runtime.py"}


def test_every_room_is_a_package_and_travels_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(DOORS)
    assert all((ROOT / room / "__init__.py").exists() for room in DOORS)


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh process holds after running `code`."""
    program = f"import sys, json\n{code}\nprint('\\n' + json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["recipe", "--help"], ["catalog", "--help"]])
def test_help_loads_nothing_slow(arguments: list[str]):
    loaded = loaded_after(f"from understudy.cli import run\nassert run({arguments}) == 0")
    assert not loaded & SLOW_TO_START


def test_importing_the_whole_core_loads_nothing_heavy():
    modules = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in sources()
        if path.parts[0] == "understudy" and path.name != "__main__.py"
    ]
    assert not loaded_after(f"import {', '.join(modules)}") & HEAVY

"""Adapter versions: what is sealed verifies, and nothing else does."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest

from tests.adapters import make_adapter
from understudy.adapter import MANIFEST_NAME, seal, verify
from understudy.errors import AdapterError

BASE = "sha256:" + "a" * 64


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = make_adapter(tmp_path / "adam", seed=1)
    seal(
        folder, persona="adam", base_name="builtin:tiny", base_identity=BASE, template_kwargs={"enable_thinking": False}
    )
    return folder


def test_sealed_folder_verifies_and_keeps_what_serving_needs(sealed: Path):
    manifest = verify(sealed, base_identity=BASE, max_rank=8)
    assert (manifest.persona, manifest.rank, manifest.alpha) == ("adam", 4, 8.0)
    assert manifest.template_kwargs == {"enable_thinking": False}
    assert manifest.target_modules == ("q_proj", "v_proj")


def test_version_follows_weights_and_base_and_not_the_order_of_modules(tmp_path: Path):
    def version(name: str, seed: int, base: str, reverse: bool = False) -> str:
        folder = make_adapter(tmp_path / name, seed=seed)
        if reverse:
            config = json.loads((folder / "adapter_config.json").read_text())
            config["target_modules"].reverse()
            (folder / "adapter_config.json").write_text(json.dumps(config))
        return seal(folder, persona="adam", base_name="b", base_identity=base).version

    first = version("a", 1, BASE)
    assert first == version("b", 1, BASE, reverse=True)
    assert len({first, version("c", 2, BASE), version("d", 1, "other")}) == 3


def test_sealing_removes_the_machine_path_and_the_model_card(tmp_path: Path):
    folder = make_adapter(tmp_path / "adam", seed=1, base_name="/home/somebody/models/tiny")
    (folder / "README.md").write_text("card")
    seal(folder, persona="adam", base_name="tiny", base_identity=BASE)
    assert "/home/somebody" not in "".join(p.read_text() for p in folder.glob("*.json"))
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_any_flipped_byte_is_found_and_the_file_named(sealed: Path, name: str):
    data = (sealed / name).read_bytes()
    for position in range(0, len(data), max(1, len(data) // 40)):
        flipped = bytearray(data)
        flipped[position] ^= 1
        (sealed / name).write_bytes(flipped)
        with pytest.raises(AdapterError, match=name):
            verify(sealed)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", MANIFEST_NAME])
def test_a_missing_file_is_named(sealed: Path, name: str):
    (sealed / name).unlink()
    with pytest.raises(AdapterError, match=name):
        verify(sealed)


def test_extra_files_and_pickles_are_refused(sealed: Path):
    (sealed / "adapter_model.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(AdapterError, match=r"adapter_model\.bin"):
        verify(sealed)


def test_a_pickle_named_safetensors_is_refused_when_sealed(tmp_path: Path):
    folder = make_adapter(tmp_path / "adam", seed=1)
    (folder / "adapter_model.safetensors").write_bytes(pickle.dumps({"a": list(range(100))}))
    with pytest.raises(AdapterError, match="not a safetensors file"):
        seal(folder, persona="adam", base_name="b", base_identity=BASE)


def test_a_symlink_is_not_followed(sealed: Path, tmp_path: Path):
    weights = sealed / "adapter_model.safetensors"
    shutil.move(weights, tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AdapterError, match="adapter_model"):
        verify(sealed)


def test_wrong_base_wrong_version_and_too_large_rank_are_told_apart(sealed: Path):
    with pytest.raises(AdapterError, match="made for base builtin:tiny"):
        verify(sealed, base_identity="sha256:" + "b" * 64)
    with pytest.raises(AdapterError, match="asked for"):
        verify(sealed, expect_version="v" + "0" * 16)
    with pytest.raises(AdapterError, match="rank 4, the engine takes at most 2"):
        verify(sealed, max_rank=2)


@pytest.mark.parametrize("setting", [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}])
def test_settings_that_vllm_would_ignore_are_refused(tmp_path: Path, setting: dict):
    folder = make_adapter(tmp_path / "adam", seed=1)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **setting}))
    with pytest.raises(AdapterError, match=next(iter(setting))):
        seal(folder, persona="adam", base_name="b", base_identity=BASE)


def test_a_manifest_of_a_later_schema_is_refused_in_one_line(sealed: Path):
    manifest = json.loads((sealed / MANIFEST_NAME).read_text())
    (sealed / MANIFEST_NAME).write_text(json.dumps({**manifest, "schema_version": 99}))
    with pytest.raises(AdapterError, match="schema_version 99, newer than 1") as caught:
        verify(sealed)
    assert "\n" not in str(caught.value)

"""Bases: identity over what shapes the model, and one line for what cannot be loaded."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import pytest

from tests.bases import make_random_base
from understudy import base as base_module
from understudy.base import resolve, source_of
from understudy.errors import BaseError
from understudy.recipe import ModelConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_random_base(tmp_path_factory.mktemp("base") / "one")


def test_identity_follows_weights_config_and_tokenizer_and_nothing_else(folder, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    base = resolve(ModelConfig(base=str(folder)))
    assert resolve(ModelConfig(base="elsewhere", source="path"), tmp_path).identity == base.identity
    (copy / "README.md").write_text("hello")
    assert resolve(ModelConfig(base=str(copy))).identity == base.identity
    for name in ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before + b" ")
        assert resolve(ModelConfig(base=str(copy))).identity != base.identity
        (copy / name).write_bytes(before)
    assert resolve(ModelConfig(base=str(copy))).identity == base.identity


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"base": "builtin:big"}, "the one embedded base is builtin:tiny"),
        ({"base": "/nowhere/at/all"}, "is no folder"),
        ({"base": "some/model"}, "hub"),
        ({"base": "s3://", "source": "s3"}, "names no bucket"),
        ({"base": "~nosuchuser/base"}, "no home folder ~nosuchuser"),
    ],
)
def test_a_base_that_cannot_be_had_is_one_line(config, words, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(Exception, match=".") as caught:
        resolve(ModelConfig(**config))
    assert getattr(caught.value, "exit_code", None) == 2
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_not_a_base(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(BaseError, match=r"no \*\.safetensors"):
        resolve(ModelConfig(base=str(tmp_path)))


def test_the_served_name_has_no_colon_and_no_path(folder):
    assert resolve(ModelConfig(base=str(folder))).served_name == folder.name


def test_a_base_in_a_bucket_that_changes_is_fetched_anew_and_only_what_it_is_made_of(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    bucket = Path(shutil.copytree(folder, tmp_path / "bucket"))
    (bucket / "sub").mkdir()
    (bucket / "sub" / "x.safetensors").write_bytes(b"another")
    config = ModelConfig(base=str(bucket), source="s3")
    first = resolve(config)
    assert first.identity == resolve(ModelConfig(base=str(folder))).identity
    assert not (first.path / "sub").exists()
    assert resolve(config) == first
    (bucket / "chat_template.jinja").write_text("{{ messages }}")
    again = resolve(config)
    assert again.identity == resolve(ModelConfig(base=str(bucket))).identity != first.identity
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_code_that_comes_with_a_base_counts_only_where_it_is_trusted(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    plain, trusted = ModelConfig(base=str(copy)), ModelConfig(base=str(copy), trust_remote_code=True)
    before = resolve(plain).identity
    assert resolve(trusted).identity == before
    (copy / "modeling_own.py").write_text("x = 1")
    assert resolve(plain).identity == before != resolve(trusted).identity
    assert "*.py" in base_module._hub_files(trusted)
    assert "*.py" not in base_module._hub_files(plain)
    for name in ("vocab.txt", "qwen.tiktoken"):
        known = resolve(plain).identity
        (copy / name).write_text("a")
        assert resolve(plain).identity != known


def test_a_damaged_note_of_a_digest_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    big = tmp_path / "big.safetensors"
    with big.open("wb") as file:
        file.truncate(65 << 20)
    digest = base_module._remembered_digest(big)
    [note] = (tmp_path / "cache" / "digests").iterdir()
    assert note.read_text() == digest
    for damaged in ("", digest[:10]):
        note.write_text(damaged)
        assert base_module._remembered_digest(big) == digest
        assert note.read_text() == digest


def test_what_modelscope_says_is_one_line(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise LookupError("no such\nmodel")

    module = types.ModuleType("modelscope")
    module.snapshot_download = refuse
    monkeypatch.setitem(sys.modules, "modelscope", module)
    with pytest.raises(BaseError, match="ModelScope says: no such model;"):
        resolve(ModelConfig(base="a/b", source="modelscope"))


def test_a_base_that_is_meant_as_a_folder_is_known_as_one(tmp_path):
    (tmp_path / "mine" / "base").mkdir(parents=True)
    for name, source in (
        ("builtin:tiny", "builtin"), ("./missing", "path"), ("gone", "path"), ("mine/base", "path"),
        ("Qwen/Qwen3-8B", "hf"), ("s3://bucket/base", "s3"),
    ):  # fmt: skip
        assert source_of(ModelConfig(base=name), tmp_path) == source

"""Bases: identity over what shapes the model, and one line for what cannot be loaded."""

from __future__ import annotations

import shutil

import pytest

from tests.bases import make_random_base
from understudy.base import resolve
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

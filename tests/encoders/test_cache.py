import json
import shutil
from collections import namedtuple

import jax
import numpy as np
import pytest

from textfuse_jax.data.packing import assemble, plan
from textfuse_jax.data.tokenize import encode
from textfuse_jax.encoders.architecture import scratch
from textfuse_jax.encoders.cache import extract
from textfuse_jax.encoders.encoder import Encoder
from textfuse_jax.encoders.tokenizers import train_wordpiece

TEXTS = [
    "The cat sat on the mat, and the dog ran. It was late (very late); nobody cared at all about it.",
    "",
    "One short text.",
    "A much longer document: it goes on, and on, and on. It needs windows. " * 4,
]
TAPS = ("01/phrase", "02/document", "02/token", "00/sentence")


@pytest.fixture(scope="module")
def setting():
    tokenizer = train_wordpiece(TEXTS, 120)
    encoded = encode(TEXTS, tokenizer, max_length=32, long_documents="windows", progress=False)
    encoder = Encoder(scratch(120, width=8, layers=2, heads=2, max_length=32), TAPS)
    once = plan(encoded, row_lengths=(32, 48), tokens_per_batch=96)
    labels = np.zeros(len(TEXTS), np.int32)
    batch = lambda b, **kwargs: assemble(encoded, labels, once, b, **kwargs)  # noqa: E731
    params = jax.jit(lambda: encoder.init(jax.random.key(0), batch(0), train=False))()
    forward = jax.jit(lambda rows: encoder.apply(params, rows, train=False)[0])
    calls = []

    def apply(rows):
        calls.append(1)
        return forward(rows)

    pieces = [once.pieces[a:b] for a, b in zip(once.bounds[:-1], once.bounds[1:])]

    def run(folder, taps=TAPS, **kwargs):
        calls.clear()
        kwargs = {"encoder": "e", "width": 8, "progress": False} | kwargs
        found = extract(folder, apply, map(batch, range(once.batches)), pieces, encoded, taps, **kwargs)
        return found, len(calls)

    return namedtuple("Setting", "run batch apply plan")(run, batch, apply, once)


def test_stored_features_fill_any_batch_as_the_encoder_does(setting, tmp_path):
    features, computed = setting.run(tmp_path / "train")
    assert computed == setting.plan.batches > 1
    for b in range(setting.plan.batches):
        rows = setting.batch(b, features=features)
        for tap, expected in setting.apply(rows).items():
            np.testing.assert_allclose(rows.features[tap], expected, atol=1e-5)


def test_made_once_and_made_anew_when_the_key_changes(setting, tmp_path):
    first, computed = setting.run(tmp_path / "train")
    assert computed
    again, computed = setting.run(tmp_path / "train", taps=TAPS[:2])
    assert not computed and set(again) == set(TAPS[:2])
    np.testing.assert_array_equal(first["02/document"], again["02/document"])
    assert setting.run(tmp_path / "train", encoder="other")[1]
    half, computed = setting.run(tmp_path / "train", encoder="other", precision="float16")
    assert computed and half["02/token"].dtype == np.float16
    (tmp_path / "train" / "manifest.json").unlink()
    assert setting.run(tmp_path / "train")[1]
    assert [path.name for path in tmp_path.iterdir()] == ["train"]
    assert json.loads((tmp_path / "train" / "manifest.json").read_text())["taps"] == sorted(TAPS)


def test_an_interruption_leaves_nothing_behind(setting, tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        extract_with = setting.run
        monkeypatch.setattr("textfuse_jax.encoders.cache.units_of", lambda *_: 1 // 0)
        extract_with(tmp_path / "train")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_anything_is_computed(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(1000))
    with pytest.raises(OSError, match=r"the features need 0.00 GB.*use precision float16"):
        setting.run(tmp_path / "train")
    with pytest.raises(ValueError, match="precision must be one of float16, float32, got 'int8'"):
        setting.run(tmp_path / "train", precision="int8")

import json
import shutil
import subprocess
import sys
from collections import namedtuple

import jax
import numpy as np
import pytest

from tests.launching import ROOT, environment
from textfuse_jax.data.packing import assemble, plan
from textfuse_jax.data.tokenize import encode
from textfuse_jax.encoders import cache
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


def make_setting():
    """A small encoder and texts; ``run(folder, ...)`` gives the features and how many batches were computed."""
    tokenizer = train_wordpiece(TEXTS, 120)
    encoded = encode(TEXTS, tokenizer, max_length=32, long_documents="windows", progress=False)
    encoder = Encoder(scratch(120, width=8, layers=2, heads=2, max_length=32), TAPS)
    once = plan(encoded, row_lengths=(32, 48), tokens_per_batch=48)
    labels = np.zeros(len(TEXTS), np.int32)
    batch = lambda b, **kwargs: assemble(encoded, labels, once, b, **kwargs)  # noqa: E731
    params = jax.jit(lambda: encoder.init(jax.random.key(0), batch(0), train=False))()
    forward = jax.jit(lambda rows: encoder.apply(params, rows, train=False)[0])
    calls = []

    def apply(rows):
        calls.append(1)
        return forward(rows)

    pieces = [once.pieces[a:b] for a, b in zip(once.bounds[:-1], once.bounds[1:])]

    def run(folder, taps=TAPS, apply=apply, drop=False, **kwargs):
        calls.clear()
        kwargs = {"encoder": "e", "width": 8, "progress": False, "say": lambda _: None} | kwargs
        found = extract(folder, apply, batch, pieces[: -1 if drop else None], encoded, taps, **kwargs)
        return found, len(calls)

    return namedtuple("Setting", "run batch apply plan")(run, batch, apply, once)


@pytest.fixture(scope="module")
def setting():
    return make_setting()


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
    assert json.loads((tmp_path / "train" / "manifest.json").read_text())["crc32"].keys() == set(TAPS)
    assert not (tmp_path / "train" / "journal.jsonl").exists()


def test_taps_of_another_model_join_the_folder(setting, tmp_path):
    whole, batches = setting.run(tmp_path / "whole")
    assert setting.run(tmp_path / "train", taps=TAPS[:2])[1] == batches
    assert setting.run(tmp_path / "train", taps=TAPS[1:])[1] == batches  # two of the three are new
    features, computed = setting.run(tmp_path / "train")
    assert computed == 0
    for tap in TAPS:
        np.testing.assert_array_equal(features[tap], whole[tap])


def test_a_killed_extraction_goes_on_where_it_was(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FLUSH_EVERY", 1)
    whole, batches = setting.run(tmp_path / "whole")
    code = f"""
import os
from tests.encoders import test_cache
from textfuse_jax.encoders import cache
cache.FLUSH_EVERY, batches = 1, [0]
setting = test_cache.make_setting()
def apply(rows, plain=setting.apply):
    batches[0] += 1
    if batches[0] == 3:
        os.kill(os.getpid(), 9)
    return plain(rows)
setting.run({str(tmp_path / "killed")!r}, apply=apply, together=1)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert killed.returncode == -9, killed.stderr
    with (tmp_path / "killed" / "journal.jsonl").open("a") as journal:
        journal.write('{"done": [')  # cut in the middle
    features, computed = setting.run(tmp_path / "killed")
    assert batches > 2 and batches - 2 <= computed < batches  # the first was stored, the second perhaps
    for tap in TAPS:
        np.testing.assert_allclose(features[tap], whole[tap], atol=1e-6)


def test_a_flipped_bit_is_found_and_mended(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 256)
    whole, batches = setting.run(tmp_path / "train")
    path = tmp_path / "train" / "02_token.npy"
    for position in (path.stat().st_size - 40, 700, 10):  # the last also hits the header
        data = bytearray(path.read_bytes())
        data[position] ^= 4
        path.write_bytes(data)
        said = []
        features, computed = setting.run(tmp_path / "train", say=said.append)
        assert "damaged" in said[0] and 0 < computed <= batches
        for tap in TAPS:
            np.testing.assert_allclose(features[tap], whole[tap], atol=1e-6)
    assert computed == batches
    assert setting.run(tmp_path / "train")[1] == 0


def test_batches_that_miss_a_piece_are_refused(setting, tmp_path):
    with pytest.raises(ValueError, match="is in 0 batches, must be in one"):
        setting.run(tmp_path / "train", drop=True)


def test_arrays_without_batches_hold_nothing_of_the_disk_yet(setting, tmp_path):
    sizes = {tap: values.shape[0] for tap, values in setting.run(tmp_path / "whole")[0].items()}
    encoded = namedtuple("Encoded", "unit_bounds")(lambda scale: [sizes[next(tap for tap in TAPS if scale in tap)]])
    lacking = lambda folder: cache.bytes_lacking(folder, encoded, TAPS, 8, "float32")  # noqa: E731
    assert lacking(tmp_path / "none") == sum(4 * 8 * size for size in sizes.values())
    assert lacking(tmp_path / "whole") == 0
    (tmp_path / "sparse").mkdir()
    for tap in TAPS:
        np.lib.format.open_memmap(tmp_path / "sparse" / cache._file(tap), "w+", np.float32, (1 << 20, 8))
    sizes = dict.fromkeys(TAPS, 1 << 20)
    assert lacking(tmp_path / "sparse") > len(TAPS) * 30 << 20  # all but the headers of 32 MiB each


def test_a_full_disk_is_told_before_anything_is_computed(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(1000))
    with pytest.raises(OSError, match=r"the features need 0.00 GB.*use precision float16"):
        setting.run(tmp_path / "train")
    with pytest.raises(ValueError, match="precision must be one of float16, float32, got 'int8'"):
        setting.run(tmp_path / "train", precision="int8")

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.encoding_contenders import BATCH, padded_batches, require
from experiments.encoding_costs import forward_flop, slope
from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.encoders.transformer import Transformer


@pytest.mark.parametrize("length", [64, 256])
def test_operations_are_those_xla_counts(length):
    """XLA counts element-wise operations too: some percent."""
    a = Architecture("bert", vocabulary=50, width=384, layers=2, heads=12, feed_forward=1536, positions=512)
    model, shape = Transformer(a), jnp.zeros((3, length), jnp.int32)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), shape, shape, shape, 1, train=False))
    forward = jax.jit(lambda p: model.apply(p, shape, shape, shape, 1, train=False)[0])
    counted = forward.lower(params).cost_analysis()["flops"]
    assert 0.95 < forward_flop(a, np.full(3, length)) / counted <= 1


def test_batches_hold_every_text_once_with_its_tokens():
    class Tokenizer:
        pad_token_id = 9

        def __call__(self, texts, truncation, max_length):
            return {"input_ids": [[ord(c) for c in text[:max_length]] for text in texts]}

    texts = [chr(65 + i % 26) * (1 + i * 7 % 20) for i in range(BATCH + 5)]
    for by_length in (False, True):
        found = {}
        for index, ids, mask in padded_batches(Tokenizer(), texts, 12, by_length):
            assert ids.shape == mask.shape and mask.sum(1).max() == mask.shape[1]
            assert (ids[mask == 0] == 9).all()
            found |= {int(i): "".join(map(chr, row[m > 0])) for i, row, m in zip(index, ids, mask)}
        assert [found[i] for i in range(len(texts))] == [text[:12] for text in texts]


def test_what_is_missing_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"requirements-benchmarks.txt, or give --without=onnx"):
        require(["sentence_transformers"])
    with pytest.raises(SystemExit, match=r"--without knows onnx, sentence_transformers, got onxx"):
        require(["onxx"])
    require(["onnx", "sentence_transformers"])


def test_slope_is_the_exponent():
    x = np.array([1, 2, 4, 8])
    assert slope(x, 3 * x**1.5) == pytest.approx(1.5)

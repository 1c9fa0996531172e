"""The head by hand; float32 logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.fake import init
from textfuse_jax.models.head import Head, PerClassMix


def test_linear_by_hand():
    params = {"params": {"logits": {"kernel": jnp.array([[1.0, 2], [3, 4]]), "bias": jnp.array([10.0, 20])}}}
    logits, out = Head(2).apply(params, jnp.array([[[1.0, 1]]]), train=False)
    np.testing.assert_array_equal(logits, [[[14, 26]]])
    assert out == {}


def test_hidden_by_hand():
    params = {
        "hidden": {"kernel": jnp.array([[1.0, -1]]), "bias": jnp.array([0.0, 1])},
        "logits": {"kernel": jnp.array([[1.0], [10]]), "bias": jnp.zeros(1)},
    }
    logits, _ = Head(1, hidden=2, activation="relu").apply({"params": params}, jnp.array([[[3.0], [-2]]]), train=False)
    np.testing.assert_array_equal(logits, [[[3], [30]]])


def test_logits_are_float32_and_dropout_is_for_training():
    head, z = Head(3, hidden=8, dropout=0.5), jnp.ones((1, 2, 16), jnp.bfloat16)
    params = init(head, z, train=False)
    calm = head.apply(params, z, train=False)[0]
    assert calm.dtype == jnp.float32
    assert (calm != head.apply(params, z, train=True, rngs={"dropout": jax.random.key(1)})[0]).any()


def test_a_mix_for_each_class_by_hand():
    params = {"alpha": jnp.array([0.0, 100.0]), "weight": jnp.array([[1.0, 2.0]]), "bias": jnp.array([0.5, 0.0])}
    logits, out = PerClassMix(2).apply({"params": params}, jnp.array([[[4.0, 8.0]]]), train=False)  # m = 4, a = 8
    np.testing.assert_allclose(logits, [[[0.5 * 4 + 0.5 * 8 + 0.5, 2 * 4]]])
    np.testing.assert_allclose(out["head/alpha"], [0.5, 1.0])
    with pytest.raises(ValueError, match="MeanAndAttention alone, got vectors of odd width 3"):
        PerClassMix(2).init(jax.random.key(0), jnp.ones((1, 1, 3)), train=False)

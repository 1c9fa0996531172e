"""Reductions and gathers: hand-worked numbers, padding, empty segments, gradients that stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.models.fake import document, pack, tokens_of
from textfuse_jax import segments as S

X = jnp.array([[[1.0, -1], [2, -5], [4, -2], [8, 9]]])
IDS = jnp.array([[0, 2, 0, 3]])  # segment 1 is empty, the last item is padding (n = 3)


def test_reductions_by_hand():
    np.testing.assert_array_equal(S.segment_sum(X, IDS, 3), [[[5, -3], [0, 0], [2, -5]]])
    np.testing.assert_array_equal(S.segment_mean(X, IDS, 3), [[[2.5, -1.5], [0, 0], [2, -5]]])
    np.testing.assert_array_equal(S.segment_max(X, IDS, 3), [[[4, -1], [0, 0], [2, -5]]])
    np.testing.assert_array_equal(S.segment_count(IDS, 3), [[2, 0, 1]])


def test_gather_by_hand():
    x = jnp.array([[[1.0], [2], [3]]])
    np.testing.assert_array_equal(S.gather(x, IDS), [[[1], [3], [1], [0]]])
    np.testing.assert_array_equal(S.gather(jnp.array([[7, 8, 9]]), IDS, fill=-1), [[7, 9, 7, -1]])


def test_softmax_by_hand_one_for_each_head():
    logits = jnp.log(jnp.array([[[1.0, 3], [5, 5], [3, 1], [7, 7]]]))
    expected = [[[0.25, 0.75], [1, 1], [0.75, 0.25], [0, 0]]]
    np.testing.assert_allclose(S.segment_softmax(logits, IDS, 3), expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [-jnp.inf, jnp.inf, jnp.nan])
def test_softmax_of_padding_is_zero_whatever_its_logit(bad):
    logits = jnp.zeros((1, 4, 1)).at[0, 3].set(bad)
    value, grad = jax.value_and_grad(lambda x: (S.segment_softmax(x, IDS, 3) ** 2).sum())(logits)
    assert value == 0.25 + 0.25 + 1
    assert jnp.isfinite(grad).all() and grad[0, 3] == 0


def test_softmax_with_masked_items():
    logits = jnp.array([[[-jnp.inf], [-jnp.inf], [2.0], [1e30]]])  # segment 0 keeps one item, segment 2 none
    value, grad = jax.value_and_grad(lambda x: (S.segment_softmax(x, IDS, 3) ** 2).sum())(logits)
    np.testing.assert_array_equal(S.segment_softmax(logits, IDS, 3)[0, :, 0], [0, 0, 1, 0])
    assert value == 1 and jnp.isfinite(grad).all()


def test_softmax_of_large_logits_does_not_overflow():
    logits = jnp.array([[[1e4], [0], [1e4], [0]]])
    np.testing.assert_array_equal(S.segment_softmax(logits, IDS, 3)[0, :, 0], [0.5, 1, 0.5, 0])


def test_a_nan_stays_in_its_segment():
    x = X.at[0, 1].set(jnp.nan)
    np.testing.assert_array_equal(S.segment_mean(x, IDS, 3)[0, 0], [2.5, -1.5])


def test_gradients_by_hand():
    grad = jax.grad(lambda x: (S.segment_mean(x, IDS, 3) * jnp.arange(3.0)[None, :, None]).sum())(X)
    np.testing.assert_array_equal(grad[0, :, 0], [0, 2, 0, 0])
    grad = jax.grad(lambda x: S.segment_max(x, IDS, 3).sum())(X)
    np.testing.assert_array_equal(grad[0], [[0, 1], [1, 1], [1, 0], [0, 0]])
    grad = jax.grad(lambda x: S.gather(x, IDS).sum())(jnp.zeros((1, 3, 1)))
    np.testing.assert_array_equal(grad[0, :, 0], [2, 0, 1])


def test_half_precision_is_added_in_float32():
    ones = jnp.ones((1, 1000, 1), jnp.bfloat16)  # added in bfloat16, 256 + 1 stays 256
    total = S.segment_sum(ones, jnp.zeros((1, 1000), jnp.int32), 1)
    assert total.dtype == jnp.bfloat16 and total[0, 0, 0] == 1000


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.int32, (3, 7), elements=st.integers(0, 4)), st.integers(0, 99))
def test_against_numpy(ids, seed):
    x = np.random.default_rng(seed).normal(size=(3, 7, 2)).astype(np.float32)
    total, highest, share = (f(jnp.asarray(x), jnp.asarray(ids), 4) for f in (S.segment_sum, S.segment_max, S.segment_softmax))
    for row in range(3):
        for segment in range(4):
            items = x[row, ids[row] == segment]
            np.testing.assert_allclose(total[row, segment], items.sum(0), atol=1e-5)
            np.testing.assert_array_equal(highest[row, segment], items.max(0) if len(items) else 0)
            expected = np.exp(items) / np.exp(items).sum(0)
            np.testing.assert_allclose(share[row][ids[row] == segment], expected, atol=1e-6)


def test_scales_of_rows():
    """Two documents: phrases of 2, 1 | 2 tokens in two sentences, and one phrase of 1; [CLS] and [SEP] around each."""
    a, b = document((2, 1), (2,)), document((1,))
    rows = pack([[(a, tokens_of(a)), (b, tokens_of(b))]], t=12, phrases=6, sentences=4, slots=3)
    np.testing.assert_array_equal(S.assignment(rows, "phrase")[0], [6, 0, 0, 1, 2, 2, 6, 6, 3, 6, 6, 6])
    np.testing.assert_array_equal(S.assignment(rows, "sentence")[0], [4, 0, 0, 0, 1, 1, 4, 4, 2, 4, 4, 4])
    np.testing.assert_array_equal(S.assignment(rows, "document")[0], [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 3, 3])
    np.testing.assert_array_equal(S.assignment(rows, "token")[0], [*range(10), 12, 12])
    np.testing.assert_array_equal(S.lift(rows, "phrase", "sentence")[0], [0, 0, 1, 2, 4, 4])
    np.testing.assert_array_equal(S.lift(rows, "phrase", "document")[0], [0, 0, 0, 1, 3, 3])
    np.testing.assert_array_equal(S.lift(rows, "sentence", "document")[0], [0, 0, 1, 3])
    np.testing.assert_array_equal(S.lift(rows, "phrase", "phrase")[0], [0, 1, 2, 3, 6, 6])
    np.testing.assert_array_equal(S.lift(rows, "document", "document")[0], [0, 1, 3])
    np.testing.assert_array_equal(S.lift(rows, "token", "sentence"), S.assignment(rows, "sentence"))
    np.testing.assert_array_equal(S.units_of(rows, "document").document[0], [0, 1, 3])

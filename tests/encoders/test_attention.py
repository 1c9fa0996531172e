import jax
import jax.numpy as jnp
import numpy as np
import pytest

from textfuse_jax.dropout import keep_mask, row_keys
from textfuse_jax.encoders.attention import attention, fused_attention, saliency

DOCUMENT = jnp.array([[0, 0, 0, 1, 1, 2, 4, 4], [0, 0, 0, 0, 0, 0, 0, 0]])  # 4 slots, so 4 is padding
POSITION = jnp.array([[0, 1, 2, 0, 1, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7]])


def _qkv():
    return jax.random.normal(jax.random.key(0), (3, 2, 2, 8, 4))


def _plain(q, k, v, keys=None, rate=0.0):
    same = (DOCUMENT[:, :, None] == DOCUMENT[:, None, :])[:, None]
    weights = jax.nn.softmax(jnp.where(same, jnp.einsum("rhqd,rhkd->rhqk", q, k) / 2, -jnp.inf), axis=-1)
    if rate:
        weights = jnp.where(keep_mask(keys, rate, weights.shape), weights / (1 - rate), 0)
    return jnp.einsum("rhqk,rhkd->rhqd", weights, v)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_value_and_gradients_are_those_of_the_plain_formula(rate):
    q, k, v = _qkv()
    keys = row_keys(jax.random.key(1), 2)
    ours = lambda q, k, v: (attention(q, k, v, DOCUMENT, keys, rate=rate) ** 2).sum()  # noqa: E731
    plain = lambda q, k, v: (_plain(q, k, v, keys, rate) ** 2).sum()  # noqa: E731
    np.testing.assert_allclose(attention(q, k, v, DOCUMENT, keys, rate=rate), _plain(q, k, v, keys, rate), atol=1e-6)
    for a, b in zip(jax.jit(jax.grad(ours, (0, 1, 2)))(q, k, v), jax.jit(jax.grad(plain, (0, 1, 2)))(q, k, v)):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_other_documents_and_padding_have_exactly_no_influence():
    q, k, v = _qkv()
    other = attention(q, k.at[0, :, 3:].set(1e4), v.at[0, :, 3:].set(jnp.nan), DOCUMENT)
    assert not jnp.array_equal(other[0, :, 3:], attention(q, k, v, DOCUMENT)[0, :, 3:])
    poisoned = attention(q, k.at[0, :, 3:].set(1e4), v.at[0, :, 3:].set(1e4), DOCUMENT)
    np.testing.assert_array_equal(poisoned[0, :, :3], attention(q, k, v, DOCUMENT)[0, :, :3])


def test_a_missing_key_is_told():
    with pytest.raises(ValueError, match=r"dropout rate 0.1 needs keys"):
        attention(*_qkv(), DOCUMENT, rate=0.1)


def test_saliency_is_the_first_tokens_attention():
    q, k, _ = _qkv()
    found = saliency(q, k, POSITION, DOCUMENT, 4)
    for row, first, last in ((0, 0, 3), (0, 3, 5), (0, 5, 6), (1, 0, 8)):
        logits = jnp.einsum("hd,hkd->hk", q[row, :, first], k[row, :, first:last]) / 2
        np.testing.assert_allclose(found[row, first:last], jax.nn.softmax(logits, -1).mean(0), atol=1e-6)
    np.testing.assert_array_equal(found[0, 6:], 0)


def test_rounded_operands_stay_rounded_in_the_gradient():
    """Queries, keys and values come as bfloat16 where products do; a cotangent has its primal's dtype."""
    q, k, v = _qkv().astype(jnp.bfloat16)
    square = lambda q, k, v: (attention(q, k, v, DOCUMENT, dtype=jnp.bfloat16) ** 2).sum()  # noqa: E731
    wide = lambda q, k, v: (_plain(q, k, v) ** 2).sum()  # noqa: E731
    narrow = jax.grad(square, (0, 1, 2))(q, k, v)
    for a, b in zip(narrow, jax.grad(wide, (0, 1, 2))(*_qkv())):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.05 * float(jnp.abs(b).max()))
    assert saliency(q, k, POSITION, DOCUMENT, 4).dtype == jnp.float32


def test_the_fused_kernel_is_the_same_attention():
    q, k, v = _qkv()
    fused = lambda q, k, v: fused_attention(q, k, v, DOCUMENT, dtype=jnp.float32, implementation="xla")  # noqa: E731
    np.testing.assert_allclose(fused(q, k, v), _plain(q, k, v), atol=1e-6)
    grads = [jax.grad(lambda *x, f=f: (f(*x) ** 2).sum(), (0, 1, 2))(q, k, v) for f in (fused, _plain)]
    for a, b in zip(*grads):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_cudnn_without_a_gpu_is_told():
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
        fused_attention(*_qkv(), DOCUMENT)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN's kernel needs an NVIDIA GPU")
def test_cudnn_is_the_same_attention():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 2, 8, 32), jnp.bfloat16)
    ours = attention(q, k, v, DOCUMENT, dtype=jnp.bfloat16)
    np.testing.assert_allclose(fused_attention(q, k, v, DOCUMENT).astype(jnp.float32), ours.astype(jnp.float32), atol=2e-2)

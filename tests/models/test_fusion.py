"""Phase 4: each fusion against numbers worked out by hand; posts that aren't selected get W_base h and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from textfuse_jax.models import fusion as F

H = jnp.array([[[1.0, 2.0], [3.0, -1.0]]])
E = jnp.array([[[2.0], [5.0]]])
SELECTED = jnp.array([[True, False]])
BASE = {"kernel": jnp.array([[1.0], [0.5]]), "bias": jnp.array([0.25])}  # W_base h + b = 2.25 and 2.75
AUG = {"kernel": jnp.array([[2.0]]), "bias": jnp.array([-1.0])}  # W_aug e + b = 3 and 9


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def applied(module, params):
    """The features of both posts, and what the fusion puts out."""
    made = jax.tree.map(jnp.shape, module.init(jax.random.key(0), H, E, SELECTED, train=False)["params"])
    assert made == jax.tree.map(jnp.shape, params)
    x, out = module.apply({"params": params}, H, E, SELECTED, train=False)
    return np.asarray(x)[0, :, 0], out


def test_concat():
    joined = {"kernel": jnp.array([[1.0], [1.0], [3.0]]), "bias": jnp.array([0.5])}
    x, _ = applied(F.Concat(width=1), {"base": BASE, "joined": joined})
    np.testing.assert_allclose(x, [1 + 2 + 3 * 2 + 0.5, 2.75], atol=1e-6)


def test_weighted():
    x, out = applied(F.Weighted(width=1), {"base": BASE, "augmented": AUG, "alpha": jnp.array(np.log(3.0), jnp.float32)})
    np.testing.assert_allclose(out["fusion/alpha"], 0.75, atol=1e-6)
    np.testing.assert_allclose(x, [0.75 * 2.25 + 0.25 * 3, 2.75], atol=1e-6)


def test_gated():
    gate = {"kernel": jnp.array([[1.0], [-1.0]]), "bias": jnp.array([0.5])}
    x, out = applied(F.Gated(width=1), {"base": BASE, "augmented": AUG, "gate": gate})
    g = sigmoid(2.25 - 3 + 0.5)
    np.testing.assert_allclose(out["fusion/gate"][0, :, 0], [g, 1], atol=1e-6)
    np.testing.assert_allclose(x, [g * 2.25 + (1 - g) * 3, 2.75], atol=1e-6)


def test_attention():
    x, out = applied(F.Attention(width=1), {"base": BASE, "augmented": AUG, "query": jnp.array([2.0])})
    a, b = 2 * np.tanh(2.25), 2 * np.tanh(3.0)
    beta = np.exp(a) / (np.exp(a) + np.exp(b))
    np.testing.assert_allclose(out["fusion/beta"][0], [beta, 1], atol=1e-6)
    np.testing.assert_allclose(x, [beta * 2.25 + (1 - beta) * 3, 2.75], atol=1e-6)


def test_concat_joins_768_and_384_to_1152():
    """BERT-base's features beside MiniLM's, as in TAPE."""
    h, e = jax.random.normal(jax.random.key(0), (1, 2, 768)), jax.random.normal(jax.random.key(1), (1, 2, 384))
    params = F.Concat(width=5).init(jax.random.key(2), h, e, SELECTED, train=False)["params"]
    assert params["joined"]["kernel"].shape == (1152, 5) and params["base"]["kernel"].shape == (768, 5)
    x, _ = F.Concat(width=5).apply({"params": params}, h, e, SELECTED, train=False)
    w = np.asarray(params["joined"]["kernel"], np.float64)
    np.testing.assert_allclose(x[0, 0], h[0, 0] @ w[:768] + e[0, 0] @ w[768:] + params["joined"]["bias"], atol=1e-4)
    np.testing.assert_allclose(x[0, 1], h[0, 1] @ params["base"]["kernel"] + params["base"]["bias"], atol=1e-4)


@pytest.mark.parametrize("kind", ["Concat", "Weighted", "Gated", "Attention"])
def test_what_an_unselected_post_was_rewritten_to_is_not_read(kind):
    module = getattr(F, kind)(width=3)
    params = module.init(jax.random.key(1), H, E, SELECTED, train=False)
    before, _ = module.apply(params, H, E, SELECTED, train=False)
    after, _ = module.apply(params, H, E.at[0, 1].set(77.0), SELECTED, train=False)
    np.testing.assert_array_equal(before, after)
    moved, _ = module.apply(params, H, E.at[0, 0].set(77.0), SELECTED, train=False)
    assert (moved[0, 0] != before[0, 0]).any() and (moved[0, 1] == before[0, 1]).all()

"""Poolings worked out by hand on two documents, an empty slot, and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.fake import graph, init
from textfuse_jax.models import pooling as P

NODES = graph(
    [[[1, 5], [3, 1], [7, 7], [2, 2], [99, 99]]], [[0, 0, 0, 1, 3]], 3, level=[[0, 0, 1, 1, 0]]
)  # document 0: nodes 0, 1 of level 0 and 2 of level 1; document 1: node 3 of level 1; slot 2 empty


def run(module, params=None, nodes=NODES):
    """Pooled vectors and out, with the given parameters."""
    return module.apply({"params": params} if params else {}, nodes, 3, train=False)


def test_mean_by_hand():
    z, out = run(P.Mean())
    np.testing.assert_allclose(z[0], [[11 / 3, 13 / 3], [2, 2], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(out["pool/beta"][0], [1 / 3, 1 / 3, 1 / 3, 1, 0], rtol=1e-6)
    z, out = run(P.Mean(levels=(0,)))
    np.testing.assert_array_equal(z[0], [[2, 3], [0, 0], [0, 0]])
    np.testing.assert_array_equal(out["pool/beta"][0], [0.5, 0.5, 0, 0, 0])


def test_max_by_hand():
    np.testing.assert_array_equal(run(P.Max())[0][0], [[7, 7], [2, 2], [0, 0]])
    np.testing.assert_array_equal(run(P.Max(levels=(0,)))[0][0], [[3, 5], [0, 0], [0, 0]])
    negative = run(P.Max(), nodes=NODES.replace(features=-NODES.features))[0]
    np.testing.assert_array_equal(negative[0], [[-1, -1], [-2, -2], [0, 0]])


def test_first_by_hand():
    z, out = run(P.First())
    np.testing.assert_array_equal(z[0], [[1, 5], [2, 2], [0, 0]])
    np.testing.assert_array_equal(out["pool/beta"][0], [1, 0, 0, 1, 0])
    np.testing.assert_array_equal(run(P.First(levels=(1,)))[0][0], [[7, 7], [2, 2], [0, 0]])
    grad = jax.grad(lambda x: P.First().apply({}, NODES.replace(features=x), 3, train=False)[0].sum())(NODES.features)
    np.testing.assert_array_equal(grad[0], [[1, 1], [0, 0], [0, 0], [1, 1], [0, 0]])


# q . W_K h / sqrt(4) = the first feature of h times log(3) / 2
ATTENTION = {"query": jnp.array([np.log(3.0), 0, 0, 0]), "key": jnp.eye(2, 4)}


def test_attention_by_hand():
    """Level 0 of document 0: first features 1, 3, so the odds are 3^(2/2) = 3."""
    z, out = run(P.Attention(key_width=4, levels=(0,)), ATTENTION)
    np.testing.assert_allclose(out["pool/beta"][0], [0.25, 0.75, 0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(z[0], [[2.5, 2], [0, 0], [0, 0]], rtol=1e-5)
    z, out = run(P.Attention(key_width=4), ATTENTION)
    np.testing.assert_allclose(out["pool/beta"][0], [1 / 31, 3 / 31, 27 / 31, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(z[0, 1], [2, 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("alpha", "params", "share"),
    [(1, {}, 1), (0.0, {}, 0), (0.25, {}, 0.25), ("learned", {"alpha": jnp.array(np.log(4.0))}, 0.8)],
)
def test_hybrid_mixes_mean_and_attention(alpha, params, share):
    z, out = run(P.Hybrid(alpha=alpha, key_width=4, levels=(0,)), {"attention": ATTENTION} | params)
    expected = share * np.array([2, 3]) + (1 - share) * np.array([2.5, 2])
    np.testing.assert_allclose(z[0], [expected, [0, 0], [0, 0]], rtol=1e-5)
    np.testing.assert_allclose(out["pool/alpha"], share, rtol=1e-6)
    beta = share * np.array([0.5, 0.5]) + (1 - share) * np.array([0.25, 0.75])
    np.testing.assert_allclose(out["pool/beta"][0], [*beta, 0, 0, 0], rtol=1e-5)


def test_hybrid_per_dimension():
    params = {"attention": ATTENTION, "alpha": jnp.array([100.0, -100])}
    z, out = run(P.Hybrid(alpha="per_dimension", key_width=4, levels=(0,)), params)
    np.testing.assert_allclose(z[0, 0], [2, 2], rtol=1e-5)
    np.testing.assert_allclose(out["pool/alpha"], [1, 0], atol=1e-6)


def test_learned_alpha_starts_at_one_half():
    module = P.Hybrid(alpha="learned")
    params = module.init(jax.random.key(0), NODES, 3, train=False)
    assert module.apply(params, NODES, 3, train=False)[1]["pool/alpha"] == 0.5


def self_attention(**attention):
    """Q = h, K = h log(3) / 6, V = h, d_k = 2; only the first feature of q: node i attends to j by 3^(h_i h_j / 6 sqrt 2)."""
    first = {"kernel": jnp.array([[1.0, 0], [0, 0]]), "bias": jnp.zeros(2)}
    return {
        "attention": {"query": jnp.zeros(2), "key": jnp.zeros((2, 2))} | attention,
        "self_query": first,
        "self_key": jax.tree.map(lambda x: x * np.log(3) / 6 * np.sqrt(2), first),
        "self_value": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)},
    }


def test_self_attention_within_documents_by_hand():
    z, out = run(P.Hybrid(self_attention=True, levels=(0,)), self_attention())
    h = np.array([[1.0, 5], [3, 1]])
    weight = 3 ** (np.outer(h[:, 0], h[:, 0]) / 6)
    weight /= weight.sum(1, keepdims=True)
    np.testing.assert_allclose(z[0], [(weight @ h).mean(0), [0, 0], [0, 0]], rtol=1e-5)  # beta is uniform: the mean of H'
    np.testing.assert_allclose(out["pool/beta"][0], [0.5, 0.5, 0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(out["pool/looks"][0], [*weight.mean(0), 0, 0, 0], rtol=1e-5)


def test_what_self_attention_looks_at_by_hand():
    """Nodes 0 and 1 of document 0: A's second row is 1/4, 3/4; beta_i is as 9 to a quarter of the second feature of H'_i."""
    key = {"query": jnp.array([0.0, np.log(9.0)]) * np.sqrt(2), "key": jnp.eye(2) / 4}
    a = 3 ** (np.array([[1.0, 3], [3, 9]]) / 6)
    a /= a.sum(1, keepdims=True)
    h = np.array([[1.0, 5], [3, 1]])
    odds = 9 ** ((a @ h)[:, 1] / 4)
    beta = odds / odds.sum()
    z, out = run(P.Hybrid(0.0, self_attention=True, levels=(0,)), self_attention(**key))
    np.testing.assert_allclose(out["pool/beta"][0, :2], beta, rtol=1e-5)
    expected = [beta[0] * a[0, 0] + beta[1] * a[1, 0], beta[0] * a[0, 1] + beta[1] * a[1, 1]]
    np.testing.assert_allclose(out["pool/looks"][0], [*expected, 0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(z[0, 0], expected @ h, rtol=1e-5)  # V = h: the shares are what is taken of each node
    assert abs(beta[0] - expected[0]) > 0.1  # which beta isn't
    mixed = run(P.Hybrid(0.25, self_attention=True, levels=(0,)), self_attention(**key))[1]["pool/looks"]
    np.testing.assert_allclose(mixed[0, :2], 0.25 * a.mean(0) + 0.75 * np.array(expected), rtol=1e-5)
    both = run(P.MeanAndAttention(self_attention=True, levels=(0,)), self_attention(**key))[1]["pool/looks"]
    np.testing.assert_allclose(both[0, :2], expected, rtol=1e-5)
    assert "pool/looks" not in run(P.Hybrid(0.0, levels=(0,)), {"attention": self_attention(**key)["attention"]})[1]


@pytest.mark.parametrize("alpha", [1.5, -0.1, "half"])
def test_bad_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match="Hybrid alpha must be in"):
        P.Hybrid(alpha=alpha).init(jax.random.key(0), NODES, 3, train=False)


def test_no_levels_are_refused():
    with pytest.raises(ValueError, match="at least one level"):
        run(P.Mean(levels=()))


@pytest.mark.parametrize("module", [P.Mean(), P.Max(), P.Attention(), P.Hybrid(alpha="learned", self_attention=True)])
def test_gradients_are_finite_in_rows_without_documents(module):
    nodes = NODES.replace(document=jnp.full((1, 5), 3))
    params = init(module, nodes, 3, train=False)

    def loss(p, x):
        return (module.apply(p, nodes.replace(features=x), 3, train=False)[0] + 1).sum()

    value, grads = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, nodes.features)
    assert value == 6
    assert all((g == 0).all() for g in jax.tree.leaves(grads))

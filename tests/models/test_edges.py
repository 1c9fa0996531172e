"""Every kind of edge on graphs small enough to draw; no edge leaves its document; no pair twice; self-loops once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.fake import edge_set, graph, init
from textfuse_jax.models import edges as E

# Two documents of 3 and 2 nodes of level 0, their one node each of level 1, and padding after each level.
DOCUMENT = [[0, 0, 0, 1, 1, 2, 0, 1, 2]]
LEVEL = [[0, 0, 0, 0, 0, 0, 1, 1, 1]]
PARENT = [[6, 6, 6, 7, 7, 9, 9, 9, 9]]
FEATURES = [[[1, 0], [1, 1], [0, 2], [3, 0], [-1, 0], [0, 0], [5, 5], [6, 6], [0, 0]]]
NODES = graph(FEATURES, DOCUMENT, 2, LEVEL, PARENT)
HALF = 1 / np.sqrt(2)


def test_window_by_hand():
    near = {(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)}
    assert edge_set(E.window(NODES, size=1)[0]) == dict.fromkeys(near, 1.0)
    assert edge_set(E.window(NODES, size=2)[0]) == dict.fromkeys(near | {(0, 2), (2, 0)}, 1.0)


def test_knn_by_hand():
    """Cosines: 0-1 and 1-2 are 1/sqrt(2), 0-2 is 0 and 3-4 is -1: no edges."""
    edges = edge_set(E.knn(NODES, k=2)[0])
    assert set(edges) == {(0, 1), (1, 0), (1, 2), (2, 1)}
    np.testing.assert_allclose(list(edges.values()), HALF, rtol=1e-6)
    edges = edge_set(E.knn(NODES, k=1)[0])
    assert set(edges) == {(1, 0), (0, 1), (1, 2)}, "of two neighbours that are equally near, node 1 takes the earlier"


def test_knn_receives_from_the_nearest():
    nodes = graph([[[1, 0], [1, 0.1], [1, 1], [0, 1]]], [[0, 0, 0, 0]], 1)
    assert set(edge_set(E.knn(nodes, k=1)[0])) == {(1, 0), (0, 1), (1, 2), (2, 3)}
    assert len(edge_set(E.knn(nodes, k=9)[0])) == 12 - 2, "all pairs but the two of cosine 0"


def test_knn_weights_are_differentiable_also_for_zero_features():
    def total(x):
        return E.knn(NODES.replace(features=x), k=2)[0].weight.sum()

    grad = jax.grad(total)(NODES.features)
    assert jnp.isfinite(grad).all()
    # d/dx_0 of 2 cos(x_0, x_1), x_0 = (1, 0), x_1 = (1, 1): the part of 2 x_1 / (|x_0| |x_1|) normal to x_0
    np.testing.assert_allclose(grad[0, 0], [0, 2 * HALF], atol=1e-6)
    assert jnp.isfinite(jax.grad(total)(jnp.zeros_like(NODES.features))).all()


def test_hierarchy_by_hand():
    pairs = [(0, 6), (1, 6), (2, 6), (3, 7), (4, 7)]
    assert edge_set(E.hierarchy(NODES)[0]) == dict.fromkeys(pairs + [(b, a) for a, b in pairs], 1.0)
    assert edge_set(E.hierarchy(graph(FEATURES, DOCUMENT, 2))[0]) == {}


def test_saliency_by_hand():
    nodes = NODES.replace(saliency=jnp.array([[0.2, 0.8, 0.4, 0, 0, 9, 0.1, 0.5, 9]]))
    edges = edge_set(E.saliency(nodes, hubs=1)[0])
    assert edges == dict.fromkeys([(1, 0), (0, 1), (1, 2), (2, 1), (1, 6), (6, 1), (7, 3), (3, 7), (7, 4), (4, 7)], 1.0)
    edges = edge_set(E.saliency(nodes, hubs=2)[0])
    first = dict.fromkeys([(1, 0), (0, 1), (1, 2), (2, 1), (1, 6), (6, 1), (7, 3), (3, 7), (7, 4), (4, 7)], 1.0)
    assert edges == first | dict.fromkeys([(2, 0), (0, 2), (2, 6), (6, 2)], 0.5), "document 1 has one salient node only"


def test_saliency_of_nobody_joins_nobody():
    assert edge_set(E.saliency(NODES)[0]) == {}


def test_saliency_ties_go_to_the_earlier_node_and_weights_are_differentiable():
    nodes = graph(np.ones((1, 3, 1)), [[0, 0, 0]], 1, saliency=[[0.5, 0.5, 0.5]])
    assert set(edge_set(E.saliency(nodes, hubs=1)[0])) == {(0, 1), (1, 0), (0, 2), (2, 0)}
    grad = jax.grad(lambda s: E.saliency(NODES.replace(saliency=s), hubs=2)[0].weight.sum())(jnp.linspace(0, 1, 9)[None])
    assert jnp.isfinite(grad).all() and grad.any()
    grad = jax.grad(lambda s: E.saliency(NODES.replace(saliency=s))[0].weight.sum())(jnp.zeros((1, 9)))
    assert jnp.isfinite(grad).all()


def test_learned_saliency_is_a_softmax_of_its_scores():
    module = E.LearnedSaliency(hubs=1, width=1)
    params = init(module, NODES)
    params = jax.tree.map(lambda x: jnp.ones_like(x) if x.ndim > 1 else jnp.zeros_like(x), params)
    joined, out = module.apply(params, NODES)
    score = np.exp(np.tanh([1.0, 2, 2, 10]))  # W h = the sum of the features of document 0: nodes 0, 1, 2, 6
    np.testing.assert_allclose(out["edges/saliency"][0, jnp.array([0, 1, 2, 6])], score / score.sum(), rtol=1e-6)
    assert out["edges/saliency"][0, 5] == 0
    assert set(edge_set(joined)) >= {(6, 0), (0, 6), (6, 1), (1, 6), (6, 2), (2, 6)}
    np.testing.assert_array_equal(joined.saliency, NODES.saliency)
    grad = jax.grad(lambda p: module.apply(p, NODES)[0].weight.sum())(params)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grad)) and any(g.any() for g in jax.tree.leaves(grad))


def test_full_joins_all_of_a_document():
    groups = ([0, 1, 2, 6], [3, 4, 7])
    assert edge_set(E.full(NODES)[0]) == {(a, b): 1.0 for g in groups for a in g for b in g if a != b}


def test_random_takes_k_others_and_depends_on_the_seed_only():
    nodes = graph(np.ones((2, 12, 1)), [[0] * 10 + [1, 1], [0, 0] + [1] * 10], 2)
    first = E.random(nodes, k=3, seed=1)[0]
    edges = edge_set(first)
    assert set(edges.values()) == {1.0}
    assert [sum(b == v for _, b in edges) for v in range(12)] == [3] * 10 + [1, 1]
    assert edges == edge_set(E.random(nodes, k=3, seed=1)[0]) != edge_set(E.random(nodes, k=3, seed=2)[0])
    moved = {(a - 2, b - 2) for a, b in edge_set(first, row=1) if b >= 2}
    assert moved == {(a, b) for a, b in edges if b < 10}, "the same document elsewhere in a row has the same edges"


def test_none():
    assert edge_set(E.none(E.window(NODES)[0])[0]) == {}


def test_join_keeps_the_larger_weight_of_a_pair_once():
    one = graph(FEATURES, DOCUMENT, 2, edges=[[(0, 1, 0.25), (1, 0, 2.0), (3, 4, 1.0)]])
    two = graph(FEATURES, DOCUMENT, 2, edges=[[(0, 1, 0.5), (1, 0, 1.0), (2, 1, 0.0)]])
    joined = E.join(NODES, (one, two, one))
    assert edge_set(joined) == {(0, 1): 0.5, (1, 0): 2.0, (3, 4): 1.0, (2, 1): 0.0}
    assert joined.weight.shape == (1, 9)
    np.testing.assert_array_equal(joined.level, NODES.level)
    assert edge_set(E.join(NODES, ())) == {}


def test_join_sends_gradients_to_the_larger_weight():
    def total(w):
        parts = [NODES.replace(senders=jnp.array([[0]]), receivers=jnp.array([[1]]), weight=x[None, None]) for x in w]
        return E.join(NODES, parts).weight.sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.array([0.3, 0.7, 0.1])), [0, 1, 0])


def test_union_is_the_join_of_its_kinds():
    united, out = E.union(E.window, E.hierarchy)(NODES)
    assert edge_set(united) == edge_set(E.window(NODES)[0]) | edge_set(E.hierarchy(NODES)[0])
    assert out == {}


def test_self_loops_exactly_once():
    nodes = graph(FEATURES, DOCUMENT, 2, edges=[[(0, 0, 7.0), (0, 1, 2.0), (3, 3, 0.5)]])
    expected = {(0, 1): 2.0} | {(v, v): 1.0 for v in (0, 1, 2, 3, 4, 6, 7)}
    assert edge_set(E.add_self_loops(nodes)) == expected
    assert edge_set(E.add_self_loops(E.add_self_loops(nodes))) == expected
    assert edge_set(E.add_self_loops(E.none(NODES)[0])) == {(v, v): 1.0 for v in (0, 1, 2, 3, 4, 6, 7)}


@pytest.mark.parametrize("build", [lambda n: E.window(n, 0), lambda n: E.knn(n, k=0), lambda n: E.saliency(n, hubs=-1)])
def test_sizes_below_one_are_refused(build):
    with pytest.raises(ValueError, match=r"must be >= 1, got (0|-1); leave"):
        build(NODES)


KINDS = (E.window, E.knn, E.random, E.full, E.hierarchy, E.saliency, E.union(E.window, E.knn, E.hierarchy, E.saliency))


@jax.jit
def every_kind(nodes):
    """The edges of every kind, and of their union with self-loops."""
    made = [kind(nodes)[0] for kind in KINDS]
    return made + [E.add_self_loops(made[-1])]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=4, max_size=4), st.lists(st.integers(1, 3), min_size=4, max_size=4), st.integers(0, 99)
)
def test_every_edge_stays_in_its_document(fine, coarse, seed):
    """Random packings of up to 4 documents, each with nodes of two levels, in a row of 28 nodes."""
    rng = np.random.default_rng(seed)
    first = np.repeat(np.arange(4), fine)
    second = np.repeat(np.arange(4), coarse)
    document = np.full(28, 4)
    document[: len(first)], document[16 : 16 + len(second)] = first, second
    parent = np.full(28, 28)
    for v, owner in enumerate(first):
        parent[v] = 16 + rng.choice(np.flatnonzero(second == owner))
    level = np.repeat([0, 1], [16, 12])
    nodes = graph(rng.normal(size=(1, 28, 3)), document[None], 4, level[None], parent[None], rng.random((1, 28)))
    for made in every_kind(nodes):
        edges = edge_set(made)  # which fails on a pair that comes twice
        assert all(document[a] == document[b] < 4 for a, b in edges)
        assert all(0 <= w < 1.001 for w in edges.values())
    assert sum(a == b for a, b in edges) == len(first) + len(second)
    assert not any(a == b for made in every_kind(nodes)[:-1] for a, b in edge_set(made))

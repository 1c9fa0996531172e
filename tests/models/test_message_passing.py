"""GCN and GAT against dense matrices and numbers worked out by hand; the bridge to jraph; every jraph symbol that is used."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from tests.models.fake import graph, init
from textfuse_jax.models import message_passing as M
from textfuse_jax.models.edges import add_self_loops, full

PATH = [(0, 1, 1.0), (1, 0, 1.0), (1, 2, 1.0), (2, 1, 1.0)]
"""0 - 1 - 2, and node 3 alone; each way an edge."""
RNG = np.random.default_rng(0)


def path(features=((1,), (2,), (3,), (4,))):
    """The path and the lone node, with self-loops."""
    return add_self_loops(graph([features], [[0, 0, 0, 0]], 1, edges=[PATH]))


def random_graph(r=2, u=9, d=6, slots=2, edges=20):
    """Weighted directed edges among the nodes of two documents and padding; each pair once, some nodes alone."""
    document = np.array([[0] * 4 + [1] * 3 + [2] * 2] * r)
    pairs = [(a, b) for a in range(7) for b in range(7) if document[0, a] == document[0, b] and a != b]
    rows = [[(*pairs[i], RNG.uniform(0.1, 2)) for i in RNG.permutation(len(pairs))[: edges - 4]] for _ in range(r)]
    return graph(RNG.normal(size=(r, u, d)), document, slots, edges=rows)


def matrix(nodes, values):
    """Dense [r, receiver, sender, ...] of values along the edges."""
    r, u = nodes.document.shape
    dense = np.zeros((r, u + 1, u + 1, *values.shape[2:]))
    for row in range(r):
        dense[row, nodes.receivers[row], nodes.senders[row]] = values[row]
    return dense[:, :u, :u]


def test_gcn_coefficients_by_hand():
    """Degrees with self-loops: 2, 3, 2, 1."""
    nodes = path()
    c = matrix(nodes, np.asarray(M.gcn_coefficients(nodes)))[0]
    s = 1 / np.sqrt(6)
    np.testing.assert_allclose(c, [[1 / 2, s, 0, 0], [s, 1 / 3, s, 0], [0, s, 1 / 2, 0], [0, 0, 0, 1]], rtol=1e-6)


def test_gcn_coefficients_weigh_edges_by_the_receivers_degrees():
    """Directed 0 -> 1 of weight 3, self-loops: d = 1, 4."""
    nodes = add_self_loops(graph([[[1], [1]]], [[0, 0]], 1, edges=[[(0, 1, 3.0)]]))
    c = matrix(nodes, np.asarray(M.gcn_coefficients(nodes)))[0]
    np.testing.assert_allclose(c, [[1, 0], [3 / 2, 1 / 4]], rtol=1e-6)


def test_gcn_by_hand():
    """W = 2, b = 1, sigma = identity: h' = 2 C h + 1."""
    layer = M.GCN(1, rounds=1, residual=False, norm="none", activation="identity")
    params = {"params": {"linear_0": {"kernel": jnp.array([[2.0]])}, "bias_0": jnp.ones(1)}}
    nodes, out = layer.apply(params, path(), train=False)
    s = 1 / np.sqrt(6)
    expected = [1 + 4 * s, 8 * s + 4 / 3, 4 * s + 3, 8]
    np.testing.assert_allclose(nodes.features[0, :, 0], np.array(expected) + 1, rtol=1e-6)
    assert out["propagate/coefficient"].shape == nodes.weight.shape


def test_gcn_without_edges_or_self_loops_leaves_the_bias_and_the_residual():
    lone = graph([[[1.0], [2]]], [[0, 1]], 1)
    params = {"params": {"linear_0": {"kernel": jnp.array([[2.0]])}, "bias_0": jnp.ones(1)}}
    layer = M.GCN(1, rounds=1, residual=True, norm="none", activation="identity")
    np.testing.assert_array_equal(layer.apply(params, lone, train=False)[0].features[0, :, 0], [1 + 1, 0])


@pytest.mark.parametrize("layer", [M.GCN(4, rounds=0), M.GAT(4, rounds=0)])
def test_no_rounds_is_the_identity(layer):
    nodes = random_graph()
    after, _ = layer.apply({}, nodes, train=False)
    np.testing.assert_array_equal(after.features[:, :7], nodes.features[:, :7])


def numpy_gcn(nodes, h, p, k):
    """One round of GCNConv by matrices."""
    adjacency = matrix(nodes, np.asarray(nodes.weight))
    inverse = 1 / np.sqrt(adjacency.sum(2, keepdims=True))[:, :7]
    c = adjacency[:, :7, :7] * inverse * inverse.transpose(0, 2, 1)
    return c @ (h @ p[f"linear_{k}"]["kernel"]) + p[f"bias_{k}"]


def numpy_gat(nodes, h, p, k, heads, weighted, average):
    """One round of GATConv by matrices; the attention is proportional to the edge's weight if `weighted`."""
    x = (h @ p[f"linear_{k}"]["kernel"]).reshape(len(h), 7, heads, -1)
    sent, received = ((x * p[f"{end}_{k}"]).sum(-1) for end in ("sender", "receiver"))
    logits = received[:, :, None] + sent[:, None]
    logits = np.where(logits > 0, logits, 0.2 * logits)
    weight = matrix(nodes, np.asarray(nodes.weight))[:, :7, :7, None]
    score = np.exp(logits) * (weight if weighted else weight > 0)
    attention = score / score.sum(2, keepdims=True)
    message = np.einsum("rvuh,ruhk->rvhk", attention, x)
    message = message.mean(2) if average else message.reshape(len(h), 7, -1)
    return message + p[f"bias_{k}"]


@pytest.mark.parametrize("dense", [0, 1000])
@pytest.mark.parametrize("residual", [False, True])
def test_gcn_against_matrices(dense, residual, monkeypatch):
    monkeypatch.setattr(M, "DENSE", dense)
    nodes = add_self_loops(random_graph())
    layer = M.GCN(6, rounds=2, residual=residual, norm="none", activation="tanh")
    params = init(layer, nodes, train=False)
    h = np.asarray(nodes.features[:, :7])
    for k in range(2):
        h = np.tanh(numpy_gcn(nodes, h, jax.tree.map(np.asarray, params["params"]), k)) + residual * h
    after, _ = layer.apply(params, nodes, train=False)
    np.testing.assert_allclose(after.features[:, :7], h, atol=1e-5)
    assert not after.features[:, 7:].any(), "padding stays 0"


@pytest.mark.parametrize("dense", [0, 1000])
@pytest.mark.parametrize(("weighted", "average"), [(True, False), (False, True)])
def test_gat_against_matrices(dense, weighted, average, monkeypatch):
    monkeypatch.setattr(M, "DENSE", dense)
    nodes = add_self_loops(random_graph())
    layer = M.GAT(6, rounds=2, heads=3, residual=False, norm="none", edge_weight=weighted, average_last=average)
    params = init(layer, nodes, train=False)
    h = np.asarray(nodes.features[:, :7])
    for k in range(2):
        h = numpy_gat(nodes, h, jax.tree.map(np.asarray, params["params"]), k, 3, weighted, average and k == 1)
        h = np.where(h > 0, h, np.exp(h) - 1)
    after, out = layer.apply(params, nodes, train=False)
    np.testing.assert_allclose(after.features[:, :7], h, atol=1e-5)
    received = matrix(nodes, np.asarray(out["propagate/attention"])).sum(2)
    np.testing.assert_allclose(received[:, :7], 1, atol=1e-6)
    assert not received[:, 7:].any()


def test_gat_by_hand():
    """W = 1, s = 1, t = 0: node 1 of 0 - 1 - 2 attends by softmax(1, 2, 3); node 3 has itself alone."""
    layer = M.GAT(1, rounds=1, heads=1, residual=False, norm="none", activation="identity")
    p = {"linear_0": {"kernel": jnp.ones((1, 1))}, "sender_0": jnp.ones((1, 1)), "receiver_0": jnp.zeros((1, 1))}
    nodes, _ = layer.apply({"params": p | {"bias_0": jnp.zeros(1)}}, path(), train=False)
    e = np.exp(1)
    expected = [(1 + 2 * e) / (1 + e), (1 + 2 * e + 3 * e**2) / (1 + e + e**2), (2 + 3 * e) / (1 + e), 4]
    np.testing.assert_allclose(nodes.features[0, :, 0], expected, rtol=1e-6)


def test_gat_leaky_relu_slope():
    """Logits -1, -2, -3 become -0.2, -0.4, -0.6."""
    layer = M.GAT(1, rounds=1, heads=1, residual=False, norm="none", activation="identity")
    p = {"linear_0": {"kernel": jnp.ones((1, 1))}, "sender_0": -jnp.ones((1, 1)), "receiver_0": jnp.zeros((1, 1))}
    nodes, _ = layer.apply({"params": p | {"bias_0": jnp.zeros(1)}}, path(), train=False)
    a = np.exp([-0.2, -0.4, -0.6])
    np.testing.assert_allclose(nodes.features[0, 1, 0], a @ [1, 2, 3] / a.sum(), rtol=1e-6)


def test_gat_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="multiple of heads, got width 6 and heads 4"):
        M.GAT(6, heads=4).init(jax.random.key(0), path(), train=False)


@pytest.mark.parametrize("layer", [M.GCN(8), M.GAT(8, heads=2)])
def test_another_width_and_gradients_with_nodes_that_no_edge_reaches(layer):
    nodes = random_graph()  # without self-loops
    nodes = jax.tree.map(lambda x: x.at[1].set(x.shape[1] if x.dtype == jnp.int32 else 0) if x.ndim == 2 else x, nodes)
    params = init(layer, nodes, train=False)

    def loss(p, x, w):
        return (layer.apply(p, nodes.replace(features=x, weight=w), train=False)[0].features ** 2).sum()

    value, grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(params, nodes.features, nodes.weight)
    assert value > 0 and all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert all(g.any() for g in jax.tree.leaves(grads[0]))


def test_dropout_of_attention_and_features_only_in_training():
    layer = M.GAT(8, rounds=1, heads=2, attention_dropout=0.9, residual=False)
    nodes = add_self_loops(full(random_graph())[0])
    params = init(layer, nodes, train=False)
    calm = layer.apply(params, nodes, train=False)[0].features
    one, two = (layer.apply(params, nodes, train=True, rngs={"dropout": jax.random.key(i)})[0].features for i in (1, 2))
    assert (one != two).any() and (one != calm).any()


def test_to_graph_orders_by_document_and_comes_back():
    """Row 0: documents 0, 1 interleaved; row 1: document 1 only."""
    edges = [[(0, 2, 0.5), (1, 3, 0.25)], [(0, 1, 2.0)]]
    nodes = graph([[[1], [2], [3], [4]], [[5], [6], [7], [8]]], [[1, 0, 1, 0], [1, 1, 2, 2]], 2, edges=edges)
    g = M.to_graph(nodes)
    np.testing.assert_array_equal(g.nodes[:, 0], [2, 4, 1, 3, 5, 6, 7, 8, 0])
    np.testing.assert_array_equal(g.n_node, [2, 2, 0, 2, 3])
    np.testing.assert_array_equal(g.n_edge, [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(g.senders, [0, 2, 4, 8])
    np.testing.assert_array_equal(g.receivers, [1, 3, 5, 8])
    np.testing.assert_array_equal(g.edges[:, 0], [0.25, 0.5, 2, 0])
    back = M.from_graph(g, nodes)
    np.testing.assert_array_equal(back.features[..., 0], [[1, 2, 3, 4], [5, 6, 0, 0]])


def test_jraph_graphstuple_batch_agrees_with_our_rows():
    """jraph's own GAT on the whole batch = ours on rows."""
    nodes = add_self_loops(random_graph())
    layer = M.GAT(6, rounds=1, heads=3, residual=False, norm="none", edge_weight=False, activation="identity")
    params = init(layer, nodes, train=False)
    p = params["params"]
    p["bias_0"] = jnp.zeros(6)  # jraph's layer has none

    def query(x):
        return (x @ p["linear_0"]["kernel"]).reshape(-1, 3, 2)

    def logit(sent, received, edges):
        score = (sent * p["sender_0"][None] + received * p["receiver_0"][None]).sum(-1, keepdims=True)
        return jnp.where(score > 0, score, 0.2 * score)

    theirs = jraph.GAT(query, logit, lambda x: x.reshape(-1, 6))(M.to_graph(nodes))
    assert isinstance(theirs, jraph.GraphsTuple)
    ours, _ = layer.apply(params, nodes, train=False)
    np.testing.assert_allclose(M.from_graph(theirs, nodes).features, ours.features, atol=1e-6)


def test_jraph_graph_convolution_by_row_agrees_with_our_coefficients():
    """On edges of weight 1, each both ways, jraph's own normalisation is ours."""
    nodes = add_self_loops(full(random_graph())[0])
    convolve = jraph.GraphConvolution(lambda x: x, symmetric_normalization=True)
    theirs = M.by_row(convolve, nodes, nodes.features)
    ours = M.aggregate(nodes.features[:, :, None], M.gcn_coefficients(nodes)[..., None], nodes)[:, :, 0]
    np.testing.assert_allclose(theirs[:, :7], ours[:, :7], atol=1e-6)


def test_jraph_segment_sum_drops_what_is_out_of_range():
    np.testing.assert_array_equal(jraph.segment_sum(jnp.array([1.0, 2, 4]), jnp.array([0, 0, 2]), 2), [3, 0])

"""Edges of cascades and what hangs on them, on a tree of four posts: ways, delays, roots, DropEdge, BiGCN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.data.test_cascade_rows import made
from tests.models.fake import init
from textfuse_jax.data.cascade_rows import cascade_batches
from textfuse_jax.models import replies as R
from textfuse_jax.models.edges import add_self_loops
from textfuse_jax.models.head import Head
from textfuse_jax.models.message_passing import GAT, GCN, gcn_coefficients
from textfuse_jax.models.node_classifier import NodeClassifier
from textfuse_jax.models.pooling import Attention, Max, Mean
from textfuse_jax.models.two_way import TwoWay, _of_replies
from textfuse_jax.training.step import flatten, unflatten
from textfuse_jax.types import NodeRows

# 0 <- 1, 0 <- 2, 2 <- 3, then a document of one post, then padding
TREE = NodeRows(
    features=jnp.array([[[1.0], [2.0], [3.0], [4.0], [5.0], [0.0]]]),
    document=jnp.array([[0, 0, 0, 0, 1, 2]]),
    level=jnp.zeros((1, 6), jnp.int32),
    parent=jnp.array([[6, 0, 0, 2, 6, 6]]),
    saliency=jnp.zeros((1, 6)),
    senders=jnp.zeros((1, 0), jnp.int32),
    receivers=jnp.zeros((1, 0), jnp.int32),
    weight=jnp.zeros((1, 0)),
    slots=2,
    time=jnp.array([[0.0, 10.0, 30.0, -1.0, 0.0, -1.0]]),
)


def pairs(nodes):
    """The edges that are none of padding."""
    u = nodes.document.shape[1]
    found = zip(nodes.senders[0].tolist(), nodes.receivers[0].tolist())
    return sorted((a, b) for a, b in found if a < u and b < u)


def test_ways():
    down = [(0, 1), (0, 2), (2, 3)]
    assert pairs(R.replies(TREE, "top_down")[0]) == down
    assert pairs(R.replies(TREE, "bottom_up")[0]) == sorted((b, a) for a, b in down)
    assert pairs(R.replies(TREE)[0]) == sorted(down + [(b, a) for a, b in down])
    with pytest.raises(ValueError, match="both, top_down, bottom_up, got 'up'"):
        R.replies(TREE, "up")


def test_delays():
    """softplus(0) = log 2; 10 minutes at a unit of 10: w = 2^-log 2; to node 3, whose time isn't known, 1."""
    nodes, out = R.Delays("top_down").apply({"params": {"decay": jnp.zeros(())}}, TREE)
    rate = np.log(2)
    np.testing.assert_allclose(out["edges/decay"], rate, atol=1e-6)
    weight = dict(zip(nodes.receivers[0].tolist(), nodes.weight[0].tolist()))
    np.testing.assert_allclose([weight[1], weight[2], weight[3]], [2**-rate, 4**-rate, 1], atol=1e-6)
    with pytest.raises(ValueError, match=r"NodeRows\.time"):
        R.Delays().apply({"params": {"decay": jnp.zeros(())}}, TREE.replace(time=None))


def test_delay_vectors_by_hand():
    """10 minutes, 30 minutes and a time that isn't known; the bumps stand at 0, 3 and 15 minutes."""
    nodes, _ = R.delay_vectors(TREE, "top_down", width=3)
    edge = dict(zip(nodes.receivers[0].tolist(), np.asarray(nodes.edge[0])))
    for node, minutes in ((1, 10), (2, 30)):
        expected = np.exp(-((np.log2(1 + minutes) - np.array([0, 2, 4])) ** 2) / 2)
        np.testing.assert_allclose(edge[node], expected, atol=1e-6)
    assert not edge[3].any()
    with pytest.raises(ValueError, match=r"NodeRows\.time"):
        R.delay_vectors(TREE.replace(time=None))


def test_a_gcn_brings_the_vectors_of_edges_along():
    """Beside the same without: c of the edge times its vector times V; the self-loop has none."""
    nodes = add_self_loops(R.delay_vectors(TREE, "top_down", width=3)[0])
    gcn = GCN(width=2, rounds=1, residual=False, norm="none", activation="identity")
    params = init(gcn, nodes, train=False)["params"]
    (with_them, _), (without, _) = (gcn.apply({"params": params}, n, train=False) for n in (nodes, nodes.replace(edge=None)))
    found = np.asarray(with_them.features - without.features)[0]
    f = np.exp(-((np.log2(11) - np.array([0, 2, 4])) ** 2) / 2)
    np.testing.assert_allclose(found[1], 2**-0.5 * f @ np.asarray(params["edge_0"]["kernel"]), atol=1e-5)  # degrees 1 and 2
    assert not found[[0, 3, 4, 5]].any()


def test_both_networks_and_a_virtual_root_take_the_vectors():
    down, both = (R.delay_vectors(TREE, direction)[0] for direction in ("top_down", "both"))
    per_node = _of_replies(add_self_loops(both), add_self_loops(both).edge, 0)
    np.testing.assert_allclose(per_node, _of_replies(down, down.edge, 0), atol=1e-6)
    assert per_node[0, 1:3].any(-1).all() and not per_node[0, [0, 3, 4, 5]].any()
    nodes = add_self_loops(R.add_virtual_root(both))
    model = TwoWay(width=4, rounds=1, norm="none", root=False, virtual_root=True)
    params = init(model, nodes, train=False)
    assert params["params"]["down"]["edge_0"]["kernel"].shape == (8, 4)
    assert np.isfinite(model.apply(params, nodes, train=False)[0].features).all()


def test_gat_with_vectors_of_edges_is_that_of_pytorch_geometric():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric")
    from torch_geometric.nn import GATConv

    plain, _ = R.delay_vectors(TREE.replace(features=jax.random.normal(jax.random.key(0), (1, 6, 5))), width=3)
    nodes = add_self_loops(plain)
    ours = GAT(width=8, rounds=1, heads=2, edge_weight=False, residual=False, norm="none", activation="identity")
    params = init(ours, nodes, train=False)
    theirs = GATConv(5, 4, heads=2, edge_dim=3, fill_value=0.0)
    flat = {k: torch.tensor(np.array(v)) for k, v in flatten(params["params"]).items()}
    with torch.no_grad():
        theirs.lin.weight.copy_(flat["linear_0/kernel"].T)
        theirs.att_src.copy_(flat["sender_0"][None])
        theirs.att_dst.copy_(flat["receiver_0"][None])
        theirs.bias.copy_(flat["bias_0"])
        flat["edge_0/kernel"] = (theirs.lin_edge.weight.view(2, 4, 3) * theirs.att_edge[0][..., None]).sum(1).T
        params["params"]["edge_0"]["kernel"] = jnp.asarray(flat["edge_0/kernel"].numpy())
        inside = np.asarray(plain.receivers[0]) < 6
        edges = torch.tensor(np.stack([np.asarray(plain.senders[0]), np.asarray(plain.receivers[0])])[:, inside].astype(np.int64))
        expected = theirs(torch.tensor(np.array(plain.features[0, :5])), edges, torch.tensor(np.array(plain.edge[0])[inside]))
    found, _ = ours.apply(params, nodes, train=False)
    np.testing.assert_allclose(found.features[0, :5], expected.numpy(), atol=1e-5)


def test_source_and_virtual_root():
    np.testing.assert_array_equal(R.is_source(TREE)[0], [True, False, False, False, True, False])
    np.testing.assert_array_equal(R.of_source(TREE.features, TREE)[0, :, 0], [1, 5])
    nodes = R.add_virtual_root(R.replies(TREE, "top_down")[0])
    assert nodes.document.tolist() == [[0, 0, 0, 0, 1, 2, 0, 1]] and nodes.level.tolist() == [[0] * 6 + [1, 1]]
    joined = [(v, 6) for v in range(4)] + [(6, v) for v in range(4)] + [(4, 7), (7, 4)]
    assert pairs(nodes) == sorted([(0, 1), (0, 2), (2, 3)] + joined)
    assert nodes.parent.tolist() == [[8, 0, 0, 2, 8, 8, 8, 8]]
    back = R.without_virtual_root(nodes.replace(features=nodes.features + 1), TREE)
    np.testing.assert_array_equal(back.features, TREE.features + 1)


def test_gcn_normalisation_and_one_round_by_hand():
    """Degrees with self-loops, both ways: 3, 2, 3, 2."""
    nodes = add_self_loops(R.replies(TREE)[0])
    c = {
        (a, b): w for a, b, w in zip(nodes.senders[0].tolist(), nodes.receivers[0].tolist(), gcn_coefficients(nodes)[0].tolist())
    }
    for edge, value in {(0, 0): 1 / 3, (1, 1): 1 / 2, (0, 1): 6**-0.5, (0, 2): 1 / 3, (2, 3): 6**-0.5, (4, 4): 1}.items():
        assert c[edge] == pytest.approx(value, abs=1e-6)
    gcn = GCN(width=1, rounds=1, residual=False, norm="none")
    params = {"linear_0": {"kernel": jnp.array([[2.0]])}, "bias_0": jnp.array([0.5])}
    found, _ = gcn.apply({"params": params}, nodes, train=False)
    own = 2 * np.array([1, 2, 3, 4.0])
    expected = [
        own[0] / 3 + own[1] * 6**-0.5 + own[2] / 3 + 0.5,
        own[1] / 2 + own[0] * 6**-0.5 + 0.5,
        own[2] / 3 + own[0] / 3 + own[3] * 6**-0.5 + 0.5,
        own[3] / 2 + own[2] * 6**-0.5 + 0.5,
        10.5,
        0,
    ]
    np.testing.assert_allclose(found.features[0, :, 0], expected, atol=1e-5)


def test_gat_coefficients_by_hand():
    """s = 1, t = -1, W = 1: the logit of u -> v is LeakyReLU(h_u - h_v)."""
    nodes = add_self_loops(R.replies(TREE, "top_down")[0])
    gat = GAT(width=1, rounds=1, heads=1, edge_weight=False, residual=False, norm="none", activation="identity")
    params = {"linear_0": {"kernel": jnp.array([[1.0]])}, "sender_0": jnp.array([[1.0]]), "receiver_0": jnp.array([[-1.0]])}
    found, _ = gat.apply({"params": params | {"bias_0": jnp.zeros(1)}}, nodes, train=False)
    a = np.exp([0.2 * (1 - 2), 0])  # node 1 hears node 0 and itself
    np.testing.assert_allclose(found.features[0, 1, 0], (a * [1, 2]).sum() / a.sum(), atol=1e-6)
    np.testing.assert_allclose(found.features[0, [0, 4], 0], [1, 5], atol=1e-6)  # nobody but themselves


def test_a_virtual_root_joins_all_posts_in_both_networks():
    """Two rounds take what post 1 says over the virtual root to post 3, along the replies and against them; not without it."""
    for wanted in (True, False):
        model = TwoWay(width=4, rounds=2, norm="none", root=False, virtual_root=wanted)
        nodes = add_self_loops(R.add_virtual_root(R.replies(TREE)[0]))
        params = model.init(jax.random.key(3), nodes, train=False)
        params = jax.tree.map(jnp.abs, params)  # no ReLU is shut
        louder = nodes.replace(features=nodes.features.at[0, 1].add(1.0))
        before, after = (model.apply(params, one, train=False)[0].features[0] for one in (nodes, louder))
        changed = np.abs(np.asarray(after - before)) > 1e-6
        assert changed[3, :4].any() == wanted and changed[3, 4:].any() == wanted and not changed[4].any()


@pytest.mark.parametrize("direction", R.DIRECTIONS)
def test_both_networks_take_the_delays_whichever_way_they_came(direction):
    nodes, _ = R.Delays(direction).apply({"params": {"decay": jnp.zeros(())}}, TREE)
    rate = np.log(2)
    nodes = add_self_loops(nodes)
    np.testing.assert_allclose(_of_replies(nodes, nodes.weight, 1)[0], [1, 2**-rate, 4**-rate, 1, 1, 1], atol=1e-6)


def test_pooling_by_hand():
    mean, _ = Mean().apply({}, TREE, 2, train=False)
    most, _ = Max().apply({}, TREE, 2, train=False)
    np.testing.assert_allclose(mean[0, :, 0], [2.5, 5])
    np.testing.assert_allclose(most[0, :, 0], [4, 5])
    attended, _ = Attention().apply({"params": {"query": jnp.ones(1), "key": jnp.ones((1, 1))}}, TREE, 2, train=False)
    beta = np.exp([1, 2, 3, 4.0])
    np.testing.assert_allclose(attended[0, 0, 0], (beta * [1, 2, 3, 4]).sum() / beta.sum(), atol=1e-5)


def test_root_enhancement_joins_what_the_source_was_before_the_round():
    gcn = GCN(width=1, rounds=2, residual=False, norm="none", activation="identity", root=True)
    nodes = add_self_loops(R.replies(TREE, "top_down")[0])
    params = gcn.init(jax.random.key(0), nodes, train=False)["params"]
    params = params | {"linear_0": {"kernel": jnp.ones((1, 1))}, "linear_1": {"kernel": jnp.array([[1.0], [10.0]])}}
    found, _ = gcn.apply({"params": params}, nodes, train=False)
    # round 1: node 0 hears itself alone, c = 1: 1; joined by the source's 1. Round 2 of node 0: 1 + 10; joined by round 1's 1.
    np.testing.assert_allclose(found.features[0, 0], [11, 1], atol=1e-5)
    np.testing.assert_allclose(found.features[0, :4, 1], [1, 1, 1, 1], atol=1e-5)
    np.testing.assert_allclose(found.features[0, 4], [5 + 50, 5], atol=1e-4)
    assert not found.features[0, 5].any()


def test_replies_are_dropped_in_training_alone_at_the_rate():
    cascades = made([200] * 4)
    rows = jax.tree.map(jnp.asarray, cascade_batches(cascades, None, batch_size=4, row_lengths=(256,)).batch(0))
    rows = rows.replace(nodes=rows.nodes.replace(features=jnp.ones((*rows.document.shape, 1))))
    model = NodeClassifier(None, Mean(), None, edges=R.replies, edge_dropout=0.3, self_loops=False)
    count = lambda train: (  # noqa: E731
        model.apply({}, rows, train=train, rngs={"dropout": jax.random.key(0)})[1]["graph"].receivers < rows.document.shape[1]
    ).sum()
    assert count(False) == 2 * 796 and abs(count(True) / (2 * 796) - 0.7) < 0.05


CASCADES = made([1, 5, 12, 3, 7, 30, 2])
FEATURES = np.random.default_rng(0).normal(size=(len(CASCADES.texts), 6)).astype(np.float32)


def logits_and_rows(model, params, **options):
    """Logits of all cascades in one batch."""
    rows = jax.tree.map(jnp.asarray, cascade_batches(CASCADES, FEATURES, batch_size=7, row_lengths=(64,), **options).batch(0))
    return np.asarray(model.apply(params, rows, train=False)[0]), rows


@pytest.mark.parametrize(
    "options",
    [
        {"edges": R.replies, "virtual_root": True},
        {"edges": R.Delays(), "source_vector": True},
        {"propagate": TwoWay(width=8, rounds=2), "edges": R.replies},
        {"propagate": TwoWay(width=8, rounds=2, virtual_root=True), "edges": R.replies, "virtual_root": True},
        {"propagate": TwoWay(width=8, rounds=2, layer="textfuse_jax.models.message_passing:GAT", layer_args={"heads": 2})},
    ],
)
def test_packed_and_alone_give_the_same_logits(options):
    options = {"propagate": GCN(width=8, norm="batch", residual=False), **options}
    model = NodeClassifier(pooling=Mean(), head=Head(2), **options)
    params = init(model, logits_and_rows(_Nothing(), None)[1], train=False)
    packed, rows = logits_and_rows(model, params)
    assert np.isfinite(packed[np.asarray(rows.example) >= 0]).all()
    for i in range(len(CASCADES)):
        one = cascade_batches(CASCADES.take([i]), FEATURES, batch_size=1, row_lengths=(32,)).batch(0)
        alone, _ = model.apply(params, jax.tree.map(jnp.asarray, one), train=False)
        np.testing.assert_allclose(alone[0, 0], packed[np.asarray(rows.example) == i][0], atol=1e-5)


class _Nothing:
    """Takes the place of a model where only rows are wanted."""

    def apply(self, params, rows, train):
        return (np.zeros(0),)


def test_bigcn_and_batch_norm_are_those_of_pytorch_geometric():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric")
    from torch_geometric.nn import GCNConv, global_mean_pool

    ours = TwoWay(width=8, rounds=2, norm="batch", activation="relu", root=True)
    model = NodeClassifier(ours, Mean(), Head(2), edges=R.replies)
    params = init(model, logits_and_rows(_Nothing(), None)[1], train=False)
    flat = {k: np.asarray(v) for k, v in flatten(params["params"]).items()}
    rng = np.random.default_rng(1)
    flat = {
        k: (np.abs(rng.normal(size=v.shape)) if "variance" in k else rng.normal(size=v.shape)).astype(np.float32)
        for k, v in flat.items()
    }
    found, rows = logits_and_rows(model, {"params": unflatten(flat)})
    tensor = lambda name: torch.tensor(flat[name])  # noqa: E731
    child = np.flatnonzero(CASCADES.parent >= 0)
    start = np.repeat(CASCADES.bounds[:-1], CASCADES.sizes)
    owner = torch.tensor(np.repeat(np.arange(7), CASCADES.sizes))
    root = torch.tensor(start)
    x0, parts = torch.tensor(FEATURES), []
    for way in ("down", "up"):
        ends = np.stack([CASCADES.parent[child] + start[child], child])
        edge = torch.tensor(ends if way == "down" else ends[::-1].copy())
        h = own = x0
        for k in (0, 1):
            layer = GCNConv(h.shape[1], 8)
            name = f"propagate/{way}/"
            with torch.no_grad():
                layer.lin.weight.copy_(tensor(f"{name}linear_{k}/kernel").T)
                layer.bias.copy_(tensor(f"{name}bias_{k}"))
                n = f"{name}norm_{k}/"
                y = torch.nn.functional.batch_norm(
                    layer(h, edge),
                    tensor(n + "running_mean"),
                    tensor(n + "running_variance"),
                    tensor(n + "scale"),
                    tensor(n + "bias"),
                )
                y = torch.relu(y)
            h, own = torch.cat([y, own[root]], 1), y
        parts.append(h)
    z = global_mean_pool(torch.cat(parts, 1), owner)
    expected = z @ tensor("head/logits/kernel") + tensor("head/logits/bias")
    order = np.argsort(np.asarray(rows.example)[np.asarray(rows.example) >= 0])
    scale = max(1.0, float(expected.abs().max()))
    np.testing.assert_allclose(found[np.asarray(rows.example) >= 0][order] / scale, expected.numpy() / scale, atol=1e-5)

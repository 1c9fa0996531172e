"""Cascades through the whole model: packed = alone, no message leaves its cascade, equal to PyTorch Geometric, a step learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.data.test_cascade_rows import made
from tests.models.fake import init
from textfuse_jax.data.cascade_rows import cascade_batches
from textfuse_jax.models.edges import window
from textfuse_jax.models.head import Head
from textfuse_jax.models.message_passing import GAT, GCN
from textfuse_jax.models.node_classifier import NodeClassifier, gather_features
from textfuse_jax.models.pooling import Mean
from textfuse_jax.training.losses import cross_entropy
from textfuse_jax.training.step import flatten, init_state, make_step

CASCADES = made([1, 5, 12, 3, 7, 30, 2])
FEATURES = np.random.default_rng(0).normal(size=(len(CASCADES.texts), 6)).astype(np.float32)
PLAIN = dict(width=8, rounds=2, residual=False, norm="none", activation="relu")
LAYERS = {"gcn": GCN(**PLAIN), "gat": GAT(heads=4, edge_weight=False, **PLAIN)}


def classifier(kind, **options):
    """Layers, mean, head."""
    return NodeClassifier(LAYERS[kind], Mean(), Head(2), **options)


def first_of(batches):
    """The first batch, on the device."""
    return jax.tree.map(jnp.asarray, batches.batch(0))


def logits_of(model, params, cascades, features, **options):
    """Logits of each cascade, from batches of these options."""
    found = np.full((len(cascades), 2), np.nan)
    apply, batches = (
        jax.jit(lambda rows: model.apply(params, rows, train=False)[0]),
        cascade_batches(cascades, features, **options),
    )
    for rows in map(batches.batch, range(batches.total_steps)):
        logits = apply(rows)
        real = rows.example >= 0
        found[rows.example[real]] = np.asarray(logits)[real]
    return found


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("edges", [None, functools.partial(window, size=2)])
def test_packed_and_alone_give_the_same_logits(kind, edges):
    model = classifier(kind, edges=edges)
    params = init(model, first_of(cascade_batches(CASCADES, FEATURES)), train=False)
    packed = logits_of(model, params, CASCADES, FEATURES, batch_size=4, row_lengths=(32,))
    alone = logits_of(model, params, CASCADES, FEATURES, batch_size=1, row_lengths=(64,))
    np.testing.assert_allclose(packed, alone, atol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_no_message_leaves_its_cascade(kind):
    model = classifier(kind)
    params = init(model, first_of(cascade_batches(CASCADES, FEATURES)), train=False)
    other = FEATURES.copy()
    other[CASCADES.posts_of([2])] += 1
    before, after = (logits_of(model, params, CASCADES, f, row_lengths=(64,)) for f in (FEATURES, other))
    changed = (before != after).any(1)
    np.testing.assert_array_equal(changed, np.arange(7) == 2)


def test_directions_differ_and_none_leaves_the_nodes():
    model = classifier("gcn")
    params = init(model, first_of(cascade_batches(CASCADES, FEATURES)), train=False)
    both, down, up = (logits_of(model, params, CASCADES, FEATURES, direction=d) for d in ("both", "top_down", "bottom_up"))
    assert (both[1:] != down[1:]).any(1).all() and (down[2] != up[2]).any()
    np.testing.assert_allclose(both[0], down[0], atol=1e-6)  # a lone post
    rows = first_of(cascade_batches(CASCADES, FEATURES, batch_size=7))
    z, out = NodeClassifier(None, Mean(), None, self_loops=False).apply({}, rows, train=False)
    mean = [FEATURES[CASCADES.posts_of([i])].mean(0) for i in range(7)]
    np.testing.assert_allclose(z[rows.example >= 0], np.stack(mean)[rows.example[rows.example >= 0]], atol=1e-6)
    assert out["graph"] is rows.nodes


def test_features_gathered_on_the_device_are_those_of_the_rows():
    given, bare = (first_of(cascade_batches(CASCADES, f, seed=0)) for f in (FEATURES, None))
    gathered = gather_features(bare, jnp.asarray(FEATURES))
    jax.tree.map(np.testing.assert_array_equal, gathered, given)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_logits_are_those_of_pytorch_geometric(kind):
    pytest.importorskip("torch_geometric")
    from experiments import graph_reference as reference

    model = classifier(kind)
    params = init(model, first_of(cascade_batches(CASCADES, FEATURES)), train=False)
    net = reference.Net(kind, 6, 8, 2, 0.5)
    net.load(flatten(params["params"]))
    theirs = reference.logits(net, reference.graphs(CASCADES, FEATURES))
    np.testing.assert_allclose(logits_of(model, params, CASCADES, FEATURES), theirs, atol=1e-5)
    windows = reference.logits(net, reference.graphs(CASCADES, FEATURES, reference.window_edges))
    ours = logits_of(classifier(kind, edges=functools.partial(window, size=2)), params, CASCADES, FEATURES)
    np.testing.assert_allclose(ours, windows, atol=1e-5)


def test_the_step_trains_cascades_and_vmap_trains_trials():
    """Each of two trials, which leave out a fold of their own, becomes what it becomes alone; cascades of a fold don't count."""
    model = classifier("gcn")
    batches = cascade_batches(CASCADES, FEATURES, epochs=3, seed=0, batch_size=4, row_lengths=(32,))
    optimizer = optax.adam(0.01)
    step = make_step(lambda p, rows, key: model.apply({"params": p}, rows, train=True), cross_entropy, optimizer)
    params = flatten(init(model, first_of(batches), train=False)["params"])
    start, _ = init_state(params, lambda _: False, lambda _: optimizer, average=False)
    fold, key = np.arange(7) % 2, jax.random.key(0)

    def trial(state, rows, of, held):
        return step(state, rows.replace(weight=rows.weight * (of != held)), key)

    one, many = jax.jit(trial), jax.jit(jax.vmap(trial, (0, None, None, 0)))
    together, alone = jax.tree.map(lambda x: jnp.stack([x, x]), start), [start, start]
    for rows in batches:
        together, _ = many(together, rows, fold[rows.example], jnp.arange(2))
        alone = [one(state, rows, fold[rows.example], held)[0] for held, state in enumerate(alone)]
    assert (together.sums["weight"] == 3 * np.bincount(1 - fold)).all() and together.sums["tokens"][0] == 3 * 60
    for i, state in enumerate(alone):
        for name, value in state.params.items():
            np.testing.assert_allclose(together.params[name][i], value, atol=1e-5)
    assert all((together.params[k][0] != v).any() for k, v in params.items() if "bias" not in k)

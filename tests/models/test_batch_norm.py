"""Batch norm over what is there: numbers by hand, PyTorch's, padding and held-out documents, devices, slices, the step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.data.test_cascade_rows import made
from tests.models.fake import init
from textfuse_jax.data.cascade_rows import cascade_batches
from textfuse_jax.models.batch_norm import BatchNorm
from textfuse_jax.models.head import Head
from textfuse_jax.models.message_passing import GCN
from textfuse_jax.models.node_classifier import NodeClassifier
from textfuse_jax.models.pooling import Mean
from textfuse_jax.training.losses import cross_entropy
from textfuse_jax.training.step import flatten, init_state, learned, make_step

X = jnp.array([[[1.0], [3.0], [100.0]], [[5.0], [7.0], [-50.0]]])
INSIDE = jnp.array([[True, True, False], [True, True, False]])


def test_numbers_worked_out_by_hand():
    """Mean of 1, 3, 5, 7 is 4, their variance 5 (unbiased 20/3); 100 and -50 are padding."""
    norm = BatchNorm(epsilon=0.0)
    params = norm.init(jax.random.key(0), X, INSIDE, train=False)
    y, out = norm.apply(params, X, INSIDE, train=True)
    np.testing.assert_allclose(y[INSIDE][:, 0], np.array([-3, -1, 1, 3]) / 5**0.5, atol=1e-6)
    np.testing.assert_allclose(out["statistics/running_mean"], [0.4], atol=1e-6)  # 0.9 * 0 + 0.1 * 4
    np.testing.assert_allclose(out["statistics/running_variance"], [0.9 + 0.1 * 20 / 3], atol=1e-6)
    moved = {"params": params["params"] | {k.removeprefix("statistics/"): v for k, v in out.items()}}
    y, out = norm.apply(moved, X, INSIDE, train=False)
    np.testing.assert_allclose(y[0, 0], (1 - 0.4) / (0.9 + 2 / 3) ** 0.5, atol=1e-6)
    assert not out


def test_nothing_inside_moves_nothing():
    norm = BatchNorm()
    params = norm.init(jax.random.key(0), X, INSIDE, train=False)
    y, out = norm.apply(params, X, jnp.zeros_like(INSIDE), train=True)
    assert np.isfinite(y).all() and out["statistics/running_mean"] == 0 and out["statistics/running_variance"] == 1


def test_equal_to_pytorch_over_the_nodes_that_are_there():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    theirs, ours = torch.nn.BatchNorm1d(5), BatchNorm()
    params = ours.init(jax.random.key(0), jnp.zeros((2, 6, 5)), jnp.ones((2, 6), bool), train=False)["params"]
    for _ in range(3):
        x, inside = rng.normal(2, 3, (2, 6, 5)).astype(np.float32), rng.random((2, 6)) < 0.7
        expected = theirs.train()(torch.from_numpy(x[inside])).detach().numpy()
        y, out = ours.apply({"params": params}, jnp.asarray(x), jnp.asarray(inside), train=True)
        np.testing.assert_allclose(np.asarray(y)[inside], expected, atol=1e-5)
        params = params | {name.removeprefix("statistics/"): value for name, value in out.items()}
    np.testing.assert_allclose(params["running_mean"], theirs.running_mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(params["running_variance"], theirs.running_var.numpy(), rtol=1e-5)


CASCADES = made([1, 5, 12, 3, 7, 30, 2, 9])
FEATURES = np.random.default_rng(0).normal(size=(len(CASCADES.texts), 6)).astype(np.float32)
MODEL = NodeClassifier(GCN(width=8, rounds=2, residual=False, norm="batch"), Mean(), Head(2))


def rows_of(length=64, **options):
    """All cascades in one batch."""
    return jax.tree.map(jnp.asarray, cascade_batches(CASCADES, FEATURES, batch_size=8, row_lengths=(length,), **options).batch(0))


def logits_by_example(logits, rows):
    """Logits of each cascade."""
    return np.asarray(logits)[np.asarray(rows.example) >= 0][np.argsort(np.asarray(rows.example)[np.asarray(rows.example) >= 0])]


def test_more_padding_changes_no_training_logit():
    params = init(MODEL, rows_of(), train=False)
    params["params"]["head"]["logits"]["kernel"] = jnp.arange(16.0).reshape(8, 2)
    few, many = rows_of(64), rows_of(128, rows_multiple=4)
    found = [logits_by_example(MODEL.apply(params, rows, train=True)[0], rows) for rows in (few, many)]
    np.testing.assert_allclose(*found, atol=1e-5)


def test_cascades_of_weight_0_leave_no_trace_in_training():
    params = init(MODEL, rows_of(), train=False)
    params["params"]["head"]["logits"]["kernel"] = jnp.arange(16.0).reshape(8, 2)
    rows = rows_of()
    rows = rows.replace(weight=jnp.where(rows.example == 5, 0, rows.weight))
    other = FEATURES.copy()
    other[CASCADES.posts_of([5])] *= 100
    changed = jax.tree.map(jnp.asarray, cascade_batches(CASCADES, other, batch_size=8, row_lengths=(64,)).batch(0)).replace(
        weight=rows.weight
    )
    a, b = (MODEL.apply(params, r, train=True) for r in (rows, changed))
    keep = np.arange(8) != 5
    np.testing.assert_allclose(logits_by_example(a[0], rows)[keep], logits_by_example(b[0], rows)[keep], atol=1e-6)
    for name in (n for n in a[1] if n.startswith("statistics/")):
        np.testing.assert_allclose(a[1][name], b[1][name], atol=1e-6)


def state_and_step(**options):
    """A state, and a step whose dropout is off."""
    optimizer = optax.sgd(0.1)
    params = flatten(init(MODEL, rows_of(), train=False)["params"])
    state, _ = init_state(params, lambda _: False, lambda _: optimizer, average=False)
    return state, make_step(lambda p, r, key: MODEL.apply({"params": p}, r, train=True), cross_entropy, optimizer, **options)


def test_the_step_moves_running_statistics_and_no_gradient_does():
    state, step = state_and_step()
    assert sorted(state.statistics) == [f"propagate/norm_{k}/running_{s}" for k in (0, 1) for s in ("mean", "variance")]
    assert not set(state.statistics) & set(state.params)
    after, _ = jax.jit(step)(state, rows_of(), jax.random.key(0))
    _, out = MODEL.apply({"params": _nested(learned(state))}, rows_of(), train=True)
    for name, value in after.statistics.items():
        np.testing.assert_allclose(value, out["statistics/" + name], atol=1e-6)
        np.testing.assert_array_equal(learned(after)[name], value)


def test_many_devices_by_either_engine_take_the_same_step():
    from ml_collections import ConfigDict

    from textfuse_jax.training.parallel import make_engine, replicate

    rows = rows_of(32, rows_multiple=4)
    found = []
    for devices, engine in ((1, "jit"), (4, "jit"), (4, "pmap")):
        engine = make_engine(ConfigDict(dict(devices=devices, engine=engine, sharding=())))
        state, step = state_and_step(axis=engine.axis)
        state = engine.place(state)
        mapped = engine.map(step, state)
        state = engine.put(state)
        for _ in range(2):
            state, _ = mapped(state, engine.spread(rows), replicate(jax.random.key(0), engine.mesh))
        found.append(jax.device_get(learned(engine.get(state))))
    for other in found[1:]:
        for name, value in found[0].items():
            np.testing.assert_allclose(other[name], value, atol=1e-5, err_msg=name)


def _nested(params):
    from textfuse_jax.training.step import unflatten

    return unflatten(params)

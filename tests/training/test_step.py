"""The pure step on a toy model whose gradients can be worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from textfuse_jax.training import parallel
from textfuse_jax.training.losses import cross_entropy
from textfuse_jax.training.step import NEVER, flatten, init_state, learned, make_step, unflatten
from textfuse_jax.types import OPINIONS, TokenRows


def rows(seed: int, r: int = 4, s: int = 3, empty: float = 0.3) -> TokenRows:
    """Documents of one token each, some slots empty."""
    rng = np.random.default_rng(seed)
    used = rng.random((r, s)) > empty
    slot = np.where(used, np.arange(s), s)
    return TokenRows(
        tokens=rng.integers(0, 5, (r, s)).astype(np.int32),
        position=np.zeros((r, s), np.int32),
        document=slot.astype(np.int32),
        unit={},
        units={},
        label=(rng.integers(0, 2, (r, s)) * used).astype(np.int32),
        weight=used.astype(np.float32),
        example=np.where(used, np.arange(r * s).reshape(r, s), -1).astype(np.int32),
    )


def apply(params, batch, key):
    noise = 1 + 0.1 * jax.random.normal(key, batch.tokens.shape)
    logits = jax.nn.one_hot(batch.tokens, 5) @ params["head"]["kernel"] * noise[..., None]
    return logits, {}


def quiet(params, batch, key):
    return jax.nn.one_hot(batch.tokens, 5) @ params["head"]["kernel"], {}


def start(optimizer=None, average=False):
    params = {"head/kernel": 0.1 * jnp.arange(10.0).reshape(5, 2), "encoder/table": jnp.ones(3)}
    return init_state(params, lambda name: name.startswith("encoder/"), lambda _: optimizer or optax.sgd(0.5), average)


def test_flatten_is_invertible():
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert unflatten(flatten(tree)) == tree


def test_one_step_is_gradient_descent_on_the_weighted_mean():
    state, optimizer = start()
    batch = rows(0)
    after, _ = make_step(quiet, cross_entropy, optimizer)(state, batch, jax.random.key(0))

    def mean_loss(kernel):
        losses = cross_entropy(jax.nn.one_hot(batch.tokens, 5) @ kernel, batch.label)
        return (losses * batch.weight).sum() / batch.weight.sum()

    gradient = jax.grad(mean_loss)(state.params["head/kernel"])
    np.testing.assert_allclose(after.params["head/kernel"], state.params["head/kernel"] - 0.5 * gradient, atol=1e-6)
    assert after.frozen["encoder/table"].tolist() == [1, 1, 1] and int(after.step) == 1


def test_parts_that_predict_by_themselves_learn_from_their_own_loss():
    """The mean of two logits: each kernel takes the step that it takes alone."""
    names = ("one", "two")
    params = {name: 0.1 * jax.random.normal(jax.random.key(i), (5, 2)) for i, name in enumerate(names)}
    batch, optimizer = rows(0), optax.sgd(0.5)

    def both(tree, batch, key):
        parts = tuple(jax.nn.one_hot(batch.tokens, 5) @ tree[name] for name in tree)
        return sum(parts) / len(parts), {OPINIONS: parts}

    def stepped(params):
        state, _ = init_state(params, lambda _: False, lambda _: optimizer, average=False)
        return make_step(both, cross_entropy, optimizer)(state, batch, jax.random.key(0))

    together, sums = stepped(params)
    alone = {name: stepped({name: params[name]}) for name in names}
    for name in names:
        np.testing.assert_allclose(together.params[name], alone[name][0].params[name], atol=1e-6)
    np.testing.assert_allclose(sums["loss"], sum(found["loss"] for _, found in alone.values()), rtol=1e-6)


def test_metrics_are_sums_that_add_up():
    state, optimizer = start(optax.sgd(0.0))
    step = make_step(quiet, cross_entropy, optimizer)
    first, one = step(state, rows(0), jax.random.key(0))
    _, two = step(first, rows(1), jax.random.key(0))
    assert float(one["documents"]) == (rows(0).weight > 0).sum()
    assert float(two["documents"]) == sum((rows(i).weight > 0).sum() for i in (0, 1))
    assert float(two["steps"]) == 2 and int(two["bad_step"]) == NEVER


def test_accumulation_changes_nothing():
    state, optimizer = start()
    whole = make_step(quiet, cross_entropy, optimizer)(state, rows(2), jax.random.key(0))
    sliced = make_step(quiet, cross_entropy, optimizer, accumulate=4)(state, rows(2), jax.random.key(0))
    np.testing.assert_allclose(whole[0].params["head/kernel"], sliced[0].params["head/kernel"], atol=1e-6)
    for name in ("loss", "correct", "weight", "documents", "tokens"):
        np.testing.assert_allclose(whole[1][name], sliced[1][name], rtol=1e-6)


def test_consistency_adds_the_disagreement_of_two_passes():
    state, optimizer = start()
    batch, key = rows(3, empty=-1.0), jax.random.key(1)
    _, plain = make_step(quiet, cross_entropy, optimizer)(state, batch, key)
    _, same = make_step(quiet, cross_entropy, optimizer, consistency=5.0)(state, batch, key)
    np.testing.assert_allclose(plain["loss"], same["loss"], rtol=1e-6)  # no dropout: the passes agree
    _, noisy = make_step(apply, cross_entropy, optimizer, consistency=5.0)(state, batch, key)
    _, half = make_step(apply, cross_entropy, optimizer, consistency=0.001)(state, batch, key)
    assert float(noisy["loss"]) > float(half["loss"])


def test_a_bad_step_is_remembered():
    state, optimizer = start()
    step = make_step(lambda p, b, k: (quiet(p, b, k)[0] * jnp.nan, {}), cross_entropy, optimizer)
    state, _ = step(state.replace(step=jnp.int32(7)), rows(0), jax.random.key(0))
    _, sums = step(state, rows(1), jax.random.key(0))
    assert int(sums["bad_step"]) == 7


def test_an_empty_batch_moves_nothing():
    state, optimizer = start()
    after, sums = make_step(quiet, cross_entropy, optimizer)(state, rows(0, empty=1.1), jax.random.key(0))
    np.testing.assert_array_equal(after.params["head/kernel"], state.params["head/kernel"])
    assert float(sums["weight"]) == 0 and int(sums["bad_step"]) == NEVER


def test_average_follows_the_weights():
    state, optimizer = start(average=True)
    step = make_step(quiet, cross_entropy, optimizer, average_decay=0.9)
    after, _ = step(state, rows(0), jax.random.key(0))
    d = 0.1  # (1 + 0) / (10 + 0) below 0.9 at the first step
    expected = d * state.params["head/kernel"] + (1 - d) * after.params["head/kernel"]
    np.testing.assert_allclose(after.average["head/kernel"], expected, atol=1e-6)
    assert set(learned(after)) == {"head/kernel"}
    np.testing.assert_allclose(learned(after)["head/kernel"], expected, atol=1e-6)


def test_four_devices_equal_one_with_the_same_dropout():
    key, batch = jax.random.key(3), rows(5, r=8)
    results = []
    for devices in (1, 4):
        mesh = parallel.make_mesh(devices)
        state, optimizer = start(optax.adam(0.1))
        state = parallel.replicate(state, mesh)
        step = jax.jit(make_step(apply, cross_entropy, optimizer))
        for _ in range(5):
            state, _ = step(state, parallel.spread(batch, mesh), parallel.replicate(key, mesh))
        results.append(np.asarray(state.params["head/kernel"]))
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


def test_more_devices_than_there_are():
    import pytest

    with pytest.raises(ValueError, match=r"parallel\.devices"):
        parallel.make_mesh(64)

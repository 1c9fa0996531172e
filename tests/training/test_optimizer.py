import jax.numpy as jnp
import numpy as np
import optax
import pytest

from textfuse_jax.config import default_config
from textfuse_jax.training import optimizer

PARAMS = {
    "encoder/embeddings/token": jnp.ones((3, 2)),
    "encoder/layer_01/output/kernel": jnp.ones((2, 2)),
    "encoder/layer_02/output/kernel": jnp.ones((2, 2)),
    "head/kernel": jnp.ones((2, 2)),
    "head/bias": jnp.ones(2),
}


@pytest.mark.parametrize("kind, middle, end", [("cosine", 0.5, 0.0), ("linear", 0.5, 0.0), ("constant", 1.0, 1.0)])
def test_schedule_warms_up_and_decays(kind, middle, end):
    rate = optimizer.schedule(1.0, 110, kind, 10 / 110)
    np.testing.assert_allclose([rate(0), rate(4), rate(9)], [0.1, 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose([rate(60), rate(110)], [middle, end], atol=1e-6)


def test_schedule_without_warm_up_starts_at_the_peak():
    assert optimizer.schedule(2.0, 10, "linear", 0.0)(0) == pytest.approx(2.0)


def test_groups_by_depth():
    groups = optimizer.groups(PARAMS)
    assert groups["encoder/embeddings/token"] == "encoder/0"
    assert groups["encoder/layer_01/output/kernel"] == "encoder/1"
    assert groups["encoder/layer_02/output/kernel"] == "encoder/2"
    assert groups["head/kernel"] == "head"


def test_each_group_learns_at_its_rate():
    config = default_config().optimizer
    config.update(dict(schedule="constant", warmup_fraction=0.0, clip_norm=0.0, weight_decay=0.0, layer_decay=0.5))
    rule = optimizer.make_optimizer(config, PARAMS, 10, layers=2)
    gradients = {name: jnp.ones_like(p) for name, p in PARAMS.items()}
    updates, _ = rule.update(gradients, rule.init(PARAMS), PARAMS)
    # Adam's first update is the rate itself, whatever the size of the gradient.
    rates = {name: -float(u.ravel()[0]) for name, u in updates.items()}
    np.testing.assert_allclose([rates[name] for name in PARAMS], [2.5e-5, 5e-5, 1e-4, 1e-3, 1e-3], rtol=1e-4)


def test_adamw_decays_matrices_only_and_adam_adds_to_the_gradient():
    config = default_config().optimizer
    config.update(dict(schedule="constant", warmup_fraction=0.0, weight_decay=0.1))
    zero = {name: jnp.zeros_like(p) for name, p in PARAMS.items()}
    rule = optimizer.make_optimizer(config, PARAMS, 10, layers=2)
    updates, _ = rule.update(zero, rule.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["head/kernel"], -1e-4 * np.ones((2, 2)), rtol=1e-5)
    np.testing.assert_allclose(updates["head/bias"], 0.0)
    config.name = "adam"
    rule = optimizer.make_optimizer(config, PARAMS, 10, layers=2)
    updates, _ = rule.update(zero, rule.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["head/kernel"], -1e-3 * np.ones((2, 2)), rtol=1e-4)


def test_clipping_bounds_the_gradient():
    config = default_config().optimizer
    config.clip_norm = 1.0
    rule = optimizer.make_optimizer(config, PARAMS, 10, layers=2)
    huge = {name: 1e6 * jnp.ones_like(p) for name, p in PARAMS.items()}
    state = rule.init(PARAMS)
    updates, _ = rule.update(huge, state, PARAMS)
    assert np.isfinite(optax.tree.norm(updates))

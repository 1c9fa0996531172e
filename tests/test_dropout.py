import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from textfuse_jax.dropout import ROWS, dropout, keep_mask, row_keys


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_rate_and_scale(rate):
    keys = row_keys(jax.random.key(0), 8)
    y = np.asarray(dropout(jnp.ones((8, 128, 256)), rate, keys))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - rate))}
    n = y.size
    assert abs((y == 0).mean() - rate) < 4 * (rate * (1 - rate) / n) ** 0.5


def test_rate_zero_is_the_identity_and_one_is_refused():
    x = jnp.ones((2, 3))
    assert dropout(x, 0.0, row_keys(jax.random.key(0), 2)) is x
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1"):
        keep_mask(row_keys(jax.random.key(0), 2), 1.0, (2, 3))


def test_draws_are_independent_of_neighbours_rows_and_keys():
    n, t = 4, 1 << 16
    kept = [np.asarray(keep_mask(row_keys(jax.random.key(i), n), 0.5, (n, t))) * 2.0 - 1 for i in range(2)]
    for shift in (1, 2, 3, 32, 128, 384):
        assert abs((kept[0][:, shift:] * kept[0][:, :-shift]).mean()) < 4 / (n * (t - shift)) ** 0.5
    assert abs((kept[0] * kept[1]).mean()) < 4 / (n * t) ** 0.5
    assert abs((kept[0][:-1] * kept[0][1:]).mean()) < 4 / ((n - 1) * t) ** 0.5
    # 16 consecutive draws read as one number take all values equally often
    words = (kept[0].reshape(-1, 8) > 0) @ (1 << np.arange(8))
    observed, expected = np.bincount(words, minlength=256), words.size / 256
    assert ((observed - expected) ** 2 / expected).sum() < 255 + 4 * (2 * 255) ** 0.5


def test_masks_do_not_depend_on_the_number_of_devices():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    draw = lambda key, x: dropout(x, 0.3, row_keys(key, x.shape[0]))  # noqa: E731
    x = jnp.arange(8 * 5 * 6, dtype=jnp.float32).reshape(8, 5, 6)
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_array_equal(jax.jit(draw)(jax.random.key(3), x), jax.jit(draw)(jax.random.key(3), sharded))


def test_under_pmap_the_devices_draw_their_share_of_the_same_masks():
    x = jnp.ones((8, 5, 6))
    draw = lambda x, key: dropout(x, 0.3, row_keys(key, x.shape[0]))  # noqa: E731
    mapped = jax.pmap(draw, axis_name=ROWS, in_axes=(0, None))(x.reshape(4, 2, 5, 6), jax.random.key(3))
    np.testing.assert_array_equal(jax.jit(draw)(x, jax.random.key(3)), np.asarray(mapped).reshape(8, 5, 6))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.55])
def test_a_traced_rate_draws_the_same_mask(rate):
    keys = row_keys(jax.random.key(0), 4)
    traced = jax.jit(lambda rate: keep_mask(keys, rate, (4, 1000)))(rate)
    np.testing.assert_array_equal(keep_mask(keys, rate, (4, 1000)), traced)

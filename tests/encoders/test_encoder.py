import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.encoders.conftest import pack
from textfuse_jax.encoders.encoder import CachedEncoder, Encoder

ROWS = pack([[[2, 7, 9, 11, 3], [2, 30, 3]], [[2, 5, 6, 3]]], 10, 3)


def test_taps_are_means_over_the_tokens_of_each_unit(tiny):
    taps = ("00/token", "02/phrase", "02/document", "01/sentence")
    encoder = Encoder(tiny, taps)
    params = jax.jit(lambda: encoder.init(jax.random.key(0), ROWS, train=False))()
    assert set(params["params"]["transformer"]) == {"embeddings", "layer_01", "layer_02"}
    features, out = jax.jit(lambda p: encoder.apply(p, ROWS, train=False))(params)
    assert set(features) == set(taps)
    h = out["encoder/layer_02"]
    np.testing.assert_allclose(features["02/phrase"][0, 1], h[0, 2:4].mean(0), atol=1e-6)
    np.testing.assert_allclose(features["02/phrase"][0, 2], h[0, 4], atol=1e-6)
    np.testing.assert_allclose(features["02/document"][0, 1], h[0, 5:8].mean(0), atol=1e-6)
    np.testing.assert_array_equal(features["02/document"][0, 2], 0)
    np.testing.assert_array_equal(features["02/phrase"][1, 2:], 0)
    np.testing.assert_array_equal(features["00/token"][0, :8], out["encoder/layer_00"][0, :8])
    np.testing.assert_array_equal(features["00/token"][0, 8:], 0)
    np.testing.assert_allclose(out["encoder/saliency"][0].sum(), 2, atol=1e-6)


@pytest.mark.parametrize("tap", ["03/phrase", "02/word", "phrase", "2"])
def test_a_wrong_tap_is_told(tiny, tap):
    with pytest.raises(ValueError, match=rf"'LL/scale', LL in 00..02.*got '{tap}'"):
        Encoder(tiny, (tap,)).init(jax.random.key(0), ROWS, train=False)


def test_dropout_only_in_training(tiny):
    encoder = Encoder(tiny, ("02/document",))
    params = jax.jit(lambda: encoder.init(jax.random.key(0), ROWS, train=False))()

    @jax.jit
    def train(seed):
        return encoder.apply(params, ROWS, train=True, rngs={"dropout": jax.random.key(seed)})[0]["02/document"]

    np.testing.assert_array_equal(train(0), train(0))
    assert not jnp.array_equal(train(0), train(1))


def test_frozen_names_are_those_that_get_no_gradient(tiny):
    from textfuse_jax.config import default_config
    from textfuse_jax.training.assembly import is_frozen
    from textfuse_jax.training.step import flatten

    config = default_config()
    for config.encoder.tuned_from in range(4):
        encoder = Encoder(tiny, ("02/token",), frozen_layers=config.encoder.tuned_from)
        params = encoder.init(jax.random.key(0), ROWS, train=False)["params"]
        loss = lambda p: (encoder.apply({"params": p}, ROWS, train=False)[0]["02/token"] ** 2).sum()  # noqa: B023, E731
        for name, gradient in flatten({"encoder": jax.jit(jax.grad(loss))(params)}).items():
            assert not is_frozen(config, name) or not jnp.any(gradient), name
        assert is_frozen(config, "encoder/transformer/embeddings/token") == (config.encoder.tuned_from > 0)


def test_cached_features_come_back_without_gradient():
    rows = ROWS.replace(features={"02/phrase": jnp.ones((2, 10, 4), jnp.float16)})
    (features, out), variables = CachedEncoder(("02/phrase",)).init_with_output(jax.random.key(0), rows, train=True)
    assert variables == {} and out == {} and features["02/phrase"].dtype == jnp.float32

    def loss(x):
        return CachedEncoder(("02/phrase",)).apply({}, rows.replace(features={"02/phrase": x}), train=True)[0]["02/phrase"].sum()

    np.testing.assert_array_equal(jax.grad(loss)(jnp.ones((2, 10, 4))), 0)
    with pytest.raises(ValueError, match=r"no cached features '03/phrase', it has 02/phrase"):
        CachedEncoder(("03/phrase",)).apply({}, rows, train=False)

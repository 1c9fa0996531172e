"""The pyramid against its formula, worked out by hand with weights of 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.fake import document, init, pack, tokens_of
from textfuse_jax.models.pyramid import Pyramid, Single, resample, to_nodes

A, B = document((2, 1), (2,)), document((1,))
# phrases 0 1 | 2 of document 0 in sentences 0 | 1, phrase 3 of document 1 in sentence 2; one padding unit of each
ROWS = pack([[(A, tokens_of(A)), (B, tokens_of(B))]], t=12, phrases=5, sentences=4, slots=3)
TAPS = {
    "01/phrase": jnp.array([[[1.0], [2], [3], [4], [99]]]),
    "02/sentence": jnp.array([[[10.0], [20], [30], [99]]]),
    "03/document": jnp.array([[[100.0], [200], [99]]]),
    "02/token": jnp.arange(12.0)[None, :, None],
    "03/phrase": jnp.array([[[-1.0], [-2], [-3], [-4], [99]]]),
}
PLAIN = {"width": 1, "activation": "identity", "norm": "none"}


def identity_weights(module, *args):
    """Parameters with every kernel entry 1 and every bias 0."""
    params = init(module, *args, train=False)
    return jax.tree.map(lambda x: jnp.ones_like(x) if x.ndim > 1 else jnp.zeros_like(x), params)


def apply(module, **kwargs):
    """Runs the module with such weights."""
    run = jax.jit(lambda params: module.apply(params, TAPS, ROWS, train=False, **kwargs))
    return run(identity_weights(module, TAPS, ROWS))


def test_resample_by_hand():
    up = resample(TAPS["02/sentence"], ROWS, "sentence", "phrase")
    np.testing.assert_array_equal(up[0, :, 0], [10, 10, 20, 30, 0])
    down = resample(TAPS["01/phrase"], ROWS, "phrase", "sentence")
    np.testing.assert_array_equal(down[0, :, 0], [1.5, 3, 4, 0])
    same = resample(TAPS["01/phrase"], ROWS, "phrase", "phrase")
    np.testing.assert_array_equal(same[0, :, 0], [1, 2, 3, 4, 0])
    to_tokens = resample(TAPS["01/phrase"], ROWS, "phrase", "token")
    np.testing.assert_array_equal(to_tokens[0, :, 0], [0, 1, 1, 2, 3, 3, 0, 0, 4, 0, 0, 0])
    of_document = resample(TAPS["02/token"], ROWS, "token", "document")
    np.testing.assert_array_equal(of_document[0, :, 0], [3, 8, 0])


def test_levels_add_up_from_coarse_to_fine():
    """With W = 1, phi = identity: F_3 = H_3, F_2 = H_2 + Up F_3, F_1 = H_1 + Up F_2."""
    nodes, out = apply(Pyramid(("01/phrase", "02/sentence", "03/document"), ("phrase", "sentence"), combine="sum", **PLAIN))
    np.testing.assert_array_equal(out["pyramid/03/document"][0, :, 0], [100, 200, 0])
    np.testing.assert_array_equal(out["pyramid/02/sentence"][0, :, 0], [110, 120, 230, 0])
    np.testing.assert_array_equal(out["pyramid/01/phrase"][0, :, 0], [111, 112, 123, 234, 0])
    phrases = [111 + 110 + 100, 112 + 110 + 100, 123 + 120 + 100, 234 + 230 + 200, 0]
    sentences = [111.5 + 110 + 100, 123 + 120 + 100, 234 + 230 + 200, 0]
    np.testing.assert_array_equal(nodes.features[0, :, 0], phrases + sentences)


def test_activation_and_norm_are_applied_at_every_level():
    pyramid = Pyramid(("01/phrase", "02/sentence"), ("phrase",), width=1, activation=lambda x: -x, norm="none", combine="sum")
    _, out = apply(pyramid)
    np.testing.assert_array_equal(out["pyramid/02/sentence"][0, :, 0], [-10, -20, -30, 0])
    np.testing.assert_array_equal(out["pyramid/01/phrase"][0, :, 0], [9, 8, 17, 26, 0])
    _, out = apply(Pyramid(("01/phrase",), ("phrase",), width=2, activation="identity", norm="layer"))
    np.testing.assert_array_equal(out["pyramid/01/phrase"], np.zeros((1, 5, 2)))  # two equal features: 0 after the norm


def test_nodes_carry_their_document_level_parent():
    nodes, _ = apply(Pyramid(("03/document",), ("phrase", "sentence"), **PLAIN))
    assert nodes.slots == 3 and nodes.senders.shape == (1, 0)
    np.testing.assert_array_equal(nodes.document[0], [0, 0, 0, 1, 3, 0, 0, 1, 3])
    np.testing.assert_array_equal(nodes.level[0], [0, 0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(nodes.parent[0], [5, 5, 6, 7, 9, 9, 9, 9, 9])
    np.testing.assert_array_equal(nodes.saliency[0], np.zeros(9))


def test_a_parent_may_skip_a_scale():
    nodes, _ = apply(Pyramid(("03/document",), ("phrase", "document"), **PLAIN))
    np.testing.assert_array_equal(nodes.parent[0], [5, 5, 5, 6, 8, 8, 8, 8])


def test_saliency_is_the_mean_over_a_nodes_tokens():
    weight = jnp.array([[0.5, 0.1, 0.3, 0.05, 0.02, 0.02, 0.01, 0.5, 0.25, 0.25, 9, 9]])
    nodes, _ = apply(Pyramid(("03/document",), ("phrase", "document"), **PLAIN), saliency=weight)
    np.testing.assert_allclose(nodes.saliency[0], [0.2, 0.05, 0.02, 0.25, 0, 1 / 7, 1 / 3, 0], rtol=1e-6)


def test_concat_keeps_levels_apart():
    pyramid = Pyramid(("01/phrase", "03/document"), ("phrase",), **PLAIN)
    params = identity_weights(pyramid, TAPS, ROWS)
    params["params"]["project_phrase"]["kernel"] = jnp.array([[1.0], [1000]])
    nodes, _ = pyramid.apply(params, TAPS, ROWS, train=False)
    expected = [101 + 100e3, 102 + 100e3, 103 + 100e3, 204 + 200e3, 0]
    np.testing.assert_array_equal(nodes.features[0, :, 0], expected)


def test_attention_weighs_levels_by_a_softmax():
    """With U = v = 1 the score of a level is tanh(F_l)."""
    pyramid = Pyramid(("01/phrase", "03/phrase"), ("phrase",), combine="attention", **PLAIN)
    nodes, out = apply(pyramid)
    f_2 = np.array([-1.0, -2, -3, -4])
    f_1 = np.array([1.0, 2, 3, 4]) + f_2
    share = np.exp(np.tanh(f_1)) / (np.exp(np.tanh(f_1)) + np.exp(np.tanh(f_2)))
    np.testing.assert_allclose(out["pyramid/attention"][0, :4, 0], share, rtol=1e-5)
    np.testing.assert_allclose(out["pyramid/attention"].sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(nodes.features[0, :4, 0], share * f_1 + (1 - share) * f_2, rtol=1e-5)


def test_padding_has_no_features_despite_biases():
    pyramid = Pyramid(("01/phrase", "03/document"), ("phrase", "document"), width=4)
    params = init(pyramid, TAPS, ROWS, train=False)
    nodes, out = jax.jit(lambda p: pyramid.apply(p, TAPS, ROWS, train=False))(params)
    padding = nodes.document[0] == 3
    assert not nodes.features[0, padding].any() and nodes.features[0, ~padding].all()
    assert not out["pyramid/01/phrase"][0, 4].any()


def test_dropout_only_in_training():
    pyramid = Pyramid(("01/phrase",), ("phrase",), width=64, dropout=0.5)
    params = init(pyramid, TAPS, ROWS, train=False)
    _, out = pyramid.apply(params, TAPS, ROWS, train=True, rngs={"dropout": jax.random.key(0)})
    zeros = float((out["pyramid/01/phrase"][0, :4] == 0).mean())
    assert 0.3 < zeros < 0.7
    _, out = pyramid.apply(params, TAPS, ROWS, train=False)
    assert (out["pyramid/01/phrase"][0, :4] != 0).all()


def test_single_is_the_tap_itself_or_a_projection_of_it():
    nodes, out = Single("02/sentence", ("phrase", "sentence")).apply({}, TAPS, ROWS, train=False)
    assert out == {}
    np.testing.assert_array_equal(nodes.features[0, :, 0], [10, 10, 20, 30, 0, 10, 20, 30, 0])
    nodes, _ = apply(Single("02/sentence", ("document",), width=2))
    np.testing.assert_array_equal(nodes.features[0], [[15, 15], [30, 30], [0, 0]])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": ()}, "at least one tap"),
        ({"levels": ("01/word",)}, "'01/word' must be"),
        ({"levels": ("phrase",)}, "'phrase' must be"),
        ({"levels": ("01/phrase", "01/phrase")}, "must not name a tap twice"),
        ({"levels": ("02/sentence", "01/phrase")}, "must go from fine to coarse"),
        ({"levels": ("04/phrase",)}, r"reads the tap '04/phrase', the encoder gives \['01/phrase'"),
        ({"nodes": ()}, "nodes must be scales"),
        ({"nodes": ("word",)}, "nodes must be scales"),
        ({"nodes": ("sentence", "phrase")}, "strictly from fine to coarse"),
        ({"nodes": ("phrase", "phrase")}, "strictly from fine to coarse"),
        ({"combine": "product"}, "combine must be"),
        ({"norm": "batch"}, 'norm must be "layer" or "none"'),
        ({"activation": "sine"}, "activation must be a callable or one of relu"),
    ],
)
def test_bad_fields_are_named(fields, message):
    pyramid = Pyramid(**({"levels": ("01/phrase",), "nodes": ("phrase",)} | fields))
    with pytest.raises(ValueError, match=message):
        init(pyramid, TAPS, ROWS, train=False)


def test_to_nodes_takes_features_of_each_scale():
    nodes = to_nodes([TAPS["01/phrase"], TAPS["03/document"]], ROWS, ("phrase", "document"))
    np.testing.assert_array_equal(nodes.features[0, :, 0], [1, 2, 3, 4, 0, 100, 200, 0])

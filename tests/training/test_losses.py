import jax
import jax.numpy as jnp
import numpy as np
import pytest

from textfuse_jax.config import default_config
from textfuse_jax.training import losses

LOGITS = jnp.log(jnp.array([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]]))
LABELS = jnp.array([[0, 1]])


def test_cross_entropy_by_hand():
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, LABELS), [[-np.log(0.5), -np.log(0.1)]], rtol=1e-6)


def test_label_smoothing_by_hand():
    q = np.array([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    expected = -(q * np.log([0.5, 0.3, 0.2])).sum()
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)[0, 0], expected, rtol=1e-6)


def test_class_weights_scale_the_loss_of_their_class():
    weighted = losses.cross_entropy(LOGITS, LABELS, jnp.array([2.0, 0.5, 1.0]))
    np.testing.assert_allclose(weighted, [[-2 * np.log(0.5), -0.5 * np.log(0.1)]], rtol=1e-6)


def test_focal_by_hand_and_gamma_zero_is_cross_entropy():
    np.testing.assert_allclose(losses.focal(LOGITS, LABELS, gamma=2.0)[0, 0], -0.25 * np.log(0.5), rtol=1e-5)
    np.testing.assert_allclose(losses.focal(LOGITS, LABELS, gamma=0.0), losses.cross_entropy(LOGITS, LABELS), rtol=1e-6)


def test_focal_gradient_is_finite_where_the_model_is_sure():
    sure = jnp.array([[[60.0, 0.0, 0.0]]])
    assert jnp.isfinite(jax.grad(lambda z: losses.focal(z, jnp.array([[0]]), gamma=0.5).sum())(sure)).all()


def test_disagreement_by_hand():
    other = jnp.log(jnp.array([[[0.3, 0.5, 0.2], [0.1, 0.1, 0.8]]]))
    expected = 0.5 * (0.2 * np.log(0.5 / 0.3) - 0.2 * np.log(0.3 / 0.5))
    np.testing.assert_allclose(losses.disagreement(LOGITS, other), [[expected, 0.0]], atol=1e-6)
    yes, no = jnp.array([[[2.0]]]), jnp.array([[[-1.0]]])
    p, q = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(1.0))
    expected = 0.5 * ((p - q) * np.log(p / q) + (q - p) * np.log((1 - p) / (1 - q)))
    np.testing.assert_allclose(losses.disagreement(yes, no, multi_label=True), [[expected]], rtol=1e-5)


def test_balanced_weights_work_under_jit():
    config = default_config().loss
    config.class_weights = "balanced"
    loss = jax.jit(losses.make_loss(config, np.array([0, 0, 0, 1, 2, 2]), 3))
    np.testing.assert_allclose(loss(LOGITS, LABELS), [[-2 / 3 * np.log(0.5), -2 * np.log(0.1)]], rtol=1e-5)
    config.class_weight_values = (1.0, 3.0, 1.0)
    np.testing.assert_allclose(losses.make_loss(config, np.array([0, 1]), 3)(LOGITS, LABELS)[0, 1], -3 * np.log(0.1), rtol=1e-5)


def test_binary_by_hand():
    loss = losses.binary(jnp.zeros((1, 1, 2)), jnp.array([[[1.0, 0.0]]]), jnp.array([3.0, 1.0]))
    np.testing.assert_allclose(loss, [[(3 * np.log(2) + np.log(2)) / 2]], rtol=1e-6)


def test_balanced_weights_have_mean_one_over_documents():
    labels = np.array([0, 0, 0, 1])
    weights = losses.class_weights("balanced", labels, 2)
    np.testing.assert_allclose(weights, [4 / 6, 2.0])
    assert weights[labels].mean() == pytest.approx(1.0)
    assert losses.class_weights("none", labels, 2) is None


@pytest.mark.parametrize("given", [(1.0,), (1.0, -1.0)])
def test_bad_class_weights_are_refused(given):
    with pytest.raises(ValueError, match="2 positive numbers"):
        losses.class_weights(given, np.array([0, 1]), 2)


def test_loss_and_labels_must_fit():
    config = default_config().loss
    with pytest.raises(ValueError, match="several labels a document"):
        losses.make_loss(config, np.zeros((3, 2), np.float32), 2)
    config.name = "binary"
    with pytest.raises(ValueError, match="one label a document"):
        losses.make_loss(config, np.zeros(3, np.int32), 2)


def test_logit_adjustment_by_hand():
    labels = np.array([0, 0, 0, 1], np.int32)
    config = default_config().loss
    config.logit_adjustment = 2.0
    logits = jnp.array([[[1.0, 1.0]]])
    found = losses.make_loss(config, labels, 2)(logits, jnp.array([[1]]))
    p = np.array([0.75, 0.25]) ** 2
    np.testing.assert_allclose(found, [[-np.log(p[1] / p.sum())]], rtol=1e-6)
    config.logit_adjustment = 0.0
    np.testing.assert_allclose(losses.make_loss(config, labels, 2)(logits, jnp.array([[1]])), [[np.log(2)]], rtol=1e-6)

    def traced(tau):  # as in a sweep, whose trials may have 0 among their values
        config.logit_adjustment = tau
        return losses.make_loss(config, np.array([0, 0, 0, 2], np.int32), 3)(jnp.array([[[1.0, 3.0, 2.0]]]), jnp.array([[1]]))

    with config.ignore_type():
        off, zero = traced(0.0), jax.jit(traced)(0.0)  # class 1 has no training document, and still a finite log share
    np.testing.assert_array_equal(zero, off)

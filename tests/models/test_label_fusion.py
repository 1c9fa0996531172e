"""FusionMLP: at its start a product of experts, missing members are no evidence, hidden ones in training as often as asked."""

import jax
import jax.numpy as jnp
import numpy as np

from textfuse_jax.fusion.network import rows_of
from textfuse_jax.models.label_fusion import FusionMLP

EVIDENCE = np.array([[[1.0, -1.0], [0.5, -0.5]], [[2.0, -2.0], [0.0, 0.0]]])  # two documents, two members, two classes
PRESENT = np.array([[True, True], [True, False]])
NONE = np.zeros((2, 0))


def start(module, rows):
    return module.init(jax.random.key(0), rows, train=False)["params"]


def test_untrained_it_adds_the_evidence_of_those_present():
    rows = rows_of(EVIDENCE, PRESENT, NONE)
    module = FusionMLP(classes=2)
    logits, out = module.apply({"params": start(module, rows)}, rows, train=False)
    np.testing.assert_allclose(logits[0], [[1.5, -1.5], [2.0, -2.0]], atol=1e-6)
    np.testing.assert_array_equal(out["fusion/present"][0], PRESENT)
    np.testing.assert_array_equal(out["fusion/correction"], np.zeros((1, 2, 2)))


def test_weights_and_bias_by_hand():
    rows = rows_of(EVIDENCE, PRESENT, NONE)
    module = FusionMLP(classes=2, hidden=0)
    params = {"weight": jnp.array([[0.0, 0.0], [1.0, -1.0]]), "bias": jnp.array([0.1, 0.2])}
    logits, _ = module.apply({"params": params}, rows, train=False)
    np.testing.assert_allclose(logits[0], [[1 + 2 * 0.5 + 0.1, -1 + 0 + 0.2], [2.1, -1.8]], atol=1e-6)


def test_what_a_missing_member_would_have_said_changes_nothing():
    module = FusionMLP(classes=2)
    rows = rows_of(EVIDENCE, PRESENT, NONE)
    params = jax.tree.map(lambda x: x + 0.3, start(module, rows))
    loud = EVIDENCE.copy()
    loud[1, 1] = [99.0, -99.0]
    ours, theirs = (module.apply({"params": params}, rows_of(x, PRESENT, NONE), train=False)[0] for x in (EVIDENCE, loud))
    np.testing.assert_array_equal(ours, theirs)


def test_training_hides_llms_as_often_as_asked_and_the_encoder_never():
    n = 20_000
    rows = rows_of(np.ones((n, 3, 2)), np.ones((n, 3), bool), np.zeros((n, 0)))
    module = FusionMLP(classes=2, drop_members=0.3, droppable=(False, True, True))
    params = start(module, rows)
    _, out = module.apply({"params": params}, rows, train=True, rngs={"dropout": jax.random.key(1)})
    kept = np.asarray(out["fusion/present"][0]).mean(0)
    assert kept[0] == 1 and abs(kept[1] - 0.7) < 0.015 and abs(kept[2] - 0.7) < 0.015
    _, out = module.apply({"params": params}, rows, train=False)
    assert out["fusion/present"].all()


def test_the_network_reads_the_vector_and_standardised_scores():
    rows = rows_of(EVIDENCE, PRESENT, np.array([[1.0], [5.0]]))
    module = FusionMLP(classes=2, hidden=1, activation="identity")
    params = start(module, rows)
    assert params["hidden"]["kernel"].shape == (4 + 2 + 1, 1)
    kernel = np.zeros((7, 1))
    kernel[0], kernel[6] = 1.0, 10.0  # first class of the first member, and the vector
    params |= {"hidden": {"kernel": jnp.array(kernel), "bias": jnp.zeros(1)}, "correction": {"kernel": jnp.array([[1.0, 0.0]])}}
    params |= {"mean": jnp.full((2, 2), 1.0), "scale": jnp.full((2, 2), 2.0)}
    logits, _ = module.apply({"params": params}, rows, train=False)
    np.testing.assert_allclose(logits[0, :, 0], [1.5 + 0 + 10, 2 + 0.5 + 50], atol=1e-5)

"""The simple combiners on numbers worked out by hand, and on members of known strength."""

import numpy as np
import pytest

from textfuse_jax.fusion.combiners import COMBINERS, probabilities_of


def evidence_of(p):
    x = np.log(np.clip(np.asarray(p, float), 1e-6, 1))
    return x - x.mean(-1, keepdims=True)


# documents x members x classes
P = [[[0.6, 0.4], [0.1, 0.9], [0.7, 0.3]], [[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]]]
ALL = np.ones((2, 3), bool)


def probabilities(name, labels, evidence, present):
    combiner = COMBINERS[name]
    arrays = combiner.fit(evidence, present, labels)
    return probabilities_of(combiner.apply(arrays, evidence, present), labels.ndim == 2), arrays


def test_voting_counts_who_is_there():
    p, _ = probabilities("voting", np.array([0, 1]), evidence_of(P), ALL)
    np.testing.assert_allclose(p[0], [0.99 * 2 / 3 + 0.01 * 1.4 / 3, 0.99 / 3 + 0.01 * 1.6 / 3], atol=1e-6)
    alone = np.array([[False, True, False], [True, True, False]])
    p, _ = probabilities("voting", np.array([0, 1]), evidence_of(P), alone)
    assert p[0].argmax() == 1 and p[1, 0] == pytest.approx(0.5 * 0.99 + 0.01 * 0.55, abs=1e-6)


def test_voting_of_labels():
    p, _ = probabilities("voting", np.array([[1.0, 0.0]]), np.array([[[2.0, -2.0], [1.0, 3.0]]]), np.ones((1, 2), bool))
    assert p[0, 0] > 0.98 and 0.45 < p[0, 1] < 0.55


def members_of_strength(strengths, n=3000, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    x = rng.normal(size=(n, len(strengths), 3)) + np.asarray(strengths)[None, :, None] * np.eye(3)[labels][:, None]
    return x - x.mean(-1, keepdims=True), np.ones((n, len(strengths)), bool), labels


def test_weights_go_to_the_better_member():
    x, present, labels = members_of_strength([3.0, 0.0])
    p, arrays = probabilities("weighted", labels, x, present)
    assert arrays["weight"][0] > 0.95 and arrays["weight"].sum() == pytest.approx(1)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("name", sorted(COMBINERS))
def test_two_good_members_are_at_least_as_good_as_one(name):
    x, present, labels = members_of_strength([2.0, 2.0])
    p, _ = probabilities(name, labels, x, present)
    one = (x[:, 0].argmax(1) == labels).mean()
    assert (p.argmax(1) == labels).mean() > one - (0.03 if name in ("per_class", "voting") else -0.03)


@pytest.mark.parametrize("name", sorted(COMBINERS))
def test_a_missing_member_is_not_listened_to(name):
    x, present, labels = members_of_strength([2.0, 3.0], 600)
    arrays = COMBINERS[name].fit(x, present, labels)
    gone = present & (np.arange(2) == 0)
    loud = np.where(np.arange(2)[:, None] == 1, 0.0, x)
    np.testing.assert_allclose(
        COMBINERS[name].apply(arrays, loud, gone), COMBINERS[name].apply(arrays, loud.copy(), gone), atol=0
    )
    p = probabilities_of(COMBINERS[name].apply(arrays, loud, gone), False)
    assert (p.argmax(1) == x[:, 0].argmax(1)).mean() > 0.9


def test_stacking_of_two_classes_and_of_a_class_nobody_has():
    x, present, labels = members_of_strength([2.0, 2.0], 600)
    p, _ = probabilities("stacking", np.minimum(labels, 1), x, present)
    assert p[:, 2].max() < 1e-6 and (p.argmax(1) == np.minimum(labels, 1)).mean() > 0.8
    several = np.eye(3)[labels]
    several[:, 2] = 0
    p, _ = probabilities("stacking", several, x, present)
    assert p[:, 2].max() < 1e-6 and ((p[:, 0] > 0.5) == several[:, 0]).mean() > 0.8


def test_each_class_by_its_best_member():
    labels = np.array([0, 0, 1, 1])
    x = np.zeros((4, 2, 2))
    x[:, 0] = [1, -1]  # the first says 0 always, the second 1
    x[:, 1] = [-1, 1]
    p, arrays = probabilities("per_class", labels, x, np.ones((4, 2), bool))
    np.testing.assert_array_equal(arrays["order"], [[0, 1], [1, 0]])
    np.testing.assert_allclose(p, 0.5)  # both are as sure of their class

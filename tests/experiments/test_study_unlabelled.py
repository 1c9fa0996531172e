"""Learning from texts without labels: the targets by hand, and clouds that two labelled points alone divide wrongly."""

import numpy as np
import pytest

from experiments import study_unlabelled


def test_targets_are_surer_and_even():
    """Worked out by hand: squares, over what all rows give a class, over their sum."""
    p = np.array([[0.8, 0.2], [0.6, 0.4]])
    first, second = 0.64 / (0.64 + 0.36), 0.04 / (0.04 + 0.16)
    q = study_unlabelled.sharpened(p)
    assert q[0] == pytest.approx([first / (first + second), second / (first + second)])
    assert q.sum(1) == pytest.approx([1, 1])
    assert q[1, 1] > 0.5, "the class that has less of all rows takes the row that is nearly even"
    assert study_unlabelled.sharpened(np.array([[0.8, 0.2], [0.2, 0.8]]))[0] == pytest.approx([0.64 / 0.68, 0.04 / 0.68])


def test_a_row_counts_for_each_class_by_its_weight():
    """As the same row twice, with a label and a weight each; a weight below 0.01 is none."""
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    soft = study_unlabelled.fit_soft(x, np.array([[1, 0.009], [0, 1], [0.25, 0.75]]), 1.0)
    twice = study_unlabelled.fit_soft(np.concatenate([x, x[2:]]), np.array([[1, 0], [0, 1], [0.25, 0], [0, 0.75]]), 1.0)
    np.testing.assert_allclose(soft.coef_, twice.coef_, atol=1e-6)


def test_unlabelled_points_turn_a_wrong_border():
    """Two clouds farther apart than they are long, a labelled point at opposite ends: the border between these cuts both."""
    rng = np.random.default_rng(0)
    label = np.arange(400) % 2
    x = np.stack([rng.uniform(-1, 1, 400), np.where(label, 1.5, -1.5) + 0.2 * rng.normal(size=400)], 1)
    labelled, labels, descriptions = np.array([[-1, -0.3], [1, 0.3]]), np.array([0, 1]), np.array([[-1, -0.45], [1, 0.45]])

    def right(rounds: int) -> float:
        return (study_unlabelled.self_train(labelled, labels, descriptions, x, rounds).predict(x) == label).mean()

    assert right(0) < 0.85 and right(8) > 0.98

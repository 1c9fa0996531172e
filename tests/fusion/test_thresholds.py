"""Thresholds of labels: a rare label is predicted, a plateau's middle is taken, nothing to learn from leaves 0.5."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from textfuse_jax.fusion.thresholds import GRID, f1_by_threshold, tune_thresholds


def test_f1_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth, p = rng.random(200) < 0.2, rng.random(200)
    candidates = np.array([0.0, 0.1, p[3], 0.5, 0.99, 1.0])
    expected = [f1_score(truth, p >= t, zero_division=0) for t in candidates]
    np.testing.assert_allclose(f1_by_threshold(truth, p, candidates), expected)


def test_a_rare_label_gets_a_low_threshold_and_a_plateau_its_middle():
    p = np.r_[np.full(5, 0.2), np.full(95, 0.02)][:, None]
    truth = np.r_[np.ones(5), np.zeros(95)][:, None]
    (threshold,) = tune_thresholds(truth, p)
    assert 0.02 < threshold < 0.2
    middle = (np.log(0.2 / 0.8) + np.log(0.02 / 0.98)) / 2
    assert abs(np.log(threshold / (1 - threshold)) - middle) < 0.1


def test_a_label_without_a_positive_document_keeps_one_half():
    truth, p = np.zeros((10, 2)), np.full((10, 2), 0.3)
    truth[0, 0] = 1
    assert tune_thresholds(truth, p)[1] == 0.5 and GRID[0] < 0


def test_shapes_that_differ_are_told():
    with pytest.raises(ValueError, match=r"\[n, c\]"):
        tune_thresholds(np.zeros((3, 2)), np.zeros((3, 1)))

"""Calibration: bins and ECE by hand, temperatures that are known."""

import numpy as np
import pytest
from scipy import special

from textfuse_jax.evaluation.calibration import (
    apply_temperature,
    bin_index,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)


def test_bins_are_open_below_and_hold_zero():
    assert bin_index(np.array([0.0, 0.2, 0.2000001, 0.4, 1.0]), 5).tolist() == [0, 0, 1, 1, 4]


def test_reliability_bins_and_ece_by_hand():
    confidence, correct = np.array([0.6, 0.7, 0.9, 1.0]), np.array([1, 0, 1, 1])
    table = reliability_bins(confidence, correct, 4)
    assert table.count.tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(table.confidence, [0, 0, 0.65, 0.95])
    np.testing.assert_allclose(table.accuracy, [0, 0, 0.5, 1.0])
    assert expected_calibration_error(confidence, correct, 4) == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)


def test_calibrated_predictions_have_no_error():
    assert expected_calibration_error(np.full(10, 0.7), np.arange(10) < 7) == pytest.approx(0.0)


def test_temperature_is_known_for_constant_confidence():
    """Logits (z, 0) everywhere and 3 of 4 documents of class 0: the best softmax gives 3/4, so z / T = log 3."""
    logits, labels = np.tile([4.0, 0.0], (8, 1)), np.array([0, 0, 0, 1] * 2)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(4 / np.log(3), rel=1e-3)
    np.testing.assert_allclose(apply_temperature(logits, temperature)[0], [0.75, 0.25], atol=1e-4)


def test_temperature_recovers_what_sharpened_the_logits():
    rng = np.random.default_rng(1)
    true = rng.normal(size=(4000, 5))
    labels = np.array([rng.choice(5, p=p) for p in special.softmax(true, 1)])
    assert fit_temperature(3 * true, labels) == pytest.approx(3.0, rel=0.1)


def test_multi_label_temperature():
    logits, labels = np.full((4, 2), 2.0), np.array([[1, 1], [1, 0], [1, 1], [0, 1]], np.float32)
    temperature = fit_temperature(logits, labels)
    np.testing.assert_allclose(apply_temperature(logits, temperature, multi_label=True), 0.75, atol=1e-4)


def test_scaling_keeps_the_prediction():
    logits = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_array_equal(apply_temperature(logits, 7.0).argmax(1), logits.argmax(1))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="row 1 isn't finite"):
        fit_temperature(np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([0, 1]))
    with pytest.raises(ValueError, match="n >= 1"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match="must be > 0, got 0"):
        apply_temperature(np.zeros((1, 2)), 0)

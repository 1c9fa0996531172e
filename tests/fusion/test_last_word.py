"""Validation's last word: temperature scaling where nothing else helps, a member where the fusion misleads, little from few."""

import numpy as np
import pytest

from textfuse_jax.evaluation.calibration import fit_temperature, unseen
from textfuse_jax.fusion import last_word
from textfuse_jax.fusion.combiners import probabilities_of


def material(n, seed=0, multi_label=False):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < 0.4).astype(float) if multi_label else rng.integers(0, 3, n)
    truth = 2 * labels - 1 if multi_label else np.eye(3)[labels]
    return labels, truth + rng.normal(size=(n, 3)), rng.normal(size=(n, 2, 3))


@pytest.mark.parametrize("multi_label", [False, True])
def test_without_anything_to_add_it_is_temperature_scaling(multi_label):
    labels, logits, noise = material(20_000, multi_label=multi_label)
    weight, bias = last_word.fit(3 * logits, noise, labels)
    assert weight[0] == pytest.approx(1 / fit_temperature(3 * logits, labels), rel=0.05 if not multi_label else 0.2)
    assert np.abs(weight[1:]).max() < 0.05


def test_a_member_takes_over_from_misleading_logits():
    labels, member, noise = material(2000)
    evidence = np.stack([member, noise[:, 0]], 1)
    weight, bias = last_word.fit(noise[:, 1], evidence, labels)
    assert weight[1] > 0.8 and abs(weight[0]) < 0.1 and abs(weight[2]) < 0.1
    z = last_word.apply(weight[None], bias[None], noise[:, 1], evidence)
    assert (z.argmax(1) == labels).mean() >= (member.argmax(1) == labels).mean() - 0.005


def test_few_documents_move_little():
    labels, logits, noise = material(12)
    weight, bias = last_word.fit(logits, noise, labels)
    assert np.abs(weight[1:]).max() < 0.3 and np.abs(bias).max() < 0.5


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_is_right_on_a_few_documents_is_no_certainty(multi_label):
    labels, logits, _ = material(24, multi_label=multi_label)
    truth = 2 * labels - 1 if multi_label else np.eye(3)[labels]
    logits = logits + 4 * truth  # without an error
    weight, bias = last_word.fit(logits, np.zeros((24, 1, 3)), labels)
    z = last_word.apply(weight[None], bias[None], logits, np.zeros((24, 1, 3)))
    p = probabilities_of(z, multi_label)
    sure = np.maximum(p, 1 - p).mean() if multi_label else p.max(1).mean()
    assert 1 - 1.5 * unseen(labels, 3) < sure < 1 - 0.3 * unseen(labels, 3)
    assert len(np.unique(p)) > 20  # who is surer than who can still be told


def test_the_prior_of_a_class_is_learned():
    labels, logits, noise = material(3000)
    shifted = logits + np.array([2.0, 0.0, 0.0])
    weight, bias = last_word.fit(shifted, noise, labels)
    assert bias[0] - bias[1:].mean() == pytest.approx(-2 * weight[0], abs=0.3)

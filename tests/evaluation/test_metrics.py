"""Metrics against numbers worked out by hand, and against scikit-learn on random predictions."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from textfuse_jax.evaluation.metrics import classification_metrics, selection_metrics

NAMES = ["a", "b", "c"]
LABELS = np.array([0, 0, 1, 2])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]], np.float32)


def test_four_documents_by_hand():
    m = classification_metrics(LABELS, PROBABILITIES, NAMES)
    assert m["n"] == 4 and m["accuracy"] == 0.75
    assert m["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert m["precision_macro"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert m["recall_macro"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert m["f1_macro"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert m["nll"] == pytest.approx(-(math.log(0.8) + math.log(0.3) + math.log(0.7) + math.log(0.8)) / 4, abs=1e-6)
    assert m["brier"] == pytest.approx((0.06 + 0.86 + 0.14 + 0.06) / 4, abs=1e-6)
    # bins of width 1/15: both 0.8 in one (right, gap 0.2), 0.6 alone (wrong, gap 0.6), 0.7 alone (right, gap 0.3)
    assert m["ece"] == pytest.approx((2 * 0.2 + 0.6 + 0.3) / 4, abs=1e-6)
    # class a: scores of a 0.8, 0.3 over 0.2, 0.1: 1; class b: 0.7 over all others: 1; class c: 1
    assert m["auc_ovr"] == 1.0
    assert m["per_class"]["b"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    json.dumps(m, allow_nan=False)


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 4, 300), rng.dirichlet(np.ones(4), 300)
    m = classification_metrics(labels, probabilities, list("wxyz"))
    assert m["accuracy"] == pytest.approx(sk.accuracy_score(labels, probabilities.argmax(1)))
    assert m["f1_macro"] == pytest.approx(sk.f1_score(labels, probabilities.argmax(1), average="macro"))
    assert m["auc_ovr"] == pytest.approx(sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"))
    assert m["nll"] == pytest.approx(sk.log_loss(labels, probabilities))
    assert m["brier"] == pytest.approx(sk.brier_score_loss(labels, probabilities, scale_by_half=False))


def test_two_classes_have_the_usual_auc():
    labels, p = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.9, 0.2])
    m = classification_metrics(labels, np.stack([1 - p, p], 1), ["no", "yes"])
    assert m["auc_ovr"] == pytest.approx(sk.roc_auc_score(labels, p)) == pytest.approx(4.5 / 6)


def test_absent_class_has_no_auc_but_a_reason():
    m = classification_metrics(np.array([0, 1]), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]), ["a", "b", "sea|side"])
    assert m["auc_ovr"] is None and "'sea|side'" in m["auc_ovr_reason"]
    assert m["per_class"]["sea|side"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert m["f1_macro"] == pytest.approx(2 / 3)


def test_a_sure_mistake_costs_a_finite_loss():
    m = classification_metrics(np.array([1, 0]), np.array([[1.0, 0.0], [1.0, 0.0]]), ["a", "b"])
    assert m["nll"] == pytest.approx(-math.log(np.finfo(float).eps) / 2)


def test_multi_label_by_hand():
    labels = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    probabilities = np.array([[0.9, 0.6], [0.4, 0.7], [0.2, 0.1]])
    m = classification_metrics(labels, probabilities, ["joy", "fear"])
    # predicted: {joy, fear}, {fear}, {}: only the last document is right in every label
    assert m["accuracy"] == pytest.approx(1 / 3)
    assert m["confusion"] == [[[1, 0], [1, 1]], [[1, 1], [0, 1]]]
    assert m["f1_macro"] == pytest.approx((2 / 3 + 2 / 3) / 2) and m["f1_micro"] == pytest.approx(4 / 6)
    assert m["auc_ovr"] == 1.0
    pairs = [0.9, 0.4, 0.4, 0.7, 0.8, 0.9]  # probability given to what came true
    assert m["nll"] == pytest.approx(-np.mean(np.log(pairs)))
    assert m["brier"] == pytest.approx(np.mean([(1 - p) ** 2 for p in pairs]))
    lower = classification_metrics(labels, probabilities, ["joy", "fear"], thresholds=[0.3, 0.65])
    assert lower["accuracy"] == 1.0 and lower["f1_micro"] == 1.0


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.array([], int), np.zeros((0, 2)), "no document"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 1.0]]), "row 1, class 0 is nan"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [np.inf, 1.0]]), "row 1, class 0 is inf"),
        (np.array([0, 1]), np.array([[2.0, -1.0], [0.5, 0.5]]), "are these logits"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.4]]), "row 1 sums to 0.9"),
        (np.array([0, 1]), np.ones((2, 3)) / 3, r"shape \(2, 2\)"),
        (np.array([0, 2]), np.ones((2, 2)) / 2, "row 1 is 2, outside the 2 classes"),
        (np.array([0.0, 1.0]), np.ones((2, 2)) / 2, "must be integers"),
        (np.array([[0.0, 1.0], [0.5, 0.0]]), np.ones((2, 2)) / 2, "row 1, class 0 is 0.5"),
    ],
)
def test_bad_predictions_are_named(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(labels, probabilities, ["a", "b"])


def test_bad_names_and_thresholds():
    with pytest.raises(ValueError, match="distinct"):
        classification_metrics(np.array([0]), np.array([[0.5, 0.5]]), ["a", "a"])
    with pytest.raises(ValueError, match="one number or 2"):
        classification_metrics(np.array([[0, 1]]), np.array([[0.5, 0.5]]), ["a", "b"], thresholds=[0.5] * 3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_a_sweep_selects_by_is_what_a_report_shows(multi_label):
    rng = np.random.default_rng(1)
    probabilities = rng.uniform(size=(200, 4)) if multi_label else rng.dirichlet(np.ones(4), 200)
    labels = rng.integers(0, 2, (200, 4)) if multi_label else rng.integers(0, 4, 200)
    full = classification_metrics(labels, probabilities, list("wxyz"))
    assert selection_metrics(labels, probabilities) == pytest.approx({m: full[m] for m in ("n", "accuracy", "f1_macro", "nll")})

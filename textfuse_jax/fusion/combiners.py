"""The simple ways to join opinions, beside which a fusion network has to stand: voting, weights, stacking, a member a class.

A combiner is two pure functions: ``fit(evidence, present, labels) -> arrays`` and ``apply(arrays, evidence, present) -> logits``.
Evidence is the members' calibrated log-odds, f64 [n, m, c] (0 where missing). Arrays are all that is stored of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import optimize, special
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

Arrays = dict[str, np.ndarray]
TINY = 1e-9


class Combiner(NamedTuple):
    """``fit`` on training documents, ``apply`` to any."""

    fit: Callable[[np.ndarray, np.ndarray, np.ndarray], Arrays]
    apply: Callable[[Arrays, np.ndarray, np.ndarray], np.ndarray]


def probabilities_of(evidence: np.ndarray, multi_label: bool) -> np.ndarray:
    """Probabilities [..., c] of evidence or logits."""
    return special.expit(evidence) if multi_label else special.softmax(evidence, -1)


def _to_logits(p: np.ndarray, multi_label: bool) -> np.ndarray:
    p = np.clip(p, TINY, 1 - TINY)
    return np.log(p) - np.log1p(-p) if multi_label else np.log(p)


def _mean(p: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean over members [n, m, c] x [n, m, c or 1] -> [n, c]; members of weight 0 don't count."""
    return (p * weight).sum(1) / np.maximum(weight.sum(1), TINY)


def _voting_fit(evidence, present, labels) -> Arrays:
    return {"multi_label": np.array(labels.ndim == 2)}


def _voting(arrays: Arrays, evidence, present) -> np.ndarray:
    multi_label = bool(arrays["multi_label"])
    p, seen = probabilities_of(evidence, multi_label), present[..., None].astype(np.float64)
    votes = (p >= 0.5) if multi_label else p == p.max(-1, keepdims=True)
    return _to_logits(0.99 * _mean(votes.astype(np.float64), seen) + 0.01 * _mean(p, seen), multi_label)  # p settles a tie


def _weighted_fit(evidence, present, labels) -> Arrays:
    """Non-negative weights that sum to 1, of least negative log-likelihood of the mean probability."""
    multi_label = labels.ndim == 2
    p, seen = probabilities_of(evidence, multi_label), present[..., None].astype(np.float64)

    def loss(theta: np.ndarray) -> float:
        q = np.clip(_mean(p, seen * special.softmax(theta)[None, :, None]), TINY, 1 - TINY)
        if multi_label:
            return float(-(labels * np.log(q) + (1 - labels) * np.log1p(-q)).mean())
        return float(-np.log(q[np.arange(len(q)), labels]).mean())

    found = optimize.minimize(loss, np.zeros(evidence.shape[1]), method="L-BFGS-B", bounds=[(-6, 6)] * evidence.shape[1])
    return {"weight": special.softmax(found.x), "multi_label": np.array(multi_label)}


def _weighted(arrays: Arrays, evidence, present) -> np.ndarray:
    multi_label = bool(arrays["multi_label"])
    weight = present[..., None] * arrays["weight"][None, :, None]
    return _to_logits(_mean(probabilities_of(evidence, multi_label), weight), multi_label)


def _columns(evidence: np.ndarray, present: np.ndarray) -> np.ndarray:
    return np.concatenate([evidence.reshape(len(evidence), -1), present.astype(np.float64)], 1)


def _stacking_fit(evidence, present, labels) -> Arrays:
    """Logistic regression on all members' evidence and presence; one for each label (multi-label), else multinomial."""
    x, classes = _columns(evidence, present), evidence.shape[-1]
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    x = (x - mean) / scale
    weight, bias = np.zeros((x.shape[1], classes)), np.full(classes, -20.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if labels.ndim == 2:
            for k in range(classes):
                y = labels[:, k] > 0.5
                if 0 < y.sum() < len(y):
                    model = LogisticRegression(max_iter=300, tol=1e-3).fit(x, y)
                    weight[:, k], bias[k] = model.coef_[0], model.intercept_[0]
                elif y.any():
                    bias[k] = 20.0
        else:
            model = LogisticRegression(max_iter=300, tol=1e-3).fit(x, labels)
            if len(model.classes_) == 2:
                weight[:, model.classes_[1]], bias[model.classes_] = model.coef_[0], (0.0, model.intercept_[0])
            else:
                weight[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    return {"mean": mean, "scale": scale, "weight": weight, "bias": bias}


def _stacking(arrays: Arrays, evidence, present) -> np.ndarray:
    return (_columns(evidence, present) - arrays["mean"]) / arrays["scale"] @ arrays["weight"] + arrays["bias"]


def _per_class_fit(evidence, present, labels) -> Arrays:
    """Rank of the members for each class by their F1 on it, best first, int [m, c]."""
    multi_label, m, c = labels.ndim == 2, *evidence.shape[1:]
    truth = labels > 0.5 if multi_label else np.arange(c) == labels[:, None]
    p = probabilities_of(evidence, multi_label)
    f1 = np.zeros((m, c))
    for k in range(m):
        seen = present[:, k]
        said = (p[seen, k] >= 0.5) if multi_label else np.arange(c) == p[seen, k].argmax(-1)[:, None]
        f1[k] = 2 * (said & truth[seen]).sum(0) / np.maximum(said.sum(0) + truth[seen].sum(0), 1)
    return {"order": np.argsort(-f1, axis=0, kind="stable"), "multi_label": np.array(multi_label)}


def _per_class(arrays: Arrays, evidence, present) -> np.ndarray:
    """The probability of each class by the best member for it that has an opinion; rescaled to sum to 1 (multi-class)."""
    multi_label, order = bool(arrays["multi_label"]), arrays["order"]
    p = probabilities_of(evidence, multi_label)
    ranked = present[:, order]  # [n, rank, c]
    first = ranked.argmax(1)  # the best rank that is present
    member = np.take_along_axis(np.broadcast_to(order, ranked.shape), first[:, None], 1)
    chosen = np.take_along_axis(p, member, 1)[:, 0]
    return _to_logits(chosen if multi_label else chosen / np.maximum(chosen.sum(1, keepdims=True), TINY), multi_label)


COMBINERS = {
    "voting": Combiner(_voting_fit, _voting),
    "weighted": Combiner(_weighted_fit, _weighted),
    "stacking": Combiner(_stacking_fit, _stacking),
    "per_class": Combiner(_per_class_fit, _per_class),
}
"""Name -> combiner; "mlp", the fusion network, stands in ``fusion/network.py``."""

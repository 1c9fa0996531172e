"""Validation's last word: how much of the fused logits and of each member's evidence is believed, and the prior of each class.

    z = w_0 f / T + sum_m w_m x_m + b,   f the fused logits, T their temperature, x_m the evidence of member m (0 where missing)

fitted on validation documents, of which neither members nor combiner have learned: the negative log-likelihood plus
``PULL / 2`` times the squared distance from w = (1, 0, ..., 0), b = 0, which is plain temperature scaling. It is vector scaling
(Guo et al. 2017, section 4.2) with the members beside the logits. A combiner that few training documents have misled is so
turned down, and any one member alone is within reach; with a few dozen validation documents next to nothing moves, and what is
right on all of them is no certainty yet (``calibration.unseen``).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from textfuse_jax.evaluation.calibration import fit_temperature, unseen

PULL = 10.0
"""A prior of standard deviation 0.3 on each weight: what some hundred documents outweigh."""


def fit(
    logits: Float[np.ndarray, "n c"], evidence: Float[np.ndarray, "n m c"], labels: np.ndarray
) -> tuple[Float[np.ndarray, "1+m"], Float[np.ndarray, "c"]]:
    """Weights (of the logits, 1 / T included, then of the members) and biases; labels are classes or multi-hot."""
    smoothing = unseen(labels, logits.shape[1])
    temperature = fit_temperature(logits, labels, smoothing)
    x = np.concatenate([logits[:, None] / temperature, evidence], 1)
    (_, k, c), multi_label = x.shape, labels.ndim == 2
    truth = (1 - smoothing) * (labels if multi_label else np.eye(c)[labels]) + smoothing / (2 if multi_label else c)
    start = np.zeros(k + c)
    start[0] = 1.0

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        z = np.einsum("nkc,k->nc", x, theta[:k]) + theta[k:]
        top = np.logaddexp(0, z) if multi_label else special.logsumexp(z, 1, keepdims=True)
        wrong = (special.expit(z) if multi_label else np.exp(z - top)) - truth
        nll = (top - truth * z).sum() if multi_label else (top[:, 0] - (truth * z).sum(1)).sum()
        away = theta - start
        slope = np.r_[np.einsum("nkc,nc->k", x, wrong), wrong.sum(0)] + PULL * away
        return float(nll + PULL / 2 * away @ away), slope

    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    return np.r_[found[0] / temperature, found[1:k]], found[k:]


def apply(
    weight: Float[np.ndarray, "n 1+m"],
    bias: Float[np.ndarray, "n c"],
    logits: Float[np.ndarray, "n c"],
    evidence: Float[np.ndarray, "n m c"],
) -> Float[np.ndarray, "n c"]:
    """Logits of documents, each with the weights and biases of its row."""
    return weight[:, :1] * logits + (weight[:, 1:, None] * evidence).sum(1) + bias

"""An LLM's answers simulated from a level of confusion: for studies without an account, and always labelled as simulated.

It reads the true labels, so it is no model of anything but of what a fusion does with answers of such a quality.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from textfuse_jax.fusion.opinion import Opinion


def confusion_of(accuracy: float, classes: int) -> Float[np.ndarray, "c c"]:
    """The confusion matrix of this accuracy whose mistakes are spread evenly; 1 / classes answers by chance.

    Raises:
      ValueError: accuracy outside [0, 1].
    """
    if not 0 <= accuracy <= 1:
        raise ValueError(f"a simulated LLM's accuracy must lie in [0, 1], got {accuracy}")
    matrix = np.full((classes, classes), (1 - accuracy) / (classes - 1))
    np.fill_diagonal(matrix, accuracy)
    return matrix


def simulate(
    ids: Sequence[str],
    labels: np.ndarray,
    confusion: Float[np.ndarray, "c c"],
    *,
    name: str = "llm",
    seed: int = 0,
    difficulty: Float[np.ndarray, "n"] | None = None,
    correlation: float = 0.0,
    missing: float = 0.0,
) -> Opinion:
    """One-hot answers of one label a document.

    A document's luck is u = Phi(rho z + sqrt(1 - rho^2) e), e ~ N(0, 1), z the normal score of its rank by difficulty; the
    answer is right where u is at most its class's share of right answers, else another class is drawn from its row of the
    matrix. So shares of answers are the matrix's whatever rho is, and with rho > 0 mistakes meet on difficult documents.

    Args:
      labels: true classes, int [n].
      confusion: row i holds the probabilities of each answer to a document of class i.
      difficulty: higher = harder for another model, e.g. minus its log-probability of the truth; needed with correlation.
      correlation: rho in [0, 1).
      missing: share of the documents without an answer.
    """
    rng = np.random.default_rng(seed)
    n, classes = len(labels), len(confusion)
    noise = rng.standard_normal(n)
    if correlation:
        rank = (stats.rankdata(difficulty) - 0.5) / n
        noise = correlation * special.ndtri(rank) + np.sqrt(1 - correlation**2) * noise
    right = special.ndtr(noise) <= confusion[labels, labels]
    wrong = np.array(confusion, np.float64)
    np.fill_diagonal(wrong, 0)
    wrong /= np.maximum(wrong.sum(1, keepdims=True), 1e-12)
    drawn = (rng.random((n, 1)) > np.cumsum(wrong[labels], 1)).sum(1).clip(0, classes - 1)
    answer = np.where(right, labels, drawn)
    present = rng.random(n) >= missing
    scores = np.where(present[:, None], np.eye(classes)[answer], 0).astype(np.float32)
    accuracy = float(np.mean(np.diag(confusion)))
    return Opinion(name, f"simulated, accuracy {accuracy:.3g}, correlation {correlation:g}", tuple(ids), scores, present)


def simulate_labels(
    ids: Sequence[str], labels: np.ndarray, recall: float, precision: float, *, name: str = "llm", seed: int = 0
) -> Opinion:
    """Yes-or-no answers to every label of multi-label documents.

    A true label is named with probability ``recall``; another with the probability that makes ``precision`` of the named
    ones true, for a label of share s: recall s (1 - precision) / (precision (1 - s)).
    """
    rng = np.random.default_rng(seed)
    truth = np.asarray(labels) > 0.5
    share = truth.mean(0)
    false = np.clip(recall * share * (1 - precision) / np.maximum(precision * (1 - share), 1e-12), 0, 1)
    said = rng.random(truth.shape) < np.where(truth, recall, false)
    kind = f"simulated, recall {recall:g}, precision {precision:g}"
    return Opinion(name, kind, tuple(ids), said.astype(np.float32), np.ones(len(truth), bool))

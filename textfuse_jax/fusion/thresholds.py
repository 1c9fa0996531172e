"""A threshold for each label, tuned on validation: at 0.5 a rare label is never predicted."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

GRID = np.arange(-7.0, 3.0001, 0.05)
"""Candidate thresholds, log-odds: probabilities 0.0009 to 0.953."""
REACH = 6
"""Candidates on either side over which F1 is averaged, 0.3 in log-odds: the peak over a few positives is luck."""


def tune_thresholds(labels: Float[np.ndarray, "n c"], probabilities: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "c"]:
    """The threshold of each label with the highest F1 on these documents, F1 being averaged over neighbouring thresholds.

    Args:
      labels: multi-hot, of the validation split, never of the test split.
      probabilities: of each label.

    Returns:
      Thresholds in (0, 1); a label without a positive document gets 0.5.

    Raises:
      ValueError: shapes that differ, no document.
    """
    truth, p = np.asarray(labels) > 0.5, np.asarray(probabilities, np.float64)
    if truth.shape != p.shape or p.ndim != 2 or not len(p):
        raise ValueError(f"labels and probabilities must be [n, c] with n >= 1, got {truth.shape} and {p.shape}")
    candidates = special.expit(GRID)
    found = np.full(p.shape[1], 0.5)
    for k in np.flatnonzero(truth.any(0)):
        f1 = f1_by_threshold(truth[:, k], p[:, k], candidates)
        padded = np.pad(f1, REACH, mode="edge")
        smooth = np.convolve(padded, np.ones(2 * REACH + 1) / (2 * REACH + 1), mode="valid")
        best = np.flatnonzero(smooth >= smooth.max() - 1e-12)
        found[k] = candidates[best[len(best) // 2]]  # the middle of a plateau
    return found


def f1_by_threshold(
    truth: Bool[np.ndarray, "n"], p: Float[np.ndarray, "n"], candidates: Float[np.ndarray, "k"]
) -> Float[np.ndarray, "k"]:
    """F1 of ``p >= threshold`` for each candidate, 0 where nothing is predicted or true."""
    order = np.argsort(p)
    claimed = len(p) - np.searchsorted(p[order], candidates, side="left")
    hits = np.r_[np.cumsum(truth[order][::-1])[::-1], 0][len(p) - claimed]
    return 2 * hits / np.maximum(claimed + truth.sum(), 1)

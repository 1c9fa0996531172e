"""Does a stated probability mean what it says? Reliability bins, expected calibration error, temperature scaling."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, special

BINS = 15  # as in Guo et al. 2017, so that numbers compare with the literature
TEMPERATURES = (0.02, 50.0)  # search range; a fit at an end says that validation is separable, or that logits carry nothing


class ReliabilityBins(NamedTuple):
    """Equal-width bins of confidence, ``(edge_b, edge_b+1]``; an empty bin has count 0 and accuracy and confidence 0.

    Attributes:
      edges: bin borders from 0 to 1.
      count: predictions a bin holds.
      confidence: mean stated probability in a bin.
      accuracy: share of the bin's predictions that are right.
    """

    edges: Float[np.ndarray, "bins+1"]
    count: Int[np.ndarray, "bins"]
    confidence: Float[np.ndarray, "bins"]
    accuracy: Float[np.ndarray, "bins"]


def bin_index(confidence: Float[np.ndarray, "n"], bins: int = BINS) -> Int[np.ndarray, "n"]:
    """The bin of each confidence: bin b holds ``(b / bins, (b + 1) / bins]``, the first holds 0 too."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.digitize(np.asarray(confidence, np.float64), edges[1:-1], right=True)


def reliability_bins(
    confidence: Float[np.ndarray, "n"], correct: Bool[np.ndarray, "n"] | Float[np.ndarray, "n"], bins: int = BINS
) -> ReliabilityBins:
    """Count, mean confidence and accuracy in ``bins`` equal-width bins.

    Args:
      confidence: stated probability of each prediction, in [0, 1].
      correct: whether it came true, 0 or 1.
      bins: number of bins, >= 1.
    """
    index = bin_index(confidence, bins)
    count = np.bincount(index, minlength=bins)
    filled = np.maximum(count, 1)
    return ReliabilityBins(
        edges=np.linspace(0.0, 1.0, bins + 1),
        count=count,
        confidence=np.bincount(index, np.asarray(confidence, np.float64), bins) / filled,
        accuracy=np.bincount(index, np.asarray(correct, np.float64), bins) / filled,
    )


def expected_calibration_error(
    confidence: Float[np.ndarray, "n"], correct: Bool[np.ndarray, "n"] | Float[np.ndarray, "n"], bins: int = BINS
) -> float:
    """Expected calibration error: sum_b (n_b / n) |accuracy_b - confidence_b| (Guo et al. 2017, eq. 3)."""
    table = reliability_bins(confidence, correct, bins)
    return float(np.sum(table.count * np.abs(table.accuracy - table.confidence)) / max(table.count.sum(), 1))


def unseen(labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"], classes: int) -> float:
    """The share of other classes that n documents can't rule out, by the rule of succession: c / (n + c), of labels 2 / (n + 2).

    As in Platt's targets (1999): what is right on a few documents isn't taken for a certainty.
    """
    ways = 2 if labels.ndim == 2 else classes
    return ways / (len(labels) + ways)


def fit_temperature(
    logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"], smoothing: float = 0.0
) -> float:
    """The T > 0 that minimises the negative log-likelihood of ``softmax(logits / T)`` (Guo et al. 2017, section 4.2).

    The likelihood is concave in 1 / T, so the minimum found is the global one within ``TEMPERATURES``. With multi-hot
    labels the model is ``sigmoid(logits / T)``. Fit it on the validation split, never on the test split; it changes no
    multi-class prediction, only its probability.

    Args:
      logits: finite, before any softmax.
      labels: class of each document, or multi-hot labels.
      smoothing: share of a uniform target that is mixed into the labels, e.g. ``unseen``.

    Returns:
      T; above 1 the model was over-confident. On separable data it ends at the lower end of ``TEMPERATURES``.

    Raises:
      ValueError: no documents, shapes that don't fit, or a logit that isn't finite.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or not len(logits) or labels.shape not in (logits.shape[:1], logits.shape):
        raise ValueError(f"logits must be [n, c] with n >= 1 and labels [n] or [n, c], got {logits.shape} and {labels.shape}")
    if not np.isfinite(logits).all():
        raise ValueError(f"logits row {np.argwhere(~np.isfinite(logits))[0, 0]} isn't finite; fit on a model that trained stably")

    def loss(inverse: float) -> float:
        z = logits * inverse
        if labels.ndim == 2:
            return float(np.mean(np.logaddexp(0, z) - ((1 - smoothing) * labels + smoothing / 2) * z))
        log_p = special.log_softmax(z, -1)
        truth = np.take_along_axis(log_p, labels[:, None].astype(int), 1)
        return float(-(1 - smoothing) * np.mean(truth) - smoothing * np.mean(log_p))

    low, high = TEMPERATURES
    best = optimize.minimize_scalar(lambda s: loss(np.exp(-s)), bounds=(np.log(low), np.log(high)), method="bounded")
    return float(np.exp(best.x))


def apply_temperature(
    logits: Float[np.ndarray, "n c"], temperature: float, *, multi_label: bool = False
) -> Float[np.ndarray, "n c"]:
    """Probabilities ``softmax(logits / T)``, or ``sigmoid(logits / T)`` with ``multi_label``.

    Raises:
      ValueError: ``temperature`` isn't above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}; 1.0 leaves the probabilities as they are")
    scaled = np.asarray(logits, np.float64) / temperature
    return special.expit(scaled) if multi_label else special.softmax(scaled, -1)

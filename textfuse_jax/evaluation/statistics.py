"""How sure is a number, and is one model better than another? Bootstrap intervals, McNemar's test, seeds.

Intervals are percentile bootstrap intervals (Efron 1979) over documents: the test documents are drawn with replacement,
the metric is computed on each draw, and the interval holds the middle 95 %. They say how the score would vary with other
test documents of the same kind; how it varies with the training seed is ``summarise_seeds``'s to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from textfuse_jax.evaluation.metrics import binary_log_loss, check_predictions, decide, negative_log_likelihood

METRICS = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "auc_ovr", "nll")
CHUNK = 2_000_000  # entries of one block of resampling weights: 16 MB of float64, so that large splits don't fill memory
AUC_WORK = 100_000_000  # documents x classes x resamples, about a second: AUC is the one metric that isn't a matrix product
MIN_AUC_RESAMPLES = 200
EXACT_BELOW = 25  # discordant pairs under which McNemar's chi-square approximation isn't trusted


def resampling_weights(n: int, resamples: int, seed: int) -> Iterator[Float[np.ndarray, "b n"]]:
    """How often each of n documents is drawn in each resample, in blocks; the same for the same n, resamples and seed."""
    rng = np.random.default_rng(seed)
    block = max(1, CHUNK // n)
    for start in range(0, resamples, block):
        b = min(block, resamples - start)
        drawn = rng.integers(0, n, (b, n)) + np.arange(b)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n).astype(np.float64)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def weighted_auc(
    weights: Float[np.ndarray, "b n"], positive: Bool[np.ndarray, "n"], scores: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "b"]:
    """Area under the ROC curve for each row of document weights: P(score of a positive > of a negative), ties half.

    NaN for a row in which the positives or the negatives weigh nothing.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # documents with one score are one step of the curve
    weights = weights[:, order]
    total = np.add.reduceat(weights, starts, axis=1)
    up = np.add.reduceat(weights * positive[order], starts, axis=1)
    down = total - up
    below = np.cumsum(down, axis=1) - down
    pairs = up.sum(1) * down.sum(1)
    won = (up * (below + down / 2)).sum(1)
    return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


class _Scored:
    """Labels and probabilities in the form that lets a matrix of document weights score all resamples at once."""

    def __init__(self, labels: np.ndarray, probabilities: np.ndarray, thresholds: float | Sequence[float]):
        labels, self.p = check_predictions(labels, probabilities, np.shape(probabilities)[-1])
        multi_label = labels.ndim == 2
        self.truth = labels.astype(bool) if multi_label else np.arange(self.p.shape[1]) == labels[:, None]
        self.predicted = decide(self.p, thresholds if multi_label else None)
        self.correct = (self.truth == self.predicted).all(1)
        self.loss = (binary_log_loss if multi_label else negative_log_likelihood)(self.truth, self.p)

    def __call__(self, weights: Float[np.ndarray, "b n"], metrics: Sequence[str]) -> dict[str, Float[np.ndarray, "b"]]:
        n = weights.sum(1)
        hit = weights @ (self.truth & self.predicted).astype(np.float64)
        claimed, actual = weights @ self.predicted.astype(np.float64), weights @ self.truth.astype(np.float64)
        compute = {
            "accuracy": lambda: weights @ self.correct / n,
            "precision_macro": lambda: _ratio(hit, claimed).mean(1),
            "recall_macro": lambda: _ratio(hit, actual).mean(1),
            "f1_macro": lambda: _ratio(2 * hit, claimed + actual).mean(1),
            "f1_micro": lambda: _ratio(2 * hit.sum(1), (claimed + actual).sum(1)),
            "auc_ovr": lambda: np.mean(
                [weighted_auc(weights, self.truth[:, k], self.p[:, k]) for k in range(self.p.shape[1])], 0
            ),
            "nll": lambda: weights @ self.loss / n,
        }
        unknown = [m for m in metrics if m not in compute]
        if unknown:
            raise ValueError(f"no bootstrap for the metric {unknown[0]!r}; there is one for {', '.join(compute)}")
        return {m: compute[m]() for m in metrics}


def _interval(values: np.ndarray, level: float) -> list[float] | None:
    values = values[np.isfinite(values)]
    tail = 50 * (1 - level)
    return [float(v) for v in np.percentile(values, [tail, 100 - tail])] if len(values) else None


def bootstrap_intervals(
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"],
    probabilities: Float[np.ndarray, "n c"],
    metrics: Sequence[str] = METRICS,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    thresholds: float | Sequence[float] = 0.5,
) -> dict[str, list[float]]:
    """Percentile bootstrap interval of each metric: what ``result["test"]["ci95"]`` holds.

    Args:
      labels, probabilities, thresholds: as for ``classification_metrics``.
      metrics: of ``METRICS``, and ``f1_micro``.
      resamples: number of draws, >= 1; with many classes AUC stops after fewer (``AUC_WORK``, at least 200).
      seed: of the draws; the same seed gives the same interval.
      level: share of the draws the interval holds, in (0, 1).

    Returns:
      metric -> [low, high]. A draw that misses a class has no AUC and doesn't count for it; a metric that no draw defines
      is left out.

    Raises:
      ValueError: bad predictions (``check_predictions``), resamples < 1, level outside (0, 1), an unknown metric.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples must be >= 1 and level in (0, 1), got {resamples} and {level}")
    score = _Scored(labels, probabilities, thresholds)
    auc_resamples = max(MIN_AUC_RESAMPLES, AUC_WORK // score.p.size)
    draws: dict[str, list[np.ndarray]] = {m: [] for m in metrics}
    done = 0
    for weights in resampling_weights(len(score.p), resamples, seed):
        for m, values in score(weights, [m for m in metrics if m != "auc_ovr" or done < auc_resamples]).items():
            draws[m].append(values)
        done += len(weights)
    intervals = {m: _interval(np.concatenate(values), level) for m, values in draws.items()}
    return {m: i for m, i in intervals.items() if i is not None}


def paired_bootstrap(
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"],
    ours: Float[np.ndarray, "n c"],
    theirs: Float[np.ndarray, "n c"],
    metrics: Sequence[str] = ("accuracy", "f1_macro"),
    *,
    resamples: int = 1000,
    seed: int = 0,
    thresholds: float | Sequence[float] = 0.5,
) -> dict[str, dict[str, Any]]:
    """Difference ours - theirs of each metric, both scored on the same draws of documents.

    Returns:
      metric -> {"difference": on the documents themselves, "ci95": [low, high], "p": two-sided, 2 * the smaller share of draws
      on one side of 0, never below 1 / resamples}. A metric that isn't defined is left out.
    """
    a, b = _Scored(labels, ours, thresholds), _Scored(labels, theirs, thresholds)
    once = np.ones((1, len(a.p)))
    point_a, point_b = a(once, metrics), b(once, metrics)
    scored = [(a(w, metrics), b(w, metrics)) for w in resampling_weights(len(a.p), resamples, seed)]
    result: dict[str, dict[str, Any]] = {}
    for m in metrics:
        differences = np.concatenate([x[m] - y[m] for x, y in scored])
        differences = differences[np.isfinite(differences)]
        difference = float(point_a[m][0] - point_b[m][0])
        if len(differences) and np.isfinite(difference):
            side = min(np.mean(differences <= 0), np.mean(differences >= 0))
            p = float(min(1.0, max(2 * side, 1 / len(differences))))
            result[m] = {"difference": difference, "ci95": _interval(differences, 0.95), "p": p}
    return result


def mcnemar(ours_correct: Bool[np.ndarray, "n"], theirs_correct: Bool[np.ndarray, "n"]) -> dict[str, Any]:
    """McNemar's test (1947) that two classifiers err equally often on the same documents; two-sided.

    With b and c documents that only one of the two got right: below 25 of them the exact binomial test of b against b + c,
    else chi-square with continuity correction, (|b - c| - 1)^2 / (b + c). No such document: p = 1.

    Returns:
      {"p", "only_ours", "only_theirs", "method": "exact" | "chi-square"}.

    Raises:
      ValueError: the two have different shapes.
    """
    ours, theirs = np.asarray(ours_correct, bool), np.asarray(theirs_correct, bool)
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise ValueError(f"both must be [n] over the same documents, got {ours.shape} and {theirs.shape}")
    b, c = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if b + c < EXACT_BELOW:
        p, method = (float(stats.binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0), "exact"
    else:
        p, method = float(stats.chi2.sf(max(abs(b - c) - 1, 0) ** 2 / (b + c), df=1)), "chi-square"
    return {"p": p, "only_ours": b, "only_theirs": c, "method": method}


def compare(
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"],
    ours: Float[np.ndarray, "n c"],
    theirs: Float[np.ndarray, "n c"],
    name: str = "tfidf_logreg",
    *,
    resamples: int = 1000,
    seed: int = 0,
    thresholds: float | Sequence[float] = 0.5,
) -> dict[str, Any]:
    """``result["comparison"]``: McNemar's p against the model ``name``, and the paired differences of accuracy and macro-F1."""
    test = mcnemar(_Scored(labels, ours, thresholds).correct, _Scored(labels, theirs, thresholds).correct)
    paired = paired_bootstrap(labels, ours, theirs, resamples=resamples, seed=seed, thresholds=thresholds)
    result: dict[str, Any] = {f"mcnemar_p_vs_{name}": test["p"], "mcnemar": test}
    for metric, row in paired.items():
        result[f"{metric}_difference"], result[f"{metric}_difference_ci95"] = row["difference"], row["ci95"]
    return result


def summarise_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """Mean and sample standard deviation (n - 1) over runs that differ in their seed, for every number they all have.

    Returns:
      metric -> {"mean", "sd", "n"}; sd is None for a single run.

    Raises:
      ValueError: no runs.
    """
    if not runs:
        raise ValueError("no runs to summarise; give at least one dict of metrics")
    numeric = [k for k in runs[0] if all(isinstance(r.get(k), int | float) and not isinstance(r[k], bool) for r in runs)]
    return {
        k: {
            "mean": float(np.mean([r[k] for r in runs])),
            "sd": float(np.std([r[k] for r in runs], ddof=1)) if len(runs) > 1 else None,
            "n": len(runs),
        }
        for k in numeric
    }


def wilson_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share ``hits / n``; (0, 1) for n = 0. Fit for small strata, never outside [0, 1]."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(hits, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)

"""Which documents are worth an LLM call: the gain expected of its opinion, learned on validation from the encoder's uncertainty.

The gain of a document is how much more the truth is believed with the LLM's opinion than without. It is regressed on what is
known before the call, the encoder's probabilities alone; a call goes where the expected gain is largest. A document of a class
that the LLM is bad at, or whose rival is, is so left alone even where the encoder is unsure, which plain uncertainty can't tell.
Where validation, each half judged by a regression on the other, shows no more right answers for it than for plain uncertainty,
uncertainty it is. A share of calls is a threshold, the quantile of the expected gain on validation: whether a document is worth a
call doesn't depend on what is asked beside it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from textfuse_jax.evaluation.statistics import resampling_weights

KNOTS = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Quantiles of uncertainty at which the expected gain may bend."""
RIDGE = 1.0
QUANTILES = 1001
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclasses.dataclass(frozen=True)
class Router:
    """A regression of the gain of an opinion on the encoder's probabilities.

    Attributes:
      knots: of uncertainty.
      weight: of the features, their intercept last.
      gains: quantiles of the expected gain of validation documents, the least first.
      multi_label: whether a document has any number of labels.
    """

    knots: Float[np.ndarray, "k"]
    weight: Float[np.ndarray, " d"]
    gains: Float[np.ndarray, "k"]
    multi_label: bool

    def expected_gain(self, probabilities: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n"]:
        """Expected gain of an LLM's opinion of each document.

        Args:
          probabilities: without any LLM's opinion (``Fused.probabilities`` of ``Members.without_llms``).
        """
        return _features(probabilities, self.knots, self.multi_label) @ self.weight

    def order(self, probabilities: Float[np.ndarray, "n c"], share: float) -> Int[np.ndarray, "m"]:
        """The documents worth a call, those worth most first: expected gain above all but a ``share`` of validation's."""
        gain = self.expected_gain(probabilities)
        least = -np.inf if share >= 1 else np.inf if share <= 0 else np.quantile(self.gains, 1 - share, method="lower")
        order = np.argsort(-gain, kind="stable")
        return order[gain[order] > least]

    def to_json(self) -> str:
        """As text; ``from_json`` reads it."""
        return json.dumps({name: np.asarray(value).tolist() for name, value in dataclasses.asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> Router:
        """Inverse of ``to_json``."""
        plain = json.loads(text)
        return cls(*(np.array(plain[name]) for name in ("knots", "weight", "gains")), plain["multi_label"])


def uncertainty(probabilities: Float[np.ndarray, "n c"], multi_label: bool) -> Float[np.ndarray, "n"]:
    """1 - max p; multi-label: expected number of wrong labels at 0.5, sum_c min(p, 1 - p)."""
    return np.minimum(probabilities, 1 - probabilities).sum(1) if multi_label else 1 - probabilities.max(1)


def top(score: Float[np.ndarray, "n"], share: float) -> Bool[np.ndarray, "n"]:
    """The ``floor(share n)`` documents of the highest score; the first ones win ties."""
    chosen = np.zeros(len(score), bool)
    chosen[np.argsort(-score, kind="stable")[: int(share * len(score) + 1e-9)]] = True
    return chosen


def _features(p: np.ndarray, knots: np.ndarray, multi_label: bool) -> np.ndarray:
    u = uncertainty(p, multi_label)
    bends = [np.maximum(u - knot, 0) for knot in knots]
    if multi_label:
        each = np.minimum(p, 1 - p)
    else:  # the uncertainty of each class as the winner, and how much each is the rival
        ordered = np.argsort(-p, axis=1)
        each = np.zeros((len(p), 2 * p.shape[1]))
        each[np.arange(len(p)), ordered[:, 0]] = u
        each[np.arange(len(p)), p.shape[1] + ordered[:, 1]] = np.take_along_axis(p, ordered[:, 1:2], 1)[:, 0]
    return np.column_stack([u, *bends, each, np.ones(len(p))])


def fit_router(
    labels: np.ndarray,
    without: Float[np.ndarray, "n c"],
    using: Float[np.ndarray, "n c"],
    answered: Bool[np.ndarray, "n"] | None = None,
) -> Router:
    """Learns the gain of an LLM's opinion by ridge regression; plain uncertainty where that does no better.

    Better is more right answers; of several labels, where what is right depends on thresholds, more belief in the truth.

    Args:
      labels: of validation documents.
      without, using: their fused probabilities without and with the LLMs' opinions.
      answered: which documents have such an opinion, the gain being learned of them alone; None: all.
    """
    multi_label = labels.ndim == 2
    everyone = without
    if answered is not None and answered.any():
        labels, without, using = labels[answered], without[answered], using[answered]
    gain = belief(labels, using) - belief(labels, without)
    unsure = uncertainty(without, multi_label)
    knots = np.unique(np.quantile(unsure, KNOTS))
    x = _features(without, knots, multi_label)
    weight = _ridge(x, gain)
    won = gain if multi_label else (using.argmax(1) == labels).astype(np.float64) - (without.argmax(1) == labels)
    learned, half = np.zeros(len(x)), np.arange(len(x)) % 2 == 0
    for rest in (half, ~half):
        learned[~rest] = x[~rest] @ _ridge(x[rest], gain[rest])
    if sum(won[top(learned, share)].sum() - won[top(unsure, share)].sum() for share in SHARES) <= 0:
        weight = np.eye(len(weight))[0]  # the first feature is uncertainty
    gains = np.quantile(_features(everyone, knots, multi_label) @ weight, np.linspace(0, 1, QUANTILES), method="lower")
    return Router(knots, weight, gains, multi_label)


def _ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights of the features, the intercept's, which is last, without a penalty."""
    scale = np.maximum(x.std(0), 1e-9)
    scale[-1] = 1.0
    z = x / scale
    penalty = RIDGE * np.eye(x.shape[1])
    penalty[-1, -1] = 0.0
    return np.linalg.solve(z.T @ z + penalty, z.T @ y) / scale


def belief(labels: np.ndarray, p: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n"]:
    """Probability of the truth; multi-label: mean over labels of that of the true answer."""
    if labels.ndim == 2:
        return np.where(labels > 0.5, p, 1 - p).mean(1)
    return p[np.arange(len(p)), labels]


def quality(labels: np.ndarray, predicted: Bool[np.ndarray, "n c"]) -> Float[np.ndarray, "n"]:
    """1 for a right prediction, else 0; multi-label: F1 of the document's labels, 1 where both are empty."""
    if labels.ndim == 1:
        return (predicted.argmax(1) == labels).astype(np.float64)
    truth = labels > 0.5
    total = truth.sum(1) + predicted.sum(1)
    return np.where(total > 0, 2 * (truth & predicted).sum(1) / np.maximum(total, 1), 1.0)


def curve(
    without: Float[np.ndarray, "n"],
    using: Float[np.ndarray, "n"],
    policies: Mapping[str, Float[np.ndarray, "n"]],
    shares: Sequence[float] = SHARES,
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Quality against the share of documents of which an LLM is asked.

    Args:
      without, using: quality of each document without and with an LLM's opinion (``quality``).
      policies: name -> score of each document, the highest are asked first. Random routing is added: its expectation.
      shares: of the documents.
      resamples: of the bootstrap over documents; the documents a policy chose are kept.

    Returns:
      A dict a share: ``share``, and for each policy {"value", "ci95", "gain_share", "over_random", "over_random_ci95"}: the mean
      quality with its 95 % interval, the share of the gain of asking everything (None where there is no gain), and the paired
      difference from random routing.
    """
    n, rows = len(without), []
    for share in shares:
        each = {name: np.where(top(np.asarray(score), share), using, without) for name, score in policies.items()}
        each["random"] = without + int(share * n + 1e-9) / n * (using - without)
        values = np.stack(list(each.values()), 1)
        draws = np.concatenate([weights @ values / n for weights in resampling_weights(n, resamples, seed)])
        full = using.mean() - without.mean()
        row: dict[str, Any] = {"share": share}
        for k, name in enumerate(each):
            over = draws[:, k] - draws[:, -1]
            row[name] = {
                "value": float(values[:, k].mean()),
                "ci95": _interval(draws[:, k]),
                "gain_share": float((values[:, k].mean() - without.mean()) / full) if full > 0 else None,
                "over_random": float(values[:, k].mean() - values[:, -1].mean()),
                "over_random_ci95": _interval(over),
            }
        rows.append(row)
    return rows


def _interval(draws: np.ndarray) -> list[float]:
    return [float(x) for x in np.percentile(draws, [2.5, 97.5])]

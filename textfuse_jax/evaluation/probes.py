"""Probes for leakage: how much do a cascade's id, or its times, tell of its label, without a word of text?

Ids of tweets grow with time, and non-rumours were often collected at other times than rumours: a forest on the id's digits
then does well on random folds, and so may any model that finds the time in the text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score

from textfuse_jax.data.cascades import Cascades
from textfuse_jax.data.corpus import TEST, TRAIN
from textfuse_jax.evaluation.metrics import selection_metrics

LEADING = 6  # digits of the id
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def id_features(cascades: Cascades) -> Float[np.ndarray, "n 2"] | None:
    """Number of digits of each id and the number that its first six make; None where an id is no number."""
    if not all(identity.isdigit() for identity in cascades.ids):
        return None
    return np.array([[len(i), int(i[:LEADING].ljust(LEADING, "0"))] for i in cascades.ids], np.float64)


def time_features(cascades: Cascades) -> Float[np.ndarray, "n 7"] | None:
    """Number of posts and quantiles of their minutes, all log(1 + x), those before the source counted as 0.

    None where no post's time is known; of a cascade without known times the quantiles are 0.
    """
    if np.isnan(np.delete(cascades.minutes, cascades.sources)).all():
        return None
    found = np.zeros((len(cascades), 1 + len(QUANTILES)))
    for i in range(len(cascades)):
        minutes = cascades.minutes[cascades.bounds[i] : cascades.bounds[i + 1]]
        known = np.maximum(minutes[~np.isnan(minutes)], 0)
        found[i] = np.log1p([len(minutes), *(np.quantile(known, QUANTILES) if len(known) else np.zeros(len(QUANTILES)))])
    return found


def probe(features: Float[np.ndarray, "n d"] | None, labels: Int[np.ndarray, "n"], roles: Int[np.ndarray, "f n"]) -> dict | None:
    """``scores`` of a random forest on these features, over the test parts of all folds; None without features."""
    if features is None:
        return None
    probabilities, tested = np.zeros((len(labels), labels.max() + 1)), np.zeros(len(labels), bool)
    for role in roles:
        train, test = (role & TRAIN) > 0, (role & TEST) > 0
        forest = RandomForestClassifier(200, min_samples_leaf=2, random_state=0).fit(features[train], labels[train])
        probabilities[np.ix_(test, forest.classes_)] = forest.predict_proba(features[test])
        tested |= test
    return scores(labels[tested], probabilities[tested])


def constant(labels: Int[np.ndarray, "n"], roles: Int[np.ndarray, "f n"]) -> dict[str, float]:
    """``scores`` of each fold's most frequent training class, over the test parts of all folds."""
    probabilities, tested = np.zeros((len(labels), labels.max() + 1)), np.zeros(len(labels), bool)
    for role in roles:
        test = (role & TEST) > 0
        probabilities[test] = np.eye(probabilities.shape[1])[np.bincount(labels[(role & TRAIN) > 0]).argmax()]
        tested |= test
    return scores(labels[tested], probabilities[tested])


def scores(labels: Int[np.ndarray, "n"], probabilities: Float[np.ndarray, "n c"]) -> dict[str, float]:
    """``accuracy`` and ``f1_macro``, and of two classes ``f1``, that of class 1: of rumours, in the sets that tell them apart."""
    metrics = selection_metrics(labels, probabilities)
    found = {name: metrics[name] for name in ("accuracy", "f1_macro")}
    if probabilities.shape[1] == 2:
        found["f1"] = float(f1_score(labels, probabilities.argmax(1), zero_division=0))
    return found


def probes(corpus: Any, roles: Int[np.ndarray, "f n"]) -> dict[str, Any]:
    """``id_probe`` and ``time_probe`` of a ``CascadeCorpus``, None where there is nothing to look at."""
    cascades = corpus.cascades
    return {
        "id_probe": probe(id_features(cascades), cascades.labels, roles),
        "time_probe": probe(time_features(cascades), cascades.labels, roles),
    }

"""An event that nobody trained on: which prior should a rumour classifier have? Chosen on events that are not the tested one.

    TEXTFUSE_DATA=DIR python -m experiments.event_shift

Logistic regression on TF-IDF of PHEME's source posts, trained without two of the five large events and scored on one of them, for
every pair: the other is the one that would be tested, and is not looked at. tau moves the decision as ``loss.logit_adjustment``
of the network does: 0 keeps the prior of the training events, 1 gives both classes the same. Prints a table, a column for each
tested event; about half a minute.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from configs import rumor_pheme
from textfuse_jax.evaluation.metrics import selection_metrics
from textfuse_jax.training import setup

TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
LARGE = 400
"""Threads of an event that is scored."""


def odds_of(texts: list[str], labels: np.ndarray, train: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, float]:
    """Log odds of a rumour of the held-out texts, and the log odds of a non-rumour among the training texts."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    known, new = words.fit_transform([texts[i] for i in train]), words.transform([texts[i] for i in held])
    model = LogisticRegression(C=4, max_iter=1000).fit(known, labels[train])
    return model.decision_function(new), float(np.log((labels[train] == 0).sum() / (labels[train] == 1).sum()))


def main() -> int:
    """Prints accuracy and macro-F1 of every tau, by the event that is tested and not looked at; returns the exit code."""
    cascades = setup.load_corpus(rumor_pheme.get_config()).cascades
    texts, labels, events = [cascades.texts[i] for i in cascades.sources], cascades.labels, np.array(cascades.events)
    names, counts = np.unique(events, return_counts=True)
    large = names[counts > LARGE]
    scored: dict[str, list[tuple[np.ndarray, np.ndarray, float]]] = {name: [] for name in large}
    for pair in itertools.combinations(large, 2):
        train, held = np.flatnonzero(~np.isin(events, pair)), np.flatnonzero(np.isin(events, pair))
        odds, prior = odds_of(texts, labels, train, held)
        for tested, looked_at in (pair, pair[::-1]):
            here = events[held] == looked_at
            scored[tested].append((odds[here], labels[held][here], prior))
    print("tau   " + "".join(f"{name[:16]:>18}" for name in [*large, "all"]))
    for tau in TAUS:
        told = []
        for parts in [*scored.values(), list(itertools.chain(*scored.values()))]:
            odds = np.concatenate([odds + tau * prior for odds, _, prior in parts])
            found = selection_metrics(np.concatenate([truth for _, truth, _ in parts]), expit(np.stack([-odds, odds], 1)))
            told.append(f"{found['accuracy']:.3f} / {found['f1_macro']:.3f}")
        print(f"{tau:<6}" + "".join(f"{cell:>18}" for cell in told))
    return 0


if __name__ == "__main__":
    sys.exit(main())

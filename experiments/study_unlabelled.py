"""Few labels, many texts: a linear model that is told what each class is about and learns from texts whose labels aren't read.

Rows of this kind read more than the others of their table; their lines say what: ``descriptions`` and ``unlabelled``.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from sklearn.linear_model import LogisticRegression

from experiments.study_linear import document_means, outcome_of, vectors_of
from experiments.study_training import Outcome
from textfuse_jax.training import setup
from textfuse_jax.training.grid import with_fields

SCALE = 4.0
"""Length of the vectors that the logistic regression sees."""
FIRST, LATER = 1.0, 0.3
"""Inverse regularisation C of the first fit and of those with unlabelled texts."""
DESCRIPTION, LABELLED = 4.0, 3.0
"""What a class's description weighs beside a labelled text, and a labelled beside an unlabelled one."""
ROUNDS = 8
LEAST = 0.01
"""A row doesn't belong to a class with less than this weight; most texts are then rows of one or two classes, not of all."""
# These numbers, unit vectors of the last layer alone, and this method (beside nearest neighbours, clusters on the sphere and
# scikit-learn's SelfTrainingClassifier) were chosen by the accuracy on some 2,000 held-out training rows of seeds 0 and 1: by
# more labels than the few that a row of the table has. The test split was not read for it.


def sharpened(p: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """q_ic = (p_ic^2 / f_c) / sum_k (p_ik^2 / f_k),  f_c = sum_i p_ic^2: squared, then evened over the classes.

    The target distribution of Xie et al. (2016, Deep Embedded Clustering, eq. 3), whose f_c is sum_i p_ic; with squares
    there, too, a class that is rarely sure is not given up. It supposes that classes are about as frequent as each other.
    """
    q = p**2
    q = q / q.sum(0)
    return q / q.sum(1, keepdims=True)


def fit_soft(x: Float[np.ndarray, "n d"], weight: Float[np.ndarray, "n c"], strength: float) -> LogisticRegression:
    """Logistic regression on rows that belong to each class with a weight; below ``LEAST`` they don't."""
    row, label = np.nonzero(weight >= LEAST)
    return LogisticRegression(C=strength, max_iter=100, tol=1e-2).fit(x[row], label, sample_weight=weight[row, label])


def self_train(
    known: Float[np.ndarray, "n d"],
    weight: Float[np.ndarray, "n c"],
    unlabelled: Float[np.ndarray, "m d"],
    rounds: int = ROUNDS,
) -> LogisticRegression:
    """A model of what is known, which then learns, again and again, what it thinks of the unlabelled texts, ``sharpened``.

    Args:
      known, unlabelled: vectors of length ``SCALE``.
      weight: how much each known row belongs to each class.
      rounds: 0: no unlabelled text is read.

    Returns:
      The fitted model, whose classes are 0 .. c - 1.
    """
    model = fit_soft(known, weight, FIRST)
    x = np.concatenate([known, unlabelled])
    for _ in range(rounds):
        guessed = sharpened(model.predict_proba(unlabelled))
        model = fit_soft(x, np.concatenate([LABELLED * weight, guessed]), LATER)
    return model


def unlabelled_texts(
    descriptions: Mapping[str, str], fields: Mapping[str, object], tap: str, rounds: int = ROUNDS, labels: bool = True
) -> Callable[[ConfigDict, setup.Material], Outcome]:
    """A fit of ``study.Setting``: ``self_train`` on the encoder's means. Nothing is chosen on validation.

    Args:
      descriptions: class -> what it is about, in a few words; empty: no class is described.
      fields: config field -> value: whose training texts, of seed 0, are the unlabelled ones, the same for all seeds but for
        those that a seed has for validation.
      tap: whose document means are read.
      rounds: as in ``self_train``.
      labels: False: no label is read, descriptions alone are known.
    """
    told = [[SCALE, FIRST, LATER, DESCRIPTION, LABELLED, LEAST], dict(descriptions), dict(fields), tap, rounds, labels]

    def fit(config: ConfigDict, material: setup.Material) -> Outcome:
        corpus = material.corpus
        classes = np.eye(len(corpus.class_names))
        means = {split: _scaled(document_means(material, split, (tap,))) for split in ("train", "validation", "test")}
        known, weight = [means["train"]] * labels, [classes[corpus.train.labels]] * labels
        facts = {"chosen": [{}], "test_split_read": "once by each seed, of which nothing was chosen on validation"}
        if descriptions:
            phrases = [descriptions[name] for name in corpus.class_names]
            known.append(_scaled(vectors_of(config, material.encoder, "descriptions", phrases, tap)))
            weight.append(DESCRIPTION * classes)
            facts["descriptions"] = dict(descriptions)
        pool = np.zeros((0, means["train"].shape[1]), np.float32)
        if rounds:
            texts = setup.load_corpus(with_fields(config, {**fields, "data.seed": 0})).train.texts
            held = set(corpus.validation.texts)
            there = np.array([text not in held for text in texts])
            pool = _scaled(vectors_of(config, material.encoder, "unlabelled", texts, tap))[there]
            digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
            facts["unlabelled"] = {"texts": len(texts), "split": "train", "labels": "not read", "sha256": digest}
        start = time.perf_counter()
        model = self_train(np.concatenate(known), np.concatenate(weight), pool, rounds)
        facts["parameters"] = model.coef_.size + model.intercept_.size
        probabilities = (model.predict_proba(means[split]) for split in ("validation", "test"))
        return outcome_of(corpus, *probabilities, time.perf_counter() - start, facts)

    fit.digest = "self-trained, " + hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    return fit


def _scaled(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return SCALE * x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)

"""Few labels, many texts: a linear model that learns from texts without labels, too, and from a phrase that describes each class.

Rows of this kind read more than the others of their table: which texts, and that nobody labelled them, stands in their lines.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int
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


def sharpened(p: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """q_ic = (p_ic^2 / f_c) / sum_k (p_ik^2 / f_k),  f_c = sum_i p_ic^2: surer than p, and no class takes all.

    The target distribution of Xie et al. (2016, Deep Embedded Clustering, eq. 3), but for f, which there is sum_i p_ic. It
    supposes that classes are about as frequent as each other.
    """
    q = p**2
    q = q / q.sum(0)
    return q / q.sum(1, keepdims=True)


def fit_soft(x: Float[np.ndarray, "n d"], weight: Float[np.ndarray, "n c"], strength: float) -> LogisticRegression:
    """Logistic regression on rows that belong to each class with a weight; below 0.01 they don't."""
    row, label = np.nonzero(weight > 0.01)
    return LogisticRegression(C=strength, max_iter=100, tol=1e-2).fit(x[row], label, sample_weight=weight[row, label])


def self_train(
    labelled: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, "n"],
    descriptions: Float[np.ndarray, "c d"],
    unlabelled: Float[np.ndarray, "m d"],
    rounds: int = ROUNDS,
) -> LogisticRegression:
    """A model of labelled texts and descriptions, which then learns what it thinks of the unlabelled ones, ``sharpened``.

    Args:
      labelled, descriptions, unlabelled: vectors of length ``SCALE``; description c is of class c.
      rounds: 0: no unlabelled text is read.
    """
    classes = np.eye(len(descriptions))
    x, known = np.concatenate([labelled, descriptions]), np.concatenate([classes[labels], DESCRIPTION * classes])
    model = fit_soft(x, known, FIRST)
    for _ in range(rounds):
        guessed = sharpened(model.predict_proba(unlabelled))
        model = fit_soft(np.concatenate([x, unlabelled]), np.concatenate([LABELLED * known, guessed]), LATER)
    return model


def unlabelled_texts(
    descriptions: Mapping[str, str], fields: Mapping[str, object], tap: str
) -> Callable[[ConfigDict, setup.Material], Outcome]:
    """A fit of ``study.Setting``: ``self_train`` on the encoder's means. Nothing is chosen on validation.

    Args:
      descriptions: class -> what it is about, in a few words.
      fields: config field -> value: whose training texts, seed 0, are the unlabelled ones, the same for all seeds.
      tap: whose document means are read.
    """
    constants = [SCALE, FIRST, LATER, DESCRIPTION, LABELLED, ROUNDS]

    def fit(config: ConfigDict, material: setup.Material) -> Outcome:
        corpus = material.corpus
        texts = setup.load_corpus(with_fields(config, {**fields, "data.seed": 0})).train.texts
        pool = vectors_of(config, material.encoder, "unlabelled", texts, tap)
        told = vectors_of(config, material.encoder, "descriptions", [descriptions[name] for name in corpus.class_names], tap)
        means = {split: _scaled(document_means(material, split, (tap,))) for split in ("train", "validation", "test")}
        start = time.perf_counter()
        model = self_train(means["train"], corpus.train.labels, _scaled(told), _scaled(pool))
        held, test = (model.predict_proba(means[split]) for split in ("validation", "test"))
        facts = {"chosen": [{}], "parameters": model.coef_.size + model.intercept_.size}
        facts |= {"unlabelled_texts": len(pool), "descriptions": list(descriptions.values())}
        return outcome_of(corpus, held, test, time.perf_counter() - start, facts)

    told = json.dumps([constants, dict(descriptions), dict(fields), tap], sort_keys=True)
    fit.digest = "self-trained, " + hashlib.sha256(told.encode()).hexdigest()[:8]
    return fit


def _scaled(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return SCALE * x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)

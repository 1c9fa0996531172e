"""Linear rows of the studies' tables: what a model must beat to be worth its training.

They choose their strength of regularisation on validation and draw nothing at random.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from experiments.study_training import Outcome, calibrated
from textfuse_jax.data.corpus import Corpus
from textfuse_jax.data.tokenize import Encoded
from textfuse_jax.evaluation import reference
from textfuse_jax.evaluation.metrics import selection_metrics
from textfuse_jax.training import setup

STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Inverse regularisation C of ``encoder_logreg``, for features of variance 1."""
SHARES = tuple(round(0.1 * tenths, 1) for tenths in range(11))
"""Of the words, in ``mixed``."""


def tfidf(config: ConfigDict, material: setup.Material) -> Outcome:
    """TF-IDF of words and word pairs with logistic regression."""
    return words_of(material.corpus)


def words_of(corpus: Corpus) -> Outcome:
    """``evaluation.reference`` on a corpus, which needs no encoder."""
    found = reference.tfidf_logreg(corpus)
    facts = {"chosen": [{"C": found["C"]}], "parameters": (found["features"] + 1) * len(corpus.class_names)}
    return outcome_of(corpus, found["validation_probabilities"], found["test_probabilities"], found["seconds"], facts)


tfidf.digest = f"tfidf, C of {reference.STRENGTHS}"


def encoder_logreg(config: ConfigDict, material: setup.Material) -> Outcome:
    """Logistic regression on the frozen encoder's means over each document, ``config.model.document_taps`` side by side.

    Features are scaled to mean 0 and variance 1 on the training rows; C is the one of ``STRENGTHS`` with the best
    ``config.training.select_by`` on validation.
    """
    means = {split: document_means(material, split, config.model.document_taps) for split in ("train", "validation", "test")}
    return logistic(means, material.corpus, config.training.select_by)


def words_and_encoder(config: ConfigDict, material: setup.Material) -> Outcome:
    """The probabilities of ``tfidf`` and of a logistic regression on the encoder's means, mixed; all that is chosen (either C,
    the share of the words) has the least log loss on validation."""
    means = {split: document_means(material, split, config.model.document_taps) for split in ("train", "validation", "test")}
    return mixed(words_of(material.corpus), logistic(means, material.corpus, "nll"), material.corpus)


words_and_encoder.digest = f"{tfidf.digest}; layers, C of {STRENGTHS} by nll; shares of words {SHARES}"


def mixed(words: Outcome, layers: Outcome, corpus: Corpus) -> Outcome:
    """Both models' probabilities, the words' share of ``SHARES`` the one with the least log loss on validation."""

    def at(share: float, of: Callable[[Outcome], np.ndarray]) -> np.ndarray:
        return share * of(words) + (1 - share) * of(layers)

    nll = [selection_metrics(corpus.validation.labels, at(share, lambda one: one.held))["nll"] for share in SHARES]
    share = SHARES[int(np.argmin(nll))]
    held, test = at(share, lambda one: one.held), at(share, lambda one: one.probabilities[0])
    seconds, parameters = (sum(one.facts[fact] for one in (words, layers)) for fact in ("seconds_a_trial", "parameters"))
    chosen = {"share of words": share, "C of words": words.facts["chosen"][0]["C"]}
    chosen |= {f"{name} of layers": value for name, value in layers.facts["chosen"][0].items()}
    return outcome_of(corpus, held, test, seconds, {"chosen": [chosen], "parameters": parameters})


mixed.digest = f"{tfidf.digest}; shares of words {SHARES}"


def logistic(means: Mapping[str, np.ndarray], corpus: Corpus, metric: str) -> Outcome:
    """Logistic regression on the vectors [n, d] of the documents of each split of a corpus.

    Args:
      metric: on validation, chooses C.
    """
    start, best = time.perf_counter(), None
    scaler = StandardScaler().fit(means["train"])
    x = {split: scaler.transform(values) for split, values in means.items()}
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of a strong C change no prediction
            model.fit(x["train"], corpus.train.labels)
        scores = selection_metrics(corpus.validation.labels, _whole(model, x["validation"], len(corpus.class_names)))
        value = -scores["nll"] if metric == "nll" else scores[metric]
        if best is None or value > best[0]:
            best = (value, strength, model)
    _, strength, model = best
    held, test = (_whole(model, x[split], len(corpus.class_names)) for split in ("validation", "test"))
    facts = {"chosen": [{"C": strength}], "parameters": model.coef_.size + model.intercept_.size}
    return outcome_of(corpus, held, test, time.perf_counter() - start, facts)


def document_means(material: setup.Material, split: str, taps: tuple[str, ...]) -> np.ndarray:
    """The taps of a split's documents side by side, f32 [n, d]; windows of one document are averaged.

    Raises:
      ValueError: taps that aren't cached, or of another scale than document.
    """
    features, encoded = material.features.get(split, {}), material.encoded[split]
    if not taps or any(tap not in features or not tap.endswith("/document") for tap in taps):
        raise ValueError(f"document_taps must be cached taps of scale document, got {taps}; cached are {sorted(features)}")
    return _of_documents(features, encoded, taps)


def vectors_of(
    config: ConfigDict, encoder: setup.TextEncoder, name: str, texts: Sequence[str], tap: str
) -> Float[np.ndarray, "n d"]:
    """A tap's document means of texts that no split has, f32 [n, d], from the cache or computed now under that name."""
    encoded = setup.encode_split(config, encoder.tokenizer, texts)
    features = setup.cached_features(config, encoder, {name: encoded}, print, (tap,))[name]
    return _of_documents(features, encoded, (tap,))


def _of_documents(features: Mapping[str, np.ndarray], encoded: Encoded, taps: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """The taps [pieces, d] side by side, averaged over the windows of each document."""
    pieces = np.concatenate([np.asarray(features[tap], np.float32) for tap in taps], axis=1)
    owner = np.asarray(encoded.example)
    count = np.bincount(owner, minlength=encoded.examples)
    total = np.zeros((encoded.examples, pieces.shape[1]), np.float32)
    np.add.at(total, owner, pieces)
    return total / np.maximum(count, 1)[:, None]


def _whole(model: LogisticRegression, x: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities [n, c]; a class without training rows gets 0."""
    probabilities = np.zeros((len(x), classes))
    probabilities[:, model.classes_] = model.predict_proba(x)
    return probabilities


def outcome_of(corpus: Corpus, held: np.ndarray, test: np.ndarray, seconds: float, facts: dict[str, Any]) -> Outcome:
    """What a model that draws nothing at random came to, from its probabilities of validation and test."""
    scores = selection_metrics(corpus.validation.labels, held)
    facts = facts | {"seconds_a_trial": round(seconds, 1), "diverged": 0, "trials_together": 1}
    logits = (np.log(np.clip(p, 1e-12, 1))[None] for p in (held, test))
    facts |= calibrated(*logits, corpus)
    return Outcome(test[None], {m: [scores[m]] for m in ("accuracy", "f1_macro", "nll")}, facts, held)

"""The reference that no number is read without: TF-IDF and logistic regression on the same split."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from textfuse_jax.data.corpus import Corpus, Split

STRENGTHS = (1.0, 4.0, 16.0, 64.0)  # inverse regularisation C; validation picks 4 on MR, 16 on AG News and R8
MAX_FEATURES = 50_000


def tfidf_logreg(corpus: Corpus, max_features: int = MAX_FEATURES, characters: bool = False) -> dict[str, Any]:
    """Probabilities of a linear model of words and word pairs, or of characters and pairs, fitted on the training split.

    Features (1 + log tf) * idf of 1- and 2-grams that two training documents have, rows of unit length; multinomial
    logistic regression, one-vs-rest for multi-label. C is the one of ``STRENGTHS`` with the least log loss on
    validation; without a validation split 4. A class without training rows gets probability 0.

    Args:
      corpus: its test split is only predicted.
      max_features: the most frequent that are kept.
      characters: read characters, for scripts without spaces, where a run of letters is a phrase.

    Returns:
      ``test_probabilities`` and ``validation_probabilities`` float64 [n, c], ``C``, ``features``, ``seconds``, ``of`` (words or
      characters), and ``predict``: texts -> float64 [n, c].

    Raises:
      ValueError: the training split has fewer than two classes, or no word (character) that two of its documents share.
    """
    start = time.perf_counter()
    pieces = {"analyzer": "char"} if characters else {"token_pattern": r"(?u)\b\w+\b"}
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, min_df=2, max_features=max_features, dtype=np.float32, **pieces
    )
    train = vectorizer.fit_transform(corpus.train.texts)
    held = {name: _features(vectorizer, getattr(corpus, name)) for name in ("validation", "test")}
    best: tuple[float, float, Any] | None = None
    for strength in STRENGTHS if len(corpus.validation) else (4.0,):
        model = _fit(train, corpus.train.labels, strength)
        loss = _log_loss(corpus.validation.labels, _probabilities(model, held["validation"], len(corpus.class_names)))
        if best is None or loss < best[0]:
            best = (loss, strength, model)
    _, strength, model = best

    def predict(texts: Sequence[str]) -> np.ndarray:
        return _probabilities(model, vectorizer.transform(texts), len(corpus.class_names))

    return {
        **{f"{name}_probabilities": _probabilities(model, x, len(corpus.class_names)) for name, x in held.items()},
        "of": "characters" if characters else "words",
        "C": strength,
        "features": train.shape[1],
        "seconds": time.perf_counter() - start,
        "predict": predict,
    }


def _features(vectorizer: TfidfVectorizer, split: Split):
    return vectorizer.transform(split.texts) if len(split) else None


def _fit(x, labels: np.ndarray, strength: float):
    """Logistic regression of classes, or of each column of multi-hot labels."""
    multi_label = labels.ndim == 2
    model = LogisticRegression(C=strength, max_iter=200, tol=1e-3, solver="liblinear" if multi_label else "lbfgs")
    with warnings.catch_warnings():
        # a strong C may need more iterations for the last digits; a column without positives is predicted as never
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="Label not .* is present in all training examples")
        return (OneVsRestClassifier(model) if multi_label else model).fit(x, labels.astype(np.int64))


def _probabilities(model, x, classes: int) -> np.ndarray:
    """Probabilities [n, c]; classes that the training split lacks get 0."""
    if x is None:
        return np.zeros((0, classes))
    found = model.predict_proba(x).astype(np.float64)
    if found.shape[1] == classes:
        return found
    probabilities = np.zeros((len(found), classes))
    probabilities[:, model.classes_] = found
    return probabilities


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log probability of what is true; over the classes too for multi-hot labels."""
    if not len(labels):
        return 0.0
    p = np.clip(probabilities, 1e-12, 1 - 1e-12)
    if labels.ndim == 2:
        return float(-(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean())
    return float(-np.log(p[np.arange(len(labels)), labels]).mean())

"""The reference learns what is there, chooses C on validation, and gives probabilities for every class."""

import numpy as np
import pytest

from textfuse_jax.data.corpus import Corpus, Split
from textfuse_jax.data.sources import load
from textfuse_jax.evaluation.reference import STRENGTHS, tfidf_logreg


def corpus_of(n, classes=3, absent=(), multi_label=False):
    """Texts whose words name their class, with noise words in common."""
    rng = np.random.default_rng(0)

    def split(m):
        labels = np.array([k for i in range(m) if (k := i % classes) not in absent], np.int32)
        texts = [f"subject{k} " + " ".join(f"w{j}" for j in rng.integers(0, 20, 5)) for k in labels]
        hot = np.eye(classes, dtype=np.float32)[labels]
        return Split([str(i) for i in range(len(texts))], texts, hot if multi_label else labels)

    return Corpus("made", split(n), split(n // 3), split(n // 2), tuple(f"c{k}" for k in range(classes)), multi_label)


def test_words_that_tell_the_class_are_learnt():
    corpus = corpus_of(60)
    result = tfidf_logreg(corpus)
    assert result["test_probabilities"].shape == (30, 3) and result["validation_probabilities"].shape == (20, 3)
    assert np.allclose(result["test_probabilities"].sum(1), 1) and result["C"] in STRENGTHS and result["seconds"] > 0
    assert (result["test_probabilities"].argmax(1) == corpus.test.labels).all()
    assert np.array_equal(result["predict"](corpus.test.texts), result["test_probabilities"])
    again = tfidf_logreg(corpus)
    assert np.array_equal(again["test_probabilities"], result["test_probabilities"])


def test_a_class_without_training_rows_gets_probability_0():
    probabilities = tfidf_logreg(corpus_of(60, classes=4, absent=(1,)))["test_probabilities"]
    assert probabilities.shape[1] == 4 and (probabilities[:, 1] == 0).all() and np.allclose(probabilities.sum(1), 1)


def test_multi_label_is_one_model_a_class():
    corpus = corpus_of(90, multi_label=True)
    result = tfidf_logreg(corpus)
    assert ((result["test_probabilities"] > 0.5) == corpus.test.labels.astype(bool)).mean() > 0.95
    absent = tfidf_logreg(corpus_of(90, classes=4, absent=(2,), multi_label=True))["test_probabilities"]
    assert (absent[:, 2] == 0).all()


def test_a_script_without_spaces_is_read_by_characters():
    """Each text is one run of letters that no other has: as a word it tells nothing."""
    rng = np.random.default_rng(0)

    def split(n):
        labels = np.arange(n, dtype=np.int32) % 2
        texts = ["".join(chr(0x4E00 + c) for c in rng.integers(0, 60, 7)) + "谣真"[k] for k in labels]
        return Split([str(i) for i in range(n)], texts, labels)

    corpus = Corpus("made", split(60), split(20), split(40), ("rumour", "not"))
    found = tfidf_logreg(corpus, characters=True)
    assert found["of"] == "characters" and (found["test_probabilities"].argmax(1) == corpus.test.labels).mean() > 0.95
    with pytest.raises(ValueError, match="no terms remain"):
        tfidf_logreg(corpus)
    assert tfidf_logreg(corpus_of(60))["of"] == "words"


def test_without_validation_c_is_4():
    corpus = corpus_of(60)
    empty = Split([], [], np.zeros(0, np.int32))
    result = tfidf_logreg(Corpus("made", corpus.train, empty, corpus.test, corpus.class_names))
    assert result["C"] == 4.0 and result["validation_probabilities"].shape == (0, 3)


def test_real_movie_reviews(real_data):
    corpus = load(dict(source="file", path=str(real_data / "mr.csv.gz"), split_column="split"))
    accuracy = (tfidf_logreg(corpus)["test_probabilities"].argmax(1) == corpus.test.labels).mean()
    assert 0.74 < accuracy < 0.80  # TF-IDF + logistic regression in the Text GCN paper's table: 0.7459

"""Learning from texts without labels: the targets by hand, and clouds that two labelled points alone divide wrongly."""

import dataclasses
import functools

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from experiments import study, study_training, study_unlabelled
from tests.launching import write_corpus
from textfuse_jax.config import runlocal
from textfuse_jax.training.grid import with_fields


def test_targets_are_surer_and_even():
    """Worked out by hand: squares, over what all rows give a class, over their sum."""
    p = np.array([[0.8, 0.2], [0.6, 0.4]])
    first, second = 0.64 / (0.64 + 0.36), 0.04 / (0.04 + 0.16)
    q = study_unlabelled.sharpened(p)
    assert q[0] == pytest.approx([first / (first + second), second / (first + second)])
    assert q.sum(1) == pytest.approx([1, 1])
    assert q[1, 1] > 0.5, "the class that has less of all rows takes the row that is nearly even"
    assert study_unlabelled.sharpened(np.array([[0.8, 0.2], [0.2, 0.8]]))[0] == pytest.approx([0.64 / 0.68, 0.04 / 0.68])


def test_a_row_counts_for_each_class_by_its_weight():
    """As the same row so many times over; a weight below 0.01 is none."""
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    soft = study_unlabelled.fit_soft(x, np.array([[1, 0.009], [0, 1], [1, 3]]), 1.0)
    often = LogisticRegression(C=1.0, tol=1e-2).fit(x[[0, 1, 2, 2, 2, 2]], [0, 1, 0, 1, 1, 1])
    np.testing.assert_allclose(soft.coef_, often.coef_, atol=1e-3)
    np.testing.assert_allclose(soft.intercept_, often.intercept_, atol=1e-3)


def test_unlabelled_points_turn_a_wrong_border():
    """Two clouds farther apart than they are long, known points at opposite ends: the border between these cuts both."""
    rng = np.random.default_rng(0)
    label = np.arange(400) % 2
    x = np.stack([rng.uniform(-1, 1, 400), np.where(label, 1.5, -1.5) + 0.2 * rng.normal(size=400)], 1)
    known, weight = np.array([[-1, -0.3], [1, 0.3], [-1, -0.45], [1, 0.45]]), np.array([[1, 0], [0, 1], [4, 0], [0, 4]])

    def right(rounds: int) -> float:
        return (study_unlabelled.self_train(known, weight, x, rounds).predict(x) == label).mean()

    assert right(0) < 0.85 and right(8) > 0.98


@pytest.mark.slow
def test_the_fit_reads_what_it_says(tmp_path):
    """No label of the unlabelled texts, and no text that the seed has for validation; its line tells what was read."""
    base = with_fields(study.frozen(), study.ENCODER_ALONE | {"model.document_taps": ("06/document",)})
    runlocal(base)
    base.data.source, base.data.where, base.encoder.cache_dir = "file", {}, str(tmp_path)
    base.data.path, base.data.max_length = str(tmp_path / "corpus.csv"), base.data.row_lengths[0]
    write_corpus(tmp_path / "corpus.csv")
    material = study_training.Materials([base], lambda _: None, 1)(base)
    names = material.corpus.class_names
    described = {name: f"texts about {name}" for name in names}
    make = functools.partial(study_unlabelled.unlabelled_texts, fields={"data.train_rows": 0}, tap="06/document")
    both, alone, told, mute = (
        make(described, **parts)(base, material)
        for parts in ({}, {"rounds": 0}, {"rounds": 0, "labels": False}, {"labels": False})
    )
    assert both.facts["descriptions"] == described and both.facts["unlabelled"]["labels"] == "not read"
    assert "unlabelled" not in alone.facts and "descriptions" not in make({})(base, material).facts
    different = [np.abs(a.probabilities - b.probabilities).max() for a, b in ((both, alone), (alone, told), (both, mute))]
    assert min(different) > 1e-3
    train = material.corpus.train
    turned = dataclasses.replace(material.corpus, train=dataclasses.replace(train, labels=train.labels[::-1].copy()))
    again = make(described, labels=False)(base, dataclasses.replace(material, corpus=turned))
    np.testing.assert_array_equal(again.probabilities, mute.probabilities)
    held = dataclasses.replace(material.corpus.validation, texts=train.texts[: len(material.corpus.validation)])
    overlapping = dataclasses.replace(material, corpus=dataclasses.replace(material.corpus, validation=held))
    assert np.abs(make(described)(base, overlapping).probabilities - both.probabilities).max() > 0, (
        "validation texts are left out"
    )
    digests = {make(described | {names[0]: "others"}).digest, make(described).digest, make(described, rounds=1).digest}
    assert len(digests) == 3

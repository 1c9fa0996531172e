"""Probes: features by hand; what an id or a delay tells is found; what nothing tells is guessed, for no test row is fitted."""

import dataclasses
import types

import numpy as np
import pytest

from experiments import rumor_protocols
from tests.data.test_cascade_rows import made
from textfuse_jax.data.cascade_protocols import CascadeCorpus, split_of
from textfuse_jax.data.corpus import TEST, TRAIN, VALIDATION
from textfuse_jax.evaluation import probes as P

N = 300
LABELS = np.random.default_rng(1).integers(0, 2, N).astype(np.int32)


def roles(epoch_by_test=False):
    """Three folds, each tested on a third; validation is the next third, or with ``epoch_by_test`` the test cascades too."""
    found, part = np.full((3, N), TRAIN, np.int8), np.random.default_rng(2).integers(0, 3, N)
    for fold in range(3):
        found[fold, part == fold] = TEST | (VALIDATION if epoch_by_test else 0)
        if not epoch_by_test:
            found[fold, part == (fold + 1) % 3] = VALIDATION
    return found


def cascades(**fields):
    """Cascades of three posts that tell nothing, with these fields in place of their own."""
    return dataclasses.replace(made([3] * N), **{"ids": [str(10**9 + i) for i in range(N)], "labels": LABELS} | fields)


def test_id_features_are_the_number_of_digits_and_the_first_six():
    found = P.id_features(dataclasses.replace(made([1] * 3), ids=["5243", "523456789", "1"]))
    assert found.tolist() == [[4, 524300], [9, 523456], [1, 100000]]
    assert P.id_features(dataclasses.replace(made([1] * 2), ids=["5243", "c1"])) is None


def test_time_features_are_the_posts_and_quantiles_of_known_minutes():
    """Six posts at 0, 1, 2, 3 and 10 minutes, one of them unknown; one at -5, which counts as 0; one cascade without times."""
    minutes = np.array([0, 1, 2, 3, 10, np.nan, 0, -5, np.nan, np.nan], np.float32)
    found = np.expm1(P.time_features(dataclasses.replace(made([6, 2, 2]), minutes=minutes)))
    np.testing.assert_allclose(found[0], [6, 0.4, 1, 2, 3, 7.2, 10], atol=1e-6)  # 0.9 of the way: 3 + 0.6 * 7
    np.testing.assert_allclose(found[1:], [[2, 0, 0, 0, 0, 0, 0]] * 2, atol=1e-6)
    sources_alone = dataclasses.replace(made([2, 1]), minutes=np.array([0, np.nan, 0], np.float32))
    assert P.time_features(sources_alone) is None


def test_ids_and_times_that_tell_the_label_are_found():
    by_id = cascades(ids=[f"{2 + label}{i:08}" for i, label in enumerate(LABELS)])
    found = P.probes(types.SimpleNamespace(cascades=by_id), roles())
    assert found["id_probe"]["accuracy"] > 0.98 and found["time_probe"]["accuracy"] < 0.6
    minutes = np.stack([np.zeros(N), 2 + 60 * LABELS, 5 + 90 * LABELS], 1).ravel().astype(np.float32)
    found = P.probes(types.SimpleNamespace(cascades=cascades(minutes=minutes)), roles())
    assert found["time_probe"]["accuracy"] > 0.98 and found["id_probe"]["accuracy"] < 0.6
    words = cascades(ids=[f"c{i}" for i in range(N)], minutes=np.full(3 * N, np.nan, np.float32))
    assert P.probes(types.SimpleNamespace(cascades=words), roles()) == {"id_probe": None, "time_probe": None}


@pytest.mark.parametrize("epoch_by_test", [False, True])
def test_labels_that_nothing_tells_are_guessed_so_no_test_row_is_fitted(epoch_by_test):
    """Each row's features are its own: a forest that had seen the test rows would know most of their labels."""
    features = np.random.default_rng(3).normal(size=(N, 7))
    assert abs(P.probe(features, LABELS, roles(epoch_by_test))["accuracy"] - 0.5) < 0.1
    seen = np.full((1, N), TRAIN | TEST, np.int8)
    assert P.probe(features, LABELS, seen)["accuracy"] > 0.9  # it would


def test_the_constant_is_the_training_majority_of_each_fold():
    """Fold 0 trains on 1 1 1 0 and says 1 to 1 0; fold 1 trains on 1 0 and says 0, the first, to 1 1 1 0."""
    labels = np.array([1, 0, 1, 1, 1, 0], np.int32)
    folds = np.array([[TEST] * 2 + [TRAIN] * 4, [TRAIN] * 2 + [TEST] * 4], np.int8)
    found = P.constant(labels, folds)
    assert found == {"accuracy": 2 / 6, "f1_macro": pytest.approx((2 / 6 + 2 / 6) / 2), "f1": pytest.approx(2 / 6)}
    rumours = P.constant(np.array([1, 1, 1, 0] * 2), np.array([[TRAIN] * 4 + [TEST] * 4], np.int8))
    assert rumours["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1)) and rumours["accuracy"] == 0.75  # TAPE's 0.857 on Twitter
    assert "f1" not in P.constant(np.array([0, 1, 2, 0, 1, 2]), folds)


def corpus(texts, name="pheme:rumour"):
    """A corpus of cascades whose sources have these texts."""
    whole = cascades(name=name)
    for i, text in zip(whole.sources, texts):
        whole.texts[i] = text
    split = split_of(whole)
    return CascadeCorpus(name, split, split, split, whole.class_names, cascades=whole, roles=roles())


def test_the_words_of_the_source_are_learnt_on_training_cascades_alone():
    rng = np.random.default_rng(4)
    noise = [" ".join(f"w{j}" for j in rng.integers(0, 150, 8)) for _ in range(N)]
    assert abs(rumor_protocols.linear(corpus(noise), roles())["accuracy"] - 0.5) < 0.1  # 1 if test cascades were fitted
    told = corpus([f"{text} label{label}" for text, label in zip(noise, LABELS)])
    found = rumor_protocols.beside(told, roles())
    assert found["words_probe"]["accuracy"] > 0.95
    assert set(found) == {"id_probe", "time_probe", "words_probe"}


def test_weibos_sources_are_read_by_characters():
    rng = np.random.default_rng(5)
    texts = ["".join(chr(0x4E00 + c) for c in rng.integers(0, 60, 7)) + "真谣"[label] for label in LABELS]
    assert rumor_protocols.beside(corpus(texts, "weibo:rumour"), roles())["words_probe"]["accuracy"] > 0.95

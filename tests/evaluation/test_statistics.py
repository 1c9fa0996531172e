"""Intervals and tests against closed forms and against metrics computed draw by draw."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from textfuse_jax.evaluation import statistics as s
from textfuse_jax.evaluation.metrics import classification_metrics


def _random(n=200, c=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, c, n)
    return labels, rng.dirichlet(np.ones(c), n) * 0.6 + 0.4 * np.eye(c)[labels]


def test_every_draw_scores_as_its_documents_do():
    """One block of weights against scikit-learn on the resampled documents themselves, ties in the scores included."""
    labels, probabilities = _random()
    probabilities = np.round(probabilities, 1)
    probabilities[:, 0] += 1 - probabilities.sum(1)
    probabilities = np.clip(probabilities, 0, 1)
    weights = next(s.resampling_weights(200, 5, seed=3))
    names = ["a", "b", "c"]
    keys = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "auc_ovr", "nll")
    got = s._Scored(labels, probabilities, 0.5)(weights, keys)
    for b, w in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(200), w)
        want = classification_metrics(labels[drawn], probabilities[drawn], names)
        for key in keys:
            assert got[key][b] == pytest.approx(want[key], abs=1e-12), key


def test_multi_label_draws_score_as_their_documents_do():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 2, (60, 3)), rng.random((60, 3))
    weights = next(s.resampling_weights(60, 4, seed=0))
    keys = ("accuracy", "f1_micro", "f1_macro", "auc_ovr", "nll")
    got = s._Scored(labels, probabilities, [0.4, 0.5, 0.6])(weights, keys)
    for b, w in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(60), w)
        want = classification_metrics(labels[drawn], probabilities[drawn], list("abc"), [0.4, 0.5, 0.6])
        for key in keys:
            assert got[key][b] == pytest.approx(want[key], abs=1e-12), key


def test_accuracy_interval_is_the_binomial_one():
    """Resampled accuracy is Binomial(n, p) / n: its central 95 % is known."""
    labels = np.zeros(400, int)
    probabilities = np.where((np.arange(400) < 320)[:, None], [[0.9, 0.1]], [[0.2, 0.8]])
    low, high = s.bootstrap_intervals(labels, probabilities, ["accuracy"], resamples=4000)["accuracy"]
    spread = 1.96 * math.sqrt(0.8 * 0.2 / 400)
    assert (low, high) == pytest.approx((0.8 - spread, 0.8 + spread), abs=0.004)


def test_interval_is_seeded_and_holds_the_point():
    labels, probabilities = _random()
    first = s.bootstrap_intervals(labels, probabilities, resamples=200, seed=5)
    assert first == s.bootstrap_intervals(labels, probabilities, resamples=200, seed=5)
    assert first != s.bootstrap_intervals(labels, probabilities, resamples=200, seed=6)
    point = classification_metrics(labels, probabilities, ["a", "b", "c"])
    assert set(first) == set(s.METRICS)
    assert all(low < point[m] < high for m, (low, high) in first.items())


def test_blocks_do_not_change_the_draws(monkeypatch):
    whole = np.concatenate(list(s.resampling_weights(30, 12, seed=1)))
    monkeypatch.setattr(s, "CHUNK", 100)
    blocks = list(s.resampling_weights(30, 12, seed=1))
    assert len(blocks) == 4
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert (whole.sum(1) == 30).all()


def test_perfect_model_and_absent_class():
    intervals = s.bootstrap_intervals(np.array([0, 1] * 5), np.eye(3)[[0, 1] * 5], resamples=50)
    assert intervals["accuracy"] == [1.0, 1.0] and "auc_ovr" not in intervals


def test_many_classes_stop_auc_early_but_not_the_rest(monkeypatch):
    labels, probabilities = _random()
    monkeypatch.setattr(s, "AUC_WORK", 0)
    monkeypatch.setattr(s, "MIN_AUC_RESAMPLES", 10)
    monkeypatch.setattr(s, "CHUNK", 200 * 10)
    few = s.bootstrap_intervals(labels, probabilities, ["auc_ovr", "accuracy"], resamples=40)
    monkeypatch.undo()
    assert few["accuracy"] == s.bootstrap_intervals(labels, probabilities, ["accuracy"], resamples=40)["accuracy"]
    assert few["auc_ovr"] == s.bootstrap_intervals(labels, probabilities, ["auc_ovr"], resamples=10)["auc_ovr"]


def test_weighted_auc_counts_ties_half():
    scores, positive = np.array([0.1, 0.4, 0.4, 0.9, 0.2]), np.array([False, True, False, True, True])
    ones, doubled = np.ones(5), np.array([1.0, 0, 2, 1, 3])
    got = s.weighted_auc(np.stack([ones, doubled, ones * positive]), positive, scores)
    assert got[0] == pytest.approx(4.5 / 6)
    assert got[1] == pytest.approx(sk.roc_auc_score(positive, scores, sample_weight=doubled))
    assert np.isnan(got[2])


def test_bad_arguments():
    labels, probabilities = _random()
    with pytest.raises(ValueError, match="no bootstrap for the metric 'ece'"):
        s.bootstrap_intervals(labels, probabilities, ["ece"])
    with pytest.raises(ValueError, match="resamples must be >= 1"):
        s.bootstrap_intervals(labels, probabilities, resamples=0)


def test_paired_bootstrap():
    labels, ours = _random()
    theirs = np.roll(ours, 1, axis=1)  # a model that is mostly wrong
    same = s.paired_bootstrap(labels, ours, ours, resamples=100)
    assert same["accuracy"] == {"difference": 0.0, "ci95": [0.0, 0.0], "p": 1.0}
    better = s.paired_bootstrap(labels, ours, theirs, resamples=100)
    assert better["accuracy"]["ci95"][0] > 0 and better["accuracy"]["p"] == 0.01
    worse = s.paired_bootstrap(labels, theirs, ours, resamples=100)
    assert worse["accuracy"]["difference"] == -better["accuracy"]["difference"]
    np.testing.assert_allclose(worse["f1_macro"]["ci95"], [-v for v in better["f1_macro"]["ci95"]][::-1])


def _discordant(b, c, both=10):
    return np.array([1] * b + [0] * c + [1] * both, bool), np.array([0] * b + [1] * c + [1] * both, bool)


def test_mcnemar_exact_by_hand():
    """1 against 7: P(X <= 1 | 8, 1/2), twice = 2 * (1 + 8) / 256."""
    got = s.mcnemar(*_discordant(1, 7))
    assert got["p"] == pytest.approx(18 / 256)
    assert (got["only_ours"], got["only_theirs"], got["method"]) == (1, 7, "exact")
    assert s.mcnemar(*_discordant(0, 0))["p"] == 1.0


def test_mcnemar_chi_square_by_hand():
    """10 against 30: (20 - 1)^2 / 40 = 9.025; with one degree of freedom p = erfc(sqrt(x / 2))."""
    got = s.mcnemar(*_discordant(10, 30))
    assert got["method"] == "chi-square" and got["p"] == pytest.approx(math.erfc(math.sqrt(9.025 / 2)))
    assert s.mcnemar(*_discordant(20, 20))["p"] == 1.0
    with pytest.raises(ValueError, match="same documents"):
        s.mcnemar(np.ones(3, bool), np.ones(4, bool))


def test_compare_fills_the_record():
    labels, ours = _random()
    record = s.compare(labels, ours, np.roll(ours, 1, axis=1), "baseline", resamples=50)
    assert record["mcnemar_p_vs_baseline"] == record["mcnemar"]["p"] < 1e-6
    low, high = record["accuracy_difference_ci95"]
    assert low < record["accuracy_difference"] < high and "f1_macro_difference_ci95" in record


def test_seeds():
    runs = [{"accuracy": 0.9, "name": "x", "auc": None}, {"accuracy": 0.92, "name": "y", "auc": 0.5}]
    assert s.summarise_seeds(runs) == {
        "accuracy": {"mean": pytest.approx(0.91), "sd": pytest.approx(0.01 * math.sqrt(2)), "n": 2}
    }
    assert s.summarise_seeds(runs[:1])["accuracy"]["sd"] is None
    with pytest.raises(ValueError, match="no runs"):
        s.summarise_seeds([])


def test_wilson():
    """Of 10, 5: centre 1/2, half width z sqrt(1 / 40 + z^2 / 400) / (1 + z^2 / 10)."""
    z = 1.959964
    half = z * math.sqrt(0.025 + z * z / 400) / (1 + z * z / 10)
    assert s.wilson_interval(5, 10) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    assert s.wilson_interval(0, 10)[0] == 0.0 and s.wilson_interval(0, 0) == (0.0, 1.0)

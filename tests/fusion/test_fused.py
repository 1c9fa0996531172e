"""The fused classifier: no worse than its best member whatever the LLM is worth, calibrated, stored as numbers, strict at use."""

import dataclasses
import json

import numpy as np
import pytest

from tests.fusion.material import CLASSES, logits, members, split
from textfuse_jax.data.corpus import DataError
from textfuse_jax.evaluation.calibration import expected_calibration_error
from textfuse_jax.fusion import fused as fusing
from textfuse_jax.fusion.combiners import COMBINERS
from textfuse_jax.fusion.opinion import encoder_opinion, evidence, join
from textfuse_jax.fusion.simulated import simulate_labels

TRAIN, VALIDATION, TEST = split("r", 300, 1), split("v", 800, 2), split("t", 3000, 3)
QUICK = {"steps": 60, "seeds": 2}


def fit(accuracy, strength=2.0, settings=QUICK, missing=0.0):
    parts = [members(part, strength, accuracy, seed, missing) for seed, part in enumerate((TRAIN, VALIDATION, TEST))]
    train, validation = ((one, part.labels) for one, part in zip(parts, (TRAIN, VALIDATION)))
    return fusing.fit(settings, train, validation, CLASSES), parts[2]


def accuracy_of(p):
    return (p.argmax(1) == TEST.labels).mean()


@pytest.mark.parametrize("accuracy", [0.34, 0.6, 0.85, 0.97])
def test_no_worse_than_the_best_member_at_any_quality(accuracy):
    fusion, test = fit(accuracy)
    ours = accuracy_of(fusion.probabilities(test))
    best = max(accuracy_of(fusion.member(test, m)) for m in (0, 1))
    assert ours >= best - 0.005
    if accuracy in (0.6, 0.85):
        assert ours > best + 0.01


def test_probabilities_are_calibrated_with_and_without_the_llm():
    fusion, test = fit(0.85)
    for part in (test, test.without_llms()):
        p = fusion.probabilities(part)
        np.testing.assert_allclose(p.sum(1), 1)
        assert expected_calibration_error(p.max(1), p.argmax(1) == TEST.labels) < 0.04


def test_with_some_answers_missing_it_lies_between_none_and_all():
    fusion, test = fit(0.9)
    half = test.seeing(np.column_stack([np.ones(3000, bool), np.arange(3000) % 2 == 0]))
    none, some, every = (accuracy_of(fusion.probabilities(part)) for part in (test.without_llms(), half, test))
    assert none < some < every
    encoder = accuracy_of(fusion.member(test, 0))
    assert none >= encoder - 0.005
    p = fusion.probabilities(half)
    np.testing.assert_allclose(p[1::2], fusion.probabilities(test.without_llms())[1::2], atol=1e-6)


def test_a_combiner_that_was_taught_nonsense_is_turned_down():
    train, validation, test = (members(part, 2.0, 0.7, seed) for seed, part in enumerate((TRAIN, VALIDATION, TEST)))
    fusion = fusing.fit({"combiner": "stacking"}, (train, np.roll(TRAIN.labels, 1)), (validation, VALIDATION.labels), CLASSES)
    best = max(accuracy_of(fusion.member(test, m)) for m in (0, 1))
    assert accuracy_of(fusion.probabilities(test)) > best + 0.01
    assert fusion.weight[1, 1:].min() > 0.5 > fusion.weight[1, 0]


def test_a_member_that_is_better_beyond_noise_takes_over_and_it_is_said():
    validation = members(VALIDATION, 2.0, 0.7, 1)
    x = evidence(validation.scores, validation.present, False)
    nonsense = np.full((len(VALIDATION), 3), 1 / 3)
    which, told, scores = fusing._no_harm(nonsense, x, validation, VALIDATION.labels, 1.0, 0)
    assert which == 0 and "encoder alone takes the fusion's place" in told and scores["members"]["encoder"] > scores["fused"]
    assert fusing._no_harm(nonsense, x, validation, VALIDATION.labels, 1e9, 0)[0] == -1


def test_an_llm_that_takes_over_leaves_the_unanswered_to_the_fusion():
    fusion, test = fit(0.99, strength=0.0, settings={"combiner": "per_class", "harm": 0.0}, missing=0.3)
    fusion = dataclasses.replace(fusion, fallback=(-1, 1))
    p = fusion.probabilities(test)
    gone = ~test.present[:, 1]
    assert gone.any() and (p[~gone].argmax(1) == test.scores[~gone, 1].argmax(1)).all()
    np.testing.assert_allclose(p[gone], fusion.probabilities(test.without_llms())[gone])


def test_without_an_llm_it_is_the_calibrated_encoder():
    parts = [join(p, [encoder_opinion(p.ids, logits(p, 2.0, s), False)], 3, False) for s, p in enumerate((VALIDATION, TEST))]
    fusion = fusing.fit({}, (parts[0], VALIDATION.labels), (parts[0], VALIDATION.labels), CLASSES)
    assert "no LLM: the encoder alone" in fusion.note and fusion.arrays == {}
    np.testing.assert_array_equal(fusion.probabilities(parts[1]).argmax(1), logits(TEST, 2.0, 1).argmax(1))


@pytest.mark.parametrize("combiner", ["mlp", *COMBINERS])
def test_saved_and_loaded_it_says_the_same(combiner, tmp_path):
    fusion, test = fit(0.8, settings=QUICK | {"combiner": combiner})
    fusion.save(tmp_path / "fusion")
    again = fusing.load(tmp_path / "fusion")
    np.testing.assert_allclose(again.probabilities(test), fusion.probabilities(test), atol=1e-9)
    assert sorted(p.name for p in (tmp_path / "fusion").iterdir()) == ["fusion.json", "fusion.safetensors"]
    assert again.note == fusion.note and again.fallback == fusion.fallback


def test_another_format_and_nothing_there_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no fusion"):
        fusing.load(tmp_path)
    fit(0.8)[0].save(tmp_path)
    plain = json.loads((tmp_path / "fusion.json").read_text())
    (tmp_path / "fusion.json").write_text(json.dumps(plain | {"format": 99}))
    with pytest.raises(DataError, match="format must be 3"):
        fusing.load(tmp_path)


def test_what_answers_are_worth_is_decided_on_documents_that_have_one():
    train, validation = members(TRAIN, 2.0, 0.9, 0), members(VALIDATION, 2.0, 0.9, 1)
    rows = np.arange(800) % 4 == 0  # one in four was asked about
    some = validation.seeing(np.column_stack([np.ones(800, bool), rows]))
    fusion = fusing.fit(QUICK, (train, TRAIN.labels), (some, VALIDATION.labels), CLASSES)
    told = fusion.facts["with_llm"]
    answered = VALIDATION.labels[rows]
    assert told["members"]["llm"] == fusing.score(answered, fusion.member(some.take(np.flatnonzero(rows)), 1))
    assert told["fused"] == fusing.score(answered, fusion.probabilities(some.take(np.flatnonzero(rows))))
    few = validation.seeing(np.column_stack([np.ones(800, bool), np.arange(800) < fusing.ENOUGH - 1]))
    fusion = fusing.fit(QUICK, (train, TRAIN.labels), (few, VALIDATION.labels), CLASSES)
    assert fusion.facts["with_llm"]["members"]["llm"] == fusing.score(VALIDATION.labels, fusion.member(few, 1))


def test_a_changed_model_needs_a_new_fit():
    fusion, test = fit(0.8)
    other = dataclasses.replace(test, kinds=("encoder", "llm openai/another"))
    with pytest.raises(DataError, match="a changed model needs a new fit"):
        fusion.probabilities(other)


def several(part, seed):
    encoder = encoder_opinion(part.ids, logits(part, 2.0, seed), True)
    return join(part, [encoder, simulate_labels(part.ids, part.labels, 0.8, 0.8, seed=seed + 100)], 3, True)


def test_several_labels_with_thresholds_of_their_own(tmp_path):
    parts = [split(name, n, seed, multi_label=True) for seed, (name, n) in enumerate((("r", 300), ("v", 600), ("t", 2000)))]
    train, validation, test = (several(part, seed) for seed, part in enumerate(parts))
    fusion = fusing.fit(QUICK, (train, parts[0].labels), (validation, parts[1].labels), CLASSES)
    p = fusion.probabilities(test)
    ours = fusing.score(parts[2].labels, fusion.decide(test, p))
    each = [
        fusing.score(parts[2].labels, fusion.member(test, m) >= fusion.member_thresholds(validation, parts[1].labels, m))
        for m in (0, 1)
    ]
    assert ours > max(each) + 0.02 and fusion.thresholds.shape == (2, 3)
    fusion.save(tmp_path)
    np.testing.assert_array_equal(fusing.load(tmp_path).thresholds, fusion.thresholds)

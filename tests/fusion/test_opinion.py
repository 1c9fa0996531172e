"""Opinions joined to documents: mixed-up rows, splits and numbers are errors that name what is wrong."""

import dataclasses

import numpy as np
import pytest

from tests.fusion.material import logits, split
from textfuse_jax.data.corpus import DataError
from textfuse_jax.fusion.opinion import SAME_ANSWERS, SMOOTHING, check_splits, encoder_opinion, evidence, join
from textfuse_jax.fusion.simulated import confusion_of, simulate

PART, OTHER = split("v", 60, 1), split("t", 60, 2)


def llm(part, seed=0):
    return simulate(part.ids, part.labels, confusion_of(0.8, 3), seed=seed)


def encoder(part):
    return encoder_opinion(part.ids, logits(part, 1.0, seed=int(part.ids[0][0] == "t")), False)


def test_answers_of_another_split_are_refused():
    with pytest.raises(DataError, match="document 't0', which stands in another split or data set; document 'v0' is needed"):
        join(PART, [encoder(PART), llm(OTHER)], 3, False)


def test_reordered_rows_are_refused():
    rows = np.r_[1, 0, 2:60]
    with pytest.raises(DataError, match="row 0 is of document 'v1', which stands in another row; document 'v0'"):
        join(PART, [encoder(PART), llm(PART).take(rows)], 3, False)


def test_too_few_answers_are_refused():
    with pytest.raises(DataError, match="are of 59 documents, the split has 60"):
        join(PART, [encoder(PART), llm(PART).take(range(59))], 3, False)


@pytest.mark.parametrize("bad", [np.nan, -0.5, 2.0])
def test_numbers_that_are_no_probabilities_are_refused(bad):
    opinion = llm(PART)
    opinion.scores[7, 0] = bad
    with pytest.raises(DataError, match="'v7'"):
        join(PART, [encoder(PART), opinion], 3, False)


def test_the_encoder_comes_first_and_names_differ():
    with pytest.raises(DataError, match="the encoder first"):
        join(PART, [llm(PART), encoder(PART)], 3, False)
    with pytest.raises(DataError, match="distinct names"):
        join(PART, [encoder(PART), llm(PART), llm(PART)], 3, False)


def test_answers_of_validation_given_for_test_are_found():
    """As in LabelFusion's published runs: the same answers in the same order for other texts."""
    ours = join(PART, [encoder(PART), llm(PART)], 3, False)
    copied = dataclasses.replace(llm(PART), ids=tuple(OTHER.ids))
    theirs = join(OTHER, [encoder(OTHER), copied], 3, False)
    with pytest.raises(DataError, match="gives 60 documents of validation and of test the same answers in the same order"):
        check_splits([("validation", PART, ours), ("test", OTHER, theirs)])
    honest = join(OTHER, [encoder(OTHER), llm(OTHER, 3)], 3, False)
    check_splits([("validation", PART, ours), ("test", OTHER, honest)])


@pytest.mark.parametrize("share", [0.5, 0.35])
def test_a_mix_up_is_found_where_half_of_the_answers_are_missing(share):
    seen = np.random.default_rng(4).random((2, 120)) < share  # what was asked of one split and of the other, or came
    parts = [split("r", 120, 1), split("t", 120, 2)]
    answers = llm(parts[0])
    mixed, honest = answers, llm(parts[1], 3)
    ours = join(parts[0], [encoder(parts[0]), hidden(answers, seen[0], parts[0])], 3, False)
    theirs = join(parts[1], [encoder(parts[1]), hidden(mixed, seen[1], parts[1])], 3, False)
    both = int((seen[0] & seen[1]).sum())
    if share == 0.5:
        with pytest.raises(DataError, match=f"gives {both} documents of train and of test the same answers"):
            check_splits([("train", parts[0], ours), ("test", parts[1], theirs)])
    else:
        assert both < SAME_ANSWERS  # too few to tell
        check_splits([("train", parts[0], ours), ("test", parts[1], theirs)])
    right = join(parts[1], [encoder(parts[1]), hidden(honest, seen[1], parts[1])], 3, False)
    check_splits([("train", parts[0], ours), ("test", parts[1], right)])


def hidden(opinion, seen, part):
    """The opinion of a part's documents where it was seen."""
    return dataclasses.replace(opinion, ids=tuple(part.ids), present=seen, scores=np.where(seen[:, None], opinion.scores, 0))


def test_sorted_splits_with_equal_answers_are_fine():
    parts = [dataclasses.replace(p, labels=np.repeat([0, 1, 2], 20).astype(np.int32)) for p in (PART, OTHER)]
    perfect = [simulate(p.ids, p.labels, np.eye(3)) for p in parts]
    both = [join(p, [encoder(p), o], 3, False) for p, o in zip(parts, perfect)]
    check_splits([("validation", parts[0], both[0]), ("test", parts[1], both[1])])


def test_evidence_by_hand():
    scores = np.array([[[1.0, 0.0], [0.0, 0.0]]])
    present = np.array([[True, False]])
    p = 1 - SMOOTHING / 2
    expected = 0.5 * np.log(p / (1 - p))
    np.testing.assert_allclose(evidence(scores, present, False), [[[expected, -expected], [0, 0]]])
    np.testing.assert_allclose(evidence(scores, present, True)[0, 0], [2 * expected, -2 * expected])


def test_hiding_llms():
    ours = join(PART, [encoder(PART), llm(PART)], 3, False)
    blind = ours.without_llms()
    assert blind.present[:, 0].all() and not blind.present[:, 1].any() and not blind.scores[:, 1].any()
    assert ours.present[:, 1].all() and ours.take([3, 1]).ids == ("v3", "v1")


def test_a_simulated_llm_has_the_accuracy_asked_whatever_the_correlation():
    many = split("m", 20_000, 5)
    hard = np.random.default_rng(0).random(20_000)
    for rho in (0.0, 0.7):
        opinion = simulate(many.ids, many.labels, confusion_of(0.844, 3), difficulty=hard, correlation=rho, missing=0.1)
        right = opinion.scores.argmax(1) == many.labels
        assert abs(right[opinion.present].mean() - 0.844) < 0.01 and abs(opinion.present.mean() - 0.9) < 0.01
        assert "simulated" in opinion.kind
        easy = right[opinion.present & (hard < 0.2)].mean() - right[opinion.present & (hard > 0.8)].mean()
        assert easy > 0.15 if rho else abs(easy) < 0.03

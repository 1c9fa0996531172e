"""Splits follow from the seed, hold every class in proportion, and a fingerprint tells any change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textfuse_jax.data.corpus import (
    Corpus,
    DataError,
    Split,
    fingerprint,
    oversampled,
    strata,
    stratified_order,
    stratified_split,
    take_rows,
    thinned,
)


def split_of(labels):
    n = len(labels)
    return Split([f"id{i}" for i in range(n)], [f"text {i}" for i in range(n)], np.asarray(labels))


def test_strata_are_the_rarest_class_of_each_document():
    hot = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0]], np.float32)  # counts 3, 2, 1
    assert strata(hot).tolist() == [1, 0, 2, 3, 1]
    assert strata(np.array([2, 0], np.int32)).tolist() == [2, 0]


def test_split_holds_out_classes_in_proportion_and_by_the_seed():
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10, np.int32)
    kept, held = stratified_split(labels, 0.1, seed=3)
    assert np.bincount(labels[held]).tolist() == [6, 3, 1]
    assert sorted([*kept, *held]) == list(range(100))
    assert kept.tolist() == sorted(kept)
    again = stratified_split(labels, 10, seed=3)
    assert np.array_equal(again[0], kept) and np.array_equal(again[1], held)
    assert not np.array_equal(stratified_split(labels, 0.1, seed=4)[1], held)
    assert stratified_split(labels, 0, seed=0)[1].size == 0


@pytest.mark.parametrize("asked", [5, 9, -1, -0.5])
def test_split_that_leaves_nothing_is_an_error(asked):
    with pytest.raises(DataError, match="held out"):
        stratified_split(np.zeros(5, np.int32), asked, 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 5), st.integers(0, 60))
def test_every_prefix_and_suffix_holds_each_class_within_one(labels, seed, m):
    labels = np.array(labels, np.int32)
    order = stratified_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    m = min(m, len(labels))
    total = np.bincount(labels, minlength=5)
    for part in (order[:m], order[len(order) - m :]):
        share = np.bincount(labels[part], minlength=5)
        # classes with equal counts tie, and ties of up to 5 classes shift the cut by as many rows
        assert (np.abs(share - total * m / len(labels)) <= 1 + 4 * total / len(labels)).all()


def test_a_smaller_sample_lies_in_a_larger_and_labels_stay_with_their_texts():
    split = split_of(np.arange(200, dtype=np.int32) % 4)
    small, large = take_rows(split, 20, seed=1), take_rows(split, 80, seed=1)
    assert set(small.ids) < set(large.ids)
    assert np.bincount(small.labels).tolist() == [5, 5, 5, 5]
    assert all(int(name[2:]) % 4 == label for name, label in zip(large.ids, large.labels))
    assert take_rows(split, 0, 1) is split and take_rows(split, 500, 1) is split
    with pytest.raises(DataError, match=">= 0"):
        take_rows(split, -1, 1)


def test_fingerprint_sees_ids_texts_labels_classes_order_and_split():
    a, b = split_of(np.array([0, 1], np.int32)), split_of(np.array([1, 0], np.int32))
    corpus = Corpus("x", a, b, a, ("no", "yes"))
    same = Corpus("other name", a, b, a, ("no", "yes"), warnings=["odd"])
    assert corpus.fingerprint() == same.fingerprint() and len(corpus.fingerprint()) == 64
    changed = [
        Corpus("x", b, a, a, ("no", "yes")),
        Corpus("x", a, b, a, ("n", "oyes")),
        Corpus("x", a.take([1, 0]), b, a, ("no", "yes")),
        Corpus("x", Split(["id0", "id2"], a.texts, a.labels), b, a, ("no", "yes")),
        Corpus("x", Split(a.ids, ["text 0t", "ext 1"], a.labels), b, a, ("no", "yes")),
    ]
    assert len({corpus.fingerprint(), *(c.fingerprint() for c in changed)}) == 6
    assert fingerprint(a) != fingerprint(b)


def test_split_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="1, 2, 2"):
        Split(["a"], ["x", "y"], np.zeros(2, np.int32))


def test_thinned_classes_keep_one_in_so_many():
    split = split_of(np.repeat(np.arange(4, dtype=np.int32), 60))
    thin = thinned(split, 4, 6.0, seed=0)
    assert np.bincount(thin.labels).tolist() == [10, 10, 60, 60]
    assert all(split.texts[split.ids.index(i)] == text for i, text in zip(thin.ids, thin.texts))
    with pytest.raises(DataError, match=r"ratio >= 1, got 0\.5"):
        thinned(split, 4, 0.5, seed=0)


def test_oversampled_classes_are_as_large_as_the_largest():
    split = split_of(np.array([0, 0, 1, 1, 1, 1, 1, 2], np.int32))
    more = oversampled(split, seed=0)
    assert np.bincount(more.labels).tolist() == [5, 5, 5]
    assert len(set(more.ids)) == 15 and set(more.texts) == set(split.texts)
    assert sum(i.startswith("id7") for i in more.ids) == 5 and "id7#5" in more.ids
    assert all(split.labels[int(i[2:].split("#")[0])] == label for i, label in zip(more.ids, more.labels))

"""Examples come from the training split, balanced or near, and a document is never its own example."""

import numpy as np
import pytest

from textfuse_jax.data.corpus import Split
from textfuse_jax.llm import shots

NAMES = ("a", "b", "c")
TRAIN = Split([f"t{i}" for i in range(12)], [f"text {i}" for i in range(12)], np.array([0] * 6 + [1] * 4 + [2] * 2, np.int32))


def test_balanced_examples_take_classes_in_turn_by_the_seed():
    asked = shots.balanced(TRAIN, NAMES, ["x", "y"], ["one", "two"], 5, seed=3)
    assert asked[0] == asked[1] and len(asked[0]) == 5
    labels = [shot.labels[0] for shot in asked[0]]
    assert sorted(labels[:3]) == ["a", "b", "c"] and sorted(labels[3:]) == ["a", "b"]
    assert asked == shots.balanced(TRAIN, NAMES, ["x", "y"], ["one", "two"], 5, seed=3)
    assert asked != shots.balanced(TRAIN, NAMES, ["x", "y"], ["one", "two"], 5, seed=4)


def test_a_balanced_example_that_is_the_document_is_replaced():
    standard = shots.balanced(TRAIN, NAMES, ["x"], ["one"], 4, seed=0)[0]
    by_id, by_text = shots.balanced(TRAIN, NAMES, [standard[1].id, "x"], ["one", standard[2].text], 4, seed=0)
    assert [s.id for s in by_id][:3] == [standard[i].id for i in (0, 2, 3)] and len(by_id) == 4
    assert [s.id for s in by_text][:3] == [standard[i].id for i in (0, 1, 3)] and len(by_text) == 4


def test_nearest_examples_by_hand():
    vectors = np.stack([np.cos(np.arange(12) / 10), np.sin(np.arange(12) / 10)], 1) * 3
    (near,) = shots.nearest(TRAIN, NAMES, vectors, ["x"], ["one"], np.array([[np.cos(0.52), np.sin(0.52)]]), 3)
    assert [shot.id for shot in near] == ["t4", "t6", "t5"]  # the nearest last
    assert [shot.labels for shot in near] == [("a",), ("b",), ("a",)]


def test_a_training_document_isnt_its_own_neighbour_nor_is_its_copy():
    texts = TRAIN.texts[:11] + ["text 3"]  # t11 is a copy of t3
    train, vectors = Split(TRAIN.ids, texts, TRAIN.labels), np.eye(12, dtype=np.float32)
    vectors[11] = vectors[3]
    for chosen, name, text in zip(shots.nearest(train, NAMES, vectors, train.ids, texts, vectors, 4), train.ids, texts):
        assert len(chosen) == 4 and all(shot.id != name and shot.text != text for shot in chosen)


def test_many_copies_of_the_document_are_looked_past():
    texts = ["same"] * 60 + ["other"]
    train = Split([str(i) for i in range(61)], texts, np.zeros(61, np.int32))
    vectors = np.concatenate([np.ones((60, 2)), [[1.0, 0.5]]])
    (near,) = shots.nearest(train, NAMES, vectors, ["q"], ["same"], np.ones((1, 2)), 1)
    assert [shot.id for shot in near] == ["60"]


def test_several_labels_and_wrong_arguments():
    train = Split(["1", "2"], ["x", "y"], np.array([[1, 0, 1], [0, 0, 0]], np.float32))
    assert shots.shot_of(train, 0, NAMES).labels == ("a", "c") and shots.shot_of(train, 1, NAMES).labels == ()
    assert len(shots.balanced(train, NAMES, ["q"], ["z"], 1, 0)[0]) == 1
    with pytest.raises(ValueError, match=r"in 1\.\.1, below the 2 training documents, got 2"):
        shots.balanced(train, NAMES, ["q"], ["z"], 2, 0)
    with pytest.raises(ValueError, match="one each is needed"):
        shots.nearest(train, NAMES, np.ones((3, 2)), ["q"], ["z"], np.ones((1, 2)), 1)

"""Edges that stay in a topic, counted by hand on two joined documents."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.topic_edges import join_neighbours, same_topic_counts
from textfuse_jax.types import NodeRows, TokenRows, Units


def rows_of(label):
    """Four slots: documents of 2, 2, 1 and 0 phrases of one token each; features tell them apart."""
    document = jnp.array([[0, 0, 1, 1, 2, 4]])
    phrase = Units(document=document, parent=jnp.array([[0, 0, 1, 1, 2, 3]]))
    sentence = Units(document=jnp.array([[0, 1, 2]]), parent=jnp.zeros((1, 3), int))
    return TokenRows(
        tokens=jnp.ones((1, 6), int),
        position=jnp.zeros((1, 6), int),
        document=document,
        unit={"phrase": jnp.array([[0, 1, 2, 3, 4, 6]]), "sentence": jnp.array([[0, 0, 1, 1, 2, 3]])},
        units={"phrase": phrase, "sentence": sentence},
        label=jnp.array([label]),
        weight=jnp.array([[1.0, 1, 1, 0]]),
        example=jnp.array([[7, 8, 9, -1]]),
        features={"06/document": jnp.array([[[1.0], [3.0], [5.0], [9.0]]])},
    )


def test_neighbours_become_one_document():
    joined = join_neighbours(rows_of([0, 1, 1, 0]))
    np.testing.assert_array_equal(joined.document, [[0, 0, 0, 0, 1, 4]])
    np.testing.assert_array_equal(joined.units["phrase"].document, [[0, 0, 0, 0, 1, 4]])
    np.testing.assert_array_equal(joined.example, [[7, 9, -1, -1]])
    np.testing.assert_array_equal(joined.features["06/document"][0, :, 0], [2, 5, 0, 0])  # slot 3 was empty: 5 alone
    with pytest.raises(ValueError, match="even number"):
        join_neighbours(joined.replace(weight=jnp.ones((1, 3))))


@pytest.mark.parametrize(("labels", "counts"), [([0, 1, 1, 0], (2, 3, 4, 12)), ([1, 1, 1, 0], (0, 0, 0, 0))])
def test_edges_and_pairs_in_one_topic(labels, counts):
    """Edges 0-1 and 3-2 stay in their document, 1-2 crosses; 4 is alone, 0-0 a self-loop, the last is padding."""
    graph = NodeRows(
        features=jnp.zeros((1, 6, 1)),
        document=jnp.array([[0, 0, 0, 0, 1, 4]]),
        level=jnp.zeros((1, 6), int),
        parent=jnp.full((1, 6), 6),
        saliency=jnp.zeros((1, 6)),
        senders=jnp.array([[0, 3, 1, 0, 4, 6]]),
        receivers=jnp.array([[1, 2, 2, 0, 4, 6]]),
        weight=jnp.ones((1, 6)),
        slots=4,
    )
    found = same_topic_counts(rows_of(labels), graph, ("phrase",))
    assert tuple(map(int, found)) == counts

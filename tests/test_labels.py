"""Labels as users hold them: what could be meant in two ways is refused."""

import numpy as np
import pytest

from textfuse_jax.data.corpus import DataError
from textfuse_jax.labels import Labels


@pytest.mark.parametrize("y", [[[0, 1], [1, 0]], [(0, 1, 0), (1, 1, 1)], [[True, False], [False, True]], [np.array([0, 1])] * 2])
def test_rows_of_zeros_and_ones_in_a_list_are_refused(y):
    with pytest.raises(DataError, match=r"np\.array\(y\) for columns, sets for lists"):
        Labels.of(y)


def test_what_is_meant_can_be_said():
    rows = [[0, 1], [1, 0]]
    assert Labels.of(np.array(rows)).form == "indicator"
    assert Labels.of([set(row) for row in rows]).form == "lists"
    assert Labels.of([[0], [1], [0, 1]]).values == (0, 1)
    assert Labels.of([["a", "b"], ["b", "a"]]).values == ("a", "b")
    np.testing.assert_array_equal(Labels.of([[0], [1], [0, 1]]).encode([[0], [0, 1]]), [[1, 0], [1, 1]])

"""Comparisons of two lines: by hand, by scipy, and what must not be compared."""

import numpy as np
import pytest
from scipy.stats import norm

from experiments import paired

RNG = np.random.default_rng(3)


def line(right, setting="a", tested="these"):
    return {"setting": setting, "protocol": f"of {setting}", "right": paired.kept(np.asarray(right, bool), tested)}


def test_what_was_right_comes_back_bit_by_bit():
    labels = np.array([0, 1, 2, 1, 0, 2, 2, 1, 0])
    probabilities = RNG.dirichlet(np.ones(3), (4, 9))
    right = paired.right(labels, probabilities)
    assert right.shape == (4, 9) and right[2, 5] == (probabilities[2, 5].argmax() == 2)
    np.testing.assert_array_equal(paired.of_line(line(right)), right)
    several = np.array([[1, 0], [1, 1], [0, 0]])
    assert paired.right(several, np.array([[[0.9, 0.1], [0.9, 0.4], [0.2, 0.5]]])).tolist() == [[True, False, False]]


def test_a_difference_its_interval_and_p_against_the_normal_law():
    """Two models of 4,000 documents, one seed each: the bootstrap of a mean of paired differences is near normal."""
    b = RNG.random((1, 4000)) < 0.85
    a = np.where(RNG.random((1, 4000)) < 0.1, RNG.random((1, 4000)) < 0.92, b)
    found, d = paired.compared(line(a), line(b, "b")), (a.astype(float) - b)[0]
    error = d.std() / np.sqrt(len(d))
    assert found["difference"] == pytest.approx(d.mean())
    assert found["difference_ci95"] == pytest.approx([d.mean() - 1.96 * error, d.mean() + 1.96 * error], abs=0.15 * error)
    assert found["p"] == pytest.approx(2 * norm.sf(abs(d.mean()) / error), abs=0.02)
    assert (found["reference"], found["reference_protocol"]) == ("b", "of b")


def test_documents_are_paired():
    """The same accuracies, but errors on the same documents: the interval is narrower."""
    b = RNG.random((1, 2000)) < 0.8
    near, far = b.copy(), RNG.permutation(b[0])[None]
    near[0, :20] = True
    width = [np.ptp(paired.compared(line(a), line(b, "b"))["difference_ci95"]) for a in (near, far)]
    assert width[0] < width[1] / 3


def test_one_seed_stands_beside_each_of_the_other():
    b, a = RNG.random((1, 500)) < 0.7, RNG.random((5, 500)) < 0.8
    found = paired.compared(line(a), line(b, "b"))
    assert found["difference"] == pytest.approx(a.mean() - b.mean())
    same = paired.compared(line(np.repeat(b, 5, 0)), line(b, "b"))
    assert same["difference"] == 0 and same["p"] == 1 and same["difference_ci95"] == [0, 0]
    with pytest.raises(ValueError, match="a has 5 seeds, b 2"):
        paired.compared(line(a), line(a[:2], "b"))
    with pytest.raises(ValueError, match="tested on other documents"):
        paired.compared(line(a), line(a, "b", "those"))


def test_an_older_line_that_is_compared_with_is_measured_again():
    keys, references = {"a": "1", "b": "2", "c": "3"}, {"a": ["a"], "b": ["a"], "c": ["a"]}
    old = {"setting": "a", "protocol": "1"}
    done = [{"setting": "b", "protocol": "2"}, {"setting": "c", "protocol": "3"}]
    assert paired.missing([old, *done], keys, references) == set()
    assert paired.missing([old, done[0]], keys, references) == {"a", "c"}
    assert paired.missing([old | {"right": {}}, done[0]], keys, references) == {"c"}
    assert paired.missing([old | {"protocol": "0"}, *done], keys, references) == {"a"}

"""Phase 2: the knee, DBSCAN's order on posts placed by hand, shares, controls."""

import numpy as np
import pytest

from tests.data.test_cascade_rows import made
from textfuse_jax.data import selection as S


def at(*degrees):
    """Unit vectors at these angles."""
    a = np.radians(np.array(degrees, np.float32))
    return np.stack([np.cos(a), np.sin(a)], 1)


def test_the_knee_is_farthest_below_the_chord():
    assert S.knee(np.array([0, 0.1, 0.2, 0.3, 2.3])) == pytest.approx(0.3)
    assert S.knee(np.array([0.5, 0.5, 0.5])) == 0.5  # no rise: all alike


def test_outliers_come_first_then_small_clusters():
    """A cluster of four at 0 degrees, one of three at 90, a single post at 200: shares of 1/8, 1/2, 7/8."""
    cascades, features = made([8]), at(0, 1, 90, 200, 2, 91, 3, 92)
    for share, expected in ((1 / 8, {3}), (1 / 2, {3, 2, 5, 7}), (5 / 8, {3, 2, 5, 7, 0})):
        mask, facts = S.select(cascades, features, share=share, eps=0.1, min_samples=3)
        assert set(np.flatnonzero(mask)) == expected
    assert facts == {"rule": "dbscan", "share": 5 / 8, "eps": 0.1, "min_samples": 3, "outliers": 1, "clusters": 2, "selected": 5}


def test_eps_from_the_knee_parts_the_clusters_from_the_rest():
    rng = np.random.default_rng(0)
    cascades = made([20] * 30)
    angle = rng.normal(0, 0.5, 600)
    angle[::10] = rng.uniform(60, 300, 60)  # a tenth lies elsewhere
    eps = S.knee_eps(cascades, at(*angle), 3)
    assert 0.001 < eps < 0.2
    mask, facts = S.select(cascades, at(*angle), share=0.1, min_samples=3)
    assert facts["eps"] == round(eps, 4) and mask[::10].mean() > 0.9 and mask.sum() == 60


@pytest.mark.parametrize("rule", ["dbscan", "random", "degree"])
def test_every_cascade_gives_its_share(rule):
    cascades = made([1, 2, 5, 17, 100])
    features = np.random.default_rng(0).normal(size=(125, 4))
    mask, facts = S.select(cascades, features, rule=rule, share=0.3)
    counts = np.add.reduceat(mask, cascades.bounds[:-1])
    np.testing.assert_array_equal(counts, [0, 1, 2, 5, 30])
    assert facts["selected"] == 38


def test_controls():
    cascades = made([5])
    features = np.ones((5, 2), np.float32)
    cascades.parent[:] = [-1, 0, 1, 1, 1]
    degree, _ = S.select(cascades, features, rule="degree", share=0.4)
    assert set(np.flatnonzero(degree)) == {1, 0}
    assert S.select(cascades, features, rule="all")[0].all() and not S.select(cascades, features, rule="none")[0].any()
    one, again, other = (S.select(made([200]), np.ones((200, 2)), rule="random", seed=s)[0] for s in (0, 0, 1))
    assert (one == again).all() and (one != other).any()
    with pytest.raises(ValueError, match="dbscan, random, degree, all, none, got 'dbcan'"):
        S.select(cascades, features, rule="dbcan")
    with pytest.raises(ValueError, match=r"share in \(0, 1\]"):
        S.select(cascades, features, share=0)


def test_posts_without_text_are_never_chosen():
    cascades = made([4])
    cascades.texts[1] = ""
    mask, _ = S.select(cascades, np.ones((4, 2)), rule="random", share=1.0)
    np.testing.assert_array_equal(mask, [True, False, True, True])


def test_a_cascade_beyond_a_block_is_looked_at_block_by_block(monkeypatch):
    monkeypatch.setattr(S, "BLOCK", 64)
    cascades = made([300])
    mask, facts = S.select(cascades, np.random.default_rng(0).normal(size=(300, 3)), share=0.3)
    assert mask.sum() == 90 and facts["eps"] > 0

"""Phase 2: eps, DBSCAN's order on posts placed by hand, shares, controls, memory."""

import tracemalloc

import numpy as np
import pytest
from sklearn.feature_extraction.text import HashingVectorizer

from configs import rumor_pheme
from tests.data.test_cascade_rows import made
from textfuse_jax.config_checks import ConfigError, validate
from textfuse_jax.data import selection as S
from textfuse_jax.data.cascade_cut import keep_posts
from textfuse_jax.data.cascade_sets import PHEME, pheme


def at(*degrees):
    """Unit vectors at these angles."""
    a = np.radians(np.array(degrees, np.float32))
    return np.stack([np.cos(a), np.sin(a)], 1)


PLACES = np.array([0.0, 1, 2, 4, 9])


def test_eps_is_the_median_distance_to_the_second_nearest_post():
    """Posts on a line at 0, 1, 2, 4, 9 with min_samples 3: second nearest at 2, 1, 2, 3, 7."""
    distance = np.abs(np.subtract.outer(PLACES, PLACES))
    assert S.own_eps(distance, 3) == 2 and S.own_eps(distance, 2) == 1  # nearest at 1, 1, 1, 2, 5
    assert S.own_eps(np.zeros((4, 4)), 3) > 0  # copies


def test_the_knee_lies_farthest_from_the_line_between_smallest_and_largest():
    """The same posts with min_samples 3: sorted 1, 2, 2, 3, 7, the line 1, 2.5, 4, 5.5, 7, apart 0, 0.5, 2, 2.5, 0: 3."""
    distance = np.abs(np.subtract.outer(PLACES, PLACES))
    assert S.own_eps(distance, 3, "knee") == 3
    assert S.own_eps(distance, 2, "knee") == 1  # 1, 1, 1, 2, 5, the line 1 to 5, apart 0, 1, 2, 2, 0: the smaller of two
    assert S.own_eps(np.zeros((4, 4)), 3, "knee") > 0  # copies
    assert S.own_eps(distance[:2, :2], 2, "knee") == 1  # as few posts as make a cluster


def test_the_rule_of_eps_parts_posts_and_is_reported():
    """Six posts on a circle, 0, 1, 2, 4, 20, 60 degrees: k-distances (in degrees) 2, 1, 2, 3, 18, 56; the median is between 2 and
    3, one cluster of four; of the sorted 1, 2, 2, 3, 18, 56 and the line 1, 12, 23, 34, 45, 56 the fourth is farthest: 3."""
    cascades, features = made([6]), at(0, 1, 2, 4, 20, 60)
    median, knee = (S.select(cascades, features, eps_rule=rule)[1] for rule in S.EPS_RULES)
    chord = lambda degrees: 2 * np.sin(np.radians(degrees) / 2)  # noqa: E731
    assert median["eps_rule"] == "median" and median["eps"] == pytest.approx((chord(2) + chord(3)) / 2, abs=1e-3)
    assert knee["eps_rule"] == "knee" and knee["eps"] == pytest.approx(chord(3), abs=1e-3)
    assert "eps_rule" not in S.select(cascades, features, eps=0.1)[1]  # which is then not read


def test_outliers_come_first_then_small_clusters():
    """A cluster of four at 0 degrees, one of three at 90, a single post at 200: shares of 1/8, 1/2, 7/8."""
    cascades, features = made([8]), at(0, 1, 90, 200, 2, 91, 3, 92)
    for share, expected in ((1 / 8, {3}), (1 / 2, {3, 2, 5, 7}), (5 / 8, {3, 2, 5, 7, 0})):
        mask, facts = S.select(cascades, features, share=share, eps=0.1, min_samples=3)
        assert set(np.flatnonzero(mask)) == expected
    told = {"rule": "dbscan", "share": 5 / 8, "min_samples": 3, "eps": 0.1, "eps_tenths": [0.1, 0.1], "clustered": 1}
    assert facts == told | {"outliers": 1, "clusters": 2, "selected": 5}


def test_each_cascade_is_parted_by_an_eps_of_its_own():
    """Half of the cascades are a hundred times as dense as the others: each has two clusters, and posts that lie elsewhere."""
    rng = np.random.default_rng(0)
    cascades = made([20] * 30)
    width = np.where(np.repeat(np.arange(30), 20) % 2, 2.0, 0.02)
    angle = width * rng.normal(0, 1, 600) + np.where(np.arange(600) % 20 < 12, 0, 40 * width)
    angle[::10] = rng.uniform(120, 300, 60)  # a tenth lies elsewhere
    mask, facts = S.select(cascades, at(*angle), share=0.1, min_samples=3)
    assert mask[::10].mean() > 0.9 and mask.sum() == 60
    assert facts["clustered"] == 30 and 60 <= facts["clusters"] <= 90 and facts["outliers"] >= 60
    low, high = facts["eps_tenths"]
    assert low < facts["eps"] < high and high > 20 * low
    alone = [S.select(cascades.take([i]), at(*angle), share=0.1)[0] for i in range(30)]
    np.testing.assert_array_equal(np.concatenate(alone), mask)  # no cascade's choice needs another


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
    many = made([7] * 9)
    chosen = S.select(many, np.ones((63, 2)), rule="random")[0].reshape(9, 7)
    assert len({tuple(row) for row in chosen}) > 1
    turned = S.select(many.take([4, 0]), np.ones((63, 2)), rule="random")[0].reshape(2, 7)
    np.testing.assert_array_equal(turned, chosen[[4, 0]])  # wherever a cascade stands
    with pytest.raises(ValueError, match="dbscan, random, degree, all, none, got 'dbcan'"):
        S.select(cascades, features, rule="dbcan")


@pytest.mark.parametrize(
    ("field", "value", "must"),
    [
        ("share", 0, r"in \(0, 1\]"),
        ("share", 1.5, r"in \(0, 1\]"),
        ("eps", 2.5, r"in \(0, 2\], a distance of unit vectors, or 0"),
        ("eps", -0.1, r"in \(0, 2\]"),
        ("eps_rule", "elbow", "one of median, knee"),
        ("min_samples", 1, ">= 2"),
    ],
)
def test_fields_out_of_range_are_named_before_anything_is_read(field, value, must):
    config = rumor_pheme.get_config("fused")
    config.cascades.augmentation.source = "original"
    config.cascades.selection[field] = value
    told = rf"config\.cascades\.selection\.{field} must be {must}.*got '?{value}"
    with pytest.raises(ConfigError, match=told):
        validate(config)
    with pytest.raises(ValueError, match=told):
        S.select(made([5]), np.ones((5, 2)), **{field: value})


def test_posts_without_text_are_never_chosen():
    cascades = made([4])
    cascades.texts[1] = ""
    mask, _ = S.select(cascades, np.ones((4, 2)), rule="random", share=1.0)
    np.testing.assert_array_equal(mask, [True, False, True, True])


@pytest.mark.parametrize("rule", ["dbscan", "random", "degree"])
def test_posts_without_text_change_no_choice_among_the_others(rule):
    """Half of the posts are blank, with features of zeros: chosen and reported is what is where they aren't there at all."""
    rng = np.random.default_rng(0)
    sizes = np.array([1, 7, 20, 33])
    whole, features = made(sizes), rng.normal(size=(61, 3)).astype(np.float32)
    blank = rng.random(61) < 0.5
    blank[whole.sources] = False
    whole.parent[:] = np.where(whole.parent < 0, -1, 0)  # all reply to the source, so that degrees are the same without
    without = keep_posts(whole, ~blank)
    features[blank] = 0
    for i in np.flatnonzero(blank):
        whole.texts[i] = " "
    mask, facts = S.select(whole, features, rule=rule, share=0.4)
    alone, expected = S.select(without, features, rule=rule, share=0.4)
    np.testing.assert_array_equal(np.flatnonzero(mask), without.post[alone])
    assert facts == expected and not mask[blank].any()
    assert mask.sum() == np.floor(0.4 * without.sizes + 0.5).sum()


def test_a_cascade_beyond_a_block_is_looked_at_in_equal_parts(monkeypatch):
    monkeypatch.setattr(S, "BLOCK", 64)
    cascades = made([321])  # five parts of 64 would leave one post, an outlier by want of neighbours
    mask, facts = S.select(cascades, np.random.default_rng(0).normal(size=(321, 3)), share=0.3)
    assert mask.sum() == 96 and facts["clustered"] == 6 and facts["eps"] > 0


def test_copies_in_a_large_cascade_take_the_memory_that_is_stated():
    """The worst case, every post the neighbour of every other; docs/cascades.md: 100 MiB."""
    cascades, features = made([2 * S.BLOCK]), np.ones((2 * S.BLOCK, 4), np.float32)
    tracemalloc.start()
    S.select(cascades, features)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20


def test_pheme_is_clustered(real_data):
    """Features of frozen MiniLM aren't at hand in a test; words hashed to vectors are enough to see clusters and outliers."""
    if not (real_data / PHEME).is_file():
        pytest.skip(f"{PHEME} is not in {real_data}: real-data test not run")
    cascades = pheme(real_data).take(range(0, 6425, 25))
    cascades = cascades.renumbered()
    vectors = HashingVectorizer(n_features=256).transform(cascades.texts).toarray().astype(np.float32)
    _, facts = S.select(cascades, vectors)
    large = cascades.sizes >= 3
    assert facts["clustered"] == large.sum() and 1.2 * large.sum() < facts["clusters"]
    assert 0.1 < facts["outliers"] / cascades.sizes[large].sum() < 0.6

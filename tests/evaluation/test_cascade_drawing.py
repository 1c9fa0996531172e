"""Trees of replies: where posts stand, by hand; what is drawn of them; cascades with texts."""

import numpy as np
import pytest

from tests.evaluation.test_figures import assert_drawn, words
from textfuse_jax.evaluation.cascade_drawing import MAX_POSTS, draw_cascade, draw_trees, reply_order, tree_places

PARENT = np.array([-1, 0, 0, 1, 1, 0])
"""The source has replies 1, 2 and 5; 3 and 4 reply to 1."""


def test_an_outline_and_the_places_of_a_tree_by_hand():
    assert reply_order(PARENT) == [0, 1, 3, 4, 2, 5]
    x, depth = tree_places(PARENT)
    np.testing.assert_array_equal(x, [1.75, 0.5, 2, 0, 1, 3])  # leaves 3, 4, 2, 5 in turn; 1 above 3 and 4; 0 above 1 .. 5
    np.testing.assert_array_equal(depth, [0, 1, 1, 2, 2, 1])


@pytest.mark.parametrize("posts", [1, 2, 5_000])
def test_places_of_chains_and_of_a_lone_post(posts):
    """A chain of any depth stands in one column."""
    x, depth = tree_places(np.arange(-1, posts - 1))
    assert not x.any() and depth.tolist() == list(range(posts))


def test_no_two_posts_stand_at_one_place():
    rng = np.random.default_rng(0)
    for _ in range(20):
        parent = np.array([-1, *(rng.integers(0, j) for j in range(1, 30))])
        assert len(set(zip(*map(np.ndarray.tolist, tree_places(parent))))) == 30


def test_trees_are_coloured_by_shares_and_by_what_was_selected(tmp_path):
    lone = np.array([-1])
    share = [np.array([0.4, 0.1, 0.1, 0.2, 0.1, 0.1]), np.array([1.0])]
    selected = [np.arange(6) % 2 == 1, np.array([False])]
    figure = draw_trees([PARENT, lone], {"attention": share, "selected": selected}, ["six posts", "one post"], "a title")
    told = words(figure)
    assert all(text in told for text in ("attention", "selected", "six posts", "one post", "a title"))
    by_share, _, by_choice, _ = (ax.collections[0] for ax in figure.axes)
    np.testing.assert_allclose(by_share.get_array(), share[0] / 0.4)
    blue = [tuple(colour) != (1, 1, 1, 1) for colour in by_choice.get_facecolors()]
    assert blue == selected[0].tolist()
    assert len(figure.axes[0].lines) == 5 and not figure.axes[1].lines
    assert_drawn(figure, tmp_path / "trees.png")
    with pytest.raises(ValueError, match="need cascades"):
        draw_trees([PARENT], {"attention": share}, ["six posts"])


def test_a_cascade_with_texts_tells_times_and_selection(tmp_path):
    texts = [f"post number {i}" for i in range(6)]
    minutes = np.array([0, 3, np.nan, 8, 9, 60], np.float32)
    figure = draw_cascade(texts, PARENT, share=np.full(6, 1 / 6), selected=np.arange(6) < 2, minutes=minutes, title="a $rumour_")
    told = words(figure)
    assert "+3 min" in told and "+60 min" in told and "selected (2 of 6 posts)" in told and "post number 5" in told
    assert_drawn(figure, tmp_path / "cascade.png")
    for wrong in ([], texts * 20):
        with pytest.raises(ValueError, match=f"1 to {MAX_POSTS} posts"):
            draw_cascade(wrong, np.arange(-1, len(wrong) - 1))

"""Packed cascades: each once, whole, its edges inside it; alone = packed; epochs from the seed; shares of processes."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textfuse_jax.data import cascade_rows as R
from textfuse_jax.data.cascades import Cascades
from textfuse_jax.data.ragged import bounds

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def made(sizes, seed=0):
    """Random trees of these sizes; a post replies to any earlier one."""
    rng = np.random.default_rng(seed)
    sizes = np.asarray(sizes)
    parent = [p for n in sizes for p in [-1, *(int(rng.integers(0, j)) for j in range(1, n))]]
    return Cascades(
        name="made",
        ids=[str(i) for i in range(len(sizes))],
        labels=rng.integers(0, 2, len(sizes)).astype(np.int32),
        class_names=("no", "yes"),
        events=[""] * len(sizes),
        bounds=bounds(sizes),
        texts=[f"post {k}" for k in range(sizes.sum())],
        parent=np.array(parent, np.int32),
        minutes=np.zeros(sizes.sum(), np.float32),
    )


def numbered(cascades):
    """Features that name the post: its index + 1, and a constant."""
    k = len(cascades.texts)
    return np.stack([np.arange(1, k + 1), np.full(k, 7)], 1).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))
def test_every_cascade_once_in_batches_of_nearly_equal_size(sizes, batch_size, lookahead, multiple, seed):
    sizes = np.array(sizes)
    plan = R.plan_cascades(
        sizes, batch_size=batch_size, row_lengths=(16, 48), shuffle=(seed, 0), lookahead=lookahead, rows_multiple=multiple
    )
    np.testing.assert_array_equal(np.sort(plan.pieces), np.arange(len(sizes)))
    counts = np.diff(plan.bounds)
    assert counts.max() <= batch_size and plan.batches == -(-len(sizes) // batch_size)
    for b, (low, high) in enumerate(zip(plan.bounds, plan.bounds[1:])):
        shape, row = plan.shapes[plan.shape[b]], plan.rows[low:high]
        posts = np.bincount(row, sizes[plan.pieces[low:high]], shape.rows)
        assert shape.rows % multiple == 0 and (np.diff(row) >= 0).all() and posts.max() <= shape.tokens
        assert shape.tokens == (16 if sizes[plan.pieces[low:high]].max() <= 16 else 48)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.sampled_from(R.DIRECTIONS), st.integers(0, 3))
def test_nodes_and_edges_of_every_cascade_come_back(sizes, direction, seed):
    """Read back from the rows: all posts in order with their features, and exactly the replies, inside their cascade."""
    cascades = made(sizes, seed)
    batches = R.cascade_batches(cascades, numbered(cascades), seed=seed, batch_size=5, row_lengths=(16, 48), direction=direction)
    seen = []
    for rows in map(batches.batch, range(batches.total_steps)):
        nodes, u = rows.nodes, rows.document.shape[1]
        assert nodes.senders.shape[1] == u * (2 if direction == "both" else 1)
        for row, slot in zip(*np.nonzero(rows.example >= 0)):
            i = int(rows.example[row, slot])
            seen.append(i)
            assert rows.label[row, slot] == cascades.labels[i] and rows.weight[row, slot] == 1
            place = np.flatnonzero(nodes.document[row] == slot)
            first = cascades.bounds[i]
            np.testing.assert_array_equal(rows.post[row, place], np.arange(first, cascades.bounds[i + 1]))
            np.testing.assert_array_equal(nodes.features[row, place, 0], rows.post[row, place] + 1)
            replies = {(place[p], place[j]) for j, p in enumerate(cascades[i].parent) if p >= 0}
            up = {(b, a) for a, b in replies}
            expected = {"both": replies | up, "top_down": replies, "bottom_up": up}[direction]
            inside = (nodes.senders[row] < u) & (nodes.document[row][np.minimum(nodes.senders[row], u - 1)] == slot)
            found = list(zip(nodes.senders[row, inside].tolist(), nodes.receivers[row, inside].tolist()))
            assert set(found) == expected and len(found) == len(expected)
        padding = nodes.senders == u
        assert (nodes.receivers[padding] == u).all() and not nodes.weight[padding].any() and (nodes.weight[~padding] == 1).all()
        empty = nodes.document == rows.slots
        assert not nodes.features[empty].any() and (rows.post[empty] == len(cascades.texts)).all()
    assert sorted(seen) == list(range(len(cascades)))


def test_spreading_makes_batches_alike():
    sizes = np.random.default_rng(0).geometric(0.06, 800)
    posts = {}
    for lookahead in (1, 8):
        plan = R.plan_cascades(sizes, shuffle=(0, 0), lookahead=lookahead)
        posts[lookahead] = np.add.reduceat(sizes[plan.pieces], plan.bounds[:-1])
    assert posts[8].std() < posts[1].std() / 2


def test_epochs_differ_and_follow_from_the_seed():
    cascades = made([3] * 40)
    one, same, other = (R.cascade_batches(cascades, None, epochs=2, seed=s, batch_size=8) for s in (1, 1, 2))
    for a, b in zip(one, same):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert one.steps_per_epoch == [5, 5] and one.total_steps == 10
    assert (one.plans[0].pieces != one.plans[1].pieces).any() and (one.plans[0].pieces != other.plans[0].pieces).any()
    iterator = iter(one)
    next(iterator)
    iterator.close()
    same.set_state(one.get_state())
    jax.tree.map(np.testing.assert_array_equal, next(iter(same)), one.batch(1))


def test_processes_share_the_rows_of_a_batch():
    cascades = made(np.random.default_rng(1).integers(1, 30, 50))
    options = dict(seed=0, batch_size=16, row_lengths=(32,))
    shares = [
        R.cascade_batches(cascades, numbered(cascades), process_index=i, process_count=2, rows_multiple=2, **options)
        for i in (0, 1)
    ]
    whole = R.cascade_batches(cascades, numbered(cascades), rows_multiple=4, **options)
    for step in range(whole.total_steps):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *(share.batch(step) for share in shares))
        jax.tree.map(np.testing.assert_array_equal, joined, whole.batch(step))


def test_without_features_rows_are_of_width_0():
    cascades = made([2, 3])
    assert R.cascade_batches(cascades, None).batch(0).nodes.features.shape == (1, 128, 0)


def test_row_lengths_follow_from_the_largest_cascade():
    assert R.row_lengths_for(np.array([3, 128])) == (128,)
    assert R.row_lengths_for(np.array([3, 346])) == (128, 256, 384)
    assert R.row_lengths_for(np.array([30_000])) == (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 30_080)


def test_only_the_batch_with_the_huge_cascade_pays_for_it():
    """64 cascades of 150 posts and one of 5,000, eight a batch: seven or eight batches keep rows of 256."""
    plan = R.plan_cascades(np.array([150] * 64 + [5000]), batch_size=8, lookahead=1, uniform=True)
    rows = {shape.tokens: shape.rows for shape in plan.shapes}
    assert set(rows) == {256, 5120} and rows[5120] <= 2
    assert (np.array([plan.shapes[i].tokens for i in plan.shape]) == 5120).sum() == 1


def test_errors_name_the_value_and_the_fix():
    cascades = made([2, 9])
    with pytest.raises(ValueError, match="cascade 1 has 9 posts, the longest row only 8; add a longer row to row_lengths"):
        R.cascade_batches(cascades, None, row_lengths=(8,))
    with pytest.raises(ValueError, match="no cascades"):
        R.plan_cascades(np.array([], int))
    with pytest.raises(ValueError, match=">= 1, got 0, 8 and 1"):
        R.cascade_batches(cascades, None, batch_size=0)
    with pytest.raises(ValueError, match="direction must be one of both, top_down, bottom_up, got 'up'"):
        R.cascade_batches(cascades, None, direction="up")
    with pytest.raises(ValueError, match=r"each of the 11 posts, got shape \(3, 2\)"):
        R.cascade_batches(cascades, np.zeros((3, 2)))
    with pytest.raises(ValueError, match="each of the 2 cascades, got 3"):
        R.cascade_batches(cascades, None, np.ones(3))
    with pytest.raises(ValueError, match="epochs must be >= 1"):
        R.cascade_batches(cascades, None, epochs=0)

"""Cascades -> a plan of packed batches -> ``CascadeRows`` in NumPy.

Every batch holds the same number of cascades, so that a step means what it does in the graph papers. Cascades are spread over
the batches so that these hold about as many posts each: the shapes stay few, and the padding small. In a batch they are put
into rows by ``best_fit``, of the length that holds its largest cascade. A plan is that of ``packing``; its tokens are posts.

The features of all posts may lie on the device: batches then say only which post is where, and ``models.node_classifier``
gathers. At 384 features that saves the host a millisecond a batch, which is more than a GCN's step takes on 2 cores.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from textfuse_jax.data.best_fit import Shape, best_fit
from textfuse_jax.data.cascades import Cascades
from textfuse_jax.data.packing import Plan
from textfuse_jax.data.pipeline import Batches, process_of
from textfuse_jax.data.ragged import bounds as bounds_of
from textfuse_jax.data.ragged import ranges
from textfuse_jax.types import CascadeRows, NodeRows

DIRECTIONS = ("both", "top_down", "bottom_up")
"""Which way messages go along a reply: both ways, from the post to its replies, or from the replies to the post."""

ROW_LENGTH = 128  # posts of an ordinary row: 99 % of PHEME's cascades fit, and 6 rows hold 32 of them


def row_lengths_for(sizes: Int[np.ndarray, "n"]) -> tuple[int, ...]:
    """``ROW_LENGTH`` doubled again and again, up to the multiple of it that holds the largest cascade.

    A batch has rows of the length that holds its largest cascade, less than twice its size: it alone pays for that one. Only
    lengths that occur are compiled.
    """
    longest, lengths = -(-int(sizes.max()) // ROW_LENGTH) * ROW_LENGTH, [ROW_LENGTH]
    while lengths[-1] < longest:
        lengths.append(min(2 * lengths[-1], longest))
    return tuple(lengths)


def plan_cascades(
    sizes: Int[np.ndarray, "n"],
    *,
    batch_size: int = 32,
    row_lengths: Sequence[int] | None = None,
    shuffle: tuple[int, int] | None = None,
    lookahead: int = 8,
    rows_multiple: int = 1,
    uniform: bool = False,
) -> Plan:
    """Every cascade once, ``batch_size`` a batch; where that doesn't divide their number, a few batches hold fewer.

    Args:
      sizes: posts of each cascade.
      batch_size: cascades of a batch, over all processes and devices, >= 1.
      row_lengths: posts that rows may hold; a batch has rows of the smallest length that holds its largest cascade. None:
        ``row_lengths_for``.
      shuffle: (seed, epoch), from which the order follows; None keeps the order, but for the spreading.
      lookahead: cascades are spread over so many batches at once; 1 leaves them where the order puts them.
      rows_multiple: the number of rows is a multiple of this: the devices or processes that share a batch.
      uniform: all batches of a row length have as many rows as that with most: a compilation each instead of two or three,
        and a tenth more padding.

    Raises:
      ValueError: no cascades, a cascade larger than the longest row, or an argument out of its range.
    """
    if not len(sizes):
        raise ValueError("there is nothing to pack: no cascades; check the file and the task")
    if min(batch_size, lookahead, rows_multiple) < 1:
        raise ValueError(
            f"batch_size, lookahead and rows_multiple must be >= 1, got {batch_size}, {lookahead} and {rows_multiple}"
        )
    lengths = sorted(set(row_lengths_for(sizes) if row_lengths is None else row_lengths))
    if not lengths or sizes.max() > lengths[-1]:
        longest = lengths[-1] if lengths else 0
        raise ValueError(
            f"cascade {int(sizes.argmax())} has {sizes.max()} posts, the longest row only {longest}; add a longer row to "
            "row_lengths, or leave it None"
        )
    random = None if shuffle is None else np.random.default_rng(shuffle)
    order = np.arange(len(sizes)) if random is None else random.permutation(len(sizes))
    chunk = batch_size * lookahead
    groups = [g for first in range(0, len(order), chunk) for g in _spread(sizes, order[first : first + chunk], batch_size)]
    if random is not None:
        groups = [groups[i] for i in random.permutation(len(groups)).tolist()]
    batches = [_rows(sizes, group, lengths, batch_size, rows_multiple) for group in groups]
    if uniform:
        most = {shape.tokens: max(other.rows for other, _ in batches if other.tokens == shape.tokens) for shape, _ in batches}
        batches = [(dataclasses.replace(shape, rows=most[shape.tokens]), rows) for shape, rows in batches]
    shapes = sorted({shape for shape, _ in batches}, key=lambda shape: (shape.tokens, shape.rows))
    placed = [(cascade, j * shape.rows // len(rows)) for shape, rows in batches for j, row in enumerate(rows) for cascade in row]
    return Plan(
        shapes=tuple(shapes),
        shape=np.array([shapes.index(shape) for shape, _ in batches], np.int32),
        bounds=bounds_of(np.array([len(group) for group in groups])),
        pieces=np.array([cascade for cascade, _ in placed], np.int32),
        rows=np.array([row for _, row in placed], np.int32),
        tokens=int(sizes.sum()),
    )


def _alike(plans: Sequence[Plan]) -> list[Plan]:
    """The plans with as many rows of each length as the epoch with most has."""
    most: dict[int, int] = {}
    for shape in (shape for plan in plans for shape in plan.shapes):
        most[shape.tokens] = max(shape.rows, most.get(shape.tokens, 0))
    return [dataclasses.replace(p, shapes=tuple(dataclasses.replace(s, rows=most[s.tokens]) for s in p.shapes)) for p in plans]


def _spread(sizes: Int[np.ndarray, "n"], cascades: Int[np.ndarray, "k"], batch_size: int) -> list[list[int]]:
    """Batches of nearly equal numbers of cascades and of posts: the largest first, each into the batch with fewest posts."""
    batches = -(-len(cascades) // batch_size)
    groups: list[list[int]] = [[] for _ in range(batches)]
    room = [len(part) for part in np.array_split(cascades, batches)]
    fewest = [(0, i) for i in range(batches)]
    for cascade in cascades[np.argsort(-sizes[cascades], kind="stable")].tolist():
        posts, i = heapq.heappop(fewest)
        groups[i].append(cascade)
        if len(groups[i]) < room[i]:
            heapq.heappush(fewest, (posts + int(sizes[cascade]), i))
    return groups


def _rows(
    sizes: Int[np.ndarray, "n"], group: list[int], lengths: list[int], batch_size: int, rows_multiple: int
) -> tuple[Shape, list[list[int]]]:
    """The shape of a batch, and the cascades of each of its rows that isn't empty."""
    posts = sizes[group].tolist()
    length = next(u for u in lengths if u >= max(posts))
    zeros = [0] * len(group)  # best_fit also bounds phrases and sentences; posts have none
    one = Shape(1, length, batch_size, 0, 0)
    (rows,) = best_fit(posts, zeros, zeros, list(range(len(group))), zeros, [one], len(group))
    shape = Shape(-(-len(rows) // rows_multiple) * rows_multiple, length, batch_size, 0, 0)
    return shape, [[group[i] for i in row] for row in rows]


def assemble_cascades(
    cascades: Cascades,
    features: Float[np.ndarray, "k d"] | None,
    plan: Plan,
    batch: int,
    *,
    weights: Float[np.ndarray, "n"] | None = None,
    direction: str = "both",
    rows: slice | None = None,
) -> CascadeRows:
    """One batch of a plan as NumPy arrays; padding points one past the end (see ``types``).

    Args:
      cascades: what the plan was made of.
      features: of every post that was read, by ``cascades.post``; gathered here, so a memory map will do. None:
        width 0, the model gathers by ``post``.
      plan: the plan.
      batch: index of the batch in the plan.
      weights: of the cascades in loss and metrics, 1 if None.
      direction: one of ``DIRECTIONS``; a row has 2 u places for edges for "both", else u. Self-loops are the model's.
      rows: only these rows of the batch, one process's share; all if None. Step must be 1.
    """
    shape = plan.shapes[plan.shape[batch]]
    first, stop, _ = (rows or slice(None)).indices(shape.rows)
    r, u, s = max(0, stop - first), shape.tokens, shape.slots
    begin, end = plan.bounds[batch : batch + 2]
    low, high = begin + np.searchsorted(plan.rows[begin:end], [first, first + r])
    pieces, row = plan.pieces[low:high], plan.rows[low:high] - first
    opening = np.searchsorted(row, row)  # the first cascade of each cascade's row
    slot, sizes = np.arange(len(pieces)) - opening, cascades.sizes[pieces]
    before = np.cumsum(sizes) - sizes
    offset = before - before[opening]  # posts before the cascade in its row
    node = np.repeat(row * u, sizes) + ranges(offset, sizes)
    posts = cascades.posts_of(pieces)
    replied = cascades.parent[posts]

    def scattered(size: int, padding: float, at: np.ndarray, values: np.ndarray, dtype=np.int32) -> np.ndarray:
        flat = np.full(r * size, padding, dtype)
        flat[at] = values
        return flat.reshape(r, size)

    parent = scattered(u, u, node, np.where(replied < 0, u, replied + np.repeat(offset, sizes)))
    child = np.where(parent < u, np.arange(u, dtype=np.int32), u).astype(np.int32)
    senders = {"both": (parent, child), "top_down": (parent,), "bottom_up": (child,)}[direction]
    receivers = {"both": (child, parent), "top_down": (child,), "bottom_up": (parent,)}[direction]
    senders, receivers = np.concatenate(senders, 1), np.concatenate(receivers, 1)
    place = row * s + slot
    post = scattered(u, cascades.posts, node, cascades.post[posts])
    nodes = NodeRows(
        features=_features(features, post),
        document=scattered(u, s, node, np.repeat(slot, sizes)),
        level=np.zeros((r, u), np.int32),
        parent=parent,
        saliency=np.zeros((r, u), np.float32),
        senders=senders,
        receivers=receivers,
        weight=(senders < u).astype(np.float32),
        slots=s,
        time=scattered(u, -1, node, np.nan_to_num(cascades.minutes[posts], nan=-1), np.float32),
    )
    return CascadeRows(
        nodes=nodes,
        post=post,
        label=scattered(s, 0, place, cascades.labels[pieces]),
        weight=scattered(s, 0, place, 1 if weights is None else weights[pieces], np.float32),
        example=scattered(s, -1, place, pieces),
    )


def _features(features: Float[np.ndarray, "k d"] | None, post: Int[np.ndarray, "r u"]) -> Float[np.ndarray, "r u d"]:
    """Each post's features at its node, zeros in padding; one pass over the memory."""
    if features is None:
        return np.zeros((*post.shape, 0), np.float32)
    gathered = np.take(features, post, axis=0, mode="clip")
    gathered[post == len(features)] = 0
    return gathered


def cascade_batches(
    cascades: Cascades,
    features: Float[np.ndarray, "k d"] | None,
    weights: Float[np.ndarray, "n"] | None = None,
    *,
    epochs: int = 1,
    seed: int | None = None,
    batch_size: int = 32,
    row_lengths: Sequence[int] | None = None,
    direction: str = "both",
    lookahead: int = 8,
    process_index: int = 0,
    process_count: int = 1,
    rows_multiple: int = 1,
    uniform: bool = False,
    prefetch: int = 2,
) -> Batches:
    """Batches of ``epochs`` epochs, each shuffled and packed anew from the seed.

    Args:
      cascades, features, weights, direction: as in ``assemble_cascades``.
      epochs: >= 1; all are planned at once, some 10 microseconds a cascade and epoch.
      seed: equal seeds give equal batches; None keeps the order, for evaluation.
      batch_size, row_lengths, lookahead, uniform: as in ``plan_cascades``; over all epochs.
      process_index, process_count, rows_multiple, prefetch: as in ``pipeline.train_batches``.

    Raises:
      ValueError: as ``plan_cascades``; features or weights that aren't one for each post and cascade.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
    if epochs < 1:
        raise ValueError(f"epochs must be >= 1, got {epochs}")
    if features is not None and (features.ndim != 2 or len(features) != cascades.posts):
        raise ValueError(f"features must have a row for each of the {cascades.posts} posts, got shape {features.shape}")
    if weights is not None and len(weights) != len(cascades):
        raise ValueError(f"weights must have one entry for each of the {len(cascades)} cascades, got {len(weights)}")
    plans = [
        plan_cascades(
            cascades.sizes,
            batch_size=batch_size,
            row_lengths=row_lengths,
            shuffle=None if seed is None else (seed, epoch),
            lookahead=lookahead,
            rows_multiple=rows_multiple * process_count,
            uniform=uniform,
        )
        for epoch in range(epochs)
    ]
    if uniform:
        plans = _alike(plans)

    def assembled(plan: Plan, batch: int, rows: slice) -> CascadeRows:
        return assemble_cascades(cascades, features, plan, batch, weights=weights, direction=direction, rows=rows)

    return Batches(plans, assembled, process_of(process_index, process_count), prefetch)

"""Large cascades cut, young cascades shown: which posts are kept, and from where the others' replies then hang.

The source is always kept. A kept post whose parent is not kept hangs from its nearest kept ancestor, so that a tree stays one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from textfuse_jax.data.cascades import Cascades
from textfuse_jax.data.corpus import DataError
from textfuse_jax.data.ragged import bounds as bounds_of


def cut(cascades: Cascades, options: Any) -> Cascades:
    """The cascades cut as ``config.cascades`` says: ``first_minutes``, ``first_posts`` and ``most_posts``, where set.

    Raises:
      DataError: as ``first_minutes``.
    """
    found = first_minutes(cascades, options.first_minutes) if options.first_minutes else cascades
    most = min(filter(None, (options.first_posts, options.most_posts)), default=0)
    return first_posts(found, most) if most else found


def first_posts(cascades: Cascades, most: int) -> Cascades:
    """The first ``most`` posts of each cascade by their minutes, in the order of the file where these are equal or unknown.

    This is both the rule by which large cascades are cut and early detection by number of posts.

    Raises:
      ValueError: ``most`` < 1.
    """
    if most < 1:
        raise ValueError(f"a cascade keeps at least its source: posts must be >= 1, got {most}")
    if cascades.sizes.max() <= most:
        return cascades
    owner = np.repeat(np.arange(len(cascades)), cascades.sizes)
    late = np.nan_to_num(cascades.minutes, nan=np.inf)
    late[cascades.sources] = -np.inf
    order = np.lexsort((np.arange(len(late)), late, owner))
    rank = np.empty(len(late), np.int64)
    rank[order] = np.arange(len(late)) - cascades.bounds[owner]
    return keep_posts(cascades, rank < most)


def first_minutes(cascades: Cascades, minutes: float) -> Cascades:
    """The posts of each cascade up to so many minutes after the source.

    Raises:
      DataError: a post's time isn't known; the first such cascade is named.
    """
    unknown = np.isnan(cascades.minutes)
    unknown[cascades.sources] = False
    if unknown.any():
        i = int(np.searchsorted(cascades.bounds, np.flatnonzero(unknown)[0], side="right")) - 1
        raise DataError(
            f"{cascades.name}: cascade {cascades.ids[i]!r} has posts whose time isn't known, so it can't be seen at "
            f"{minutes:g} minutes; use config.cascades.first_posts"
        )
    kept = cascades.minutes <= minutes
    kept[cascades.sources] = True
    return keep_posts(cascades, kept)


def keep_posts(cascades: Cascades, kept: Bool[np.ndarray, "k"]) -> Cascades:
    """The cascades with these of their posts; every source must be among them."""
    if kept.all():
        return cascades
    start = np.repeat(cascades.bounds[:-1], cascades.sizes)
    ancestor = np.where(cascades.parent < 0, -1, cascades.parent + start)
    while True:  # at most the depth of the tallest tree that lost a post
        lost = (ancestor >= 0) & ~kept[ancestor]
        if not lost.any():
            break
        ancestor[lost] = ancestor[ancestor[lost]]
    before = np.cumsum(kept) - kept  # kept posts before each post, among all cascades
    posts = np.flatnonzero(kept)
    above = ancestor[posts]
    owner = np.repeat(np.arange(len(cascades)), cascades.sizes)
    bounds = bounds_of(np.bincount(owner[posts], minlength=len(cascades)))
    parent = np.where(above < 0, -1, before[above] - bounds[owner[posts]])
    return dataclasses.replace(cascades, bounds=bounds).with_posts(posts, parent)


def depth_of(cascades: Cascades) -> Int[np.ndarray, "k"]:
    """Replies between each post and its source."""
    start = np.repeat(cascades.bounds[:-1], cascades.sizes)
    above = np.where(cascades.parent < 0, -1, cascades.parent + start)
    depth, at = np.zeros(len(above), np.int64), above.copy()
    while (at >= 0).any():
        depth += at >= 0
        at = np.where(at >= 0, above[at], -1)
    return depth

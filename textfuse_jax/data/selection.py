"""Phase 2: which posts of each cascade are worth rewriting. DBSCAN on their features, or a control.

Each cascade chooses among its own posts, so that a test cascade's choice needs no other cascade and a new one is treated alike;
only eps is one number for all. Of m posts ``floor(share m + 1/2)`` are chosen; posts without text never are. In cascades of more
than ``BLOCK`` posts DBSCAN looks at so many at a time, in their order: memory is at most BLOCK^2 distances, 128 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.cluster import DBSCAN

from textfuse_jax.data.cascades import Cascades

RULES = ("dbscan", "random", "degree", "all", "none")
BLOCK = 4096
SAMPLE = 20_000  # posts whose distances decide eps: the knee's place is known to a percent by then


def select(
    cascades: Cascades,
    features: Float[np.ndarray, "k d"],
    *,
    rule: str = "dbscan",
    share: float = 0.3,
    eps: float = 0.0,
    min_samples: int = 3,
    seed: int = 0,
) -> tuple[Bool[np.ndarray, "k"], dict[str, Any]]:
    """The posts that are rewritten.

    Args:
      cascades: whose posts.
      features: of the posts, by ``cascades.post``; lengths don't matter, directions are compared.
      rule: "dbscan": outliers first, then clusters from the smallest, inside either the posts farthest from their neighbours;
        "random": by the seed; "degree": posts with most replies first; "all" and "none".
      share: wanted, in (0, 1]; not read by "all" and "none".
      eps: radius of a neighbourhood, a distance of unit vectors in (0, 2]; 0: the knee of the k-distances (``knee_eps``).
      min_samples: posts, itself counted, that make a post the core of a cluster.
      seed: of "random".

    Returns:
      A mask of the posts, and what to report: rule, share, selected, and of "dbscan" eps, min_samples, outliers, clusters.

    Raises:
      ValueError: an unknown rule, a share or eps out of range.
    """
    if rule not in RULES:
        raise ValueError(f"config.cascades.selection.rule must be one of {', '.join(RULES)}, got {rule!r}")
    if not 0 < share <= 1 or not 0 <= eps <= 2 or min_samples < 2:
        raise ValueError(f"selection needs a share in (0, 1], eps in [0, 2], min_samples >= 2, got {share}, {eps}, {min_samples}")
    textual = np.array([bool(text.strip()) for text in cascades.texts])
    facts: dict[str, Any] = {"rule": rule, "share": share}
    if rule in ("all", "none"):
        mask = textual & (rule == "all")
        return mask, {"rule": rule, "selected": int(mask.sum())}
    if rule == "dbscan":
        eps = eps or knee_eps(cascades, features, min_samples)
        facts |= {"eps": round(eps, 4), "min_samples": min_samples, "outliers": 0, "clusters": 0}
    random = np.random.default_rng(seed).random(len(cascades.texts))
    mask = np.zeros(len(cascades.texts), bool)
    for first, last in zip(cascades.bounds[:-1].tolist(), cascades.bounds[1:].tolist()):
        wanted = int(np.floor(share * (last - first) + 0.5))
        if rule == "random":
            order = np.argsort(random[first:last])
        elif rule == "degree":
            parent = cascades.parent[first:last]
            order = np.argsort(-np.bincount(parent[parent >= 0], minlength=last - first), kind="stable")
        else:
            order = _rare_first(_unit(features[cascades.post[first:last]]), eps, min_samples, facts)
        order = order[textual[first + order]][:wanted]
        mask[first + order] = True
    return mask, facts | {"selected": int(mask.sum())}


def knee_eps(cascades: Cascades, features: Float[np.ndarray, "k d"], min_samples: int) -> float:
    """eps at the knee of the sorted k-distances: the point farthest from the chord of the curve, both axes scaled to [0, 1].

    The k-distance of a post is that to its (min_samples - 1)-th nearest post of its own cascade (Ester and others 1996; the knee
    as in Satopaa and others 2011). Cascades of fewer posts have none. Without any, 1.
    """
    found: list[np.ndarray] = []
    order = np.random.default_rng(0).permutation(len(cascades))
    for i in order.tolist():
        first, last = cascades.bounds[i : i + 2].tolist()
        for block in _blocks(last - first):
            if len(block) >= min_samples:
                distance = _distances(_unit(features[cascades.post[first + block]]))
                found.append(np.partition(distance, min_samples - 1, axis=1)[:, min_samples - 1])
        if sum(map(len, found)) >= SAMPLE:
            break
    if not found:
        return 1.0
    return knee(np.sort(np.concatenate(found)))


def knee(curve: Float[np.ndarray, "m"]) -> float:
    """The value at the knee of a rising curve: where it lies farthest below the chord from its first to its last point."""
    rise = curve[-1] - curve[0]
    if rise <= 0:
        return float(max(curve[-1], 1e-6))
    x, y = np.linspace(0, 1, len(curve)), (curve - curve[0]) / rise
    return float(max(curve[int(np.argmax(x - y))], 1e-6))


def _rare_first(unit: Float[np.ndarray, "m d"], eps: float, min_samples: int, facts: dict[str, Any]) -> Int[np.ndarray, "m"]:
    """The posts of one cascade, outliers first, then clusters from the smallest; inside, the most remote first."""
    size, remote = np.zeros(len(unit), np.int64), np.zeros(len(unit))
    for block in _blocks(len(unit)):
        distance = _distances(unit[block])
        label = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(distance).labels_
        count = np.bincount(label[label >= 0], minlength=1)
        size[block] = np.where(label < 0, 0, count[np.maximum(label, 0)])
        remote[block] = distance.sum(1) / max(len(block) - 1, 1)
        facts["outliers"] += int((label < 0).sum())
        facts["clusters"] += int((count > 0).sum())
    return np.lexsort((np.arange(len(unit)), -remote, size))


def _blocks(posts: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + BLOCK, posts)) for start in range(0, posts, BLOCK))


def _unit(x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def _distances(unit: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m m"]:
    distance = np.sqrt(np.maximum(2 - 2 * (unit @ unit.T), 0))
    np.fill_diagonal(distance, 0)
    return distance

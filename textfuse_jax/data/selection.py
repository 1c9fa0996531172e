"""Phase 2: which posts of each cascade are worth rewriting. DBSCAN on their features, or a control.

Each cascade chooses among its own posts, by an eps of its own: a test cascade's choice needs no other cascade, and a new one is
treated alike. Of m posts ``floor(share m + 1/2)`` are chosen; posts without text never are. Cascades of more than ``BLOCK`` posts
are looked at in equal parts of at most so many, in their order: that bounds the memory (``docs/cascades.md``).
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.cluster import DBSCAN

from textfuse_jax.data.cascades import Cascades

RULES = ("dbscan", "random", "degree", "all", "none")
BLOCK = 2048
CORES = 0.5  # share of a cascade's posts that are cores of a cluster: eps is the median of its k-distances
LEAST = 1e-6  # smallest eps: copies of a post have distance 0, and DBSCAN takes none of 0


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
      rule: "dbscan": outliers first, then clusters from the smallest, inside either the posts farthest from the others;
        "random": by the seed and the cascade's id; "degree": posts with most replies first; "all" and "none".
      share: wanted, in (0, 1]; not read by "all" and "none".
      eps: radius of a neighbourhood, a distance of unit vectors in (0, 2]; 0: each cascade's own (``own_eps``).
      min_samples: posts, itself counted, that make a post the core of a cluster.
      seed: of "random".

    Returns:
      A mask of the posts, and what to report: rule, share, selected, and of "dbscan" min_samples, the median eps and those that
      a tenth of the cascades lie below and above, cascades that were clustered, and their clusters and outliers. Cascades of
      fewer than min_samples posts can't be: their posts come in the order of their distance from the others.

    Raises:
      ValueError: an unknown rule, a share or eps out of range.
    """
    if rule not in RULES:
        raise ValueError(f"config.cascades.selection.rule must be one of {', '.join(RULES)}, got {rule!r}")
    if not 0 < share <= 1 or not 0 <= eps <= 2 or min_samples < 2:
        raise ValueError(f"selection needs a share in (0, 1], eps in [0, 2], min_samples >= 2, got {share}, {eps}, {min_samples}")
    textual = np.array([bool(text.strip()) for text in cascades.texts])
    if rule in ("all", "none"):
        mask = textual & (rule == "all")
        return mask, {"rule": rule, "selected": int(mask.sum())}
    mask, clustered = np.zeros(len(cascades.texts), bool), _Clustered([], 0, 0)
    for identity, first, last in zip(cascades.ids, cascades.bounds[:-1].tolist(), cascades.bounds[1:].tolist()):
        wanted = int(np.floor(share * (last - first) + 0.5))
        if rule == "random":
            order = np.random.default_rng([seed, zlib.crc32(identity.encode("utf-8", "surrogatepass"))]).permutation(last - first)
        elif rule == "degree":
            parent = cascades.parent[first:last]
            order = np.argsort(-np.bincount(parent[parent >= 0], minlength=last - first), kind="stable")
        else:
            order = _rare_first(_unit(features[cascades.post[first:last]]), eps, min_samples, clustered)
        order = order[textual[first + order]][:wanted]
        mask[first + order] = True
    told = {"rule": rule, "share": share} | (clustered.told(min_samples) if rule == "dbscan" else {})
    return mask, told | {"selected": int(mask.sum())}


def own_eps(distance: Float[np.ndarray, "m m"], min_samples: int) -> float:
    """eps of one cascade: the quantile ``CORES`` of its k-distances, so that half of its posts are cores of a cluster.

    The k-distance of a post is that to its (min_samples - 1)-th nearest post (Ester and others 1996). Not their knee: replies lie
    nearly as far from one another as any two texts, and within the distance of the knee most cascades are one cluster.
    """
    nearest = np.partition(distance, min_samples - 1, axis=1)[:, min_samples - 1]
    return max(float(np.quantile(nearest, CORES)), LEAST)


class _Clustered:
    """What DBSCAN found, over cascades."""

    def __init__(self, eps: list[float], clusters: int, outliers: int):
        self.eps, self.clusters, self.outliers = eps, clusters, outliers

    def told(self, min_samples: int) -> dict[str, Any]:
        low, middle, high = np.quantile(self.eps, (0.1, 0.5, 0.9)).tolist() if self.eps else (0.0, 0.0, 0.0)
        found = {"min_samples": min_samples, "eps": round(middle, 4), "eps_tenths": [round(low, 4), round(high, 4)]}
        return found | {"clustered": len(self.eps), "clusters": self.clusters, "outliers": self.outliers}


def _rare_first(unit: Float[np.ndarray, "m d"], eps: float, min_samples: int, found: _Clustered) -> Int[np.ndarray, "m"]:
    """The posts of one cascade, outliers first, then clusters from the smallest; inside, the most remote first."""
    size, remote = np.zeros(len(unit), np.int64), np.zeros(len(unit))
    for block in np.array_split(np.arange(len(unit)), -(-len(unit) // BLOCK)):
        distance = _distances(unit[block])
        remote[block] = distance.sum(1) / max(len(block) - 1, 1)
        if len(block) < min_samples:
            continue
        here = eps or own_eps(distance, min_samples)
        label = DBSCAN(eps=here, min_samples=min_samples, metric="precomputed").fit(distance).labels_
        count = np.bincount(label[label >= 0], minlength=1)
        size[block] = np.where(label < 0, 0, count[np.maximum(label, 0)])
        found.eps.append(here)
        found.outliers += int((label < 0).sum())
        found.clusters += int((count > 0).sum())
    return np.lexsort((np.arange(len(unit)), -remote, size))


def _unit(x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def _distances(unit: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m m"]:
    distance = unit @ unit.T  # in place: at BLOCK posts each copy would be 16 MiB
    distance *= -2
    distance += 2
    np.sqrt(np.maximum(distance, 0, out=distance), out=distance)
    np.fill_diagonal(distance, 0)
    return distance

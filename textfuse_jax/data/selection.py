"""Phase 2: which posts of each cascade are worth rewriting. DBSCAN on their features, or a control.

Each cascade chooses among its own posts, by an eps of its own: a test cascade's choice needs no other cascade, and a new one is
treated alike. Of m posts with text ``floor(share m + 1/2)`` are chosen; posts without are as if they weren't there. Cascades of
more than ``BLOCK`` posts are looked at in equal parts of at most so many, in their order: that bounds the memory
(``docs/cascades.md``).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.cluster import DBSCAN

from textfuse_jax.data.cascades import Cascades

RULES = ("dbscan", "random", "degree", "all", "none")
EPS_RULES = ("median", "knee")
BLOCK = 2048
CORES = 0.5  # eps rule "median": share of a cascade's posts that are cores of a cluster
LEAST = 1e-6  # smallest eps: copies of a post have distance 0, and DBSCAN takes none of 0


def select(
    cascades: Cascades,
    features: Float[np.ndarray, "k d"],
    *,
    rule: str = "dbscan",
    share: float = 0.3,
    eps: float = 0.0,
    eps_rule: str = "median",
    min_samples: int = 3,
    seed: int = 0,
) -> tuple[Bool[np.ndarray, "k"], dict[str, Any]]:
    """The posts that are rewritten.

    Args:
      cascades: whose posts.
      features: of the posts, by ``cascades.post``; lengths don't matter, directions are compared.
      rule: "dbscan": outliers first, then clusters from the smallest, inside either the posts farthest from the others;
        "random": by the seed and the cascade's id; "degree": posts with most replies first; "all" and "none".
      share: wanted of the posts with text, in (0, 1]; not read by "all" and "none".
      eps: radius of a neighbourhood, a distance of unit vectors in (0, 2]; 0: each cascade's own (``own_eps``).
      eps_rule: "median" or "knee", how a cascade's own eps is found; not read with another eps.
      min_samples: posts, itself counted, that make a post the core of a cluster.
      seed: of "random".

    Returns:
      A mask of the posts, and what to report: rule, share, selected, and of "dbscan" min_samples, the eps rule, the median eps
      and those that a tenth of the cascades lie below and above, cascades that were clustered, and their clusters and outliers.
      Cascades of fewer than min_samples posts can't be: their posts come in the order of their distance from the others.

    Raises:
      ValueError: an unknown rule; as ``faults``.
    """
    if rule not in RULES:
        raise ValueError(f"config.cascades.selection.rule must be one of {', '.join(RULES)}, got {rule!r}")
    for field, must, got in faults({"share": share, "eps": eps, "eps_rule": eps_rule, "min_samples": min_samples}):
        raise ValueError(f"config.cascades.selection.{field} must be {must}, got {got!r}")
    textual = np.array([bool(text.strip()) for text in cascades.texts])
    if rule in ("all", "none"):
        mask = textual & (rule == "all")
        return mask, {"rule": rule, "selected": int(mask.sum())}
    mask, clustered = np.zeros(len(cascades.texts), bool), _Clustered([], 0, 0)
    for identity, first, last in zip(cascades.ids, cascades.bounds[:-1].tolist(), cascades.bounds[1:].tolist()):
        posts = first + np.flatnonzero(textual[first:last])
        if rule == "random":
            order = np.random.default_rng([seed, zlib.crc32(identity.encode("utf-8", "surrogatepass"))]).permutation(len(posts))
        elif rule == "degree":
            parent = cascades.parent[first:last]
            order = np.argsort(-np.bincount(parent[parent >= 0], minlength=last - first)[posts - first], kind="stable")
        else:
            order = _rare_first(_unit(features[cascades.post[posts]]), eps, eps_rule, min_samples, clustered)
        mask[posts[order[: int(np.floor(share * len(posts) + 0.5))]]] = True
    told: dict[str, Any] = {"rule": rule, "share": share}
    if rule == "dbscan":
        told |= {"min_samples": min_samples} | ({} if eps else {"eps_rule": eps_rule}) | clustered.told()
    return mask, told | {"selected": int(mask.sum())}


def faults(fields: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Of the fields of ``config.cascades.selection`` behind the rule those that can't be: name, what it must be, what it is."""
    must = {
        "share": (0 < fields["share"] <= 1, "in (0, 1]"),
        "eps": (0 <= fields["eps"] <= 2, "in (0, 2], a distance of unit vectors, or 0 for each cascade's own"),
        "eps_rule": (fields["eps_rule"] in EPS_RULES, f"one of {', '.join(EPS_RULES)}"),
        "min_samples": (fields["min_samples"] >= 2, ">= 2: the post itself is counted"),
    }
    return [(name, told, fields[name]) for name, (fine, told) in must.items() if not fine]


def own_eps(distance: Float[np.ndarray, "m m"], min_samples: int, rule: str = "median") -> float:
    """eps of one cascade, from its k-distances: of each post that to its (min_samples - 1)-th nearest post (Ester et al. 1996).

    "median": their quantile ``CORES``, so that half of the posts are cores of a cluster. "knee": that of the sorted k-distances
    that lies farthest from the straight line between the smallest and the largest. The median is the default: a cascade of a few
    posts has no curve whose bend would say more (``docs/cascades.md`` has both on PHEME).
    """
    nearest = np.partition(distance, min_samples - 1, axis=1)[:, min_samples - 1]
    if rule == "median":
        return max(float(np.quantile(nearest, CORES)), LEAST)
    nearest = np.sort(nearest)
    chord = np.linspace(nearest[0], nearest[-1], len(nearest))
    return max(float(nearest[np.abs(nearest - chord).argmax()]), LEAST)


class _Clustered:
    """What DBSCAN found, over cascades."""

    def __init__(self, eps: list[float], clusters: int, outliers: int):
        self.eps, self.clusters, self.outliers = eps, clusters, outliers

    def told(self) -> dict[str, Any]:
        low, middle, high = np.quantile(self.eps, (0.1, 0.5, 0.9)).tolist() if self.eps else (0.0, 0.0, 0.0)
        found = {"eps": round(middle, 4), "eps_tenths": [round(low, 4), round(high, 4)]}
        return found | {"clustered": len(self.eps), "clusters": self.clusters, "outliers": self.outliers}


def _rare_first(
    unit: Float[np.ndarray, "m d"], eps: float, eps_rule: str, min_samples: int, found: _Clustered
) -> Int[np.ndarray, "m"]:
    """The posts of one cascade, outliers first, then clusters from the smallest; inside, the most remote first."""
    size, remote = np.zeros(len(unit), np.int64), np.zeros(len(unit))
    for block in np.array_split(np.arange(len(unit)), -(-len(unit) // BLOCK)):
        distance = _distances(unit[block])
        remote[block] = distance.sum(1) / max(len(block) - 1, 1)
        if len(block) < min_samples:
            continue
        here = eps or own_eps(distance, min_samples, eps_rule)
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

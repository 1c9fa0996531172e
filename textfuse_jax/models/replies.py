"""The edges of a cascade, made from each post's parent: ways of messages, replies dropped, delays, a virtual root.

Functions and modules of the edges' signature, ``edges(nodes) -> (nodes with these edges, out)``, but for the helpers.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from textfuse_jax.models.layers import drop
from textfuse_jax.segments import gather, segment_sum
from textfuse_jax.types import NodeRows, Out

DIRECTIONS = ("both", "top_down", "bottom_up")


def replies(nodes: NodeRows, direction: str = "both") -> tuple[NodeRows, Out]:
    """An edge for each reply, weight 1: from the post to the reply ("top_down"), from the reply ("bottom_up"), or both.

    Bound u, or 2 u for "both".

    Raises:
      ValueError: another direction.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
    u = nodes.document.shape[1]
    parent = nodes.parent
    child = jnp.where(parent < u, jnp.arange(u, dtype=parent.dtype)[None], u)
    ends = {"both": (parent, child), "top_down": (parent,), "bottom_up": (child,)}[direction]
    others = {"both": (child, parent), "top_down": (child,), "bottom_up": (parent,)}[direction]
    senders, receivers = jnp.concatenate(ends, 1), jnp.concatenate(others, 1)
    weight = (senders < u).astype(nodes.features.dtype)
    return nodes.replace(senders=senders, receivers=receivers, weight=weight, edge=None), {}


class Delays(nn.Module):
    """Replies weighted by how late they came:  w = (1 + delay / minutes)^(-softplus(b)),  b learned.

    The delay of an edge is the time between its two posts; where one isn't known, w = 1. GCN and GAT read the weights.

    Attributes:
      direction: as in ``replies``.
      minutes: unit of the delay.
    """

    direction: str = "both"
    minutes: float = 10.0

    @nn.compact
    def __call__(self, nodes: NodeRows) -> tuple[NodeRows, Out]:
        """``out`` has ``edges/decay``, softplus(b).

        Raises:
          ValueError: the nodes carry no times.
        """
        nodes, _ = replies(nodes, self.direction)
        decay = nn.softplus(self.param("decay", nn.initializers.zeros, ()))
        delay, _ = _delays(nodes, "Delays")
        weight = jnp.exp(-decay * jnp.log1p(delay / self.minutes))
        return nodes.replace(weight=nodes.weight * weight), {"edges/decay": decay}


def delay_vectors(nodes: NodeRows, direction: str = "both", width: int = 8) -> tuple[NodeRows, Out]:
    """Replies with a vector each that tells how late they came:  f_k = exp(-(log2(1 + delay) - 2 k)^2 / 2),  k = 0 .. width - 1.

    Bump k stands at 4^k - 1 minutes: 0, 3, 15, an hour, 4 hours, 17 hours, 3 days, 11 days. 0 where a time isn't known. What is
    made of them is the layers' to learn: GCN adds them to the messages, GAT to the attention.

    Args:
      direction: as in ``replies``.
      width: of the vectors, >= 1.

    Raises:
      ValueError: the nodes carry no times.
    """
    nodes, _ = replies(nodes, direction)
    delay, known = _delays(nodes, "delay_vectors")
    bump = 2 * jnp.arange(width, dtype=delay.dtype)[None, None]
    edge = jnp.exp(-((jnp.log2(1 + delay)[..., None] - bump) ** 2) / 2)
    return nodes.replace(edge=jnp.where(known[..., None], edge, 0)), {}


def _delays(nodes: NodeRows, edges: str) -> tuple[Float[Array, "r e"], Bool[Array, "r e"]]:
    """Minutes between the two posts of each edge, and whether they are known; 0 where not, and in padding.

    A time before the source's (< 0) counts as unknown, as the -1 of those that are.
    """
    if nodes.time is None:
        raise ValueError(f"edges {edges} need nodes with times (NodeRows.time), as cascades have; use replies")
    first, second = gather(nodes.time, nodes.senders, fill=-1), gather(nodes.time, nodes.receivers, fill=-1)
    known = (first >= 0) & (second >= 0)
    return jnp.where(known, jnp.abs(second - first), 0), known


def drop_replies(module: nn.Module, nodes: NodeRows, rate: float, train: bool) -> NodeRows:
    """In training each reply loses its parent with probability ``rate``, for both directions (Rong et al. 2020, DropEdge)."""
    u = nodes.document.shape[1]
    kept = drop(module, jnp.ones(nodes.parent.shape), rate, train) > 0
    return nodes.replace(parent=jnp.where(kept, nodes.parent, u))


def is_source(nodes: NodeRows) -> Array:
    """Which nodes are the source of their document, bool [r, u]: the first of its level-0 nodes, which lie together."""
    before = jnp.pad(nodes.document[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return (nodes.document < nodes.slots) & (nodes.document != before) & (nodes.level == 0)


def of_source(x: Shaped[Array, "r u d"], nodes: NodeRows, fill: int = 0) -> Shaped[Array, "r s d"]:
    """The source's features of each document; ``fill`` for empty slots. A document's nodes lie together, its source first."""
    u = nodes.document.shape[1]
    slot = jnp.where(is_source(nodes), nodes.document, nodes.slots)  # numbers are added up, so that features needn't be
    place = segment_sum(jnp.broadcast_to(jnp.arange(1, u + 1, dtype=jnp.int32), slot.shape), slot, nodes.slots)
    return gather(x, jnp.where(place > 0, place - 1, u), fill)


def add_virtual_root(nodes: NodeRows) -> NodeRows:
    """One more node a document, zeros at first, joined both ways to all of its nodes by edges of weight 1.

    Nodes u to u + s - 1 are those of slots 0 to s - 1, of level 1; a slot without nodes has none.
    """
    r, u = nodes.document.shape
    s = nodes.slots
    slot = jnp.arange(s, dtype=nodes.document.dtype)[None]
    used = segment_sum(jnp.ones((r, u), jnp.int32), nodes.document, s) > 0
    end = lambda index: jnp.where(index == u, u + s, index)  # noqa: E731
    node = jnp.where(nodes.document < s, jnp.arange(u, dtype=jnp.int32)[None], u + s)
    root = jnp.where(nodes.document < s, u + nodes.document, u + s)
    more = lambda x, value: jnp.concatenate([x, jnp.full((r, s), value, x.dtype)], 1)  # noqa: E731
    return nodes.replace(
        features=jnp.pad(nodes.features, ((0, 0), (0, s), (0, 0))),
        document=jnp.concatenate([nodes.document, jnp.where(used, slot, s)], 1),
        level=more(nodes.level, 1),
        parent=more(end(nodes.parent), u + s),
        saliency=more(nodes.saliency, 0),
        senders=jnp.concatenate([end(nodes.senders), node, root], 1),
        receivers=jnp.concatenate([end(nodes.receivers), root, node], 1),
        weight=jnp.concatenate([nodes.weight, *[(node < u + s).astype(nodes.weight.dtype)] * 2], 1),
        time=None if nodes.time is None else more(nodes.time, -1),
        edge=None if nodes.edge is None else jnp.pad(nodes.edge, ((0, 0), (0, 2 * u), (0, 0))),
    )


def with_root_edges(along: NodeRows, nodes: NodeRows) -> NodeRows:
    """``along`` with those edges of ``nodes`` beside its own that join a virtual root (level 1) to its nodes; no self-loops."""
    u = nodes.document.shape[1]
    level = gather(nodes.level, nodes.senders, fill=0) + gather(nodes.level, nodes.receivers, fill=0)
    kept = (level == 1) & (nodes.senders < u)
    add = lambda x, y, value: jnp.concatenate([x, jnp.where(kept, y, value)], 1)  # noqa: E731
    return along.replace(
        senders=add(along.senders, nodes.senders, u),
        receivers=add(along.receivers, nodes.receivers, u),
        weight=add(along.weight, nodes.weight, 0),
        edge=None if along.edge is None else jnp.pad(along.edge, ((0, 0), (0, kept.shape[1]), (0, 0))),  # a root's are 0
    )


def without_virtual_root(nodes: NodeRows, before: NodeRows) -> NodeRows:
    """The nodes of ``before`` with the features they have in ``nodes``, which has a virtual root a document."""
    return before.replace(features=nodes.features[:, : before.document.shape[1]])

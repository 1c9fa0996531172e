"""Edges between the nodes of packed rows: ``edges(nodes) -> (nodes with these edges, out)``.

An edge carries features from its sender to its receiver. All edges stay inside one document. A row has a fixed number of
places for edges, stated as *bound* for each function; places without an edge are padding: sender = receiver = u, weight 0.
No function returns a pair (sender, receiver) twice, or a self-loop; ``add_self_loops`` adds those, once, at the end.
Edges that a node of the row already has are replaced; ``join`` and ``union`` put several kinds together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from textfuse_jax.segments import gather, segment_max, segment_softmax
from textfuse_jax.types import NodeRows, Out

Edges = Callable[[NodeRows], tuple[NodeRows, Out]]


def none(nodes: NodeRows) -> tuple[NodeRows, Out]:
    """No edges. Bound 0."""
    empty = jnp.zeros((nodes.document.shape[0], 0), jnp.int32)
    return nodes.replace(senders=empty, receivers=empty, weight=empty.astype(nodes.features.dtype), edge=None), {}


def window(nodes: NodeRows, size: int = 2) -> tuple[NodeRows, Out]:
    """Joins each node with its neighbours up to ``size`` >= 1 places away, in its document and level, weight 1.

    Nodes of one document and level must lie next to each other, in reading order. Bound 2 size u.
    """
    _at_least_one("window", "size", size)
    r, u = nodes.document.shape
    offset = jnp.array([o for o in range(-size, size + 1) if o], jnp.int32)
    neighbour = jnp.arange(u, dtype=jnp.int32)[:, None] + offset[None]
    index = jnp.broadcast_to(jnp.where((neighbour < 0) | (neighbour >= u), u, neighbour).reshape(1, -1), (r, u * 2 * size))
    document = gather(nodes.document, index, fill=nodes.slots).reshape(r, u, -1)
    level = gather(nodes.level, index, fill=-1).reshape(r, u, -1)
    allowed = (document == nodes.document[..., None]) & (level == nodes.level[..., None]) & (document < nodes.slots)
    return _incoming(nodes, index.reshape(r, u, -1), allowed, jnp.ones(allowed.shape, nodes.features.dtype)), {}


def knn(nodes: NodeRows, k: int = 4) -> tuple[NodeRows, Out]:
    """Each node receives from the ``k`` >= 1 nodes of its document and level that are most similar to it.

    Weight and similarity are the cosine of the features; where it is <= 0 there is no edge. Weights are differentiable in the
    features, the choice of neighbours is not. Equal similarities: the earlier node. Bound min(k, u) u, memory O(u^2).
    """
    _at_least_one("knn", "k", k)
    x = nodes.features
    unit = x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-12))  # a smaller floor: rsqrt's slope overflows
    cosine = jnp.einsum("rvd,rud->rvu", unit, unit, preferred_element_type=x.dtype)
    return _strongest(nodes, cosine, k), {}


def random(nodes: NodeRows, k: int = 4, seed: int = 0) -> tuple[NodeRows, Out]:
    """Each node receives from ``k`` >= 1 random nodes of its document and level, weight 1: the control for ``knn``.

    The choice depends on the seed and on the nodes' places in their document, not on what shares the row. Bound min(k, u) u.
    """
    _at_least_one("random", "k", k)
    place = _place(nodes).astype(jnp.uint32)
    x = place[..., None] * jnp.uint32(0x9E3779B1) + place[:, None] * jnp.uint32(0x85EBCA77) + jnp.uint32(seed)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):  # MurmurHash3's finaliser: every bit reaches every bit
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    chosen = _strongest(nodes, (x >> 8).astype(jnp.float32) + 1, k)
    return chosen.replace(weight=(chosen.receivers < nodes.document.shape[1]).astype(nodes.features.dtype)), {}


def full(nodes: NodeRows) -> tuple[NodeRows, Out]:
    """Joins each two nodes of a document, whatever their level, weight 1. Bound u^2: for small u."""
    r, u = nodes.document.shape
    sender = jnp.broadcast_to(jnp.arange(u, dtype=jnp.int32), (r, u, u))
    allowed = _together(nodes) & ~jnp.eye(u, dtype=bool)[None]
    return _incoming(nodes, sender, allowed, jnp.ones((r, u, u), nodes.features.dtype)), {}


def hierarchy(nodes: NodeRows) -> tuple[NodeRows, Out]:
    """Joins each node with its parent, both ways, weight 1; a node without parent gets no edge. Bound 2 u.

    In a text graph the parent is the containing unit at the next node scale, so at least two node scales are needed;
    in a cascade it is the post replied to.
    """
    u = nodes.document.shape[1]
    child = jnp.broadcast_to(jnp.arange(u, dtype=jnp.int32), nodes.parent.shape)
    allowed = (nodes.document < nodes.slots) & (nodes.parent < u)
    weight = jnp.ones(child.shape, nodes.features.dtype)
    up = _edges(nodes, child, nodes.parent, allowed, weight)
    down = _edges(nodes, nodes.parent, child, allowed, weight)
    return _concatenate(nodes, (up, down)), {}


def saliency(nodes: NodeRows, hubs: int = 2) -> tuple[NodeRows, Out]:
    """The ``hubs`` >= 1 most salient nodes of each document exchange edges with all its other nodes.

    Weight: the hub's saliency over the highest of its document, in (0, 1]; between two hubs, the larger. Nodes of all levels
    compete; ties go to the earlier node; a node of saliency 0 is no hub. Differentiable in the saliency. Bound 2 hubs u.
    """
    _at_least_one("saliency", "hubs", hubs)
    r, u = nodes.document.shape
    score = jnp.where(nodes.document < nodes.slots, nodes.saliency, 0)
    highest = gather(segment_max(score[..., None], nodes.document, nodes.slots), nodes.document)[..., 0]
    strength = score / jnp.where(highest > 0, highest, 1)

    earlier = jnp.tril(jnp.ones((u, u), bool), -1)[None]
    ahead = (score[:, None] > score[..., None]) | ((score[:, None] == score[..., None]) & earlier)
    rank = jnp.sum(ahead & _together(nodes), -1)
    is_hub = (rank < hubs) & (score > 0)
    place = jnp.where(is_hub, nodes.document * hubs + rank, nodes.slots * hubs)  # hub number `rank` of its document
    node = jnp.broadcast_to(jnp.arange(u, dtype=jnp.int32), (r, u))
    hub_of = jax.vmap(lambda p, v: jnp.full((nodes.slots * hubs,), u, jnp.int32).at[p].set(v, mode="drop"))(place, node)

    hub = gather(hub_of.reshape(r, nodes.slots, hubs), nodes.document, fill=u).reshape(r, u * hubs)
    other = jnp.repeat(node, hubs, axis=1)
    allowed = (hub < u) & (hub != other)
    weight = jnp.maximum(gather(strength, hub), gather(strength, other))
    forth = _edges(nodes, hub, other, allowed, weight)
    back = _edges(nodes, other, hub, allowed & ~gather(is_hub, other), weight)  # hub to hub is already in `forth`
    return _concatenate(nodes, (forth, back)), {}


class LearnedSaliency(nn.Module):
    """``saliency`` whose scores are learned: softmax over the document's nodes of v . tanh(W h).

    Attributes:
      hubs: hubs of each document, >= 1.
      width: size of W h.
    """

    hubs: int = 2
    width: int = 64

    @nn.compact
    def __call__(self, nodes: NodeRows) -> tuple[NodeRows, Out]:
        """Bound 2 hubs u. ``out`` has ``edges/saliency`` [r, u], the learned one; ``nodes.saliency`` stays as it was."""
        score = nn.Dense(1, use_bias=False)(jnp.tanh(nn.Dense(self.width)(nodes.features)))
        learned = segment_softmax(score, nodes.document, nodes.slots)[..., 0]
        joined, out = saliency(nodes.replace(saliency=learned), self.hubs)
        return joined.replace(saliency=nodes.saliency), out | {"edges/saliency": learned}


def join(nodes: NodeRows, parts: Sequence[NodeRows]) -> NodeRows:
    """``nodes`` with the edges of all ``parts``, each pair (sender, receiver) once, with the largest of its weights.

    Bound: the sum of the parts' bounds. Edges come out ordered by receiver, then sender, with
    padding among them.
    """
    both = _concatenate(nodes, parts)
    place = jnp.broadcast_to(jnp.arange(both.weight.shape[1], dtype=jnp.int32), both.weight.shape)
    keys = (both.receivers, both.senders, -jax.lax.stop_gradient(both.weight), place)
    receivers, senders, _, order = jax.lax.sort(keys, dimension=1, num_keys=3)
    weight = gather(both.weight, order)
    repeated = (receivers[:, 1:] == receivers[:, :-1]) & (senders[:, 1:] == senders[:, :-1])
    first = jnp.pad(~repeated, ((0, 0), (1, 0)), constant_values=True)[:, : weight.shape[1]]
    edge = None if both.edge is None else gather(both.edge, order)
    return _edges(nodes, senders, receivers, first & (receivers < nodes.document.shape[1]), weight, edge)


def union(*builders: Edges) -> Edges:
    """Several kinds of edges as one: ``union(window, knn)(nodes)``, joined by ``join``."""

    def united(nodes: NodeRows) -> tuple[NodeRows, Out]:
        parts, merged = [], {}
        for builder in builders:
            part, out = builder(nodes)
            parts.append(part)
            merged |= out
        return join(nodes, parts), merged

    return united


def add_self_loops(nodes: NodeRows) -> NodeRows:
    """Gives every node one self-loop of weight 1, its vector 0; those already there are taken out first. Bound e + u."""
    u = nodes.document.shape[1]
    node = jnp.broadcast_to(jnp.arange(u, dtype=jnp.int32), nodes.document.shape)
    others = _edges(nodes, nodes.senders, nodes.receivers, nodes.senders != nodes.receivers, nodes.weight, nodes.edge)
    loops = _edges(nodes, node, node, nodes.document < nodes.slots, jnp.ones(node.shape, nodes.features.dtype))
    return _concatenate(nodes, (others, loops))


def _edges(
    nodes: NodeRows,
    senders: Int[Array, "r e"],
    receivers: Int[Array, "r e"],
    allowed: Bool[Array, "r e"],
    weight: Float[Array, "r e"],
    edge: Float[Array, "r e f"] | None = None,
) -> NodeRows:
    u = nodes.document.shape[1]
    return nodes.replace(
        senders=jnp.where(allowed, senders, u).astype(jnp.int32),
        receivers=jnp.where(allowed, receivers, u).astype(jnp.int32),
        weight=jnp.where(allowed, weight, 0),
        edge=edge,
    )


def _incoming(
    nodes: NodeRows, sender: Int[Array, "r u k"], allowed: Bool[Array, "r u k"], weight: Float[Array, "r u k"]
) -> NodeRows:
    """k possible senders of each node -> edges."""
    r, u, k = sender.shape
    receiver = jnp.broadcast_to(jnp.arange(u, dtype=jnp.int32)[None, :, None], (r, u, k))
    return _edges(nodes, *(x.reshape(r, u * k) for x in (sender, receiver, allowed, weight)))


def _strongest(nodes: NodeRows, score: Float[Array, "r u v"], k: int) -> NodeRows:
    """Edges into each node from the k nodes of its document and level with the highest positive score."""
    u = nodes.document.shape[1]
    allowed = _together(nodes) & (nodes.level[..., None] == nodes.level[:, None]) & ~jnp.eye(u, dtype=bool)[None]
    left, senders, found = jnp.where(allowed, jax.lax.stop_gradient(score), -jnp.inf), [], []
    for _ in range(min(k, u)):  # lax.top_k would gather the rows of all devices on each of them
        senders.append(jnp.argmax(left, axis=-1).astype(jnp.int32))
        found.append(left.max(-1) > 0)
        left = jnp.where(jnp.arange(u)[None, None] == senders[-1][..., None], -jnp.inf, left)
    sender = jnp.stack(senders, axis=-1)
    return _incoming(nodes, sender, jnp.stack(found, axis=-1), jnp.take_along_axis(score, sender, axis=-1))


def _together(nodes: NodeRows) -> Bool[Array, "r u v"]:
    """Which nodes belong to the same document; padding belongs to none."""
    return (nodes.document[..., None] == nodes.document[:, None]) & (nodes.document < nodes.slots)[..., None]


def _place(nodes: NodeRows) -> Int[Array, "r u"]:
    """How many nodes of the same document come before each node."""
    u = nodes.document.shape[1]
    return jnp.sum(_together(nodes) & jnp.tril(jnp.ones((u, u), bool), -1)[None], -1)


def _concatenate(nodes: NodeRows, parts: Sequence[NodeRows]) -> NodeRows:
    parts = tuple(parts) or (none(nodes)[0],)
    return nodes.replace(
        senders=jnp.concatenate([part.senders for part in parts], axis=1),
        receivers=jnp.concatenate([part.receivers for part in parts], axis=1),
        weight=jnp.concatenate([part.weight for part in parts], axis=1),
        edge=_vectors(parts),
    )


def _vectors(parts: Sequence[NodeRows]) -> Float[Array, "r e f"] | None:
    """The vectors of all parts' edges, 0 for those of a part without; None where none has any."""
    widths = [part.edge.shape[-1] for part in parts if part.edge is not None]
    if not widths:
        return None
    zeros = lambda part: jnp.zeros((*part.weight.shape, widths[0]), part.weight.dtype)  # noqa: E731
    return jnp.concatenate([zeros(part) if part.edge is None else part.edge for part in parts], axis=1)


def _at_least_one(edges: str, field: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{field} of {edges} edges must be >= 1, got {value}; leave {edges} out of the edges instead")

"""Message passing on the graphs of packed rows: GCN and GAT, and the bridge to jraph.

Rows are mapped with ``jax.vmap``: no message crosses a row, so rows shard over devices without communication.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float, Shaped

from textfuse_jax.encoders.linear import dense_product
from textfuse_jax.models.batch_norm import BatchNorm
from textfuse_jax.models.layers import activation, drop, normalise, zero_padding
from textfuse_jax.models.replies import of_source
from textfuse_jax.segments import gather, segment_softmax, segment_sum
from textfuse_jax.types import NodeRows, Out

DENSE = 12
"""On a CPU the gradient along an edge of GAT costs as much as some 12 entries of a matrix product, of GCN, whose coefficients
are constants, 5 (jaxlib 0.10, which compiles scatters to loops over whole rows); on GPUs and TPUs more."""


def to_graph(nodes: NodeRows) -> jraph.GraphsTuple:
    """All documents of all rows as one jraph batch, for code written against jraph.

    Graph ``row * s + slot`` is that slot's document, empty slots are graphs without nodes, and one padding graph comes last
    (jraph's convention). Nodes and edges are ordered by graph, inside a graph as in the row; ``from_graph`` undoes it.

    Returns:
      A GraphsTuple of r s + 1 graphs, r u + 1 nodes and r e edges, whose ``edges`` are the weights [r e, 1].
    """
    r, u = nodes.document.shape
    graph, order = _node_order(nodes)
    place = jnp.zeros(r * u, jnp.int32).at[order].set(jnp.arange(r * u, dtype=jnp.int32))
    row = jnp.arange(r, dtype=jnp.int32)[:, None]
    real = (nodes.receivers < u).reshape(-1)

    def end(index: Array) -> Array:
        return jnp.where(real, place[jnp.where(real, (row * u + index).reshape(-1), 0)], r * u)

    senders, receivers = end(nodes.senders), end(nodes.receivers)
    edge_graph = jnp.where(real, graph[jnp.where(real, (row * u + nodes.receivers).reshape(-1), 0)], r * nodes.slots)
    by_graph = jnp.argsort(edge_graph, stable=True)
    features = nodes.features.reshape(r * u, -1)[order]
    graphs = r * nodes.slots + 1
    return jraph.GraphsTuple(
        nodes=jnp.pad(features, ((0, 1), (0, 0))),
        edges=nodes.weight.reshape(-1, 1)[by_graph],
        senders=senders[by_graph],
        receivers=receivers[by_graph],
        globals=None,
        n_node=jnp.bincount(graph, length=graphs).at[-1].add(1),
        n_edge=jnp.bincount(edge_graph, length=graphs),
    )


def from_graph(graph: jraph.GraphsTuple, nodes: NodeRows) -> NodeRows:
    """``nodes`` with the node features of ``graph``, a result of ``to_graph(nodes)`` after a jraph network; edges stay."""
    r, u = nodes.document.shape
    _, order = _node_order(nodes)
    features = jnp.zeros((r * u, graph.nodes.shape[-1]), graph.nodes.dtype).at[order].set(graph.nodes[: r * u])
    return nodes.replace(features=zero_padding(features.reshape(r, u, -1), nodes.document, nodes.slots))


def by_row(
    network: Callable[[jraph.GraphsTuple], jraph.GraphsTuple],
    nodes: NodeRows,
    features: Shaped[Array, "r u *d"],
    edges: Shaped[Array, "r e *f"] | None = None,
) -> Shaped[Array, "r u *g"]:
    """Node features after a jraph network, applied to each row with one padding node appended.

    A network that holds parameters must be given them from outside: apply Linen layers before or after, not inside.
    """

    def one(x, e, senders, receivers):
        padded = jnp.concatenate([x, jnp.zeros((1, *x.shape[1:]), x.dtype)])
        n_node, n_edge = jnp.array([x.shape[0], 1]), jnp.array([senders.shape[0], 0])
        return network(jraph.GraphsTuple(padded, e, receivers, senders, None, n_node, n_edge)).nodes[:-1]

    return jax.vmap(one)(features, nodes.weight if edges is None else edges, nodes.senders, nodes.receivers)


def gcn_coefficients(nodes: NodeRows) -> Float[Array, "r e"]:
    """c_uv = w_uv / sqrt(d_u d_v), with d_v the sum of the weights of the edges into v (Kipf & Welling 2017, eq. 2).

    Self-loops count where ``nodes`` has them. A node without incoming edges has d = 0, and its edges get 0.
    """
    degree = segment_sum(nodes.weight, nodes.receivers, nodes.document.shape[1])
    inverse = jnp.where(degree > 0, jax.lax.rsqrt(jnp.where(degree > 0, degree, 1)), 0)
    return nodes.weight * gather(inverse, nodes.senders) * gather(inverse, nodes.receivers)


def aggregate(x: Float[Array, "r u h k"], c: Float[Array, "r e h"], nodes: NodeRows) -> Float[Array, "r u h k"]:
    """Sum over the edges u -> v of c_uv x_u, for each of h heads; 0 for a node without incoming edges.

    Where u^2 <= ``DENSE`` e, as in graphs of text units, it is a product with the matrix of c; in larger, sparser
    graphs jraph's graph convolution goes along the edges.
    """
    u, e = x.shape[1], c.shape[1]
    if u * u > DENSE * e:
        return by_row(_convolve, nodes, x, c)
    place = jnp.where(nodes.receivers < u, nodes.receivers * u + nodes.senders, u * u)
    matrix = segment_sum(c, place, u * u).reshape(-1, u, u, c.shape[-1])
    return jnp.einsum("rvuh,ruhk->rvhk", matrix, x)


class GCN(nn.Module):
    """Graph convolution, K rounds:  h_v' = sigma(sum_u c_uv W h_u + b)  over the edges u -> v.

    With self-loops among the edges this is h_v' = sigma(c_vv W h_v + sum_{u != v} c_uv W h_u + b), the propagation rule
    of arXiv 2511.05752 with the symmetric normalisation of Kipf & Welling (2017); the own term enters once, as self-loop.
    The same as PyTorch Geometric's ``GCNConv`` on the same edges.

    Each round is  h <- norm(h + dropout(h'))  with ``residual``,  norm(dropout(h'))  without; where the width changes the
    residual is a linear map of h. Batch norm stands where the graph papers have it, before sigma: h' = sigma(norm(...)), and
    h <- h + dropout(h'). A node without edges gets sigma(b) and its residual. ``rounds=0`` is the identity.
    Where edges have vectors f, the messages bring them along: sum_u c_uv (W h_u + V f_uv).

    Attributes:
      width: output width, >= 1.
      rounds: K >= 0.
      residual, norm ("layer" | "batch" | "none"), activation (sigma), dropout (rate in [0, 1)): as above.
      root: root enhancement (Bian et al. 2020, BiGCN): after round k each node's features are joined by those its source had
        before round k; the output has the width of two rounds.
    """

    width: int = 256
    rounds: int = 2
    residual: bool = True
    norm: str = "layer"
    activation: str | Callable = "relu"
    dropout: int | float | Array = 0.0
    root: bool = False

    @nn.compact
    def __call__(self, nodes: NodeRows, *, train: bool) -> tuple[NodeRows, Out]:
        """``out`` has ``propagate/coefficient`` [r, e]."""
        c = gcn_coefficients(nodes)
        h = own = nodes.features
        out: Out = {"propagate/coefficient": c}
        for k in range(self.rounds):
            x = nn.Dense(self.width, use_bias=False, dot_general=dense_product, name=f"linear_{k}")(h)
            message = aggregate(x[:, :, None], c[..., None], nodes)[:, :, 0]
            if nodes.edge is not None:
                told = segment_sum(c[..., None] * nodes.edge, nodes.receivers, nodes.document.shape[1])
                message = message + nn.Dense(self.width, use_bias=False, name=f"edge_{k}")(told)
            bias = self.param(f"bias_{k}", nn.initializers.zeros, (self.width,))
            h, own, made = _round(h, own, message + bias[None, None], self, k, nodes, train)
            out |= made
        return nodes.replace(features=zero_padding(h, nodes.document, nodes.slots)), out


class GAT(nn.Module):
    """Graph attention (Velickovic et al. 2018), K rounds, heads side by side:

        a_uv = softmax over u of (LeakyReLU_0.2(s . W h_u + t . W h_v) + log w_uv),   h_v' = sigma(sum_u a_uv W h_u + b)

    over the edges u -> v. The edge weight w scales the unnormalised attention, so that an edge of weight 0 is no edge; with
    ``edge_weight=False`` weights are not read and this is PyTorch Geometric's ``GATConv`` on the same edges (which
    adds self-loops by itself: here ``add_self_loops`` does). jraph's own GAT gives no access to a_uv, which dropout and
    figures need. Where edges have vectors f, LeakyReLU is of s . W h_u + t . W h_v + V f_uv, as in ``GATConv`` with ``edge_dim``.
    A round is as in ``GCN``. A node without edges gets sigma(b) and its residual. ``rounds=0`` is the identity.

    Attributes:
      width: output width, divisible by ``heads``.
      rounds: K >= 0.
      heads: heads of width / heads features each, concatenated.
      average_last: the last round's heads have ``width`` features each and are averaged.
      edge_weight: whether log w_uv is added; weights below 1e-6 count as 1e-6.
      residual, norm ("layer" | "batch" | "none"), activation (sigma), dropout, root: as in ``GCN``.
      attention_dropout: rate on a_uv.
    """

    width: int = 256
    rounds: int = 2
    heads: int = 4
    average_last: bool = False
    edge_weight: bool = True
    residual: bool = True
    norm: str = "layer"
    activation: str | Callable = "elu"
    dropout: int | float | Array = 0.0
    attention_dropout: int | float | Array = 0.0
    root: bool = False

    @nn.compact
    def __call__(self, nodes: NodeRows, *, train: bool) -> tuple[NodeRows, Out]:
        """``out`` has ``propagate/attention`` [r, e, heads] of the last round, before dropout; 0 at padding edges.

        Raises:
          ValueError: ``width`` is no multiple of ``heads``.
        """
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"GAT width must be a multiple of heads, got width {self.width} and heads {self.heads}")
        r, u = nodes.document.shape
        h = own = nodes.features
        out: Out = {}
        for k in range(self.rounds):
            average = self.average_last and k == self.rounds - 1
            size = self.width if average else self.width // self.heads
            x = nn.Dense(self.heads * size, use_bias=False, dot_general=dense_product, name=f"linear_{k}")(h).reshape(
                r, u, self.heads, size
            )
            s, t = (
                self.param(f"{end}_{k}", nn.initializers.glorot_uniform(), (self.heads, size)) for end in ("sender", "receiver")
            )
            sent, received = (jnp.einsum("ruhd,hd->ruh", x, a) for a in (s, t))
            logits = gather(sent, nodes.senders) + gather(received, nodes.receivers)
            if nodes.edge is not None:
                logits = logits + nn.Dense(self.heads, use_bias=False, name=f"edge_{k}")(nodes.edge)
            logits = nn.leaky_relu(logits, 0.2)
            if self.edge_weight:
                logits = logits + jnp.log(jnp.maximum(nodes.weight, 1e-6))[..., None]
            attention = segment_softmax(logits, nodes.receivers, u)
            out["propagate/attention"] = attention
            attention = drop(self, attention, self.attention_dropout, train)
            message = aggregate(x, attention, nodes)
            message = message.mean(2) if average else message.reshape(r, u, self.width)
            bias = self.param(f"bias_{k}", nn.initializers.zeros, (self.width,))
            h, own, made = _round(h, own, message + bias[None, None], self, k, nodes, train)
            out |= made
        return nodes.replace(features=zero_padding(h, nodes.document, nodes.slots)), out


def _convolve(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """jraph's graph convolution with the edges' coefficients; its own normalisation counts edges and knows no weights."""

    def weighted_sum(messages: Array, receivers: Array, n: int) -> Array:
        return jraph.segment_sum(messages * graph.edges[..., None], receivers, n)

    return jraph.GraphConvolution(lambda x: x, weighted_sum, symmetric_normalization=False)(graph)


def _round(
    h: Float[Array, "r u d"],
    own: Float[Array, "r u o"],
    message: Float[Array, "r u w"],
    layer: GCN | GAT,
    k: int,
    nodes: NodeRows,
    train: bool,
) -> tuple[Float[Array, "r u v"], Float[Array, "r u w"], Out]:
    """What round k makes of its messages: h, h without what the root added, statistics; called inside a compact method.

    ``own`` is h before the round, without what the root added.
    """
    out: Out = {}
    if layer.norm == "batch":
        message, out = BatchNorm(name=f"norm_{k}")(message, nodes.document < nodes.slots, train=train)
    update = drop(layer, activation(layer.activation)(message), layer.dropout, train)
    if layer.residual:
        same = h.shape[-1] == layer.width
        update = update + (
            h if same else nn.Dense(layer.width, use_bias=False, dot_general=dense_product, name=f"residual_{k}")(h)
        )
    update = update if layer.norm == "batch" else normalise(update, layer.norm)
    if not layer.root:
        return update, update, out
    source = gather(of_source(own, nodes), nodes.document)
    return jnp.concatenate([update, source], axis=-1), update, out


def _node_order(nodes: NodeRows) -> tuple[Array, Array]:
    """Graph of each of the r u nodes, and the nodes' order by graph."""
    r = nodes.document.shape[0]
    row = jnp.arange(r, dtype=jnp.int32)[:, None]
    graph = jnp.where(nodes.document < nodes.slots, row * nodes.slots + nodes.document, r * nodes.slots).reshape(-1)
    return graph, jnp.argsort(graph, stable=True)

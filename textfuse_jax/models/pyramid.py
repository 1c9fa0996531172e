"""Feature pyramid over encoder layers and text scales, and the nodes of the graph it yields."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from textfuse_jax.encoders.linear import dense_product
from textfuse_jax.models.layers import activation, drop, normalise, zero_padding
from textfuse_jax.segments import gather, lift, segment_mean, units_of
from textfuse_jax.types import SCALES, NodeRows, Out, TokenRows, parse_tap

Taps = dict[str, Array]
"""Encoder features by tap name: ``"06/phrase"`` -> float [r, u of that scale, d]."""


def resample(x: Float[Array, "r u d"], rows: TokenRows, source: str, target: str) -> Float[Array, "r v d"]:
    """Features of the units of scale ``source`` brought to the units of scale ``target``.

    Up, to a finer scale: each unit gets the features of the unit that holds it, 0 where none does ([CLS] has no phrase).
    Down, to a coarser scale: the mean of the units it holds, 0 where it holds none.
    """
    if SCALES.index(source) >= SCALES.index(target):
        return gather(x, lift(rows, target, source))
    return segment_mean(x, lift(rows, source, target), units_of(rows, target).document.shape[1])


def to_nodes(
    features: Sequence[Array], rows: TokenRows, scales: Sequence[str], saliency: Float[Array, "r t"] | None = None
) -> NodeRows:
    """Concatenates the units of several scales into the nodes of one graph without edges.

    Args:
      features: for each scale, float [r, u of the scale, d].
      rows: the rows the units belong to.
      scales: strictly from fine to coarse; level i of the result is ``scales[i]``.
      saliency: weight of each token in its document, >= 0; a node gets the mean over its tokens, so that nodes of
        different levels compare. None: zeros.

    Returns:
      Nodes whose parent is the containing unit at the next scale; padding nodes have zero features and saliency.
    """
    units = [units_of(rows, scale) for scale in scales]
    sizes = [unit.document.shape[1] for unit in units]
    total, parents, weights = sum(sizes), [], []
    for i, (scale, unit) in enumerate(zip(scales, units)):
        none = jnp.full_like(unit.document, total)
        if i + 1 < len(scales):
            held = lift(rows, scale, scales[i + 1])
            parents.append(jnp.where(held < sizes[i + 1], held + sum(sizes[: i + 1]), none))
        else:
            parents.append(none)
        if saliency is None:
            weights.append(jnp.zeros(unit.document.shape, jnp.float32))
        else:
            weights.append(resample(saliency[..., None].astype(jnp.float32), rows, "token", scale)[..., 0])
    r = rows.document.shape[0]
    return NodeRows(
        features=jnp.concatenate([zero_padding(x, v.document, rows.slots) for x, v in zip(features, units)], axis=1),
        document=jnp.concatenate([unit.document for unit in units], axis=1),
        level=jnp.concatenate([jnp.full((r, size), i, jnp.int32) for i, size in enumerate(sizes)], axis=1),
        parent=jnp.concatenate(parents, axis=1),
        saliency=jnp.concatenate(weights, axis=1),
        senders=jnp.zeros((r, 0), jnp.int32),
        receivers=jnp.zeros((r, 0), jnp.int32),
        weight=jnp.zeros((r, 0), jnp.float32),
        slots=rows.slots,
    )


class Pyramid(nn.Module):
    """Feature pyramid (arXiv 2511.05752): coarse, late layers inform fine, early ones.

        F_l = phi(norm(W_l H_l + Up(F_{l+1}))),   F_L = phi(norm(W_L H_L)),   F = Phi(F_1, ..., F_L)

    H_l is the tap ``levels[l]``; Up gives each unit the features of the unit that holds it. For each node scale every F_l
    is brought to that scale (``resample``), Phi combines them, and a projection brings them to ``width``.

    Attributes:
      levels: tap names from fine to coarse, e.g. ``("02/phrase", "04/sentence", "06/document")``; scales may repeat.
      nodes: scales whose units become graph nodes, strictly from fine to coarse.
      width: width of every F_l and of the nodes, >= 1.
      combine: Phi: ``"concat"``, ``"sum"``, or ``"attention"``: the sum weighted by a softmax over levels of the score
        v . tanh(U F_l), for each unit.
      activation: phi, a name of ``layers.ACTIVATIONS`` or a callable.
      dropout: rate on every F_l, in [0, 1).
      norm: ``"layer"`` or ``"none"``.
    """

    levels: tuple[str, ...]
    nodes: tuple[str, ...]
    width: int = 256
    combine: str = "concat"
    activation: str | Callable = "gelu"
    dropout: int | float | Array = 0.0
    norm: str = "layer"

    @nn.compact
    def __call__(
        self, taps: Taps, rows: TokenRows, *, saliency: Float[Array, "r t"] | None = None, train: bool
    ) -> tuple[NodeRows, Out]:
        """Nodes without edges; ``out`` has each ``pyramid/<tap>`` = F_l and, combined by attention, ``pyramid/attention``
        [r, u, L], the weight of each level at each node.

        Raises:
          ValueError: a bad field, or a tap that the encoder doesn't give.
        """
        _check_levels(self.levels)
        _check_nodes(self.nodes)
        if self.combine not in ("concat", "sum", "attention"):
            raise ValueError(f'pyramid combine must be "concat", "sum" or "attention", got {self.combine!r}')
        phi = activation(self.activation)
        scales = [parse_tap(tap)[1] for tap in self.levels]
        pyramid: list[Array] = []  # built from the coarsest level down, kept fine to coarse
        for i in reversed(range(len(scales))):
            f = nn.Dense(self.width, dot_general=dense_product, name=f"level_{i}")(_tap(taps, self.levels[i]))
            if pyramid:
                f = f + resample(pyramid[0], rows, scales[i + 1], scales[i])
            f = drop(self, phi(normalise(f, self.norm)), self.dropout, train)
            pyramid.insert(0, zero_padding(f, units_of(rows, scales[i]).document, rows.slots))
        out: Out = {f"pyramid/{tap}": f for tap, f in zip(self.levels, pyramid)}

        features, attention = [], []
        for scale in self.nodes:
            level = jnp.stack([resample(f, rows, source, scale) for f, source in zip(pyramid, scales)], axis=2)
            if self.combine == "concat":
                level = level.reshape(*level.shape[:2], -1)
            elif self.combine == "sum":
                level = level.sum(2)
            else:
                hidden = jnp.tanh(nn.Dense(self.width, name=f"attend_{scale}")(level))
                score = nn.softmax(nn.Dense(1, use_bias=False, name=f"score_{scale}")(hidden), axis=2)
                attention.append(score[..., 0])
                level = (score * level).sum(2)
            features.append(nn.Dense(self.width, dot_general=dense_product, name=f"project_{scale}")(level))
        if attention:
            out["pyramid/attention"] = jnp.concatenate(attention, axis=1)
        return to_nodes(features, rows, self.nodes, saliency), out


class Single(nn.Module):
    """No pyramid: one tap, brought to the node scales. The encoder-alone baseline and the pyramid's ablation.

    Attributes:
      tap: e.g. ``"06/phrase"``.
      nodes: scales whose units become graph nodes, strictly from fine to coarse.
      width: width of a linear projection; None: the tap's own features, no parameters.
    """

    tap: str
    nodes: tuple[str, ...]
    width: int | None = None

    @nn.compact
    def __call__(
        self, taps: Taps, rows: TokenRows, *, saliency: Float[Array, "r t"] | None = None, train: bool
    ) -> tuple[NodeRows, Out]:
        """Nodes without edges; ``out`` is empty. Raises ValueError for a bad field or a tap that isn't there."""
        _check_levels((self.tap,))
        _check_nodes(self.nodes)
        h = _tap(taps, self.tap)
        if self.width is not None:
            h = nn.Dense(self.width, dot_general=dense_product, name="project")(h)
            h = zero_padding(h, units_of(rows, parse_tap(self.tap)[1]).document, rows.slots)
        features = [resample(h, rows, parse_tap(self.tap)[1], scale) for scale in self.nodes]
        return to_nodes(features, rows, self.nodes, saliency), {}


def _tap(taps: Taps, name: str) -> Array:
    if name not in taps:
        raise ValueError(f"the pyramid reads the tap {name!r}, the encoder gives {sorted(taps)}; add it to the encoder's taps")
    return taps[name]


def _check_levels(levels: Sequence[str]) -> None:
    if not levels:
        raise ValueError('levels must name at least one tap, e.g. ("06/sentence",), got ()')
    depth = []
    for tap in levels:
        layer, slash, scale = str(tap).partition("/")
        if not (slash and layer.isdigit() and scale in SCALES):
            raise ValueError(f'level {tap!r} must be "<layer>/<scale>", e.g. "06/phrase", with a scale of {", ".join(SCALES)}')
        depth.append(SCALES.index(scale))
    if len(set(levels)) < len(levels):
        raise ValueError(f"levels must not name a tap twice, got {tuple(levels)}")
    if depth != sorted(depth):
        raise ValueError(f"levels must go from fine to coarse ({' <= '.join(SCALES)}), got {tuple(levels)}; reorder them")


def _check_nodes(nodes: Sequence[str]) -> None:
    unknown = [scale for scale in nodes if scale not in SCALES]
    if not nodes or unknown:
        raise ValueError(f"nodes must be scales of {', '.join(SCALES)}, got {tuple(nodes)}")
    depth = [SCALES.index(scale) for scale in nodes]
    if depth != sorted(set(depth)):
        raise ValueError(f"nodes must go strictly from fine to coarse, each scale once, got {tuple(nodes)}")

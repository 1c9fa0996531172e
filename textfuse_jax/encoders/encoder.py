"""The encoder slot: packed rows of tokens -> features of the chosen layers at the chosen scales."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.encoders.token_layers import TokenLayers
from textfuse_jax.encoders.transformer import Transformer
from textfuse_jax.segments import assignment, segment_mean, units_of
from textfuse_jax.types import SCALES, Out, TokenRows, parse_tap


def check_taps(taps: tuple[str, ...], layers: int) -> None:
    """Raises ValueError unless every tap is ``"LL/scale"`` with layer 0..``layers`` and a scale of ``types.SCALES``."""
    if not taps:
        raise ValueError('taps must name at least one layer and scale, e.g. ("06/phrase",), got none')
    for tap in taps:
        number, slash, scale = tap.partition("/")
        if not slash or not number.isdigit() or not 0 <= int(number) <= layers or scale not in SCALES:
            raise ValueError(f"tap must be 'LL/scale', LL in 00..{layers:02d}, scale in {', '.join(SCALES)}; got {tap!r}")


class Encoder(nn.Module):
    """Transformer layers, averaged over the tokens of each unit.

    A tap ``"06/phrase"`` is ``F_v = mean_{i in v} H_6[i]`` for each phrase v. Scale *document* averages all tokens of the
    document, [CLS] and [SEP] too, as sentence encoders such as MiniLM pool; *token* keeps the tokens where they are.
    Units without tokens and padding are 0. Layers above the highest tap are neither computed nor held.

    Attributes:
      architecture: shape of the checkpoint.
      taps: names made by ``types.tap_name``; layer 0 is the embedding output, L the last.
      frozen_layers: 0 tunes all; k >= 1 freezes the embeddings and the layers before layer k (the first is layer 1) and
        switches off dropout in them; L + 1 freezes all.
      dtype: operands of matrix products, float32 or bfloat16; features are float32 in either case.
      remat: recompute layers in the backward pass: less memory, a third more work.
      hidden_dropout, attention_dropout: rates in [0, 1), drawn from the rng stream "dropout".
      fused: "" for our attention; "cudnn" or "xla" for one fused kernel wherever attention has no dropout.
    """

    architecture: Architecture
    taps: tuple[str, ...]
    frozen_layers: int = 0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    fused: str = ""

    @nn.compact
    def __call__(self, rows: TokenRows, *, train: bool) -> tuple[dict[str, Float[Array, "r u d"]], Out]:
        """Features of each tap, and ``encoder/layer_LL`` (hidden states [r, t, d]), ``encoder/saliency`` [r, t] of a transformer.

        Raises:
          ValueError: a tap that the architecture or the batch doesn't have.
        """
        check_taps(self.taps, self.architecture.layers)
        layers = self._layers(max(parse_tap(tap)[0] for tap in self.taps))
        hidden, weights = layers(rows.tokens, rows.position, rows.document, rows.slots, train=train)
        taps = {tap: reduce_to_units(hidden[parse_tap(tap)[0]], rows, parse_tap(tap)[1]) for tap in self.taps}
        out: Out = {f"encoder/layer_{layer:02d}": h for layer, h in enumerate(hidden)}
        return taps, out if weights is None else out | {"encoder/saliency": weights}

    def _layers(self, needed: int) -> nn.Module:
        """The layers up to the highest that is needed."""
        if self.architecture.kinds:
            return TokenLayers(self.architecture, needed, self.hidden_dropout, name="token_layers")
        return Transformer(
            self.architecture,
            num_layers=needed,
            frozen_layers=self.frozen_layers,
            dtype=self.dtype,
            hidden_dropout=self.hidden_dropout,
            attention_dropout=self.attention_dropout,
            remat=self.remat,
            fused=self.fused,
            name="transformer",
        )


class CachedEncoder(nn.Module):
    """Features extracted beforehand, ``rows.features``, in place of an encoder; they carry no gradient.

    Attributes:
      taps: names of the features to return.
    """

    taps: tuple[str, ...]

    @nn.compact
    def __call__(self, rows: TokenRows, *, train: bool) -> tuple[dict[str, Float[Array, "r u d"]], Out]:
        """Raises ValueError if the batch lacks a tap."""
        missing = [tap for tap in self.taps if tap not in rows.features]
        if missing:
            held = ", ".join(sorted(rows.features)) or "none"
            raise ValueError(f"the batch has no cached features {missing[0]!r}, it has {held}; extract this tap too")
        return {tap: jax.lax.stop_gradient(rows.features[tap].astype(jnp.float32)) for tap in self.taps}, {}


def reduce_to_units(h: Float[Array, "r t d"], rows: TokenRows, scale: str) -> Float[Array, "r u d"]:
    """Mean of the tokens of each unit of ``scale``; 0 for padding."""
    if scale == "token":
        return jnp.where((rows.document < rows.slots)[..., None], h, 0)
    if scale not in ("document", *rows.units):
        raise ValueError(f"the batch has no units of scale {scale!r}, only {', '.join(rows.units) or 'none'}")
    return segment_mean(h, assignment(rows, scale), units_of(rows, scale).document.shape[1])

"""What text was classified with before pretraining: convolutions and LSTMs over token embeddings, on packed rows.

The papers' baselines. A layer never looks across the border of a document: a convolution sees zeros there, as at the ends of
a text, and an LSTM starts anew.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from textfuse_jax.dropout import dropout, row_keys
from textfuse_jax.encoders.architecture import Architecture


class Convolution(nn.Module):
    """1D convolutions of several widths side by side (Kim 2014):  h_t = relu(W_k [x_{t - k//2}, ..., x_{t + (k-1)//2}] + b).

    Attributes:
      width: channels in all, divided among the windows.
      windows: odd or even widths k in tokens.
    """

    width: int
    windows: tuple[int, ...] = (3, 4, 5)

    @nn.compact
    def __call__(self, x: Float[Array, "r t d"], document: Int[Array, "r t"]) -> Float[Array, "r t c"]:
        """States of ``width`` channels; padding holds what means nothing."""
        reach = max(self.windows) // 2
        padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
        owner = jnp.pad(document, ((0, 0), (reach, reach)), constant_values=-1)
        t = x.shape[1]
        shifted = {}
        for offset in range(-reach, reach + 1):
            here = slice(reach + offset, reach + offset + t)
            shifted[offset] = jnp.where((owner[:, here] == document)[..., None], padded[:, here], 0)
        sizes = [self.width // len(self.windows) + (i < self.width % len(self.windows)) for i in range(len(self.windows))]
        maps = []
        for k, size in zip(self.windows, sizes):
            seen = jnp.concatenate([shifted[offset] for offset in range(-(k // 2), (k - 1) // 2 + 1)], axis=-1)
            maps.append(nn.relu(nn.Dense(size, name=f"window_{k}")(seen)))
        return jnp.concatenate(maps, axis=-1)


class _Restarting(nn.Module):
    """A cell whose state is reset where a document begins."""

    width: int

    @nn.compact
    def __call__(self, carry, inputs: tuple[Float[Array, "r d"], Bool[Array, "r"]]):
        x, begins = inputs
        carry = jax.tree.map(lambda c: jnp.where(begins[:, None], 0, c), carry)  # an LSTM starts from zeros
        return nn.OptimizedLSTMCell(self.width, name="cell")(carry, x)


class LSTM(nn.Module):
    """Two LSTMs (Hochreiter and Schmidhuber 1997), one in reading order, one against it, their states joined.

    Attributes:
      width: of the joined states, even.
    """

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "r t d"], document: Int[Array, "r t"]) -> Float[Array, "r t c"]:
        """States of both directions; padding holds what means nothing."""
        if self.width % 2:
            raise ValueError(f"an LSTM of two directions needs an even width, got {self.width}")
        changes = document[:, 1:] != document[:, :-1]
        edge = jnp.ones((x.shape[0], 1), bool)
        begins = {"forward": jnp.concatenate([edge, changes], 1), "backward": jnp.concatenate([changes, edge], 1)}
        scanned = nn.scan(_Restarting, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
        states = []
        for direction, reset in begins.items():
            flip = (lambda a: a[:, ::-1]) if direction == "backward" else lambda a: a
            start = jnp.zeros((x.shape[0], self.width // 2))
            _, h = scanned(self.width // 2, name=direction)((start, start), (flip(x), flip(reset)))
            states.append(flip(h))
        return jnp.concatenate(states, axis=-1)


LAYERS = {"convolution": Convolution, "lstm": LSTM}
"""The layers of ``architecture.KINDS``."""


class TokenLayers(nn.Module):
    """Token embeddings and layers of ``architecture.kinds`` upon them: in the place of ``transformer.Transformer``.

    Attributes: as in ``Transformer``; all is trained in float32.
    """

    architecture: Architecture
    num_layers: int | None = None
    hidden_dropout: float = 0.0

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "r t"], position: Int[Array, "r t"], document: Int[Array, "r t"], slots: int, *, train: bool
    ) -> tuple[list[Float[Array, "r t d"]], None]:
        """The embeddings and the states after each layer, all of ``architecture.width``; there is no attention to tell
        saliency from."""
        a = self.architecture
        table = self.param("token", nn.initializers.normal(0.1), (a.vocabulary, a.width))
        hidden = [table[tokens]]
        for number, kind in enumerate(a.kinds[: self.num_layers], 1):
            x = hidden[-1]
            if train and self.hidden_dropout:
                x = dropout(x, self.hidden_dropout, row_keys(self.make_rng("dropout"), x.shape[0]))
            hidden.append(LAYERS[kind](a.width, name=f"layer_{number:02d}")(x, document))
        return hidden, None

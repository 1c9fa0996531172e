"""One transformer for the BERT family: BERT and MiniLM, RoBERTa and XLM-R, DistilBERT, on packed rows."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from textfuse_jax.dropout import dropout, row_keys
from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.encoders.attention import attention, fused_attention, saliency
from textfuse_jax.encoders.linear import Linear


def gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """``x Phi(x)`` (Hendrycks and Gimpel 2016) by erf.

    ``jax.nn.gelu`` takes erfc, which keeps all digits of tiny values far in the left tail. Beside the others of a sum they
    are lost anyway, and on CPUs erfc costs a tenth of the whole forward pass.
    """
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


class Embeddings(nn.Module):
    """``H_0 = LayerNorm(token + position + type_0)`` (Devlin et al. 2019, fig. 2), then dropout.

    Attributes: as in ``Transformer``.
    """

    architecture: Architecture
    hidden_dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens: Int[Array, "r t"], position: Int[Array, "r t"], *, train: bool) -> Float[Array, "r t d"]:
        a = self.architecture
        table = functools.partial(self.param, init_fn=nn.initializers.normal(0.02))
        h = table("token", shape=(a.vocabulary, a.width))[tokens]
        h += table("position", shape=(a.positions, a.width))[position + a.position_offset]
        if a.token_types:
            h += table("token_type", shape=(a.token_types, a.width))[0][None, None]
        return _drop(self, _norm(a, "norm")(h), self.hidden_dropout, train)


class Layer(nn.Module):
    """Post-LayerNorm transformer layer: ``a = LN(h + Att(h))``, ``H = LN(a + W_2 act(W_1 a))``.

    Attributes: as in ``Transformer``.
    """

    architecture: Architecture
    dtype: jnp.dtype = jnp.float32
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    fused: str = ""

    @nn.compact
    def __call__(
        self, h: Float[Array, "r t d"], position: Int[Array, "r t"], document: Int[Array, "r t"], slots: int, train: bool
    ) -> tuple[Float[Array, "r t d"], Float[Array, "r t"]]:
        """Returns the layer's output and its ``saliency``."""
        a, (r, t, d) = self.architecture, h.shape
        qkv = Linear(3 * d, self.dtype, name="qkv")(h).astype(self.dtype)  # rounded here, half as much is transposed and kept
        q, k, v = (x.reshape(r, t, a.heads, d // a.heads).transpose(0, 2, 1, 3) for x in jnp.split(qkv, 3, axis=-1))
        rate = self.attention_dropout if train else 0.0
        if self.fused and not rate:
            mixed = fused_attention(q, k, v, document, dtype=self.dtype, implementation=self.fused)
        else:
            keys = row_keys(self.make_rng("dropout"), r) if rate else None
            mixed = attention(q, k, v, document, keys, rate=rate, dtype=self.dtype)
        mixed = Linear(d, self.dtype, name="attention_out")(mixed.transpose(0, 2, 1, 3).reshape(r, t, d))
        h = _norm(a, "attention_norm")(h + _drop(self, mixed, self.hidden_dropout, train))
        inner = ACTIVATIONS[a.activation](Linear(a.feed_forward, self.dtype, name="up")(h))
        outer = Linear(d, self.dtype, name="down")(inner)
        h = _norm(a, "output_norm")(h + _drop(self, outer, self.hidden_dropout, train))
        return h, saliency(q, k, position, document, slots)


class Transformer(nn.Module):
    """All hidden states of a packed row of tokens.

    Attributes:
      architecture: shape of the checkpoint.
      num_layers: layers computed, and held as parameters; None for all of them.
      frozen_layers: 0 tunes all; k >= 1 stops gradients at the embeddings and at the layers before layer k (the first is
        layer 1), and switches off their dropout; L + 1 freezes all.
      dtype: operands of matrix products, float32 or bfloat16; sums, norms and softmax are float32.
      hidden_dropout, attention_dropout: rates in [0, 1) of the rng stream "dropout", used when ``train``.
      remat: recompute each layer in the backward pass instead of keeping its intermediates.
      fused: "" for our attention; "cudnn" or "xla" for ``fused_attention`` wherever attention has no dropout.
    """

    architecture: Architecture
    num_layers: int | None = None
    frozen_layers: int = 0
    dtype: jnp.dtype = jnp.float32
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    remat: bool = False
    fused: str = ""

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "r t"],
        position: Int[Array, "r t"],
        document: Int[Array, "r t"],
        slots: int,
        *,
        train: bool,
    ) -> tuple[list[Float[Array, "r t d"]], Float[Array, "r t"]]:
        """Hidden states H_0 (embeddings) .. H_n of every token, and the saliency of the last layer.

        A token sees the tokens of its own document only. States at padding are finite and mean nothing.
        """
        a = self.architecture
        n = a.layers if self.num_layers is None else self.num_layers
        if not 0 <= n <= a.layers:
            raise ValueError(f"num_layers must lie in [0, {a.layers}], got {n}")
        if not 0 <= self.frozen_layers <= a.layers + 1:
            raise ValueError(f"frozen_layers must lie in [0, {a.layers + 1}], got {self.frozen_layers}")
        layer_class = nn.remat(Layer, static_argnums=(4, 5)) if self.remat else Layer
        embeddings = Embeddings(a, self.hidden_dropout, name="embeddings")
        hidden = [self._stop(0, embeddings(tokens, position, train=train and not self.frozen_layers))]
        weights = jnp.zeros(tokens.shape, jnp.float32)
        for number in range(1, n + 1):
            layer = layer_class(
                a, self.dtype, self.hidden_dropout, self.attention_dropout, self.fused, name=f"layer_{number:02d}"
            )
            h, weights = layer(hidden[-1], position, document, slots, train and number >= self.frozen_layers)
            hidden.append(self._stop(number, h))
        return hidden, weights

    def _stop(self, layer: int, h: Array) -> Array:
        return jax.lax.stop_gradient(h) if layer < self.frozen_layers else h


def _norm(architecture: Architecture, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=architecture.norm_epsilon, use_fast_variance=False, name=name)


def _drop(module: nn.Module, x: Array, rate: float, train: bool) -> Array:
    return dropout(x, rate, row_keys(module.make_rng("dropout"), x.shape[0])) if train and rate else x

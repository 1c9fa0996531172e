"""Attention inside each document of a packed row, and how much each document's first token attends to the others."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from textfuse_jax.dropout import dropout
from textfuse_jax.encoders.linear import settled


def attention(
    q: Float[Array, "r h t k"],
    k: Float[Array, "r h t k"],
    v: Float[Array, "r h t k"],
    document: Int[Array, "r t"],
    keys: UInt32[Array, "r 2"] | None = None,
    *,
    rate: float = 0.0,
    dtype=jnp.float32,
) -> Float[Array, "r h t k"]:
    """``softmax(q k^T / sqrt(k)) v`` over the tokens of the same document (Vaswani et al. 2017, eq. 1).

    Tokens of other documents get weight exactly 0. Padding tokens all carry the slot one past the end, so they attend
    among themselves: finite, and read by nobody. Softmax is float32; the products take ``dtype`` operands and
    accumulate in float32.

    Args:
      keys: random words of the rows, from ``dropout.row_keys``; needed when ``rate > 0``.
      rate: dropout of attention weights, in [0, 1).
    """
    if rate and keys is None:
        raise ValueError(f"attention with dropout rate {rate} needs keys, got None")
    return _attention(q, k, v, document, keys if rate else None, rate, jnp.dtype(dtype))


def fused_attention(
    q: Float[Array, "r h t k"],
    k: Float[Array, "r h t k"],
    v: Float[Array, "r h t k"],
    document: Int[Array, "r t"],
    *,
    dtype=jnp.bfloat16,
    implementation: str = "cudnn",
) -> Float[Array, "r h t k"]:
    """``attention`` without dropout by one fused kernel: cuDNN's flash attention on NVIDIA GPUs, which never holds [t, t].

    Args:
      dtype: bfloat16 for cuDNN.
      implementation: "cudnn", or "xla" for the same call on any backend.

    Raises:
      ValueError, RuntimeError: from JAX, where the backend has no such kernel (no NVIDIA GPU, float32 operands, a width of a
        head that is no multiple of 8).
    """
    q, k, v = (x.astype(dtype).transpose(0, 2, 1, 3) for x in (q, k, v))
    same = (document[:, :, None] == document[:, None, :])[:, None]
    return jax.nn.dot_product_attention(q, k, v, mask=same, implementation=implementation).transpose(0, 2, 1, 3)


def saliency(
    q: Float[Array, "r h t k"],
    k: Float[Array, "r h t k"],
    position: Int[Array, "r t"],
    document: Int[Array, "r t"],
    slots: int,
) -> Float[Array, "r t"]:
    """Attention of each document's first token (position 0) to each token of its document, mean over heads.

    Sums to 1 over a document; 0 at padding. Costs ``s / t`` of the attention of a layer.
    """
    q, k = q.astype(jnp.float32), k.astype(jnp.float32)
    slot = jnp.arange(slots, dtype=jnp.int32)[None, :, None]
    inside = document[:, None, :] == slot
    first = (inside & (position == 0)[:, None, :]).astype(q.dtype)
    q_first = jnp.einsum("rst,rhtk->rhsk", first, q)
    logits = jnp.einsum("rhsk,rhtk->rhst", q_first, k) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(inside[:, None], logits, jnp.finfo(logits.dtype).min), axis=-1)
    return jnp.where(inside, weights.mean(1), 0).sum(1)


def _dot(a, b, contract, dtype):
    """A product of each head's matrices that sums over one axis of each; see ``linear.contract_rows`` for the barriers.

    Without them the transposes that split and join heads fold into it, XLA for CPUs has no bfloat16 kernel for what comes out,
    and computes in float32: a training step of MiniLM then takes a fifth more time.
    """
    numbers = (((contract[0],), (contract[1],)), ((0, 1), (0, 1)))

    def product(a, b):
        return jax.lax.dot_general(a, b, numbers, preferred_element_type=jnp.float32)

    def on_cpu(a, b):
        return jax.lax.optimization_barrier(product(settled(a), settled(b)))

    a, b = a.astype(dtype), b.astype(dtype)
    return product(a, b) if dtype == jnp.float32 else jax.lax.platform_dependent(a, b, cpu=on_cpu, default=product)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attention(q, k, v, document, keys, rate, dtype):
    return _forward(q, k, v, document, keys, rate, dtype)[0]


def _forward(q, k, v, document, keys, rate, dtype):
    same = (document[:, :, None] == document[:, None, :])[:, None]
    logits = _dot(q, k, (3, 3), dtype) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(same, logits, jnp.finfo(logits.dtype).min), axis=-1)
    o = _dot(dropout(weights, rate, keys), v, (3, 2), dtype)
    return o, (q, k, v, o, weights.astype(dtype), keys)


def _backward(rate, dtype, residuals, do):
    """Derivative of the softmax through ``sum_j w_j dw_j = do . o``, which saves a pass over [t, t]."""
    q, k, v, o, weights, keys = residuals
    dv = _dot(dropout(weights, rate, keys).swapaxes(2, 3), do, (3, 2), dtype)
    dweights = dropout(_dot(do, v, (3, 3), dtype), rate, keys)
    dlogits = weights * (dweights - (do * o).sum(-1, keepdims=True)) * q.shape[-1] ** -0.5
    dq, dk = _dot(dlogits, k, (3, 2), dtype), _dot(dlogits.swapaxes(2, 3), q, (3, 2), dtype)
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None, None


_attention.defvjp(_forward, _backward)

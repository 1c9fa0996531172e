"""What encoding costs: operations of a forward pass, the machine's own speed at them, the time of each part, growth."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib import ticker

from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.encoders.attention import attention, saliency
from textfuse_jax.encoders.linear import matmul
from textfuse_jax.encoders.transformer import ACTIVATIONS, Embeddings
from textfuse_jax.evaluation.figures import BLUE, ORANGE, new_figure
from textfuse_jax.types import TokenRows


def product_shapes(a: Architecture, tokens: int = 2048) -> list[tuple[int, int, int]]:
    """(n, k, m) of one layer's products [n, k] x [k, m] with weights."""
    d, f = a.width, a.feed_forward
    return [(tokens, d, 3 * d), (tokens, d, d), (tokens, d, f), (tokens, f, d)]


def forward_flop(a: Architecture, lengths: Int[np.ndarray, "n"]) -> float:
    """Operations of the matrix products of all layers, for sequences of these lengths that each attend to all of themselves.

    Two for each multiply-add: ``2 t (4 d^2 + 2 d f)`` a layer and sequence of t tokens, and ``4 t^2 d`` for attention.
    """
    t = np.asarray(lengths, np.float64)
    return a.layers * float((2 * t * (4 * a.width**2 + 2 * a.width * a.feed_forward) + 4 * t**2 * a.width).sum())


def seconds(f: Callable[..., Any], *arguments: Any, repeats: int = 9, of: Callable = statistics.median) -> float:
    """Time of a compiled function after a call that compiles it: the median, or what ``of`` makes of all times."""
    jax.block_until_ready(f(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(f(*arguments))
        times.append(time.perf_counter() - start)
    return of(times)


def product_rates(a: Architecture, dtype: str, large: int = 2048) -> tuple[float, float]:
    """GFLOP/s of one layer's products one after the other, and of a product of two ``large`` x ``large`` matrices.

    Operands are ``dtype``, sums and results float32.
    """
    dot = jax.jit(lambda x, w: jnp.dot(x, w, preferred_element_type=jnp.float32))

    def rate(shapes: Sequence[tuple[int, int, int]]) -> float:
        operands = [(jnp.ones((n, k), dtype), jnp.ones((k, m), dtype)) for n, k, m in shapes]
        return sum(2e-9 * n * k * m for n, k, m in shapes) / sum(seconds(dot, x, w) for x, w in operands)

    return rate(product_shapes(a)), rate([(large, large, large)])


def parts_of_forward(a: Architecture, params: Mapping[str, Any], rows: TokenRows, dtype: str) -> list[tuple[str, int, float]]:
    """Name, number of times in a forward pass, and seconds of each part, every part compiled alone.

    Inside one program XLA fuses neighbours, so the parts add up to somewhat more than the whole.
    """
    best = functools.partial(seconds, repeats=25, of=min)  # a busy moment of the machine is no part's own
    layer, (r, t), d = params["layer_01"], rows.tokens.shape, a.width
    h = Embeddings(a).apply({"params": params["embeddings"]}, rows.tokens, rows.position, train=False)

    def linear(name: str) -> Callable[[Array], Array]:
        kernel, bias = layer[name]["kernel"], layer[name]["bias"][None, None]
        return jax.jit(lambda x, kernel=kernel, bias=bias: matmul(x, kernel, jnp.dtype(dtype)) + bias)

    def heads(qkv: Float[Array, "r t f"]) -> Float[Array, "3 r h t k"]:
        return qkv.astype(dtype).reshape(r, t, 3, a.heads, d // a.heads).transpose(2, 0, 3, 1, 4)

    norm = nn.LayerNorm(epsilon=a.norm_epsilon, use_fast_variance=False)
    add_norm = jax.jit(lambda x, y: norm.apply({"params": layer["output_norm"]}, x + y))
    embed = jax.jit(lambda p, tokens, position: Embeddings(a).apply({"params": p}, tokens, position, train=False))
    mix = jax.jit(lambda q, k, v: attention(q, k, v, rows.document, dtype=jnp.dtype(dtype)))
    weigh = jax.jit(lambda q, k: saliency(q, k, rows.position, rows.document, rows.slots))
    qkv, split = linear("qkv")(h), jax.jit(heads)
    q, k, v = split(qkv)
    mixed, inner = h.astype(dtype), linear("up")(h)
    n = a.layers
    return [
        ("embeddings and norm", 1, best(embed, params["embeddings"], rows.tokens, rows.position)),
        ("query, key, value product", n, best(linear("qkv"), h)),
        ("split into heads", n, best(split, qkv)),
        ("attention", n, best(mix, q, k, v)),
        ("output product", n, best(linear("attention_out"), mixed)),
        ("residual and norm", 2 * n, best(add_norm, h, h)),
        ("up product", n, best(linear("up"), h)),
        (a.activation, n, best(jax.jit(ACTIVATIONS[a.activation]), inner)),
        ("down product", n, best(linear("down"), inner)),
        ("saliency of the last layer, if read", 0, best(weigh, q, k)),
    ]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Exponent of ``y ~ x ** slope``: the least-squares line through the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def growth_figure(panels: Sequence[tuple[str, str, Sequence[int], Mapping[str, Sequence[float]]]]):
    """Log-log time: for each panel its label below, its label at the side, x, and contender -> y."""
    figure = new_figure(8.4, 3.6)
    for ax, (below, side, x, times) in zip(figure.subplots(1, len(panels)), panels):
        for (name, y), (colour, style) in zip(times.items(), ((BLUE, "o-"), (ORANGE, "s--"))):
            ax.plot(x, y, style, color=colour, label=f"{name}, slope {slope(x, y):.2f}")
        ax.set(xscale="log", yscale="log", xlabel=below, ylabel=side)
        ax.set_xticks(x, [str(value) for value in x])
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(ticker.ScalarFormatter())
        ax.minorticks_off()
        ax.grid(True, color="#E6E6E6", linewidth=0.8)
        ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure

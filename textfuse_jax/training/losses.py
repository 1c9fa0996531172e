"""Losses over document slots. Each returns the loss of every slot, f32 [r, s]; weighting and summing is the step's."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from textfuse_jax.dropout import is_number

Loss = Callable[[Float[Array, "r s c"], Array], Float[Array, "r s"]]
"""``(logits, labels) -> loss of each slot``; labels int [r, s], or multi-hot float [r, s, c]."""


def cross_entropy(
    logits: Float[Array, "r s c"],
    labels: Int[Array, "r s"],
    class_weights: Float[Array, "c"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Array, "r s"]:
    """Softmax cross-entropy, ``-w_y sum_c q_c log p_c`` with ``q = (1 - eps) onehot(y) + eps / c``.

    Args:
      logits: one score a class.
      labels: class of each slot; empty slots hold any legal class.
      class_weights: ``w``; None for 1.
      label_smoothing: ``eps`` in [0, 1).
    """
    classes = logits.shape[-1]
    targets = optax.smooth_labels(jax.nn.one_hot(labels, classes), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets) * _weight_of(labels, class_weights)


def focal(
    logits: Float[Array, "r s c"],
    labels: Int[Array, "r s"],
    class_weights: Float[Array, "c"] | None = None,
    gamma: float = 2.0,
) -> Float[Array, "r s"]:
    """Focal loss ``-w_y (1 - p_y)^gamma log p_y`` (Lin et al. 2017, eq. 5); ``gamma = 0`` is cross-entropy."""
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
    # 1 - p by expm1: exact for p near 1, where the gradient of (1 - exp(log p))^gamma would lose all digits.
    return -((-jnp.expm1(jnp.minimum(log_p, -1e-7))) ** gamma) * log_p * _weight_of(labels, class_weights)


def binary(
    logits: Float[Array, "r s c"], labels: Float[Array, "r s c"], class_weights: Float[Array, "c"] | None = None
) -> Float[Array, "r s"]:
    """Mean over labels of the sigmoid cross-entropy; ``class_weights`` weighs the positive term of each label."""
    weight = jnp.ones(logits.shape[-1]) if class_weights is None else class_weights
    weight = 1 + labels * (weight[None, None] - 1)
    return (weight * optax.sigmoid_binary_cross_entropy(logits, labels)).mean(-1)


def disagreement(one: Float[Array, "r s c"], other: Float[Array, "r s c"], multi_label: bool = False) -> Float[Array, "r s"]:
    """``(KL(p || q) + KL(q || p)) / 2`` of two predictions for the same documents (R-Drop, Liang et al. 2021, eq. 2).

    Args:
      one, other: logits of two forward passes with dropout masks of their own.
      multi_label: the mean over labels of the divergence of each label's yes and no.
    """
    if multi_label:
        p, q = jax.nn.sigmoid(one), jax.nn.sigmoid(other)
        return 0.5 * ((p - q) * (one - other)).mean(-1)  # sum over yes and no of (p - q)(log p - log q)
    p, q = jax.nn.log_softmax(one), jax.nn.log_softmax(other)
    return 0.5 * ((jnp.exp(p) - jnp.exp(q)) * (p - q)).sum(-1)


def _weight_of(labels: Int[Array, "r s"], class_weights: Float[Array, "c"] | None) -> Float[Array, "r s"] | float:
    return 1.0 if class_weights is None else class_weights[labels]


def class_weights(kind: str | tuple[float, ...], labels: np.ndarray, classes: int) -> np.ndarray | None:
    """The weight of each class, f32 [c]; None for ``"none"``.

    ``"balanced"``: ``n / (c n_c)``, mean 1 over the training documents; for multi-label ``negatives / positives`` of each
    label. A tuple is taken as given.

    Raises:
      ValueError: a tuple whose length isn't the number of classes, or a weight that isn't positive.
    """
    if kind == "none":
        return None
    if kind == "balanced":
        if labels.ndim == 2:
            positives = np.maximum(labels.sum(0), 1)
            return (np.maximum(len(labels) - positives, 1) / positives).astype(np.float32)
        return (len(labels) / (classes * np.maximum(np.bincount(labels, minlength=classes), 1))).astype(np.float32)
    weights = np.asarray(kind, np.float32)
    if weights.shape != (classes,) or not (weights > 0).all():
        raise ValueError(f"config.loss.class_weight_values must be {classes} positive numbers, one a class, got {kind!r}")
    return weights


def log_prior(labels: Int[np.ndarray, "n"], classes: int) -> Float[Array, "1 1 c"]:
    """Log of the share of each class among the training documents (at least half a document)."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 0.5)
    return jnp.asarray(np.log(counts / counts.sum()), jnp.float32)[None, None]


def class_shares(config, labels: np.ndarray, classes: int) -> tuple[Array | None, Array | None]:
    """What a loss knows of the training labels: weights and log shares of the classes, None where it doesn't read them."""
    weights = class_weights(config.class_weight_values or config.class_weights, labels, classes)
    weights = None if weights is None else jnp.asarray(weights)  # a NumPy array can't be indexed by traced labels
    return weights, None if labels.ndim == 2 else log_prior(labels, classes)


def make_loss(config, labels: np.ndarray, classes: int, shares: tuple[Array | None, Array | None] | None = None) -> Loss:
    """The loss that ``config.loss`` names, with class weights from the training labels.

    Args:
      config: ``config.loss``.
      labels: of the training documents.
      classes: their number.
      shares: ``class_shares`` of other documents in their place; may be traced.

    Raises:
      ValueError: a single-label loss for multi-label data or the reverse.
    """
    multi_label = labels.ndim == 2
    if multi_label != (config.name == "binary"):
        kind = "several labels a document" if multi_label else "one label a document"
        raise ValueError(
            f"config.loss.name is {config.name!r} but the data has {kind}; use {'binary' if multi_label else 'cross_entropy'!r}"
        )
    weights, prior = shares or class_shares(config, labels, classes)
    if config.name == "binary":
        return lambda logits, y: binary(logits, y, weights)
    if config.name == "focal":
        return lambda logits, y: focal(logits, y, weights, config.focal_gamma)
    adjusted = not is_number(config.logit_adjustment) or config.logit_adjustment > 0
    adjust = (lambda logits: logits + config.logit_adjustment * prior) if adjusted else lambda logits: logits
    return lambda logits, y: cross_entropy(adjust(logits), y, weights, config.label_smoothing)

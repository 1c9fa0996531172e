"""The pure step: ``(state, batch, key) -> (state, metrics)``. jit compiles it, a mesh spreads it, vmap runs many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Int

from textfuse_jax.dropout import is_number
from textfuse_jax.models.batch_norm import is_running
from textfuse_jax.training.losses import Loss, disagreement
from textfuse_jax.types import OPINIONS, TokenRows

NEVER = 2**31 - 1
STATISTICS = "statistics/"
Metrics = dict[str, Array]
"""Sums and counts over the documents of the steps since the last log, never means."""


@struct.dataclass
class TrainState:
    """All that a step reads and writes; what a checkpoint holds.

    Attributes:
      step: steps taken.
      params: parameters that are trained, flat: ``"encoder/..."`` -> array.
      frozen: parameters that are not; constants of the run.
      opt_state: of optax.
      average: exponential average of ``params`` that is evaluated in their place; empty when switched off.
      statistics: parameters that no gradient moves but every step does, by what the model puts out as ``statistics/<name>``:
        the running means of batch norm; empty for models without.
      sums: metrics summed since the last log.
    """

    step: Int[Array, ""]
    params: dict[str, Array]
    frozen: dict[str, Array]
    opt_state: Any
    average: dict[str, Array]
    statistics: dict[str, Array]
    sums: Metrics


def flatten(params: dict) -> dict[str, Array]:
    """Nested Flax parameters -> one level, names joined by "/"."""
    return flatten_dict(params, sep="/")


def unflatten(params: dict[str, Array]) -> dict:
    """Inverse of ``flatten``."""
    return unflatten_dict(params, sep="/")


def zero_sums() -> Metrics:
    """The metrics of no documents."""
    names = ("loss", "correct", "weight", "documents", "tokens", "steps", "grad_norm")
    # An array each: the state is donated, and one buffer can't be donated twice.
    return {name: jnp.zeros((), jnp.float32) for name in names} | {"bad_step": jnp.asarray(NEVER, jnp.int32)}


def learned(state: TrainState) -> dict[str, Array]:
    """What a training has learned and predictions are made with: the average of the parameters where there is one, and the
    running statistics. The frozen ones join them."""
    return (state.average or state.params) | state.statistics


def make_step(
    apply: Callable,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    accumulate: int = 1,
    average_decay: float = 0.0,
    consistency: float = 0.0,
    axis: str | None = None,
) -> Callable[[TrainState, TokenRows, Array], tuple[TrainState, Metrics]]:
    """The training step of a model.

    The loss of a batch is ``sum_i w_i l_i / sum_i w_i`` over its documents, whatever rows, devices or slices they lie in. Where a
    model's logits are the mean of those of its parts (``types.OPINIONS``), l_i is the sum of the parts' losses.

    Args:
      apply: ``(params, rows, dropout_key) -> (logits [r, s, c], out)`` in training mode; running statistics, where the model
        has any, are in ``out`` as ``statistics/<flat name>``. Of slices their mean is taken, of two passes the first's.
      loss: the loss of each slot.
      optimizer: optax transformation over the trained parameters.
      accumulate: the rows are processed in so many slices, one after another; must divide the rows of every batch.
      consistency: weight of the disagreement of two passes with different dropout masks (R-Drop); the loss is then the mean of
        the two passes' losses plus this times ``losses.disagreement``, at twice the work; 0 = one pass.
      axis: the mapped axis over which the rows are divided, where the step is mapped by ``jax.pmap``; None: the rows are all.
      average_decay: d in ``average = d * average + (1 - d) * params``, d rising from 0 over the first steps; 0 = off.

    Returns:
      A pure function; the key it takes is the run's, the step's own is folded from it.
    """

    def of_parts(logits, out, label):
        return sum(loss(one, label) for one in out.get(OPINIONS, (logits,)))

    def loss_of(params, frozen, rows: TokenRows, key):
        logits, out = apply(unflatten(params | frozen), rows, key)
        moved = {name.removeprefix(STATISTICS): value for name, value in out.items() if name.startswith(STATISTICS)}
        losses = of_parts(logits, out, rows.label)
        if not is_number(consistency) or consistency:
            again, beside = apply(unflatten(params | frozen), rows, jax.random.fold_in(key, 1))
            apart = disagreement(logits, again, multi_label=rows.label.ndim == 3)
            losses = (losses + of_parts(again, beside, rows.label)) / 2 + consistency * apart
        right = (logits > 0) == (rows.label > 0.5) if rows.label.ndim == 3 else logits.argmax(-1) == rows.label
        right = right.all(-1) if right.ndim == 3 else right
        sums = {
            "loss": (losses * rows.weight).sum(),
            "correct": (right * rows.weight).sum(),
            "weight": rows.weight.sum(),
            "documents": (rows.example >= 0).sum().astype(jnp.float32),
            "tokens": (rows.document < rows.slots).sum().astype(jnp.float32),
        }
        return sums["loss"], (sums, moved)

    gradient = jax.grad(loss_of, has_aux=True)

    def accumulated(params, frozen, rows: TokenRows, key):
        if accumulate == 1:
            return gradient(params, frozen, rows, key)
        # Row i goes to slice i % accumulate, so that every device keeps working on its own rows.
        slices = jax.tree.map(lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), rows)
        keys = jax.random.split(key, accumulate)
        zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient, params, frozen, jax.tree.map(lambda x: x[0], slices), key))

        def add(total, part):
            return jax.tree.map(jnp.add, total, gradient(params, frozen, *part)), None

        return jax.lax.scan(add, zero, (slices, keys))[0]

    def step(state: TrainState, batch: TokenRows, key: Array) -> tuple[TrainState, Metrics]:
        fixed = state.frozen | state.statistics
        gradients, (sums, moved) = accumulated(state.params, fixed, batch, jax.random.fold_in(key, state.step))
        statistics = state.statistics | jax.tree.map(lambda x: x / accumulate, moved)
        if axis:
            gradients, sums = jax.lax.psum((gradients, sums), axis)
        gradients = jax.tree.map(lambda g: g / jnp.maximum(sums["weight"], 1e-8), gradients)
        norm = optax.tree.norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average:
            d = jnp.minimum(average_decay, (1 + state.step) / (10 + state.step))
            average = jax.tree.map(lambda a, p: d * a + (1 - d) * p, average, params)
        finite = jnp.isfinite(sums["loss"]) & jnp.isfinite(norm)
        sums |= {"steps": jnp.float32(1), "grad_norm": norm, "bad_step": jnp.where(finite, NEVER, state.step)}
        total = {k: jnp.minimum(v, sums[k]) if k == "bad_step" else v + sums[k] for k, v in state.sums.items()}
        return TrainState(state.step + 1, params, state.frozen, opt_state, average, statistics, total), total

    return step


def init_state(
    params: dict[str, Array], frozen_names: Callable[[str], bool], make_optimizer: Callable, average: bool
) -> tuple[TrainState, optax.GradientTransformation]:
    """The state before the first step; parameters whose flat name ``frozen_names`` holds for are not trained."""
    statistics = {k: v for k, v in params.items() if is_running(k)}
    trained = {k: v for k, v in params.items() if not frozen_names(k) and k not in statistics}
    frozen = {k: v for k, v in params.items() if frozen_names(k) and k not in statistics}
    optimizer = make_optimizer(trained)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=trained,
        frozen=frozen,
        opt_state=optimizer.init(trained),
        average=jax.tree.map(jnp.copy, trained) if average else {},
        statistics=statistics,
        sums=zero_sums(),
    )
    return state, optimizer

"""A stage before the ordinary training: the encoder learns which texts belong together, from texts alone or from few labels.

``training.pretrain = "contrastive"``. Two passes of one batch with dropout masks of their own give two views of each document,
the mean of the last layer that the model reads. Without labels (SimCSE, Gao et al. 2021, eq. 4) a document is drawn to its other
view and pushed from the other documents of its batch; with labels (Khosla et al. 2020, eq. 2; what SetFit does by pairs) to all
views of its class. The step is that of the ordinary training, with this loss in place of the classifier's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from textfuse_jax.config import data_seed
from textfuse_jax.config_checks import ConfigError
from textfuse_jax.data.pipeline import train_batches
from textfuse_jax.data.tokenize import Encoded
from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.encoders.encoder import Encoder
from textfuse_jax.encoders.linear import product_dtype
from textfuse_jax.training import checkpoints
from textfuse_jax.training.compilation import Compiled
from textfuse_jax.training.losses import Loss
from textfuse_jax.training.optimizer import depth_of, make_optimizer
from textfuse_jax.training.parallel import any_process, make_engine, replicate
from textfuse_jax.training.progress import Interrupted, NotFinite, StopSignals
from textfuse_jax.training.step import NEVER, flatten, init_state, make_step, unflatten, zero_sums


def contrast(temperature: float, supervised: bool) -> Loss:
    """The loss of two views of each document, ``(views [r, s, 2 d], labels [r, s]) -> loss of each slot``.

    Unsupervised, with cosines s:  l_i = -log( exp(s(h_i, h'_i) / t) / sum_j exp(s(h_i, h'_j) / t) ).
    Supervised, over both views a of i, with P(a) the other views of the same class, i's own second view among them:
    l_i = mean_a mean_{p in P(a)} -log( exp(s(h_a, h_p) / t) / sum_{b != a} exp(s(h_a, h_b) / t) ).

    All rows of a batch are each other's negatives. A slot whose views are zero is empty: it is nobody's negative.

    Args:
      temperature: t > 0.
      supervised: whether labels count.
    """

    def loss(views: Float[Array, "r s c"], labels: Int[Array, "r s"]) -> Float[Array, "r s"]:
        r, s, width = views.shape
        one, other = (_unit(part.reshape(r * s, width // 2)) for part in jnp.split(views, 2, axis=-1))
        there = (one != 0).any(-1)
        if not supervised:
            score = jnp.where(there[None], one @ other.T / temperature, -jnp.inf)
            score = jnp.where(there[:, None], score, 0.0)  # an empty slot's own row: any finite number
            return _of(-jnp.diagonal(jax.nn.log_softmax(score)), there, r, s)
        both, present, of = jnp.concatenate([one, other]), jnp.tile(there, 2), jnp.tile(labels.reshape(-1), 2)
        apart = ~jnp.eye(2 * r * s, dtype=bool)
        score = jnp.where(apart & present[None], both @ both.T / temperature, -jnp.inf)
        score = jnp.where(present[:, None], score, 0.0)
        log_share = jax.nn.log_softmax(score)
        same = apart & present[None] & (of[:, None] == of[None])
        mean = jnp.where(same, log_share, 0).sum(1) / jnp.maximum(same.sum(1), 1)
        return _of(-mean.reshape(2, -1).mean(0), there, r, s)

    return loss


def _unit(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-12))


def _of(losses: Float[Array, "n"], there: Array, r: int, s: int) -> Float[Array, "r s"]:
    return jnp.where(there, losses, 0).reshape(r, s)


def two_views(encoder: Encoder, tap: str) -> Callable:
    """``(params, rows, key) -> (views [r, s, 2 d], {})``: the document means of two passes, side by side; 0 in empty slots."""

    def apply(tree: dict, rows: Any, key: Array) -> tuple[Float[Array, "r s c"], dict]:
        views = []
        for number in range(2):
            draw = {"dropout": jax.random.fold_in(key, number)}
            taps, _ = encoder.apply({"params": tree["encoder"]}, rows, train=True, rngs=draw)
            views.append(jnp.where((rows.weight > 0)[..., None], taps[tap], 0))
        return jnp.concatenate(views, axis=-1), {}

    return apply


def pretrain(
    config,
    architecture: Architecture,
    params: dict[str, Any] | None,
    layer: int,
    encoded: Encoded,
    labels: np.ndarray,
    workdir: pathlib.Path | None = None,
    stop: StopSignals | None = None,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Any], str]:
    """The encoder's parameters after the stage that ``config.training.contrastive`` describes, and their fingerprint.

    Args:
      config: of the experiment; rates are those of ``config.optimizer`` with ``contrastive.learning_rate`` for the encoder.
      params: nested, to start from; None: random.
      layer: whose document means are contrasted, the highest that the model reads.
      encoded, labels: of the training split.
      workdir: keeps checkpoints and the result, so that a stopped stage goes on and a finished one isn't run again; None: nothing
        is kept.
      stop: tells whether a signal asked for an end; None: nothing does.

    Raises:
      ConfigError: the workdir holds a stage of other settings.
      Interrupted: a signal came; the state is saved, if there is a workdir.
      NotFinite: NaN or infinity in loss or gradient.
    """
    c, engine, hosts = config.training.contrastive, make_engine(config.parallel), jax.process_count()
    batches = train_batches(
        encoded,
        labels,
        epochs=c.total_epochs,
        seed=data_seed(config),
        tokens_per_batch=c.tokens_per_batch,
        row_lengths=config.data.row_lengths,
        rows_multiple=engine.mesh.size // hosts,
        process_index=jax.process_index(),
        process_count=hosts,
        packed=config.data.packed,
    )
    module = Encoder(
        architecture,
        (tap := f"{layer:02d}/document",),
        frozen_layers=config.encoder.tuned_from,
        dtype=product_dtype(config.encoder.dtype),
        remat=config.encoder.remat,
        hidden_dropout=c.dropout,
        attention_dropout=c.dropout,
    )
    if params is None:
        init = jax.jit(lambda key, rows: module.init(key, rows, train=False))
        params = init(jax.random.key(config.seed), batches.batch(0))["params"]
    optimizer_config = config.optimizer.copy_and_resolve_references()
    optimizer_config.encoder_learning_rate = c.learning_rate
    state, optimizer = init_state(
        jax.tree.map(jnp.asarray, flatten({"encoder": params})),
        lambda name: depth_of(name) < config.encoder.tuned_from,
        lambda trained: make_optimizer(optimizer_config, trained, batches.total_steps, architecture.layers),
        average=False,
    )
    state = engine.place(state)
    pure = make_step(two_views(module, tap), contrast(c.temperature, c.supervised), optimizer, axis=engine.axis)
    step = Compiled(engine.map(pure, state), "contrastive step", say)
    key = replicate(jax.random.key(config.seed + 2), engine.mesh)
    folder, learned_by = workdir / "pretraining" if workdir else None, settings_of(config)
    if folder and (there := checkpoints.all_steps(folder)):
        meta = checkpoints.read_meta(there[-1])
        if other := [name for name, value in learned_by.items() if meta["config"].get(name) != value]:
            raise ConfigError(
                f"{folder} holds a stage of another config.{', config.'.join(other)}; name another --workdir or remove the folder"
            )
        state = checkpoints.load(there[-1], {"state": state})["state"]
        batches.set_state(meta["position"])
        say(f"contrastive stage: resumed from {there[-1].name}")
    now, steps, start = int(state.step), batches.total_steps, time.perf_counter()
    state = engine.put(state)

    def save() -> None:
        if folder:
            checkpoints.save(
                folder, now, {"state": engine.get(state)}, {"position": batches.get_state(), "config": learned_by}, keep=1
            )

    with stop.deferred() if stop else contextlib.nullcontext():
        for batch in batches if now < steps else ():
            state, sums = step(state, engine.spread(batch), key)
            now += 1
            logs = now % config.training.log_every_steps == 0 or now == steps
            asked = any_process(bool(stop and stop.asked)) if hosts == 1 or logs else False
            if logs:
                told = {name: float(value) for name, value in engine.get(sums).items()}
                if told["bad_step"] != NEVER:
                    raise NotFinite(
                        f"the contrastive loss is not finite at step {int(told['bad_step']) + 1}; lower "
                        f"config.training.contrastive.learning_rate, now {c.learning_rate}, or raise its temperature"
                    )
                left = (time.perf_counter() - start) / now * (steps - now)
                say(f"contrastive step {now}/{steps}  loss {told['loss'] / told['weight']:.4f}  {left:.0f} s left")
                state = state.replace(sums=engine.put(engine.place(zero_sums())))
            if now == steps or asked or now % config.training.checkpoint_every_steps == 0:
                save()
            if asked and now < steps:
                saved = f"; saved in {folder}" if folder else ""
                raise Interrupted(f"stopped in the contrastive stage at step {now} of {steps}{saved}")
    whole = engine.get(state)
    learned = jax.device_get(replicate(whole.params | whole.frozen, engine.mesh))
    return unflatten(learned)["encoder"], fingerprint(learned)


def settings_of(config) -> dict[str, Any]:
    """The parts of a config that say what the stage learns, as JSON has them."""
    whole = json.loads(config.to_json_best_effort())
    return {"training.contrastive": whole["training"]["contrastive"]} | {
        name: whole[name] for name in ("data", "encoder", "optimizer")
    }


def fingerprint(params: dict[str, np.ndarray]) -> str:
    """SHA-256, in hex, over names and values of flat parameters."""
    found = hashlib.sha256()
    for name in sorted(params):
        found.update(name.encode() + np.ascontiguousarray(params[name]).tobytes())
    return found.hexdigest()


def stage(config, encoder: Any, layer: int, encoded: Encoded, labels: np.ndarray, *rest: Any) -> Any:
    """``encoder`` (setup.TextEncoder) as it is, or after the stage where ``config.training.pretrain`` names one."""
    if config.training.pretrain == "none":
        return encoder
    params, known_by = pretrain(config, encoder.architecture, encoder.params, layer, encoded, labels, *rest)
    return dataclasses.replace(encoder, params=params, fingerprint=known_by)

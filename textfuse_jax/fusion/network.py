"""Training FusionMLP: seeds and weight decays side by side as one program, the decay chosen on validation.

The step, the losses and the optimizer are those of every other model (``training/step.py``). A document is a few numbers, so a
batch is drawn anew, with replacement, inside the compiled program at each step.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from textfuse_jax.config import default_config
from textfuse_jax.models.label_fusion import FusionMLP
from textfuse_jax.training.losses import binary, cross_entropy
from textfuse_jax.training.optimizer import make_optimizer
from textfuse_jax.training.step import flatten, init_state, make_step, unflatten
from textfuse_jax.types import OpinionRows

DECAYS = (0.01, 0.1, 1.0, 10.0)
"""Weight decays that are tried: from a free network to the pool of calibrated members with next to no correction."""
STATISTICS = ("mean", "scale")
"""Parameters that aren't learned."""
Material = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Evidence [n, m, c], present [n, m], vector [n, d] and labels of documents."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained fusion network: some seeds of it, whose logits are averaged.

    Attributes:
      arrays: flat parameters with a leading axis of seeds.
      facts: weight decay chosen, validation loss of each, parameters of one seed.
    """

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


def rows_of(evidence: np.ndarray, present: np.ndarray, vector: np.ndarray, labels: np.ndarray | None = None) -> OpinionRows:
    """All documents as the slots of one row; without labels zeros, for prediction."""
    n, _, c = evidence.shape
    labels = np.zeros(n, np.int32) if labels is None else labels
    one = lambda x, kind: jnp.asarray(x, kind)[None]  # noqa: E731
    return OpinionRows(
        evidence=one(evidence, jnp.float32),
        present=one(present, bool),
        vector=one(vector, jnp.float32),
        label=one(labels, jnp.float32 if labels.ndim == 2 else jnp.int32),
        weight=jnp.ones((1, n), jnp.float32),
        example=jnp.arange(n, dtype=jnp.int32)[None],
    )


def standardiser(evidence: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [m, c] of each member's evidence where it is present; 0 and 1 for one never present."""
    seen = present[..., None]
    count = np.maximum(seen.sum(0), 1)
    mean = (evidence * seen).sum(0) / count
    scale = np.sqrt((((evidence - mean) * seen) ** 2).sum(0) / count)
    return mean, np.where(scale > 1e-3, scale, 1.0)


def module_of(settings: Mapping[str, Any], members: int, classes: int) -> FusionMLP:
    """The module that the settings describe; LLMs are hidden at random in training, the encoder, member 0, never."""
    return FusionMLP(
        classes=classes,
        hidden=settings["hidden"],
        dropout=settings["dropout"],
        drop_members=settings["drop_members"],
        droppable=(False, *[True] * (members - 1)),
    )


def fit(settings: Mapping[str, Any], train: Material, validation: Material, seed: int = 0) -> Network:
    """Trains the network.

    Args:
      settings: ``hidden``, ``dropout``, ``drop_members``, ``learning_rate``, ``steps``, ``batch``, ``seeds``.
      train: the encoder's evidence is out of fold.
      validation: chooses the weight decay by negative log-likelihood, the mean of that with all opinions and with the encoder's
        alone.
      seed: of the first of the seeds.
    """
    (_, members, classes), multi_label = train[0].shape, train[3].ndim == 2
    module = module_of(settings, members, classes)
    program = _program(module, settings["learning_rate"], settings["steps"], settings["batch"], multi_label)
    mean, scale = (jnp.asarray(x, jnp.float32) for x in standardiser(*train[:2]))
    seeds = jnp.arange(seed, seed + settings["seeds"])
    trained = jax.device_get(program(seeds, jnp.asarray(DECAYS), rows_of(*train), mean, scale))  # [decays, seeds, ...]
    alone = np.arange(members) == 0
    losses = []
    for k in range(len(DECAYS)):
        arrays = {name: value[k] for name, value in trained.items()}
        sides = ((validation[0], validation[1]), (validation[0] * alone[:, None], validation[1] & alone))
        told = [_nll(logits_of(settings, arrays, x, seen, validation[2]), validation[3]) for x, seen in sides]
        losses.append(float(np.mean(told)))
    best = int(np.argmin(np.nan_to_num(losses, nan=np.inf)))
    parameters = sum(value[0, 0].size for name, value in trained.items() if name not in STATISTICS)
    facts = {"weight_decay": DECAYS[best], "validation_nll": dict(zip(map(str, DECAYS), losses)), "parameters": parameters}
    return Network({name: value[best] for name, value in trained.items()}, facts)


@functools.lru_cache(maxsize=16)
def _program(module: FusionMLP, learning_rate: float, steps: int, batch: int, multi_label: bool) -> Callable:
    """``(seeds [k], decays [d], rows, mean, scale) -> parameters [d, k, ...]``, compiled once a shape."""
    loss = binary if multi_label else cross_entropy
    optimizer_config = default_config().optimizer
    optimizer_config.learning_rate = learning_rate

    def apply(tree, rows, key):
        return module.apply({"params": tree}, rows, train=True, rngs={"dropout": key})

    def one(seed, decay, rows, mean, scale):
        config = optimizer_config.copy_and_resolve_references()
        with config.ignore_type():
            config.weight_decay = decay
        params = flatten(module.init(jax.random.key(seed), rows, train=False)["params"])
        if "mean" in params:
            params |= {"mean": mean, "scale": scale}
        state, optimizer = init_state(
            params, STATISTICS.__contains__, lambda p: make_optimizer(config, p, steps, 0), average=False
        )
        step = make_step(apply, loss, optimizer)
        key, order = jax.random.split(jax.random.key(seed + 1))

        def draw(number):
            chosen = jax.random.randint(jax.random.fold_in(order, number), (batch,), 0, rows.slots)
            return jax.tree.map(lambda x: x[:, chosen], rows)

        batch_of = (lambda _: rows) if rows.slots <= batch else draw
        state, _ = jax.lax.scan(lambda s, i: (step(s, batch_of(i), key)[0], None), state, jnp.arange(steps))
        return state.params | state.frozen

    over_seeds = jax.vmap(one, in_axes=(0, None, None, None, None))
    return jax.jit(jax.vmap(over_seeds, in_axes=(None, 0, None, None, None)))


def logits_of(
    settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray], evidence: np.ndarray, present: np.ndarray, vector: np.ndarray
) -> Float[np.ndarray, "n c"]:
    """Mean over seeds of the logits of documents."""
    n, members, classes = evidence.shape
    if not n:
        return np.zeros((0, classes))
    params = {name: jnp.asarray(value) for name, value in arrays.items()}
    logits = _forward(module_of(settings, members, classes))(params, rows_of(evidence, present, vector))
    return np.asarray(logits.mean(0)[0], np.float64)


@functools.lru_cache(maxsize=16)
def _forward(module: FusionMLP) -> Callable:
    """The compiled module over seeds; kept, so that further documents of the same number don't compile again."""
    one = lambda tree, rows: module.apply({"params": unflatten(tree)}, rows, train=False)[0]  # noqa: E731
    return jax.jit(jax.vmap(one, in_axes=(0, None)))


def _nll(logits: np.ndarray, labels: np.ndarray) -> float:
    if labels.ndim == 2:
        return float((np.logaddexp(0, logits) - labels * logits).mean())
    shifted = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    return float(-shifted[np.arange(len(labels)), labels].mean())

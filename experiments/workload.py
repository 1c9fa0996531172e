"""The training that benchmarks time: a config's model on a corpus, as the loop makes it, one step at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from textfuse_jax.data.corpus import Corpus
from textfuse_jax.data.pipeline import Batches, train_batches
from textfuse_jax.training import assembly, setup
from textfuse_jax.training.losses import make_loss
from textfuse_jax.training.optimizer import make_optimizer
from textfuse_jax.training.parallel import Jit, Pmap, replicate
from textfuse_jax.training.step import TrainState, init_state, make_step


@dataclasses.dataclass
class Workload:
    """A training that can be stepped: ``state, sums = step(state, engine.spread(batches.batch(n)), key)``."""

    state: TrainState
    step: Callable
    batches: Batches
    key: jax.Array
    engine: Jit | Pmap
    params: dict[str, Any]


def make_workload(config: ConfigDict, corpus: Corpus, engine: Jit | Pmap, epochs: int = 1, steps: int = 1000) -> Workload:
    """The model, optimizer and batches of a config; the state is placed, nothing is compiled yet.

    Args:
      steps: of the learning-rate schedule.
    """
    encoder = setup.load_text_encoder(config, corpus.train.texts)
    labels, classes = corpus.train.labels, len(corpus.class_names)
    batches = train_batches(
        setup.encode_split(config, encoder.tokenizer, corpus.train.texts),
        labels,
        epochs=epochs,
        seed=0,
        tokens_per_batch=config.data.tokens_per_batch,
        row_lengths=config.data.row_lengths,
        rows_multiple=engine.mesh.size * config.training.accumulate,
    )
    model = assembly.make_model(config, encoder.architecture, classes)
    params = assembly.init_params(model, batches.batch(0), 0, encoder.params)
    layers, average = encoder.architecture.layers, config.training.average_decay
    state, optimizer = init_state(
        params,
        lambda name: assembly.is_frozen(config, name),
        lambda p: make_optimizer(config.optimizer, p, steps, layers),
        average=average > 0,
    )

    def apply(tree, rows, key):
        return model.apply({"params": tree}, rows, train=True, rngs={"dropout": key})

    loss, t = make_loss(config.loss, labels, classes), config.training
    pure = make_step(apply, loss, optimizer, t.accumulate, average, config.loss.consistency, engine.axis)
    state = engine.place(jax.tree.map(jnp.copy, state))
    step = engine.map(pure, state)
    return Workload(engine.put(state), step, batches, replicate(jax.random.key(0), engine.mesh), engine, params)

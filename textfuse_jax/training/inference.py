"""From batches to the logits of every document of a split."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import scipy.special
from jax.sharding import Mesh

from textfuse_jax.bars import followed
from textfuse_jax.data.pipeline import Batches
from textfuse_jax.evaluation.metrics import decide
from textfuse_jax.training.parallel import add_processes, leads, local, spread


def predict_logits(
    forward: Callable,
    params: Any,
    batches: Batches,
    documents: int,
    classes: int,
    mesh: Mesh,
    lead: tuple[int, ...] = (),
    shown: str = "",
) -> np.ndarray:
    """Logits of every document of a split, f32 [*lead, n, c]; windows of one document are averaged by their weight.

    Args:
      lead: what the logits of ``forward`` have before rows, slots and classes: the trials of a sweep.
      shown: what the process that leads calls the batches where it shows its progress; "": it shows none.
    """
    where, weight, values = [], [], []

    def take(rows, logits) -> None:
        here = np.asarray(rows.example) >= 0
        where.append(np.asarray(rows.example)[here])
        weight.append(np.asarray(rows.weight)[here])
        values.append(local(logits)[..., here, :])

    waiting = None  # one batch behind: the host gathers while the device computes
    watched = followed(batches, len(batches), shown) if shown and leads() else iter(batches)
    with contextlib.closing(watched) as seen:
        for rows in seen:
            logits = forward(params, spread(rows, mesh))
            if waiting:
                take(*waiting)
            waiting = (rows, logits)
    if waiting:
        take(*waiting)
    piece = np.concatenate(where)
    of_piece = scipy.sparse.csr_array((np.concatenate(weight), (piece, np.arange(len(piece)))), shape=(documents, len(piece)))
    flat = np.moveaxis(np.concatenate(values, axis=-2), -2, 0).reshape(len(piece), -1)
    total = np.moveaxis((of_piece @ flat).reshape(documents, *lead, classes), 0, -2)
    return add_processes(total) / np.maximum(add_processes(of_piece.sum(1)[:, None]), 1e-9)


def to_probabilities(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Softmax over classes, or a sigmoid for each label; float64, so that the rows of a softmax sum to 1."""
    logits = logits.astype(np.float64)
    return scipy.special.expit(logits) if multi_label else scipy.special.softmax(logits, axis=-1)


def chosen(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """The predicted class of each document, or its multi-hot labels at threshold 0.5."""
    return decide(probabilities, 0.5).astype(np.float32) if multi_label else probabilities.argmax(-1)

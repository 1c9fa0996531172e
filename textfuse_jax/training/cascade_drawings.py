"""Cascades of a report, drawn as the outline of their replies: posts coloured by attention, those selected marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from textfuse_jax.data.cascade_rows import cascade_batches
from textfuse_jax.evaluation.cascade_drawing import draw_cascade
from textfuse_jax.training.step import unflatten

FEWEST, MOST = 4, 24  # posts of a cascade that is drawn: fewer tell nothing, more don't fit a page


def cascade_graphs(
    config: Any, material: Any, model: Any, params: Mapping[str, Any], probabilities: np.ndarray
) -> Iterator[tuple[str, Figure]]:
    """The first test cascades of a size that can be read: caption and figure of each."""
    cascades, corpus = material.cascades("test"), material.corpus
    fit = np.flatnonzero((cascades.sizes >= FEWEST) & (cascades.sizes <= MOST))[: config.evaluation.graphs]
    if not len(fit):
        return
    few = cascades.take(fit)
    rows = cascade_batches(few, None, batch_size=len(few), direction=config.cascades.direction).batch(0)
    tree = unflatten(dict(params) | {name: jax.numpy.asarray(x) for name, x in material.constants().items()})
    _, out = jax.jit(lambda p, b: material.apply(model)(p, b, train=False))(tree, rows)
    shares = np.asarray(out["pool/beta"]) if "pool/beta" in out else None
    for number, i in enumerate(fit.tolist()):
        cascade = few[number]
        row, slot = (int(x[0]) for x in np.nonzero(rows.example == number))
        here = rows.document[row] == slot
        selected = material.posts["selected"][rows.post[row][here]] if "selected" in material.posts else None
        p = probabilities[i]
        figure = draw_cascade(
            cascade.texts,
            cascade.parent,
            share=None if shares is None else shares[row][here],
            selected=selected,
            minutes=cascade.minutes,
            title=f"{corpus.class_names[cascade.label]}, predicted {corpus.class_names[int(p.argmax())]} ({p.max():.0%})",
        )
        yield f"Cascade {corpus.test.ids[i]}", figure

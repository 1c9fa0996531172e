"""How time and memory grow with nodes, edges and trials: a training step of GCN and GAT on reply trees of growing size.

    python -m experiments.benchmark_growth [--rounds=3]

Nodes: one random reply tree of 256 to 16,384 posts (each replies to an earlier one), edges to and from the parent. Edges: 2,048
nodes, each with 1 to 32 random neighbours. Trials: 1 to 64 by ``jax.vmap`` over a step on a tree of 512. Width 64, two rounds,
features from a random generator, as speed alone is measured; every point is compiled first and the median of the rounds is told.
Peak memory is XLA's: what the step's arguments, results and temporaries hold. Growth with documents and text length is
``benchmark_encoding --growth``. One line a curve goes to ``experiments/results/benchmark_growth.jsonl``, the figure to
docs/figures/growth.png. About 3 minutes on 2 cores.
"""

from __future__ import annotations

import pathlib
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.encoding_costs import slope
from textfuse_jax.evaluation.figures import SERIES, new_figure, save
from textfuse_jax.evaluation.records import append_result, environment, hardware
from textfuse_jax.models.head import Head
from textfuse_jax.models.message_passing import GAT, GCN
from textfuse_jax.models.node_classifier import NodeClassifier
from textfuse_jax.models.pooling import Mean
from textfuse_jax.training.losses import cross_entropy
from textfuse_jax.types import CascadeRows, NodeRows

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROUNDS = flags.DEFINE_integer("rounds", 3, "timings of each point, of which the median is told")
OUTPUT = flags.DEFINE_string("output", str(ROOT / "experiments" / "results" / "benchmark_growth.jsonl"), "file of the lines")
FIGURE = flags.DEFINE_string("figure", str(ROOT / "docs" / "figures" / "growth.png"), "where the figure goes")
WIDTH = 64
NODES, DEGREES, TRIALS = (256, 512, 1024, 2048, 4096, 8192, 16384), (1, 2, 4, 8, 16, 32), (1, 4, 16, 64)


def graph(nodes: int, senders: np.ndarray, receivers: np.ndarray) -> CascadeRows:
    """One graph in a row of its own."""
    row = lambda x, kind=np.int32: jnp.asarray(np.asarray(x, kind)[None])  # noqa: E731
    rng = np.random.default_rng(0)
    rows = NodeRows(
        features=row(rng.normal(size=(nodes, WIDTH)), np.float32),
        document=row(np.zeros(nodes)),
        level=row(np.zeros(nodes)),
        parent=row(np.full(nodes, nodes)),
        saliency=row(np.zeros(nodes), np.float32),
        senders=row(senders),
        receivers=row(receivers),
        weight=row(np.ones(len(senders)), np.float32),
        slots=1,
    )
    return CascadeRows(rows, row(np.arange(nodes)), row([0]), row([1.0], np.float32), row([0]))


def tree(nodes: int) -> CascadeRows:
    """A random reply tree, edges both ways."""
    child = np.arange(1, nodes)
    parent = (np.random.default_rng(1).random(nodes - 1) * child).astype(int)
    return graph(nodes, np.r_[child, parent], np.r_[parent, child])


def random_graph(nodes: int, degree: int) -> CascadeRows:
    """So many random senders for each node."""
    receivers = np.repeat(np.arange(nodes), degree)
    return graph(nodes, np.random.default_rng(2).integers(0, nodes, len(receivers)), receivers)


def step_of(kind: Callable, rows: CascadeRows, trials: int = 0) -> tuple[float, float]:
    """Milliseconds of one gradient step, and the megabytes that it holds."""
    model = NodeClassifier(kind(WIDTH), Mean(), Head(2))

    def step(params, rows):
        loss = lambda p: cross_entropy(model.apply({"params": p}, rows, train=False)[0], rows.label).sum()  # noqa: E731
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, jax.grad(loss)(params))

    params = jax.jit(lambda key: model.init(key, rows, train=False)["params"])(jax.random.key(0))
    if trials:
        params = jax.tree.map(lambda p: jnp.broadcast_to(p, (trials, *p.shape)), params)
    mapped = jax.vmap(step, in_axes=(0, None)) if trials else step
    compiled = jax.jit(mapped).lower(params, rows).compile()
    held = compiled.memory_analysis()
    jax.block_until_ready(compiled(params, rows))
    times = []
    for _ in range(ROUNDS.value):
        start = time.perf_counter()
        repeats = 0
        while repeats < 3 or time.perf_counter() - start < 0.3:
            jax.block_until_ready(compiled(params, rows))
            repeats += 1
        times.append((time.perf_counter() - start) / repeats)
    size = held.temp_size_in_bytes + held.argument_size_in_bytes + held.output_size_in_bytes
    return 1e3 * statistics.median(times), size / 1e6


def main(_: Sequence[str]) -> None:
    """Measures, records, draws."""
    machine = environment()
    panels = {
        "nodes": (NODES, tree, 0),
        "edges a node": (DEGREES, lambda degree: random_graph(2048, degree), 0),
        "trials": (TRIALS, lambda _: tree(512), 1),
    }
    figure = new_figure(11, 6)
    axes = figure.subplots(2, 3)
    for column, (label, (sizes, make, many)) in enumerate(panels.items()):
        for kind, (colour, marker, style) in zip((GCN, GAT), SERIES):
            points = [step_of(kind, make(size), size if many else 0) for size in sizes]
            record = {
                "name": f"growth_{kind.__name__.lower()}_{label.replace(' ', '_')}",
                "x": list(sizes),
                "step_ms": [round(ms, 3) for ms, _ in points],
                "memory_mb": [round(mb, 2) for _, mb in points],
                "slope": round(slope(sizes, [ms for ms, _ in points]), 2),
                "slope_memory": round(slope(sizes, [mb for _, mb in points]), 2),
                "unit": "ms a step",
                "hardware": hardware(machine),
                "commit": machine["git"]["commit"],
            }
            print(record, flush=True)
            append_result(OUTPUT.value, record)
            for row, (side, values, steep) in enumerate(
                (
                    ("ms a step", record["step_ms"], record["slope"]),
                    ("MB held by a step", record["memory_mb"], record["slope_memory"]),
                )
            ):
                ax = axes[row, column]
                ax.plot(sizes, values, marker + style, color=colour, label=f"{kind.__name__}, slope {steep:.2f}")
                ax.set(xscale="log", yscale="log", xlabel=label, ylabel=side)
                ax.set_xticks(sizes, [f"{x:,}" for x in sizes], fontsize=7, rotation=30)
                ax.minorticks_off()
                ax.grid(True, color="#E6E6E6", linewidth=0.8)
                ax.legend(frameon=False, fontsize=8)
    save(figure, FIGURE.value)


if __name__ == "__main__":
    app.run(main)

"""Training of graph classifiers beside PyTorch Geometric: all PHEME cascades, and graphs of phrases of AG News texts.

    TEXTFUSE_DATA=DIR python -m experiments.benchmark_graphs [--rounds=5] [--names=gcn,gat,...] [--output=FILE]

Both: two rounds of GCN or GAT (four heads), width 64, ReLU, mean pooling, dropout 0.5, Adam with L2, the same cascades in each
step, 32 of them; features given: the words of each post hashed into 384 columns (scikit-learn), since speed alone is measured.
Theirs: GCNConv and GATConv, Data objects built beforehand, its DataLoader, one or two threads, whichever is faster, eager and
under ``torch.compile``. Ours: packed rows, planned and assembled within the time that is measured, the features of all posts
on the device. Before any timing the logits of both, with equal weights, must agree to 1e-4. ``trials``: 5 folds x 5 seeds
trained at once by ``jax.vmap`` and ``jax.lax.map`` on batches of 40 cascades, of which each trial leaves out those of its fold;
beside one trial of theirs on four folds in batches of 32.

Epochs of both alternate; a line holds medians and the median of the rounds' ratios (above 1: ours is faster). ``cpu_ratio`` is
that of the processor time of all threads, which other programs on the machine disturb less. Peak memory is that of a process of
its own which does one epoch. Needs requirements-dev.txt (PyTorch). Takes about 15 minutes on 2 cores.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from sklearn.feature_extraction.text import HashingVectorizer

from textfuse_jax.data import ag_news
from textfuse_jax.data.cascade_rows import cascade_batches, plan_cascades
from textfuse_jax.data.cascade_sets import pheme
from textfuse_jax.data.cascades import Cascades
from textfuse_jax.data.corpus import stratified_order
from textfuse_jax.data.pipeline import Batches
from textfuse_jax.data.ragged import bounds, ranges
from textfuse_jax.evaluation import records
from textfuse_jax.evaluation.records import append_result, environment, hardware
from textfuse_jax.heap import keep_freed_memory
from textfuse_jax.models.edges import window
from textfuse_jax.models.head import Head
from textfuse_jax.models.message_passing import GAT, GCN
from textfuse_jax.models.node_classifier import NodeClassifier, gather_features
from textfuse_jax.models.pooling import Mean
from textfuse_jax.training.losses import cross_entropy
from textfuse_jax.training.optimizer import decayed
from textfuse_jax.training.step import flatten, init_state, make_step, unflatten

RESULTS = pathlib.Path(__file__).parent / "results" / "benchmark_graphs.jsonl"
NAMES = ("gcn", "gat", "gcn_compile", "gat_compile", "gcn_trials", "gat_trials", "gcn_text")
ROUNDS = flags.DEFINE_integer("rounds", 5, "alternations, an epoch each")
WHICH = flags.DEFINE_list("names", list(NAMES), "comparisons")
LIMIT = flags.DEFINE_integer("documents", 0, "train on the first so many only; 0 = all")
MEMORY = flags.DEFINE_bool("memory", True, "measure peak memory, in processes of their own")
MEMORY_OF = flags.DEFINE_string("memory_of", "", "(the benchmark's own use) side:name whose peak memory to print")
OUTPUT = flags.DEFINE_string("output", str(RESULTS), "file the JSON lines are appended to")

WIDTH, DROPOUT, RATE, DECAY, BATCH, FOLDS, SEEDS = 64, 0.5, 1e-3, 5e-4, 32, 5, 5


@dataclasses.dataclass(frozen=True)
class Problem:
    """What both sides train: ``name`` as in ``NAMES``."""

    name: str
    cascades: Cascades
    features: np.ndarray

    @property
    def kind(self) -> str:
        """gcn or gat."""
        return self.name.partition("_")[0]

    @functools.cached_property
    def fold(self) -> np.ndarray:
        """The fold of each cascade, with the classes in proportion."""
        fold = np.empty(len(self.cascades), np.int32)
        fold[stratified_order(self.cascades.labels, 0)] = np.arange(len(self.cascades)) % FOLDS
        return fold


def hashed(texts: Sequence[str]) -> np.ndarray:
    """Words hashed into 384 columns, f32 [k, 384], unit length."""
    return HashingVectorizer(n_features=384, dtype=np.float32).transform(texts).toarray()


def phrases_of_ag_news(documents: int = 6400, words: int = 4) -> Cascades:
    """AG News texts as chains of phrases of so many words."""
    import os

    raw, _ = ag_news.read(pathlib.Path(os.environ["TEXTFUSE_DATA"]), ("title+description",), True, False)
    split = [text.split() for text in raw.texts[:documents]]
    texts = [[" ".join(w[i : i + words]) for i in range(0, len(w), words)] for w in split]
    sizes = np.array([len(t) for t in texts])
    return Cascades(
        name="ag_news:phrases",
        ids=raw.ids[:documents],
        labels=np.array([ag_news.CLASS_NAMES.index(label[0]) for label in raw.labels[:documents]], np.int32),
        class_names=ag_news.CLASS_NAMES,
        events=[""] * len(texts),
        bounds=bounds(sizes),
        texts=[phrase for t in texts for phrase in t],
        parent=(ranges(np.zeros_like(sizes), sizes) - 1).astype(np.int32),
        minutes=np.full(sizes.sum(), np.nan, np.float32),
    )


def load(name: str, limit: int) -> Problem:
    """The problem of that name."""
    cascades = phrases_of_ag_news() if name.endswith("_text") else pheme()
    cascades = cascades.take(range(min(limit or len(cascades), len(cascades)))).renumbered()
    return Problem(name, cascades, hashed(cascades.texts))


def model_of(problem: Problem) -> NodeClassifier:
    """Our model, which does what ``graph_reference.Net`` does."""
    args = dict(width=WIDTH, rounds=2, residual=False, norm="none", activation="relu", dropout=DROPOUT)
    propagate = GCN(**args) if problem.kind == "gcn" else GAT(heads=4, edge_weight=False, **args)
    edges = functools.partial(window, size=2) if problem.name.endswith("_text") else None
    return NodeClassifier(propagate, Mean(), Head(len(problem.cascades.class_names), dropout=DROPOUT), edges=edges)


def groups_of(batches: Batches) -> list[list[int]]:
    """The cascades of each batch of the first epoch."""
    plan = batches.plans[0]
    return [plan.pieces[a:b].tolist() for a, b in zip(plan.bounds, plan.bounds[1:])]


def ours(problem: Problem, rounds: int) -> tuple[Callable[[int], float], dict]:
    """``run(round)``: our epoch, in cascades a second; for trials, all trials' epochs. And what is worth a note."""
    trials = problem.name.endswith("_trials")
    model, batch_size = model_of(problem), BATCH * FOLDS // (FOLDS - 1) if trials else BATCH

    def batches(round: int) -> Batches:
        return cascade_batches(problem.cascades, None, seed=round, batch_size=batch_size)

    optimizer = optax.chain(optax.add_decayed_weights(DECAY, mask=decayed), optax.adam(RATE))

    def apply(params, rows, key):
        rows = gather_features(rows, params["posts"]["features"])
        return model.apply({"params": params}, rows, train=True, rngs={"dropout": key})

    step, features = make_step(apply, cross_entropy, optimizer), jnp.asarray(problem.features)
    first = gather_features(jax.tree.map(jnp.asarray, batches(0).batch(0)), features)

    def init(key):
        params = flatten(model.init(key, first, train=False)["params"])
        return init_state(params, lambda _: False, lambda _: optimizer, average=False)[0]

    if trials:
        keys = jax.random.split(jax.random.key(1), FOLDS * SEEDS)
        held_out = np.repeat(np.arange(FOLDS, dtype=np.int32), SEEDS)

        def many(states, features, rows, fold):
            def trial(args):
                state, key, held = args
                masked = rows.replace(weight=rows.weight * (fold != held))
                state, sums = step(state.replace(frozen={"posts/features": features}), masked, key)
                return state.replace(frozen={}), sums

            # The five seeds of a fold by vmap, fold by fold: what 25 trials need at once would not fit the processor's cache.
            return jax.lax.map(trial, (states, keys, jnp.asarray(held_out)), batch_size=SEEDS)

        many, held = jax.jit(many, donate_argnums=0), {"state": jax.jit(jax.vmap(init))(keys)}

        def one(rows):
            held["state"], _ = many(held["state"], features, rows, problem.fold[rows.example])
    else:
        key, single = jax.random.key(1), jax.jit(step, donate_argnums=0)
        held = {"state": jax.jit(init)(key).replace(frozen={"posts/features": features})}

        def one(rows):
            held["state"], _ = single(held["state"], rows, key)

    def run(round: int) -> float:
        start = time.perf_counter()
        epoch = batches(round)
        for number in range(epoch.total_steps):
            one(epoch.batch(number))
        jax.block_until_ready(held["state"].step)
        return (FOLDS * SEEDS if trials else len(problem.cascades)) / (time.perf_counter() - start)

    shapes = {}
    for round in range(rounds):
        epoch = batches(round)
        shapes |= {epoch.plans[0].shapes[i]: epoch.batch(int(np.argmax(epoch.plans[0].shape == i))) for i in epoch.plans[0].shape}
    start = time.perf_counter()
    for rows in shapes.values():
        one(rows)
    jax.block_until_ready(held["state"].step)
    compiling = time.perf_counter() - start
    return run, {"padding_waste": round_(batches(0).waste), "shapes": len(shapes), "compile_seconds": round_(compiling)}


def theirs(problem: Problem) -> tuple[Callable[[int], float], dict]:
    """``run(round)``: their epoch, in the unit of ours; on one or two threads, whichever is faster."""
    import torch

    from experiments import graph_reference as reference

    edges = reference.window_edges if problem.name.endswith("_text") else reference.reply_edges
    data = reference.graphs(problem.cascades, problem.features, edges)
    net = reference.Net(problem.kind, problem.features.shape[1], WIDTH, len(problem.cascades.class_names), DROPOUT)
    train = reference.trainer(net, data, RATE, DECAY, compiled=problem.name.endswith("_compile"))
    trials = problem.name.endswith("_trials")
    members = np.flatnonzero(problem.fold != 0) if trials else np.arange(len(problem.cascades))

    def groups(round: int) -> list[list[int]]:
        if trials:
            plan = plan_cascades(problem.cascades.sizes[members], batch_size=BATCH, shuffle=(round, 0))
            return [members[plan.pieces[a:b]].tolist() for a, b in zip(plan.bounds, plan.bounds[1:])]
        return groups_of(cascade_batches(problem.cascades, None, seed=round, batch_size=BATCH))

    def run(round: int) -> float:
        indices = groups(round)
        start = time.perf_counter()
        train(indices)
        return (1 if trials else len(members)) / (time.perf_counter() - start)

    sample, seconds = groups(0)[:20], {}
    train(sample)  # compiles, warms up
    for threads in (1, 2, 1, 2):
        torch.set_num_threads(threads)
        start = time.perf_counter()
        train(sample)
        seconds[threads] = min(seconds.get(threads, np.inf), time.perf_counter() - start)
    torch.set_num_threads(min(seconds, key=seconds.get))
    return run, {"their_threads": torch.get_num_threads()}


def check_parity(problem: Problem) -> float:
    """The largest difference of the logits of 64 cascades under equal random weights, which must be at most 1e-4."""
    from experiments import graph_reference as reference

    few = problem.cascades.take(range(min(64, len(problem.cascades)))).renumbered()
    features, model = problem.features[: len(few.texts)], model_of(problem)
    batches = cascade_batches(few, features, batch_size=BATCH)
    rng, first = np.random.default_rng(0), jax.tree.map(jnp.asarray, batches.batch(0))
    shapes = flatten(jax.eval_shape(lambda: model.init(jax.random.key(0), first, train=False))["params"])
    params = {k: (0.3 * rng.normal(size=v.shape)).astype(np.float32) for k, v in shapes.items()}
    net = reference.Net(problem.kind, features.shape[1], WIDTH, len(few.class_names), DROPOUT)
    net.load(params)
    edges = reference.window_edges if problem.name.endswith("_text") else reference.reply_edges
    expected, apart = reference.logits(net, reference.graphs(few, features, edges)), 0.0
    for number in range(batches.total_steps):
        rows = jax.tree.map(jnp.asarray, batches.batch(number))
        found, _ = model.apply({"params": unflatten(params)}, rows, train=False)
        real = rows.example >= 0
        apart = max(apart, float(np.abs(np.asarray(found)[real] - expected[rows.example[real]]).max()))
    if apart > 1e-4:
        raise SystemExit(f"{problem.name}: our logits and PyTorch Geometric's differ by {apart}; nothing was timed")
    return apart


def peak_memory(side: str, name: str) -> float | None:
    """Peak resident MiB of a fresh process that trains one epoch of one side; None if not asked for."""
    if not MEMORY.value:
        return None
    command = [sys.executable, "-m", "experiments.benchmark_graphs", f"--memory_of={side}:{name}", f"--documents={LIMIT.value}"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def compare(name: str) -> dict:
    """The record of one comparison."""
    problem = load(name, LIMIT.value)
    record = {
        "name": f"train_{name}_vs_pyg_{'compile' if name.endswith('_compile') else 'eager'}",
        "unit": "trial epochs/s" if name.endswith("_trials") else "documents/s",
        "data": problem.cascades.name,
        "features": "words hashed into 384 columns",
        "documents": len(problem.cascades),
        "nodes": len(problem.cascades.texts),
        "rounds": ROUNDS.value,
        "hardware": hardware(environment()),
        **dict(zip(("commit", "dirty"), records.commit())),
        "logits_apart": check_parity(problem),
    }
    try:
        reference, notes = theirs(problem)
    except Exception as error:
        if not name.endswith("_compile"):
            raise
        return record | {"ours": None, "theirs": None, "ratio": None, "not_measured": f"{type(error).__name__}: {error}"[:300]}
    mine, more = ours(problem, ROUNDS.value)
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    on_cpu: dict[str, list[float]] = {"ours": [], "theirs": []}
    for round in range(ROUNDS.value):
        turns = [("ours", mine), ("theirs", reference)]
        for side, run in turns if round % 2 == 0 else reversed(turns):
            wall, processor = time.perf_counter(), time.process_time()
            rate = run(round)
            share = (time.perf_counter() - wall) / (time.process_time() - processor)
            rates[side].append(rate)
            on_cpu[side].append(rate * share)
    ratios = [a / b for a, b in zip(rates["ours"], rates["theirs"])]
    return (
        record
        | notes
        | more
        | {
            "ours": round_(statistics.median(rates["ours"])),
            "theirs": round_(statistics.median(rates["theirs"])),
            "ratio": round_(statistics.median(ratios)),
            "cpu_ratio": round_(statistics.median(a / b for a, b in zip(on_cpu["ours"], on_cpu["theirs"]))),
            "ratios": [round_(ratio) for ratio in ratios],
            "peak_memory_mb": {side: peak_memory(side, name) for side in ("ours", "theirs")},
        }
    )


def round_(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def main(_: list[str]) -> None:
    """Compares, prints and appends one line a comparison."""
    keep_freed_memory()
    if MEMORY_OF.value:
        side, _, name = MEMORY_OF.value.partition(":")
        problem = load(name, LIMIT.value)
        run, _ = ours(problem, 1) if side == "ours" else theirs(problem)
        run(0)
        print(records.peak_memory())
        return
    for name in WHICH.value:
        record = compare(name)
        print(record, flush=True)
        append_result(OUTPUT.value, record)


if __name__ == "__main__":
    app.run(main)

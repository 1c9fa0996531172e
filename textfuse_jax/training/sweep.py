"""Many trials as one program: the step mapped by ``jax.vmap`` over seeds, rates, decays, dropout, alpha, gamma, folds.

A trial is the config with a few of its fields set. Fields of ``TRACED`` become traced scalars: one compiled step and one pass
over the data train all their combinations side by side. Other fields change shapes or the program; their combinations
are trained one after another, each with all its traced trials. All trials see the documents in the same order (the order
of ``config.data.seed``), so that a trial ends where a run of its config alone does.
"""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
import itertools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.config import ConfigError, data_seed
from textfuse_jax.data.corpus import Corpus, strata
from textfuse_jax.data.pipeline import evaluation_batches, train_batches
from textfuse_jax.data.sources import FIELDS
from textfuse_jax.evaluation.metrics import selection_metrics
from textfuse_jax.training import setup
from textfuse_jax.training.compilation import Compiled
from textfuse_jax.training.inference import predict_logits, to_probabilities
from textfuse_jax.training.losses import make_loss
from textfuse_jax.training.optimizer import make_optimizer
from textfuse_jax.training.parallel import make_mesh, replicate, spread
from textfuse_jax.training.step import NEVER, TrainState, init_state, learned, make_step, unflatten, zero_sums

TRACED = (
    "seed",
    "data.fold",
    "optimizer.learning_rate",
    "optimizer.encoder_learning_rate",
    "optimizer.weight_decay",
    "optimizer.layer_decay",
    "loss.focal_gamma",
    "loss.logit_adjustment",
    "loss.label_smoothing",
    "loss.consistency",
    "model.*_args.dropout",
    "model.propagate_args.attention_dropout",
    "model.pooling_args.alpha",
)
"""Fields that trials of one program may differ in."""
REPEATS = ("seed", "data.fold")
"""Fields that repeat a setting rather than make another: means and spreads are over these."""

Trial = dict[str, Any]
"""Config field -> its value."""


def parse_sweep(text: str) -> dict[str, tuple]:
    """``"seed=0..31; optimizer.learning_rate=1e-4,1e-3"`` -> the values of each field.

    Values are Python literals joined by commas, or ``a..b`` for the integers from a to b.

    Raises:
      ConfigError: a part that has no ``=``, no value, or a value that is no literal.
    """
    axes: dict[str, tuple] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        field, equals, values = (piece.strip() for piece in part.partition("="))
        span = re.fullmatch(r"(-?\d+)\.\.(-?\d+)", values)
        try:
            axes[field] = tuple(range(int(span[1]), int(span[2]) + 1)) if span else ast.literal_eval(f"({values},)")
        except (SyntaxError, ValueError):
            axes[field] = ()
        if not equals or not axes[field]:
            raise ConfigError(f'--sweep needs parts like "seed=0..31" or "optimizer.learning_rate=1e-4,1e-3", got {part!r}')
    if not axes:
        raise ConfigError('--sweep names no field; e.g. --sweep="seed=0..4; optimizer.learning_rate=1e-4,1e-3"')
    return axes


def is_traced(field: str, values: Sequence[Any]) -> bool:
    """Whether trials of one program may differ in the field: a field of ``TRACED``, with numbers for values.

    Where 0 means another program (one pass instead of two, no draw of a mask), a 0 among the values makes the field untraced.
    """
    switch = field in ("loss.consistency", "loss.logit_adjustment") or field.endswith("dropout")
    numbers = all(isinstance(value, (int, float)) for value in values)
    return numbers and any(fnmatch.fnmatch(field, known) for known in TRACED) and not (switch and 0 in values)


def with_fields(config: ConfigDict, trial: Mapping[str, Any]) -> ConfigDict:
    """A copy of the config with the fields of a trial; values may be traced."""
    copy = config.copy_and_resolve_references()  # ConfigDict(config) would share its parts
    with copy.ignore_type():
        for field, value in trial.items():
            *path, name = field.split(".")
            part = copy
            for step in path:
                part = part[step]
            part[name] = value
    return copy


def groups(axes: Mapping[str, Sequence[Any]]) -> list[tuple[Trial, list[Trial]]]:
    """The combinations of the fields that aren't traced, each with all combinations of those that are."""
    fixed = {field: values for field, values in axes.items() if not is_traced(field, values)}
    traced = {field: values for field, values in axes.items() if field not in fixed}
    return [(one, combinations(traced)) for one in combinations(fixed)]


def combinations(axes: Mapping[str, Sequence[Any]]) -> list[Trial]:
    """Every choice of one value a field; the last field changes fastest."""
    return [dict(zip(axes, chosen)) for chosen in itertools.product(*axes.values())]


def folds_of(corpus: Corpus, folds: int, seed: int) -> np.ndarray:
    """The fold 0..folds-1 of each training document, int32 [n]; each fold holds each class in proportion."""
    order = np.random.default_rng(seed).permutation(len(corpus.train))
    order = order[np.argsort(strata(corpus.train.labels)[order], kind="stable")]
    fold = np.empty(len(order), np.int32)
    fold[order] = np.arange(len(order)) % folds
    return fold


class Trials:
    """A program that trains ``count`` trials side by side; ``run`` it with their values, again and again.

    Args:
      config: what the trials have in common.
      material: from ``setup.prepare``.
      fields: the traced fields that ``run`` sets.
      count: trials a run. Where it is a multiple of the devices, they are divided over these.
      say: takes lines of progress.

    Attributes:
      seconds: what the last ``run`` took, evaluations included, compilation not.
    """

    def __init__(
        self, config: ConfigDict, material: setup.Material, fields: Sequence[str], count: int, say: Callable[[str], None]
    ):
        self.config, self.material, self.fields, self.count, self._say = config, material, tuple(fields), count, say
        self.seconds = 0.0
        corpus, encoded = material.corpus, material.encoded
        self._mesh = make_mesh(1 if count % len(jax.devices()) else 0)
        shape = dict(row_lengths=config.data.row_lengths, packed=config.data.packed)
        self._batches = train_batches(
            encoded["train"],
            corpus.train.labels,
            epochs=config.training.total_epochs,
            seed=data_seed(config),
            tokens_per_batch=config.data.tokens_per_batch,
            rows_multiple=config.training.accumulate,
            prefetch=config.data.prefetch,
            features=material.features.get("train"),
            **shape,
        )
        self._held = {
            name: evaluation_batches(
                encoded[name],
                split.labels,
                tokens_per_batch=config.data.eval_tokens_per_batch,
                features=material.features.get(name),
                **shape,
            )
            for name, split in (("train", corpus.train), ("validation", corpus.validation), ("test", corpus.test))
        }
        self._folds = None
        if "data.fold" in self.fields:
            self._folds = folds_of(corpus, config.data.folds, data_seed(config))
        axes = TrainState(step=0, params=0, frozen=None, opt_state=0, average=0, sums=0)
        rows = self._batches.batch(0)
        self._start = jax.jit(jax.vmap(lambda trial: self._parts(trial)[2](rows), out_axes=axes, axis_size=count))
        step = jax.vmap(self._one_step, in_axes=(axes, None, 0), out_axes=axes, axis_size=count)
        self._step = Compiled(jax.jit(step, donate_argnums=0), "trials' step", say)
        self._forward = Compiled(jax.jit(jax.vmap(self._one_forward, in_axes=((0, 0, None), None))), "trials' evaluation", say)

    def _parts(self, trial: Trial) -> tuple[Callable, Callable, Callable]:
        """Step, forward pass and first state of a trial whose values may be traced."""
        config, material = with_fields(self.config, trial), self.material
        labels, classes = material.corpus.train.labels, len(material.corpus.class_names)
        model = setup.make_model(config, material.encoder.architecture, classes)
        loss = make_loss(config.loss, labels, classes)
        pretrained = None if config.encoder.mode == "cached" else material.encoder.params

        def optimizer_of(params):
            return make_optimizer(config.optimizer, params, self._batches.total_steps, material.encoder.architecture.layers)

        def start(rows) -> TrainState:
            params = setup.init_params(model, rows, config.seed, pretrained)
            average = self.config.training.average_decay > 0
            return init_state(params, lambda name: setup.is_frozen(self.config, name), optimizer_of, average)[0]

        def apply(tree, rows, key):
            return model.apply({"params": tree}, rows, train=True, rngs={"dropout": key})

        def step(state: TrainState, rows) -> TrainState:
            t = config.training
            taken = make_step(apply, loss, optimizer_of(state.params), t.accumulate, t.average_decay, config.loss.consistency)
            return taken(state, rows, jax.random.key(config.seed + 1))[0]

        def forward(weights, rows):
            return setup.predictor(model)(unflatten(weights), rows)

        return step, forward, start

    def _one_step(self, state: TrainState, rows, trial: Trial) -> TrainState:
        if self._folds is not None:
            fold = jnp.asarray(self._folds)[jnp.maximum(rows.example, 0)]
            rows = rows.replace(weight=jnp.where(fold == trial["data.fold"], 0, rows.weight))
        return self._parts(trial)[0](state, rows)

    def _one_forward(self, one: tuple, rows):
        trial, weights, frozen = one
        return self._parts(trial)[1](weights | frozen, rows)[0]

    def outputs(self, read: Callable[[Any, dict[str, Any]], Any], batch: int = 0, change: Callable | None = None) -> Any:
        """``read(rows, out)`` of a batch of the validation split, by the best weights of each trial of the last run.

        Args:
          read: takes the rows and what the model's parts put out; what it returns gets a trial axis.
          batch: which of the batches.
          change: what is done to the rows before the model sees them; ``read`` gets them as they were.
        """
        rows = replicate(self.held_rows(batch), self._mesh)
        change = change or (lambda rows: rows)

        def one(trial, weights, frozen, rows):
            return read(rows, self._parts(trial)[1](weights | frozen, change(rows))[1])

        return jax.device_get(jax.jit(jax.vmap(one, in_axes=(0, 0, None, None)))(*self._best, rows))

    def held_rows(self, batch: int = 0) -> Any:
        """A batch of the validation split."""
        return self._held["validation"].batch(batch)

    @property
    def held_batches(self) -> int:
        """Number of batches of the validation split."""
        return len(self._held["validation"])

    def _place(self, tree: Any) -> Any:
        """Arrays with a trial axis, the trials over the devices."""
        return spread(tree, self._mesh)

    def run(self, trials: Sequence[Trial]) -> list[dict[str, Any]]:
        """Trains the trials; for each a dict of ``trial``, ``validation`` (metrics of its best weights), ``best_step``,
        ``steps`` until it stopped, and ``diverged`` (its loss or gradient became infinite or NaN, its best is from before).

        ``test_logits`` reads the test split with the best weights of the last run.
        """
        if len(trials) != self.count:
            raise ValueError(f"this program trains {self.count} trials at a time, got {len(trials)}")
        values = {field: self._place(np.array([trial[field] for trial in trials])) for field in self.fields}
        config, k = self.config, self.count
        state = self._start(values)
        state = TrainState(
            **{
                field.name: (replicate if field.name == "frozen" else spread)(getattr(state, field.name), self._mesh)
                for field in dataclasses.fields(TrainState)
            }
        )
        best = jax.tree.map(jnp.copy, learned(state))
        score, best_step, worse = np.full(k, -np.inf), np.zeros(k, int), np.zeros(k, int)
        stopped, last_step, metrics = np.zeros(k, bool), np.zeros(k, int), [{} for _ in range(k)]
        diverged = np.zeros(k, bool)
        clock, compiled, now, steps = time.perf_counter(), self._compile_seconds, 0, self._batches.total_steps
        epoch_ends, every = np.cumsum(self._batches.steps_per_epoch), config.training.eval_every_steps
        for batch in self._batches:
            state = self._step(state, replicate(batch, self._mesh), values)
            now += 1
            if not (now == steps or (now % every == 0 if every else now in epoch_ends)):
                continue
            found = self._scores(values, learned(state), state.frozen)
            lost = (np.asarray(state.sums["bad_step"]) != NEVER) | np.array([not scores for scores in found])
            diverged |= lost & ~stopped
            state = state.replace(sums=self._place(jax.tree.map(lambda x: np.broadcast_to(x, (k,)), zero_sums())))
            better = np.zeros(k, bool)
            for i in np.flatnonzero(~stopped):
                last_step[i] = now
                if diverged[i]:
                    continue
                value = -found[i]["nll"] if config.training.select_by == "nll" else found[i][config.training.select_by]
                better[i] = value > score[i]
                if better[i]:
                    score[i], best_step[i], worse[i], metrics[i] = value, now, 0, found[i]
                else:
                    worse[i] += 1
            best = _choose(self._place(better), learned(state), best)
            stopped |= diverged | ((worse >= config.training.patience) & (config.training.patience > 0))
            left = (time.perf_counter() - clock) / now * (steps - now)
            self._say(
                f"step {now}/{steps}  {k} trials  {config.training.select_by} of the best {np.max(score):.4f}, median "
                f"{np.median(score):.4f}  {stopped.sum()} stopped  {left / 60:.1f} minutes left"
            )
            if stopped.all():
                break
        self._best = values, jax.block_until_ready(best), state.frozen
        self.seconds = time.perf_counter() - clock - (self._compile_seconds - compiled)
        return [
            {
                "trial": dict(trials[i]),
                "validation": metrics[i],
                "best_step": int(best_step[i]),
                "steps": int(last_step[i]),
                "diverged": bool(diverged[i]),
            }
            for i in range(k)
        ]

    def _scores(self, values, weights, frozen) -> list[dict[str, float]]:
        """Metrics of every trial on its held-out documents (its fold of the training split, else the validation split).

        Empty for a trial whose logits aren't finite.
        """
        corpus, name = self.material.corpus, "validation" if self._folds is None else "train"
        labels = getattr(corpus, name).labels
        probabilities = to_probabilities(self._logits(name, values, weights, frozen), corpus.multi_label)
        found = []
        for i, p in enumerate(probabilities):
            here = slice(None) if self._folds is None else self._folds == int(values["data.fold"][i])
            found.append(selection_metrics(labels[here], p[here]) if np.isfinite(p).all() else {})
        return found

    def _logits(self, name: str, values, weights, frozen) -> np.ndarray:
        """Logits f32 [k, n, c] of a split."""
        corpus, one = self.material.corpus, make_mesh(1)
        forward = lambda params, rows: self._forward(params, replicate(rows, self._mesh))  # noqa: E731
        size = len(getattr(corpus, name))
        lead = (len(next(iter(values.values()))),)
        return predict_logits(forward, (values, weights, frozen), self._held[name], size, len(corpus.class_names), one, lead)

    @property
    def parameters(self) -> int:
        """Trained parameters of one trial; known after ``run``."""
        return sum(x.size for x in jax.tree.leaves(self._best[1])) // self.count

    @property
    def _compile_seconds(self) -> float:
        return self._step.seconds + self._forward.seconds

    def weights_of(self, trial: int) -> dict[str, np.ndarray]:
        """Flat parameters of one trial of the last run, the best on validation and those that aren't trained."""
        _, weights, frozen = self._best
        return jax.device_get(jax.tree.map(lambda x: x[trial], weights) | frozen)

    def held_logits(self) -> np.ndarray:
        """Logits f32 [k, n, c] of the validation split by the best weights of the last run."""
        return self._logits("validation", *self._best)

    def test_logits(self, chosen: Sequence[int] | None = None) -> np.ndarray:
        """Logits f32 [k, n, c] of the test split by the best weights of the last run; read them once, for the chosen setting.

        Args:
          chosen: the trials that read it; None: all.
        """
        values, weights, frozen = self._best
        if chosen is not None:
            of_chosen = jax.tree.map(lambda x: np.asarray(x)[np.asarray(chosen)], (values, weights))
            values, weights = replicate(of_chosen, self._mesh)
            forward = jax.jit(jax.vmap(self._one_forward, in_axes=((0, 0, None), None)))
            self._forward = Compiled(forward, "evaluation of the chosen", self._say)  # of another number of trials
        return self._logits("test", values, weights, frozen)

    def train_logits(self) -> np.ndarray:
        """Logits f32 [k, n, c] of the training split by the best weights of the last run; of a fold's trial, also of its fold."""
        return self._logits("train", *self._best)


@jax.jit
def _choose(better: jax.Array, new: Any, old: Any) -> Any:
    """Trial by trial the new weights where they are better."""
    return jax.tree.map(lambda a, b: jnp.where(better.reshape(-1, *([1] * (a.ndim - 1))), a, b), new, old)


def setting_of(trial: Trial) -> tuple:
    """What a trial has in common with its repetitions by other seeds and folds; lists, as JSON gives them, become tuples."""
    return tuple((field, tupled(value)) for field, value in trial.items() if field not in REPEATS)


def tupled(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(map(tupled, value)) if isinstance(value, (list, tuple)) else value


def summary_of(results: Sequence[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Mean, standard deviation and number of trials of each setting's validation metric, the best setting first.

    A setting of which a trial diverged before its first evaluation has mean None, comes last and isn't chosen.
    """
    sign = -1 if metric == "nll" else 1
    found: dict[tuple, list[float]] = {}
    for result in results:
        found.setdefault(setting_of(result["trial"]), []).append(result["validation"].get(metric))
    rows = []
    for setting, values in found.items():
        known = [value for value in values if value is not None]
        whole = len(known) == len(values)
        row = {"setting": dict(setting), "mean": float(np.mean(known)) if whole else None}
        row |= {"sd": float(np.std(known, ddof=1)) if whole and len(known) > 1 else 0.0}
        rows.append(row | {"trials": len(values), "diverged": len(values) - len(known)})
    return sorted(rows, key=lambda row: -np.inf if row["mean"] is None else sign * row["mean"], reverse=True)


def check_axes(config: ConfigDict, axes: Mapping[str, Sequence[Any]]) -> None:
    """Raises ConfigError for a field that the config doesn't have (the near one is suggested by ``validate``)."""
    for field in axes:
        if field.removeprefix("data.") in FIELDS or field == "data.seed":
            raise ConfigError(f"--sweep: the trials of a sweep share one corpus, config.{field} can't differ")
        part: Any = config
        *path, _ = field.split(".")
        for step in path:
            if not isinstance(part, ConfigDict) or step not in part:
                raise ConfigError(f"--sweep: config.{field} is no field; config has no {step!r} there")
            part = part[step]
    if "data.fold" in axes:
        if config.data.folds < 2:
            raise ConfigError("--sweep over data.fold needs --config.data.folds=K with K >= 2, got " + str(config.data.folds))
        wrong = [fold for fold in axes["data.fold"] if not 0 <= fold < config.data.folds]
        if wrong:
            raise ConfigError(f"--sweep: data.fold must lie in 0..{config.data.folds - 1}, got {wrong[0]}")

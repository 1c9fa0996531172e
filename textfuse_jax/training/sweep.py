"""Many trials as one program: the step mapped by ``jax.vmap`` over seeds, rates, decays, dropout, alpha, gamma, folds.

A trial is the config with a few of its fields set. Fields of ``TRACED`` become traced scalars: one compiled step and one pass
over the data train all their combinations side by side. Other fields change shapes or the program; their combinations
are trained one after another, each with all its traced trials. All trials see the documents in the same order (the order
of ``config.data.seed``), so that a trial ends where a run of its config alone does; but for folds of cascades, which share
batches of all cascades and leave out their own test and validation cascades: alone, these would not be in the batches.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.config_checks import ConfigError
from textfuse_jax.data.corpus import TEST, TRAIN, VALIDATION
from textfuse_jax.data.pipeline import Batches
from textfuse_jax.evaluation.metrics import selection_metrics
from textfuse_jax.training.compilation import Compiled
from textfuse_jax.training.grid import Trial, with_fields
from textfuse_jax.training.inference import predict_logits, to_probabilities
from textfuse_jax.training.losses import class_shares, make_loss
from textfuse_jax.training.material import Material
from textfuse_jax.training.optimizer import make_optimizer
from textfuse_jax.training.parallel import make_mesh, replicate, spread
from textfuse_jax.training.step import NEVER, TrainState, init_state, learned, make_step, unflatten, zero_sums

WORTH_COMPILING = 3000
"""Steps of trials that would be taken in vain: from so many on the trials that go on get a program of their own."""


class Trials:
    """A program that trains ``count`` trials side by side; ``run`` it with their values, again and again.

    Args:
      config: what the trials have in common.
      material: from ``setup.prepare``.
      fields: the traced fields that ``run`` sets.
      count: trials a run. Where it is a multiple of ``config.parallel.devices``, they are divided over these.
      say: takes lines of progress.

    Attributes:
      seconds: what the last ``run`` took, evaluations included, compilation not.
    """

    def __init__(self, config: ConfigDict, material: Material, fields: Sequence[str], count: int, say: Callable[[str], None]):
        self.config, self.material, self.fields, self.count, self._say = config, material, tuple(fields), count, say
        self.seconds = 0.0
        self._mesh = make_mesh(config.parallel.devices)
        if count % self._mesh.size:
            say(f"{count} trials are no multiple of {self._mesh.size} devices: one device trains them")
            self._mesh = make_mesh(1)
        self.folds = material.folds(config) if "data.fold" in self.fields else None
        own = self.folds.split if self.folds else "train"
        self._batches = material.train_batches(config, own, rows_multiple=config.training.accumulate)
        self._held: dict[str, Batches] = {}
        constants = {name: jnp.asarray(value) for name, value in material.constants().items()}
        self._constants = replicate(constants, self._mesh)
        self._chunk = config.training.trials_at_once if 0 < config.training.trials_at_once < count else 0
        axes = TrainState(step=0, params=0, frozen=None, opt_state=0, average=0, statistics=0, sums=0)
        rows = self._batches.batch(0)
        start = jax.vmap(lambda trial, held: self._parts(trial)[2](rows, held), (0, None), axes, axis_size=count)
        self._start = jax.jit(start)
        self._step: dict[int, Compiled] = {}
        self._forward: dict[int, Compiled] = {}  # by the number of trials, as the step

    def on(self, material: Material) -> Trials:
        """The same trials on other documents of the same classes.

        Behind cached features, with a loss that knows nothing of the training labels, nothing is compiled anew for batches of
        shapes that this program knows.
        """
        loss = self.config.loss
        weighted = loss.class_weights != "none" or loss.logit_adjustment or "loss.logit_adjustment" in self.fields
        if self.folds or weighted or self.config.encoder.mode != "cached":
            return Trials(self.config, material, self.fields, self.count, self._say)
        other = self.reading(material)
        other._batches = material.train_batches(self.config, rows_multiple=self.config.training.accumulate)
        return other

    def reading(self, material: Material) -> Trials:
        """The trained trials, which read the validation split of ``material``: the same training, other held documents."""
        other = copy.copy(self)
        other.material, other._held = material, {}
        return other

    def _parts(self, trial: Trial, steps: int | jax.Array = 1) -> tuple[Callable, Callable, Callable]:
        """Step, forward pass and first state of a trial whose values may be traced; ``steps``: of its schedule."""
        config, material = with_fields(self.config, trial), self.material
        labels, classes = material.corpus.train.labels, len(material.corpus.class_names)
        model = material.make_model(config)
        shares = None
        if self.folds and self.folds.tests:  # each fold trains on cascades of its own
            roles, whole, fold = self.folds.roles, material.split(self.folds.split).labels, trial["data.fold"]
            own = [class_shares(config.loss, whole[(role & TRAIN) > 0], classes) for role in roles]
            shares = jax.tree.map(lambda *each: jnp.stack(each)[fold], *own)
        loss, forward_of = make_loss(config.loss, labels, classes, shares), material.apply(model)

        def optimizer_of(params):
            return make_optimizer(config.optimizer, params, steps, material.layers)

        def start(rows, constants) -> TrainState:
            params = material.init_params(config, model, rows)
            average = self.config.training.average_decay > 0
            fixed = lambda name: name in constants or material.is_frozen(self.config, name)  # noqa: E731
            return init_state(params | constants, fixed, optimizer_of, average)[0]

        def apply(tree, rows, key):
            return forward_of(tree, rows, train=True, rngs={"dropout": key})

        def step(state: TrainState, rows) -> TrainState:
            t = config.training
            taken = make_step(apply, loss, optimizer_of(state.params), t.accumulate, t.average_decay, config.loss.consistency)
            return taken(state, rows, jax.random.key(config.seed + 1))[0]

        def forward(weights, rows):
            return forward_of(unflatten(weights), rows, train=False)

        return step, forward, start

    def _one_step(self, state: TrainState, rows, trial: Trial, steps: jax.Array) -> TrainState:
        if self.folds is not None:
            role = jnp.asarray(self.folds.roles)[trial["data.fold"], jnp.maximum(rows.example, 0)]
            rows = rows.replace(weight=jnp.where(role & TRAIN > 0, rows.weight, 0))
        return self._parts(trial, steps)[0](state, rows)

    def _all_steps(self, state: TrainState, rows, values: Trial, steps: jax.Array) -> TrainState:
        """The step of every trial; frozen parameters are shared, and stay what they are."""
        frozen, own = state.frozen, state.replace(frozen={})
        one = lambda of: self._one_step(of[0].replace(frozen=frozen), rows, of[1], steps).replace(frozen={})  # noqa: E731
        return self._side_by_side(one, (own, values)).replace(frozen=frozen)

    def _all_forward(self, weighted: tuple, rows):
        values, weights, frozen = weighted
        return self._side_by_side(lambda of: self._one_forward((*of, frozen), rows), (values, weights))

    def _side_by_side(self, one: Callable, trials: Any) -> Any:
        """Maps over the leading axis: all trials at once, or ``training.trials_at_once`` after one another."""
        return jax.lax.map(one, trials, batch_size=self._chunk) if self._chunk else jax.vmap(one)(trials)

    def _one_forward(self, one: tuple, rows):
        trial, weights, frozen = one
        return self._parts(trial)[1](weights | frozen, rows)[0]

    def begin(self, trials: Sequence[Trial]) -> tuple[TrainState, dict[str, Any]]:
        """The trials before their first step, and their values as arrays: what ``advance`` takes.

        Raises:
          ValueError: another number of trials than the program's.
          ConfigError: a fold that there isn't.
        """
        if len(trials) != self.count:
            raise ValueError(f"this program trains {self.count} trials at a time, got {len(trials)}")
        wrong = [trial["data.fold"] for trial in trials if self.folds and not 0 <= trial["data.fold"] < len(self.folds.roles)]
        if wrong:
            raise ConfigError(f"data.fold must lie in 0..{len(self.folds.roles) - 1}, the folds there are, got {wrong[0]}")
        values = {field: self._place(np.array([trial[field] for trial in trials])) for field in self.fields}
        state = self._start(values, self._constants)
        placed = {
            field.name: (replicate if field.name == "frozen" else spread)(getattr(state, field.name), self._mesh)
            for field in dataclasses.fields(TrainState)
        }
        return TrainState(**placed), values

    def advance(self, state: TrainState, batch: Any, values: dict[str, Any], steps: int = 0) -> TrainState:
        """One step of every trial on a batch, which they share; ``steps`` of the whole run, 0: as many as there are batches."""
        total = replicate(np.float32(steps or self._batches.total_steps), self._mesh)
        count = len(state.step)
        if count not in self._step:
            self._step[count] = Compiled(jax.jit(self._all_steps, donate_argnums=0), f"step of {count} trials", self._say)
        return self._step[count](state, replicate(batch, self._mesh), values, total)

    def outputs(self, read: Callable[[Any, dict[str, Any]], Any], batch: int = 0) -> Any:
        """``read(rows, out)`` of a batch of the validation split, by the best weights of each trial of the last run.

        Args:
          read: takes the rows and what the model's parts put out; what it returns gets a trial axis.
          batch: which of the batches.
        """
        return self.reader(read)(batch)

    def reader(self, read: Callable[[Any, dict[str, Any]], Any], change: Callable | None = None) -> Callable[[int], Any]:
        """``outputs`` of one batch after another, compiled once.

        Args:
          change: what is done to the rows before the model sees them; ``read`` gets them as they were.
        """
        change = change or (lambda rows: rows)

        def one(trial, weights, frozen, rows):
            return read(rows, self._parts(trial)[1](weights | frozen, change(rows))[1])

        mapped = jax.jit(jax.vmap(one, in_axes=(0, 0, None, None)))
        return lambda batch: jax.device_get(mapped(*self._best, replicate(self.held_rows(batch), self._mesh)))

    def held_rows(self, batch: int = 0) -> Any:
        """A batch of the validation split."""
        return self._batches_of("validation").batch(batch)

    @property
    def held_batches(self) -> int:
        """Number of batches of the validation split."""
        return len(self._batches_of("validation"))

    def _place(self, tree: Any) -> Any:
        """Arrays with a trial axis, the trials over the devices."""
        return spread(tree, self._mesh)

    def run(self, trials: Sequence[Trial], share: float = 1.0) -> list[dict[str, Any]]:
        """Trains the trials; for each a dict of ``trial``, ``validation`` (metrics of its best weights), ``best_step``,
        ``steps`` until it stopped, and ``diverged`` (its loss or gradient became infinite or NaN, its best is from before).

        ``test_logits`` reads the test split with the best weights of the last run.

        Where half of the trials have stopped (``training.patience``) and many steps are left, the others go on by themselves
        (on one device).

        Args:
          trials: as many as the program has.
          share: of the steps: below 1 a shorter run, whose rates fall sooner, not one that is cut off.
        """
        (state, values), config, k = self.begin(trials), self.config, self.count
        best, here = jax.tree.map(jnp.copy, learned(state)), np.arange(k)  # here: the trials that are trained, by their number
        left_behind: list[tuple[np.ndarray, Any]] = []  # (numbers, best weights) of trials that stopped
        score, best_step, worse = np.full(k, -np.inf), np.zeros(k, int), np.zeros(k, int)
        stopped, last_step, metrics = np.zeros(k, bool), np.zeros(k, int), [{} for _ in range(k)]
        diverged, whole = np.zeros(k, bool), values
        clock, compiled, now = time.perf_counter(), self._compile_seconds, 0
        steps = max(1, round(share * self._batches.total_steps))
        epoch_ends, every = np.cumsum(self._batches.steps_per_epoch), config.training.eval_every_steps
        for batch in self._batches:
            state = self.advance(state, batch, values, steps)
            now += 1
            if not (now == steps or (now % every == 0 if every else now in epoch_ends)):
                continue
            found = self._scores(values, learned(state), state.frozen)
            lost = (np.asarray(state.sums["bad_step"]) != NEVER) | np.array([not scores for scores in found])
            diverged[here] |= lost & ~stopped[here]
            state = state.replace(sums=self._place(_repeated(zero_sums(), len(here))))
            better = np.zeros(k, bool)
            for i, scores in zip(here, found):
                if stopped[i]:
                    continue
                last_step[i] = now
                if diverged[i]:
                    continue
                value = -scores["nll"] if config.training.select_by == "nll" else scores[config.training.select_by]
                better[i] = value > score[i]
                if better[i]:
                    score[i], best_step[i], worse[i], metrics[i] = value, now, 0, scores
                else:
                    worse[i] += 1
            best = _choose(self._place(better[here]), learned(state), best)
            stopped |= diverged | ((worse >= config.training.patience) & (config.training.patience > 0))
            left = (time.perf_counter() - clock) / now * (steps - now)
            self._say(
                f"step {now}/{steps}  {k} trials  {config.training.select_by} of the best {np.max(score):.4f}, median "
                f"{np.median(score):.4f}  {stopped.sum()} stopped  {left / 60:.1f} minutes left"
            )
            if stopped.all() or now == steps:
                break
            on = ~stopped[here]
            if self._mesh.size == 1 and 2 * on.sum() <= len(on) and (~on).sum() * (steps - now) >= WORTH_COMPILING:
                left_behind.append((here[~on], _of(best, ~on)))
                state = _of(state.replace(frozen={}), on).replace(frozen=state.frozen)
                here, best, values = here[on], _of(best, on), _of(values, on)
        if left_behind:
            numbers, weights = zip(*left_behind, (here, best))
            order = np.argsort(np.concatenate(numbers))
            best = jax.tree.map(lambda *parts: jnp.concatenate(parts)[order], *weights)
        self._best = whole, jax.block_until_ready(best), state.frozen
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
        name = self.folds.split if self.folds else "validation"
        labels = self.material.split(name).labels
        probabilities = to_probabilities(self._logits(name, values, weights, frozen), self.material.corpus.multi_label)
        found = []
        for i, p in enumerate(probabilities):
            here = self._rows_of(VALIDATION, int(values["data.fold"][i])) if self.folds else slice(None)
            found.append(selection_metrics(labels[here], p[here]) if np.isfinite(p).all() else {})
        return found

    def _rows_of(self, role: int, fold: int) -> np.ndarray:
        """The documents that are this to a fold."""
        return np.flatnonzero(self.folds.roles[fold] & role)

    def _batches_of(self, name: str) -> Batches:
        if name not in self._held:
            self._held[name] = self.material.held_batches(self.config, name)
        return self._held[name]

    def _logits(self, name: str, values, weights, frozen) -> np.ndarray:
        """Logits f32 [k, n, c] of a split."""
        corpus, one = self.material.corpus, make_mesh(1)
        size, count = len(self.material.split(name)), len(next(iter(values.values())))
        if count not in self._forward:
            self._forward[count] = Compiled(jax.jit(self._all_forward), f"evaluation of {count} trials", self._say)
        forward = lambda params, rows: self._forward[count](params, replicate(rows, self._mesh))  # noqa: E731
        batches = self._batches_of(name)
        classes, shown = len(corpus.class_names), f"  {name}, batches"
        return predict_logits(forward, (values, weights, frozen), batches, size, classes, one, (count,), shown)

    @property
    def parameters(self) -> int:
        """Trained parameters of one trial; known after ``run``."""
        return sum(x.size for x in jax.tree.leaves(self._best[1])) // self.count

    @property
    def _compile_seconds(self) -> float:
        return sum(compiled.seconds for compiled in (*self._step.values(), *self._forward.values()))

    def weights_of(self, trial: int) -> dict[str, np.ndarray]:
        """Flat parameters of one trial of the last run, the best on validation and those that aren't trained."""
        _, weights, frozen = self._best
        trained = {name: value for name, value in frozen.items() if name not in self._constants}
        return jax.device_get(jax.tree.map(lambda x: x[trial], weights) | trained)

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
        return self._logits(self.test_split, values, weights, frozen)

    @property
    def test_split(self) -> str:
        """The split that ``test_logits`` are of: "test", or that of the folds, of which each trial is tested on its own part."""
        return self.folds.split if self.folds and self.folds.tests else "test"

    def tested(self, trial: Trial) -> np.ndarray:
        """The documents of ``test_split`` that are a trial's test documents."""
        if self.folds and self.folds.tests:
            return self._rows_of(TEST, int(trial["data.fold"]))
        return np.arange(len(self.material.split("test")))

    def train_logits(self) -> np.ndarray:
        """Logits f32 [k, n, c] of the training split by the best weights of the last run; of a fold's trial, also of its fold."""
        return self._logits("train", *self._best)


def _repeated(tree: Any, count: int) -> Any:
    """Numbers, each so many times."""
    return jax.tree.map(lambda x: np.broadcast_to(x, (count,)), tree)


def _of(tree: Any, chosen: np.ndarray) -> Any:
    """The chosen trials of arrays that have one axis for them."""
    return jax.tree.map(lambda x: x[np.flatnonzero(chosen)], tree)


@jax.jit
def _choose(better: jax.Array, new: Any, old: Any) -> Any:
    """Trial by trial the new weights where they are better."""
    return jax.tree.map(lambda a, b: jnp.where(better.reshape(-1, *([1] * (a.ndim - 1))), a, b), new, old)

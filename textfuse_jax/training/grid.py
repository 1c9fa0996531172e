"""Trials of a sweep: the combinations of a config's fields, which of them one program can train, and what they add up to."""

from __future__ import annotations

import ast
import fnmatch
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.config_checks import ConfigError
from textfuse_jax.data import cascade_protocols
from textfuse_jax.data.cascade_sets import SOURCES as CASCADES
from textfuse_jax.data.sources import FIELDS

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
    "model.wide_args.scale",
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
    switch = field == "loss.consistency" or field.endswith("dropout")
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
    shared = {f"data.{name}" for name in (*FIELDS, "seed")} | {f"cascades.{name}" for name in cascade_protocols.FIELDS}
    for field in axes:
        if field in shared:
            raise ConfigError(f"--sweep: the trials of a sweep share one corpus, config.{field} can't differ")
        part: Any = config
        *path, _ = field.split(".")
        for step in path:
            if not isinstance(part, ConfigDict) or step not in part:
                raise ConfigError(f"--sweep: config.{field} is no field; config has no {step!r} there")
            part = part[step]
    if "loss.focal_gamma" in axes and config.loss.name != "focal":
        raise ConfigError(f'--sweep: loss.focal_gamma changes nothing unless loss.name is "focal", got {config.loss.name!r}')
    if config.parallel.engine != "jit" or config.parallel.sharding:
        raise ConfigError('--sweep divides trials over devices: config.parallel.engine must be "jit", parallel.sharding empty')
    if "data.fold" in axes and (config.data.source not in CASCADES or config.cascades.protocol == "folds"):
        if config.data.folds < 2:
            raise ConfigError("--sweep over data.fold needs --config.data.folds=K with K >= 2, got " + str(config.data.folds))
        wrong = [fold for fold in axes["data.fold"] if not 0 <= fold < config.data.folds]
        if wrong:
            raise ConfigError(f"--sweep: data.fold must lie in 0..{config.data.folds - 1}, got {wrong[0]}")

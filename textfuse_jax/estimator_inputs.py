"""What the estimators take: texts in lists, arrays and frames, and configs as objects, files or keywords; checked and named."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import pathlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from textfuse_jax import config as configs
from textfuse_jax.config_checks import ConfigError
from textfuse_jax.data.checks import normalised
from textfuse_jax.data.corpus import DataError


def ids_of(texts: Sequence[str]) -> list[str]:
    """A digest of each text, by which stored answers are found again whatever stands beside it; copies are numbered."""
    seen: Counter[str] = Counter()
    names = []
    for text in texts:
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def without_copies(texts: Sequence[str], kept: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The rows of ``kept`` whose text isn't that of a held-out row, with a warning of the others.

    Raises:
      DataError: none is left.
    """
    known = {normalised(texts[i]): i for i in held}
    twins = {i: known[normalised(texts[i])] for i in kept if normalised(texts[i]) in known}
    if twins:
        one, other = next(iter(twins.items()))
        told = f"{len(twins)} of {len(kept)} training texts are also held out for validation (row {one} is that of row {other})"
        if len(twins) == len(kept):
            raise DataError(f"{told}; a classifier needs different texts")
        warnings.warn(f"{told} and were left out of training", stacklevel=4)
    return np.array([i for i in kept if i not in twins], np.int64)


def check_index(X: Any, y: Any) -> None:
    """Raises DataError where both are of pandas and their indexes differ: rows would be joined by position."""
    if not (hasattr(X, "iloc") and hasattr(y, "iloc")) or X.index.equals(y.index):
        return
    if len(X) == len(y):
        row = next((i for i, (a, b) in enumerate(zip(X.index, y.index)) if a != b), 0)
        raise DataError(
            f"row {row}: the text has index {X.index[row]!r}, the label {y.index[row]!r}; bring both into one order "
            "(y.loc[X.index]), or pass y.to_numpy() where rows belong together as they stand"
        )


def texts_of(X: Any, columns: Sequence[str]) -> tuple[list[str], Any]:
    """Texts of a list, array, Series or DataFrame, and the pandas index (None for others).

    Raises:
      DataError: a DataFrame without the columns, a value that isn't text; the row is named.
    """
    index = getattr(X, "index", None) if hasattr(X, "iloc") else None
    if hasattr(X, "columns"):
        for name in columns:
            if name not in X.columns:
                near = difflib.get_close_matches(name, list(map(str, X.columns)), n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise DataError(
                    f"the frame has no column {name!r}{hint}; name its text by text_columns=(...), it has {list(X.columns)}"
                )
        values = [" ".join(_text(value, i) for value in row) for i, row in enumerate(zip(*(X[name] for name in columns)))]
        return values, index
    if isinstance(X, str):
        raise DataError(f"texts must be a list, array, Series or DataFrame, got the one text {X[:40]!r}; put it in a list")
    values = np.asarray(X, object)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    return [_text(value, i) for i, value in enumerate(values)], index


def _text(value: Any, row: int) -> str:
    if not isinstance(value, str):
        raise DataError(f"row {row}: a text is needed, got {value!r} ({type(value).__name__}); fill it in or leave the row out")
    return value


def default_classifier() -> ConfigDict:
    """Minutes on two cores: means of three layers of frozen MiniLM and the words themselves, no graph."""
    config = configs.default_config()
    config.name = "estimator"
    config.encoder.mode = "cached"
    config.model.pyramid, config.model.propagate, config.model.edges = "", "", ()
    config.model.document_taps = ("02/document", "04/document", "06/document")
    config.model.lexical, config.model.lexical_args.width = "textfuse_jax.models.lexical:BagOfNgrams", 64
    config.model.head_args.dropout = 0.5
    config.optimizer.learning_rate, config.optimizer.weight_decay = 3e-3, 0.5
    config.training.total_epochs, config.training.average_decay = 8, 0.99
    config.training.checkpoint_every_steps = 10_000  # at the end: epochs take seconds
    config.evaluation.graphs = 0
    return config


def make_config(base: Any, overrides: Mapping[str, Any] | None, multi_label: bool, seed: int | None) -> ConfigDict:
    """A config from a ConfigDict, a file with ``get_config()`` or nothing, with fields replaced; the loss fits the labels.

    Raises:
      ConfigError: a field that there isn't.
    """
    if isinstance(base, (str, pathlib.Path)):
        base = config_of_file(pathlib.Path(base))
    config = default_classifier() if base is None else base.copy_and_resolve_references()
    if seed is not None:
        config.seed, config.data.seed = seed, -1
    if multi_label != (config.loss.name == "binary"):
        config.loss.name = "binary" if multi_label else "cross_entropy"
    replace(config, overrides or {})
    return config


def replace(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Sets fields by their path, e.g. ``{"training.total_epochs": 3}``.

    Raises:
      ConfigError: a field that there isn't.
    """
    for field, value in overrides.items():
        part: Any = config
        *path, name = field.split(".")
        for step in path:
            if not isinstance(part, ConfigDict) or step not in part:
                raise ConfigError(f"overrides: config.{field} is no field; there is no {step!r}")
            part = part[step]
        with part.ignore_type():
            part[name] = ConfigDict(dict(value)) if isinstance(value, Mapping) else value


def config_of_file(path: pathlib.Path) -> ConfigDict:
    """``get_config()`` of a Python file, as launch.py reads it; the user's own code, unlike what ``load`` reads.

    Raises:
      ConfigError: no such file, or none that makes a config.
    """
    if not path.is_file():
        raise ConfigError(f"config: no file {path}; python -m textfuse_jax.fusion create-config {path} writes one")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"config: {path} has no get_config()")
    return module.get_config()

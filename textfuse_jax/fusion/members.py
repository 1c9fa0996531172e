"""The encoder's opinion of every document, stored and resumable.

The fusion is trained on what the encoder says of training documents it has **not** seen, as it will be at test time: the training
split is cut into folds and each is predicted by an encoder trained on the others. Validation and test are predicted by the
encoder trained on the whole training split. A frozen encoder's folds are trained side by side (``sweep.Trials`` over
``data.fold``); a tuned one's one after another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from textfuse_jax.config import data_seed
from textfuse_jax.data.corpus import Corpus, DataError, stratified_split
from textfuse_jax.evaluation.records import write_json
from textfuse_jax.experiment import with_dtype
from textfuse_jax.training import export, setup, sweep
from textfuse_jax.training.loop import train
from textfuse_jax.training.parallel import leads
from textfuse_jax.training.progress import StopSignals

LEARNS = ("seed", "encoder", "model", "loss", "optimizer", "training")
"""Parts of a config that, with the documents, decide what an encoder says; a stored opinion of others is not taken."""

FOLD_VALIDATION = 500
"""Enough to choose an epoch by; each is evaluated on them."""
Logits = dict[str, Float[np.ndarray, "n c"]]
"""Split (train, validation, test) -> the encoder's logits; those of train out of fold."""


def encoder_logits(config: ConfigDict, corpus: Corpus, workdir: pathlib.Path, stop: StopSignals, say: Callable = print) -> Logits:
    """Trains the encoder on the whole training split and on each fold's complement; what is stored is not trained again.

    Args:
      config: validated; ``fusion.folds`` says how many folds, at least 2.
      corpus: the documents; the test split is predicted once, by the encoder of the whole training split.
      workdir: ``encoder/`` (a finished model and its checkpoints) and ``folds/`` are written below.
      stop: tells whether a signal asked for an end.
      say: takes lines of progress.

    Returns:
      The logits of every split; those of ``train`` are out of fold.

    Raises:
      as ``loop.train``; Interrupted leaves the state from which a second call goes on.
    """
    whole = opinion(config, corpus, workdir / "encoder", stop, say, keep=True)
    if config.encoder.mode == "cached":
        held = _frozen_folds(config, corpus, workdir / "folds", say)
    else:
        held = _tuned_folds(config, corpus, workdir / "folds", stop, say)
    return {"train": held, "validation": whole["validation"], "test": whole["test"]}


def opinion(
    config: ConfigDict, corpus: Corpus, folder: pathlib.Path, stop: StopSignals, say: Callable = print, keep: bool = False
) -> Logits:
    """Logits of validation and test of an encoder trained on a corpus, from ``folder/logits.npz`` or computed now.

    Args:
      keep: whether the finished model stays in ``folder/model``; without, its checkpoints are removed too.

    Raises:
      DataError: the folder holds a training of other settings or documents.
    """
    key = key_of(config, corpus)
    stored = read_logits(folder, key)
    if stored is not None and (not keep or (folder / "model").exists()):
        return stored
    folder.mkdir(parents=True, exist_ok=True)
    with_key = folder / "key.txt"
    if with_key.exists() and with_key.read_text(encoding="utf-8") != key:
        raise DataError(f"{folder} holds an encoder of other settings or documents; take another folder, or remove this one")
    with_key.write_text(key, encoding="utf-8")
    trained = train(config, corpus, folder, stop, say)
    if leads():
        write_json(folder / "training.json", trained["training"])
    if keep:
        export.save(folder / "model", with_dtype(config), trained)  # it says the same wherever it is loaded
    else:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return store_logits(folder, key, trained["logits"])


def fold_corpora(corpus: Corpus, folds: int, seed: int) -> list[tuple[np.ndarray, Corpus]]:
    """For each fold its documents' indices in the training split, and the corpus whose test split they are.

    A fold's best weights are chosen on at most ``FOLD_VALIDATION`` of the validation documents.
    """
    fold = setup.folds_of(corpus.train, folds, seed)
    if len(corpus.validation) > FOLD_VALIDATION:
        _, few = stratified_split(corpus.validation.labels, FOLD_VALIDATION, seed)
        corpus = dataclasses.replace(corpus, validation=corpus.validation.take(few))
    parts = []
    for k in range(folds):
        held, rest = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
        parts.append((held, dataclasses.replace(corpus, train=corpus.train.take(rest), test=corpus.train.take(held))))
    return parts


def _tuned_folds(config: ConfigDict, corpus: Corpus, folder: pathlib.Path, stop: StopSignals, say: Callable) -> np.ndarray:
    logits = np.zeros((len(corpus.train), len(corpus.class_names)), np.float32)
    for k, (held, part) in enumerate(fold_corpora(corpus, config.fusion.folds, data_seed(config))):
        say(f"fold {k + 1} of {config.fusion.folds}: {len(part.train):,} training documents, {len(held):,} held out")
        logits[held] = opinion(config, part, folder / f"fold_{k}", stop, say)["test"]
    return logits


def _frozen_folds(config: ConfigDict, corpus: Corpus, folder: pathlib.Path, say: Callable) -> np.ndarray:
    """All folds as one program on cached features; weights are those of the last step, nothing is chosen on a fold."""
    folds = config.fusion.folds
    key = key_of(config, corpus) + f"-{folds}"
    stored = read_logits(folder, key)
    if stored is not None:
        return stored["train"]
    config = config.copy_and_resolve_references()
    config.data.folds, config.data.seed = folds, data_seed(config)
    config.training.eval_every_steps, config.training.patience = 2**31 - 1, 0
    program = sweep.Trials(config, setup.prepare(config, corpus, say), ["data.fold"], folds, say)
    say(f"{folds} folds side by side")
    program.run([{"data.fold": k} for k in range(folds)])
    fold = setup.folds_of(corpus.train, folds, config.data.seed)
    logits = program.train_logits()[fold, np.arange(len(fold))]
    return store_logits(folder, key, {"train": logits})["train"]


def key_of(config: ConfigDict, corpus: Corpus) -> str:
    """A digest of all that an encoder's opinion depends on: settings, and documents of all splits in order."""
    told = {name: json.loads(config.to_json_best_effort())[name] for name in LEARNS}
    cut = ("max_length", "long_documents", "window_stride", "phrase_length", "row_lengths", "tokens_per_batch", "packed")
    told |= {name: config.data[name] for name in cut} | {"data_seed": data_seed(config)}
    return hashlib.sha256((json.dumps(told, sort_keys=True, default=list) + corpus.fingerprint()).encode()).hexdigest()


def read_logits(folder: pathlib.Path, key: str) -> Logits | None:
    """The stored logits, None where there are none or they are of other settings or documents."""
    path = folder / "logits.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files if name != "key"} if str(file["key"]) == key else None


def store_logits(folder: pathlib.Path, key: str, logits: Logits) -> dict[str, Any]:
    """Writes logits whole or not at all; returns them as they will be read."""
    logits = {name: np.asarray(values, np.float32) for name, values in logits.items()}
    if leads():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "logits.part.npz"
        np.savez_compressed(part, key=key, **logits)
        part.replace(folder / "logits.npz")
    return logits

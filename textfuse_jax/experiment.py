"""One experiment from config to run folder: check, train, evaluate, report, export. ``launch.py`` and studies call it.

The run folder holds config.json, environment.json, metrics.jsonl, checkpoints/, predictions.csv, result.json, report.md,
figures/*.png and model/ (all that ``textfuse_jax.predict`` needs).
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from textfuse_jax.config import default_config
from textfuse_jax.config_checks import ConfigError, validate
from textfuse_jax.data.corpus import DataError, DataNotFound
from textfuse_jax.encoders.checkpoints import CheckpointNotFound
from textfuse_jax.encoders.linear import product_dtype
from textfuse_jax.evaluation.records import environment, write_json
from textfuse_jax.llm.budget import DryRun
from textfuse_jax.llm.cache import CacheError
from textfuse_jax.llm.providers import ProviderError
from textfuse_jax.llm.replay import ReplayError
from textfuse_jax.training import export, setup
from textfuse_jax.training.checkpoints import all_steps
from textfuse_jax.training.loop import train
from textfuse_jax.training.parallel import any_process, leads, wait
from textfuse_jax.training.progress import EXIT_INTERRUPTED, Interrupted, NotFinite, StopSignals
from textfuse_jax.training.summary import summarize


class RunFolderError(ValueError):
    """The run folder holds another run, or no run where one was to be resumed."""


USER_ERRORS = (
    ConfigError,
    DataError,
    DataNotFound,
    CheckpointNotFound,
    RunFolderError,
    NotFinite,
    ProviderError,
    CacheError,
    ReplayError,
)
"""Faults that a message explains better than a traceback."""

__all__ = ["EXIT_INTERRUPTED", "USER_ERRORS", "Interrupted", "RunFolderError", "read_config", "run"]


def run(config: ConfigDict | None, workdir: pathlib.Path, resume: bool = False, say: Callable[[str], None] | None = None) -> dict:
    """Runs, or goes on with, an experiment.

    Args:
      config: None with ``resume`` takes the run folder's own.
      workdir: the run folder, made where it isn't there.
      resume: go on from the newest checkpoint (from the start where the run had none yet).
      say: takes lines of progress; default prints them.

    Returns:
      What stands in result.json; {} in processes that don't lead, and of a dry run.

    Raises:
      one of USER_ERRORS: a fault in config, data, checkpoint or run folder.
      Interrupted: a signal came; the state is saved.
    """
    say = say or (lambda line: print(line, flush=True) if leads() else None)
    config = open_folder(config, workdir, resume)
    wait("run folder read")
    validate(config)
    finished = workdir / "result.json"
    if finished.exists():
        say(f"{workdir} holds a finished run; nothing to do")
        return json.loads(finished.read_text())
    if leads():
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", json.loads(config.to_json_best_effort()))
    with StopSignals() as stop:
        corpus = setup.load_corpus(config)
        for warning in corpus.warnings:
            say(f"warning: {warning}")
        if leads() and not (workdir / "metrics.jsonl").exists():  # a resumed run keeps the environment of its start
            write_json(workdir / "environment.json", environment() | {"fingerprint": corpus.fingerprint()})
        if config.fusion.combiner:
            from textfuse_jax.fusion.experiment import run_fusion  # it needs this module's errors and configs

            result = run_fusion(config, corpus, workdir, stop, say)
            if result:
                say(f"report: {workdir / 'report.md'}")
            return result
        try:
            trained = train(config, corpus, workdir, stop, say)
        except DryRun as told:
            say(str(told))
            return {}
        except ValueError as error:
            if isinstance(error, USER_ERRORS) or (workdir / "metrics.jsonl").exists():
                raise
            raise ConfigError(str(error)) from error  # before the first step: parts or data that the config joins wrongly
        export.save(workdir / "model", config, trained)
        result = {}
        if leads():
            result = summarize(config, workdir, trained, say)
            write_json(finished, result)  # last: its presence says that the run is whole
        wait("report written")
    say(f"report: {workdir / 'report.md'}")
    return result


def open_folder(config: ConfigDict | None, workdir: pathlib.Path, resume: bool) -> ConfigDict:
    """The config to run with; makes sure that a folder holds one run only.

    A folder whose run never took a step (a fault in its config, no data) may be used anew.

    Raises:
      RunFolderError: the folder holds a run and ``resume`` isn't set, or none and it is; the stored config differs, field by
        field.
    """
    stored = workdir / "config.json"
    if resume and not stored.exists():
        raise RunFolderError(f"{workdir} holds no run to resume (no config.json); start one with --config=configs/NAME.py")
    begun = (workdir / "metrics.jsonl").exists() or bool(all_steps(workdir / "checkpoints"))
    if not resume:
        if begun and stored.exists():
            raise RunFolderError(f"{workdir} holds a run already; add --resume to go on with it, or take another --workdir")
        return with_dtype(config)
    before = with_dtype(read_config(stored))
    if config is not None:
        config = with_dtype(config, before.encoder.dtype)
        before.parallel.update(config.parallel)  # a run may move between devices and engines
    differ = [] if config is None else differences(before, config)
    if differ:
        told = [f"{workdir} holds a run of another config; leave --config out to go on with it:", *differ]
        raise RunFolderError("\n  ".join(told))
    return before


def with_dtype(config: ConfigDict, known: str = "") -> ConfigDict:
    """The config with an ``encoder.dtype`` that isn't "auto": a run keeps one on whatever device it, or its model, goes on.

    Args:
      known: of a run that is gone on with; "": what is fast on the devices of all processes.
    """
    if config.encoder.dtype != "auto":
        return config
    config = config.copy_and_resolve_references()
    config.encoder.dtype = known or ("float32" if any_process(product_dtype("auto") == "float32") else "bfloat16")
    return config


def read_config(path: pathlib.Path) -> ConfigDict:
    """The config from a run's config.json."""
    return config_of(json.loads(path.read_text()))


def config_of(stored: dict[str, Any]) -> ConfigDict:
    """A config from its JSON form; lists become tuples again."""

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: tuples(v) for k, v in value.items()}
        return tuple(tuples(v) for v in value) if isinstance(value, list) else value

    config = default_config()
    config.update(ConfigDict(tuples(stored)))
    return config


def differences(before: ConfigDict, now: ConfigDict) -> list[str]:
    """Fields in which two configs differ, ``field: before -> now``."""

    def flat(config: Any, prefix: str = "config") -> dict[str, Any]:
        found = {}
        for key, value in config.items():
            found |= flat(value, f"{prefix}.{key}") if isinstance(value, dict) else {f"{prefix}.{key}": value}
        return found

    a, b = (flat(json.loads(c.to_json_best_effort())) for c in (before, now))
    return [f"{key}: {a.get(key)!r} -> {b.get(key)!r}" for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]

"""One sweep from config to folder: ``launch.py --config=... --sweep="seed=0..4; optimizer.learning_rate=1e-4,1e-3"``.

The folder holds config.json, environment.json, sweep.jsonl (a line a trial), and at the end result.json, sweep.md and
figures/sweep.png. The setting with the best mean on validation is chosen; only its trials read the test split, at the end.
"""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.config import data_seed
from textfuse_jax.config_checks import ConfigError, validate
from textfuse_jax.data.corpus import Corpus
from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.metrics import classification_metrics
from textfuse_jax.evaluation.records import append_result, environment, hardware, write_json
from textfuse_jax.evaluation.report import REFERENCES, markdown_table, rewritten
from textfuse_jax.experiment import RunFolderError, differences, read_config, with_dtype
from textfuse_jax.llm.budget import DryRun
from textfuse_jax.training import setup
from textfuse_jax.training.grid import check_axes, groups, parse_sweep, setting_of, summary_of, tupled, with_fields
from textfuse_jax.training.inference import to_probabilities
from textfuse_jax.training.progress import Interrupted, StopSignals
from textfuse_jax.training.sweep import Trials

METRICS = ("accuracy", "f1_macro", "auc_ovr", "nll")
READ = {
    "validation": "which only they have read:",
    "test": "which also chose the epoch of each, as published figures of cascades do:",
}


def run_sweep(
    config: ConfigDict, text: str, workdir: pathlib.Path, resume: bool = False, say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Trains every trial of a sweep, chooses the best setting on validation and reads the test split with its trials.

    Args:
      config: what the trials have in common; ``config.data.seed`` is set to the config's seed, so that all trials share splits.
      text: as ``parse_sweep`` reads it.
      workdir: the sweep's folder.
      resume: go on with the groups of trials that the folder lacks.
      say: takes lines of progress; default prints them.

    Returns:
      What stands in result.json; nothing after ``llm.dry_run``.

    Raises:
      ConfigError: a fault in the sweep or in the config of one of its trials; told before anything is computed.
      RunFolderError: the folder holds another sweep.
      Interrupted: a signal came; the groups that are done are stored.
    """
    say = say or (lambda line: print(line, flush=True))
    try:
        with StopSignals():
            return _run(config, text, workdir, resume, say)
    except DryRun as told:
        say(str(told))
        return {}
    except Interrupted as stop:
        raise Interrupted("stopped by a signal; the groups of trials that are done are stored") from stop


def _run(config: ConfigDict, text: str, workdir: pathlib.Path, resume: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """``run_sweep`` without its handling of signals."""
    axes = parse_sweep(text)
    config = config.copy_and_resolve_references()
    config.data.seed = data_seed(config)
    stored = workdir / "config.json"
    config = with_dtype(config, with_dtype(read_config(stored)).encoder.dtype if resume and stored.exists() else "")
    check_axes(config, axes)
    parts = groups(axes)
    for fixed, trials in parts:
        for trial in trials:
            try:
                validate(with_fields(config, fixed | trial))
            except ConfigError as error:
                raise ConfigError(f"--sweep, trial {fixed | trial}: {error}") from error
    lines = workdir / "sweep.jsonl"
    _open(config, text, workdir, resume)
    finished = workdir / "result.json"
    if finished.exists():
        say(f"{workdir} holds a finished sweep; nothing to do")
        return json.loads(finished.read_text(encoding="utf-8"))
    results = _stored(lines, parts)
    corpus = setup.load_corpus(config)
    for warning in corpus.warnings:
        say(f"warning: {warning}")
    facts = environment() | {"fingerprint": corpus.fingerprint()}
    write_json(workdir / "environment.json", facts)
    metric, kept, start = config.training.select_by, None, time.perf_counter()
    for number, (fixed, trials) in enumerate(parts, 1):
        say(f"group {number}/{len(parts)}: {len(trials)} trials" + (f" with {fixed}" if fixed else ""))
        here = [result for result in results if fixed.items() <= result["trial"].items()]
        done = len(here) == len(trials)
        if done and summary_of(results, metric)[0]["setting"] not in [dict(setting_of(fixed | t)) for t in trials]:
            continue  # stored before, and not the group whose weights are needed at the end
        part = with_fields(config, fixed)
        try:
            program = Trials(part, setup.prepare(part, corpus, say, run=workdir), list(trials[0]), len(trials), say)
        except ValueError as error:  # parts or data that the config joins wrongly
            raise ConfigError(f"--sweep, {fixed or 'every trial'}: {error}") from error
        found = program.run(trials)
        for result in found:
            result["trial"] = fixed | result["trial"]
            if not done:
                results.append(result)
                append_result(lines, result)
        best = summary_of(results, metric)[0]["setting"]
        chosen = [i for i, trial in enumerate(trials) if dict(setting_of(fixed | trial)) == best]
        if chosen:
            kept = program, chosen, [fixed | trials[i] for i in chosen]
    summary = summary_of(results, metric)
    if kept is None or summary[0]["mean"] is None:
        raise ConfigError(f"--sweep: no setting without a trial that diverged; {lines} tells which, lower the learning rates")
    tests, pooled = _test(*kept, corpus)
    result = {
        "config": config.name,
        "sweep": text,
        "commit": facts["git"]["commit"],
        "hardware": hardware(facts),
        "fingerprint": corpus.fingerprint(),
        "select_by": metric,
        "trials": len(results),
        "seconds": round(time.perf_counter() - start, 1),
        "settings": summary,
        "chosen": summary[0]["setting"],
        "test": {name: _spread([t["test"][name] for t in tests]) for name in METRICS if tests[0]["test"].get(name) is not None},
        "test_trials": tests,
        "pooled": pooled,
        "reference": kept[0].material.references(folds=True) if pooled and config.evaluation.reference else {},
        "notes": kept[0].material.notes(),
    }
    figure = figures.sweep_dots([_label(row["setting"]) for row in summary], _values(results, summary, metric), metric)
    figures.save(figure, workdir / "figures" / "sweep.png")
    (workdir / "sweep.md").write_text(_report(result, config), encoding="utf-8")
    write_json(workdir / "result.json", result)
    say(_report(result, config))
    return result


def _test(
    program: Trials, chosen: list[int], trials: list[dict], corpus: Corpus
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Test metrics of the chosen of the program's trials, with their best weights; where each fold tests its own documents also
    those of all folds' predictions together, over seeds."""
    labels = program.material.split(program.test_split).labels
    probabilities, tests = to_probabilities(program.test_logits(chosen), corpus.multi_label), []
    for p, trial in zip(probabilities, trials):
        mine = program.tested(trial)
        scores = classification_metrics(labels[mine], p[mine], corpus.class_names)
        tests.append({"trial": trial, "test": {name: scores[name] for name in ("n", *METRICS) if name in scores}})
    found = [
        classification_metrics(labels[rows], p, corpus.class_names) for rows, p in out_of_fold(program, trials, probabilities)
    ]
    if not found:
        return tests, None
    return tests, {name: _spread([f[name] for f in found]) for name in METRICS if found[0].get(name) is not None}


def out_of_fold(program: Trials, trials: list[dict], probabilities: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each seed the documents that one of its folds tested, and the probabilities that this fold gave them; [] where folds
    don't test documents of their own."""
    if not (program.folds and program.folds.tests):
        return []
    found = []
    for seed in dict.fromkeys(trial.get("seed") for trial in trials):
        together, covered = np.zeros_like(probabilities[0]), np.zeros(probabilities.shape[1], bool)
        for p, trial in zip(probabilities, trials):
            if trial.get("seed") == seed:
                mine = program.tested(trial)
                together[mine], covered[mine] = p[mine], True
        rows = np.flatnonzero(covered)
        found.append((rows, together[rows]))
    return found


def _open(config: ConfigDict, text: str, workdir: pathlib.Path, resume: bool) -> None:
    """Makes sure that the folder holds this sweep or nothing."""
    stored, sweep = workdir / "config.json", workdir / "sweep.txt"
    if stored.exists() and (resume or (workdir / "sweep.jsonl").exists() or (workdir / "metrics.jsonl").exists()):
        if not resume:
            raise RunFolderError(f"{workdir} holds a run; add --resume to go on with its sweep, or take another --workdir")
        before = sweep.read_text(encoding="utf-8") if sweep.exists() else ""
        differ = differences(read_config(stored), config)
        if differ or before != text:
            raise RunFolderError("\n  ".join([f"{workdir} holds another sweep ({before!r}):", *differ]))
        return
    workdir.mkdir(parents=True, exist_ok=True)
    sweep.write_text(text, encoding="utf-8")
    write_json(stored, json.loads(config.to_json_best_effort()))


def _stored(lines: pathlib.Path, parts: list[tuple[dict, list[dict]]]) -> list[dict[str, Any]]:
    """The results of the groups that are stored whole; lines of a group that was cut short are removed from the file."""
    found = []
    for line in lines.read_text(encoding="utf-8").splitlines() if lines.exists() else []:
        try:
            result = json.loads(line)
        except json.JSONDecodeError:
            break
        found.append(result | {"trial": {field: tupled(value) for field, value in result["trial"].items()}})
    whole = []
    for fixed, trials in parts:
        here = [result for result in found if fixed.items() <= result["trial"].items()]
        whole += here if len(here) == len(trials) else []
    if lines.exists() and len(whole) < len(lines.read_text(encoding="utf-8").splitlines()):
        part = lines.with_suffix(".part")
        part.write_text("", encoding="utf-8")
        for result in whole:
            append_result(part, result)
        part.replace(lines)
    return whole


def _spread(values: list[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, "n": len(values)}


def _label(setting: dict[str, Any]) -> str:
    return ", ".join(f"{field.rpartition('.')[2]} {value}" for field, value in setting.items()) or "all trials"


def _values(results: list[dict], summary: list[dict], metric: str) -> list[list[float]]:
    """The metric of every trial of each setting of the summary."""
    found = []
    for row in summary:
        mine = [r["validation"] for r in results if dict(setting_of(r["trial"])) == row["setting"]]
        found.append([m[metric] for m in mine if metric in m])
    return found


def _pooled(pooled: dict[str, Any] | None) -> list[str]:
    """The scores of all folds' test predictions together."""
    if not pooled:
        return []
    rows = [[name, spread["mean"], spread["sd"], spread["n"]] for name, spread in pooled.items()]
    return ["Test predictions of all folds together:", markdown_table(["test", "mean", "sd", "seeds"], rows)]


def _references(found: dict[str, dict[str, float]]) -> list[str]:
    """What needs no model, on the same test documents."""
    rows = [[REFERENCES[name], metrics["accuracy"], metrics["f1_macro"]] for name, metrics in found.items()]
    return [markdown_table(["beside it", "accuracy", "f1_macro"], rows)] if rows else []


def _report(result: dict[str, Any], config: ConfigDict) -> str:
    """The sweep in Markdown: settings by their mean on validation, and the chosen one's test metrics."""
    rows = [[_label(row["setting"]), row["mean"], row["sd"], row["trials"]] for row in result["settings"]]
    test = [[name, spread["mean"], spread["sd"], spread["n"]] for name, spread in result["test"].items()]
    overrides = " ".join(f"--config.{field}={value}" for field, value in result["chosen"].items())
    lines = [
        f"# {config.name}: {result['trials']} trials in {result['seconds']:.0f} s",
        f"`{result['sweep']}`",
        markdown_table([f"setting ({result['select_by']} on validation)", "mean", "sd", "trials"], rows),
        "The first setting is chosen. Its trials on the test split, " + READ[result["notes"].get("chosen_on", "validation")],
        markdown_table(["test", "mean", "sd", "trials"], test),
        *_pooled(result["pooled"]),
        *_references(result["reference"]),
        *rewritten(result["notes"]),
        f"The chosen setting alone: `{overrides or 'the config as it is'}` (with `--config.data.seed={config.data.seed}`)",
        "![trials](figures/sweep.png)",
    ]
    return "\n\n".join(lines) + "\n"

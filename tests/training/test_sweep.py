"""Trials trained together end where each ends alone; a sweep from launch.py chooses on validation."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest

from configs import agnews_frozen, quickstart
from tests.launching import SMALL, launch, write_corpus
from textfuse_jax.config_checks import ConfigError
from textfuse_jax.evaluation.metrics import selection_metrics
from textfuse_jax.experiment import read_config
from textfuse_jax.sweeping import run_sweep
from textfuse_jax.training import setup, sweep
from textfuse_jax.training.grid import combinations, groups, is_traced, parse_sweep, summary_of, with_fields
from textfuse_jax.training.inference import to_probabilities
from textfuse_jax.training.loop import train
from textfuse_jax.training.progress import Interrupted, StopSignals

AXES = (
    "seed=0..1; optimizer.learning_rate=1e-3,1e-2; model.head_args.dropout=0.1,0.3; model.pooling_args.alpha=0.2; "
    "loss.label_smoothing=0.1; optimizer.weight_decay=0.01"
)


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("data") / "corpus.csv")


@pytest.fixture(scope="module")
def setting(corpus_file):
    config = quickstart.get_config("scratch,runlocal")
    config.data.source, config.data.path, config.data.train_rows, config.data.seed = "file", str(corpus_file), 0, 0
    config.data.folds, config.training.total_epochs, config.encoder.dtype = 3, 2, "float32"
    config.encoder.scratch.update(dict(vocab_size=500, width=16, layers=1, heads=2, feed_forward=32))
    config.model.levels, config.model.width = ("00/phrase", "01/sentence"), 16
    return config, setup.prepare(config, setup.load_corpus(config), lambda _: None)


def quiet(_):
    pass


def test_a_trial_among_many_ends_as_it_does_alone(setting):
    config, material = setting
    axes = parse_sweep(AXES)
    trials = combinations(axes)
    together = sweep.Trials(config, material, list(axes), len(trials), quiet)
    results, logits = together.run(trials), together.test_logits()
    assert len({round(r["validation"]["nll"], 4) for r in results}) > 2
    alone = sweep.Trials(config, material, list(axes), 1, quiet)
    for i in (0, 3, len(trials) - 1):
        (one,) = alone.run([trials[i]])
        assert one["best_step"] == results[i]["best_step"] and one["trial"] == trials[i]
        np.testing.assert_allclose(one["validation"]["nll"], results[i]["validation"]["nll"], rtol=1e-5)
        np.testing.assert_allclose(alone.test_logits()[0], logits[i], atol=1e-4)


def test_trials_in_parts_and_in_the_plain_loop_end_alike(setting, tmp_path):
    config, material = setting
    trials = [{"seed": seed, "optimizer.learning_rate": rate} for seed in (0, 1) for rate in (1e-3, 1e-2)]
    whole = sweep.Trials(config, material, list(trials[0]), len(trials), quiet)
    results, logits = whole.run(trials), whole.test_logits()
    parts = config.copy_and_resolve_references()
    parts.training.trials_at_once = 2
    in_parts = sweep.Trials(parts, material, list(trials[0]), len(trials), quiet)
    assert [r["best_step"] for r in in_parts.run(trials)] == [r["best_step"] for r in results]
    np.testing.assert_allclose(in_parts.test_logits(), logits, atol=1e-5)
    with StopSignals() as stop:
        one = train(with_fields(config, trials[3]), material.corpus, tmp_path, stop, quiet)
    np.testing.assert_allclose(one["logits"]["test"], logits[3], atol=1e-4)


def test_each_trial_stops_by_itself_and_keeps_its_best(setting):
    config, material = setting
    config = config.copy_and_resolve_references()
    config.training.total_epochs, config.training.patience, config.training.select_by = 5, 1, "nll"
    trials = [{"optimizer.learning_rate": rate} for rate in (1e-3, 1e-2, 0.3)]
    program = sweep.Trials(config, material, list(trials[0]), len(trials), quiet)
    results, logits = program.run(trials), program.held_logits()
    ends = np.cumsum(program._batches.steps_per_epoch)
    epochs = [(np.searchsorted(ends, r["best_step"]), np.searchsorted(ends, r["steps"])) for r in results]
    assert {last for _, last in epochs} > {4} and all(last in (best + 1, 4) for best, last in epochs)
    labels = material.corpus.validation.labels
    for result, p in zip(results, to_probabilities(logits, False)):  # the best weights, not the last, are what predicts
        assert selection_metrics(labels, p)["nll"] == pytest.approx(result["validation"]["nll"], rel=1e-5)


def test_trials_that_go_on_without_the_stopped_ones_end_as_they_would_have(setting, monkeypatch):
    config, material = setting
    config = config.copy_and_resolve_references()
    config.training.total_epochs, config.training.patience, config.training.select_by = 6, 1, "nll"
    trials = [
        {"seed": seed, "optimizer.learning_rate": rate} for seed in (0, 1) for rate in (0.0, 1e-3, 0.0)
    ]  # what learns nothing stops
    whole = sweep.Trials(config, material, list(trials[0]), len(trials), quiet)
    results, logits = whole.run(trials), whole.test_logits()
    monkeypatch.setattr(sweep, "WORTH_COMPILING", 1)
    fewer, sizes = sweep.Trials(config, material, list(trials[0]), len(trials), quiet), set()
    scored = fewer._scores
    monkeypatch.setattr(fewer, "_scores", lambda values, *rest: sizes.add(len(values["seed"])) or scored(values, *rest))
    again = fewer.run(trials)
    assert min(sizes) < len(trials) == max(sizes)
    assert [(r["trial"], r["best_step"], r["steps"]) for r in again] == [
        (r["trial"], r["best_step"], r["steps"]) for r in results
    ]
    np.testing.assert_allclose(fewer.test_logits(), logits, atol=1e-4)
    for name, values in fewer.weights_of(4).items():
        np.testing.assert_allclose(values, whole.weights_of(4)[name], atol=1e-4)


@pytest.mark.parametrize("field, values", [("loss.focal_gamma", "1.0,2.0"), ("parallel.engine", "")])
def test_what_a_sweep_would_ignore_is_refused(setting, tmp_path, field, values):
    config = setting[0].copy_and_resolve_references()
    text = f"{field}={values}" if values else "seed=0..1"
    if not values:
        config.parallel.engine = "pmap"
    with pytest.raises(ConfigError, match=field.split(".")[1].split("_")[0]):
        run_sweep(config, text, tmp_path / "run", say=quiet)


def test_a_share_of_the_steps_is_a_run_of_its_own(setting):
    """Half of two epochs is one epoch, with the rates of one."""
    config, material = setting
    trial = [{"seed": 3, "optimizer.learning_rate": 1e-2}]
    half = sweep.Trials(config, material, list(trial[0]), 1, quiet)
    (found,) = half.run(trial, share=0.5)
    one = with_fields(config, {"training.total_epochs": 1})
    (whole,) = sweep.Trials(one, material, list(trial[0]), 1, quiet).run(trial)
    assert found["steps"] == whole["steps"] == half.run(trial)[0]["steps"] // 2
    assert found["validation"]["nll"] == pytest.approx(whole["validation"]["nll"], rel=1e-6)


@pytest.mark.slow
def test_a_program_goes_on_with_other_documents(corpus_file, tmp_path):
    """Behind cached features nothing is compiled for them, and trials end as those of a program of their own."""
    config = agnews_frozen.get_config("graph,runlocal")
    config.data.source, config.data.path, config.encoder.cache_dir = "file", str(corpus_file), str(tmp_path)
    config.data.train_rows, config.data.seed = 24, 0
    held = [with_fields(config, {"data.seed": seed}) for seed in (0, 1)]
    first, second = (setup.prepare(one, setup.load_corpus(one), quiet) for one in held)
    trials, said = [{"seed": seed} for seed in (0, 1)], []
    program = sweep.Trials(config, first, ["seed"], 2, said.append)
    program.run(trials)
    moved = program.on(second)
    again = moved.run(trials)
    alone = sweep.Trials(config, second, ["seed"], 2, quiet)
    for mine, theirs in zip(again, alone.run(trials)):
        assert mine["validation"]["nll"] == pytest.approx(theirs["validation"]["nll"], rel=1e-5)
    np.testing.assert_allclose(moved.test_logits([1]), alone.test_logits([1]), atol=1e-5)
    shapes = {batches.shapes for batches in (program._batches, moved._batches)}
    assert len([line for line in said if "step of" in line]) == len(shapes)
    weighted = with_fields(config, {"loss.class_weights": "balanced"})
    program = sweep.Trials(weighted, first, ["seed"], 2, quiet)
    assert program.on(second)._step is not program._step


def test_folds_hold_out_what_they_train_without(setting):
    config, material = setting
    fold = setup.folds_of(material.corpus.train, 3, 0)
    labels = material.corpus.train.labels
    for k in range(3):
        for name in np.unique(labels):
            assert abs(((fold == k) & (labels == name)).sum() - (labels == name).sum() / 3) <= 1
    trials = [{"data.fold": k, "seed": 0} for k in range(3)]
    results = sweep.Trials(config, material, ["data.fold", "seed"], 3, quiet).run(trials)
    assert [r["validation"]["n"] for r in results] == [(fold == k).sum() for k in range(3)]


def test_copies_of_a_text_lie_in_one_fold(setting):
    train = setting[1].corpus.train
    some = np.arange(0, len(train), 5)
    twice = train.take(np.concatenate([np.arange(len(train)), some]))
    fold = setup.folds_of(dataclasses.replace(twice, texts=[*train.texts, *(train.texts[i].upper() for i in some)]), 3, 0)
    np.testing.assert_array_equal(fold[len(train) :], fold[some])


def test_the_text_of_a_sweep():
    axes = parse_sweep('seed=0..3; optimizer.learning_rate=1e-3, 3e-3; model.pooling="a:B","c:D"; data.x=(1,2),(3,)')
    assert axes["seed"] == (0, 1, 2, 3) and axes["optimizer.learning_rate"] == (1e-3, 3e-3)
    assert axes["model.pooling"] == ("a:B", "c:D") and axes["data.x"] == ((1, 2), (3,))
    parts = groups(axes)
    assert len(parts) == 4 and all(len(trials) == 8 for _, trials in parts)
    assert is_traced("loss.logit_adjustment", (0.0, 1.0))  # a traced 0 adds nothing to logits
    assert not is_traced("loss.consistency", (0.0, 1.0)) and is_traced("model.head_args.dropout", (0.1, 0.2))
    for wrong in ("", "seed", "seed=", "seed=a b"):
        with pytest.raises(ConfigError, match="--sweep"):
            parse_sweep(wrong)


def test_summary_is_over_seeds_and_folds():
    rows = [
        {"trial": {"seed": seed, "optimizer.learning_rate": rate}, "validation": {"accuracy": 0.5 + 0.1 * seed + rate}}
        for seed in (0, 1)
        for rate in (0.1, 0.2)
    ]
    rows.append({"trial": {"seed": 0, "optimizer.learning_rate": 9.0}, "validation": {}})  # diverged
    best, second, worst = summary_of(rows, "accuracy")
    assert best["setting"] == {"optimizer.learning_rate": 0.2} and best["trials"] == 2
    np.testing.assert_allclose([best["mean"], best["sd"]], [0.75, 0.1 / 2**0.5])
    assert second["setting"] == {"optimizer.learning_rate": 0.1} and worst["mean"] is None and worst["diverged"] == 1


@pytest.mark.long
def test_launch_sweeps_and_goes_on(corpus_file, tmp_path):
    folder = tmp_path / "sweep"
    arguments = (
        *SMALL,
        f"--config.data.path={corpus_file}",
        "--config.training.total_epochs=1",
        "--sweep=model.levels=('00/phrase','01/sentence'),('01/phrase','01/sentence');"
        "seed=0..1; optimizer.learning_rate=1e-3,9e-3",
        f"--workdir={folder}",
    )
    done = launch(*arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert result["trials"] == 8 and len(result["settings"]) == 4 and result["test"]["accuracy"]["n"] == 2
    assert result["chosen"] == max(result["settings"], key=lambda row: row["mean"])["setting"]
    assert (folder / "figures" / "sweep.png").stat().st_size > 10_000 and read_config(folder / "config.json").data.seed == 0
    lines = folder / "sweep.jsonl"
    whole = lines.read_text().splitlines()
    assert len(whole) == 8
    (folder / "result.json").unlink()
    lines.write_text("\n".join([*whole[:5], whole[5][:20]]))  # as after a kill inside the second group
    again = launch(*arguments, "--resume")
    assert again.returncode == 0, again.stderr
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [json.loads(line) for line in whole]
    refused = launch(*arguments)
    assert refused.returncode == 2 and "--resume" in refused.stderr
    misspelt = launch(
        *SMALL, f"--config.data.path={corpus_file}", "--sweep=optimiser.learning_rate=1", f"--workdir={tmp_path / 'x'}"
    )
    assert misspelt.returncode == 2 and "optimiser" in misspelt.stderr


def test_a_signal_ends_a_sweep_in_order(corpus_file, setting, tmp_path):
    config, _ = setting

    def say(line):
        if line.startswith("group 2/2"):
            os.kill(os.getpid(), signal.SIGTERM)

    text = "model.width=8,16; optimizer.learning_rate=1e-3"
    with pytest.raises(Interrupted, match="stored"):
        run_sweep(config, text, tmp_path / "sweep", say=say)
    stored = (tmp_path / "sweep" / "sweep.jsonl").read_text()
    assert [json.loads(line)["trial"]["model.width"] for line in stored.splitlines()] == [8]
    result = run_sweep(config, text, tmp_path / "sweep", resume=True, say=quiet)
    assert result["trials"] == 2 and (tmp_path / "sweep" / "sweep.jsonl").read_text().startswith(stored)


def test_a_trial_leaves_the_config_as_it_was(setting):
    config, _ = setting
    other = with_fields(config, {"model.head_args.dropout": 0.9, "seed": 5})
    assert other.model.head_args.dropout == 0.9 and other.seed == 5
    assert config.model.head_args.get("dropout") != 0.9 and config.seed == 0

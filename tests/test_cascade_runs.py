"""Runs of cascades as a user starts them, on real trees: killed and gone on with, predicted again, swept over folds."""

import json
import signal
import subprocess
import time

import numpy as np
import pytest

from configs import rumor_pheme, rumor_weibo
from tests.launching import ROOT, assert_same_run, command, environment, launch
from textfuse_jax import experiment
from textfuse_jax.data.cascade_sets import docstring_trees
from textfuse_jax.evaluation.records import read_predictions
from textfuse_jax.predict import main as predict

SMALL = (
    "--config=configs/rumor_pheme.py:docstrings,scratch,runlocal",
    "--config.model.width=8",
    "--config.cascades.most_words=8",
    "--config.training.total_epochs=12",
    "--config.training.checkpoint_every_steps=4",
    "--config.evaluation.reference=False",
    "--config.evaluation.graphs=0",
)


@pytest.mark.long
def test_a_killed_run_goes_on_bit_by_bit_running_statistics_too(tmp_path):
    whole = launch(*SMALL, f"--workdir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(command(*SMALL, f"--workdir={tmp_path / 'cut'}"), cwd=ROOT, env=environment())
    while not list((tmp_path / "cut" / "checkpoints").glob("step_*/orbax.checkpoint")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = launch(f"--workdir={tmp_path / 'cut'}", "--resume")
    assert again.returncode == 0, again.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_new_cascades_through_a_finished_run_repeat_it(tmp_path):
    config = rumor_pheme.get_config("docstrings,scratch,runlocal")
    config.model.width, config.evaluation.reference, config.parallel.devices = 8, False, 1
    result = experiment.run(config, tmp_path / "run", say=lambda line: None)
    assert result["test"]["n"] == 48 and result["training"]["posts"] == len(docstring_trees().texts)
    run, trees = read_predictions(tmp_path / "run" / "predictions.csv"), docstring_trees()
    with (tmp_path / "new.jsonl").open("w") as file:
        for i in map(trees.ids.index, run.ids):
            one = trees[i]
            file.write(json.dumps({"id": one.id, "texts": one.texts, "parent": one.parent.tolist()}) + "\n")
    out = tmp_path / "out.csv"
    assert predict(["--workdir", str(tmp_path / "run"), "--input", str(tmp_path / "new.jsonl"), "--output", str(out)]) == 0
    again = read_predictions(out)
    assert again.ids == run.ids
    np.testing.assert_allclose(again.probabilities, run.probabilities, atol=1e-5)


@pytest.mark.long
def test_a_run_of_characters_stands_beside_tfidf_of_characters(tmp_path):
    rng, lines = np.random.default_rng(0), []
    for i in range(120):
        texts = ["".join(chr(0x4E00 + c) for c in rng.integers(0, 60, 7)) + end for end in ("谣真"[i % 2], "", "")]
        lines.append({"id": str(i), "label": "ab"[i % 2], "texts": texts, "parent": [-1, 0, 0]})
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = rumor_weibo.get_config("runlocal")
    config.data.source, config.data.path, config.data.label_column = "cascades", str(tmp_path / "own.jsonl"), "label"
    config.data.train_rows = config.data.validation_rows = config.data.test_rows = 0
    config.model.width, config.parallel.devices, config.evaluation.graphs = 8, 1, 0
    said = []
    result = experiment.run(config, tmp_path / "run", say=said.append)
    reference = result["reference"]["tfidf_logreg"]
    assert reference["of"] == "characters" and reference["accuracy"] > 0.9
    assert any("TF-IDF of characters" in line for line in said)


@pytest.mark.long
def test_tapes_own_model_runs(tmp_path):
    config = rumor_pheme.get_config("tape_gat,docstrings,scratch,runlocal")
    config.evaluation.reference, config.parallel.devices = False, 1
    assert experiment.run(config, tmp_path / "run", say=lambda line: None)["test"]["n"] == 48


@pytest.mark.long
def test_folds_swept_together_test_every_cascade_once(tmp_path):
    all_rows = [f"--config.data.{name}_rows=0" for name in ("train", "validation", "test")]
    sweep = ["--config.data.folds=3", "--sweep=data.fold=0..2; seed=0..1", f"--workdir={tmp_path / 's'}"]
    done = launch(*SMALL[:3], *all_rows, *sweep)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "s" / "result.json").read_text())
    assert result["trials"] == 6 and result["pooled"]["accuracy"]["n"] == 2
    assert sum(t["test"]["n"] for t in result["test_trials"]) == 2 * len(docstring_trees())


@pytest.mark.long
def test_the_published_protocol_says_that_test_cascades_chose_the_epoch(tmp_path):
    published = [*SMALL[:3], "--config.data.folds=3", "--config.cascades.choose_on=test"]
    assert launch(*published, f"--workdir={tmp_path / 'run'}").returncode == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["training"]["chosen_on"] == "test"
    assert "which also chose the epoch" in (tmp_path / "run" / "report.md").read_text()
    assert launch(*published, "--sweep=data.fold=0..2", f"--workdir={tmp_path / 'sweep'}").returncode == 0
    assert "which also chose the epoch of each" in (tmp_path / "sweep" / "sweep.md").read_text()

"""Whole runs of a small model on real text: devices, packing, NaN, early stopping, several labels, windows."""

import copy
import csv
import importlib
import json

import numpy as np
import pytest

from tests.launching import SMALL, assert_same_run, launch, lines, write_corpus
from textfuse_jax import experiment
from textfuse_jax.data.corpus import DataError
from textfuse_jax.evaluation.records import read_predictions
from textfuse_jax.predict import Predictor
from textfuse_jax.training import assembly, checkpoints, setup
from textfuse_jax.training.progress import NotFinite

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("data") / "corpus.csv")


def small_config(corpus, **data):
    """The config that SMALL describes, for runs in this process."""
    config = importlib.import_module("configs.quickstart").get_config("scratch,runlocal")
    config.data.update(dict(source="file", path=str(corpus), **data))
    config.encoder.scratch.update(dict(layers=1, width=16, heads=2, feed_forward=32, vocab_size=500))
    config.model.levels, config.model.width = ("00/phrase", "01/sentence"), 16
    config.evaluation.reference, config.evaluation.graphs = False, 0
    config.parallel.devices = 1  # where they matter the test says so
    return config


def quiet(line):
    """No lines of progress in the tests' output."""


@pytest.mark.long
def test_four_devices_learn_what_one_does(corpus, tmp_path):
    arguments = [*SMALL, f"--config.data.path={corpus}", "--config.training.total_epochs=3"]
    for devices in (1, 4):
        flags = f"--xla_force_host_platform_device_count={devices}"
        run = launch(*arguments, f"--workdir={tmp_path / str(devices)}", XLA_FLAGS=flags)
        assert run.returncode == 0 and f"devices: {devices} x" in run.stdout, run.stderr
    one, four = (lines(tmp_path / str(devices)) for devices in (1, 4))
    assert [line["step"] for line in one] == [line["step"] for line in four]
    for key in ("loss", "nll"):
        np.testing.assert_allclose(*([line[key] for line in found if key in line] for found in (one, four)), atol=1e-4)
    a, b = (checkpoints.load_params(tmp_path / str(devices) / "model" / "params") for devices in (1, 4))
    for name in a:
        np.testing.assert_allclose(a[name], b[name], atol=2e-4, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize("engine, begun, ended", [("pmap", 4, 2), ("fsdp", 4, 1), ("jit", 1, 4)])
def test_a_run_moves_between_engines_and_device_counts(corpus, tmp_path, engine, begun, ended):
    """Four devices by jit against a run begun by some engine and, its end lost, gone on with by jit on other devices."""
    whole = small_config(corpus)
    whole.parallel.devices = 4
    whole.data.tokens_per_batch = 512
    whole.training.checkpoint_every_steps = 2
    experiment.run(whole, tmp_path / "whole", say=quiet)
    other = copy.deepcopy(whole)
    other.parallel.update({"pmap": dict(engine="pmap"), "fsdp": dict(sharding=((".", -1),)), "jit": {}}[engine])
    other.parallel.devices = begun
    experiment.run(other, tmp_path / "moved", say=quiet)
    newest = checkpoints.all_steps(tmp_path / "moved" / "checkpoints")[-1]
    for path in (tmp_path / "moved" / "result.json", newest / "orbax.checkpoint"):
        path.unlink()
    whole.parallel.devices = ended
    said = []
    experiment.run(whole, tmp_path / "moved", resume=True, say=said.append)
    assert any("resumed from" in line for line in said) and any(line.startswith(f"devices: {ended} x") for line in said)
    one, two = (lines(tmp_path / name) for name in ("whole", "moved"))
    for key in ("loss", "nll"):
        np.testing.assert_allclose(*([line[key] for line in found if key in line] for found in (one, two)), rtol=1e-4)


def test_devices_that_make_other_batches_are_named_when_a_run_is_resumed(corpus, tmp_path):
    config = small_config(corpus)
    config.parallel.devices, config.data.tokens_per_batch, config.training.total_epochs = 4, 128, 1
    experiment.run(config, tmp_path / "run", say=quiet)
    (tmp_path / "run" / "result.json").unlink()
    config.parallel.devices = 8
    with pytest.raises(DataError, match="here 8 of 32 tokens: they are a multiple of the devices"):
        experiment.run(config, tmp_path / "run", resume=True, say=quiet)


def test_a_run_keeps_the_precision_that_it_began_with(corpus, tmp_path, monkeypatch):
    config = small_config(corpus)
    for fast, slow in (("bfloat16", "float32"), ("float32", "bfloat16")):
        config.encoder.dtype, folder = "auto", tmp_path / fast
        folder.mkdir()
        monkeypatch.setattr(experiment, "product_dtype", lambda _, fast=fast: fast)
        begun = experiment.open_folder(config, folder, resume=False)
        assert (begun.encoder.dtype, config.encoder.dtype) == (fast, "auto")
        (folder / "config.json").write_text(begun.to_json_best_effort())
        monkeypatch.setattr(experiment, "product_dtype", lambda _, slow=slow: slow)  # another machine
        for again in (config, None):
            assert experiment.open_folder(again, folder, resume=True).encoder.dtype == fast
        config.encoder.dtype = slow
        with pytest.raises(experiment.RunFolderError, match=f"config.encoder.dtype: '{fast}' -> '{slow}'"):
            experiment.open_folder(config, folder, resume=True)


def test_packed_and_padded_rows_predict_the_same(corpus, tmp_path):
    config = small_config(corpus)
    config.encoder.dtype = "float32"
    experiment.run(config, tmp_path / "run", say=quiet)
    texts = setup.load_corpus(config).test.texts
    predictor = Predictor(tmp_path / "run")
    packed = predictor.logits(texts)
    alone = np.concatenate([predictor.logits([text]) for text in texts[:8]])
    predictor.config.data.packed = False
    np.testing.assert_allclose(predictor.logits(texts), packed, atol=1e-5)
    np.testing.assert_allclose(alone, packed[:8], atol=1e-5)
    np.testing.assert_allclose(predictor.logits(texts[::-1])[::-1], packed, atol=1e-5)
    run = read_predictions(tmp_path / "run" / "predictions.csv")
    np.testing.assert_allclose(predictor.probabilities(texts), run.probabilities, atol=1e-5)


def test_nan_stops_the_run_and_names_step_and_documents(corpus, tmp_path):
    config = small_config(corpus)
    config.optimizer.update(dict(learning_rate=1e30, encoder_learning_rate=1e30, clip_norm=0.0, warmup_fraction=0.0))
    with pytest.raises(NotFinite, match=r"not finite at step \d+; its \d+ documents: .*learning_rate") as error:
        experiment.run(config, tmp_path / "run", say=quiet)
    assert any(f"{name}." in str(error.value) for name in ("numpy", "os", "decimal", "statistics"))
    assert not (tmp_path / "run" / "result.json").exists()


def test_early_stopping_returns_the_best_weights(corpus, tmp_path):
    config = small_config(corpus)
    config.training.update(dict(total_epochs=30, patience=2))
    result = experiment.run(config, tmp_path / "run", say=quiet)
    held = [line for line in lines(tmp_path / "run") if line["split"] == "validation"]
    best = max(held, key=lambda line: (line["score"], -line["step"]))
    assert result["training"]["stopped_early"] and result["training"]["steps"] < 30 * 6
    assert result["training"]["best_step"] == best["step"]
    assert result["validation"]["nll"] == pytest.approx(best["nll"], rel=1e-4)


@pytest.mark.long
def test_accumulated_slices_learn_the_same(corpus, tmp_path):
    for accumulate in (1, 4):
        config = small_config(corpus)
        config.encoder.update(dict(dtype="float32", dropout=0.0, attention_dropout=0.0))
        config.model.head_args.dropout = 0.0  # slices draw masks of their own
        config.training.accumulate, config.parallel.devices = accumulate, 4
        experiment.run(config, tmp_path / str(accumulate), say=quiet)
    one, four = (lines(tmp_path / str(accumulate)) for accumulate in (1, 4))
    np.testing.assert_allclose([x["loss"] for x in one if "loss" in x], [x["loss"] for x in four if "loss" in x], rtol=1e-4)


def test_several_labels_and_windows_from_training_to_prediction(corpus, tmp_path):
    with corpus.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] += ";long" if len(row["text"]) > 300 else ""
    with (tmp_path / "several.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    config = small_config(tmp_path / "several.csv", label_separator=";", long_documents="windows")
    config.loss.update(dict(name="binary", class_weights="balanced"))
    config.training.select_by = "f1_macro"
    result = experiment.run(config, tmp_path / "run", say=quiet)
    assert {"f1_micro", "f1_macro", "accuracy"} <= set(result["test"]) and "long" in result["data"]["classes"]
    texts = setup.load_corpus(config).test.texts
    run = read_predictions(tmp_path / "run" / "predictions.csv", multi_label=True)
    np.testing.assert_allclose(Predictor(tmp_path / "run").probabilities(texts), run.probabilities, atol=5e-3)


def test_trained_on_first_windows_tested_on_all(corpus, tmp_path):
    config = small_config(corpus, long_documents="windows", train_windows=1)
    material = setup.prepare(config, setup.load_corpus(config), quiet)
    assert (
        len(material.encoded["train"])
        == len(material.corpus.train)
        < len(setup.encode_split(config, material.encoder.tokenizer, material.corpus.train.texts))
    )
    assert len(material.encoded["test"]) > len(material.corpus.test)
    result = experiment.run(config, tmp_path / "run", say=quiet)
    assert result["data"]["train"] == len(material.corpus.train) and np.isfinite(result["test"]["nll"])
    config.encoder.mode = "cached"
    with pytest.raises(experiment.ConfigError, match="train_windows must be 0 unless"):
        experiment.run(config, tmp_path / "cached", say=quiet)


def test_frozen_layers_and_class_weights_train(corpus, tmp_path):
    config = small_config(corpus)
    config.encoder.tuned_from, config.loss.class_weights, config.loss.name = 1, "balanced", "focal"
    config.optimizer.weight_decay = 0.5
    experiment.run(config, tmp_path / "run", say=quiet)
    config.training.total_epochs = 2
    experiment.run(config, tmp_path / "longer", say=quiet)
    a, b = (checkpoints.load_params(tmp_path / name / "model" / "params") for name in ("run", "longer"))
    for name in a:
        same = np.array_equal(a[name], b[name])
        assert same == assembly.is_frozen(config, name) or not np.any(a[name]), name


def test_a_fault_before_the_first_step_leaves_the_folder_free(corpus, tmp_path):
    config = small_config(corpus)
    config.model.levels = ("00/phrase", "03/sentence")
    with pytest.raises(experiment.ConfigError, match="layer 3, but the encoder has layers 0 to 1"):
        experiment.run(config, tmp_path / "run", say=quiet)
    config.model.levels = ("00/phrase", "01/sentence")
    experiment.run(config, tmp_path / "run", say=quiet)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["levels"] == ["00/phrase", "01/sentence"]
    experiment.run(small_config(corpus), tmp_path / "again", say=quiet)
    assert_same_run(tmp_path / "run", tmp_path / "again")

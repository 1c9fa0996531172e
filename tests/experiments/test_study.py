"""Every study's settings are valid configs; a small study runs, compares, and goes on where it was."""

import importlib
import json
import runpy
import sys

import numpy as np
import pytest

from configs import quickstart
from experiments import study, study_tables
from tests.launching import write_corpus
from textfuse_jax.config import validate
from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.training import setup, sweep

STUDIES = sorted(study_tables.TITLES)


@pytest.mark.parametrize("name", STUDIES)
def test_settings_are_valid_and_named_once(name):
    settings = importlib.import_module(f"experiments.{name}").SETTINGS
    assert len({s.name for s in settings}) == len(settings) > 3
    minilm = Architecture(model_type="bert", vocabulary=100, width=384, layers=6, heads=12, feed_forward=1536, positions=512)
    seen = {study_setting.name for study_setting in settings[:1]}
    for setting in settings:
        config = sweep.with_fields(study.frozen(), setting.fields)
        validate(config)
        setup.make_model(config, minilm, 4)  # every part takes its arguments
        assert not setting.against or setting.against in seen | {setting.name}
        seen.add(setting.name)


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("arguments", [[], [":runlocal"]])
def test_the_command_line_of_every_study(name, arguments, monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(study, "run", lambda *args: called.append(args))
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setattr(study, "WORK", tmp_path)
    monkeypatch.delitem(sys.modules, f"experiments.{name}", raising=False)  # runpy warns of modules that are there already
    runpy.run_module(f"experiments.{name}", run_name="__main__")
    ((found, base, settings, seeds, reference, output, *_),) = called
    assert found == name and output.name == f"{name}.jsonl" and (seeds, len(settings)) == (2, 3) if arguments else seeds == 5
    assert reference in {s.name for s in settings} and base.data.train_rows == (96 if arguments else base.data.train_rows)


def test_settings_that_differ_in_rates_share_a_program():
    settings = [study.Setting(f"{rate}", {"optimizer.learning_rate": rate}) for rate in (1e-3, 1e-2)]
    settings.append(study.Setting("wide", {"model.width": 8}))
    groups = study.grouped(settings)
    assert [(shared, len(found)) for shared, found in groups] == [({}, 2), ({"model.width": 8}, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("resample", [False, True])
def test_a_study_runs_and_goes_on(tmp_path, resample):
    base = quickstart.get_config("scratch,runlocal")
    header, *rows = write_corpus(tmp_path / "corpus.csv").read_bytes().decode().split("\r\n")
    for name, part in (("train", rows[::2]), ("test", rows[1::2])):
        (tmp_path / f"{name}.csv").write_bytes("\r\n".join([header, *filter(None, part), ""]).encode())
    base.data.update(dict(source="file", path=str(tmp_path / "train.csv"), test_path=str(tmp_path / "test.csv"), test_rows=0))
    base.encoder.dtype = "float32"
    base.encoder.scratch.update(dict(vocab_size=500, width=16, layers=1, heads=2, feed_forward=32))
    base.model.levels, base.model.width = ("00/phrase", "01/sentence"), 16
    settings = [
        study.Setting("slow", {"optimizer.learning_rate": 1e-5}),
        study.Setting("quick", {"optimizer.learning_rate": 1e-2}, {"accuracy": 0.5, "source": "nobody"}),
    ]
    arguments = ("test", base, settings, 2, "slow", tmp_path / "test.jsonl", tmp_path / "work")
    study.run(*arguments, measure=study.graph_facts, resample=resample, say=lambda _: None)
    lines = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert [line["setting"] for line in lines] == ["slow", "quick"]
    slow, quick = lines
    assert slow["difference"] == 0 and slow["p"] == 1 and quick["published"]["source"] == "nobody"
    assert quick["difference"] == pytest.approx(np.mean(quick["test"]["accuracy"]) - np.mean(slow["test"]["accuracy"]))
    assert quick["difference_ci95"][0] <= quick["difference"] <= quick["difference_ci95"][1]
    assert slow["trials_together"] == 4 and len(quick["test"]["nll"]) == 2 and slow["parameters"] > 10_000
    assert 0 < quick["edges_a_node"][0] < 20 and -1 <= quick["cosine_of_nodes"][1] <= 1
    said = []
    study.run(*arguments, resample=resample, say=said.append)
    assert not said and len((tmp_path / "test.jsonl").read_text().splitlines()) == 2

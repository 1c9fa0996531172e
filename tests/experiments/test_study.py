"""Every study's settings are valid configs; a small study runs, compares, and goes on where it was."""

import importlib
import json

import numpy as np
import pytest

from configs import quickstart
from experiments import study, study_tables
from tests.launching import write_corpus
from textfuse_jax.config import validate
from textfuse_jax.training import sweep

STUDIES = sorted(study_tables.TITLES)


@pytest.mark.parametrize("name", STUDIES)
def test_settings_are_valid_and_named_once(name):
    settings = importlib.import_module(f"experiments.{name}").SETTINGS
    assert len({s.name for s in settings}) == len(settings) > 3
    for setting in settings:
        validate(sweep.with_fields(study.frozen(), setting.fields))


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
    base.data.update(dict(source="file", path=str(tmp_path / "train.csv"), test_path=str(tmp_path / "test.csv")))
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

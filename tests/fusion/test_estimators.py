"""Estimators as scikit-learn has them: the README's example as written, labels back in their own form, files without code."""

import json
import re
import warnings

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from configs.agnews_labelfusion import get_config
from tests.fusion.running import CANARY, oracle
from tests.launching import MODULES, ROOT, write_corpus
from tests.llm.server import Server
from textfuse_jax.config_checks import ConfigError
from textfuse_jax.data.corpus import DataError
from textfuse_jax.estimators import AutoFusionClassifier, TextFuseClassifier

pytestmark = pytest.mark.slow
README = (ROOT / "README.md").read_text()
EXAMPLES = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "AutoFusionClassifier" in block]


def small(**fields):
    """A scratch encoder of one layer, an epoch, no validation noise: what is tested is the interface."""
    config = get_config("scratch,runlocal")
    config.encoder.scratch.update(dict(layers=1, width=16, heads=2, feed_forward=32, vocab_size=500))
    config.model.document_taps = ("01/document",)
    config.parallel.devices = 1
    config.fusion.update(dict(folds=0, simulated_accuracy=0.0, steps=40, seeds=1))
    return dict(config=config, **fields)


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    return pandas.read_csv(write_corpus(tmp_path_factory.mktemp("csv") / "corpus.csv")).sample(160, random_state=0)


@pytest.fixture(scope="module")
def encoder(frame):
    return TextFuseClassifier(**small()).fit(frame["text"], frame["label"])


@pytest.mark.parametrize("llm", [False, True])
def test_the_readmes_example_runs_as_written(llm, frame, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train, new = frame[:120], frame[120:]
    train.to_csv("train.csv", index=False)
    new[["text"]].to_csv("new.csv", index=False)
    names: dict = {}
    first, second = EXAMPLES
    if not llm:
        exec(first, names)
        classifier = names["classifier"]
        assert (names["new"]["label"].to_numpy() == new["label"].to_numpy()).mean() > 0.6
        again = AutoFusionClassifier.load("my_classifier")
        assert list(again.predict(names["new"]["text"])) == list(names["new"]["label"])
    else:
        monkeypatch.setenv("OPENAI_API_KEY", CANARY)
        with Server(oracle(write_corpus(tmp_path / "all.csv"))) as server:
            local = f'"base_url": "{server.url}", "cache": "answers.sqlite", "backoff_seconds": 0.02, "budget"'
            exec(first.split("classifier =")[0] + second.replace('"budget"', local), names)
            classifier, before = names["classifier"], server.paid.total()
            assert before == 120  # training and validation, a call a text
            told = capsys.readouterr()
            assert "120 requests: 0 from the cache, 120 calls" in told.err and "calls=120" in told.out  # by fit and by estimate
            classifier.predict(names["new"]["text"])
            assert 0 < server.paid.total() - before <= len(new) // 2  # about a fifth
        assert next(iter(classifier.reports_.values()))[0]["cost"] > 0
    assert classifier.fusion_.note and set(classifier.classes_) == set(MODULES)


def test_labels_come_back_in_their_own_form(encoder, frame):
    series = encoder.predict(frame["text"][:5])
    assert isinstance(series, pandas.Series) and list(series.index) == list(frame.index[:5]) and set(series) <= set(MODULES)
    p = encoder.predict_proba(frame[["text"]][:5])
    assert list(p.columns) == list(encoder.classes_) and np.allclose(p.to_numpy().sum(1), 1)
    texts = frame["text"][:5].tolist()
    assert list(encoder.predict(texts)) == list(series)
    np.testing.assert_allclose(encoder.predict_proba(np.array(texts, object)), p, atol=1e-6)
    assert len(encoder.predict([])) == 0
    found = encoder.evaluate(frame["text"][:40], frame["label"][:40])
    assert found["accuracy"] == pytest.approx((encoder.predict(frame["text"][:40]) == frame["label"][:40]).mean())


def test_numbers_and_several_labels_come_back_too(frame):
    codes = frame["label"].map({name: 7 + i for i, name in enumerate(MODULES)})
    numbers = TextFuseClassifier(**small()).fit(frame["text"].tolist(), codes.to_numpy())
    assert set(numbers.predict(frame["text"][:9].tolist())) <= {7, 8, 9, 10}
    lists = [[label, "long"] if len(text) > 300 else [label] for text, label in zip(frame["text"], frame["label"])]
    several = TextFuseClassifier(**small()).fit(frame["text"], lists)
    assert several.thresholds_.shape == (5,) and set(several.classes_) == {*MODULES, "long"}
    assert all(set(found) <= set(several.classes_) for found in several.predict(frame["text"][:5]))


def test_scikit_learns_conventions(frame):
    estimator = AutoFusionClassifier("replay", "stored", seed=3, call_share=0.5)
    other = clone(estimator)
    assert other is not estimator and other.get_params() == estimator.get_params()
    assert estimator.set_params(seed=4).seed == 4
    with pytest.raises(NotFittedError):
        estimator.predict(["a text"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        scores = cross_val_score(TextFuseClassifier(**small()), frame["text"], frame["label"], cv=2)
    assert scores.shape == (2,) and (scores > 0).all()


def test_saved_files_hold_no_code_and_load_as_they_were(encoder, frame, tmp_path):
    encoder.save(tmp_path / "saved")
    model = json.loads((tmp_path / "saved" / "encoder" / "model" / "model.json").read_text())
    assert encoder.config_.encoder.dtype == "auto" and model["config"]["encoder"]["dtype"] in ("float32", "bfloat16")
    files = [path for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".py", ".joblib")]
    loaded = TextFuseClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(frame["text"][:7]), encoder.predict_proba(frame["text"][:7]))
    with pytest.raises(FileExistsError, match="isn't empty"):
        encoder.save(tmp_path / "saved")
    with pytest.raises(DataError, match="this is AutoFusionClassifier"):
        AutoFusionClassifier.load(tmp_path / "saved")
    with pytest.raises(FileNotFoundError, match="no classifier"):
        TextFuseClassifier.load(tmp_path)
    facts = json.loads((tmp_path / "saved" / "estimator.json").read_text())
    (tmp_path / "saved" / "estimator.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(DataError, match="format 99"):
        TextFuseClassifier.load(tmp_path / "saved")


def test_faults_name_row_column_and_fix(frame):
    classifier = TextFuseClassifier(**small())
    with pytest.raises(DataError, match=r"no column 'text'.*text_columns"):
        classifier.fit(frame[["label"]], frame["label"])
    with pytest.raises(DataError, match="3 texts but 2 labels"):
        classifier.fit(["a", "b", "c"], ["x", "y"])
    with pytest.raises(DataError, match=r"row 1: a text is needed, got nan"):
        classifier.fit(["a", float("nan")], ["x", "y"])
    with pytest.raises(DataError, match="row 1: the text is empty"):
        classifier.fit(["a", " "], ["x", "y"])
    with pytest.raises(ConfigError, match="no field"):
        TextFuseClassifier(overrides={"trainings.epochs": 1}).fit(["a", "b"], ["x", "y"])

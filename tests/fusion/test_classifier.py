"""AutoFusionClassifier with an LLM on loopback: whose config counts, what is asked and told, what is found again after saving."""

import json
import warnings

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from tests.fusion.running import oracle, small_config
from tests.launching import MODULES, launch, write_corpus
from tests.llm.server import Server
from textfuse_jax.config_checks import ConfigError
from textfuse_jax.data.corpus import DataError
from textfuse_jax.estimators import AutoFusionClassifier, TextFuseClassifier
from textfuse_jax.evaluation.metrics import classification_metrics
from textfuse_jax.fusion import __main__ as command
from textfuse_jax.llm.cache import Cache
from textfuse_jax.predict import main as predict_file

pytestmark = pytest.mark.slow
ASKED = 40


class Made:
    """Texts, a server that knows most of their labels, a config that names it, and a classifier fitted with it."""

    def __init__(self, folder):
        self.folder, self.corpus = folder, write_corpus(folder / "corpus.csv")
        frame = pandas.read_csv(self.corpus).sample(230, random_state=0)
        self.train, self.new = frame[:150], frame[150:]
        self.server = Server(oracle(self.corpus, spills=False))

    def config(self, **llm):
        fields = dict(provider="compatible", model="m", base_url=self.server.url, call_share=0.5)
        config = small_config(self.corpus, self.folder / "answers.sqlite", **fields | llm)
        config.fusion.asked_rows, config.fusion.combiner = ASKED, "weighted"
        return config

    def fit(self, *arguments, **fields):
        return AutoFusionClassifier(*arguments, **fields).fit(self.train["text"], self.train["label"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = Made(tmp_path_factory.mktemp("classifier"))
    with made.server:
        yield made


@pytest.fixture(scope="module")
def fitted(made):
    """(the classifier, what was sent for it) of a config alone."""
    before = made.server.calls
    return made.fit(made.config()), made.server.calls - before


def test_a_config_decides_what_no_keyword_does(made, fitted):
    classifier, _ = fitted
    assert classifier.fusion_.names == ("encoder", "m") and classifier.fusion_.kinds[1] == "llm compatible/m"
    assert classifier.fusion_.settings["combiner"] == "weighted" and classifier.config_.llm.call_share == 0.5
    assert classifier.config_.seed == made.config().seed

    def of(*arguments, **fields):
        llm = (config := AutoFusionClassifier(*arguments, **fields)._config(False)).llm
        return llm.provider, llm.model, llm.call_share, config.fusion.combiner, len(llm.members)

    assert of(config=made.config()) == of(made.config()) == ("compatible", "m", 0.5, "weighted", 0)
    assert of(made.config(), call_share=0.1, combiner="mlp") == ("compatible", "m", 0.1, "mlp", 0)
    assert of(made.config(), model="other", llm={"call_share": 0.3}) == ("compatible", "other", 0.3, "weighted", 0)
    assert of("openai", "g", config=made.config(members={"a": {"model": "x"}})) == ("openai", "g", 0.5, "weighted", 0)
    assert of(made.config(members={"a": {"model": "x"}})) == ("compatible", "m", 0.5, "weighted", 1)
    assert of() == ("local", "local", 1.0, "mlp", 0) and of("")[0] == "" and of("replay")[:2] == ("replay", "replay")
    assert of(config=made.config(provider=""))[0] == "local"
    other = AutoFusionClassifier("openai", "g", config=made.config(price_input=1.0))._config(False).llm
    assert (other.base_url, other.price_input, other.cache) == ("", -1.0, made.config().llm.cache)  # no key to another's address
    with pytest.raises(ConfigError, match="given twice"):
        of(made.config(), config=made.config())
    with pytest.raises(ConfigError, match=r"config\.llm\.model must be the name of a model"):
        made.fit("openai", config=made.config())
    simulated = made.config()
    simulated.fusion.simulated_accuracy = 0.8
    with pytest.raises(ConfigError, match="simulated_accuracy must be 0 in a classifier"):
        made.fit(simulated)


def test_a_classifier_of_a_config_is_cloned_and_cross_validated(made, fitted):
    estimator = AutoFusionClassifier(made.config(), seed=3)
    again = clone(estimator)
    assert again.provider is not estimator.provider and again.get_params()["provider"] == estimator.provider
    assert again.set_params(call_share=0.2).call_share == 0.2 and "AutoFusionClassifier" in repr(again)
    quick = clone(estimator).set_params(overrides={"fusion.folds": 0})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        scores = cross_val_score(quick, made.train["text"], made.train["label"], cv=2)
    assert scores.shape == (2,) and (scores > 0.3).all()


def test_a_fit_asks_of_no_more_than_it_says(made, fitted, capsys):
    classifier, sent = fitted
    assert sent == ASKED + 30  # training up to the bound, and the validation split, which is smaller
    assert [one["documents"] for one in classifier.reports_["m"]] == [30, ASKED]  # validation first
    other = AutoFusionClassifier(made.config(model="new"))
    before = made.server.calls
    told = other.estimate(made.train["text"], made.train["label"])["new"]
    assert made.server.calls == before and not hasattr(other, "labels_")
    assert (told.requests, told.calls, told.cached, told.cost) == (ASKED + 30, ASKED + 30, 0, None)
    capsys.readouterr()
    other.fit(made.train["text"], made.train["label"])
    assert made.server.calls - before == told.calls and f"new will be asked: {told}" in capsys.readouterr().err
    free = classifier.estimate(made.train["text"], made.train["label"])["m"]
    assert (free.calls, free.cached) == (0, ASKED + 30)
    with pytest.raises(ConfigError, match=r"estimate\(X, y\) says"):
        made.fit(made.config(dry_run=True))


def test_a_budget_is_spent_on_validation_first_and_what_it_leaves_out_is_warned_of(made):
    price = {"price_input": 1e6, "price_output": 1e6, "max_output_tokens": 20, "concurrency": 1}  # 1 a token
    config = made.config(model="dear", budget=11_000.0, **price)
    with pytest.warns(UserWarning, match=r"answers are missing: dear \(of 70 texts asked about\): \d+ budget") as caught:
        classifier = made.fit(config)
    assert len(caught) == 1
    validation, train = classifier.reports_["dear"]
    assert "budget" not in validation["missing"] and 0 < train["missing"]["budget"] < ASKED
    with pytest.warns(UserWarning, match=r"\d+ budget; these texts are classified without"):
        classifier.predict(made.new["text"])  # the same budget, spent
    assert sum(one["cost"] for one in [validation, train, *classifier.predict_reports_["dear"]]) <= 11_000


def test_predictions_are_told_and_depend_on_no_other_text(made, fitted):
    classifier, _ = fitted
    together = classifier.predict_proba(made.new["text"])
    asked = classifier.predict_reports_["m"][-1]["documents"]
    assert 0 < asked < len(made.new)
    one_by_one = [classifier.predict_proba([text])[0] for text in made.new["text"][:12]]
    np.testing.assert_allclose(one_by_one, together[:12], atol=2e-2)
    some = [one["documents"] for one in classifier.predict_reports_["m"][-12:]]
    assert set(some) == {0, 1}  # a single text is asked about where it is worth it
    every = classifier.predict_proba([*made.new["text"], *made.new["text"]])
    np.testing.assert_allclose(every[: len(made.new)], every[len(made.new) :], atol=2e-2)


def test_stored_answers_give_the_same_predictions(made, fitted, tmp_path):
    classifier, _ = fitted
    labels = classifier.predict_proba(made.new["text"])
    with Cache(made.folder / "answers.sqlite") as cache:
        cache.export(tmp_path / "all.jsonl", model="m")
    replayed = made.fit(made.config(provider="replay", replay_path=str(tmp_path / "all.jsonl")))
    assert replayed.fusion_.kinds[1] == "replay m"
    np.testing.assert_allclose(replayed.fusion_.weight, classifier.fusion_.weight)  # fitted on the same answers
    np.testing.assert_array_equal(replayed.predict_proba(made.new["text"]), labels)
    nothing = tmp_path / "other.jsonl"
    nothing.write_text(json.dumps({"id": "row 0", "answer": MODULES[0]}) + "\n")  # a place is no name of a text
    with pytest.warns(UserWarning, match=r"m \(of 70 texts asked about\): 70 absent"):
        made.fit(made.config(provider="replay", replay_path=str(nothing)))


def test_examples_are_saved_with_the_classifier_that_shows_them(made, tmp_path):
    classifier = made.fit(made.config(model="shown", shots=3, call_share=1.0))
    p = classifier.predict_proba(made.new["text"][:20])
    classifier.save(tmp_path / "saved")
    lines = [json.loads(line) for line in (tmp_path / "saved" / "fusion" / "examples.jsonl").read_text().splitlines()]
    assert len(lines) == 120 and {line["text"] for line in lines} <= set(made.train["text"])
    before = made.server.calls
    loaded = AutoFusionClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(made.new["text"][:20]), p)
    assert made.server.calls == before  # the same examples, so the same questions: all in the cache
    assert clone(loaded).config.llm.shots == 3


def test_without_examples_no_text_is_saved(made, fitted, tmp_path):
    classifier, _ = fitted
    classifier.save(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved" / "fusion").iterdir()}
    assert names == {"fusion.json", "fusion.safetensors", "router.json", "config.json"}
    loaded = AutoFusionClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict(made.new["text"]), classifier.predict(made.new["text"]))
    made.new[["text"]].to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "out.csv"
    assert predict_file(["--workdir", str(tmp_path / "saved"), "--input", str(tmp_path / "new.csv"), "--output", str(out)]) == 0
    assert list(pandas.read_csv(out)["predicted"]) == list(classifier.predict(made.new["text"]))


def test_a_model_that_changes_is_an_error_in_the_fit_and_afterwards(made, tmp_path):
    count = [0]
    known = oracle(made.corpus, spills=False)

    def dated(change: int):
        def reply(body):
            count[0] += 1
            return known(body) | {"model": "m-may" if count[0] > change else "m-april"}

        return reply

    fields = {"cache": str(tmp_path / "new.sqlite"), "concurrency": 1}
    with Server(dated(30)) as server, pytest.raises(DataError, match=r"answers of m-april and of m-may.*changed"):
        made.fit(made.config(base_url=server.url, **fields))  # all of validation by the old, all of training by the new
    with Server(dated(200)) as server:
        classifier = made.fit(made.config(base_url=server.url, **fields))
        assert classifier.fusion_.models == {"m": "m-april"}
        classifier.save(tmp_path / "saved")
        count[0] = 200
        with pytest.raises(DataError, match="answers of m-april and of m-may"):
            AutoFusionClassifier.load(tmp_path / "saved").predict(made.new["text"])


def lists_of(frame):
    return [[label, "long"] if len(text) > 300 else [label] for text, label in zip(frame["text"], frame["label"])]


def test_several_labels_are_fitted_saved_loaded_and_judged_by_their_probabilities(made, tmp_path):
    y = lists_of(made.train)
    classifier = AutoFusionClassifier(made.config(model="many")).fit(made.train["text"], y)
    assert (
        classifier.fusion_.names == ("encoder", "many")
        and classifier.fusion_.multi_label
        and set(classifier.classes_) == {*MODULES, "long"}
    )
    found = classifier.evaluate(made.new["text"], lists_of(made.new))
    truth = classifier.labels_.encode(lists_of(made.new))
    p = classifier.predict_proba(made.new["text"]).to_numpy()
    right = classification_metrics(truth, p, classifier.labels_.names)
    assert {name: found[name] for name in ("nll", "ece", "brier")} == {name: right[name] for name in ("nll", "ece", "brier")}
    said = classifier.predict(made.new["text"])
    hot = np.array([[name in row for name in classifier.classes_] for row in said])
    assert found["accuracy"] == pytest.approx((hot == (truth > 0.5)).all(1).mean())
    classifier.save(tmp_path / "saved")
    loaded = AutoFusionClassifier.load(tmp_path / "saved")
    assert list(loaded.predict(made.new["text"])) == list(said)
    np.testing.assert_array_equal(loaded.fusion_.thresholds, classifier.fusion_.thresholds)


def test_texts_of_both_parts_are_left_out_of_training(made):
    config = made.config(provider="")
    frame = pandas.concat([made.train, made.train[:40].assign(text=made.train["text"][:40].str.upper() + "!")])
    with pytest.warns(UserWarning, match=r"\d+ of 152 training texts are also held out for validation") as caught:
        classifier = TextFuseClassifier(config=config, validation_fraction=0.2)
        corpus = classifier._fit(frame["text"], frame["label"])
    assert len(caught) == 1
    held = {text.lower().strip("!") for text in corpus.validation.texts}
    assert len(corpus.train) < 152 and not held & {text.lower().strip("!") for text in corpus.train.texts}
    with pytest.raises(DataError, match="a classifier needs different texts"):
        classifier._fit(["one text"] * 10, list("ab") * 5)


def test_rows_that_pandas_would_join_otherwise_are_refused(made):
    classifier = TextFuseClassifier(config=made.config(provider=""))
    text, label = made.train["text"], made.train["label"]
    with pytest.raises(DataError, match=r"row 0: the text has index .*y\.loc\[X\.index\]"):
        classifier.fit(text, label.sort_index())
    with pytest.raises(DataError, match=r"row 0"):
        classifier.fit(text, label.reset_index(drop=True))
    with pytest.raises(DataError, match=r"row 1: a text is needed, got nan"):
        classifier.fit(pandas.DataFrame({"text": ["a", float("nan")]}), ["x", "y"])


def test_the_starter_config_is_a_run_and_a_classifier(made, tmp_path):
    """As ``create-config`` writes it; texts are cut short and there are no folds, for time."""
    path = tmp_path / "my_fusion.py"
    assert command.main(["create-config", str(path)]) == 0
    quick = {"fusion.folds": 0, "data.max_length": 32, "data.window_stride": 16, "data.row_lengths": (32,)}
    classifier = AutoFusionClassifier(str(path), overrides=quick).fit(made.train["text"], made.train["label"])
    assert classifier.fusion_.names == ("encoder", "zero-shot") and classifier.config_.name == "my_fusion"
    assert (classifier.predict(made.new["text"]) == made.new["label"]).mean() > 0.6
    words = [f"--config={path}:runlocal", f"--config.data.path={made.corpus}", "--config.fusion.folds=0"]
    done = launch(*words, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [one["name"] for one in result["fusion"]["members"]] == ["encoder", "zero-shot"]

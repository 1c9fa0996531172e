"""Whole fusion runs: an LLM on loopback, its cache, stored answers, shares, budgets, mixed-up answers, a key that stays."""

import csv
import json
import logging
import traceback

import numpy as np
import pytest

from tests.fusion.running import CANARY, oracle, run, small_config
from tests.launching import write_corpus
from tests.llm.server import Server
from textfuse_jax.data.corpus import DataError
from textfuse_jax.evaluation.records import read_predictions
from textfuse_jax.fusion.pipeline import FusedPredictor
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.providers import ProviderError
from textfuse_jax.llm.replay import ReplayError
from textfuse_jax.predict import main as predict
from textfuse_jax.training import setup

pytestmark = pytest.mark.slow
ASKED = 96 + 48 + 48
NOBODY = "http://127.0.0.1:9/v1"


class Made:
    """One run against a server, and all that was left of it."""

    def __init__(self, folder):
        self.folder, self.corpus_file, self.lines = folder, write_corpus(folder / "corpus.csv"), []
        self.cache, self.answers = folder / "llm.sqlite", folder / "answers.jsonl"
        records = []
        handler = logging.Handler()
        handler.emit = lambda record: records.append(record.getMessage())
        root, level = logging.getLogger(), logging.getLogger().level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            with Server(oracle(self.corpus_file)) as server:
                self.config = self.config_of(base_url=server.url)
                self.result = run(self.config, folder / "run", say=self.lines.append)
                self.calls, self.paid, self.keys = server.calls, server.paid.total(), server.keys
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
        self.logged = "\n".join(records)
        with Cache(self.cache) as cache:
            cache.export(self.answers)
        self.corpus = setup.load_corpus(self.config)
        self.predictions = self.read(folder / "run")

    def config_of(self, **llm):
        fields = dict(provider="compatible", model="m", base_url=NOBODY, key_variable="CANARY_KEY")
        return small_config(self.corpus_file, self.cache, **fields | llm)

    def replay(self, path):
        return self.config_of(provider="replay", replay_path=str(path))

    def again(self, config, folder):
        return run(config, folder, trained=self.folder / "run")

    def read(self, folder):
        return read_predictions(folder / "predictions.csv").probabilities

    def stored(self):
        return [json.loads(line) for line in self.answers.read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY_KEY", CANARY)
        yield Made(tmp_path_factory.mktemp("fusion"))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_document_is_asked_about_once_and_the_llm_helps(made):
    assert made.paid == ASKED < made.calls  # faults were tried again
    llm, encoder = made.result["fusion"]["members"][1], made.result["fusion"]["members"][0]
    assert llm["kind"] == "llm compatible/m" and llm["missing"] > 0
    assert made.result["test"]["accuracy"] >= max(encoder["test"], llm["test"]) - 0.05
    assert {one["documents"] for one in made.result["fusion"]["asked"]["m"]} == {96, 48}


def test_the_report_tells_members_tests_and_what_is_missing(made):
    report = (made.folder / "run" / "report.md").read_text()
    for words in ("## Fusion", "llm compatible/m", "McNemar p", "Combiners on validation", "What was asked", "outside"):
        assert words in report
    assert "Which documents are worth a call" in report and "routing_on_validation.png" in report
    assert any("fusion of encoder, m" in line for line in made.lines)


def test_a_canary_key_is_in_nothing_that_is_left(made):
    assert f"Bearer {CANARY}" in made.keys  # it was sent where it belongs
    assert made.logged and CANARY not in made.logged + "".join(map(str, made.lines)) + json.dumps(made.result)
    files = [path for path in made.folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"llm.sqlite", "answers.jsonl", "report.md", "fusion.json", "model.json", "result.json", "config.json"} <= names
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    assert "***" in made.answers.read_text()  # what the server repeated


def test_no_exception_of_a_run_holds_the_key(made, tmp_path):
    refuse = lambda body: {"status": 401, "body": {"error": {"message": f"Incorrect API key: {CANARY}"}}}  # noqa: E731
    with Server(refuse) as server, pytest.raises(ProviderError) as caught:
        made.again(made.config_of(base_url=server.url, model="new"), tmp_path / "run")
    error = caught.value
    while error is not None:
        assert CANARY not in "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        error = error.__cause__ or error.__context__


def test_a_second_run_calls_nobody_and_says_the_same(made, tmp_path):
    result = made.again(made.config, tmp_path / "run")  # its server is gone
    np.testing.assert_array_equal(made.read(tmp_path / "run"), made.predictions)
    assert all(one["calls"] == 0 for one in result["fusion"]["asked"]["m"])


def test_a_changed_model_or_temperature_misses_the_old_cache(made, tmp_path):
    for number, changed in enumerate(({"model": "m2"}, {"temperature": 0.5})):
        with Server(oracle(made.corpus_file, spills=False)) as server:
            made.again(made.config_of(base_url=server.url, **changed), tmp_path / str(number))
            assert server.calls == ASKED


def test_stored_answers_are_replayed_in_any_order_and_twice(made, tmp_path):
    rows = made.stored()
    result = made.again(made.replay(write(tmp_path / "a.jsonl", rows[::-1] + rows[:50])), tmp_path / "run")
    assert result["fusion"]["members"][1]["kind"] == "replay m"
    np.testing.assert_allclose(made.read(tmp_path / "run"), made.predictions, atol=1e-6)


def test_answers_of_another_split_are_an_error(made, tmp_path):
    """By position, as LabelFusion's published runs joined them: test documents with the answers of validation."""
    answer = {row["text"]: row["answer"] for row in made.stored()}
    held, test = made.corpus.validation, made.corpus.test
    right = [{"id": i, "text": t, "answer": answer[t]} for s in (made.corpus.train, held) for i, t in zip(s.ids, s.texts)]
    swapped = [{"id": i, "answer": answer[t]} for i, t in zip(test.ids, held.texts)]
    with pytest.raises(DataError, match="one split's answers were taken for the other's"):
        made.again(made.replay(write(tmp_path / "a.jsonl", right + swapped)), tmp_path / "by_id")
    assert not (tmp_path / "by_id" / "result.json").exists()
    with_text = [row | {"text": t} for row, t in zip(swapped, held.texts)]
    with pytest.raises(ReplayError, match="of another split"):
        made.again(made.replay(write(tmp_path / "b.jsonl", right + with_text)), tmp_path / "by_text")


def test_contradicting_answers_are_an_error(made, tmp_path):
    row = made.stored()[0]
    other = row | {"answer": "numpy" if row["answer"] != "numpy" else "os"}
    with pytest.raises(ReplayError, match="keep one"):
        made.again(made.replay(write(tmp_path / "a.jsonl", [*made.stored(), other])), tmp_path / "run")


def test_a_share_of_the_test_documents_is_asked_about(made, tmp_path):
    result = made.again(made.config_of(base_url=made.config.llm.base_url, call_share=0.25), tmp_path / "run")  # all cached
    asked = [one["documents"] for one in result["fusion"]["asked"]["m"]]
    assert asked[:2] == [48, 96] and 0 < asked[2] < 36  # validation before training, about a fourth of the test split
    assert result["fusion"]["members"][1]["missing"] >= 48 - asked[2] and result["fusion"]["call_share"] == 0.25
    assert all(one["calls"] == 0 for one in result["fusion"]["asked"]["m"])
    ends = [result["fusion"]["routing"][k] for k in (0, -1)]
    assert [row["share"] for row in ends] == [0.0, 1.0]


def test_a_dry_run_says_what_it_would_take_and_sends_nothing(made, tmp_path):
    lines = []
    with Server(oracle(made.corpus_file, spills=False)) as server:
        fields = dict(base_url=server.url, price_input=1.0, price_output=2.0, call_share=0.5)
        dry = made.config_of(dry_run=True, **fields)
        assert run(dry, tmp_path / "run", say=lines.append) == {} and server.calls == 0
        (told,) = [line for line in lines if "will be asked" in line]
        assert "m will be asked: 168 requests: 0 from the cache, 168 calls; about" in told and "cost about 0." in told
        assert not (tmp_path / "run" / "encoder").exists() and "nothing was sent, nothing was trained" in lines[-1]
        result = made.again(made.config_of(**fields), tmp_path / "run")  # the same folder
        assert [one["calls"] for one in result["fusion"]["asked"]["m"]][:2] == [48, 96]


def test_new_texts_are_classified_on_the_command_line(made, tmp_path, capsys):
    test = made.corpus.test
    with (tmp_path / "new.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text"), *zip(test.ids, test.texts)])
    words = ["--workdir", str(made.folder / "run"), "--input", str(tmp_path / "new.csv"), "--output", str(tmp_path / "out.csv")]
    assert predict(words) == 0
    found = read_predictions(tmp_path / "out.csv")
    np.testing.assert_allclose(found.probabilities, made.predictions, atol=2e-2)
    assert list(found.ids) == test.ids and "0 calls" in capsys.readouterr().err


def test_a_budget_stops_in_time_and_the_rest_is_missing(made, tmp_path):
    price = {"price_input": 1e6, "price_output": 1e6, "max_output_tokens": 40, "concurrency": 1}  # 1 a token
    with Server(oracle(made.corpus_file, spills=False)) as server:
        config = made.config_of(base_url=server.url, budget=20_000.0, cache=str(tmp_path / "new.sqlite"), **price)
        result = made.again(config, tmp_path / "run")
        assert 0 < server.calls < ASKED
    asked = result["fusion"]["asked"]["m"]
    assert sum(one["cost"] for one in asked) <= 20_000 and sum(one["missing"].get("budget", 0) for one in asked) > 0
    assert result["test"]["n"] == 48


def test_a_finished_run_classifies_new_texts_as_it_did_the_test_split(made):
    predictor = FusedPredictor(made.folder / "run", say=lambda line: None)
    p, decided = predictor.predict(made.corpus.test.ids, made.corpus.test.texts)
    np.testing.assert_allclose(p, made.predictions, atol=2e-2)  # bfloat16 products round by the shape they are computed in
    assert decided.sum() == 48 and all(one["calls"] == 0 for one in predictor.reports["m"])
    members = predictor.members(made.corpus.test.ids, made.corpus.test.texts, call_share=0.0)
    assert not members.present[:, 1].any()


@pytest.mark.parametrize("missing", ["key", "sdk"])
def test_without_key_or_sdk_nothing_is_trained(made, tmp_path, monkeypatch, missing):
    if missing == "key":
        monkeypatch.delenv("CANARY_KEY")
    else:
        monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ProviderError, match="CANARY_KEY" if missing == "key" else "openai"):
        run(made.config_of(), tmp_path / "run")
    assert not (tmp_path / "run" / "encoder" / "model").exists()


def test_training_texts_that_are_tested_too_are_left_out(made, tmp_path):
    with made.corpus_file.open(newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    with (tmp_path / "test.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([table[0], *table[1:41]])
    config = made.config_of()
    config.data.update(dict(test_path=str(tmp_path / "test.csv"), train_rows=0, validation_rows=48, test_rows=0))
    corpus = setup.load_corpus(config)
    tested = set(corpus.test.texts)
    assert len(tested) == 40 and not tested & {*corpus.train.texts, *corpus.validation.texts}
    assert any("also held out" in warning and "dropped" in warning for warning in corpus.warnings)

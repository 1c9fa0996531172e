"""Whole fusion runs: an LLM on loopback, its cache, stored answers, shares, budgets, mixed-up answers, a key that stays."""

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
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.providers import ProviderError
from textfuse_jax.llm.replay import ReplayError
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

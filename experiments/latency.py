"""Milliseconds from a text to its probabilities, for every row of the main table and of the ablation.

    TEXTFUSE_DATA=DIR python -m experiments.latency [:runlocal]

Tokenising, encoder (a frozen one too) and model, one text at a time and 64 together, without compilation. All rows of a table
take turns, and the median of the rounds is told: what else the machine does meets them all alike. Time doesn't depend on what was
learned, so that weights behind the encoder are random ones; the tables join these times to their rows. Texts: the validation
rows of AG News. About 10 minutes of one core, most of it compilation; an idle machine is wanted, the line tells its load.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import study_linear, tuned
from experiments.study import RESULTS, WORK, Setting, frozen
from textfuse_jax.data.corpus import Corpus
from textfuse_jax.data.pipeline import evaluation_batches
from textfuse_jax.evaluation.records import append_result, environment, hardware
from textfuse_jax.evaluation.reference import tfidf_logreg
from textfuse_jax.training import assembly, setup
from textfuse_jax.training.grid import with_fields
from textfuse_jax.training.inference import predict_logits, to_probabilities
from textfuse_jax.training.parallel import make_mesh
from textfuse_jax.training.step import flatten, unflatten

STUDIES = ("baselines", "ablation")
SIZES = (1, 64)
ROUNDS = 15
Predict = Callable[[Sequence[str]], np.ndarray]
"""Texts -> probabilities [n, c]."""


def predictor(config: ConfigDict, encoder: setup.TextEncoder, classes: int) -> Predict:
    """A model of one label a document, from text on, with random weights behind the encoder; on cached features the frozen
    encoder runs too."""
    model = assembly.make_model(config, encoder.architecture, classes, "frozen" if config.encoder.mode == "cached" else None)
    longest, mesh = max(config.data.row_lengths), make_mesh(1)

    def batches(texts: Sequence[str]):
        encoded, tokens = setup.encode_split(config, encoder.tokenizer, texts), config.data.eval_tokens_per_batch
        labels, options = np.zeros(len(texts), np.int32), dict(row_lengths=config.data.row_lengths, prefetch=0)
        return evaluation_batches(encoded, labels, tokens_per_batch=longest if len(texts) == 1 else tokens, **options)

    shapes = flatten(
        jax.eval_shape(lambda rows: model.init(jax.random.key(0), rows, train=False), batches(["a"]).batch(0))["params"]
    )
    rng = np.random.default_rng(0)
    params = {name: (0.02 * rng.normal(size=x.shape)).astype(x.dtype) for name, x in shapes.items()}
    params |= {name: x for name, x in flatten({"encoder": encoder.params or {}}).items() if name in params}
    params = jax.device_put(params)
    forward = jax.jit(lambda params, rows: assembly.predictor(model)(unflatten(params), rows)[0])

    def predict(texts: Sequence[str]) -> np.ndarray:
        return to_probabilities(predict_logits(forward, params, batches(texts), len(texts), classes, mesh), False)

    return predict


def rows_of(study: str) -> dict[str, Setting | tuned.Row]:
    """The rows of a study's table by name."""
    settings = importlib.import_module(f"experiments.{study}").SETTINGS
    return {row.name: row for row in [*settings, *(row for row in tuned.ROWS if row.study == study)]}


class Predictors:
    """What predicts as a table's row does; rows of one encoder share its weights, rows of one model all."""

    def __init__(self, corpus: Corpus):
        self._corpus, self._encoders, self._made = corpus, {}, {}

    def __call__(self, row: Setting | tuned.Row) -> Predict:
        """Of a row."""
        config = row.at(0) if isinstance(row, tuned.Row) else with_fields(frozen(), row.fields)
        words = isinstance(row, Setting) and row.fit is study_linear.tfidf
        parts = [config.model.to_dict(), config.encoder.to_dict(), [config.data[name] for name in ("max_length", "row_lengths")]]
        key = "words" if words else json.dumps(parts, default=str)
        if key not in self._made:
            self._made[key] = tfidf_logreg(self._corpus)["predict"] if words else self._predictor(config)
        return self._made[key]

    def _predictor(self, config: ConfigDict) -> Predict:
        deep = f"{setup.deepest(config):02d}/document"
        key = json.dumps([config.encoder.checkpoint, config.encoder.scratch.to_dict(), deep], default=str)
        if key not in self._encoders:
            self._encoders[key] = setup.load_text_encoder(config, self._corpus.train.texts, (deep,))
        return predictor(config, self._encoders[key], len(self._corpus.class_names))


def timed(predictors: Mapping[str, Predict], texts: Sequence[str], rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Name -> batch size -> milliseconds a text: the median of the rounds, in each of which every predictor has its turn.

    Of one text a call it is another one each round, all seen once before, so that nothing compiles on the clock.
    """
    taken: dict[str, dict[str, list[float]]] = {name: {str(size): [] for size in SIZES} for name in predictors}
    for predict, size in itertools.product(predictors.values(), SIZES):
        for turn in range(rounds if size == 1 else 1):
            predict(batch(texts, size, turn))
    for turn, size in itertools.product(range(rounds), SIZES):
        for name, predict in predictors.items():
            now = batch(texts, size, turn)
            start = time.perf_counter()
            predict(now)
            taken[name][str(size)].append(1000 * (time.perf_counter() - start) / len(now))
    return {name: {size: round(float(np.median(found)), 3) for size, found in mine.items()} for name, mine in taken.items()}


def batch(texts: Sequence[str], size: int, turn: int) -> list[str]:
    """The texts of a call: one, another each turn, or the first so many."""
    return [texts[turn % len(texts)]] if size == 1 else list(texts[:size])


def main(arguments: list[str]) -> int:
    """Times and records; returns the exit code."""
    if [argument.lstrip(":") for argument in arguments] not in ([], ["runlocal"]):
        print("usage: python -m experiments.latency [:runlocal]", file=sys.stderr)
        return 2
    output, machine = (WORK / "local" if arguments else RESULTS) / "latency.jsonl", environment()
    corpus = setup.load_corpus(frozen())
    predictors = Predictors(corpus)
    for study in STUDIES:
        rows = rows_of(study)
        rows = dict(list(rows.items())[:3] if arguments else rows.items())
        print(f"latency of {study}: {len(rows)} rows", flush=True)
        found = timed({name: predictors(row) for name, row in rows.items()}, corpus.validation.texts, 2 if arguments else ROUNDS)
        for name, milliseconds in found.items():
            line = {"study": "latency", "of": study, "setting": name, "latency_ms": milliseconds}
            line |= {"hardware": hardware(machine), "load_average": round(os.getloadavg()[0], 1)}
            line |= {"commit": machine["git"]["commit"], "uncommitted_changes": machine["git"]["dirty"]}
            append_result(output, line)
            print(f"  {name}: {milliseconds['1']:.1f} ms a text, {milliseconds['64']:.2f} with 64 at a time", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Classifies new text with a finished run.

    python -m textfuse_jax.predict --workdir RUN --input FILE.csv --output OUT.csv

The input is CSV, TSV, JSONL or Parquet, plain or .gz, with the run's text columns and, if you like, an ``id`` column;
``-`` is standard input or output (CSV). The output holds id, predicted and a probability for each class. A run of cascades takes
JSON lines {id, texts, parent, time} instead. A fusion, also one that ``AutoFusionClassifier.save`` wrote, asks its LLMs about the
share of the texts that its config says, with keys from the environment.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from textfuse_jax.data import ag_news
from textfuse_jax.data.cascade_sets import SOURCES as CASCADES
from textfuse_jax.data.pipeline import evaluation_batches
from textfuse_jax.data.tabular import read_texts
from textfuse_jax.evaluation.metrics import decide
from textfuse_jax.evaluation.records import write_predictions
from textfuse_jax.experiment import USER_ERRORS, config_of
from textfuse_jax.training import assembly, export, setup
from textfuse_jax.training.inference import chosen, predict_logits, to_probabilities
from textfuse_jax.training.parallel import make_mesh, replicate
from textfuse_jax.training.step import unflatten


class Predictor:
    """A finished model, ready to classify texts.

    Args:
      workdir: the run folder.
      shown: what the batches are called where progress is shown; "": none is.
    """

    def __init__(self, workdir: str | pathlib.Path, shown: str = ""):
        self._shown, workdir = shown, pathlib.Path(workdir)
        self.finished = export.load(workdir / "model")
        self.config = config_of(self.finished.config)
        self.class_names, self.multi_label = self.finished.class_names, self.finished.multi_label
        self._mesh = make_mesh()
        mode = "frozen" if self.config.encoder.mode == "cached" else None
        model = assembly.make_model(self.config, self.finished.architecture, len(self.class_names), mode)
        self._forward = jax.jit(lambda params, rows: assembly.predictor(model)(unflatten(params), rows)[0])
        self._params = replicate(self.finished.params, self._mesh)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Logits f32 [n, c], in the order of the texts."""
        classes = len(self.class_names)
        encoded = setup.encode_split(self.config, self.finished.tokenizer, texts)
        labels = np.zeros((len(texts), classes), np.float32) if self.finished.multi_label else np.zeros(len(texts), np.int32)
        batches = evaluation_batches(
            encoded,
            labels,
            row_lengths=self.config.data.row_lengths,
            tokens_per_batch=self.config.data.eval_tokens_per_batch,
            rows_multiple=self._mesh.size,
            packed=self.config.data.packed,
        )
        return predict_logits(self._forward, self._params, batches, len(texts), classes, self._mesh, shown=self._shown)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Probability of each class f64 [n, c]; rows sum to 1 unless the model is multi-label."""
        if not len(texts):
            return np.zeros((0, len(self.class_names)))
        return to_probabilities(self.logits(texts), self.multi_label)

    def predict(self, ids: Sequence[str], texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of texts, and what is predicted, bool [n, c]; the ids don't matter."""
        probabilities = self.probabilities(texts)
        return probabilities, decide(probabilities, 0.5 if self.multi_label else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m textfuse_jax.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="folder of a finished run")
    parser.add_argument("--input", default="-", help="file of texts, - for standard input (CSV)")
    parser.add_argument("--output", default="-", help="file of predictions, - for standard output")
    parser.add_argument("--text_columns", nargs="+", help="columns of the text, joined by a space; default: those of the run")
    options = parser.parse_args(arguments)
    workdir = pathlib.Path(options.workdir)
    try:
        if (workdir / "fusion" / "fusion.json").exists():
            predictor: Any = _fused(workdir)
        elif config_of(export.read_facts(workdir / "model")["config"]).data.source in CASCADES:
            return _cascades(options)
        else:
            predictor = Predictor(workdir, shown="batches")
        columns: tuple[Any, ...] = tuple(options.text_columns or predictor.config.data.text_columns)
        ids, texts = read_texts(options.input, columns)
        data = predictor.config.data
        if data.source == "ag_news" and data.clean_html:
            texts = [ag_news.clean(text) for text in texts]  # as the training texts were
        probabilities, decided = predictor.predict(ids, texts)
    except (*USER_ERRORS, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    predicted = decided.astype(np.float32) if predictor.multi_label else probabilities.argmax(1)
    write_predictions(options.output, ids, None, predicted, probabilities, predictor.class_names)
    return 0


def _fused(workdir: pathlib.Path) -> Any:
    """A finished fusion of an encoder and LLMs; its progress goes to stderr."""
    from textfuse_jax.fusion.pipeline import FusedPredictor  # which needs this module

    return FusedPredictor(workdir, lambda line: print(line, file=sys.stderr))


def _cascades(options: argparse.Namespace) -> int:
    """The command line for a run of cascades."""
    from textfuse_jax.predict_cascades import CascadePredictor

    predictor = CascadePredictor(options.workdir, lambda line: print(line, file=sys.stderr))
    cascades = predictor.read(options.input)
    probabilities = predictor.probabilities(cascades)
    write_predictions(options.output, cascades.ids, None, chosen(probabilities, False), probabilities, predictor.class_names)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The rows of the studies' tables whose encoder is tuned, in the order in which results are wanted; ``tuned`` runs them."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import data_efficiency
from experiments.baselines import ATTENTION_PAPER, PAPERS, PYRAMID_PAPER, not_at_hand
from experiments.graph_benchmarks import PUBLISHED, published
from experiments.study import NO_GRAPH
from textfuse_jax.config import runlocal
from textfuse_jax.training.grid import with_fields


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a study's table.

    Attributes:
      study: whose table it joins.
      name: of the row; unique in the study.
      config: file in configs, with its argument: ``"graph_benchmarks:r8"``.
      fields: config field -> value, on top of it.
      against: the row of the study that it is compared with, as soon as both are measured.
      published: as in ``study.Setting``.
      resample: whether each seed has training and validation rows of its own.
      words: whether the run's probabilities are mixed with those of TF-IDF, which reads texts whole; the run is the same.
      small: a smoke run, recorded elsewhere.
    """

    study: str
    name: str
    config: str
    fields: Mapping[str, Any]
    against: str
    published: Mapping[str, Any] | None = None
    resample: bool = False
    words: bool = False
    small: bool = False

    def at(self, seed: int) -> ConfigDict:
        """The config of one of its runs."""
        name, _, argument = self.config.partition(":")
        config = importlib.import_module(f"configs.{name}").get_config(argument or None)
        own = {"seed": seed, "data.seed": seed if self.resample else 0, "evaluation.graphs": 0, "evaluation.reference": False}
        config = with_fields(config, {**self.fields, **own})
        if self.small:
            runlocal(config)
        return config


ALONE = {"model.pyramid": "", "model.document_taps": ("06/document",), **NO_GRAPH}
CLS = {
    "model.pyramid": "textfuse_jax.models.pyramid:Single",
    "model.pyramid_args": {"width": None},
    "model.levels": ("06/token",),
    "model.nodes": ("token",),
    "model.pooling": "textfuse_jax.models.pooling:First",
    "model.pooling_args": {},
    "model.document_taps": (),
    **NO_GRAPH,
}
EIGHT = {"data.train_rows": 8000}
ALL = {**data_efficiency.WHOLE, "loss.consistency": 0.0, "training.total_epochs": 2, "training.average_decay": 0.99}
"""All rows that hold title and description, one pass a step: what two cores can do in an hour."""
MODELS = {
    "BERT-style fine-tuning, mean of the last layer": ("agnews_pyramid", ALONE, None),
    "BERT-style fine-tuning, [CLS]": ("agnews_pyramid", CLS, None),
    "attention-hybrid pooling, tuned": ("agnews_attention", {}, ATTENTION_PAPER),
    "Pyramid-GNN, tuned": ("agnews_pyramid", {}, PYRAMID_PAPER),
}
MEAN = next(iter(MODELS))
WHOLE, BOTH = "whole method, tuned", "whole method and TF-IDF, mixed, tuned"
BERT = not_at_hand(*PAPERS)
"""Both papers fine-tune BERT."""
DISTILBERT = {"accuracy": 0.934, "source": "DistilBERT, all 120,000 rows"}


def _main_table(fields: Mapping[str, Any], end: str = "") -> list[Row]:
    return [
        Row("baselines", name + end, config, {**own, **fields}, MEAN + end, DISTILBERT if end and name == MEAN else paper or BERT)
        for name, (config, own, paper) in MODELS.items()
        if name == MEAN or not end or paper  # [CLS] has one size
    ]


def _benchmarks(name: str) -> list[Row]:
    config, alone = f"graph_benchmarks:{name}", f"{name}, encoder alone, tuned"
    bert = {"accuracy": PUBLISHED[name]["BERT"], "source": "BERT, tuned"} if "BERT" in PUBLISHED[name] else None
    whole = f"{name}, {WHOLE}"
    return [  # the whole method first: where there is time for one run, it is the one that is wanted
        Row("graph_benchmarks", whole, config, {}, alone, published(name)),
        Row("graph_benchmarks", f"{name}, {BOTH}", config, {}, whole, published(name), words=True),
        Row("graph_benchmarks", alone, config, {**ALONE, "model.lexical": ""}, alone, bert),
    ]


def _efficiency(rows: int, epochs: int = 0) -> list[Row]:
    """The encoder alone and Pyramid-GNN with so many rows; without ``epochs`` these are the runs of the main table."""
    fields = dict(EIGHT if rows == 8000 else ALL)
    if epochs:  # as in data_efficiency: few validation rows tell a model by its likelihood
        fields = data_efficiency.data_of(rows) | {"training.total_epochs": epochs, "training.select_by": "nll"}
    end, known = data_efficiency.suffix(rows), data_efficiency.published(rows)
    return [
        Row("data_efficiency", name + end, "agnews_pyramid", own | fields, f"encoder alone, tuned{end}", known, bool(epochs))
        for name, own in (("encoder alone, tuned", ALONE), ("Pyramid-GNN, tuned", {}))
    ]


ROWS = [
    *_main_table(EIGHT),
    *_efficiency(8000),
    *(row for name in ("r8", "mr", "ohsumed", "20newsgroups", "trec") for row in _benchmarks(name)),
    *_efficiency(1000, 8),
    *_efficiency(4000, 4),
    *_efficiency(256, 20),
    *_efficiency(128, 30),
    *_efficiency(64, 40),
    *_efficiency(32, 40),
    *_main_table(ALL, ", all rows"),
    *_efficiency(data_efficiency.ALL),
]
"""In the order in which results are wanted."""

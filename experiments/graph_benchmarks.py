"""Frozen MiniLM on R8, MR, Ohsumed, 20 Newsgroups (TextGCN's splits) and TREC; does the graph add to the encoder there?

    TEXTFUSE_DATA=DIR python -m experiments.graph_benchmarks [:runlocal]

Each set with the encoder alone, linear models of words, of the encoder's layers and of both mixed, Pyramid-GNN, and taps and
words joined with the graph and without; differences are against the encoder alone on the same set and regime. Of frozen features
texts are cut at 256 tokens (MR and TREC have at most 128); linear models of words, mixed ones too, read texts whole. TREC's file
leaves a finer label before each question, which is taken out, but for two linear rows that show what it is worth (compared with
each other). Tuned encoders, which read longer test texts whole, in windows, take a run each: ``experiments.tuned``. All training
rows, 5 seeds; two and a half hours of one core of a Xeon.
Published: TextGCN, BertGCN and RoBERTaGCN are transductive (their graph holds the test documents), BERT and TextING are not.
"Highest listed" is what public result lists have without a name at hand, whether on this split isn't known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from configs.graph_benchmarks import TREC_LABEL
from experiments.study import (
    ENCODER_ALONE,
    HEAD,
    LOW,
    NO_GRAPH,
    OURS,
    Setting,
    Study,
    frozen,
    linear_rows,
    main,
    mixed_row,
    rates,
)

MODELS = {
    "encoder alone": ENCODER_ALONE,
    "Pyramid-GNN": {},
    "Pyramid-GNN, taps and words": OURS,
    "taps and words without graph": OURS | NO_GRAPH,
}
SHORT = ("mr", "trec")
"""Sets whose texts have at most 128 tokens."""
EPOCHS = {"20newsgroups": 4}
"""Of the set with most tokens; 8 of the others."""
LISTED = "highest listed, unnamed"
PUBLISHED = {
    "mr": {"TextGCN": 0.767, "TextING": 0.798, "BERT": 0.857, "BertGCN": 0.860, "RoBERTaGCN": 0.897, LISTED: 0.933},
    "r8": {"TextGCN": 0.971, "TextING": 0.980, "BERT": 0.978, "BertGCN": 0.981, "RoBERTaGCN": 0.982, LISTED: 0.9886},
    "trec": {},
    "ohsumed": {"TextGCN": 0.684, "TextING": 0.704, "BERT": 0.705, "BertGCN": 0.728, "RoBERTaGCN": 0.728, LISTED: 0.729},
    "20newsgroups": {"TextGCN": 0.863, "BERT": 0.853, "BertGCN": 0.893, "RoBERTaGCN": 0.895},
}
"""Accuracy. BERT, BertGCN and RoBERTaGCN: arXiv 2105.05727 and its code's README; TextGCN: arXiv 1809.05679."""
TRANSDUCTIVE = ("TextGCN", "BertGCN", "RoBERTaGCN")
"""Models that see the test documents, without their labels, as they learn; ours never do."""
BAG_OF_WORDS = {"mr": 0.767, "r8": 0.973, "ohsumed": 0.661, "20newsgroups": 0.842}
"""Published of a bag-of-words MLP on the same splits: beside our linear model of words."""


def known(name: str) -> dict[str, float]:
    """Who -> accuracy published of a set; transductive models say so."""
    return {who + ", transductive" * (who in TRANSDUCTIVE): value for who, value in PUBLISHED[name].items()}


def published(name: str) -> dict | None:
    """TextGCN's accuracy, and in words what others report on the same split."""
    if not PUBLISHED[name]:
        return None
    (first, accuracy), *others = known(name).items()
    return {"accuracy": accuracy, "source": "; ".join([first, *(f"{who} {value:g}" for who, value in others)])}


def grid(name: str, model: str) -> tuple[Mapping[str, Any], ...]:
    """Where the rate of a row is looked for: each inside its five."""
    if model == "encoder alone":
        return HEAD
    return LOW if (name, model) == ("ohsumed", "Pyramid-GNN") else rates()


def settings(name: str) -> list[Setting]:
    """All rows of one set."""
    fields = {
        "data.source": "file",
        "data.path": f"{name}.csv.gz",
        "data.split_column": "split",
        "data.train_rows": 0,
        "data.validation_rows": 0,
        "data.max_length": 128 if name in SHORT else 256,
        "data.row_lengths": (128,) if name in SHORT else (256,),
        "training.total_epochs": EPOCHS.get(name, 8),
    }
    if name == "trec":
        fields["data.text_remove"] = TREC_LABEL
    against = f"{name}, encoder alone"
    trained = [
        Setting(
            f"{name}, {model}",
            fields | parts,
            published(name) if model == "Pyramid-GNN" else None,
            against,
            grid=grid(name, model),
        )
        for model, parts in MODELS.items()
    ]
    words = {"accuracy": BAG_OF_WORDS[name], "source": "bag-of-words MLP"} if name in BAG_OF_WORDS else None
    linear = [*linear_rows("", fields, against, (words, None)), mixed_row(fields, against)]
    alone, *others = trained  # what takes long comes last
    return [alone, *(dataclasses.replace(row, name=f"{name}, {row.name}") for row in linear), *others]


def with_labels() -> list[Setting]:
    """TREC as its file leaves it, a finer label before each question, by the linear models: what that label is worth."""
    fields = {**settings("trec")[0].fields, "data.text_remove": ""}
    rows = linear_rows("", fields)
    names = [f"trec with the labels in its texts, {row.name}" for row in rows]
    return [dataclasses.replace(row, name=name, against=names[0]) for row, name in zip(rows, names)]


SETTINGS = [row for name in PUBLISHED for row in settings(name)] + with_labels()

STUDY = Study("graph_benchmarks", frozen(), SETTINGS)

if __name__ == "__main__":
    main(STUDY)

"""Frozen MiniLM on R8, MR, Ohsumed, 20 Newsgroups (TextGCN's splits) and TREC; does the graph add to the encoder there?

    TEXTFUSE_DATA=DIR python -m experiments.graph_benchmarks [:runlocal]

Each set with the encoder alone, Pyramid-GNN, and Pyramid-GNN with taps and words; differences are against the encoder alone
on the same set. Tuned encoders take a run each: ``python launch.py --config=configs/graph_benchmarks.py:NAME``. Texts are cut at
256 tokens. Published: TextGCN. All training rows, 5 seeds; about 45 minutes on 2 cores, most of it features, once.
"""

from __future__ import annotations

import dataclasses

from experiments.study import ENCODER_ALONE, OURS, Setting, frozen, linear_rows, main

MODELS = {"encoder alone": ENCODER_ALONE, "Pyramid-GNN": {}, "Pyramid-GNN, taps and words": OURS}
TEXTGCN = {"mr": 0.767, "r8": 0.971, "trec": None, "ohsumed": 0.684, "20newsgroups": 0.863}


def settings(name: str) -> list[Setting]:
    """All rows of one set."""
    fields = {
        "data.source": "file",
        "data.path": f"{name}.csv.gz",
        "data.split_column": "split",
        "data.train_rows": 0,
        "data.validation_rows": 0,
        "data.max_length": 256,
        "data.row_lengths": (256,),
        "training.total_epochs": 8,
    }
    published = {"accuracy": TEXTGCN[name], "source": "TextGCN"} if TEXTGCN[name] else None
    against = f"{name}, encoder alone"
    trained = [
        Setting(f"{name}, {model}", fields | parts, published if model == "Pyramid-GNN" else None, against)
        for model, parts in MODELS.items()
    ]
    linear = linear_rows("", fields, against)
    return trained + [dataclasses.replace(row, name=f"{name}, {row.name}") for row in linear]


SETTINGS = [row for name in TEXTGCN for row in settings(name)]

if __name__ == "__main__":
    main("graph_benchmarks", frozen(), SETTINGS)

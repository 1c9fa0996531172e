"""Which encoder: MiniLM, a transformer from scratch, and BERT, RoBERTa or DistilBERT where their weights are at hand.

    TEXTFUSE_DATA=DIR TEXTFUSE_CHECKPOINTS=bert-base-uncased=FOLDER,... python -m experiments.backbone [:runlocal]

Each with the encoder alone and with Pyramid-GNN on its frozen features (from scratch everything is trained). A checkpoint is
looked for as the environment variable says (name=folder, by commas), else under its hub name; lines tell the name and the SHA-256
of what lies there; rows whose weights are not there say 'not measured'. From scratch it is the main table's transformer of two
layers. 4,000 training rows of AG News, 5 seeds; 55 minutes of one core of an AMD EPYC for MiniLM and scratch.
"""

from __future__ import annotations

from experiments.baselines import SCRATCH_GRID, scratch
from experiments.study import ENCODER_ALONE, HEAD, NO_GRAPH, Setting, Study, frozen, main

LAYERS = {"distilbert-base-uncased": 6, "bert-base-uncased": 12, "roberta-base": 12}


def rows_of(name: str) -> list[Setting]:
    """Encoder alone and Pyramid-GNN on a checkpoint's layers at a third, two thirds and the end."""
    low, middle, top = (f"{layer:02d}" for layer in (LAYERS[name] // 3, 2 * LAYERS[name] // 3, LAYERS[name]))
    checkpoint = {"encoder.checkpoint": name}
    taps = tuple(f"{layer}/document" for layer in (low, middle, top))
    alone = checkpoint | {"model.pyramid": "", "model.document_taps": taps, **NO_GRAPH}
    levels = (f"{low}/phrase", f"{middle}/sentence", f"{top}/document")
    return [
        Setting(f"{name}, encoder alone", alone, grid=HEAD),
        Setting(f"{name}, Pyramid-GNN", checkpoint | {"model.levels": levels}, against=f"{name}, encoder alone"),
    ]


PYRAMID = {
    "model.pyramid": "textfuse_jax.models.pyramid:Pyramid",
    "model.pyramid_args": {"dropout": 0.3},
    "model.levels": ("00/phrase", "01/sentence", "02/document"),
    "model.nodes": ("phrase", "sentence"),
    "model.propagate": "textfuse_jax.models.message_passing:GCN",
    "model.edges": tuple(f"textfuse_jax.models.edges:{kind}" for kind in ("window", "knn", "hierarchy")),
}
SETTINGS = [
    Setting("MiniLM, encoder alone", ENCODER_ALONE, grid=HEAD),
    Setting("MiniLM, Pyramid-GNN"),
    Setting("from scratch, encoder alone", scratch(2, "Mean"), grid=SCRATCH_GRID),
    Setting(
        "from scratch, Pyramid-GNN",
        scratch(2, "Hybrid") | PYRAMID,
        against="from scratch, encoder alone",
        grid=SCRATCH_GRID,
    ),
    *(row for name in LAYERS for row in rows_of(name)),
]

STUDY = Study("backbone", frozen(), SETTINGS, reference="MiniLM, encoder alone")

if __name__ == "__main__":
    main(STUDY)

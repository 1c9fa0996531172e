"""What each part of Pyramid-GNN adds (arXiv 2511.05752), over the encoder alone: 5 seeds on cached MiniLM features of AG News.

    TEXTFUSE_DATA=DIR python -m experiments.ablation [:runlocal]

Parts taken out one at a time, pyramid levels 1 to 3, and K = 0 to 4 rounds of messages with a measure of over-smoothing: the
mean cosine of two nodes of one document after the last round. 4,000 training rows; about 15 minutes on 2 cores.
"""

from __future__ import annotations

from experiments.study import ENCODER_ALONE, NO_GRAPH, TAPS, Setting, frozen, linear_rows, main
from experiments.study_graphs import graph_facts

PAPER = {"accuracy": 0.913, "f1_macro": 0.905, "auc_ovr": 0.947, "precision_macro": 0.908}
SINGLE = {"model.pyramid": "textfuse_jax.models.pyramid:Single", "model.pyramid_args": {}, "model.levels": ("06/phrase",)}
ENCODER = {"model.pyramid": "", "model.document_taps": ("06/document",), **NO_GRAPH}
SETTINGS = [
    Setting("encoder alone", ENCODER),
    Setting("encoder alone, three layers", ENCODER_ALONE),
    *linear_rows(),
    Setting("full", published={**PAPER, "source": "arXiv 2511.05752 (tuned encoder, all rows)"}),
    Setting("without pyramid", SINGLE),
    Setting("without graph", NO_GRAPH),
    Setting("without pyramid and graph", {**SINGLE, **NO_GRAPH}),
    Setting("without hybrid pooling", {"model.pooling": "textfuse_jax.models.pooling:Mean"}),
    Setting("full, document taps joined", {"model.document_taps": TAPS}),
    Setting("1 level", {"model.levels": ("06/phrase",)}),
    Setting("2 levels", {"model.levels": ("04/phrase", "06/sentence")}),
    Setting("K = 0", {"model.propagate_args.rounds": 0}),
    Setting("K = 1", {"model.propagate_args.rounds": 1}),
    Setting("K = 3", {"model.propagate_args.rounds": 3}),
    Setting("K = 4", {"model.propagate_args.rounds": 4}),
]


if __name__ == "__main__":
    main("ablation", frozen(), SETTINGS, reference="encoder alone", measure=graph_facts)

"""What each part of Pyramid-GNN adds (arXiv 2511.05752), over the encoder alone: 5 seeds on cached MiniLM features of AG News.

    TEXTFUSE_DATA=DIR python -m experiments.ablation [:runlocal]

Parts taken out one at a time, pyramid levels 1 to 3, and K = 0 to 4 rounds of messages with a measure of over-smoothing: the
mean cosine of two nodes of one document after the last round; "full" has three levels and K = 2. The full model is compared with
the encoder alone on the same three layers, every model with a part changed with the full one; last stands what
configs/agnews_frozen.py joins, with and without the graph. Models whose best rate lies at the end of the studies' five have five
lower or higher ones. 4,000 training rows; about a quarter of an hour of one core.
"""

from __future__ import annotations

from experiments.study import ENCODER_ALONE, HEAD, LOW, NO_GRAPH, OURS, TAPS, Setting, Study, frozen, linear_rows, main, rates
from experiments.study_graphs import graph_facts

PAPER = {"accuracy": 0.913, "f1_macro": 0.905, "auc_ovr": 0.947, "precision_macro": 0.908}
SINGLE = {"model.pyramid": "textfuse_jax.models.pyramid:Single", "model.pyramid_args": {}, "model.levels": ("06/phrase",)}
ENCODER = {"model.pyramid": "", "model.document_taps": ("06/document",), **NO_GRAPH}
ALONE = "encoder alone, three layers"
CHANGED = {
    "without pyramid": SINGLE,
    "without graph": NO_GRAPH,
    "without pyramid and graph": {**SINGLE, **NO_GRAPH},
    "without hybrid pooling": {"model.pooling": "textfuse_jax.models.pooling:Mean"},
    "full, document taps joined": {"model.document_taps": TAPS},
    "1 level": {"model.levels": ("06/phrase",)},
    "2 levels": {"model.levels": ("04/phrase", "06/sentence")},
    **{f"K = {rounds}": {"model.propagate_args.rounds": rounds} for rounds in (0, 1, 3, 4)},
}
LOWER = ("without pyramid", "1 level", "2 levels")
SETTINGS = [
    Setting(ALONE, ENCODER_ALONE, grid=HEAD),
    Setting("encoder alone", ENCODER, grid=HEAD),
    *linear_rows(),
    Setting("full", published={**PAPER, "source": "arXiv 2511.05752 (tuned encoder, all rows)"}),
    *(Setting(name, fields, against="full", grid=LOW if name in LOWER else rates()) for name, fields in CHANGED.items()),
    Setting("taps and words joined", OURS, against="full"),
    Setting("taps and words joined, without graph", OURS | NO_GRAPH, against="taps and words joined"),
]

STUDY = Study("ablation", frozen(), SETTINGS, reference=ALONE, measure=graph_facts)

if __name__ == "__main__":
    main(STUDY)

"""Mean, attention, or how much of each: alpha of hybrid pooling (arXiv 2512.09444) on cached features of AG News.

    TEXTFUSE_DATA=DIR python -m experiments.pooling_share [:runlocal]

The paper's model: phrases of the last layer, self-attention among them, no pyramid and no graph. alpha in {0, .25, .5, .75, 1},
learned once, for each dimension and for each class; the same without self-attention, and behind Pyramid-GNN's graph. Rows without
a reference of their own are compared with alpha = 1, the mean. 4,000 training rows, 5 seeds; about 8 minutes of one core.
"""

from __future__ import annotations

from experiments.study import ATTENTION, PHRASES, Setting, Study, frozen, linear_rows, main
from experiments.study_graphs import attention_facts

ALPHA = "model.pooling_args.alpha"
PAPER = {"precision_macro": 0.90, "recall_macro": 0.88, "f1_macro": 0.89, "auc_ovr": 0.94, "source": "arXiv 2512.09444"}
PER_CLASS = {
    "model.pooling": "textfuse_jax.models.pooling:MeanAndAttention",
    "model.head": "textfuse_jax.models.head:PerClassMix",
}
GRAPH = "Pyramid-GNN, alpha = "
SETTINGS = [
    *(
        Setting(f"alpha = {alpha:g}", ATTENTION | {ALPHA: alpha}, PAPER if alpha == 0.5 else None)
        for alpha in (1.0, 0.0, 0.25, 0.5, 0.75)
    ),
    Setting("alpha learned", ATTENTION | {ALPHA: "learned"}),
    Setting("alpha learned, each dimension", ATTENTION | {ALPHA: "per_dimension"}),
    Setting("alpha learned, each class", ATTENTION | PER_CLASS),
    *(
        Setting(f"without self-attention, alpha = {alpha:g}", PHRASES | {ALPHA: alpha}, against=f"alpha = {alpha:g}")
        for alpha in (1.0, 0.5, 0.0)
    ),
    Setting("maximum, without self-attention", PHRASES | {"model.pooling": "textfuse_jax.models.pooling:Max"}),
    *(Setting(f"{GRAPH}{alpha:g}", {ALPHA: alpha}, against="" if alpha == 1 else f"{GRAPH}1") for alpha in (1.0, 0.5, 0.0)),
    *linear_rows(),
]

STUDY = Study("pooling_share", frozen(), SETTINGS, reference="alpha = 1", measure=attention_facts)

if __name__ == "__main__":
    main(STUDY)

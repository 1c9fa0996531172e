"""Does fusion help, does selection help, does the graph help? TAPE's phases 2 to 4 on PHEME, 5 folds, clean.

    TEXTFUSE_DATA=DIR python -m experiments.rumor_fusion [:runlocal]

TAPE's model as its paper has it: MiniLM's features alone, 2 rounds of 64, mean pooling; no root enhancement, no words. The
source of augmentation is "original", the post's own text through all-MiniLM-L6-v2, as no LLM was asked: these rows measure
what the fusions cost and what a second look at the same text gives, not what an LLM knows. 20 epochs, patience 5.
"""

from __future__ import annotations

from experiments.cascade_study import CascadeSetting, main

MESSAGES = "textfuse_jax.models.message_passing:"
SHORT = {"training.total_epochs": 20, "training.patience": 5}
TAPE = {
    "cascades.inputs": ("encoder",),
    "model.propagate": MESSAGES + "GCN",
    "model.propagate_args": {"rounds": 2, "residual": False, "norm": "batch", "activation": "relu", "dropout": 0.3},
    "model.edge_dropout": 0.0,
    "model.source_vector": False,
    **SHORT,
}
GAT = TAPE | {"model.propagate": MESSAGES + "GAT", "model.propagate_args": TAPE["model.propagate_args"] | {"heads": 4}}
NO_GRAPH = TAPE | {"model.edges": ("textfuse_jax.models.edges:none",)}
FUSIONS = ("Concat", "Weighted", "Gated", "Attention")
PLAIN = "GCN, no fusion"


def fused(kind: str, rule: str = "dbscan", share: float = 0.3, fields: dict | None = None) -> dict:
    """Fields of a fusion of posts selected so."""
    own = {"model.fusion": f"textfuse_jax.models.fusion:{kind}", "cascades.augmentation.source": "original"}
    return (fields or TAPE) | own | {"cascades.selection.rule": rule, "cascades.selection.share": share}


def row(name: str, fields: dict, against: str = PLAIN, group: str = "fusion") -> CascadeSetting:
    """A setting on PHEME."""
    return CascadeSetting(name, "rumor_pheme", fields, against=against, group=group)


SETTINGS = [
    row(PLAIN, TAPE, against="", group="graph"),
    row("no graph: the same layers on each post alone", NO_GRAPH, group="graph"),
    row("no replies: the source alone", NO_GRAPH | {"cascades.first_posts": 1}, group="graph"),
    row("GAT, no fusion", GAT, group="graph"),
    row("two-way GCN with root and source, words (our config)", SHORT, group="graph"),
    *(row(f"{kind}, GCN, DBSCAN 30 %", fused(kind)) for kind in FUSIONS),
    row("Gated, GCN, random 30 %", fused("Gated", "random"), "Gated, GCN, DBSCAN 30 %", "selection"),
    row("Gated, GCN, degree 30 %", fused("Gated", "degree"), "Gated, GCN, DBSCAN 30 %", "selection"),
    row("Gated, GCN, all", fused("Gated", "all"), "Gated, GCN, DBSCAN 30 %", "selection"),
    row("Gated, GCN, none", fused("Gated", "none"), "Gated, GCN, DBSCAN 30 %", "selection"),
    row("Gated, GCN, DBSCAN 10 %", fused("Gated", share=0.1), "Gated, GCN, DBSCAN 30 %", "selection"),
    row("Gated, GCN, DBSCAN 50 %", fused("Gated", share=0.5), "Gated, GCN, DBSCAN 30 %", "selection"),
    *(row(f"{kind}, GAT, DBSCAN 30 %", fused(kind, fields=GAT), "GAT, no fusion") for kind in FUSIONS),
]

if __name__ == "__main__":
    main("rumor_fusion", SETTINGS, seeds=1)

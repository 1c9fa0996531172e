"""Does fusion help, does selection help, does the graph help? TAPE's phases 2 to 4 on PHEME, 5 folds, clean.

    TEXTFUSE_DATA=DIR python -m experiments.rumor_fusion [:runlocal]

TAPE's model (``configs/rumor_pheme.py:tape``, which has its 50 epochs and patience of 10) in 20 epochs, patience 5: MiniLM's
features alone, 2 rounds of 64, mean pooling; no root enhancement, no words. No LLM was asked. The source "original" gives the
fusions the vector that the model has already, at length 1: its rows measure what fusion and selection do by themselves, not what
an LLM knows. "parent" gives them something new without an LLM: the embedding of the post after the one it replies to. With
nothing selected all fusions are one. 72 rows of 5 folds, one seed; two minutes a row, four with GAT: some 3.5 hours of one core.
"""

from __future__ import annotations

from configs import rumor_pheme
from experiments.cascade_study import CascadeSetting, main

SHORT = {"training.total_epochs": 20, "training.patience": 5}
TAPE, GAT = rumor_pheme.TAPE | SHORT, rumor_pheme.TAPE_GAT | SHORT
LAYERS = {"GCN": TAPE, "GAT": GAT}
NO_GRAPH = TAPE | {"model.edges": ("textfuse_jax.models.edges:none",)}
FUSIONS = ("Concat", "Weighted", "Gated", "Attention")
ALONE, POSTS_ALONE = "no replies: the source alone", "no graph: the same layers on each post alone"
OURS = "two-way GCN with root and source, words (our config)"
KNEE = {"cascades.selection.eps_rule": "knee"}
RULES = {"dbscan": "DBSCAN 30 %", "random": "random 30 %", "all": "all"}


def fused(kind: str, rule: str = "dbscan", share: float = 0.3, fields: dict | None = None, source: str = "original") -> dict:
    """Fields of a fusion of posts selected so."""
    own = {"model.fusion": f"textfuse_jax.models.fusion:{kind}", "cascades.augmentation.source": source}
    return (fields or TAPE) | own | {"cascades.selection.rule": rule, "cascades.selection.share": share}


def row(name: str, fields: dict, against: str = "", group: str = "fusion", also: tuple[str, ...] = ()) -> CascadeSetting:
    """A setting on PHEME."""
    return CascadeSetting(name, "rumor_pheme", fields, against=against, also_against=also, group=group)


def by_selection(kind: str, layer: str, source: str = "original") -> list[CascadeSetting]:
    """A fusion by every selection: against no fusion, and all but DBSCAN's against DBSCAN's choice too."""
    name = lambda told: f"{kind}, {layer}, {told}" + ("" if source == "original" else f", {source}")  # noqa: E731
    return [
        row(
            name(told),
            fused(kind, rule, fields=LAYERS[layer], source=source),
            f"{layer}, no fusion",
            also=(name(RULES["dbscan"]),) if rule != "dbscan" else (),
        )
        for rule, told in RULES.items()
    ]


def by_share(kind: str, layer: str, rule: str = "dbscan") -> list[CascadeSetting]:
    """Fewer and more posts selected, against 30 %."""
    name, _ = RULES[rule].split(" ", 1)
    return [
        row(
            f"{kind}, {layer}, {name} {100 * share:.0f} %",
            fused(kind, rule, share, fields=LAYERS[layer]),
            f"{kind}, {layer}, {RULES[rule]}",
            "selection",
        )
        for share in (0.1, 0.5)
    ]


def grid(layer: str) -> list[CascadeSetting]:
    """Every fusion by every selection of what tells nothing new, and nothing selected."""
    found = [setting for kind in FUSIONS for setting in by_selection(kind, layer)]
    return [*found, row(f"any fusion, {layer}, none", fused("Gated", "none", fields=LAYERS[layer]), f"{layer}, no fusion")]


SETTINGS = [  # the questions first, the whole grid after them
    row(ALONE, NO_GRAPH | {"cascades.first_posts": 1}, group="graph"),
    row(POSTS_ALONE, NO_GRAPH, ALONE, "graph"),
    row("GCN, no fusion", TAPE, POSTS_ALONE, "graph", (ALONE,)),
    row("GAT, no fusion", GAT, POSTS_ALONE, "graph", (ALONE,)),
    row(OURS, SHORT, ALONE, "graph", ("GCN, no fusion",)),
    row("our config, the source alone", SHORT | {"cascades.first_posts": 1}, OURS, "graph"),
    *by_selection("Gated", "GCN", "parent"),
    *by_selection("Concat", "GCN", "parent"),
    *grid("GCN"),
    row("Gated, GCN, degree 30 %", fused("Gated", "degree"), "GCN, no fusion", "selection", ("Gated, GCN, DBSCAN 30 %",)),
    row("Gated, GCN, DBSCAN 30 %, knee", fused("Gated") | KNEE, "Gated, GCN, DBSCAN 30 %", "selection"),
    *grid("GAT"),
    *(s for layer in LAYERS for rule in ("dbscan", "random") for kind in FUSIONS for s in by_share(kind, layer, rule)),
]

if __name__ == "__main__":
    main("rumor_fusion", SETTINGS, seeds=1)

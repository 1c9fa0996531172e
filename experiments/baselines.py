"""Main table of both papers: neural baselines beside Pyramid-GNN and attention-hybrid pooling, same tokens, rows, epochs.

    TEXTFUSE_DATA=DIR python -m experiments.baselines [:runlocal]

From scratch: 1D-CNN, LSTM, LSTM + CNN, transformer, GAT on the graph of tokens; their budget is that of the other rows, 4 passes
over 4,000 texts (208 steps), for which they are probably undertrained: their best step stands in the table. On frozen MiniLM
features: the encoder alone, linear models of it, of words and of both mixed, both papers' models, and ours with document taps and
words joined. 4,000 training rows of AG News, 5 seeds. Tuned encoders take a run each, on 8,000 rows: ``experiments.tuned``.
Some 40 minutes of one core, 31 of them from scratch.
"""

from __future__ import annotations

from experiments.study import (
    ATTENTION,
    ENCODER_ALONE,
    HEAD,
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
from experiments.study_graphs import attention_facts
from textfuse_jax.config import MINILM

PYRAMID_PAPER = {
    "accuracy": 0.913,
    "f1_macro": 0.905,
    "auc_ovr": 0.947,
    "precision_macro": 0.908,
    "source": "arXiv 2511.05752 (tuned encoder, all rows)",
}
PAPERS = "arXiv 2511.05752", "arXiv 2512.09444"
ATTENTION_PAPER = {"precision_macro": 0.90, "recall_macro": 0.88, "f1_macro": 0.89, "auc_ovr": 0.94, "source": "arXiv 2512.09444"}


def scratch(layers: int, pooling: str, **fields) -> dict:
    """Fields of a model whose encoder starts from random weights, with MiniLM's tokens."""
    name = f"{layers:02d}"
    return {
        "encoder.checkpoint": "scratch",
        "encoder.mode": "tuned",
        "encoder.dtype": "float32",
        "encoder.dropout": 0.2,
        "encoder.scratch.tokenizer": MINILM,
        "encoder.scratch.layers": layers,
        "model.levels": (f"{name}/token",),
        "model.pyramid": "textfuse_jax.models.pyramid:Single",
        "model.pyramid_args": {"width": None},
        "model.nodes": ("token",),
        "model.pooling": f"textfuse_jax.models.pooling:{pooling}",
        **NO_GRAPH,
        **fields,
    }


SCRATCH_GRID = rates("optimizer.learning_rate", "optimizer.encoder_learning_rate", values=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2))


def not_at_hand(*papers: str) -> dict:
    """What stands for a number that a paper reports and that we haven't got."""
    return {"source": f"not at hand: {', '.join(papers)}"}


def from_scratch(name: str, fields: dict, *papers: str) -> Setting:
    """A row whose encoder learns at the rate of everything else; ``papers`` have such a baseline."""
    return Setting(name, fields, not_at_hand(*papers), grid=SCRATCH_GRID)


SETTINGS = [
    Setting("encoder alone, last layer", {**ENCODER_ALONE, "model.document_taps": ("06/document",)}, grid=HEAD),
    Setting("encoder alone, three layers", ENCODER_ALONE, grid=HEAD),
    *linear_rows(),
    mixed_row(),
    Setting("Pyramid-GNN", published=PYRAMID_PAPER),
    Setting("attention-hybrid pooling", ATTENTION, ATTENTION_PAPER),
    Setting("Pyramid-GNN, taps and words", OURS),
    from_scratch("1D-CNN", scratch(1, "Max", **{"encoder.scratch.kinds": ("convolution",)}), PAPERS[0]),
    from_scratch("LSTM", scratch(1, "Max", **{"encoder.scratch.kinds": ("lstm",)}), PAPERS[1]),
    from_scratch("LSTM + CNN", scratch(2, "Max", **{"encoder.scratch.kinds": ("lstm", "convolution")}), PAPERS[0]),
    from_scratch("transformer", scratch(2, "Mean"), *PAPERS),
    from_scratch(
        "GAT on the graph of tokens",
        scratch(
            0,
            "Mean",
            **{
                "encoder.scratch.layers": 1,
                "model.levels": ("00/token",),
                "model.propagate": "textfuse_jax.models.message_passing:GAT",
                "model.propagate_args": {"width": 128},
                "model.edges": ("textfuse_jax.models.edges:window",),
            },
        ),
        PAPERS[1],
    ),
]

STUDY = Study("baselines", frozen(), SETTINGS, reference="encoder alone, three layers", measure=attention_facts)

if __name__ == "__main__":
    main(STUDY)

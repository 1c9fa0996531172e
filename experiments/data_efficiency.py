"""How many labels are needed: AG News with 8, 16, 32 and 64 rows a class, 1,000, 4,000 and 8,000 in all, frozen MiniLM.

    TEXTFUSE_DATA=DIR python -m experiments.data_efficiency [:runlocal]

Every seed has training rows of its own, and as many validation rows as training rows (at most 2,000), on which it chooses
learning rate (of two), strength of regularisation and epoch. Published: 0.831, 0.859, 0.875 and 0.890 with 8 to 64 rows a
class, 0.880 with 1,000 rows, by tuned encoders.
5 seeds; an estimated 60 minutes of one core, half of it the contrastive stages of the last rows.
"""

from __future__ import annotations

import dataclasses

from experiments import study_linear
from experiments.study import ENCODER_ALONE, NO_GRAPH, OURS, Setting, frozen, linear_rows, main, rates

MODELS = {"encoder alone": ENCODER_ALONE, "Pyramid-GNN": {}, "Pyramid-GNN, taps and words": OURS}
FEW = "best of SetFit, RoBERTa-large, PERFECT"
TFIDF_1000 = 0.817  # published beside SetFit with 1,000 rows
PUBLISHED = {32: (0.831, FEW), 64: (0.859, FEW), 128: (0.875, FEW), 256: (0.890, FEW), 1000: (0.880, "SetFit, MiniLM")}


GRID = rates(values=(3e-3, 1e-2))
EPOCHS = {32: 40, 64: 40, 128: 40, 256: 30, 1000: 8, 4000: 4, 8000: 2}


def settings(rows: int) -> list[Setting]:
    """All rows of the table with so many training rows."""
    fields = {
        "data.train_rows": rows,
        "data.validation_rows": min(rows, 2000),
        "training.total_epochs": EPOCHS[rows],
        "data.tokens_per_batch": 4096 if rows >= 1000 else 1024,
    }
    known = PUBLISHED.get(rows)
    published = {"accuracy": known[0], "source": known[1]} if known else None
    suffix, against = f", {rows:,} rows", f"encoder alone, {rows:,} rows"
    trained = [Setting(name + suffix, fields | model, published, against, grid=GRID) for name, model in MODELS.items()]
    linear = linear_rows(suffix, fields, against)
    if rows == 1000:
        linear[0] = dataclasses.replace(linear[0], published={"accuracy": TFIDF_1000, "source": "TF-IDF + logistic regression"})
    return trained + linear


def by_contrast(rows: int) -> Setting:
    """What SetFit does: the encoder tuned by the supervised contrastive stage, then a logistic regression on its means."""
    fields = {
        "data.train_rows": rows,
        "data.validation_rows": min(rows, 2000),
        "training.pretrain": "contrastive",
        "training.contrastive.supervised": True,
        "training.contrastive.total_epochs": STAGE_EPOCHS[rows],
        "training.contrastive.learning_rate": 5e-5,
        "model.pyramid": "",
        "model.document_taps": ("06/document",),
        **NO_GRAPH,
    }
    known = PUBLISHED[rows]
    return Setting(
        f"contrastive stage + logistic regression, {rows:,} rows",
        fields,
        {"accuracy": known[0], "source": known[1]},
        f"encoder alone, {rows:,} rows",
        fit=study_linear.encoder_logreg,
    )


STAGE_EPOCHS = {32: 20, 1000: 2}
SETTINGS = [row for rows in EPOCHS for row in settings(rows)]
SETTINGS += [by_contrast(rows) for rows in STAGE_EPOCHS]  # last: they take longest


def config():
    """Few validation rows tell a model by its likelihood better than by its hits."""
    base = frozen()
    base.training.select_by = "nll"
    return base


if __name__ == "__main__":
    main("data_efficiency", config(), SETTINGS, resample=True)

"""How many labels are needed: AG News with 8, 16, 32 and 64 rows a class, 1,000, 4,000, 8,000 and all rows, frozen MiniLM.

    TEXTFUSE_DATA=DIR python -m experiments.data_efficiency [:runlocal]

Every seed has training rows of its own, and as many validation rows as training rows (at most 2,000), on which it chooses
learning rate (of two, the encoder alone of four), strength of regularisation and epoch. "All" are the rows that the data folder
has whole (at most 50,471 of the official 120,000, 2,000 more are validation); seeds differ in which are held out. Published:
0.831, 0.859, 0.875 and 0.890 with 8 to 64 rows a class, 0.880 with 1,000 rows, by tuned encoders; 0.890 with 1,000 rows by a
larger frozen one. Tuned encoders take a run each, ``experiments.tuned``; with 8,000 and all rows these are the runs of the main
table, on 4,000 validation rows. Besides, a linear model on frozen means that is told what each class is about and reads 4,000
texts of the training split without their labels (``study_unlabelled``), and parts of it with 32 rows. Nothing of it is chosen on
validation rows; the method, its constants and the phrases were chosen once by accuracy on some 2,000 labelled training rows that
it doesn't train on, so that it has seen more labels than its rows say.

5 seeds; some 100 minutes of one core beside other work: 30 are the contrastive stages of the last rows, 40 all rows, whose
features take 0.5 GB of disk and, a copy a seed, 3 GB of memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments import study_linear, study_unlabelled
from experiments.study import ENCODER_ALONE, NO_GRAPH, OURS, Setting, Study, frozen, linear_rows, main, rates

MODELS = {"encoder alone": ENCODER_ALONE, "Pyramid-GNN": {}, "Pyramid-GNN, taps and words": OURS}
FEW = "best of SetFit, RoBERTa-large, PERFECT"
PUBLISHED = {32: (0.831, FEW), 64: (0.859, FEW), 128: (0.875, FEW), 256: (0.890, FEW), 1000: (0.880, "SetFit, MiniLM")}
LINEAR = {1000: ((0.817, "TF-IDF + logistic regression"), (0.8895, "bge-base + logistic regression"))}
"""Of linear models: rows -> accuracy and source for TF-IDF and for a frozen encoder."""
GRID = rates(values=(3e-3, 1e-2))
HEAD_GRID = rates(values=(3e-3, 1e-2, 3e-2, 1e-1))
"""Of the encoder alone, a linear head."""
ALL = 0
EPOCHS = {32: 40, 64: 40, 128: 40, 256: 30, 1000: 8, 4000: 4, 8000: 2, ALL: 1}
STAGE_EPOCHS = {32: 20, 1000: 2}
DESCRIPTIONS = {
    "World": "world news and politics",
    "Sports": "sports",
    "Business": "business and finance",
    "Sci/Tech": "science and technology",
}
"""What a class is about. Written before any result was seen; beside the bare names of the classes they did better on held-out
training rows."""
POOL = {"data.train_rows": 4000, "data.validation_rows": 2000}
"""Whose training texts are read without their labels."""
WHOLE = {"data.train_rows": 0, "data.forms": ("title+description", "joined")}
"""All rows that hold title and description; of the second kind it isn't known where the title ends."""


OFFICIAL = "on all 120,000 rows: TF-IDF + linear 0.91 to 0.92, DistilBERT 0.934, BERT 0.945 to 0.95, XLNet 0.955"


def suffix(rows: int) -> str:
    """How the names of settings end."""
    return f", {rows:,} rows" if rows else ", all rows"


def data_of(rows: int) -> dict[str, Any]:
    """Fields of the data with so many training rows."""
    held = {"data.validation_rows": min(rows, 2000) or 2000}
    return held | ({"data.train_rows": rows} if rows else WHOLE)


def published(rows: int, of: Mapping[int, tuple[float, str]] = PUBLISHED) -> dict[str, Any] | None:
    """What others report with so many rows; of all rows in words, since there are 120,000 where they are from."""
    if rows == ALL and of is PUBLISHED:
        return {"source": OFFICIAL}
    return {"accuracy": of[rows][0], "source": of[rows][1]} if rows in of else None


def settings(rows: int) -> list[Setting]:
    """All rows of the table with so many training rows."""
    fields = data_of(rows) | {
        "training.total_epochs": EPOCHS[rows],
        "data.tokens_per_batch": 1024 if 0 < rows < 1000 else 4096,
    }
    end, against = suffix(rows), f"encoder alone{suffix(rows)}"
    grids = {name: HEAD_GRID if name == "encoder alone" else GRID for name in MODELS}
    trained = [Setting(name + end, fields | model, published(rows), against, grid=grids[name]) for name, model in MODELS.items()]
    known = [published(rows, {at: pair[i] for at, pair in LINEAR.items()}) for i in range(2)]
    return trained + linear_rows(end, fields, against, known)


def by_contrast(rows: int) -> Setting:
    """What SetFit does: the encoder tuned by the supervised contrastive stage, then a logistic regression on its means."""
    fields = data_of(rows) | {
        "training.pretrain": "contrastive",
        "training.contrastive.supervised": True,
        "training.contrastive.total_epochs": STAGE_EPOCHS[rows],
        "training.contrastive.learning_rate": 5e-5,
        "model.pyramid": "",
        "model.document_taps": ("06/document",),
        **NO_GRAPH,
    }
    name = f"contrastive stage + logistic regression{suffix(rows)}"
    return Setting(name, fields, published(rows), f"encoder alone{suffix(rows)}", fit=study_linear.encoder_logreg)


def with_unlabelled(rows: int, name: str = "class descriptions and 4,000 unlabelled texts", **parts: Any) -> Setting:
    """Frozen, with a phrase for each class and training texts whose labels aren't read; ``parts`` of it, as controls."""
    fields = data_of(rows) | {"model.pyramid": "", "model.document_taps": ("06/document",), **NO_GRAPH}
    fit = study_unlabelled.unlabelled_texts(**{"descriptions": DESCRIPTIONS, "fields": POOL, "tap": "06/document"} | parts)
    known = published(rows)
    if known:
        known |= {"source": known["source"] + ", from labelled rows alone"}
    return Setting(name + suffix(rows), fields, known, f"encoder alone{suffix(rows)}", fit=fit)


SETTINGS = [row for rows in EPOCHS for row in settings(rows)]
SETTINGS += [with_unlabelled(rows) for rows in (32, 64, 128, 256, 1000)]
CONTROLS: dict[str, dict[str, Any]] = {
    "class descriptions": {"rounds": 0},
    "4,000 unlabelled texts": {"descriptions": {}},
    "class descriptions and 4,000 unlabelled texts, no label": {"labels": False},
}
SETTINGS += [with_unlabelled(32, name, **parts) for name, parts in CONTROLS.items()]
SETTINGS += [by_contrast(rows) for rows in STAGE_EPOCHS]  # last: they take longest


def config():
    """Few validation rows tell a model by its likelihood better than by its hits."""
    base = frozen()
    base.training.select_by = "nll"
    return base


STUDY = Study("data_efficiency", config(), SETTINGS, resample=True)

if __name__ == "__main__":
    main(STUDY)

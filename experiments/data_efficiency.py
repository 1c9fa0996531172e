"""How many labels are needed: AG News with 8, 16, 32 and 64 rows a class, 1,000, 4,000 and 8,000 in all, frozen MiniLM.

    TEXTFUSE_DATA=DIR python -m experiments.data_efficiency [:runlocal]

Every seed has training rows of its own, and as many validation rows as training rows (at most 2,000); hyper-parameters are the
same for all. Published: 0.831, 0.859, 0.875 and 0.890 with 8 to 64 rows a class, 0.880 with 1,000 rows, by tuned encoders.
5 seeds; about 20 minutes on 2 cores.
"""

from __future__ import annotations

from experiments.study import ENCODER_ALONE, OURS, Setting, frozen, main

MODELS = {"encoder alone": ENCODER_ALONE, "Pyramid-GNN": {}, "Pyramid-GNN, taps and words": OURS}
FEW = "best of SetFit, RoBERTa-large, PERFECT"
PUBLISHED = {32: (0.831, FEW), 64: (0.859, FEW), 128: (0.875, FEW), 256: (0.890, FEW), 1000: (0.880, "SetFit, MiniLM")}


def setting(rows: int, model: str) -> Setting:
    """One model with so many rows; few rows are seen up to 40 times."""
    fields = {
        "data.train_rows": rows,
        "data.validation_rows": min(rows, 2000),
        "training.total_epochs": min(40, max(6, 8000 // rows)),
        "data.tokens_per_batch": 4096 if rows >= 1000 else 1024,
    }
    known = PUBLISHED.get(rows)
    published = {"accuracy": known[0], "source": known[1]} if known else None
    return Setting(f"{model}, {rows:,} rows", fields | MODELS[model], published, f"encoder alone, {rows:,} rows")


SETTINGS = [setting(rows, model) for rows in (32, 64, 128, 256, 1000, 4000, 8000) for model in MODELS]

if __name__ == "__main__":
    main("data_efficiency", frozen(), SETTINGS, resample=True)

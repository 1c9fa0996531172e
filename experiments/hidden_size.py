"""Is the fall beyond a hidden size of 512 scarcity of data or redundancy? (open question of arXiv 2512.09444)

    TEXTFUSE_DATA=DIR python -m experiments.hidden_size [:runlocal]

The paper's model, self-attention among phrases and hybrid pooling: widths 64 to 1024 with 1,000, 4,000 and 16,000 rows of AG
News, cached features, 5 seeds. If the fall is scarcity, it must vanish as rows grow; if redundancy, it stays. An estimated
14 minutes of one core.
"""

from __future__ import annotations

from experiments.study import ATTENTION, Setting, frozen, main

SETTINGS = [
    Setting(
        f"width {width}, {rows:,} rows",
        ATTENTION | {"model.width": width, "data.train_rows": rows, "training.total_epochs": epochs},
        against=f"width 512, {rows:,} rows",
    )
    for rows, epochs in ((1000, 8), (4000, 3), (16000, 1))
    for width in (512, 64, 128, 256, 1024)
]

if __name__ == "__main__":
    main("hidden_size", frozen(), SETTINGS, reference="width 512, 1,000 rows")

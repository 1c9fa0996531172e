"""Is the fall beyond a hidden size of 512 scarcity of data or redundancy? (open question of arXiv 2512.09444)

    TEXTFUSE_DATA=DIR python -m experiments.hidden_size [:runlocal]

The paper's model, self-attention among phrases and hybrid pooling: widths 64 to 1024 with 1,000, 4,000 and 16,000 rows of AG
News, cached features, 5 seeds. All are trained for as many steps, 16,000 documents in all (16, 4 and 1 epochs), and validated
eight times on the way, so that rows are all that differs. If the fall is scarcity, it must vanish as rows grow; if redundancy,
it stays. The paper tells of a fall in AUC from 768 on: the figure draws accuracy and AUC, p is of accuracy. The encoder alone
stands in the ablation. Some two hours of one core of an AMD EPYC without AVX-512.
"""

from __future__ import annotations

from experiments.study import ATTENTION, Setting, Study, frozen, main, rates

DOCUMENTS = 16_000
"""That every trial is trained on, the same ones again where there are fewer."""
GRID = rates(values=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2))
"""Lower rates than other studies try: wide models want them."""
PAPER = {512: "the best of its sizes", 768: "AUC falls", 1024: "AUC falls"}
"""What arXiv 2512.09444 says of a size, all rows; its numbers aren't at hand."""


def published(width: int) -> dict[str, str] | None:
    """The paper's word on a size."""
    return {"source": f"{PAPER[width]} (arXiv 2512.09444; no number at hand)"} if width in PAPER else None


SETTINGS = [
    Setting(
        f"width {width}, {rows:,} rows",
        ATTENTION | {"model.width": width, "data.train_rows": rows, "training.total_epochs": DOCUMENTS // rows},
        published(width),
        against=f"width 512, {rows:,} rows",
        grid=GRID,
    )
    for rows in (1000, 4000, 16000)
    for width in (512, 64, 128, 256, 768, 1024)
]


def base():
    """The studies' config, validated after a fixed number of steps rather than after epochs, which differ in length."""
    config = frozen()
    config.training.eval_every_steps = 25
    return config


STUDY = Study("hidden_size", base(), SETTINGS, reference="width 512, 1,000 rows")

if __name__ == "__main__":
    main(STUDY)

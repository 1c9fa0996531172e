"""The papers' learning-rate figure, over seeds: 1e-5 to 1e-2, all trials as one program on cached features of AG News.

    TEXTFUSE_DATA=DIR python -m experiments.learning_rate [:runlocal]

arXiv 2511.05752 finds 1e-4 best, 1e-3 oscillating and 1e-5 slow, for a tuned encoder. Here only what stands behind the frozen
encoder learns: Pyramid-GNN, and beside it a linear head on the same three layers (the encoder alone). 4,000 training rows, 5
seeds; about 6 minutes on 2 cores.
"""

from __future__ import annotations

from experiments.study import ENCODER_ALONE, Setting, Study, frozen, main

RATES = (1e-3, 1e-5, 3e-5, 1e-4, 3e-4, 3e-3, 1e-2)
PAPER = {1e-5: "slow", 1e-4: "the best of its rates", 1e-3: "oscillates"}
"""What arXiv 2511.05752 says of a rate; its numbers aren't at hand."""


def published(rate: float) -> dict[str, str] | None:
    """The paper's word on a rate."""
    return {"source": f"{PAPER[rate]} (arXiv 2511.05752, tuned encoder; no number at hand)"} if rate in PAPER else None


SETTINGS = [Setting(f"{rate:g}", {"optimizer.learning_rate": rate}, published(rate)) for rate in RATES] + [
    Setting(f"encoder alone, {rate:g}", {**ENCODER_ALONE, "optimizer.learning_rate": rate}, None, f"{rate:g}") for rate in RATES
]

STUDY = Study("learning_rate", frozen(), SETTINGS, reference="0.001")

if __name__ == "__main__":
    main(STUDY)

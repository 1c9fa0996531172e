"""Early detection: accuracy against the first n posts and the first n minutes of PHEME's threads, 5 folds, clean.

    TEXTFUSE_DATA=DIR python -m experiments.rumor_early [:runlocal]

The model of configs/rumor_pheme.py, trained and tested on what was known by then: 20 epochs, patience 5. Each row is compared
with the whole threads. A forest on the times alone stands beside it, cut in the same way. Some 50 minutes of one core.
"""

from __future__ import annotations

from experiments.cascade_study import CascadeSetting, main
from experiments.rumor_fusion import SHORT
from textfuse_jax.evaluation.probes import probes

POSTS = (1, 2, 5, 10, 20)
MINUTES = (5.0, 15.0, 60.0, 240.0)
WHOLE = "whole threads"


def early(name: str, **cut: float) -> CascadeSetting:
    """Threads cut so."""
    fields = SHORT | {f"cascades.{field}": value for field, value in cut.items()}
    return CascadeSetting(name, "rumor_pheme", fields, against=WHOLE if cut else "", group=next(iter(cut), ""))


SETTINGS = [
    early(WHOLE),
    *(early(f"first {n} posts" if n > 1 else "source alone", first_posts=n) for n in POSTS),
    *(early(f"first {n:g} minutes", first_minutes=n) for n in MINUTES),
]

if __name__ == "__main__":
    main("rumor_early", SETTINGS, seeds=1, also=probes)

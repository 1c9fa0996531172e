"""All cascade sets under all protocols: PHEME, Twitter15, Twitter16, Weibo; clean and published, one event out, by time.

    TEXTFUSE_DATA=DIR python -m experiments.rumor_protocols [:runlocal]

The model of configs/rumor_*.py: features of frozen MiniLM (Weibo: characters from scratch), words, two-way GCN. 5 folds by
2 seeds in one program. Beside it a forest on the id's digits alone and one on times alone, and the constant answer. "published"
chooses the epoch on the test fold, as BiGCN, RDEA and GACL do; "clean" on an inner part. About 45 minutes on 2 cores.
"""

from __future__ import annotations

from experiments.cascade_study import CascadeSetting, main
from textfuse_jax.evaluation.probes import probes

PUBLISHED = {"cascades.choose_on": "test"}
EVENTS = {"cascades.protocol": "events"}
TIME = {"cascades.protocol": "time"}
BINARY = {"cascades.task": "rumour"}
BIGCN = "BiGCN, epoch chosen on the test fold"
TAPE = "TAPE's stored run, binary, one seed (its F1 is that of rumours)"


def bigcn(accuracy: float) -> dict:
    """Published accuracy of BiGCN."""
    return {"accuracy": accuracy, "source": BIGCN}


SETTINGS = [
    CascadeSetting("PHEME, 5-fold, clean", "rumor_pheme", group="PHEME"),
    CascadeSetting("Twitter15, 5-fold, published", "rumor_twitter15", PUBLISHED, published=bigcn(0.886), group="Twitter15"),
    CascadeSetting("Twitter16, 5-fold, published", "rumor_twitter16", PUBLISHED, published=bigcn(0.880), group="Twitter16"),
    CascadeSetting("Twitter15, 5-fold, clean", "rumor_twitter15", group="Twitter15"),
    CascadeSetting("Twitter16, 5-fold, clean", "rumor_twitter16", group="Twitter16"),
    CascadeSetting(
        "PHEME, one event out, clean",
        "rumor_pheme",
        EVENTS,
        folds=9,
        published={"accuracy": 0.758, "f1_macro": 0.720, "source": "best known, leave one event out"},
        group="PHEME",
    ),
    CascadeSetting(
        "Twitter15, rumour or not, clean",
        "rumor_twitter15",
        BINARY,
        published={"accuracy": 0.810, "f1": 0.869, "source": TAPE},
        group="Twitter15",
    ),
    CascadeSetting(
        "Twitter16, rumour or not, clean",
        "rumor_twitter16",
        BINARY,
        published={"accuracy": 0.787, "f1": 0.869, "source": TAPE},
        group="Twitter16",
    ),
    CascadeSetting("Weibo, 5-fold, clean", "rumor_weibo", published=bigcn(0.961), group="Weibo"),
    CascadeSetting("Weibo, 5-fold, published", "rumor_weibo", PUBLISHED, published=bigcn(0.961), group="Weibo"),
    CascadeSetting("PHEME, 5-fold, published", "rumor_pheme", PUBLISHED, group="PHEME"),
    CascadeSetting("PHEME, newest tested", "rumor_pheme", TIME, folds=1, group="PHEME"),
    CascadeSetting("Twitter15, newest tested", "rumor_twitter15", TIME, folds=1, group="Twitter15"),
    CascadeSetting("Twitter16, newest tested", "rumor_twitter16", TIME, folds=1, group="Twitter16"),
]

if __name__ == "__main__":
    main("rumor_protocols", SETTINGS, also=probes)

"""All cascade sets under all protocols: PHEME, Twitter15, Twitter16, Weibo; clean and published, one event out, by time.

    TEXTFUSE_DATA=DIR python -m experiments.rumor_protocols [:runlocal]

The model of configs/rumor_*.py: features of frozen MiniLM (Weibo: characters from scratch), words, two-way GCN. The folds in one
program, one seed; PHEME and Weibo, whose sets are large, for 15 epochs at most. Beside it a forest on the id's digits alone and
one on times alone, and the constant answer. "published" chooses the epoch on the test fold, as BiGCN, RDEA and GACL do; "clean"
on an inner part. About 45 minutes on one core.
"""

from __future__ import annotations

from experiments.cascade_study import CascadeSetting, main
from textfuse_jax.evaluation.probes import probes

PUBLISHED = {"cascades.choose_on": "test"}
EVENTS = {"cascades.protocol": "events"}
SHORT = {"training.total_epochs": 15, "training.patience": 5}
YOUNG = {"cascades.most_posts": 20}
TIME = {"cascades.protocol": "time"}
BINARY = {"cascades.task": "rumour"}
BIGCN = "BiGCN, epoch chosen on the test fold"
UNVERIFIED = ", as reported, not verified"
TAPE = "TAPE's stored run, binary, one seed (its F1 is that of rumours)"


def bigcn(accuracy: float, best: float, mark: str = "") -> dict:
    """Published accuracy of BiGCN, and the best known one."""
    return {"accuracy": accuracy, "source": BIGCN + mark} | ({"best": f"best known {best:g}{mark}"} if best > accuracy else {})


def tape(accuracy: float) -> dict:
    """Accuracy and F1 of TAPE's stored run."""
    return {"accuracy": accuracy, "f1": 0.869, "source": TAPE}


WEIBO = bigcn(0.961, 0.961, UNVERIFIED)
TWITTER = [
    CascadeSetting("Twitter15, 5-fold, published", "rumor_twitter15", PUBLISHED, published=bigcn(0.886, 0.92), group="Twitter15"),
    CascadeSetting(
        "Twitter16, 5-fold, published", "rumor_twitter16", PUBLISHED, published=bigcn(0.880, 0.92, UNVERIFIED), group="Twitter16"
    ),
    CascadeSetting("Twitter15, rumour or not, clean", "rumor_twitter15", BINARY, published=tape(0.810), group="Twitter15"),
    CascadeSetting("Twitter16, rumour or not, clean", "rumor_twitter16", BINARY, published=tape(0.787), group="Twitter16"),
    CascadeSetting("Twitter15, 5-fold, clean", "rumor_twitter15", group="Twitter15"),
    CascadeSetting("Twitter16, 5-fold, clean", "rumor_twitter16", group="Twitter16"),
]
SETTINGS = [
    CascadeSetting("PHEME, 5-fold, clean", "rumor_pheme", SHORT, group="PHEME"),
    *TWITTER[:2],
    CascadeSetting(
        "PHEME, one event out, clean",
        "rumor_pheme",
        EVENTS | SHORT,
        folds=9,
        published={"accuracy": 0.758, "f1_macro": 0.720, "source": "best known, leave one event out"},
        group="PHEME",
    ),
    *TWITTER[2:],
    CascadeSetting("Weibo, 5-fold, clean, first 20 posts", "rumor_weibo", YOUNG | SHORT, published=WEIBO, group="Weibo"),
    CascadeSetting("Twitter15, newest tested", "rumor_twitter15", TIME, folds=1, group="Twitter15"),
    CascadeSetting("Twitter16, newest tested", "rumor_twitter16", TIME, folds=1, group="Twitter16"),
    CascadeSetting("PHEME, newest tested", "rumor_pheme", TIME | SHORT, folds=1, group="PHEME"),
]

if __name__ == "__main__":
    main("rumor_protocols", SETTINGS, seeds=1, also=probes)

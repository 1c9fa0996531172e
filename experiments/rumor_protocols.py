"""All cascade sets under all protocols: PHEME, Twitter15, Twitter16, Weibo; clean and published, one event out, by time.

    TEXTFUSE_DATA=DIR python -m experiments.rumor_protocols [:runlocal]

The model of configs/rumor_*.py: features of frozen MiniLM (Weibo: bags of characters), two-way GCN, and beside it the linear
model of the source's words (Weibo: characters). Folds and seeds in one program, three seeds; PHEME and Weibo, whose sets are
large, for 10 epochs at most, of Weibo's cascades the first 20 posts. Beside it a forest on the id's digits alone and one on times
alone, TF-IDF with logistic regression on the source's words alone (Weibo: its characters), and the constant answer. "published"
chooses the epoch on the test fold, as BiGCN, RDEA and GACL do, and the C of TF-IDF; "clean" on an inner part. Some two hours of
one core.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.cascade_study import CascadeSetting, main
from textfuse_jax.data.cascade_protocols import CascadeCorpus, split_of
from textfuse_jax.data.corpus import TEST, TRAIN, VALIDATION, Corpus
from textfuse_jax.evaluation.probes import probes, scores
from textfuse_jax.evaluation.reference import tfidf_logreg

PUBLISHED = {"cascades.choose_on": "test"}
EVENTS = {"cascades.protocol": "events"}
SHORT = {"training.total_epochs": 10, "training.patience": 5}
EVEN = EVENTS | {"loss.logit_adjustment": 1.0}
"""Both classes alike, whatever their shares in the training events: chosen by experiments.event_shift."""
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


BEST_EVENTS = {"accuracy": 0.758, "f1_macro": 0.720, "source": "best known, leave one event out"}


def of(data: str, told: str, fields: dict | None = None, published: dict | None = None, folds: int = 5) -> CascadeSetting:
    """A row: a set, and what of its protocol the config doesn't have."""
    large = SHORT | YOUNG if data == "Weibo" else SHORT if data == "PHEME" else {}
    told = f"{told}, first {YOUNG['cascades.most_posts']} posts" if data == "Weibo" else told
    config = f"rumor_{data.lower()}"
    return CascadeSetting(f"{data}, {told}", config, large | (fields or {}), folds=folds, published=published, group=data)


SETTINGS = [
    of("PHEME", "5-fold, clean"),
    of("PHEME", "one event out, clean", EVENTS, BEST_EVENTS, folds=9),
    of("PHEME", "one event out, even classes, clean", EVEN, BEST_EVENTS, folds=9),
    of("PHEME", "5-fold, published", PUBLISHED),
    of("Twitter15", "5-fold, published", PUBLISHED, bigcn(0.886, 0.92)),
    of("Twitter16", "5-fold, published", PUBLISHED, bigcn(0.880, 0.92, UNVERIFIED)),
    of("Twitter15", "rumour or not, clean", BINARY, tape(0.810)),
    of("Twitter16", "rumour or not, clean", BINARY, tape(0.787)),
    of("Twitter15", "5-fold, clean"),
    of("Twitter16", "5-fold, clean"),
    of("Weibo", "5-fold, clean"),
    of("Weibo", "5-fold, published", PUBLISHED, bigcn(0.961, 0.961, UNVERIFIED)),
    of("Twitter15", "newest tested", TIME, folds=1),
    of("Twitter16", "newest tested", TIME, folds=1),
    of("PHEME", "newest tested", TIME, folds=1),
    of("Weibo", "newest tested", TIME, folds=1),
]


def beside(corpus: CascadeCorpus, roles: np.ndarray) -> dict[str, Any]:
    """Probes of ids and times, and ``words_probe``: the linear model of the source's words, of Weibo's characters."""
    return probes(corpus, roles) | {"words_probe": linear(corpus, roles, characters=corpus.name.startswith("weibo"))}


def linear(corpus: CascadeCorpus, roles: np.ndarray, characters: bool = False) -> dict[str, float]:
    """``probes.scores`` of TF-IDF + logistic regression over the test parts of all folds."""
    whole, tested = split_of(corpus.cascades), (roles & TEST > 0).any(0)
    probabilities = np.zeros((len(whole), len(corpus.class_names)))
    for role in roles:
        parts = [whole.take(np.flatnonzero(role & bit)) for bit in (TRAIN, VALIDATION, TEST)]
        found = tfidf_logreg(Corpus(corpus.name, *parts, corpus.class_names), characters=characters)
        probabilities[role & TEST > 0] = found["test_probabilities"]
    return scores(whole.labels[tested], probabilities[tested])


if __name__ == "__main__":
    main("rumor_protocols", SETTINGS, seeds=3, also=beside)

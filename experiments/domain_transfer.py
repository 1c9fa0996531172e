"""From news to newsgroups, Reuters, film reviews: an encoder that learned on AG News, a new head; does a contrastive stage help?

    TEXTFUSE_DATA=DIR python -m experiments.domain_transfer [:runlocal]

Encoders: MiniLM as it is; tuned on 2,000 labelled rows of AG News; after a contrastive stage on their texts alone, or with their
labels. On 20 Newsgroups, R8 and IMDb, cut at 128 tokens, their last layer's document means are frozen. Zero-shot: the class whose
description lies nearest; few-shot: logistic regression on 8 rows a class on average, with as many for validation, drawn 5 times
from 2,000 and 500; and on all of these, C by accuracy. 2,000 test documents; one training on AG News. Takes 38 minutes of a core
beside other work.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import study
from experiments.study import ENCODER_ALONE, Setting, Study, frozen, main
from experiments.study_linear import document_means, logistic, outcome_of, vectors_of
from experiments.study_training import Outcome, joined
from textfuse_jax.config import default_config, runlocal
from textfuse_jax.data.corpus import Corpus, stratified_order
from textfuse_jax.experiment import differences, run
from textfuse_jax.training import contrastive, export, setup
from textfuse_jax.training.grid import with_fields
from textfuse_jax.training.step import flatten, unflatten

TAP = "06/document"
TARGETS = ("20newsgroups", "r8", "imdb_8k")
DRAWS = 5
DESCRIPTIONS = {
    "imdb_8k": {"pos": "a positive review of a good movie", "neg": "a negative review of a bad movie"},
    "r8": {
        "acq": "company mergers and acquisitions",
        "crude": "crude oil and petroleum",
        "earn": "corporate earnings and dividends",
        "grain": "grain, wheat and corn harvests",
        "interest": "interest rates of central banks",
        "money-fx": "foreign exchange and money markets",
        "ship": "shipping, vessels and ports",
        "trade": "international trade and tariffs",
    },
    "20newsgroups": {
        "alt.atheism": "atheism",
        "comp.graphics": "computer graphics and images",
        "comp.os.ms-windows.misc": "Microsoft Windows",
        "comp.sys.ibm.pc.hardware": "IBM PC hardware",
        "comp.sys.mac.hardware": "Apple Macintosh hardware",
        "comp.windows.x": "the X window system",
        "misc.forsale": "items for sale",
        "rec.autos": "cars",
        "rec.motorcycles": "motorcycles",
        "rec.sport.baseball": "baseball",
        "rec.sport.hockey": "ice hockey",
        "sci.crypt": "cryptography and encryption",
        "sci.electronics": "electronics and circuits",
        "sci.med": "medicine and diseases",
        "sci.space": "space flight and astronomy",
        "soc.religion.christian": "Christianity",
        "talk.politics.guns": "gun control",
        "talk.politics.mideast": "politics of the Middle East",
        "talk.politics.misc": "politics",
        "talk.religion.misc": "religion",
    },
}
"""What a class is called where no labelled row is read; written before any result was seen."""
SCALE = 20.0
"""Cosines times this are the logits of the zero-shot row; accuracy doesn't depend on it."""

CONTRAST = {"training.pretrain": "contrastive", "training.contrastive.learning_rate": 3e-5}
STAGES: dict[str, dict | None] = {
    "MiniLM": None,
    "tuned on AG News": {},
    "contrastive, texts of AG News": CONTRAST,
    "contrastive, labels of AG News": CONTRAST | {"training.contrastive.supervised": True},
}


@functools.cache
def encoder_of(stage: str, folder: pathlib.Path, small: bool) -> setup.TextEncoder:
    """MiniLM after what it learned on AG News; a training that was stopped goes on in its folder."""
    config = stage_config(stage, small)
    if STAGES[stage] is None:
        return setup.load_text_encoder(config, ())
    if config.training.pretrain == "none":
        run(config, folder, resume=(folder / "config.json").exists())
        finished = export.load(folder / "model")
        nested = unflatten({name: np.asarray(value) for name, value in finished.params.items() if name.startswith("encoder/")})
        known = contrastive.fingerprint(flatten(nested))
        return setup.TextEncoder(finished.tokenizer, finished.architecture, nested["encoder"], known)
    return setup.prepare(config, setup.load_corpus(config), print, folder).encoder


def stage_config(stage: str, small: bool = False) -> ConfigDict:
    """What an encoder learns by on AG News."""
    config = frozen(2000)
    config.encoder.mode, config.model.pyramid, config.model.document_taps = "tuned", "", (TAP,)
    config.model.propagate, config.model.edges = "", ()
    config.optimizer.learning_rate, config.optimizer.layer_decay, config.optimizer.weight_decay = 1e-3, 0.9, 0.01
    config.training.total_epochs, config.evaluation.reference, config.evaluation.graphs = 3, False, 0
    config.data.validation_rows, config.data.test_rows = 500, 500  # what it does on AG News isn't asked here
    if small:
        runlocal(config)
    for field, value in (STAGES[stage] or {}).items():
        config = with_fields(config, {field: value})
    return config


def digest_of(told: Any) -> str:
    """Eight hexadecimal digits of what a fit is made of."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


def transfer(target: str, shots: int, stage: str) -> Callable[[ConfigDict, setup.Material], Outcome]:
    """A fit of ``study.Setting``: the stage's features of the target, and a head from its labels; 0 shots: from descriptions.

    Its name, which stands for it in the setting's digest, has a digest of how the encoder was trained, and of the descriptions.
    """
    learned = "" if STAGES[stage] is None else digest_of(differences(default_config(), stage_config(stage)))

    def fit(config: ConfigDict, material: setup.Material) -> Outcome:
        small = config.data.max_length <= 32
        name = f"{stage.replace(' ', '_').replace(',', '')}_{learned}"
        encoder = encoder_of(stage, study.WORK / ("local" if small else "") / "domain_transfer" / "encoders" / name, small)
        moved = dataclasses.replace(material, encoder=encoder, features=features(config, encoder, material, shots))
        if not shots:
            return nearest(config, moved)
        means = {split: document_means(moved, split, (TAP,)) for split in ("train", "validation", "test")}
        return few(means, moved.corpus, shots) if shots > 0 else logistic(means, moved.corpus, config.training.select_by)

    fit.__name__ = f"{stage}, {shots}, {learned or 'as it is'}" + (f", {digest_of(DESCRIPTIONS[target])}" if not shots else "")
    return fit


def few(means: dict[str, np.ndarray], corpus: Corpus, shots: int) -> Outcome:
    """Logistic regression on so many rows a class on average, and as many for validation, drawn ``DRAWS`` times; so few tell a
    model by its likelihood, not by its accuracy."""
    found, rows = [], shots * len(corpus.class_names)
    for seed in range(DRAWS):
        mine = {split: stratified_order(getattr(corpus, split).labels, seed)[:rows] for split in ("train", "validation")}
        drawn = {split: getattr(corpus, split).take(order) for split, order in mine.items()}
        x = means | {split: means[split][order] for split, order in mine.items()}
        found.append(logistic(x, dataclasses.replace(corpus, **drawn), "nll"))
    outcome = joined(found)
    return with_data(outcome, corpus, train=rows, validation=rows, rows_of_each_seed_differ=True)


def with_data(outcome: Outcome, corpus: Corpus, train: int, validation: int, **facts: Any) -> Outcome:
    """The outcome, whose line says of how many rows it is."""
    data = {"name": corpus.name, "train": train, "validation": validation, "test": len(corpus.test)}
    return dataclasses.replace(outcome, facts=outcome.facts | {"data": data} | facts)


def features(config: ConfigDict, encoder: setup.TextEncoder, material: setup.Material, shots: int) -> dict:
    """The stage's document means of the splits that are read."""
    splits = ("train", "validation", "test") if shots else ("validation", "test")
    return setup.cached_features(config, encoder, {split: material.encoded[split] for split in splits}, print)


def nearest(config: ConfigDict, material: setup.Material) -> Outcome:
    """Each document to the class whose description has the nearest mean of the last layer; labels are read for the temperature
    of the calibration error alone."""
    corpus = material.corpus
    name = pathlib.Path(config.data.path).name.removesuffix(".csv.gz")
    texts = [DESCRIPTIONS[name][label] for label in corpus.class_names]
    anchors = vectors_of(config, material.encoder, "descriptions", texts, TAP)
    anchors /= np.linalg.norm(anchors, axis=1, keepdims=True)

    def probabilities(split: str) -> np.ndarray:
        means = document_means(material, split, (TAP,))
        cosine = means @ anchors.T / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
        scores = np.exp(SCALE * (cosine - cosine.max(1, keepdims=True)))
        return scores / scores.sum(1, keepdims=True)

    facts = {"chosen": [{}], "parameters": 0}
    outcome = outcome_of(corpus, probabilities("validation"), probabilities("test"), 0.0, facts)
    return with_data(outcome, corpus, train=0, validation=len(corpus.validation))


def setting(target: str, shots: int, stage: str) -> Setting:
    """One encoder on one target with so many rows a class; 0: none; -1: all."""
    fields = {
        "data.source": "file",
        "data.path": f"{target}.csv.gz",
        "data.split_column": "split",
        "data.train_rows": 2000,
        "data.validation_rows": 500,
        "data.test_rows": 2000,
        **ENCODER_ALONE,
        "model.document_taps": (TAP,),
    }
    told = {0: "zero-shot", 8: "8 rows a class", -1: "2,000 rows"}[shots]
    return Setting(f"{target}, {told}, {stage}", fields, against=f"{target}, {told}, MiniLM", fit=transfer(target, shots, stage))


def rows() -> list[Setting]:
    """All rows of the table."""
    return [setting(target, shots, stage) for target in TARGETS for shots in (8, 0, -1) for stage in STAGES]


SETTINGS = rows()

STUDY = Study("domain_transfer", frozen(), SETTINGS)

if __name__ == "__main__":
    main(STUDY)

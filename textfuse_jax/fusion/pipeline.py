"""From texts to fused predictions: fit the members and their fusion once, then classify new texts, asking where it pays."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from textfuse_jax.config import data_seed
from textfuse_jax.data.corpus import Corpus, Split, stratified_order, stratified_split
from textfuse_jax.evaluation.records import write_json
from textfuse_jax.experiment import read_config
from textfuse_jax.fusion import fused as fusing
from textfuse_jax.fusion.asking import Asker
from textfuse_jax.fusion.fused import Fused
from textfuse_jax.fusion.members import encoder_logits, opinion
from textfuse_jax.fusion.opinion import Members, absent_of, check_splits, encoder_opinion, join
from textfuse_jax.fusion.routing import Router, fit_router
from textfuse_jax.llm.budget import Estimate
from textfuse_jax.predict import Predictor
from textfuse_jax.training.progress import StopSignals


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fitted fusion with what it was fitted on.

    Attributes:
      fused: the fusion.
      router: where to ask; None without LLMs.
      asker: the LLM members.
      logits: of the encoder, by split.
      splits, members: documents that the fusion ("train") and its decisions ("validation") were fitted on, and opinions of them.
    """

    fused: Fused
    router: Router | None
    asker: Asker
    logits: dict[str, np.ndarray]
    splits: dict[str, Split]
    members: dict[str, Members]

    @property
    def train(self) -> tuple[Members, np.ndarray]:
        """What the fusion was fitted on."""
        return self.members["train"], self.splits["train"].labels

    @property
    def validation(self) -> tuple[Members, np.ndarray]:
        """What its decisions were fitted on."""
        return self.members["validation"], self.splits["validation"].labels


def fit(asker: Asker, corpus: Corpus, workdir: pathlib.Path, stop: StopSignals, say: Callable[[str], None]) -> Fitted:
    """Trains the encoder and its folds, asks the LLMs about validation and training documents, fits fusion and router.

    With ``fusion.folds`` = 0 nothing is trained twice: the fusion is fitted on half of the validation split and judged on the
    other half. Without LLMs there is nothing to fuse: the encoder is calibrated, its thresholds are tuned. Validation is asked
    about first: what a budget doesn't reach are training documents, which a fusion can do without.

    Args:
      asker: the LLM members of a validated config.
      corpus: the documents; the labels of the test split aren't read.
      workdir: takes ``encoder/``, ``folds/`` and ``fusion/``.

    Raises:
      DataError: opinions that don't fit the documents (``opinion.check``, ``check_splits``), or are of several models.
      ProviderError: an LLM can't be asked at all.
      Interrupted: a signal came; what was trained and paid is kept.
    """
    asker.check()  # before hours of training
    config, rows, splits = asker.config, fitting_rows(asker, corpus), fitting_splits(asker, corpus)
    if rows is None:
        logits = encoder_logits(config, corpus, workdir, stop, say)
    else:
        logits = opinion(config, corpus, workdir / "encoder", stop, say, keep=True)
        logits = logits | {name: logits["validation"][some] for name, some in rows.items()}
    members = {
        name: members_of(asker, splits[name], logits[name], asked=asked_rows(config, splits[name]))
        for name in ("validation", "train")
    }
    if asker.names:
        check_splits([(name, splits[name], members[name]) for name in splits])
    train, validation = ((members[name], splits[name].labels) for name in ("train", "validation"))
    fused = fusing.fit(config.fusion, train, validation, corpus.class_names, config.seed)
    fused = dataclasses.replace(fused, models=dict(asker.models))
    say(f"fusion of {', '.join(fused.names)}: {fused.note}")
    router = None
    if asker.names:
        held, labels = validation
        router = fit_router(labels, fused.probabilities(held.without_llms()), fused.probabilities(held), held.answered)
    save(workdir / "fusion", config, fused, router, corpus.train)
    return Fitted(fused, router, asker, logits, splits, members)


def fitting_rows(asker: Asker, corpus: Corpus) -> dict[str, np.ndarray] | None:
    """Rows of the validation split that fusion ("train") and decisions are fitted on; None: both splits whole, by folds."""
    if not asker.names:
        return dict.fromkeys(("train", "validation"), np.arange(len(corpus.validation)))
    if asker.config.fusion.folds:
        return None
    return dict(zip(("train", "validation"), stratified_split(corpus.validation.labels, 0.5, data_seed(asker.config))))


def fitting_splits(asker: Asker, corpus: Corpus) -> dict[str, Split]:
    """The documents that fusion ("train") and decisions ("validation") are fitted on."""
    rows = fitting_rows(asker, corpus)
    if rows is None:
        return {"train": corpus.train, "validation": corpus.validation}
    return {name: corpus.validation.take(some) for name, some in rows.items()}


def asked_rows(config: ConfigDict, split: Split) -> np.ndarray:
    """Documents of a split that language models are asked about in ``fit``: ``fusion.asked_rows``, each class in proportion."""
    return stratified_order(split.labels, data_seed(config))[: config.fusion.asked_rows or None]


def estimates(asker: Asker, corpus: Corpus, later: Split | None = None) -> dict[str, Estimate]:
    """What ``fit`` would ask of each LLM with an API, and what that would take; nothing is sent, no key is needed.

    Args:
      later: documents to be predicted afterwards, a ``llm.call_share`` of which is asked about; the first stand for them.
    """
    parts = [split.take(asked_rows(asker.config, split)) for split in fitting_splits(asker, corpus).values()]
    if later is not None:
        parts.append(later.take(range(round(asker.config.llm.call_share * len(later)))))
    return asker.estimates(parts)


def members_of(
    asker: Asker,
    split: Split,
    logits: np.ndarray,
    fused: Fused | None = None,
    router: Router | None = None,
    share: float = 1.0,
    labelled: bool = True,
    asked: np.ndarray | None = None,
) -> Members:
    """The encoder's and the LLMs' opinions of a split.

    Args:
      fused, router: where they are given, LLMs are asked in the order of the gain that is expected of them.
      share: of documents like these they are asked about (``Router.order``).
      labelled: whether the split's labels are true, as a simulation needs them.
      asked: rows that language models, or their stored answers, are asked about; None: as the other members.
    """
    classes, multi_label = len(asker.class_names), asker.multi_label
    vector = asker.vectors(split.texts)
    first, order = encoder_opinion(split.ids, logits, multi_label), None
    if router is not None:
        unasked = [absent_of(name, kind, split, classes) for name, kind in zip(fused.names[1:], fused.kinds[1:])]
        encoder = join(split, [first, *unasked], classes, multi_label, vector)
        order = router.order(fused.probabilities(encoder), share)
    return join(split, [first, *asker(split, order, labelled, asked)], classes, multi_label, vector)


def save(folder: pathlib.Path, config: ConfigDict, fused: Fused, router: Router | None, train: Split) -> None:
    """Writes the fusion, its router and config, and, where examples are shown to LLMs, the training split they are taken from.

    The encoder lies beside it in ``encoder/model``.
    """
    fused.save(folder)
    (folder / "router.json").write_text(router.to_json() if router else "null", encoding="utf-8")
    write_json(folder / "config.json", json.loads(config.to_json_best_effort()))
    if config.llm.shots:
        rows = zip(train.ids, train.texts, train.labels.tolist())
        lines = [json.dumps({"id": name, "text": text, "label": label}) + "\n" for name, text, label in rows]
        (folder / "examples.jsonl").write_text("".join(lines), encoding="utf-8")


def _examples(path: pathlib.Path, classes: int, multi_label: bool) -> Split:
    """The training split that ``save`` wrote; an empty one where it wrote none."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    labels = np.array([row["label"] for row in rows], np.float32 if multi_label else np.int32)
    return Split([row["id"] for row in rows], [row["text"] for row in rows], labels.reshape(len(rows), *[classes] * multi_label))


class FusedPredictor:
    """A finished fusion, ready to classify texts.

    Args:
      folder: a run folder, or what an estimator saved: ``encoder/model`` and ``fusion/``.
      say: takes lines of progress of the LLMs.
      progress: whether bars are shown.

    Raises:
      FileNotFoundError: no finished fusion there.
    """

    def __init__(self, folder: str | pathlib.Path, say: Callable[[str], None] = print, progress: bool = True):
        folder = pathlib.Path(folder)
        self.fused = fusing.load(folder / "fusion")
        self.encoder = Predictor(folder / "encoder")
        self.config = read_config(folder / "fusion" / "config.json")
        text = (folder / "fusion" / "router.json").read_text(encoding="utf-8")
        self.router = None if text == "null" else Router.from_json(text)
        self.class_names, self.multi_label = self.fused.class_names, self.fused.multi_label
        train = _examples(folder / "fusion" / "examples.jsonl", len(self.class_names), self.multi_label)
        options = {"progress": progress, "models": self.fused.models}
        self._asker = Asker(self.config, self.class_names, self.multi_label, train, folder, say, **options)

    @property
    def reports(self) -> dict[str, list[dict[str, Any]]]:
        """What each LLM was asked, answered and cost since loading."""
        return self._asker.reports

    def members(self, ids: Sequence[str], texts: Sequence[str], call_share: float | None = None) -> Members:
        """What the encoder and, where it pays, the LLMs say of texts.

        Args:
          call_share: of texts like these LLMs are asked about; None: the config's.

        Raises:
          DataError: an LLM that answers by another name than in the fit: its provider has changed it.
        """
        logits = self.encoder.logits(texts)
        labels = np.zeros((len(texts), len(self.class_names)) if self.multi_label else len(texts), np.int32)
        split = Split(list(ids), list(texts), labels.astype(np.float32) if self.multi_label else labels)
        share = self.config.llm.call_share if call_share is None else call_share
        return members_of(self._asker, split, logits, self.fused, self.router, share, labelled=False)

    def predict(
        self, ids: Sequence[str], texts: Sequence[str], call_share: float | None = None
    ) -> tuple[Float[np.ndarray, "n c"], Bool[np.ndarray, "n c"]]:
        """Probabilities of texts, and what is predicted."""
        if not len(texts):
            return np.zeros((0, len(self.class_names))), np.zeros((0, len(self.class_names)), bool)
        members = self.members(ids, texts, call_share)
        probabilities = self.fused.probabilities(members)
        return probabilities, self.fused.decide(members, probabilities)

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
from textfuse_jax.data.corpus import Corpus, DataError, Split, stratified_split
from textfuse_jax.evaluation.records import write_json
from textfuse_jax.experiment import read_config
from textfuse_jax.fusion import fused as fusing
from textfuse_jax.fusion.asking import Asker
from textfuse_jax.fusion.fused import Fused
from textfuse_jax.fusion.members import encoder_logits, opinion
from textfuse_jax.fusion.opinion import Members, absent_of, check_splits, encoder_opinion, join
from textfuse_jax.fusion.routing import Router, fit_router
from textfuse_jax.predict import Predictor
from textfuse_jax.training.progress import StopSignals


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fitted fusion with what it was fitted on.

    Attributes:
      fused: the fusion.
      router: where to ask; None without LLMs.
      asker: the LLM members.
      logits: of the encoder, by split; without ``train`` where there were no folds.
      train, validation: members and labels that fusion and decisions were fitted on.
    """

    fused: Fused
    router: Router | None
    asker: Asker
    logits: dict[str, np.ndarray]
    train: tuple[Members, np.ndarray]
    validation: tuple[Members, np.ndarray]


def fit(config: ConfigDict, corpus: Corpus, workdir: pathlib.Path, stop: StopSignals, say: Callable[[str], None]) -> Fitted:
    """Trains the encoder and its folds, asks the LLMs of training and validation documents, fits fusion and router.

    With ``fusion.folds`` = 0 nothing is trained twice: the fusion is fitted on half of the validation split and judged on the
    other half. Without LLMs there is nothing to fuse: the encoder is calibrated, its thresholds are tuned.

    Args:
      config: validated.
      corpus: the documents; the labels of the test split aren't read.
      workdir: takes ``encoder/``, ``folds/`` and ``fusion/``.

    Raises:
      DataError: opinions that don't fit the documents (``opinion.check``, ``check_splits``).
      ProviderError: an LLM can't be asked at all.
      Interrupted: a signal came; what was trained and paid is kept.
    """
    asker = Asker(config, corpus.class_names, corpus.multi_label, corpus.train, workdir, say)
    asker.check()  # before hours of training
    if not asker.names:
        logits = opinion(config, corpus, workdir / "encoder", stop, say, keep=True)
        logits, splits = logits | {"train": logits["validation"]}, {"train": corpus.validation, "validation": corpus.validation}
    elif config.fusion.folds:
        logits = encoder_logits(config, corpus, workdir, stop, say)
        splits = {"train": corpus.train, "validation": corpus.validation}
    else:
        logits = opinion(config, corpus, workdir / "encoder", stop, say, keep=True)
        parts = stratified_split(corpus.validation.labels, 0.5, data_seed(config))
        splits = {name: corpus.validation.take(rows) for name, rows in zip(("train", "validation"), parts)}
        logits = logits | {name: logits["validation"][rows] for name, rows in zip(("train", "validation"), parts)}
    members = {name: members_of(asker, split, logits[name]) for name, split in splits.items()}
    if asker.names:
        check_splits([(name, splits[name], members[name]) for name in splits])
    train, validation = ((members[name], splits[name].labels) for name in ("train", "validation"))
    fused = fusing.fit(config.fusion, train, validation, corpus.class_names, config.seed)
    say(f"fusion of {', '.join(fused.names)}: {fused.note}")
    router = None
    if asker.names:
        held = validation[0]
        router = fit_router(validation[1], fused.probabilities(held.without_llms()), fused.probabilities(held))
    save(workdir / "fusion", config, fused, router)
    return Fitted(fused, router, asker, logits, train, validation)


def members_of(
    asker: Asker,
    split: Split,
    logits: np.ndarray,
    fused: Fused | None = None,
    router: Router | None = None,
    share: float = 1.0,
    labelled: bool = True,
) -> Members:
    """The encoder's and the LLMs' opinions of a split.

    Args:
      fused, router: where they are given, LLMs are asked in the order of the gain that is expected of them.
      share: of the documents they are asked about.
      labelled: whether the split's labels are true, as a simulation needs them.
    """
    classes, multi_label = len(asker.class_names), asker.multi_label
    vector = asker.vectors(split.texts)
    first, order = encoder_opinion(split.ids, logits, multi_label), None
    if router is not None:
        unasked = [absent_of(name, kind, split, classes) for name, kind in zip(fused.names[1:], fused.kinds[1:])]
        encoder = join(split, [first, *unasked], classes, multi_label, vector)
        gain = router.expected_gain(fused.probabilities(encoder))
        order = np.argsort(-gain, kind="stable")[: int(share * len(gain) + 1e-9)]
    return join(split, [first, *asker(split, order, labelled)], classes, multi_label, vector)


def save(folder: pathlib.Path, config: ConfigDict, fused: Fused, router: Router | None) -> None:
    """Writes the fusion, its router and its config; the encoder lies beside it in ``encoder/model``."""
    fused.save(folder)
    (folder / "router.json").write_text(router.to_json() if router else "null", encoding="utf-8")
    write_json(folder / "config.json", json.loads(config.to_json_best_effort()))


class FusedPredictor:
    """A finished fusion, ready to classify texts.

    Args:
      folder: a run folder, or what an estimator saved: ``encoder/model`` and ``fusion/``.
      train: the training split, where few-shot examples are taken of it.
      say: takes lines of progress of the LLMs.

    Raises:
      FileNotFoundError: no finished fusion there.
    """

    def __init__(self, folder: str | pathlib.Path, train: Split | None = None, say: Callable[[str], None] = print):
        folder = pathlib.Path(folder)
        self.fused = fusing.load(folder / "fusion")
        self.encoder = Predictor(folder / "encoder")
        self.config = read_config(folder / "fusion" / "config.json")
        text = (folder / "fusion" / "router.json").read_text(encoding="utf-8")
        self.router = None if text == "null" else Router.from_json(text)
        self.class_names, self.multi_label = self.fused.class_names, self.fused.multi_label
        empty = Split([], [], np.zeros((0, len(self.class_names)) if self.multi_label else 0, np.float32))
        if self.config.llm.shots and train is None:
            raise DataError("llm.shots: few-shot examples come from the training split; give it, or save without examples")
        self._asker = Asker(self.config, self.class_names, self.multi_label, train or empty, folder, say)

    @property
    def reports(self) -> dict[str, list[dict[str, Any]]]:
        """What each LLM was asked, answered and cost since loading."""
        return self._asker.reports

    def members(self, ids: Sequence[str], texts: Sequence[str], call_share: float | None = None) -> Members:
        """What the encoder and, where it pays, the LLMs say of texts.

        Args:
          call_share: of the texts LLMs are asked about; None: the config's.
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
        members = self.members(ids, texts, call_share)
        probabilities = self.fused.probabilities(members)
        return probabilities, self.fused.decide(members, probabilities)

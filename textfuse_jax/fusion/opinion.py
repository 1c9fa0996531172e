"""What members say of the documents of a split, joined to them document by document, with the guards against mixed-up rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from textfuse_jax.data.corpus import DataError, Split

SMOOTHING = 1e-4
"""Share of a uniform opinion mixed in before the logarithm: what a certainty of 0 or 1 counts; temperature does the rest."""
ENCODER = "encoder"
SAME_ANSWERS = 20
"""Documents from which on equal answers in equal order to different texts are taken for a mix-up of splits."""


@dataclasses.dataclass(frozen=True)
class Opinion:
    """One member's scores of documents.

    Attributes:
      name: of the member, unique among members.
      kind: what it must be labelled with: "encoder", "llm openai/...", "replay FILE", "simulated ...".
      ids: of the documents, in order.
      scores: probability of each class; zeros where it is missing.
      present: whether there is an opinion.
    """

    name: str
    kind: str
    ids: tuple[str, ...]
    scores: Float[np.ndarray, "n c"]
    present: Bool[np.ndarray, "n"]

    def take(self, rows: Sequence[int]) -> Opinion:
        """Of the documents at these indices."""
        return dataclasses.replace(
            self, ids=tuple(self.ids[i] for i in rows), scores=self.scores[rows], present=self.present[rows]
        )


@dataclasses.dataclass(frozen=True)
class Members:
    """The opinions of all members of the documents of one split, row i of every array belonging together.

    Attributes:
      names, kinds: of the members, the encoder first.
      ids: of the documents.
      scores: probabilities.
      present: where there is an opinion.
      vector: of each document, width 0 where there is none.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    ids: tuple[str, ...]
    scores: Float[np.ndarray, "n m c"]
    present: Bool[np.ndarray, "n m"]
    vector: Float[np.ndarray, "n d"]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> Members:
        """Of the documents at these indices."""
        cut = {field: getattr(self, field)[rows] for field in ("scores", "present", "vector")}
        return dataclasses.replace(self, ids=tuple(self.ids[i] for i in rows), **cut)

    def seeing(self, present: Bool[np.ndarray, "n m"]) -> Members:
        """The same with further opinions hidden where ``present`` is False."""
        present = self.present & present
        return dataclasses.replace(self, scores=np.where(present[..., None], self.scores, 0), present=present)

    @property
    def answered(self) -> Bool[np.ndarray, "n"]:
        """Of which documents an LLM has an opinion."""
        return self.present[:, 1:].any(1)

    def without_llms(self) -> Members:
        """The encoder's opinion alone."""
        return self.seeing(np.broadcast_to(np.arange(len(self.names)) == 0, self.present.shape))


def encoder_opinion(ids: Sequence[str], logits: Float[np.ndarray, "n c"], multi_label: bool) -> Opinion:
    """An encoder's logits as an opinion; it always has one."""
    from textfuse_jax.training.inference import to_probabilities

    scores = to_probabilities(np.asarray(logits), multi_label).astype(np.float32)
    return Opinion(ENCODER, ENCODER, tuple(ids), scores, np.ones(len(scores), bool))


def absent_of(name: str, kind: str, split: Split, classes: int) -> Opinion:
    """A member that has no opinion of any document of the split."""
    return Opinion(name, kind, tuple(split.ids), np.zeros((len(split), classes), np.float32), np.zeros(len(split), bool))


def join(split: Split, opinions: Sequence[Opinion], classes: int, multi_label: bool, vector: np.ndarray | None = None) -> Members:
    """The members' opinions beside the documents of a split.

    Args:
      opinions: the encoder's first.
      vector: of each document; None: none.

    Raises:
      DataError: an opinion of other documents or another order, of another number of classes, scores that aren't
        probabilities, names that repeat, a first member that isn't the encoder or lacks an opinion.
    """
    names = [o.name for o in opinions]
    if len(set(names)) != len(names) or not opinions or opinions[0].kind != ENCODER or not opinions[0].present.all():
        raise DataError(f"members must have distinct names, the encoder first and with an opinion of every document, got {names}")
    for o in opinions:
        check(o, split.ids, classes, multi_label)
    return Members(
        tuple(names),
        tuple(o.kind for o in opinions),
        tuple(split.ids),
        np.stack([np.where(o.present[:, None], o.scores, 0) for o in opinions], 1).astype(np.float32),
        np.stack([o.present for o in opinions], 1),
        np.zeros((len(split), 0), np.float32) if vector is None else np.asarray(vector, np.float32),
    )


def check(opinion: Opinion, ids: Sequence[str], classes: int, multi_label: bool) -> None:
    """Raises DataError unless the opinion is of exactly these documents in this order, and of probabilities."""
    told = f"the answers of {opinion.name} ({opinion.kind})"
    if len(opinion.ids) != len(ids):
        raise DataError(f"{told} are of {len(opinion.ids)} documents, the split has {len(ids)}; join them by id")
    for i, (mine, theirs) in enumerate(zip(opinion.ids, ids)):
        if mine != theirs:
            where = "in another row" if mine in set(ids) else "in another split or data set"
            raise DataError(f"{told}: row {i} is of document {mine!r}, which stands {where}; document {theirs!r} is needed here")
    if opinion.scores.shape != (len(ids), classes) or opinion.present.shape != (len(ids),):
        raise DataError(f"{told} have shape {opinion.scores.shape}, {len(ids)} documents x {classes} classes are needed")
    scores = opinion.scores[opinion.present]
    bad = ~np.isfinite(scores) | (scores < 0) | (scores > 1 + 1e-3)
    if not multi_label and not bad.any():
        bad = np.abs(scores.sum(1, keepdims=True) - 1) > 1e-3
    if bad.any():
        row = np.flatnonzero(opinion.present)[np.argwhere(bad)[0, 0]]
        raise DataError(f"{told}: scores of document {ids[row]!r} are {opinion.scores[row].tolist()}; probabilities are needed")


def check_splits(parts: Sequence[tuple[str, Split, Members]]) -> None:
    """Raises DataError where a member answers two splits of different texts alike: one's answers were taken for the other's.

    That happened in LabelFusion's published runs, whose answers for validation and test are the same 500 in the same order.
    Compared are rows with an answer in both splits and texts that differ, where there are ``SAME_ANSWERS`` of them.
    """
    for i, (one, split, members) in enumerate(parts):
        for other, split2, members2 in parts[i + 1 :]:
            n = min(len(split), len(split2))
            differ = np.array([a != b for a, b in zip(split.texts, split2.texts)], bool)
            for m, name in enumerate(members.names):
                rows = differ & members.present[:n, m] & members2.present[:n, m]
                a, b = members.scores[:n, m][rows], members2.scores[:n, m][rows]
                changes = (a[1:] != a[:-1]).any(1).sum()  # sorted splits may well have equal answers
                if rows.sum() >= SAME_ANSWERS and np.array_equal(a, b) and changes >= SAME_ANSWERS // 2:
                    raise DataError(
                        f"{name} ({members.kinds[m]}) gives {rows.sum()} documents of {one} and of {other} the same answers in "
                        "the same order, though their texts differ: one split's answers were taken for the other's; ask again, "
                        "or join by id"
                    )


def evidence(scores: Float[np.ndarray, "n m c"], present: Bool[np.ndarray, "n m"], multi_label: bool) -> np.ndarray:
    """Log-odds f64 [n, m, c]: of each label (multi-label), or log p less its mean over the classes; 0 where missing."""
    p = np.asarray(scores, np.float64)
    if multi_label:
        p = (1 - SMOOTHING) * p + SMOOTHING / 2
        x = np.log(p) - np.log1p(-p)
    else:
        x = np.log((1 - SMOOTHING) * p + SMOOTHING / p.shape[-1])
        x = x - x.mean(-1, keepdims=True)
    return np.where(present[..., None], x, 0.0)

"""A corpus: three splits of texts with labels, and how splits are drawn from a seed.

Everything downstream reads a ``Corpus``; where it came from (a file, TFDS, docstrings) is known only to ``sources``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

TRAIN, VALIDATION, TEST = 1, 2, 4
"""What a document is to a fold: bits, since a published protocol may choose its epoch on the test documents."""


class DataError(ValueError):
    """Input that can't be used as it is; the message names file, row, column, value and the fix."""


class DataNotFound(FileNotFoundError):
    """Data that isn't there; the message lists what was looked for and every way to get it."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Documents of one split, row i of every field belonging together.

    Attributes:
      ids: name of each document, unique within the split; goes into predictions.csv.
      texts: the texts, never empty.
      labels: class of each document, int32 [n]; multi-label: multi-hot float32 [n, c], a row of zeros for no class.
    """

    ids: list[str]
    texts: list[str]
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"]

    def __post_init__(self):
        if not len(self.ids) == len(self.texts) == len(self.labels):
            raise ValueError(f"ids, texts and labels differ in length: {len(self.ids)}, {len(self.texts)}, {len(self.labels)}")

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int]) -> Split:
        """The documents at these indices, in this order."""
        rows = np.asarray(rows, np.int64)
        return Split([self.ids[i] for i in rows], [self.texts[i] for i in rows], self.labels[rows])


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Three splits, the names of their classes, and what was noticed while reading them.

    Attributes:
      name: where the corpus came from, e.g. ``"ag_news"``.
      train, validation, test: the splits; validation may be empty where the config asks for none.
      class_names: name of class k at position k.
      multi_label: whether a document has any number of classes (labels are then multi-hot).
      warnings: what was dropped or looked odd while reading, each with a count and the first places.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    multi_label: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list)

    def fingerprint(self) -> str:
        """SHA-256, in hex, over class names and the ids, texts and labels of train, validation and test.

        Equal fingerprints mean equal data in equal order; where it came from and what was warned of don't count.
        """
        splits = (self.train, self.validation, self.test)
        return hashlib.sha256(
            "".join([_digest(self.class_names), *(fingerprint(split) for split in splits)]).encode()
        ).hexdigest()


def fingerprint(split: Split) -> str:
    """SHA-256, in hex, over ids, texts and labels of a split, in order."""
    kind = "<f4" if split.labels.ndim == 2 else "<i4"
    labels = hashlib.sha256(repr(split.labels.shape).encode() + split.labels.astype(kind).tobytes()).hexdigest()
    return hashlib.sha256((_digest(split.ids) + _digest(split.texts) + labels).encode()).hexdigest()


def _digest(strings: Sequence[str]) -> str:
    """SHA-256 over strings, each preceded by its length so that ("ab", "c") and ("a", "bc") differ."""
    total = hashlib.sha256()
    for string in strings:
        data = string.encode("utf-8", "surrogatepass")
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()


def strata(labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"]) -> Int[np.ndarray, "n"]:
    """The stratum of each document: its class; multi-label: the rarest of its classes (c for a document without any).

    The rarest class, since a common one is spread evenly by chance anyway.
    """
    if labels.ndim == 1:
        return labels.astype(np.int64)
    counts = labels.sum(0)
    cost = np.where(labels > 0, counts, np.inf)
    return np.where(labels.sum(1) > 0, cost.argmin(1), labels.shape[1]).astype(np.int64)


def stratified_order(labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"], seed: int) -> Int[np.ndarray, "n"]:
    """A seeded permutation of the documents of which every prefix, and every suffix, holds each class in proportion.

    The j-th of the n_k shuffled documents of class k stands at (j + 1/2) / n_k; a prefix of m documents so holds
    m n_k / n of class k, give or take one. One order serves splits and subsamples: a smaller sample lies in a larger.
    """
    rng = np.random.default_rng(seed)
    stratum = strata(labels)
    shuffled = rng.permutation(len(stratum))
    position = np.empty(len(stratum))
    for k in np.unique(stratum):
        members = shuffled[stratum[shuffled] == k]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(position[shuffled], kind="stable")]


def stratified_split(
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"], fraction_or_count: float, seed: int
) -> tuple[Int[np.ndarray, "kept"], Int[np.ndarray, "held"]]:
    """Indices of the documents kept and of those held out, both in their original order.

    Args:
      labels: classes, or multi-hot classes.
      fraction_or_count: below 1 the share held out, from 1 on the number of documents; 0 holds out none.
      seed: equal seeds give equal splits, on every machine.

    Raises:
      DataError: so many held out that none is kept.
    """
    held = held_count(len(labels), fraction_or_count)
    order = stratified_order(labels, seed)
    return np.sort(order[held:]), np.sort(order[:held])


def held_count(n: int, fraction_or_count: float) -> int:
    """How many of n documents a fraction (below 1) or a count (from 1 on) means.

    Raises:
      DataError: a negative number, or so many that none of the n is left.
    """
    held = round(n * fraction_or_count) if fraction_or_count < 1 else int(fraction_or_count)
    if fraction_or_count < 0 or held >= n > 0:
        raise DataError(f"{fraction_or_count} of {n} documents can't be held out; take a smaller fraction or number")
    return held


def thinned(split: Split, classes: int, ratio: float, seed: int) -> Split:
    """The first half of the classes with one in ``ratio`` of their rows, drawn by the seed; the others whole.

    What studies of imbalance train on: the majority stays as it is, the minority shrinks.

    Raises:
      DataError: several labels a document, or a ratio below 1.
    """
    if split.labels.ndim == 2 or ratio < 1:
        raise DataError(f"data.imbalance needs one label a document and a ratio >= 1, got {ratio}")
    rng, kept = np.random.default_rng(seed), []
    for k in range(classes):
        rows = np.flatnonzero(split.labels == k)
        kept.append(rng.permutation(rows)[: max(1, round(len(rows) / ratio))] if k < classes // 2 else rows)
    return split.take(np.sort(np.concatenate(kept)))


def oversampled(split: Split, seed: int) -> Split:
    """Rows of rarer classes repeated until every class has as many as the largest; a repeated row's id ends in ``#2``, ...

    Raises:
      DataError: several labels a document.
    """
    if split.labels.ndim == 2:
        raise DataError("data.oversample needs one label a document")
    rng, counts = np.random.default_rng(seed), np.bincount(split.labels)
    ids, rows = [], []
    for k in np.flatnonzero(counts):
        mine = rng.permutation(np.flatnonzero(split.labels == k))
        for i in range(counts.max()):
            time, row = i // len(mine), int(mine[i % len(mine)])
            rows.append(row)
            ids.append(split.ids[row] + (f"#{time + 1}" if time else ""))
    order = rng.permutation(len(rows))
    return dataclasses.replace(split.take([rows[i] for i in order]), ids=[ids[i] for i in order])


def take_rows(split: Split, rows: int, seed: int) -> Split:
    """A seeded stratified sample of ``rows`` documents in their original order; all for 0 or more than there are.

    Drawn from the end of the stratified order, so that it never meets what ``stratified_split`` holds out of the
    same documents with the same seed.
    """
    if rows < 0:
        raise DataError(f"rows must be >= 0 (0 = all), got {rows}")
    if rows == 0 or rows >= len(split):
        return split
    return split.take(np.sort(stratified_order(split.labels, seed)[-rows:]))

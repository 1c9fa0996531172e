"""Examples shown to a model, from the training split only, and never a document itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from textfuse_jax.data.corpus import Split, strata, stratified_order
from textfuse_jax.llm.prompts import Shot

_SPARE = 16  # neighbours looked at beyond those wanted, in place of copies of the document


def shot_of(train: Split, row: int, class_names: Sequence[str]) -> Shot:
    """A training document as an example."""
    held = train.labels[row]
    named = np.flatnonzero(held) if np.ndim(held) else [int(held)]
    return Shot(train.ids[row], train.texts[row], tuple(class_names[int(k)] for k in named))


def balanced(
    train: Split, class_names: Sequence[str], ids: Sequence[str], texts: Sequence[str], count: int, seed: int
) -> list[list[Shot]]:
    """The same ``count`` examples for every document: classes in turn, drawn by the seed.

    A document that is an example itself (same id or same text) gets the next one in its place.

    Raises:
      ValueError: fewer training documents than wanted.
    """
    _enough(train, count)
    order = _in_turn(train, seed)
    made = [shot_of(train, row, class_names) for row in order[: 4 * count + _SPARE]]
    standard, names, words = made[:count], {shot.id for shot in made[:count]}, {shot.text for shot in made[:count]}
    return [
        [shot for shot in made if shot.id != name and shot.text != text][:count] if name in names or text in words else standard
        for name, text in zip(ids, texts)
    ]


def _in_turn(train: Split, seed: int) -> list[int]:
    """Training rows, one of each class in turn (multi-label: of the rarest class of each), shuffled within classes."""
    order = stratified_order(train.labels, seed)
    stratum, seen, rank = strata(train.labels), {}, []
    for row in order:
        k = int(stratum[row])
        seen[k] = seen.get(k, -1) + 1
        rank.append((seen[k], k, int(row)))
    return [row for _, _, row in sorted(rank)]


def nearest(
    train: Split,
    class_names: Sequence[str],
    train_vectors: Float[np.ndarray, "m d"],
    ids: Sequence[str],
    texts: Sequence[str],
    vectors: Float[np.ndarray, "n d"],
    count: int,
) -> list[list[Shot]]:
    """The ``count`` training documents nearest to each document by cosine, the nearest last (next to the question).

    A document of the training split is never its own example, nor is a copy of its text.

    Args:
      train_vectors, vectors: by one encoder that saw no labels but the training split's.

    Raises:
      ValueError: vectors that don't match their documents; fewer training documents than wanted.
    """
    _enough(train, count)
    if len(train_vectors) != len(train) or len(vectors) != len(texts) or len(ids) != len(texts):
        raise ValueError(
            f"{len(train_vectors)} vectors of {len(train)} training documents, {len(vectors)} of {len(texts)} texts: "
            "one each is needed"
        )
    known, asked, chosen = _unit(train_vectors), _unit(vectors), []
    for start in range(0, len(texts), 512):
        likeness = asked[start : start + 512] @ known.T
        for i, row in enumerate(likeness, start):
            chosen.append([shot_of(train, k, class_names) for k in _others(row, train, ids[i], texts[i], count)][::-1])
    return chosen


def _others(likeness: Float[np.ndarray, "m"], train: Split, name: str, text: str, count: int) -> list[int]:
    """The rows most alike, without the document itself; ties by row."""
    for reach in (count + _SPARE, len(likeness)):
        reach = min(reach, len(likeness))
        near = np.argpartition(-likeness, reach - 1)[:reach]
        near = near[np.lexsort((near, -likeness[near]))]
        kept = [int(k) for k in near if train.ids[k] != name and train.texts[k] != text][:count]
        if len(kept) == count:
            break
    return kept


def _unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _enough(train: Split, count: int) -> None:
    if not 1 <= count < max(len(train), 1):
        raise ValueError(f"llm.shots must be in 1..{len(train) - 1}, below the {len(train)} training documents, got {count}")

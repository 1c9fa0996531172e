"""Encoded pieces -> a plan of packed batches -> ``TokenRows`` in NumPy.

Pieces are put into rows by ``best_fit``; rows are shuffled again before they are grouped into batches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from textfuse_jax.data.best_fit import Shape, best_fit
from textfuse_jax.data.ragged import bounds as bounds_of
from textfuse_jax.data.ragged import ranges
from textfuse_jax.data.tokenize import Encoded
from textfuse_jax.data.units import MIN_PHRASE, MIN_SENTENCE
from textfuse_jax.types import TokenRows, Units, parse_tap

ROOM = 1.25
"""Room for units in a fitted row, in units that its tokens have on average: rows seldom end early for want of it."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which piece goes into which slot of which batch.

    Attributes:
      shapes: the shapes of batches, by ascending row length; only those that occur.
      shape: index into ``shapes`` of each batch.
      bounds: pieces of batch b are ``bounds[b]:bounds[b + 1]`` of the two fields below.
      pieces: index in ``Encoded`` of each piece, by row and slot.
      rows: row of each piece in its batch, ascending within a batch.
      tokens: number of tokens of all pieces.
    """

    shapes: tuple[Shape, ...]
    shape: Int[np.ndarray, "b"]
    bounds: Int[np.ndarray, "b+1"]
    pieces: Int[np.ndarray, "k"]
    rows: Int[np.ndarray, "k"]
    tokens: int

    @property
    def batches(self) -> int:
        """Number of batches."""
        return len(self.shape)

    @property
    def waste(self) -> float:
        """Padding's share of all tokens the batches hold: 1 - tokens / (rows * row length)."""
        held = np.array([shape.rows * shape.tokens for shape in self.shapes])
        return 1 - self.tokens / int(held[self.shape].sum())


def row_shape(row_length: int, tokens_per_batch: int, slots_per_row: int | None = None, rows_multiple: int = 1) -> Shape:
    """The sizes of a batch of rows of this length.

    A piece has at most one phrase for ``MIN_PHRASE`` tokens and one sentence for ``MIN_SENTENCE``, but at least one of
    each, so a row also has room for one of each a slot.
    """
    if row_length < MIN_SENTENCE:
        raise ValueError(f"row_lengths must be >= {MIN_SENTENCE}, the least size of a sentence, got {row_length}")
    if slots_per_row is not None and slots_per_row < 1:
        raise ValueError(f"slots_per_row must be >= 1 or None for row_length // {MIN_SENTENCE}, got {slots_per_row}")
    if tokens_per_batch < 1:
        raise ValueError(f"tokens_per_batch must be >= 1, got {tokens_per_batch}")
    slots = row_length // MIN_SENTENCE if slots_per_row is None else slots_per_row
    rows = max(rows_multiple, tokens_per_batch // row_length // rows_multiple * rows_multiple)
    return Shape(rows, row_length, slots, max(row_length // MIN_PHRASE, slots), max(row_length // MIN_SENTENCE, slots))


def fitted_shape(shape: Shape, encoded: Encoded) -> Shape:
    """The shape with room for ``ROOM`` times the units that its tokens have on average, and for those of any one piece.

    Args:
      shape: with room for the most units that its tokens can have.
      encoded: the pieces. A longer row has room for no fewer units than a shorter one.
    """
    inside = encoded.lengths <= shape.tokens

    def room(scale: str, most: int) -> int:
        count = encoded.counts[scale]
        needed = max(int(count[inside].max(initial=0)), math.ceil(ROOM * shape.tokens * count.sum() / encoded.lengths.sum()))
        return min(most, needed + needed % 2)  # even numbers: splits that differ little share a compilation

    return dataclasses.replace(
        shape,
        slots=room("document", shape.slots),
        phrases=room("phrase", shape.phrases),
        sentences=room("sentence", shape.sentences),
    )


def plan(
    encoded: Encoded,
    *,
    row_lengths: Sequence[int] = (128,),
    tokens_per_batch: int,
    slots_per_row: int | None = None,
    shuffle: tuple[int, int] | None = None,
    packed: bool = True,
    lookahead: int = 512,
    rows_multiple: int = 1,
    fitted: bool = False,
) -> Plan:
    """Every piece once, in as few rows as best-fit finds.

    Args:
      encoded: what to pack; only its lengths and counts are read.
      row_lengths: rows a piece may be packed into, each one compiled shape; a piece opens a row of the smallest length
        that holds it, short pieces fill the gaps of longer rows, a row that can't be filled becomes one of the next length.
      tokens_per_batch: a batch has ``tokens_per_batch // row_length`` rows, at least one.
      slots_per_row: most pieces a row; ``row_length // 8`` if None.
      shuffle: (seed, epoch), from which the order follows; None keeps the order of the pieces, for evaluation.
      packed: False puts one piece into each row: ordinary padding.
      lookahead: pieces in the buffer; more wastes less and mixes less.
      rows_multiple: the number of rows is a multiple of this: the devices or processes that share a batch.
      fitted: rows have room for as many units as these pieces fill them with (``fitted_shape``), not for the most there can be.

    Returns:
      The plan. Only the last batch of a shape has empty rows, spread evenly over it, so that every device gets its share.

    Raises:
      ValueError: no pieces, a piece longer than the longest row, or an argument out of its range.
    """
    if not len(encoded):
        raise ValueError("there is nothing to pack: no documents; check data.path, data.where and data.train_rows")
    if not row_lengths or lookahead < 1 or rows_multiple < 1:
        raise ValueError(
            "row_lengths must not be empty, lookahead and rows_multiple must be >= 1, "
            f"got {tuple(row_lengths)}, {lookahead}, {rows_multiple}"
        )
    shapes = [row_shape(length, tokens_per_batch, slots_per_row, rows_multiple) for length in sorted(set(row_lengths))]
    lengths = encoded.lengths
    if lengths.max() > shapes[-1].tokens:
        piece = int(lengths.argmax())
        raise ValueError(
            f"document {encoded.example[piece]} has {lengths[piece]} tokens, the longest row only {shapes[-1].tokens}; "
            'lower data.max_length (or set data.long_documents="windows"), or add a longer row to data.row_lengths'
        )
    random = None if shuffle is None else np.random.default_rng(shuffle)
    order = np.arange(len(encoded)) if random is None else random.permutation(len(encoded))
    smallest = np.searchsorted([shape.tokens for shape in shapes], lengths)
    if fitted:
        shapes = [fitted_shape(shape, encoded) for shape in shapes]
    if packed:
        sizes = (lengths, encoded.counts["phrase"], encoded.counts["sentence"])
        rows = best_fit(*(values.tolist() for values in sizes), order.tolist(), smallest.tolist(), shapes, lookahead)
    else:
        rows = [[[piece] for piece in order[smallest[order] == i].tolist()] for i in range(len(shapes))]
    return _batched(rows, shapes, random, int(lengths.sum()))


def _batched(rows: list[list[list[int]]], shapes: Sequence[Shape], random: np.random.Generator | None, tokens: int) -> Plan:
    """Groups rows of each shape into batches; shuffles rows and batches if there is a generator."""
    used = [i for i, found in enumerate(rows) if found]
    batches: list[tuple[int, list[list[int]]]] = []
    for new, i in enumerate(used):
        found = rows[i] if random is None else [rows[i][j] for j in random.permutation(len(rows[i])).tolist()]
        size = shapes[i].rows
        batches += [(new, found[first : first + size]) for first in range(0, len(found), size)]
    if random is not None:
        batches = [batches[j] for j in random.permutation(len(batches)).tolist()]
    pieces, places, counts = [], [], []
    for new, found in batches:
        size = shapes[used[new]].rows
        for j, row in enumerate(found):
            pieces += row
            places += [j * size // len(found)] * len(row)  # 0, 1, 2... in a full batch
        counts.append(sum(map(len, found)))
    return Plan(
        shapes=tuple(shapes[i] for i in used),
        shape=np.array([new for new, _ in batches], np.int32),
        bounds=bounds_of(np.array(counts)),
        pieces=np.array(pieces, np.int32),
        rows=np.array(places, np.int32),
        tokens=tokens,
    )


def check_documents(encoded: Encoded, labels: np.ndarray, weights: np.ndarray | None) -> None:
    """Labels and weights have one entry for each document of the split that was encoded."""
    for name, values in (("labels", labels), ("weights", weights)):
        if values is not None and len(values) != encoded.examples:
            raise ValueError(f"{name} must have one entry for each of the {encoded.examples} documents, got {len(values)}")


def assemble(
    encoded: Encoded,
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"],
    plan: Plan,
    batch: int,
    *,
    weights: Float[np.ndarray, "n"] | None = None,
    features: Mapping[str, Float[np.ndarray, "k d"]] | None = None,
    rows: slice | None = None,
) -> TokenRows:
    """One batch of a plan as NumPy arrays; padding points one past the end (see ``types``).

    Args:
      encoded: the pieces the plan was made of.
      labels: of the documents of the split, classes or multi-hot.
      plan: the plan.
      batch: index of the batch in the plan.
      weights: of the documents of the split in loss and metrics, 1 if None; windows share theirs.
      features: cached features, tap -> a flat array of all units of all pieces.
      rows: only these rows of the batch, one process's share; all if None. Step must be 1.

    Raises:
      ValueError: labels or weights are not one for each document of the split; a tap's array has a wrong length.
    """
    check_documents(encoded, labels, weights)
    shape = plan.shapes[plan.shape[batch]]
    first, stop, _ = (rows or slice(None)).indices(shape.rows)
    r, t, s = max(0, stop - first), shape.tokens, shape.slots
    begin, end = plan.bounds[batch : batch + 2]
    row = plan.rows[begin:end]
    low, high = np.searchsorted(row, [first, first + r])
    pieces, row = plan.pieces[begin + low : begin + high], row[low:high] - first
    opening = np.searchsorted(row, row)  # the first piece of each piece's row

    def offsets(counts: np.ndarray) -> np.ndarray:
        """Units of the pieces before it in its row."""
        before = np.cumsum(counts) - counts
        return before - before[opening]

    def scattered(size: int, padding: float, at: np.ndarray, values: np.ndarray, dtype=np.int32) -> np.ndarray:
        flat = np.full((r * size, *values.shape[1:]), padding, dtype)
        flat[at] = values
        return flat.reshape(r, size, *values.shape[1:])

    slot = np.arange(len(pieces)) - opening
    size = {"token": t, "phrase": shape.phrases, "sentence": shape.sentences, "document": s}
    count = {scale: encoded.counts[scale][pieces] for scale in size}
    offset = {scale: offsets(count[scale]) for scale in size}
    place = {scale: ranges(row * size[scale] + offset[scale], count[scale]) for scale in size}
    tokens = ranges(encoded.bounds[pieces], count["token"])

    def unit_of_tokens(scale: str) -> np.ndarray:
        local = encoded.unit[scale][tokens]
        values = np.where(local < 0, size[scale], local + np.repeat(offset[scale], count["token"]))
        return scattered(t, size[scale], place["token"], values)

    def document_of(scale: str) -> np.ndarray:
        return scattered(size[scale], s, place[scale], np.repeat(slot, count[scale]))

    phrases = ranges(encoded.unit_bounds("phrase")[pieces], count["phrase"])
    parent = encoded.phrase_sentence[phrases] + np.repeat(offset["sentence"], count["phrase"])
    example = encoded.example[pieces]
    weight = encoded.weight[pieces] * (1 if weights is None else weights[example])
    labels = np.asarray(labels)
    return TokenRows(
        tokens=scattered(t, encoded.pad_id, place["token"], encoded.tokens[tokens]),
        position=scattered(t, 0, place["token"], ranges(np.zeros_like(pieces), count["token"])),
        document=document_of("token"),
        unit={scale: unit_of_tokens(scale) for scale in ("phrase", "sentence")},
        units={
            "phrase": Units(document_of("phrase"), scattered(size["phrase"], size["sentence"], place["phrase"], parent)),
            "sentence": Units(document_of("sentence"), np.zeros((r, size["sentence"]), np.int32)),
        },
        label=scattered(s, 0, place["document"], labels[example], np.float32 if labels.ndim > 1 else np.int32),
        weight=scattered(s, 0, place["document"], weight, np.float32),
        example=scattered(s, -1, place["document"], example),
        features={
            tap: scattered(size[scale], 0, place[scale], values, values.dtype)
            for tap, scale, values in _gathered(encoded, features, pieces)
        },
    )


def _gathered(
    encoded: Encoded, features: Mapping[str, np.ndarray] | None, pieces: Int[np.ndarray, "j"]
) -> list[tuple[str, str, np.ndarray]]:
    """Tap, its scale and the features of all units of the pieces, end to end."""
    found = []
    for tap, values in (features or {}).items():
        scale = parse_tap(tap)[1]
        starts = encoded.unit_bounds(scale)
        if len(values) != starts[-1]:
            raise ValueError(f"features[{tap!r}] must have a row for each of {starts[-1]} units, got {len(values)}")
        found.append((tap, scale, values[ranges(starts[pieces], encoded.counts[scale][pieces])]))
    return found

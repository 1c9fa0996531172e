"""Batches of a split, epoch after epoch: planned from the seed, assembled by grain's threads, resumable to the batch."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from jaxtyping import Float, Int

from textfuse_jax.data.corpus import DataError
from textfuse_jax.data.packing import Plan, Shape, assemble, check_documents, plan
from textfuse_jax.data.tokenize import Encoded

State = dict[str, int]
Assembled = Callable[[Plan, int, slice], Any]
"""``(plan, batch, rows) -> those rows of the batch`` as NumPy arrays."""


class Batches:
    """An iterable of packed batches (``TokenRows``, ``CascadeRows``) with a position.

    ``iter`` begins at the position last set with ``set_state``, at first the beginning; so evaluation can go over the
    batches again and again. ``get_state`` is the position after the batch last yielded: a loop that saves it with its
    weights continues with the very next batch.

    Args:
      plans: one for each epoch.
      assembled: makes rows of a batch of a plan.
      process: index and number of the processes that share each batch.
      prefetch: batches assembled ahead.

    Attributes:
      plans: one plan for each epoch.
      steps_per_epoch: number of batches of each epoch; they differ a little, as each epoch is packed anew.
      total_steps: number of all batches.
      shapes: the shapes that occur, by ascending row length: the number of compilations.
      waste: padding's share of all tokens the batches hold.
    """

    def __init__(self, plans: Sequence[Plan], assembled: Assembled, process: tuple[int, int], prefetch: int):
        self.plans = tuple(plans)
        self.steps_per_epoch = [p.batches for p in plans]
        self.total_steps = sum(self.steps_per_epoch)
        self.shapes: tuple[Shape, ...] = tuple(sorted({s for p in plans for s in p.shapes}, key=lambda s: (s.tokens, s.rows)))
        held = sum(p.tokens / (1 - p.waste) for p in plans)
        self.waste = 1 - sum(p.tokens for p in plans) / held
        self._assembled = assembled
        self._process = process
        self._prefetch = prefetch
        self._ends = np.cumsum(self.steps_per_epoch)
        self._start = self._next = 0
        self._identity = 0
        for p in self.plans:
            for values in (p.bounds, p.pieces, p.rows):
                self._identity = zlib.crc32(values.tobytes(), self._identity)

    def __len__(self) -> int:
        return self.total_steps

    def epoch_of(self, step: int) -> tuple[int, int]:
        """Epoch and batch in it of a step, both from 0."""
        epoch = int(np.searchsorted(self._ends, step, side="right"))
        return epoch, int(step - self._ends[epoch] + self.steps_per_epoch[epoch])

    def batch(self, step: int) -> Any:
        """This process's rows of the batch of a step."""
        epoch, batch = self.epoch_of(step)
        p = self.plans[epoch]
        index, count = self._process
        share = p.shapes[p.shape[batch]].rows // count
        return self._assembled(p, batch, slice(index * share, (index + 1) * share))

    def __iter__(self) -> Iterator[Any]:
        self._next = self._start
        threads = min(2, self._prefetch)  # a batch takes a millisecond: more threads would only fight for the interpreter
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=self._prefetch)
        steps = grain.MapDataset.range(self._start, self.total_steps)
        iterator = iter(steps.map(self.batch).to_iter_dataset(options))
        try:
            for batch in iterator:
                self._next += 1
                yield batch
        finally:
            iterator.close()

    def get_state(self) -> State:
        """The position, ready for JSON: the next step, and a checksum of all plans."""
        return {"next_step": self._next, "plans_crc32": self._identity}

    def set_state(self, state: State) -> None:
        """Lets the next ``iter`` begin at the position that ``get_state`` told.

        Raises:
          DataError: the state is of other batches (other texts, seed, epochs, row lengths or rows).
          ValueError: it is beyond the end.
        """
        if state["plans_crc32"] != self._identity:
            raise DataError(
                "the saved data position belongs to other batches: texts, seed, epochs, row_lengths or tokens_per_batch have "
                "changed since, or the rows of a batch, here "
                f"{', '.join(f'{s.rows} of {s.tokens} tokens' for s in self.shapes)}: they are a multiple of the devices and of "
                "training.accumulate. Resume with the config and on a number of devices that gives the checkpoint's rows, or "
                "start anew without --resume"
            )
        if not 0 <= state["next_step"] <= self.total_steps:
            raise ValueError(f"next_step must lie in 0..{self.total_steps}, got {state['next_step']}")
        self._start = self._next = state["next_step"]


def train_batches(
    encoded: Encoded,
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"],
    weights: Float[np.ndarray, "n"] | None = None,
    *,
    epochs: int,
    seed: int,
    tokens_per_batch: int,
    row_lengths: Sequence[int] = (128,),
    slots_per_row: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
    rows_multiple: int = 1,
    prefetch: int = 2,
    packed: bool = True,
    fitted: bool = False,
    features: Mapping[str, np.ndarray] | None = None,
) -> Batches:
    """Batches of ``epochs`` epochs, each shuffled and packed anew from the seed.

    Args:
      encoded, labels, weights, features: as in ``packing.assemble``.
      epochs: >= 1; all are planned at once, some 15 microseconds a document and epoch.
      seed: equal seeds give equal batches.
      tokens_per_batch: over all processes and devices.
      row_lengths, slots_per_row, packed, fitted: as in ``packing.plan``.
      process_index, process_count: every process plans the same batches and assembles its own contiguous rows; the
        processes' rows end to end are the batch of one process.
      rows_multiple: rows are a multiple of this (devices of one process) times ``process_count``.
      prefetch: batches assembled ahead; 0 assembles in the calling thread.

    Raises:
      ValueError: as ``packing.plan``, or an argument out of its range.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be >= 1, got {epochs}")
    plans = [
        plan(
            encoded,
            row_lengths=row_lengths,
            tokens_per_batch=tokens_per_batch,
            slots_per_row=slots_per_row,
            shuffle=(seed, epoch),
            packed=packed,
            rows_multiple=rows_multiple * process_count,
            fitted=fitted,
        )
        for epoch in range(epochs)
    ]
    return Batches(plans, _rows_of(encoded, labels, weights, features), process_of(process_index, process_count), prefetch)


def evaluation_batches(
    encoded: Encoded,
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"],
    weights: Float[np.ndarray, "n"] | None = None,
    *,
    tokens_per_batch: int,
    row_lengths: Sequence[int] = (128,),
    slots_per_row: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
    rows_multiple: int = 1,
    prefetch: int = 2,
    packed: bool = True,
    fitted: bool = False,
    features: Mapping[str, np.ndarray] | None = None,
) -> Batches:
    """Every document once, not shuffled; arguments as in ``train_batches``."""
    once = plan(
        encoded,
        row_lengths=row_lengths,
        tokens_per_batch=tokens_per_batch,
        slots_per_row=slots_per_row,
        packed=packed,
        rows_multiple=rows_multiple * process_count,
        fitted=fitted,
    )
    return Batches([once], _rows_of(encoded, labels, weights, features), process_of(process_index, process_count), prefetch)


def _rows_of(
    encoded: Encoded, labels: np.ndarray, weights: np.ndarray | None, features: Mapping[str, np.ndarray] | None
) -> Assembled:
    """``packing.assemble`` for these documents."""
    check_documents(encoded, labels, weights)
    return lambda plan, batch, rows: assemble(encoded, labels, plan, batch, weights=weights, features=features, rows=rows)


def process_of(index: int, count: int) -> tuple[int, int]:
    """Process index and count, checked."""
    if not 0 <= index < count:
        raise ValueError(f"process_index must lie in 0..process_count - 1, got {index} of {count}")
    return index, count

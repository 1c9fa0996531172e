"""Flat ragged arrays: lists of different lengths laid end to end, with their bounds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def bounds(lengths: Int[np.ndarray, "m"]) -> Int[np.ndarray, "m+1"]:
    """Where each list begins and, last, where all end: ``bounds([2, 0, 3]) == [0, 2, 2, 5]``."""
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends


def ranges(starts: Int[np.ndarray, "m"], lengths: Int[np.ndarray, "m"]) -> Int[np.ndarray, "k"]:
    """``lengths[i]`` consecutive numbers from ``starts[i]``, end to end: ``ranges([5, 0], [2, 3]) == [5, 6, 0, 1, 2]``."""
    lengths = np.asarray(lengths, np.int64)
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(np.asarray(starts, np.int64) - before, lengths)

"""Compiling in the open: ahead of time, once a shape, counted and logged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from textfuse_jax.types import CascadeRows, TokenRows


class Compiled:
    """A mapped function that is compiled ahead, once for each shape of its rows, and says so.

    A call whose shapes weren't seen before compiles in the open; nothing is recompiled behind one's back.

    Args:
      mapped: a function of ``(state, rows, ...)`` under ``jax.jit`` or ``jax.pmap``.
      name: what the lines of progress call it.
      say: takes lines of progress.

    Attributes:
      seconds: time spent compiling so far.
    """

    def __init__(self, mapped: Callable, name: str, say: Callable[[str], None]):
        self._mapped = mapped
        self._programs: dict[tuple, Any] = {}
        self._name, self._say = name, say
        self.seconds = 0.0
        self._lock = threading.Lock()  # two threads that meet a new shape compile it once

    def __call__(self, state: Any, rows: TokenRows | CascadeRows, *rest: Any) -> Any:
        shape = tuple(x.shape for x in jax.tree.leaves(rows))
        with self._lock:
            if shape not in self._programs:
                start = time.perf_counter()
                self._programs[shape] = self._mapped.lower(state, rows, *rest).compile()
                self.seconds += (took := time.perf_counter() - start)
                self._say(f"compiled {self._name} for rows {rows.document.shape} in {took:.1f} s")
        return self._programs[shape](state, rows, *rest)

    def __len__(self) -> int:
        """Number of compilations."""
        return len(self._programs)

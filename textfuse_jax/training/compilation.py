"""Compiling in the open: ahead of time, once a shape, counted and logged."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax


def compiled(function: Callable, name: str, say: Callable[[str], None], donate: tuple[int, ...] = ()) -> Callable:
    """``jax.jit`` that compiles ahead, once for each shape of its rows, and says so; ``.count()`` tells how often.

    A call whose shapes weren't seen before compiles in the open; nothing is recompiled behind one's back.
    """
    jitted = jax.jit(function, donate_argnums=donate)
    programs: dict[tuple, Any] = {}

    def call(*args):
        shape = tuple(x.shape for x in jax.tree.leaves(args[1]))
        if shape not in programs:
            start = time.perf_counter()
            programs[shape] = jitted.lower(*args).compile()
            say(f"compiled {name} for rows {args[1].tokens.shape} in {time.perf_counter() - start:.1f} s")
        return programs[shape](*args)

    call.count = lambda: len(programs)
    return call

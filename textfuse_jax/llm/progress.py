"""A line a model on stderr while it is asked: answers, calls a second, cost, faults, time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from textfuse_jax.bars import Progress
from textfuse_jax.llm.types import Answer


class Bar:
    """The line of one model."""

    def __init__(self, shown: Progress, name: str, total: int):
        self._shown, self._begun = shown, time.monotonic()
        self._task = shown.add_task(name, total=total, note="")
        self._calls, self._faults, self._cost, self._drawn = 0, 0, 0.0, 0.0

    def answer(self, answer: Answer) -> None:
        """One more is done."""
        self._shown.advance(self._task)
        if not answer.cached and answer.attempts:
            self._calls += not answer.fault
            self._cost += answer.cost or 0.0
        self._draw()

    def fault(self) -> None:
        """One call brought nothing."""
        self._faults += 1
        self._draw()

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn > 0.2:
            self._drawn = now
            pace = (self._calls + self._faults) / max(now - self._begun, 1e-9)
            self._shown.update(self._task, note=f"{pace:.1f} calls/s, {self._faults:,} faults, cost {self._cost:.4f}")


class Bars:
    """The lines of all models."""

    def __init__(self, shown: Progress):
        self._shown = shown

    def add(self, name: str, total: int) -> Bar:
        """A line for a model that is asked ``total`` requests."""
        return Bar(self._shown, name, total)


@contextlib.contextmanager
def bars(shown: bool) -> Iterator[Bars]:
    """Progress lines while entered, or none."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeRemainingColumn(), disable=not shown) as progress:
        yield Bars(progress)

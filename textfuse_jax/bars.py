"""Progress on stderr: a bar on a terminal, and where there is none, in a log, a line from time to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

EVERY = 30.0
"""Seconds between two lines of a log."""


class Progress(rich.progress.Progress):
    """Rich's, on stderr; in a log, where a bar would be seen at its end alone, the columns but for the bar as a line."""

    def __init__(self, *columns: rich.progress.ProgressColumn, **options: Any):
        options = {"redirect_stdout": sys.stdout.isatty()} | options  # what goes to a file goes there under a bar too
        super().__init__(*columns, console=Console(stderr=True), **options)
        self._told = time.monotonic()

    def advance(self, task_id: rich.progress.TaskID, advance: float = 1) -> None:
        """As Rich's."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: rich.progress.TaskID, **fields: Any) -> None:
        """As Rich's."""
        super().update(task_id, **fields)
        self._tell(task_id)

    def stop(self) -> None:
        """As Rich's, but a bar that goes leaves no empty line in a log."""
        if self.live.transient and not self.console.is_terminal:
            self.live.stop()
        else:
            super().stop()

    def _tell(self, task_id: rich.progress.TaskID) -> None:
        if self.disable or self.console.is_terminal or time.monotonic() - self._told < EVERY:
            return
        self._told, task = time.monotonic(), next(task for task in self.tasks if task.id == task_id)
        told = (str(column(task)) for column in self.columns if not isinstance(column, rich.progress.BarColumn))
        print("  ".join(filter(None, map(str.strip, told))) + " left", file=sys.stderr, flush=True)


def followed(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    """The items one by one, their number and the time left shown while they are worked on; on a terminal the bar then goes.

    Whoever may leave before the last one closes it (``contextlib.closing``), as the bar stays until then.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(name, total=total)
        for item in items:
            yield item
            progress.advance(task)

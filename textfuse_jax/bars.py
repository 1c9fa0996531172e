"""Progress on stderr: a bar on a terminal, and where there is none, in a log, a line from time to time."""

from __future__ import annotations

import sys
import time
from typing import Any

import rich.progress
from rich.console import Console

EVERY = 30.0
"""Seconds between two lines of a log."""


class Progress(rich.progress.Progress):
    """Rich's, on stderr; in a log, where a bar would be seen at its end alone, the columns but for the bar as a line."""

    def __init__(self, *columns: rich.progress.ProgressColumn, **options: Any):
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

    def _tell(self, task_id: rich.progress.TaskID) -> None:
        if self.disable or self.console.is_terminal or time.monotonic() - self._told < EVERY:
            return
        self._told, task = time.monotonic(), next(task for task in self.tasks if task.id == task_id)
        told = (str(column(task)) for column in self.columns if not isinstance(column, rich.progress.BarColumn))
        print("  ".join(filter(None, map(str.strip, told))) + " left", file=sys.stderr, flush=True)

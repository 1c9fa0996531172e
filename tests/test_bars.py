"""A log gets lines where a terminal gets a bar."""

import contextlib
import os
import pty
import signal
import subprocess
import sys

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from textfuse_jax import bars


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("disable", [False, True])
def test_a_log_is_told_from_time_to_time(terminal, disable, monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    shown = bars.Progress(*columns, TimeRemainingColumn(), disable=disable)
    shown.live.console = Console(stderr=True, force_terminal=terminal)
    task = shown.add_task("encoding", total=90, note="")
    for _ in range(90):
        now[0] += 1.0
        shown.advance(task)
    shown.update(task, note="12 documents/s")
    lines = capsys.readouterr().err.splitlines()
    if terminal or disable:
        assert not any("encoding" in line for line in lines)
    else:
        assert [line.split("  ")[:2] for line in lines] == [["encoding", f"{n}/90"] for n in (30, 60, 90)]
        assert all(line.endswith("left") for line in lines)


def test_items_are_followed_and_a_log_has_lines_of_long_work_alone(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    assert list(bars.followed("abc", 3, "test, batches")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    for _ in bars.followed(range(100), 100, "test, batches"):
        now[0] += 1.0
    told = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[1] for line in told] == ["30/100", "60/100", "90/100"]


def test_a_second_signal_under_a_bar_ends_the_process_and_leaves_the_cursor_to_be_seen():
    script = """
import os, signal
from textfuse_jax import bars
from textfuse_jax.training.progress import StopSignals

with StopSignals() as stop, stop.deferred():
    for item in bars.followed(range(2), 2, "work"):
        os.kill(os.getpid(), signal.SIGINT)
"""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(ours, 1024):
            told += piece
    os.close(ours)
    assert process.wait() == -signal.SIGINT and b"work" in told
    assert told.rindex(b"\x1b[?25h") > told.rindex(b"\x1b[?25l")  # shown after it was hidden

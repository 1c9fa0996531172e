"""A log gets lines where a terminal gets a bar."""

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

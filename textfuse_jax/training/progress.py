"""What the loop says and remembers beside the state: lines of metrics.jsonl, progress, signals, the watch for NaN."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from textfuse_jax.data.corpus import Corpus
from textfuse_jax.evaluation.metrics import classification_metrics
from textfuse_jax.training.inference import to_probabilities
from textfuse_jax.training.step import NEVER

EXIT_INTERRUPTED = 75
"""Exit code after SIGTERM or SIGINT: the state was saved, ``--resume`` goes on from it (EX_TEMPFAIL of sysexits.h)."""


class Interrupted(Exception):
    """A signal stopped the run after its state was saved."""


class NotFinite(FloatingPointError):
    """The loss or a gradient became NaN or infinite; the message says at which step and on which documents."""


class StopSignals:
    """While entered, SIGTERM and SIGINT end the run in order; a second signal ends the process at once.

    A signal raises ``Interrupted`` where the program stands, unless it stands inside ``deferred()``, where state would be lost:
    there it only sets ``asked``, and the training loop saves and raises at the end of its step.
    """

    def __init__(self) -> None:
        self.asked = False
        self._deferring = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # only it may handle signals
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal waits for the loop to look at ``asked``."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def _handle(self, number: int, _frame: Any) -> None:
        if self.asked:
            Console(stderr=True).show_cursor()  # a bar hides it on a terminal
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.asked = True
        if not self._deferring:
            raise Interrupted("stopped by a signal; nothing of the training is lost")


def rewind(log: pathlib.Path, step: int, write: bool = True) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl up to ``step``; with ``write``, later ones, of a process that was killed, are removed.

    A last line that was cut in the middle is removed too.
    """
    lines = []
    for text in log.read_text().splitlines() if log.exists() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if line["step"] > step:
            break
        lines.append(line)
    if not write:
        return lines
    part = log.with_suffix(".part")
    part.write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.replace(part, log)
    return lines


def check_finite(sums: dict[str, float], step: int, examples: Sequence[np.ndarray], corpus: Corpus) -> None:
    """Raises NotFinite when a step since the last log had a loss or gradient that isn't finite.

    Args:
      sums: metrics since the last log; ``bad_step`` is the first step that went wrong.
      step: steps taken now.
      examples: ``rows.example`` of the last batches, oldest first.
      corpus: to name the documents.
    """
    bad = int(sums["bad_step"])
    if bad == NEVER:
        return
    back = step - bad  # 1 = the last batch
    where = examples[-back] if back <= len(examples) else np.zeros(0, int)
    ids = [corpus.train.ids[i] for i in np.unique(where[where >= 0])]
    raise NotFinite(
        f"loss or gradient is not finite at step {bad + 1}; its {len(ids)} documents: {', '.join(ids[:40])}"
        f"{' ...' if len(ids) > 40 else ''}. Lower config.optimizer.learning_rate or encoder_learning_rate, set "
        f'config.optimizer.clip_norm, or try config.encoder.dtype = "float32"; the last checkpoint is from before this step'
    )


def train_line(step: int, epoch_ends: np.ndarray, sums: dict[str, float], seconds: float, rate: float) -> dict[str, Any]:
    """The training line of metrics.jsonl: means over the documents since the last one."""
    weight, count = max(sums["weight"], 1e-9), max(sums["steps"], 1.0)
    epoch = int(np.searchsorted(epoch_ends, step))
    start = epoch_ends[epoch - 1] if epoch else 0
    return {
        "split": "train",
        "step": step,
        "epoch": round(epoch + (step - start) / (epoch_ends[epoch] - start), 4),
        "loss": sums["loss"] / weight,
        "accuracy": sums["correct"] / weight,
        "grad_norm": sums["grad_norm"] / count,
        "learning_rate": rate,
        "documents": int(sums["documents"]),
        "documents_per_second": round(sums["documents"] / seconds, 2),
        "tokens_per_second": round(sums["tokens"] / seconds, 1),
        "seconds": round(seconds, 3),
    }


def score_line(step: int, logits: np.ndarray, corpus: Corpus, select_by: str) -> dict[str, Any]:
    """The validation line of metrics.jsonl; ``score`` is what decides, the higher the better.

    Raises:
      NotFinite: the logits are.
    """
    if not np.isfinite(logits).all():
        raise NotFinite(f"logits on the validation split are not finite after step {step}; lower config.optimizer.learning_rate")
    probabilities = to_probabilities(logits, corpus.multi_label)
    metrics = classification_metrics(corpus.validation.labels, probabilities, corpus.class_names)
    line = {"split": "validation", "step": step}
    line |= {name: metrics[name] for name in ("n", "accuracy", "f1_macro", "nll")}
    return line | {"score": -metrics["nll"] if select_by == "nll" else metrics[select_by]}


def progress_line(line: dict[str, Any], steps: int, epochs: int, seconds_left: float) -> str:
    """One line for people: where the run is, how it learns, how fast, how long yet."""
    minutes, seconds = divmod(round(seconds_left), 60)
    return (
        f"epoch {line['epoch']:.2f}/{epochs}  step {line['step']}/{steps}  "
        f"loss {line['loss']:.4f}  accuracy {line['accuracy']:.4f}  "
        f"{line['documents_per_second']:.0f} documents/s  {minutes}:{seconds:02d} left"
    )

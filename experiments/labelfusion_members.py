"""What the tuned encoders say, for the LabelFusion studies: the long part, done once and stored; a stopped command goes on.

    TEXTFUSE_DATA=DIR python -m experiments.labelfusion_members agnews|goemotions [:runlocal]

AG News: MiniLM tuned on 40 to 4,000 rows (the paper's 4,000 are 100 %), at each size once on all rows and once for each of two
folds, whose held-out documents it predicts. GoEmotions: once, on all rows. About 20 minutes each on two idle cores.
"""

from __future__ import annotations

import pathlib
import sys

from ml_collections import ConfigDict

from configs import agnews_labelfusion, goemotions_labelfusion
from textfuse_jax.config import runlocal
from textfuse_jax.config_checks import validate
from textfuse_jax.data.corpus import Corpus
from textfuse_jax.fusion.members import Logits, encoder_logits, opinion
from textfuse_jax.heap import keep_freed_memory
from textfuse_jax.training import setup
from textfuse_jax.training.progress import StopSignals

WORK = pathlib.Path("runs") / "studies" / "labelfusion"
EPOCHS = {40: 24, 200: 12, 800: 5, 1600: 3, 4000: 3}
"""Training rows of AG News -> passes over them, so that few rows have steps enough."""
ONLY_AT_THE_END = 2**31 - 1


def agnews(rows: int, local: bool = False) -> tuple[ConfigDict, pathlib.Path]:
    """Config and folder of the members trained on so many rows; a smaller number is a subset of a larger."""
    config = agnews_labelfusion.get_config("runlocal" if local else None)
    config.data.seed = 0
    config.fusion.folds = 2
    config.training.eval_every_steps = ONLY_AT_THE_END  # the last weights are taken: nothing is chosen by looking
    if not local:
        config.data.train_rows, config.training.total_epochs = rows, EPOCHS[rows]
    return config, WORK / ("local" if local else "agnews") / str(rows)


def goemotions(local: bool = False) -> tuple[ConfigDict, pathlib.Path]:
    """Config and folder of the member trained on all rows."""
    config = goemotions_labelfusion.get_config()
    if local:
        runlocal(config)
    return config, WORK / ("local" if local else "goemotions") / "all"


def agnews_members(rows: int, local: bool = False) -> tuple[Corpus, Logits]:
    """The corpus with so many training rows, and the logits of its splits."""
    config, folder = agnews(rows, local)
    validate(config)
    corpus = setup.load_corpus(config)
    with StopSignals() as stop:
        return corpus, encoder_logits(config, corpus, folder, stop, lambda line: print(line, flush=True))


def goemotions_members(local: bool = False) -> tuple[Corpus, Logits]:
    """The corpus, and the logits of validation and test."""
    config, folder = goemotions(local)
    validate(config)
    corpus = setup.load_corpus(config)
    with StopSignals() as stop:
        return corpus, opinion(config, corpus, folder / "encoder", stop, lambda line: print(line, flush=True), keep=True)


def main(arguments: list[str]) -> int:
    """Trains what isn't stored yet; returns the exit code."""
    if not arguments or arguments[0] not in ("agnews", "goemotions") or arguments[1:] not in ([], [":runlocal"]):
        print(__doc__, file=sys.stderr)
        return 2
    keep_freed_memory()
    local = len(arguments) > 1
    if arguments[0] == "goemotions":
        goemotions_members(local)
        return 0
    for rows in (96,) if local else EPOCHS:
        print(f"---- AG News, {rows:,} rows", flush=True)
        agnews_members(rows, local)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

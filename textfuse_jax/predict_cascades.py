"""Classifies new cascades with a finished run: what ``textfuse_jax.predict`` does where the run was one of cascades."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from textfuse_jax.data.cascade_cut import cut
from textfuse_jax.data.cascade_rows import cascade_batches
from textfuse_jax.data.cascades import Cascades, read_cascades
from textfuse_jax.data.corpus import DataError
from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.encoders.tokenizers import load_tokenizer
from textfuse_jax.experiment import config_of
from textfuse_jax.llm.budget import run_of
from textfuse_jax.models.node_classifier import build_node_classifier, look_up
from textfuse_jax.training import export
from textfuse_jax.training.cascade_material import REWRITTEN, Encoders, posts_of
from textfuse_jax.training.inference import predict_logits, to_probabilities
from textfuse_jax.training.parallel import make_mesh, replicate
from textfuse_jax.training.setup import TextEncoder
from textfuse_jax.training.step import unflatten


class CascadePredictor:
    """A finished model of cascades, ready for new ones.

    Posts are read, selected and rewritten as in the training: rewritten texts come from where ``config.cascades.augmentation``
    says, and what is spent on them counts to the run's budget.

    Args:
      workdir: the run folder.
      say: takes lines of progress.
    """

    def __init__(self, workdir: str | pathlib.Path, say: Callable[[str], None] = print):
        self.finished = export.load(pathlib.Path(workdir) / "model")
        self.config = config_of(self.finished.config)
        self.config.cascades.augmentation.least_share = 0.0  # a post that is refused for good doesn't hold the others up
        self.class_names = self.finished.class_names
        known = self.config.data.source.startswith("twitter") and self.config.cascades.tree == "posts"  # of runs that didn't say
        self._facts = {"bags": known, "blank": self.config.data.source in ("twitter15", "twitter16", "weibo")}
        self._facts |= {name: self.finished.posts[name] for name in self._facts if name in self.finished.posts}
        self._say, self._mesh, self._workdir = say, make_mesh(1), pathlib.Path(workdir)
        params = unflatten(self.finished.params)
        self._encoders = self._encoders_of(params, pathlib.Path(workdir) / "model")
        self._params = replicate(params, self._mesh)
        model = build_node_classifier(self.config.model, len(self.class_names))

        def forward(held: tuple, rows: Any):
            params, posts = held
            return model.apply({"params": params}, look_up(rows, posts), train=False)[0]

        self._forward = jax.jit(forward)

    def _encoders_of(self, params: dict[str, Any], folder: pathlib.Path) -> Encoders:
        """The run's encoders, taken out of its parameters."""
        held, posts, rewritten = self.finished, params.pop("encoder", None), params.pop(REWRITTEN, None)
        if posts is not None:
            posts = TextEncoder(held.tokenizer, held.architecture, posts, _digest(held.params, "encoder"))
        if rewritten is not None:
            shape = held.posts[REWRITTEN]
            shape = Architecture(**shape | {"kinds": tuple(shape.get("kinds", ()))})
            rewritten = TextEncoder(load_tokenizer(folder / REWRITTEN), shape, rewritten, _digest(held.params, REWRITTEN))
        return Encoders(posts, rewritten or (posts if self.config.model.fusion else None))

    def read(self, path: str | os.PathLike) -> Cascades:
        """The cascades of a file of JSON lines {id, texts, parent, time}; labels aren't read. Cut as those of the training were.

        Posts may be without text where some of the training were. A model that learned the words of a release by their numbers
        (Twitter15 and 16) needs these for new cascades too, ``bags``: real words would be others to it.

        Raises:
          DataError: as ``read_cascades``; the model needs ``bags`` and they aren't there.
        """
        found = read_cascades(path, None, name=f"new:{pathlib.Path(path).name}", blank=self._facts["blank"])
        if not self._facts["bags"]:
            found = dataclasses.replace(found, bags=None)
        elif "words" in self.config.cascades.inputs and found.bags is None:
            raise DataError(
                f"{path}: this model knows words by the numbers of {self.config.data.source}'s release, and the file has none: "
                "add 'bags', for each post its words as these numbers, e.g. \"w12 w12 w40\"; or train a model of texts, "
                "--config.cascades.inputs=\"('encoder',)\""
            )
        return cut(found, self.config.cascades)

    def probabilities(self, cascades: Cascades) -> np.ndarray:
        """Probability of each class, f64 [n, c], in the order of the cascades."""
        whole = cascades.renumbered()
        posts, _ = posts_of(self.config, whole, self._encoders, self._say, run_of(self._workdir))
        held = self._params, replicate({name: jax.numpy.asarray(x) for name, x in posts.items()}, self._mesh)
        batches = cascade_batches(
            whole, None, batch_size=2 * self.config.cascades.batch_size, direction=self.config.cascades.direction
        )
        logits = predict_logits(self._forward, held, batches, len(whole), len(self.class_names), self._mesh)
        return to_probabilities(logits, False)


def _digest(params: dict[str, Any], encoder: str) -> str:
    """What the cache of features is dated by: an encoder's weights."""
    total = hashlib.sha256()
    for name in sorted(params):
        if name.startswith(f"{encoder}/"):
            total.update(name.encode() + np.asarray(params[name]).tobytes())
    return total.hexdigest()

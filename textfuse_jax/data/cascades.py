"""Cascades: a source post and the replies below it, read from JSON lines into flat arrays.

A line is one cascade: ``id``, ``texts`` (source first), ``parent`` (index of the post replied to, -1 for the source), and where
known ``delay_min`` (minutes since the source) and ``event``. The texts stay in the file; nothing is repaired or cut.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from textfuse_jax.data.corpus import DataError, DataNotFound
from textfuse_jax.data.ragged import bounds as bounds_of
from textfuse_jax.data.ragged import ranges
from textfuse_jax.data.tabular import read_table

PHEME = "pheme.jsonl.gz"
PHEME_TASKS: dict[str, tuple[str, dict[str, str | None]]] = {
    "rumour": ("rumour", {"0": "non-rumour", "1": "rumour"}),
    "veracity": ("veracity", {"": None, "true": "true", "false": "false", "unverified": "unverified"}),
    "four": ("veracity", {"": "non-rumour", "true": "true", "false": "false", "unverified": "unverified"}),
}
"""Task -> column and the class of each of its values; None leaves a cascade out (veracity is of rumours only)."""


@dataclasses.dataclass(frozen=True)
class Cascade:
    """One cascade; its fields are those of ``Cascades``, for its own posts."""

    id: str
    label: int
    event: str
    texts: list[str]
    parent: Int[np.ndarray, "m"]
    minutes: Float[np.ndarray, "m"]


@dataclasses.dataclass(frozen=True)
class Cascades:
    """Cascades with their posts end to end: those of cascade i are ``bounds[i]:bounds[i + 1]``, the source first.

    Attributes:
      name: where they came from, e.g. ``"pheme"``.
      ids: name of each cascade, unique.
      labels: class of each cascade.
      class_names: name of class k at position k.
      events: what each cascade is about, "" where that isn't known; folds may leave one out.
      bounds: see above.
      texts: text of each post, never blank.
      parent: place in its own cascade of the post that each post replies to; -1 for the source. All paths end at the source.
      minutes: of each post, since the source; NaN where that isn't known.
    """

    name: str
    ids: list[str]
    labels: Int[np.ndarray, "n"]
    class_names: tuple[str, ...]
    events: list[str]
    bounds: Int[np.ndarray, "n+1"]
    texts: list[str]
    parent: Int[np.ndarray, "k"]
    minutes: Float[np.ndarray, "k"]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> Cascade:
        i = range(len(self))[i]
        posts = slice(int(self.bounds[i]), int(self.bounds[i + 1]))
        return Cascade(
            self.ids[i], int(self.labels[i]), self.events[i], self.texts[posts], self.parent[posts], self.minutes[posts]
        )

    @functools.cached_property
    def sizes(self) -> Int[np.ndarray, "n"]:
        """Number of posts of each cascade, >= 1."""
        return np.diff(self.bounds)

    def posts_of(self, cascades: Sequence[int]) -> Int[np.ndarray, "k"]:
        """Index of each post of these cascades, in this order: the rows of a flat feature array that ``take`` keeps."""
        cascades = np.asarray(cascades, np.int64)
        return ranges(self.bounds[cascades], self.sizes[cascades])

    def take(self, cascades: Sequence[int]) -> Cascades:
        """The cascades at these indices, in this order."""
        cascades = np.asarray(cascades, np.int64)
        posts = self.posts_of(cascades)
        return dataclasses.replace(
            self,
            ids=[self.ids[i] for i in cascades],
            labels=self.labels[cascades],
            events=[self.events[i] for i in cascades],
            bounds=bounds_of(self.sizes[cascades]),
            texts=[self.texts[i] for i in posts],
            parent=self.parent[posts],
            minutes=self.minutes[posts],
        )


def pheme(root: str | os.PathLike | None = None, task: str = "rumour") -> Cascades:
    """PHEME: 6,425 threads of nine events (Zubiaga et al. 2016; Kochkina et al. 2018).

    Args:
      root: folder that holds ``PHEME``; None: the environment variable TEXTFUSE_DATA.
      task: a key of ``PHEME_TASKS``: rumour or not; veracity of the rumours; non-rumour beside the three veracities.

    Raises:
      DataNotFound: the file isn't there.
      DataError: as ``read_cascades``.
    """
    if task not in PHEME_TASKS:
        raise DataError(f"the task of PHEME must be one of {', '.join(PHEME_TASKS)}, got {task!r}")
    root = root or os.environ.get("TEXTFUSE_DATA")
    if not root or not (pathlib.Path(root) / PHEME).is_file():
        where = f"{PHEME} in {root}" if root else "TEXTFUSE_DATA, which is not set"
        raise DataNotFound(
            f"PHEME was not found. Looked for: {where}. Set TEXTFUSE_DATA (or pass root) to a folder with {PHEME}, one thread a "
            "line: id, texts (source first), parent, delay_min, event, rumour (0 or 1), veracity ('' for non-rumours)"
        )
    column, classes = PHEME_TASKS[task]
    return read_cascades(pathlib.Path(root) / PHEME, column, classes, name=f"pheme:{task}")


def read_cascades(
    path: str | os.PathLike, label_column: str, classes: Mapping[str, str | None], *, name: str = "cascades"
) -> Cascades:
    """The cascades of a file of JSON lines, ``.jsonl`` or ``.jsonl.gz``.

    Args:
      path: the file; its fields stand in the module's docstring.
      label_column: field that tells the class.
      classes: value of that field, as text -> name of its class, in the order of the classes; None leaves such cascades out.
      name: of the result.

    Raises:
      DataNotFound: there is no such file.
      DataError: a label outside ``classes``, an id that comes twice, no posts, a blank text, lists of different lengths, a parent
        that doesn't exist, or replies in a circle; file, row, column, value and fix are named. A reply to a post outside the
        cascade must hang from the source, as in PHEME's file.
    """
    table = read_table(pathlib.Path(path))
    columns = {key: table.column(key) for key in ("id", "texts", "parent", label_column)}
    blank = [None] * len(table)
    delays, events = table.columns.get("delay_min", blank), table.columns.get("event", blank)
    class_names = tuple(dict.fromkeys(k for k in classes.values() if k is not None))
    seen: dict[str, int] = {}
    labels, kept, sizes, texts, parents, minutes = [], [], [], [], [], []
    for i, row in enumerate(table.rows):
        place = f"{table.source}, row {row}, column"
        value, identity = str(columns[label_column][i]), str(columns["id"][i])
        if value not in classes:
            raise DataError(f"{place} {label_column!r}: {value!r} is none of {', '.join(map(repr, classes))}; correct the row")
        if seen.setdefault(identity, row) != row:
            raise DataError(f"{place} 'id': {identity!r} is that of row {seen[identity]} too; give each cascade its own")
        if classes[value] is None:
            continue
        posts = _texts(place, columns["texts"][i])
        parents.append(_parents(place, columns["parent"][i], len(posts)))
        minutes.append(_minutes(place, delays[i], len(posts)))
        labels.append(class_names.index(classes[value]))
        kept.append(i)
        sizes.append(len(posts))
        texts += posts
    if not kept:
        raise DataError(f"{table.source} holds no cascade of {', '.join(class_names)}; check column {label_column!r}")
    return Cascades(
        name=name,
        ids=[str(columns["id"][i]) for i in kept],
        labels=np.array(labels, np.int32),
        class_names=class_names,
        events=["" if events[i] is None else str(events[i]) for i in kept],
        bounds=bounds_of(np.array(sizes)),
        texts=texts,
        parent=np.concatenate(parents),
        minutes=np.concatenate(minutes),
    )


def _texts(place: str, texts: Any) -> list[str]:
    if not isinstance(texts, list) or not texts:
        raise DataError(f"{place} 'texts': a list of at least one text is needed, got {texts!r}; write the source post's first")
    for j, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"{place} 'texts': post {j} is {text!r}, without text; write it, or remove the post, hang its replies from the "
                "post it replied to and lower the parents behind it by one"
            )
    return texts


def _parents(place: str, parent: Any, posts: int) -> Int[np.ndarray, "m"]:
    if not isinstance(parent, list) or len(parent) != posts:
        got = f"{len(parent)} entries" if isinstance(parent, list) else repr(parent)
        raise DataError(f"{place} 'parent': one index for each of the {posts} posts is needed, got {got}; -1 is the source's")
    for j, p in enumerate(parent):
        if type(p) is not int:
            raise DataError(
                f"{place} 'parent': post {j} has {p!r}; a whole number is needed, the index of the post it replies to"
            )
        if (p == -1) != (j == 0):
            fix = "the source, post 0, has -1 and no other post does; a reply to a post outside the cascade has 0"
            raise DataError(f"{place} 'parent': post {j} has {p}; {fix}")
        if not -1 <= p < posts:
            fix = "a reply to a post outside the cascade hangs from the source: 0"
            raise DataError(f"{place} 'parent': post {j} has {p}, but the posts are 0 to {posts - 1}; {fix}")
    found = np.array(parent, np.int32)
    ancestor = np.maximum(found, 0)
    for _ in range(posts.bit_length()):  # doubles the distance each time, so that all but circles have reached the source
        ancestor = ancestor[ancestor]
    if ancestor.any():
        circle = int(np.flatnonzero(ancestor)[0])
        raise DataError(
            f"{place} 'parent': post {circle} has {parent[circle]}, and the way up from there is a circle that never reaches "
            "the source; correct one of its parents"
        )
    return found


def _minutes(place: str, delays: Any, posts: int) -> Float[np.ndarray, "m"]:
    if delays is None:
        return np.full(posts, np.nan, np.float32)
    if not isinstance(delays, list) or len(delays) != posts:
        got = f"{len(delays)} entries" if isinstance(delays, list) else repr(delays)
        raise DataError(f"{place} 'delay_min': one number or null for each of the {posts} posts is needed, got {got}")
    for j, delay in enumerate(delays):
        if delay is not None and (isinstance(delay, bool) or not isinstance(delay, (int, float))):
            raise DataError(f"{place} 'delay_min': post {j} has {delay!r}; a number of minutes or null is needed")
    return np.array([np.nan if delay is None else delay for delay in delays], np.float32)

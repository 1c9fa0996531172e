"""Cascades: a source post and the replies below it, read from JSON lines into flat arrays.

A line is one cascade: ``id``, ``texts`` (source first), ``parent`` (index of the post replied to, -1 for the source), and where
known ``delay_min`` (minutes since the source, whose own is 0) and ``event``; ``bags``, where the words of posts are given apart
from the texts, each post's separated by blanks. The texts stay in the file; nothing is repaired or cut. The sets that are usually
compared on are in ``cascade_sets``.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from textfuse_jax.data.corpus import DataError
from textfuse_jax.data.ragged import bounds as bounds_of
from textfuse_jax.data.ragged import ranges
from textfuse_jax.data.tabular import Table, read_records

SHOWN = 20  # faults that an error lists; the rest is counted
LATEST = float(np.finfo(np.float32).max)  # minutes; what is larger would become infinite


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
      texts: text of each post; blank only for a post that is known to have none (a bare repost), never for the source.
      parent: place in its own cascade of the post that each post replies to; -1 for the source. All paths end at the source.
      minutes: of each post, since the source; NaN where that isn't known.
      bags: words of each post, separated by blanks, where a release gives them apart from the text; None: those of the texts.
      post: place of each post among all posts that were read, whatever is taken or cut: its row in arrays of features.
      posts: number of all posts that were read.
      place: of each post in its cascade as it was read, from 0, whatever was cut: what users know a post by.
      warnings: what was left out or mended while reading, and why.
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
    bags: list[str] | None = None
    post: Int[np.ndarray, "k"] = dataclasses.field(default=None)  # type: ignore[assignment]
    posts: int = 0
    place: Int[np.ndarray, "k"] = dataclasses.field(default=None)  # type: ignore[assignment]
    warnings: tuple[str, ...] = ()

    def __post_init__(self):
        if self.place is None:
            object.__setattr__(self, "place", ranges(np.zeros_like(self.sizes), self.sizes))
        if self.post is None:
            object.__setattr__(self, "post", np.arange(len(self.texts), dtype=np.int32))
            object.__setattr__(self, "posts", len(self.texts))

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
        whole = dataclasses.replace(
            self,
            ids=[self.ids[i] for i in cascades],
            labels=self.labels[cascades],
            events=[self.events[i] for i in cascades],
            bounds=bounds_of(self.sizes[cascades]),
        )
        return whole.with_posts(posts, self.parent[posts])

    def with_posts(self, posts: Int[np.ndarray, "j"], parent: Int[np.ndarray, "j"]) -> Cascades:
        """``self``, whose bounds are already those of the result, with these posts and their new parents."""
        return dataclasses.replace(
            self,
            texts=[self.texts[i] for i in posts],
            bags=None if self.bags is None else [self.bags[i] for i in posts],
            parent=np.asarray(parent, np.int32),
            minutes=self.minutes[posts],
            post=self.post[posts],
            place=self.place[posts],
        )

    def renumbered(self) -> Cascades:
        """The cascades as if nothing else had been read with them: their posts are counted from 0."""
        return dataclasses.replace(self, post=np.arange(len(self.texts), dtype=np.int32), posts=len(self.texts))

    @property
    def sources(self) -> Int[np.ndarray, "n"]:
        """Index of the source post of each cascade."""
        return self.bounds[:-1]


def read_cascades(
    path: str | os.PathLike,
    label_column: str | None,
    classes: Mapping[str, str | None] | None = None,
    *,
    name: str = "cascades",
    drop_broken: bool = False,
    blank: bool = False,
) -> Cascades:
    """The cascades of a file of JSON lines, ``.jsonl`` or ``.jsonl.gz``.

    Args:
      path: the file; its fields stand in the module's docstring. ``time`` is read where there is no ``delay_min``.
      label_column: field that tells the class; None: they have none yet, and all get the one class "".
      classes: value of that field, as text -> name of its class, in the order of the classes; None as a class leaves such
        cascades out. None: the sorted values are the classes.
      name: of the result.
      drop_broken: leave cascades out that can't be used, with a warning that lists them; else they are an error.
      blank: whether posts other than the source may be without text.

    Raises:
      DataNotFound: there is no such file.
      DataError: a line that is no JSON object, a field that is missing, no label or one outside ``classes``, an id that comes
        twice, no posts, a blank text, lists of different lengths, a parent that doesn't exist, replies in a circle, a time that
        is no finite number, or one of the source that isn't 0; the first are listed with file, row, column, value and fix. A
        reply to a post outside the cascade must hang from the source, as in PHEME's file.
    """
    source, records = read_records(pathlib.Path(path))
    whole = [record for _, record in records if not isinstance(record, DataError)]
    needed = ("id", "texts", "parent", *((label_column,) if label_column else ()))
    for key in needed:
        if whole and not any(key in record for record in whole):
            Table(source, [], {field: [] for field in whole[0]}).column(key)  # DataError, with the near name
    if classes is None:
        values = sorted({str(record[label_column]) for record in whole if _known(record, label_column)}) if label_column else [""]
        classes = {value: value for value in values}
    builder = Builder(name, tuple(dict.fromkeys(k for k in classes.values() if k is not None)))
    bagged = any(record.get("bags") is not None for record in whole)
    for row, record in records:
        if isinstance(record, DataError):
            builder.faults.append(str(record))
            continue
        place = f"{source}, row {row}, column"
        absent = [key for key in needed if key not in record or (key == "id" and not _known(record, key))]
        absent += ["bags"] if bagged and record.get("bags") is None else []
        value = str(record[label_column]) if _known(record, label_column) else ""
        if absent:
            builder.faults.append(f"{place} {absent[0]!r}: missing, which other rows have; add it or remove the row")
        elif label_column and not value and "" not in classes:
            builder.faults.append(f"{place} {label_column!r}: {record[label_column]!r} is no label; fill it in or remove the row")
        elif value not in classes:
            builder.faults.append(
                f"{place} {label_column!r}: {value!r} is none of {', '.join(map(repr, classes))}; correct the row"
            )
        else:
            event, clock = record.get("event"), "delay_min" if "delay_min" in record else "time"
            builder.add(
                str(record["id"]),
                classes[value],
                record["texts"],
                record["parent"],
                record.get(clock),
                "" if event is None else str(event),
                clock=clock,
                place=place,
                row=f"row {row}",
                bags=record["bags"] if bagged else None,
                blank=blank,
            )
    return builder.built(
        f"{source} holds no cascade of {', '.join(builder.class_names)}; check column {label_column!r}", drop_broken
    )


def _known(record: Mapping[str, Any], column: str | None) -> bool:
    return column is not None and record.get(column) is not None and str(record[column]).strip() != ""


class Builder:
    """Takes cascades one by one, checks each, and lays them end to end.

    Args:
      name, class_names: of the result.

    Attributes:
      faults: what was wrong with cascades that couldn't be taken, one line each.
    """

    def __init__(self, name: str, class_names: tuple[str, ...]):
        self.name, self.class_names, self.faults = name, class_names, []
        self._rows: dict[str, str] = {}
        self._mended: dict[str, dict[str, int]] = {}
        self._labels: list[int] = []
        self._ids: list[str] = []
        self._events: list[str] = []
        self._texts: list[str] = []
        self._bags: list[str] = []
        self._sizes, self._parents, self._minutes = [], [], []

    def add(
        self,
        identity: str,
        class_name: str | None,
        texts: Any,
        parent: Any,
        minutes: Any = None,
        event: str = "",
        *,
        place: str,
        row: str = "",
        clock: str = "delay_min",
        bags: list[str] | None = None,
        blank: bool = False,
        mended: Mapping[str, int] | None = None,
    ) -> None:
        """Takes a cascade, or notes what is wrong with it.

        Args:
          class_name: None leaves the cascade out.
          place: where it stands, for messages; ends before the quoted name of a column.
          row: how another cascade of the same id is told where this one stands.
          clock: the column of the minutes, for messages.
          bags: see ``Cascades``; all cascades have them, or none.
          blank: whether a post other than the source may be without text.
          mended: what was mended in it while reading -> how often; told in a warning.
        """
        try:
            if self._rows.setdefault(identity, row) != row:
                before = self._rows[identity]
                raise DataError(f"{place} 'id': {identity!r} is that of {before} too; give each cascade its own")
            if class_name is None:
                return
            checked = _texts(place, texts, blank)
            parents = _parents(place, parent, len(checked))
            known = _minutes(f"{place} {clock!r}:", minutes, len(checked))
            if bags is not None and not (isinstance(bags, list) and [type(bag) for bag in bags] == [str] * len(checked)):
                raise DataError(f"{place} 'bags': the words of each of the {len(checked)} posts are needed, a text a post")
        except DataError as fault:
            self.faults.append(str(fault))
            return
        for what, times in (mended or {}).items():
            if times:
                self._mended.setdefault(what, {})[place.removesuffix(", column")] = times
        self._ids.append(identity)
        self._labels.append(self.class_names.index(class_name))
        self._events.append(event)
        self._sizes.append(len(checked))
        self._texts += checked
        self._bags += bags or []
        self._parents.append(parents)
        self._minutes.append(known)

    def built(self, empty: str, drop_broken: bool = False) -> Cascades:
        """The cascades taken.

        Raises:
          DataError: some had faults and ``drop_broken`` isn't set, or all had; there is none (the message is ``empty``).
        """
        if self.faults and not (drop_broken and self._ids):
            more = len(self.faults) - SHOWN
            told = [*self.faults[:SHOWN], *([f"and {more} more; cascades.drop_broken lists them all"] if more > 0 else [])]
            raise DataError("\n  ".join([f"{len(self.faults)} cascades can't be used:", *told] if len(self.faults) > 1 else told))
        if not self._ids:
            raise DataError(empty)
        return Cascades(
            name=self.name,
            ids=self._ids,
            labels=np.array(self._labels, np.int32),
            class_names=self.class_names,
            events=self._events,
            bounds=bounds_of(np.array(self._sizes)),
            texts=self._texts,
            parent=np.concatenate(self._parents),
            minutes=np.concatenate(self._minutes),
            bags=self._bags or None,
            warnings=tuple(self._warnings()),
        )

    def _warnings(self) -> Iterator[str]:
        """All that were left out; how much of each kind was mended, and in which files first."""
        if self.faults:
            yield "\n  ".join([f"{len(self.faults)} broken cascades left out:", *self.faults])
        for what, times in self._mended.items():
            first = ", ".join(list(times)[:3]) + (", ..." if len(times) > 3 else "")
            yield f"mended while reading: {sum(times.values()):,} {what}, in {len(times):,} cascades: {first}"


def _texts(place: str, texts: Any, blank: bool) -> list[str]:
    if not isinstance(texts, list) or not texts:
        raise DataError(f"{place} 'texts': a list of at least one text is needed, got {texts!r}; write the source post's first")
    for j, text in enumerate(texts):
        if not isinstance(text, str) or not (text.strip() or (blank and j)):
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
        raise DataError(f"{place} one number or null for each of the {posts} posts is needed, got {got}")
    for j, delay in enumerate(delays):
        number = isinstance(delay, (int, float)) and not isinstance(delay, bool) and abs(delay) <= LATEST
        if delay is not None and not number:
            raise DataError(f"{place} post {j} has {delay!r}; a finite number of minutes is needed, null where it isn't known")
    if delays[0]:
        raise DataError(
            f"{place} post 0, the source, has {delays[0]!r}, but times count from it: it has 0, or null; subtract the source's "
            "time, in minutes"
        )
    return np.array([np.nan if delay is None else delay for delay in delays], np.float32)

"""How cascades are divided: folds, one event left out, by time; and the corpus that a config of cascades describes.

Cascades with the same source text stay together (letters and digits, in lower case, without links, which differ from copy to
copy): all sets hold copies. A fold's test cascades are its own; of the others a part is held out for choosing the epoch
("clean"), or none, and the epoch is chosen on the test cascades as BiGCN, RDEA and GACL do ("published",
``config.cascades.choose_on = "test"``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

import numpy as np
from jaxtyping import Int

from textfuse_jax.data.cascade_sets import load_cascades
from textfuse_jax.data.cascades import Cascades
from textfuse_jax.data.checks import normalised
from textfuse_jax.data.corpus import TEST, TRAIN, VALIDATION, Corpus, DataError, Split, held_count, take_rows

PROTOCOLS = ("folds", "events", "time")
FIELDS = ("task", "tree", "drop_broken", "most_posts", "first_posts", "first_minutes", "protocol", "choose_on")
"""Fields of config.cascades that say which cascades there are, and what each is to a fold."""


@dataclasses.dataclass(frozen=True)
class CascadeCorpus(Corpus):
    """A corpus whose documents are cascades; the texts of its splits are those of the source posts.

    Attributes:
      cascades: all of them.
      roles: fold by fold what each cascade is.
      members: of the splits train, validation and test the places of their cascades in ``cascades``.
    """

    cascades: Cascades = None  # type: ignore[assignment]
    roles: Int[np.ndarray, "f n"] = None  # type: ignore[assignment]
    members: dict[str, Int[np.ndarray, "m"]] = dataclasses.field(default_factory=dict)

    @property
    def chosen_on_test(self) -> bool:
        """Whether test cascades choose the epoch, as under the published protocol."""
        return bool(((self.roles & TEST > 0) & (self.roles & VALIDATION > 0)).any())

    def fingerprint(self) -> str:
        """SHA-256 over the splits as in ``Corpus``, and every post, parent and time."""
        c, total = self.cascades, hashlib.sha256(super().fingerprint().encode())
        for values in (c.bounds.astype("<i8"), c.parent.astype("<i4"), c.minutes.astype("<f4")):
            total.update(values.tobytes())
        for text in c.texts:
            total.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return total.hexdigest()


def load_cascade_corpus(config: Any, seed: int) -> CascadeCorpus:
    """The corpus of a config of cascades: the splits are those of fold ``data.fold``, the first if it is -1.

    Raises:
      DataNotFound, DataError: as ``cascade_sets.load_cascades`` and ``roles_of``.
    """
    cascades, data = load_cascades(config.data, config.cascades), config.data
    roles = _sampled(roles_of(cascades, config, seed), cascades.labels, data, seed)
    fold = max(data.fold, 0)
    if fold >= len(roles):
        raise DataError(
            f"config.data.fold must be < {len(roles)}, the folds of protocol {config.cascades.protocol!r}, got {fold}"
        )
    whole = split_of(cascades)
    members, splits = {}, {}
    for name, role in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        mine = np.flatnonzero(roles[fold] & role)
        members[name], splits[name] = mine, whole.take(mine)
        if not len(mine):
            raise DataError(
                f"{cascades.name}: fold {fold} has no {name} cascades; take fewer folds or a larger validation_fraction"
            )
    return CascadeCorpus(
        name=cascades.name,
        class_names=cascades.class_names,
        warnings=list(cascades.warnings),
        cascades=cascades,
        roles=roles,
        members=members,
        **splits,
    )


def _sampled(roles: Int[np.ndarray, "f n"], labels: Int[np.ndarray, "n"], data: Any, seed: int) -> Int[np.ndarray, "f n"]:
    """The roles of each fold with as many cascades as ``data.train_rows``, ``validation_rows`` and ``test_rows`` say; 0 = all."""
    for name, bit in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        for role in roles if data[f"{name}_rows"] else ():
            mine = np.flatnonzero(role & bit)
            marked = Split([str(i) for i in mine], [""] * len(mine), labels[mine])
            kept = [int(i) for i in take_rows(marked, data[f"{name}_rows"], seed).ids]
            role[np.setdiff1d(mine, kept)] &= ~bit
    return roles


def split_of(cascades: Cascades) -> Split:
    """The cascades as documents: id, text of the source, class."""
    return Split(list(cascades.ids), [cascades.texts[i] for i in cascades.sources], cascades.labels)


def roles_of(cascades: Cascades, config: Any, seed: int) -> Int[np.ndarray, "f n"]:
    """What each cascade is to each fold of the config's protocol.

    "folds": ``data.folds`` parts with the classes in proportion, each the test part of one fold. "events": a fold for each event,
    tested on it. "time": one fold, tested on the newest ``data.test_fraction``, by id (of tweets and microblogs it grows with
    time). Validation is ``data.validation_fraction`` of what isn't tested: drawn by group and class; by time the newest of it.
    By event and time, cascades that copy a test source are left out, and by time those that copy one of validation.

    Raises:
      DataError: too few groups or events, or ids that are no numbers.
    """
    options = config.cascades
    group = groups_of(cascades)
    n = len(cascades)
    if options.protocol == "time":
        tests = [np.zeros(n, bool)]
        order = by_id(cascades)
        tests[0][order[n - held_count(n, config.data.test_fraction) :]] = True
    elif options.protocol == "events":
        names = list(dict.fromkeys(cascades.events))
        if len(names) < 2:
            raise DataError(f'{cascades.name} tells no events to leave out; use config.cascades.protocol="folds"')
        tests = [np.array([event == name for event in cascades.events]) for name in sorted(names)]
    else:
        part = grouped_folds(cascades.labels, group, config.data.folds, seed)
        tests = [part == k for k in range(config.data.folds)]
    roles = np.full((len(tests), n), TRAIN, np.int8)
    for fold, test in enumerate(tests):
        if options.protocol != "folds":  # copies of a test source elsewhere would tell its label
            roles[fold, np.isin(group, group[test])] = 0
        roles[fold, test] = TEST
        if options.choose_on == "test":
            roles[fold, test] |= VALIDATION
            continue
        rest = np.flatnonzero(roles[fold] == TRAIN)
        wanted = config.data.validation_fraction
        if options.protocol == "time":
            order = by_id(cascades)
            held = order[roles[fold, order] == TRAIN][-held_count(len(rest), wanted) :]
            roles[fold, rest[np.isin(group[rest], group[held])]] = 0
        else:
            parts = max(2, round(1 / wanted))
            held = rest[grouped_folds(cascades.labels[rest], group[rest], parts, seed + 1 + fold) == 0]
        roles[fold, held] = VALIDATION
    return roles


def groups_of(cascades: Cascades) -> Int[np.ndarray, "n"]:
    """Number of each cascade's group: those with the same source text but for links."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalised(_without_links(cascades.texts[i])), len(numbers)) for i in cascades.sources])


def _without_links(text: str) -> str:
    """The text itself where it is nothing but links."""
    bare = re.sub(r"(?i)https?:\S*", " ", text)
    return bare if re.search(r"\w", bare) else text


def grouped_folds(labels: Int[np.ndarray, "n"], group: Int[np.ndarray, "n"], folds: int, seed: int) -> Int[np.ndarray, "n"]:
    """The fold 0..folds-1 of each document: groups whole, each class in proportion as far as groups allow.

    Groups come in a seeded order, the large ones first, each into the fold with fewest documents of its first label, then with
    fewest of all.

    Raises:
      DataError: fewer groups than folds.
    """
    members: dict[int, list[int]] = {}
    for i in np.random.default_rng(seed).permutation(len(labels)).tolist():
        members.setdefault(int(group[i]), []).append(i)
    if len(members) < folds:
        raise DataError(
            f"config.data.folds must be <= {len(members)}, the groups of cascades with a source text of their own, got {folds}"
        )
    part, counts = np.zeros(len(labels), np.int32), np.zeros((folds, int(labels.max()) + 1), np.int64)
    for mine in sorted(members.values(), key=len, reverse=True):
        label = labels[mine[0]]
        k = min(range(folds), key=lambda f: (counts[f, label], counts[f].sum(), f))
        part[mine] = k
        np.add.at(counts[k], labels[mine], 1)
    return part


def by_id(cascades: Cascades) -> Int[np.ndarray, "n"]:
    """The cascades from the oldest to the newest, by the number that their id is.

    Raises:
      DataError: an id that is no number.
    """
    words = [identity for identity in cascades.ids if not identity.isdigit()]
    if words:
        raise DataError(f'{cascades.name}: id {words[0]!r} is no number that tells its time; protocol "time" needs such ids')
    return np.argsort(np.array([int(identity) for identity in cascades.ids], np.int64), kind="stable")

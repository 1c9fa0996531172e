"""The cascade sets that are compared on: PHEME, Twitter15, Twitter16, Weibo, anybody's JSON lines, trees of docstrings.

Each is read from a file of the data folder, or from the folders in which it is usually passed on (``cascade_layouts``).
"""

from __future__ import annotations

import csv
import gzip
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from textfuse_jax.data import cascade_layouts, docstrings
from textfuse_jax.data.cascade_cut import cut
from textfuse_jax.data.cascades import Builder, Cascades, read_cascades
from textfuse_jax.data.corpus import DataError, DataNotFound
from textfuse_jax.data.tabular import read_records

SOURCES = ("pheme", "twitter15", "twitter16", "weibo", "cascades", "docstring_trees")
"""Values of config.data.source that are sets of cascades."""
FILES = {
    "pheme": "pheme.jsonl.gz",
    "twitter15": "twitter15.jsonl.gz",
    "twitter16": "twitter16.jsonl.gz",
    "weibo": "weibo_ma2016.jsonl.gz",
}
TASKS: dict[str, dict[str, tuple[str, dict[str, str | None]]]] = {
    "pheme": {
        "rumour": ("rumour", {"0": "non-rumour", "1": "rumour"}),
        "veracity": ("veracity", {"": None, "true": "true", "false": "false", "unverified": "unverified"}),
        "four": ("veracity", {"": "non-rumour", "true": "true", "false": "false", "unverified": "unverified"}),
    },
    "twitter": {
        "four": ("label", {"non-rumor": "non-rumour", "true": "true", "false": "false", "unverified": "unverified"}),
        "rumour": ("label", {"non-rumor": "non-rumour", "true": "rumour", "false": "rumour", "unverified": "rumour"}),
    },
    "weibo": {"rumour": ("label", {"non-rumor": "non-rumour", "rumor": "rumour"})},
}
"""Set -> task -> column and the class of each of its values; None leaves a cascade out (veracity is of rumours only)."""
PHEME = FILES["pheme"]


def load_cascades(data: Any, options: Any) -> Cascades:
    """The cascades that ``config.data`` and ``config.cascades`` describe, cut as the latter says; what was cut is forgotten.

    Raises:
      DataNotFound: the set isn't there; the message tells how to get it.
      DataError: it can't be used; see ``read_cascades``.
    """
    if data.source == "docstring_trees":
        found = docstring_trees()
    elif data.source == "cascades":
        path = _located(data, data.path)
        found = read_cascades(path, data.label_column, name=f"cascades:{path.name}", drop_broken=options.drop_broken)
    else:
        task = options.task or next(iter(TASKS[_family(data.source)]))
        found = cascade_set(data.source, data.root or None, task, options.tree, options.drop_broken)
    return cut(found, options).renumbered()


def cascade_set(
    name: str, root: str | os.PathLike | None = None, task: str = "", tree: str = "posts", drop_broken: bool = False
) -> Cascades:
    """One of the public sets.

    Args:
      name: pheme, twitter15, twitter16 or weibo.
      root: folder that holds the file of ``FILES``, or the set's usual folders; None: the environment variable TEXTFUSE_DATA.
      task: a key of ``TASKS``; "": the first. PHEME: rumour or not; veracity of the rumours; non-rumour beside the three
        veracities. Twitter15 and 16: the four classes, or rumour or not. Weibo: rumour or not.
      tree: Twitter15 and 16: "posts", the tree of posts with words, or "all", that of all reposts, whose texts aren't known.
      drop_broken: as in ``read_cascades``.

    Raises:
      DataNotFound: the set isn't there.
      DataError: an unknown task or tree; as ``read_cascades``.
    """
    family = _family(name)
    tasks = TASKS[family]
    if task and task not in tasks:
        raise DataError(f"the task of {name} must be one of {', '.join(tasks)}, got {task!r}")
    if tree not in ("posts", "all"):
        raise DataError(f"the tree of {name} must be posts or all, got {tree!r}")
    task = task or next(iter(tasks))
    column, classes = tasks[task]
    given = root or os.environ.get("TEXTFUSE_DATA")
    full = f"{name}:{task}"
    folder = pathlib.Path(given) if given else None
    if folder is not None and (folder / FILES[name]).is_file():
        if family == "twitter":
            return _twitter(folder, name, full, column, classes, tree, drop_broken)
        return read_cascades(folder / FILES[name], column, classes, name=full, drop_broken=drop_broken)
    laid_out = cascade_layouts.find(name, folder) if folder is not None else None
    if laid_out is not None:
        return laid_out(full, task, classes, drop_broken)
    where = f"{FILES[name]} and {cascade_layouts.LAYOUTS[name]} in {folder}" if folder else "TEXTFUSE_DATA, which is not set"
    raise DataNotFound(
        f"{name} was not found. Looked for: {where}. Set TEXTFUSE_DATA (or data.root) to a folder with {FILES[name]}, one "
        f"cascade a line: {_FIELDS[family]}; or to the folders in which the set is passed on: {cascade_layouts.LAYOUTS[name]}"
    )


_FIELDS = {
    "pheme": "id, texts (source first), parent, delay_min, event, rumour (0 or 1), veracity ('' for non-rumours)",
    "twitter": "id, label, source_text, replies, td (parent, bow, reply), tree (parent, delay_min)",
    "weibo": "id, label, texts (source first), parent, delay_min",
}


def pheme(root: str | os.PathLike | None = None, task: str = "rumour") -> Cascades:
    """PHEME: 6,425 threads of nine events (Zubiaga et al. 2016; Kochkina et al. 2018), as ``cascade_set``."""
    return cascade_set("pheme", root, task)


def _family(name: str) -> str:
    return "twitter" if name.startswith("twitter") else name


def _located(data: Any, path: str) -> pathlib.Path:
    here, root = pathlib.Path(path).expanduser(), data.root or os.environ.get("TEXTFUSE_DATA")
    return pathlib.Path(root) / here if root and not here.exists() and (pathlib.Path(root) / here).exists() else here


def _twitter(
    folder: pathlib.Path, name: str, full: str, column: str, classes: Mapping[str, str | None], tree: str, drop_broken: bool
) -> Cascades:
    """Twitter15 or 16 from its file.

    Posts of the top-down tree read as: the source's own text; the reply that was matched to the post; else the words of its bag
    that are known, in the order of the bag. Their ``bags`` are the release's word numbers, all of them. A cascade without that
    tree has its source and the replies, which then hang from the source.
    """
    known = _words(folder / f"{name}_bow_vocab_decoded.csv.gz")
    number = {word: index for index, word in known.items()}
    builder = Builder(full if tree == "posts" else f"{full}:all", tuple(dict.fromkeys(classes.values())))
    source, records = read_records(folder / FILES[name])
    for row, record in records:
        place = f"{source}, row {row}, column"
        try:
            if isinstance(record, DataError):
                raise record
            if record.get(column) not in classes:
                raise DataError(f"{place} {column!r}: {record.get(column)!r} is none of {', '.join(classes)}; correct the row")
            texts, parent, minutes, bags = _twitter_posts(record, tree, known, number)
        except DataError as fault:
            builder.faults.append(str(fault))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            builder.faults.append(f"{place} 'id': {record.get('id')!r} has no whole record ({error!r}); correct the row")
        else:
            identity, of = str(record["id"]), classes[record[column]]
            builder.add(identity, of, texts, parent, minutes, place=place, row=f"row {row}", bags=bags, blank=True)
    return builder.built(f"{source} holds no cascade", drop_broken)


def _twitter_posts(record: Mapping[str, Any], tree: str, known: Mapping[str, str], number: Mapping[str, str]) -> tuple:
    """Texts, parents, minutes and bags (None with tree "all") of one cascade."""
    source, replies = record["source_text"], record.get("replies") or []
    record["id"]  # KeyError
    shape = record.get("tree" if tree == "all" else "td")
    if shape is None:
        texts = [source, *replies]
        bags = None if tree == "all" else [_as_bag(text, number) for text in texts]
        return texts, [-1] + [0] * len(replies), None, bags
    if tree == "all":
        return [source] + [""] * (len(shape["parent"]) - 1), shape["parent"], shape["delay_min"], None
    bags = [_bag(bow) for bow in shape["bow"]]
    words = [" ".join(known[w] for w in bag.split() if w in known) for bag in bags]
    texts = [replies[r] if r >= 0 else word for r, word in zip(shape["reply"], words)]
    return [source, *texts[1:]], shape["parent"], shape.get("delay_min"), bags


def _bag(bow: str) -> str:
    """``"12:2 40:1 0:1"`` -> ``"w12 w12 w40"``: number 0 marks the end."""
    counts = (pair.split(":") for pair in bow.split())
    return " ".join(f"w{index}" for index, count in counts if index != "0" for _ in range(int(count)))


def _as_bag(text: str, number: Mapping[str, str]) -> str:
    """The numbers of the words of a text that are known."""
    return " ".join(number[word] for word in text.lower().split() if word in number)


def _words(path: pathlib.Path) -> dict[str, str]:
    """``"w12"`` -> the word of that number, of those that are known; {} where the file isn't there."""
    if not path.is_file():
        return {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return {f"w{row['index']}": row["token"] for row in csv.DictReader(file)}


def docstring_trees() -> Cascades:
    """A tree for each module of the docstrings corpus: its docstring, else the first, and those of classes and functions below.

    Each hangs from what holds it (a method from its class), or from the source. The classes are the subject areas. There is
    no time, but there is real text in real trees on every machine: what configs of cascades run on without data.
    """
    parts = docstrings.read()
    of_module: dict[str, list[tuple[str, str, str]]] = {}
    for raw in parts.values():
        for identity, text, labels in zip(raw.ids, raw.texts, raw.labels):
            module, _, name = identity.partition(":")
            of_module.setdefault(module, []).append(("" if name == "module" else name, text, labels[0]))
    builder = Builder("docstring_trees", docstrings.CLASS_NAMES)
    for module, members in sorted(of_module.items()):
        members.sort(key=lambda member: (member[0].count(".") + bool(member[0]), member[0]))
        place = {name: i for i, (name, _, _) in enumerate(members)}
        parent = [-1] + [place.get(name.rpartition(".")[0], 0) for name, _, _ in members[1:]]
        builder.add(module, members[0][2], [text for _, text, _ in members], parent, place=f"module {module}, column", row=module)
    return builder.built("no module with docstrings is installed")

"""The folders in which cascade sets are usually passed on, read as they are.

* Twitter15 and 16 (Ma, Gao and Wong 2017): ``label.txt`` ("label:id"), ``source_tweets.txt`` ("id<TAB>text") and ``tree/ID.txt``,
  lines ``['user', 'tweet', 'minutes']->['user', 'tweet', 'minutes']``; only the source has a text.
* PHEME (Kochkina and others 2018): ``EVENT-all-rnr-threads/{rumours,non-rumours}/ID/`` with ``source-tweets``, ``reactions``,
  ``annotation.json``.
* Weibo (Ma and others 2016): ``Weibo.txt`` ("eid:ID<TAB>label:L<TAB>...") and ``Weibo/ID.json``, a list of posts.
"""

from __future__ import annotations

import ast
import functools
import json
import pathlib
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from textfuse_jax.data.cascades import Builder, Cascades
from textfuse_jax.data.corpus import DataError

LAYOUTS = {
    "pheme": "all-rnr-annotated-threads/EVENT-all-rnr-threads/{rumours,non-rumours}/ID",
    "twitter15": "twitter15/{label.txt,source_tweets.txt,tree/ID.txt}",
    "twitter16": "twitter16/{label.txt,source_tweets.txt,tree/ID.txt}",
    "weibo": "{Weibo.txt,Weibo/ID.json}",
}
HUNG = "posts hung from the source, as the one they reply to isn't there"
Reader = Callable[[str, str, Mapping[str, str | None], bool], Cascades]
"""``(name of the result, task, classes, drop_broken) -> cascades``."""


def find(name: str, root: pathlib.Path) -> Reader | None:
    """What reads the set's folders below ``root`` (or in it); None where they aren't there."""
    if name == "pheme":
        for folder in (root / "all-rnr-annotated-threads", root):
            if sorted(folder.glob("*-all-rnr-threads")):
                return functools.partial(_pheme, folder)
    elif name == "weibo":
        if (root / "Weibo.txt").is_file():
            return functools.partial(_weibo, root)
    else:
        for folder in (root / name, root):
            if (folder / "label.txt").is_file() and (folder / "tree").is_dir():
                return functools.partial(_twitter, folder)
    return None


def _twitter(folder: pathlib.Path, full: str, task: str, classes: Mapping[str, str | None], drop_broken: bool) -> Cascades:
    texts = dict(line.partition("\t")[::2] for line in _lines(folder / "source_tweets.txt"))  # without a tab: no text, told below
    builder = Builder(f"{full}:all", tuple(dict.fromkeys(name for name in classes.values() if name)))
    for number, line in enumerate(_lines(folder / "label.txt"), 1):
        label, _, identity = line.partition(":")
        place = f"label.txt, row {number}, column"
        path = folder / "tree" / f"{identity}.txt"
        try:
            if label not in classes:
                raise DataError(f"{place} 'label': {label!r} is none of {', '.join(classes)}; correct the row")
            if not texts.get(identity) or not path.is_file():
                lacks = f"no file tree/{identity}.txt" if texts.get(identity) else "no text in source_tweets.txt"
                raise DataError(f"{place} 'id': {identity!r} has {lacks}; add it or remove the row")
            parent, minutes, mended = read_tree(path)
        except DataError as fault:
            builder.faults.append(str(fault))
            continue
        posts = [texts[identity], *[""] * (len(parent) - 1)]
        where = f"{path.name}, column"
        builder.add(identity, classes[label], posts, parent, minutes, place=where, row=place, blank=True, mended=mended)
    return builder.built(f"{folder / 'label.txt'} holds no cascade", drop_broken)


_EDGE = re.compile(r"^(\[.*\])\s*->\s*(\[.*\])$")


def read_tree(path: pathlib.Path) -> tuple[list[int], list[float], dict[str, int]]:
    """Parents and minutes of a tree file, and what was mended; the nodes are put in the order of their minutes, the source first.

    A node is a user's post of a tweet. Of several edges into one node the first holds, edges into the source are dropped
    (releases of these sets hold hundreds of both), and a node that others hang from but that hangs from none hangs from the
    source: all three are counted. An edge that is only repeated loses nothing and isn't.

    Raises:
      DataError: a line that is no edge, no root or more than one; the line is named.
    """
    edges: dict[tuple[tuple, tuple], None] = {}  # in the order of the file, each once
    for number, line in enumerate(_lines(path), 1):
        match = _EDGE.match(line)
        if not match:
            raise DataError(f"{path.name}, row {number}: {line[:60]!r} is no edge ['user', 'tweet', 'minutes']->[...]")
        first, second = (_node(path, number, part) for part in match.groups())
        edges[first, second] = None
    roots = {second for first, second in edges if first[0] == "ROOT"}
    if len(roots) != 1:
        raise DataError(f"{path.name}: one line ['ROOT', 'ROOT', '0.0']->[source] is needed, got {len(roots)}")
    (source,) = roots
    above: dict[tuple, tuple] = {}
    mended: Counter[str] = Counter()
    for first, second in edges:
        if second == source:
            mended["edges into the source dropped"] += first[0] != "ROOT"
        elif second in above:
            mended["second parents dropped"] += 1
        else:
            above[second] = first
    nodes = {*above, *above.values()} - {source}
    mended[HUNG] = len(nodes - above.keys())
    order = [source, *sorted(nodes, key=lambda n: (float(n[2]), n))]
    place = {node: i for i, node in enumerate(order)}
    parent = [-1, *(place[above.get(node, source)] for node in order[1:])]
    return parent, [float(node[2]) for node in order], mended


def _node(path: pathlib.Path, number: int, part: str) -> tuple:
    """(user, tweet, minutes) of one end of an edge."""
    try:
        node = tuple(map(str, ast.literal_eval(part)))
        float(node[2])
    except (IndexError, ValueError, TypeError, SyntaxError) as error:
        raise DataError(f"{path.name}, row {number}: {part[:60]} has no number of minutes as its third entry") from error
    return node


def _pheme(folder: pathlib.Path, full: str, task: str, classes: Mapping[str, str | None], drop_broken: bool) -> Cascades:
    builder = Builder(full, tuple(dict.fromkeys(name for name in classes.values() if name)))
    for thread in sorted(folder.glob("*-all-rnr-threads/*rumours/*")):
        if thread.name.startswith("."):
            continue
        event = thread.parent.parent.name.removesuffix("-all-rnr-threads")
        rumour = thread.parent.name == "rumours"
        place = f"{event}/{thread.parent.name}/{thread.name}, column"
        try:
            posts = _tweets(thread)
            source, replies = posts[0], sorted(posts[1:], key=lambda p: (_seconds(p["created_at"]), p["id"]))
            place_of = {source["id"]: 0} | {p["id"]: i for i, p in enumerate(replies, 1)}
            parent = [-1, *(place_of.get(p.get("in_reply_to_status_id"), 0) for p in replies)]
            minutes = [0.0, *((_seconds(p["created_at"]) - _seconds(source["created_at"])) / 60 for p in replies)]
            value = str(int(rumour)) if task == "rumour" else _veracity(thread) if rumour else ""
            texts = [p.get("text") or p.get("full_text") for p in (source, *replies)]
        except DataError as fault:
            builder.faults.append(str(fault))
            continue
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            builder.faults.append(f"{place} 'id': a tweet or annotation is not whole ({error!r}); copy the thread again")
            continue
        mended = {HUNG: sum(p.get("in_reply_to_status_id") not in place_of for p in replies)}
        row = f"{event}/{thread.parent.name}"
        builder.add(thread.name, classes[value], texts, parent, minutes, event, place=place, row=row, mended=mended)
    return builder.built(f"{folder} holds no threads", drop_broken)


def _tweets(thread: pathlib.Path) -> list[dict]:
    """The tweets of a thread, the source first."""
    found = []
    for name in ("source-tweets", "source-tweet", "reactions"):
        for path in sorted((thread / name).glob("*.json")):
            if path.name.startswith("."):
                continue
            found.append(_json(path))
    if not found or str(found[0]["id"]) != thread.name:
        raise DataError(f"{thread}: no source tweet source-tweets/{thread.name}.json")
    return found


def _veracity(thread: pathlib.Path) -> str:
    """By the PHEME authors' rule (``convert_annotations.py``): misinformation and true are 0/1 texts or numbers."""
    note = _json(thread / "annotation.json")
    wrong, right = (int(note[key]) if key in note else None for key in ("misinformation", "true"))
    if wrong and right:
        raise DataError(f"{thread / 'annotation.json'}: both misinformation and true are 1; correct it")
    return "false" if wrong else "true" if right else "unverified"


def _weibo(root: pathlib.Path, full: str, task: str, classes: Mapping[str, str | None], drop_broken: bool) -> Cascades:
    builder = Builder(full, tuple(dict.fromkeys(name for name in classes.values() if name)))
    names = {"0": "non-rumor", "1": "rumor"}
    for number, line in enumerate(_lines(root / "Weibo.txt"), 1):
        fields = dict(part.split(":", 1) for part in line.split() if ":" in part)
        place = f"Weibo.txt, row {number}, column"
        identity, label = fields.get("eid", ""), names.get(fields.get("label", ""), "")
        path = root / "Weibo" / f"{identity}.json"
        if label not in classes or not path.is_file():
            why = (
                f"'label': {fields.get('label')!r} is neither 0 nor 1" if label not in classes else f"'eid': no file {path.name}"
            )
            builder.faults.append(f"{place} {why}; correct the row")
            continue
        try:
            posts = _json(path)
            place_of = {post["mid"]: i for i, post in enumerate(posts)}
            parent = [-1, *(place_of.get(post.get("parent"), 0) for post in posts[1:])]
            minutes = [(post["t"] - posts[0]["t"]) / 60 for post in posts]
            texts = [posts[0].get("original_text") or posts[0]["text"], *(post["text"] for post in posts[1:])]
            mended = {HUNG: sum(post.get("parent") not in place_of for post in posts[1:])}
        except DataError as fault:
            builder.faults.append(str(fault))
            continue
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            builder.faults.append(f"{place} 'eid': {path.name} is no list of whole posts ({error!r}); copy it again")
            continue
        where = f"{path.name}, column"
        builder.add(identity, classes[label], texts, parent, minutes, place=where, row=place, blank=True, mended=mended)
    return builder.built(f"{root / 'Weibo.txt'} holds no event", drop_broken)


def _seconds(created_at: str) -> float:
    """``"Wed Jan 07 11:06:08 +0000 2015"`` -> seconds since 1970."""
    return float(
        np.datetime64(time.strftime("%Y-%m-%dT%H:%M:%S", time.strptime(created_at, "%a %b %d %H:%M:%S +0000 %Y")), "s").astype(
            int
        )
    )


def _json(path: pathlib.Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # of JSON and of UTF-8
        raise DataError(f"{path} is no whole JSON ({error}); copy it again") from error


def _lines(path: pathlib.Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path} is missing; the set's folder needs it")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        row, wrong = error.object[: error.start].count(b"\n") + 1, error.object[error.start]
        raise DataError(f"{path.name}, row {row}: byte {wrong:#04x} is no UTF-8; copy the file again") from error
    return [line for line in text.splitlines() if line.strip()]

"""A corpus that is on every machine: docstrings of the standard library and installed packages, by subject area.

Sources are parsed, never imported. Areas stand in ``docstring_areas``. What would give an area away without being read
is taken out: code, signatures, dotted paths, identifiers, the names of packages and modules, the object's own name.
A module's docstrings all lie in one split, chosen by a hash of the module's name, and near-duplicates are dropped: so
the test split asks for understanding of modules never seen. What is installed decides the rows; the fingerprint tells.
"""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import importlib.machinery
import pathlib
import re
import warnings
from collections.abc import Iterator

from textfuse_jax.data.checks import Raw, normalised
from textfuse_jax.data.docstring_areas import AREAS, NO_AREA

CLASS_NAMES = tuple(AREAS)
LONGEST = 1500  # characters kept of a docstring; about 300 word pieces, more than twice the usual limit of a model
SHORTEST = 25  # words; below that a docstring ("Return the name.") says nothing of its area
LARGEST_MODULE = 40  # documents; so that a class is many modules
LARGEST_CLASS = 700  # documents; keeps classes within a factor of about two
SHINGLE, SHARED = 5, 0.5  # a document half of whose 5-word sequences stood earlier is a near-duplicate
HELD_OUT = {"test": 20, "validation": 15}  # percent of modules

_SKIPPED = {"test", "tests", "testing", "conftest", "_vendor", "vendored", "externals", "__main__", "setup"}
_CUT = re.compile(r"^[ \t]*(see also|examples?|references|usage|for example|doctests?)[ \t]*:*[ \t]*$", re.I | re.M)
_SECTION = re.compile(r"^[ \t]*[-=~^]{3,}[ \t]*$", re.M)
_DOCTEST = re.compile(r"^[ \t]*>>>.*(?:\n(?![ \t]*$).*)*", re.M)
_DIRECTIVE = re.compile(r"^[ \t]*\.\. .*$", re.M)
_SIGNATURE = re.compile(r"\A\s*[\w.]+\s*\((?:[^()]|\([^()]*\))*\)(?:\s*->\s*\S+)?\s*(?:\n|--|:|\Z)")
_CODE = re.compile(r"``[^`]*``|:\w+(?::\w+)?:`[^`]*`|`[^`]*`_?_?|\$[^$]*\$|https?://\S+|<[^<>\s]*>|%\w+|\S+@\S+")
_WORD = re.compile(r"(?<!\S)--?\w[\w-]*|@?\w[\w.]*(?:\([^()\n]*\))?")


@functools.lru_cache(maxsize=1)
def read() -> dict[str, Raw]:
    """The corpus as the three splits, in a fixed order; the splits do not depend on any seed.

    Raises:
      RuntimeError: an area is left without documents in a split: far too little is installed.
    """
    parts: dict[str, list[tuple[str, str, str]]] = {"train": [], "validation": [], "test": []}
    for name, text, area, module in _without_collector(_gather):
        parts[_split_of(module)].append((name, text, area))
    for split, rows in parts.items():
        missing = set(AREAS) - {area for _, _, area in rows}
        if missing:
            raise RuntimeError(
                f"docstrings: no {split} document of {', '.join(sorted(missing))}; too few of the packages in requirements.txt "
                "have their sources installed: pip install -r requirements.txt"
            )
    return {
        split: Raw(
            source=f"docstrings {split}",
            rows=list(range(1, len(rows) + 1)),
            ids=[name for name, _, _ in rows],
            texts=[text for _, text, _ in rows],
            labels=[(area,) for _, _, area in rows],
            text_column="docstring",
            label_column="area",
        )
        for split, rows in parts.items()
    }


def _without_collector(function):
    """Calls a function with the cycle collector off: syntax trees hold no cycles, looking for some takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        return function()
    finally:
        if was_on:
            gc.enable()


def clean(docstring: str, names: frozenset[str] = frozenset()) -> str:
    """The prose of a docstring: without code, signature, examples, identifiers and ``names`` (lower case, whole words)."""
    text = _SIGNATURE.sub("", docstring[: 4 * LONGEST].strip(), count=1)
    cut = _CUT.search(text)
    text = text[: cut.start()] if cut else text
    for pattern in (_DOCTEST, _DIRECTIVE, _SECTION, _CODE):
        text = pattern.sub(" ", text)
    text = _WORD.sub(lambda match: _prose(match[0], names), text)
    text = re.sub(r"[^\w\s.,;:()'!?-]", " ", text)
    text = re.sub(r"\(\s*[.,;:\s]*\)|(?<!\S)[.,;:()'-]+(?!\S)", " ", text)
    text = re.sub(r"\s+", " ", text).strip(" .,;:-")
    return text[:LONGEST].rsplit(" ", 1)[0] if len(text) > LONGEST else text


def _prose(word: str, names: frozenset[str]) -> str:
    """The word if it is one of a language, or a number; a space for names, calls, options, dotted paths, camelCase, x_1."""
    bare = word.rstrip(".")
    ordinary = bare.isalpha() and (len(bare) == 1 or bare[1:].islower() or bare.isupper())
    number = bare[0].isdigit() and bare.replace(".", "").isdigit()
    return word if number or (ordinary and bare.lower() not in names) else " "


def _gather() -> list[tuple[str, str, str, str]]:
    """(qualified name, cleaned text, area, module) of the docstrings chosen, near-duplicates left out.

    Modules are taken in the order of a hash until an area is full, so most of what is installed needs no parsing.
    """
    area_of = {prefix: area for area, prefixes in AREAS.items() for prefix in prefixes}
    banned = frozenset(part.lower() for prefix in area_of for part in re.split(r"[._]+", prefix))
    modules: dict[str, list[tuple[str, pathlib.Path]]] = {area: [] for area in AREAS}
    for top in sorted({prefix.split(".")[0] for prefix in area_of}):
        prefixes = [prefix for prefix in area_of if prefix.split(".")[0] == top]
        for module, path in _modules(top, prefixes):
            modules[area_of[max((p for p in prefixes if _below(module, p)), key=len)]].append((module, path))
    seen, documents = _Seen(), []
    for area, members in modules.items():
        chosen: list[tuple[str, str, str, str]] = []
        for module, path in sorted(members, key=lambda member: _hash("order", member[0])):
            names = banned | {part.lower() for part in re.split(r"[._]+", module)}
            found = sorted(_docstrings(path), key=lambda pair: _hash("order", pair[0]))
            before = len(chosen)
            for name, docstring in found:
                if len(chosen) - before == LARGEST_MODULE:
                    break
                text = clean(docstring, names | {name.rsplit(".", 1)[-1].lower()}) if len(docstring) > 5 * SHORTEST else ""
                if len(re.findall(r"[A-Za-z]{2,}", text)) >= SHORTEST and seen.is_new(text):
                    chosen.append((f"{module}:{name}", text, area, module))
            if len(chosen) >= LARGEST_CLASS:
                break
        documents.extend(chosen[:LARGEST_CLASS])
    return sorted(documents, key=lambda document: _hash("order", document[0]))


def _below(module: str, prefix: str) -> bool:
    return f"{module}.".startswith(f"{prefix}.")


def _modules(top: str, prefixes: list[str]) -> Iterator[tuple[str, pathlib.Path]]:
    """Name and source of each module of a top-level module or package that one of the prefixes covers; nothing is imported."""
    spec = importlib.machinery.PathFinder.find_spec(top)
    if spec is None:
        return
    if not spec.submodule_search_locations:
        if spec.origin and spec.origin.endswith(".py") and top in prefixes:
            yield top, pathlib.Path(spec.origin)
        return
    for root in map(pathlib.Path, spec.submodule_search_locations):
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            module = ".".join((top, *parts[1:]))
            skipped = any(part in _SKIPPED or part.startswith("test_") for part in parts[1:])
            skipped = skipped or any(_below(module, prefix) for prefix in NO_AREA)
            if not skipped and any(_below(module, prefix) for prefix in prefixes):
                yield module, path


def _docstrings(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Qualified name and docstring of everything in a source file; a file that this Python can't parse has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in others' sources; as errors they would lose the file
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # Python 2 leftovers and templates that some packages ship
        return
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        name, node = pending.pop()
        docstring = ast.get_docstring(node)  # type: ignore[arg-type]
        if docstring:
            yield name or "module", docstring
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                pending.append((f"{name}.{child.name}".lstrip("."), child))


class _Seen:
    """The documents met so far, to tell a near-duplicate by its beginning or its 5-word sequences."""

    def __init__(self):
        self.beginnings: set[str] = set()
        self.shingles: set[tuple[str, ...]] = set()

    def is_new(self, text: str) -> bool:
        """Whether neither its first 100 letters and digits nor half of its 5-word sequences stood in earlier texts."""
        beginning = normalised(text)[:100]
        words = re.findall(r"[a-z]+", text.lower())
        shingles = {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
        new = beginning not in self.beginnings and len(shingles & self.shingles) < SHARED * len(shingles)
        self.beginnings.add(beginning)
        self.shingles |= shingles
        return new


def _split_of(module: str) -> str:
    """The split of a module's docstrings, by the hash of its name alone."""
    percent = _hash("split", module) % 100
    if percent < HELD_OUT["test"]:
        return "test"
    return "validation" if percent < HELD_OUT["test"] + HELD_OUT["validation"] else "train"


def _hash(purpose: str, name: str) -> int:
    """A number that follows from a name, independent from one purpose to the next."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{name}".encode()).digest()[:8], "big")

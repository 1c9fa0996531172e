"""The embedded corpus: prose without give-aways, split by module, nothing imported, no near-duplicate across splits."""

import re
import subprocess
import sys

import numpy as np
import pytest

from textfuse_jax.data import docstrings
from textfuse_jax.data.checks import normalised
from textfuse_jax.data.docstring_areas import AREAS
from textfuse_jax.data.sources import load


@pytest.fixture(scope="module")
def corpus():
    return load(dict(source="docstrings"))


def test_some_thousands_of_documents_in_balanced_areas(corpus):
    assert corpus.class_names == tuple(AREAS) and len(AREAS) >= 4
    assert len(corpus.train) > 2500 and len(corpus.test) > 600 and len(corpus.validation) > 200
    counts = np.bincount(corpus.train.labels)
    assert counts.min() > 250 and counts.max() / counts.min() < 2
    assert min(np.bincount(corpus.test.labels).min(), np.bincount(corpus.validation.labels).min()) > 10


def test_a_module_lies_in_one_split(corpus):
    modules = [{name.split(":")[0] for name in split.ids} for split in (corpus.train, corpus.validation, corpus.test)]
    assert not modules[0] & modules[1] and not modules[0] & modules[2] and not modules[1] & modules[2]


def test_no_near_duplicate_crosses(corpus):
    def shingles(text):
        words = re.findall(r"[a-z]+", text.lower())
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    holders: dict[tuple, set[int]] = {}
    for i, text in enumerate(corpus.train.texts):
        for shingle in shingles(text):
            holders.setdefault(shingle, set()).add(i)
    beginnings = {normalised(text)[:100] for text in corpus.train.texts}
    for text in [*corpus.test.texts, *corpus.validation.texts]:
        assert normalised(text)[:100] not in beginnings
        own, shared = shingles(text), {}
        for shingle in own:
            for i in holders.get(shingle, ()):
                shared[i] = shared.get(i, 0) + 1
        best = max(shared, key=shared.get, default=None)
        # of two the later was compared, by its own length
        assert best is None or shared[best] < 0.5 * max(len(own), len(shingles(corpus.train.texts[best])))


def test_names_that_give_the_area_away_are_gone(corpus):
    names = {part for prefixes in AREAS.values() for prefix in prefixes for part in prefix.lower().split(".") if "_" not in part}
    words = {word for text in corpus.train.texts for word in re.findall(r"[a-z]+", text.lower())}
    assert {"numpy", "sklearn", "matplotlib", "jax", "http", "json"} <= names
    assert not names & words
    assert not any(">>>" in text or "_" in text for text in corpus.train.texts)


def test_splits_do_not_depend_on_the_seed_but_samples_do(corpus):
    again = load(dict(source="docstrings"), seed=9)
    assert again.test.ids == corpus.test.ids and again.train.ids == corpus.train.ids
    few = load(dict(source="docstrings", train_rows=96, test_rows=48), seed=9)
    assert len(few.train) == 96 and len(few.test) == 48


@pytest.mark.parametrize(
    "docstring, text",
    [
        (
            "sum_all(a, axis=None) -> int\n\nAdd the items.\n\n>>> sum_all([1])\n1\n\nDone at 2.5 times.",
            "Add the items. Done at 2.5 times",
        ),
        ("Return ``x.y`` of :class:`Foo`, see np.sum and camelCase or call(it).", "Return of see and or"),
        ("Non-blocking use with --flag of TCP.\n\nExamples\n--------\nSecret.", "Non-blocking use with of TCP"),
        ("Reads a Numpy file.", "Reads a file"),
    ],
)
def test_cleaning_by_hand(docstring, text):
    assert docstrings.clean(docstring, frozenset({"numpy"})) == text


def test_nothing_is_imported():
    code = (
        "import sys; from textfuse_jax.data import docstrings; docstrings.AREAS = dict(a=('rich',), b=('turtle',));"
        "assert len(docstrings._gather()) > 100; sys.exit('rich' in sys.modules or 'turtle' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_too_little_installed_is_told(monkeypatch):
    docstrings.read.cache_clear()
    monkeypatch.setattr(docstrings, "_gather", lambda: [])
    with pytest.raises(RuntimeError, match=r"no train document of .*pip install -r requirements.txt"):
        docstrings.read()
    docstrings.read.cache_clear()

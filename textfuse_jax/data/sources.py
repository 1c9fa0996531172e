"""Corpora by name: AG News, docstrings, a local file, any TensorFlow data set. ``load`` is all that others call."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from textfuse_jax.data import ag_news, docstrings, tfds
from textfuse_jax.data.checks import (
    Raw,
    check_labels,
    check_training_classes,
    class_names_of,
    drop_empty,
    drop_overlap,
    encode,
    note_contradictions,
    note_leading_labels,
    without,
)
from textfuse_jax.data.corpus import Corpus, DataError, Split, held_count, oversampled, stratified_split, take_rows, thinned
from textfuse_jax.data.tabular import Table, read_table, to_raw

FIELDS: dict[str, Any] = dict(
    source="file",  # ag_news | docstrings | file | tfds:NAME
    root="",  # folder of data sets; "" = environment variable TEXTFUSE_DATA
    path="",  # source "file": training rows, .csv .tsv .jsonl .parquet, the text formats also .gz; relative to root or here
    validation_path="",  # "" = split_column, or stratified from the training rows
    test_path="",  # "" = split_column, or stratified from the rows
    text_columns=("text",),  # joined by a space
    text_remove="",  # regular expression whose matches are deleted from every text of a file or TFDS set, e.g. a label before it
    label_column="label",
    label_separator="",  # e.g. ";": several labels a document, multi-label
    split_column="",  # a column that says train, validation (valid, val, dev) or test
    class_names=(),  # () = the sorted labels of the training rows
    where={},  # column -> values to keep, in every file
    forms=("title+description",),  # AG News files: values of column form to train on
    clean_html=True,  # AG News: undo the debris of its crawl
    download=False,  # let TFDS download and prepare what isn't there
    train_rows=0,  # 0 = all; else a stratified sample by the seed
    validation_fraction=0.1,  # of the training rows (of train_rows, if given), in (0, 1)
    validation_rows=0,  # 0 = by the fraction, or all that are given
    test_fraction=0.2,  # where no test rows are given
    test_rows=0,  # 0 = all; else a stratified sample by the seed
    imbalance=1.0,  # of the training rows: the first half of the classes keep one in so many
    oversample=False,  # training rows of rarer classes are repeated until all classes are as large as the largest
    drop_overlap=True,  # drop training rows whose text is held out too
)
"""Every field of the data config that is read here, with its default."""

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def load(config: Mapping[str, Any], seed: int = 0) -> Corpus:
    """The corpus a data config describes.

    The test split is what the source gives as test, else ``test_fraction`` of its rows; validation is what is given,
    else a stratified part of the training rows. Which rows these are, and which ``train_rows`` names, follows from the
    seed alone; with one seed and one ``validation_rows`` a smaller ``train_rows`` is a subset of a larger.

    Args:
      config: mapping with any of ``FIELDS``; those of other parts are not looked at.
      seed: of every split and sample.

    Raises:
      DataNotFound: the data isn't there; the message lists every way to get it.
      DataError: the data can't be used; file, row, column, value and fix are named. See ``checks``.
    """
    field = {name: config.get(name, default) for name, default in FIELDS.items()}
    source = field["source"]
    multi_label, warnings = bool(field["label_separator"]), []
    class_names: tuple[str, ...] = tuple(field["class_names"])
    if source == "ag_news":
        train, test = ag_news.read(_root(field), field["forms"], field["clean_html"], field["download"])
        parts, class_names = {"train": train, "test": test}, ag_news.CLASS_NAMES
    elif source == "docstrings":
        parts, class_names = docstrings.read(), docstrings.CLASS_NAMES
    elif source == "file":
        parts = _from_files(field)
    elif source.startswith("tfds:"):
        parts, names = _from_tfds(field)
        class_names = class_names or names
    else:
        raise DataError(f"config.data.source must be ag_news, docstrings, file or tfds:NAME, got {source!r}")
    if field["text_remove"]:
        parts = without(parts, field["text_remove"])
    parts = {name: drop_empty(raw, warnings) for name, raw in parts.items()}
    multi_label = multi_label or _holds_lists(parts)
    known_from = "class_names" if class_names else f"the labels of the training rows ({parts['train'].source})"
    if not class_names:
        class_names = class_names_of(parts["train"])
    else:
        check_labels(parts["train"], class_names, multi_label, known_from)
    check_training_classes(
        parts["train"], [parts[name] for name in ("validation", "test") if name in parts], class_names, warnings
    )
    for raw in parts.values():
        check_labels(raw, class_names, multi_label, known_from)
    return _split(source, parts, class_names, multi_label, field, seed, warnings)


def _split(
    name: str, parts: dict[str, Raw], class_names: tuple[str, ...], multi_label: bool, field: dict, seed: int, warnings: list[str]
) -> Corpus:
    """Test and validation held out where they aren't given, overlaps dropped, rows sampled, labels encoded."""

    def hold_out(raw: Raw, fraction_or_count: float) -> tuple[Raw, Raw]:
        kept, held = stratified_split(encode(raw, class_names, multi_label), fraction_or_count, seed)
        return raw.take(kept), raw.take(held)

    train = parts["train"]
    note_contradictions(train, warnings)
    note_leading_labels(train, warnings)
    if "test" in parts:
        test = parts["test"]
        train = drop_overlap(train, test, field["drop_overlap"], warnings)
    else:
        train, test = hold_out(train, field["test_rows"] or field["test_fraction"])
        train = drop_overlap(train, test, field["drop_overlap"], warnings)
    if "validation" in parts:
        validation = drop_overlap(parts["validation"], test, field["drop_overlap"], warnings)
    else:
        asked = min(field["train_rows"], len(train)) or len(train)
        train, validation = hold_out(train, field["validation_rows"] or held_count(asked, field["validation_fraction"]))
    train = drop_overlap(train, validation, field["drop_overlap"], warnings)

    def as_split(raw: Raw, rows: int) -> Split:
        return take_rows(Split(raw.ids, raw.texts, encode(raw, class_names, multi_label)), rows, seed)

    corpus = Corpus(
        name=name,
        train=as_split(train, field["train_rows"]),
        validation=as_split(validation, field["validation_rows"]),
        test=as_split(test, field["test_rows"]),
        class_names=class_names,
        multi_label=multi_label,
        warnings=warnings,
    )
    if len(corpus.train) < field["train_rows"]:
        warnings.append(
            f"{train.source}: train_rows={field['train_rows']} asked for, {len(corpus.train)} are there; all are used"
        )
    if field["imbalance"] != 1:
        corpus = dataclasses.replace(corpus, train=thinned(corpus.train, len(class_names), field["imbalance"], seed))
    if field["oversample"]:
        corpus = dataclasses.replace(corpus, train=oversampled(corpus.train, seed))
    lost = [name for k, name in enumerate(class_names) if not _count(corpus.train, k)]
    if lost and field["train_rows"]:
        warnings.append(f"train_rows={field['train_rows']} holds no row of {', '.join(lost[:10])}; take more rows")
    return corpus


def _from_files(field: dict) -> dict[str, Raw]:
    """The rows of the files a config names, by split."""
    if not field["path"]:
        raise DataError('config.data.path is empty; source "file" needs the file of the training rows')
    tables: dict[str, Table] = {}
    for split, key in (("train", "path"), ("validation", "validation_path"), ("test", "test_path")):
        if field[key]:
            table = read_table(_located(field, field[key]))
            for column, allowed in dict(field["where"]).items():
                table = table.where(column, [str(value) for value in allowed])
            tables[split] = table
    if field["split_column"]:
        if len(tables) > 1:
            raise DataError("config.data.split_column is for one file with all splits; leave validation_path and test_path empty")
        tables = _by_column(tables["train"], field["split_column"])
    return {split: _raw(table, field) for split, table in tables.items()}


def _from_tfds(field: dict) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """The splits of a TFDS set, and its class names; splits of other names (unsupervised, ...) are left out."""
    tables, names = tfds.read_splits(field["source"].removeprefix("tfds:"), field["label_column"], field["download"])
    if "train" not in tables:
        raise DataError(f"{field['source']} has no split train, but {', '.join(tables)}; use a file of its rows")
    return {SPLIT_NAMES[split]: _raw(table, field) for split, table in tables.items() if split in SPLIT_NAMES}, names


def _by_column(table: Table, column: str) -> dict[str, Table]:
    """One table into splits by the value of a column."""
    members: dict[str, list[int]] = {}
    for i, value in enumerate(table.column(column)):
        split = SPLIT_NAMES.get(str(value).strip().lower())
        if split is None:
            raise DataError(
                f"{table.source}, row {table.rows[i]}, column {column!r}: {value!r} is no split; "
                f"use one of {', '.join(SPLIT_NAMES)}, or leave such rows out with `where`"
            )
        members.setdefault(split, []).append(i)
    if "train" not in members:
        raise DataError(f"{table.source}, column {column!r}: no row says train; there are {', '.join(members) or 'no rows'}")
    return {split: table.take(rows) for split, rows in members.items()}


def _raw(table: Table, field: dict) -> Raw:
    return to_raw(table, tuple(field["text_columns"]), field["label_column"], field["label_separator"])


def _root(field: dict) -> pathlib.Path | None:
    root = field["root"] or os.environ.get("TEXTFUSE_DATA")
    return pathlib.Path(root).expanduser() if root else None


def _located(field: dict, path: str) -> pathlib.Path:
    """The path as it stands, or below the data root if it is only there."""
    here, root = pathlib.Path(path).expanduser(), _root(field)
    return root / here if root and not here.exists() and (root / here).exists() else here


def _holds_lists(parts: dict[str, Raw]) -> bool:
    """Whether a row has several labels, as lists in JSON or Parquet give them."""
    return any(len(labels) > 1 for raw in parts.values() for labels in raw.labels)


def _count(split: Split, k: int) -> int:
    return int((split.labels[:, k] if split.labels.ndim == 2 else split.labels == k).sum())

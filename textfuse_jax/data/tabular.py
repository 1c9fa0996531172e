"""Tables from files: CSV, TSV, JSON lines, Parquet and plain lines, the text formats also as .gz; columns by name.

Reading is strict: a ragged row, a byte that isn't UTF-8, a NUL or a missing column is an error that names file, row
(from 1, as an editor shows it), column, value and fix. Nothing is guessed or repaired.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import gzip
import io
import json
import pathlib
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow
import pyarrow.parquet

from textfuse_jax.data.checks import Raw
from textfuse_jax.data.corpus import DataError, DataNotFound

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
LONGEST_CELL = 1 << 28  # characters; csv's own limit of 131,072 refuses long documents


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length, and the row each value came from.

    Attributes:
      source: file, as messages name it.
      rows: number of each row in its file from 1; of a record over several lines, the first.
      columns: name -> values, as the format has them (CSV: strings).
    """

    source: str
    rows: list[int]
    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        """The values of one column.

        Raises:
          DataError: there is none of that name; the near one is suggested.
        """
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=1, cutoff=0.5)
            raise DataError(
                f"{self.source} has no column {name!r}{f'; did you mean {near[0]!r}?' if near else ''}; "
                f"it has {', '.join(map(repr, self.columns)) or 'none'}"
            )
        return self.columns[name]

    def take(self, indices: Sequence[int]) -> Table:
        """The rows at these indices, in this order."""
        columns = {name: [values[i] for i in indices] for name, values in self.columns.items()}
        return Table(self.source, [self.rows[i] for i in indices], columns)

    def where(self, column: str, allowed: Sequence[str]) -> Table:
        """The rows whose value in ``column`` is among ``allowed``, compared as text.

        Raises:
          DataError: none is; the values there are, are listed.
        """
        values = [str(value) for value in self.column(column)]
        kept = [i for i, value in enumerate(values) if value in allowed]
        if not kept:
            there = ", ".join(map(repr, sorted(set(values))[:10]))
            raise DataError(
                f"{self.source}: no row has {' or '.join(map(repr, allowed))} in column {column!r}; there are {there}"
            )
        return self.take(kept)


def read_table(path: str | pathlib.Path, format: str = "") -> Table:
    """The table in a file.

    Args:
      path: a file whose name ends in .csv, .tsv, .jsonl, .parquet or .txt (one text a line, column "text"), the text
        formats also with .gz behind; ``"-"`` reads standard input: JSON lines if it begins with "{", else CSV.
      format: one of these endings, for a file whose name has another.

    Raises:
      DataNotFound: there is no such file; near names in its folder are listed.
      DataError: the file can't be read as this format; row, column, value and fix are named.
    """
    source, data = ("standard input", sys.stdin.buffer.read()) if str(path) == "-" else _bytes(pathlib.Path(path))
    name = source.removesuffix(".gz")
    if not format:
        format = (".jsonl" if data.lstrip()[:1] == b"{" else ".csv") if str(path) == "-" else pathlib.Path(name).suffix.lower()
    if format == ".parquet":
        return _parquet(source, data)
    readers: dict[str, Callable[[str, str], Table]] = {
        ".csv": lambda source, text: _csv(source, text, ","),
        ".tsv": lambda source, text: _csv(source, text, "\t"),
        ".jsonl": _jsonl,
        ".txt": lambda source, text: _lines(source, text),
    }
    if format not in readers:
        raise DataError(
            f"{source}: can't tell its format from {format!r}; name it one of {', '.join(FORMATS)}, or say which it is"
        )
    # A byte that isn't UTF-8 becomes a lone surrogate, is carried into its cell, and can so be named with row and column.
    table = readers[format](source, data.decode("utf-8-sig", "surrogateescape"))
    if b"\0" in data or not _is_utf8(data):
        _refuse_bytes(table)
    return table


def read_records(path: str | pathlib.Path) -> tuple[str, list[tuple[int, dict[str, Any] | DataError]]]:
    """The name of a file and its records one by one, each with its row; a line of JSON that can't be read is its fault instead.

    Records of JSON lines need not have the same fields; the other formats are read as in ``read_table``.

    Raises:
      DataNotFound, DataError: as ``read_table``, but for single lines; no record at all.
    """
    source, data = ("standard input", sys.stdin.buffer.read()) if str(path) == "-" else _bytes(pathlib.Path(path))
    if str(path) != "-" and not source.removesuffix(".gz").lower().endswith(".jsonl"):
        table = read_table(path)
        return table.source, [(row, {k: v[i] for k, v in table.columns.items()}) for i, row in enumerate(table.rows)]
    found: list[tuple[int, dict[str, Any] | DataError]] = []
    for row, line in enumerate(data.decode("utf-8-sig", "surrogateescape").split("\n"), 1):
        if not line.strip():
            continue
        try:
            if not _is_utf8(line.encode("utf-8", "surrogateescape")):
                raise DataError(f"{source}, row {row}: a byte that isn't UTF-8; save the file as UTF-8 text")
            found.append((row, _object(source, row, line)))
        except DataError as fault:
            found.append((row, fault))
    if not found:
        raise DataError(f"{source} is empty; each line holds one JSON object")
    return source, found


def to_raw(table: Table, text_columns: Sequence[str], label_column: str, label_separator: str = "") -> Raw:
    """Texts and labels of a table.

    Args:
      table: rows of a file or data set.
      text_columns: joined by a space, empty ones left out.
      label_column: class of each row; whole numbers count as their digits.
      label_separator: between the classes of one row, e.g. ";"; "" for one class a row. JSON and Parquet lists are
        several classes too. Blank labels are left out, so that a multi-label row may have none.

    Raises:
      DataError: a missing column, or a cell that holds no text.
    """
    ids, texts = texts_of(table, text_columns)
    labels: list[tuple[str, ...]] = []
    for row, value in zip(table.rows, table.column(label_column)):
        parts = value if isinstance(value, list) else [_cell(table.source, row, label_column, value)]
        if label_separator and not isinstance(value, list):
            parts = parts[0].split(label_separator)
        names = (_cell(table.source, row, label_column, part).strip() for part in parts)
        labels.append(tuple(dict.fromkeys(name for name in names if name)))
    return Raw(table.source, list(table.rows), ids, texts, labels, " + ".join(text_columns), label_column)


def texts_of(table: Table, text_columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Ids (column ``id`` if there is one, else the row number) and joined texts of a table."""
    if not text_columns:
        raise DataError(f"{table.source}: text_columns is empty; name at least one of {', '.join(map(repr, table.columns))}")
    columns = [
        [_cell(table.source, row, name, value) for row, value in zip(table.rows, table.column(name))] for name in text_columns
    ]
    texts = columns[0] if len(columns) == 1 else [" ".join(part for part in parts if part.strip()) for parts in zip(*columns)]
    ids = [str(value) for value in table.columns.get("id", table.rows)]
    return ids, texts


def read_texts(
    path: str | pathlib.Path, text_columns: Sequence[str] = ("text",), format: str = ""
) -> tuple[list[str], list[str]]:
    """Ids and texts of a file without labels, or of standard input (``"-"``); empty texts are kept, so nothing shifts.

    Ids are column ``id`` if there is one, else the row number. Errors are those of ``read_table``.
    """
    return texts_of(read_table(path, format), text_columns)


def _bytes(path: pathlib.Path) -> tuple[str, bytes]:
    """Name and content of a file, unpacked if it ends in .gz."""
    if not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
        hint = (
            f"near names there: {', '.join(near)}"
            if near
            else f"its folder {path.parent} {'has none like it' if names else 'is empty or missing'}"
        )
        raise DataNotFound(f"no file {path}; {hint}; paths are relative to {pathlib.Path.cwd()}")
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path.name} is no whole gzip file ({error}); copy it again, or drop .gz from its name") from error
    return path.name, data


def _csv(source: str, text: str, delimiter: str) -> Table:
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        return _csv_rows(source, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    finally:
        csv.field_size_limit(limit)


def _csv_rows(source: str, reader) -> Table:
    header: list[str] = []
    rows: list[int] = []
    records: list[list[str]] = []
    begin = 1
    try:
        for record in reader:
            line, begin = begin, reader.line_num + 1
            if not header:
                header = [name.strip() for name in record]
                twice = [name for name in header if header.count(name) > 1]
                if twice:
                    raise DataError(f"{source}, row {line}: column {twice[0]!r} stands twice in the header; rename one")
                continue
            if not record and len(header) > 1:
                continue  # a blank line; in a file of one column it is an empty text
            record = record or [""]
            if len(record) != len(header):
                raise DataError(
                    f"{source}, row {line}: {len(record)} columns where the header has {len(header)}, value {record[-1][:60]!r}; "
                    'put quotes around texts that hold the separator: "a, b"'
                )
            rows.append(line)
            records.append(record)
    except csv.Error as error:
        raise DataError(
            f"{source}, the record that begins in row {begin}: {error}; close its quotes, and double those inside"
        ) from error
    if not header:
        raise DataError(f"{source} is empty; its first row must name the columns")
    columns = zip(*records) if records else ([] for _ in header)
    return Table(source, rows, {name: list(values) for name, values in zip(header, columns)})


def _jsonl(source: str, text: str) -> Table:
    rows: list[int] = []
    records: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        record = _object(source, number, line)
        missing = set(records[0]) - set(record) if records else set()
        if missing:
            raise DataError(
                f"{source}, row {number}: column {min(missing)!r} of row {rows[0]} is missing; write null for no value"
            )
        rows.append(number)
        records.append(record)
    if not records:
        raise DataError(f"{source} is empty; each line holds one JSON object")
    return Table(source, rows, {name: [record[name] for record in records] for name in records[0]})


def _object(source: str, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line, strict=False)
    except json.JSONDecodeError as error:
        raise DataError(f"{source}, row {number}: no JSON ({error}), value {line[:60]!r}; each line holds one object") from error
    if not isinstance(record, dict):
        raise DataError(f"{source}, row {number}: a JSON object is needed, got {line[:60]!r}")
    return record


def _parquet(source: str, data: bytes) -> Table:
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{source} is no whole Parquet file ({error}); write it again") from error
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return Table(source, list(range(1, table.num_rows + 1)), columns)


def _lines(source: str, text: str) -> Table:
    lines = text.removesuffix("\n").split("\n")
    return Table(source, list(range(1, len(lines) + 1)), {"text": [line.removesuffix("\r") for line in lines]})


def _cell(source: str, row: int, column: str, value: Any) -> str:
    """A value as text: strings as they are, numbers by their digits, null as nothing."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # null, or the NaN that pandas writes for it
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # label 1 read from a column with gaps is 1.0
    if isinstance(value, (int, float)):
        return str(value)
    raise DataError(f"{source}, row {row}, column {column!r}: text or a number is needed, got {value!r}; name another column")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse_bytes(table: Table) -> None:
    """Raises for the first cell that holds a NUL or a byte that wasn't UTF-8."""
    for position, row in enumerate(table.rows):
        for name, values in table.columns.items():
            bad = [c for c in str(values[position]) + name if c == "\0" or "\udc80" <= c <= "\udcff"]
            if bad:
                what = "a NUL byte" if bad[0] == "\0" else f"byte 0x{ord(bad[0]) - 0xDC00:02x}, which isn't UTF-8,"
                value = str(values[position])[:60].encode("utf-8", "replace").decode()
                raise DataError(
                    f"{table.source}, row {row}, column {name!r}: {what} in {value!r}; save the file as UTF-8 text, "
                    "e.g. iconv -f latin1 -t utf-8"
                )
    raise DataError(f"{table.source}: a NUL or a byte that isn't UTF-8 outside its rows; save the file as UTF-8 text")

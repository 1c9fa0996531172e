"""Tables are read exactly or refused with file, row, column, value and fix."""

import gzip
import io
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textfuse_jax.data.corpus import DataError, DataNotFound
from textfuse_jax.data.tabular import read_table, read_texts, to_raw


def write(path, content, packed=False):
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


GOOD = 'id,text,label\na,"one, two",x\nb,"line\nbreak ""q""",y\n\nc,ünï,x\n'


@pytest.mark.parametrize(
    "name, content", [("t.csv", GOOD), ("t.csv.gz", GOOD), ("t.csv", "\ufeff" + GOOD), ("t.csv", GOOD.replace("\n", "\r\n"))]
)
def test_csv_rows_are_numbered_as_an_editor_shows_them(tmp_path, name, content):
    table = read_table(write(tmp_path / name, content, packed=name.endswith(".gz")))
    assert table.rows == [2, 3, 6]
    assert [text.replace("\r", "") for text in table.column("text")] == ["one, two", 'line\nbreak "q"', "ünï"]
    raw = to_raw(table, ("text",), "label")
    assert raw.ids == ["a", "b", "c"] and raw.labels == [("x",), ("y",), ("x",)]


def test_every_format_gives_the_same_rows(tmp_path):
    records = [{"title": "Up", "text": "it went up", "label": 1}, {"title": "", "text": "down", "label": 2}]
    write(tmp_path / "t.tsv", "title\ttext\tlabel\nUp\tit went up\t1\n\tdown\t2\n")
    write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, records)))
    write(tmp_path / "t.jsonl.gz", "\n".join(map(json.dumps, records)), packed=True)
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "t.parquet")
    for name in ("t.tsv", "t.jsonl", "t.jsonl.gz", "t.parquet"):
        raw = to_raw(read_table(tmp_path / name), ("title", "text"), "label")
        assert raw.texts == ["Up it went up", "down"] and raw.labels == [("1",), ("2",)], name
        assert raw.ids == [str(row) for row in raw.rows]


def test_several_labels_by_separator_or_as_lists(tmp_path):
    csv = write(tmp_path / "m.csv", "text,label\na,x; y\nb,\nc,y;y\n")
    assert to_raw(read_table(csv), ("text",), "label", ";").labels == [("x", "y"), (), ("y",)]
    lists = write(tmp_path / "m.jsonl", '{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": [2]}')
    assert to_raw(read_table(lists), ("text",), "label").labels == [("x", "y"), ("2",)]


def test_numbers_with_gaps_keep_their_digits(tmp_path):
    pq.write_table(pa.table({"text": ["a", "b", None], "label": [1.0, 2.5, None]}), tmp_path / "n.parquet")
    raw = to_raw(read_table(tmp_path / "n.parquet"), ("text",), "label")
    assert raw.labels == [("1",), ("2.5",), ()] and raw.texts == ["a", "b", ""]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("ragged.csv", "text,label\na,x\nb,c,y\n", r"ragged.csv, row 3: 3 columns where the header has 2, value 'y'; put quotes"),
        ("ragged.csv", "text,label\na\n", r"row 2: 1 columns"),
        ("quote.csv", 'text,label\na,x\n"b,y\nc,x\n', r"record that begins in row 3.*close its quotes"),
        ("twice.csv", "text,text\na,x\n", r"column 'text' stands twice"),
        (
            "latin.csv",
            "text,label\nok,x\ncaf\xe9,y\n".encode("latin1"),
            r"row 3, column 'text': byte 0xe9, which isn't UTF-8.*iconv",
        ),
        ("nul.csv", b"text,label\nok,x\nb,y\0z\n", r"row 3, column 'label': a NUL byte in 'y"),
        ("empty.csv", "", "is empty; its first row must name the columns"),
        ("bad.jsonl", '{"text": "a"}\n{"text": \n', r"bad.jsonl, row 2: no JSON"),
        ("list.jsonl", "[1]\n", r"row 1: a JSON object is needed"),
        ("gap.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b"}\n', r"row 3: column 'label' of row 1 is missing"),
        ("nul.jsonl", b'{"text": "a\0b"}\n', r"row 1, column 'text': a NUL byte"),
        ("empty.jsonl", "\n", "is empty"),
        ("bad.parquet", "no parquet at all", "no whole Parquet file"),
        # mtime: the data is part of the test id, which every worker must know alike
        ("cut.csv.gz", gzip.compress(b"text,label\na,x\n", mtime=0)[:-9], "no whole gzip file"),
        ("plain.csv.gz", "text,label\n", "no whole gzip file"),
        ("t.xlsx", "x", r"can't tell its format from '.xlsx'; name it one of .csv"),
    ],
)
def test_bad_files_are_refused_by_row_and_value(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path / name, content))


def test_what_isnt_there_is_named_with_what_is_near(tmp_path):
    write(tmp_path / "train.csv", "text,label\na,x\n")
    with pytest.raises(DataNotFound, match=r"near names there: train.csv"):
        read_table(tmp_path / "trian.csv")
    with pytest.raises(DataNotFound, match="empty or missing"):
        read_table(tmp_path / "nowhere" / "train.csv")
    with pytest.raises(DataError, match=r"train\.csv has no column 'lable'; did you mean 'label'"):
        to_raw(read_table(tmp_path / "train.csv"), ("text",), "lable")
    with pytest.raises(DataError, match="no row has 'b' in column 'text'; there are 'a'"):
        read_table(tmp_path / "train.csv").where("text", ["b"])
    with pytest.raises(DataError, match="text_columns is empty"):
        to_raw(read_table(tmp_path / "train.csv"), (), "label")


def test_a_cell_that_is_no_text_is_refused(tmp_path):
    table = read_table(write(tmp_path / "t.jsonl", '{"text": {"a": 1}, "label": 1}'))
    with pytest.raises(DataError, match="row 1, column 'text': text or a number is needed"):
        to_raw(table, ("text",), "label")


def test_a_longer_cell_than_csv_allows_is_read(tmp_path):
    table = read_table(write(tmp_path / "long.csv", f"text,label\n{'a' * 200_000},x\n"))
    assert len(table.column("text")[0]) == 200_000


@pytest.mark.parametrize(
    "content, ids", [("id,text\na,one\nb,\n", ["a", "b"]), ('{"text": "one"}\n{"text": null}\n', ["1", "2"])]
)
def test_texts_without_labels_from_standard_input(monkeypatch, content, ids):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert read_texts("-") == (ids, ["one", ""])


def test_plain_lines(tmp_path):
    assert read_texts(write(tmp_path / "t.txt", "one\r\n\ntwo\n")) == (["1", "2", "3"], ["one", "", "two"])
    assert read_texts(write(tmp_path / "t.data", "one\ntwo"), format=".txt")[1] == ["one", "two"]

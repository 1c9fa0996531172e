"""What a run leaves on disk comes back as it was, whole or not at all."""

import concurrent.futures
import getpass
import json
import pathlib
import socket
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textfuse_jax.evaluation import records

TRICKY = ["a,b", 'say "x"', "two\nlines", "cr\rhere", "crlf\r\nend", "é𝄞漢", " spaces ", "", "-1", "=1+1"]


def test_environment_names_what_numbers_depend_on_and_nobody():
    env = records.environment()
    assert env["devices"] == {"platform": "cpu", "kind": "cpu", "count": 8, "processes": 1}
    assert env["packages"]["jax"].count(".") == 2 and env["cpu"]["count"] >= 1 and env["python"].startswith("3.")
    text = json.dumps(env)
    assert str(pathlib.Path.home()) + "/" not in text and f'"{socket.gethostname()}' not in text
    assert f'"{getpass.getuser()}"' not in text
    assert "cores" in records.hardware(env)


def test_hardware_names_accelerators_first():
    env = {"devices": {"platform": "gpu", "kind": "Fast One", "count": 2}, "cpu": {"model": "Slow", "count": 8}}
    assert records.hardware(env) == "2 x Fast One; Slow, 8 cores"


def test_lines_that_a_run_appends_are_no_change_of_its_code(monkeypatch, tmp_path):
    package, lines = tmp_path / "package" / "records.py", tmp_path / "results" / "study.jsonl"
    for path in (package, lines):
        path.parent.mkdir()
        path.write_text("{}\n")
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(records, "__file__", str(package))
    revision, changed = records.commit()
    assert len(revision) == 40 and changed is False
    lines.write_text("{}\n{}\n")
    assert records.commit() == (revision, False)
    package.write_text("{} # changed\n")
    assert records.commit() == (revision, True)


def test_commit_is_none_outside_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "__file__", str(tmp_path / "records.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert records.commit() == (None, None)
    monkeypatch.setenv("PATH", "")
    assert records.commit() == (None, None)


def test_lines_come_back_in_order_with_numpy_and_jax_values(tmp_path):
    path = tmp_path / "deep" / "results.jsonl"
    records.append_result(path, {"a": np.float32(0.5), "b": np.arange(2), "c": jnp.float32(2.0), "d": None})
    records.append_result(path, {"a": "é\nx"})
    assert records.read_results(path) == [{"a": 0.5, "b": [0, 1], "c": 2.0, "d": None}, {"a": "é\nx"}]
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), np.array([1.0, np.nan]), jnp.nan])
def test_nan_is_refused_by_name_and_nothing_is_written(tmp_path, value):
    path = tmp_path / "r.jsonl"
    with pytest.raises(ValueError, match=r"record\.test\.nll"):
        records.append_result(path, {"test": {"nll": value}})
    assert not path.exists()
    with pytest.raises(ValueError, match="is a set"):
        records.append_result(path, {"x": {1}})


def test_a_torn_line_stays_alone(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"a": 1}\n{"a": ')
    records.append_result(path, {"a": 3})
    assert path.read_text().splitlines()[-1] == '{"a": 3}'
    with pytest.raises(ValueError, match="line 2 isn't JSON"):
        records.read_results(path)


def test_writers_that_append_at_once_do_not_mix_lines(tmp_path):
    path, jobs = tmp_path / "r.jsonl", [(who, i) for i in range(50) for who in range(4)]

    def append(job):
        records.append_result(path, {"who": job[0], "i": job[1], "pad": "x" * 5000})

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(append, jobs))
    assert sorted((r["who"], r["i"]) for r in records.read_results(path)) == sorted(jobs)


def test_write_json_keeps_the_old_file_when_refused(tmp_path):
    path = tmp_path / "result.json"
    records.write_json(path, {"a": np.int64(1)})
    with pytest.raises(ValueError, match=r"record\.a is nan"):
        records.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_predictions_round_trip(tmp_path):
    path, names = tmp_path / "p.csv", ["plain", 'odd, "name"\n|']
    n = len(TRICKY)
    probabilities = np.random.default_rng(0).random((n, 2)).astype(np.float32)
    labels, predicted = np.arange(n) % 2, probabilities.argmax(1)
    records.write_predictions(path, TRICKY, labels, predicted, probabilities, names)
    got = records.read_predictions(path)
    assert got.ids == TRICKY and got.class_names == names
    np.testing.assert_array_equal(got.labels, labels)
    np.testing.assert_array_equal(got.predicted, predicted)
    np.testing.assert_array_equal(got.probabilities.astype(np.float32), probabilities)
    assert [p.name for p in tmp_path.iterdir()] == ["p.csv"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_any_id_round_trips(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("p") / "p.csv"
    records.write_predictions(path, ids, None, np.zeros(len(ids), int), np.ones((len(ids), 1)), ["a"])
    assert records.read_predictions(path).ids == ids


def test_predictions_file_reads_as_documented(tmp_path):
    records.write_predictions(tmp_path / "p.csv", ["x"], np.array([1]), np.array([0]), np.array([[0.75, 0.25]]), ["a", "b"])
    assert (tmp_path / "p.csv").read_bytes() == b"id,label,predicted,p_a,p_b\r\nx,b,a,0.75,0.25\r\n"


def test_multi_label_and_unlabelled_predictions(tmp_path):
    path, hot = tmp_path / "p.csv", np.array([[1, 0, 1], [0, 0, 0]])
    records.write_predictions(path, ["x", "y"], hot[::-1].astype(np.float32), hot, np.full((2, 3), 0.5), ["joy", "fear", "awe"])
    assert "x,,joy|awe" in path.read_text()
    got = records.read_predictions(path, multi_label=True)
    np.testing.assert_array_equal(got.predicted, hot)
    np.testing.assert_array_equal(got.labels, hot[::-1])
    records.write_predictions(path, ["x"], None, np.array([1]), np.array([[0.2, 0.8]]), ["a", "b"])
    assert records.read_predictions(path).labels is None


def test_bad_predictions_are_refused(tmp_path):
    path, ok = tmp_path / "p.csv", np.array([[0.5, 0.5]])
    with pytest.raises(ValueError, match=r"row 0 .* isn't finite"):
        records.write_predictions(path, ["x"], None, np.array([0]), np.array([[np.nan, 1]]), ["a", "b"])
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        records.write_predictions(path, ["x", "y"], None, np.array([0]), ok, ["a", "b"])
    with pytest.raises(ValueError, match="1 ids, but 2 predictions"):
        records.write_predictions(path, ["x"], None, np.array([0, 1]), ok, ["a", "b"])
    with pytest.raises(ValueError, match="distinct"):
        records.write_predictions(path, ["x"], None, np.array([0]), ok, ["a", "a"])
    with pytest.raises(ValueError, match="separates labels"):
        records.write_predictions(path, ["x"], None, np.array([[0, 1]]), ok, ["a|b", "b"])
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "header must be"),
        ("id,label,p_a\r\n", "header must be"),
        ("id,label,predicted,p_a\r\nx,a\r\n", "row 1 has 2 cells, the header 4"),
        ("id,label,predicted,p_a\r\nx,a,b,1\r\n", "row 1: unknown class 'b'"),
    ],
)
def test_a_broken_predictions_file_is_named(tmp_path, content, message):
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        records.read_predictions(path)

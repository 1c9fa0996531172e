"""Stored answers: found by id or text, refused where the file contradicts itself or the documents."""

import pytest

from tests.llm.asking import questions, settings_for, silent
from tests.llm.server import Server
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.client import ask
from textfuse_jax.llm.providers import Settings
from textfuse_jax.llm.replay import ReplayError, answers

ASKED = questions(3)  # ids 0, 1, 2; texts "text number 0", ...


def replayed(tmp_path, content: str, name: str = "stored.jsonl"):
    (tmp_path / name).write_text(content, encoding="utf-8")
    return answers(ASKED, Settings("replay", "old", replay_path=str(tmp_path / name)))


def test_by_id_by_text_and_absent(tmp_path):
    found = replayed(tmp_path, '{"id": 0, "answer": "World"}\n\n{"text": "text number 2", "answer": {"label": "Sports"}}\n')
    assert [a.text for a in found] == ["World", "", '{"label": "Sports"}']
    assert [a.fault for a in found] == ["", "absent", ""] and all(a.cached and a.attempts == 0 for a in found)
    assert [a.id for a in found] == ["0", "1", "2"]


def test_csv_with_commas_breaks_and_a_mark(tmp_path):
    found = replayed(tmp_path, '\ufeffid,text,answer\n1,text number 1,"{""label"": ""World""}"\n2,,"two\nlines"\n', "stored.csv")
    assert [a.text for a in found] == ["", '{"label": "World"}', "two\nlines"]


def test_an_export_of_the_cache_is_replayed_without_network(tmp_path):
    cache = Cache(tmp_path / "a.sqlite")
    with Server() as server:
        asked = ask(ASKED, settings_for(server.url), cache, progress=False, say=silent)
    cache.export(tmp_path / "out.jsonl")
    again = ask(ASKED, Settings("replay", "old", replay_path=str(tmp_path / "out.jsonl")), cache, progress=False, say=silent)
    assert [a.text for a in again] == [a.text for a in asked] and again[0].model == "model"


def test_reordered_rows_change_nothing_and_another_split_is_refused(tmp_path):
    rows = [f'{{"id": "{i}", "text": "text number {i}", "answer": "{name}"}}\n' for i, name in enumerate("abc")]
    assert [a.text for a in replayed(tmp_path, "".join(reversed(rows)))] == ["a", "b", "c"]
    with pytest.raises(ReplayError, match=r"row 2: id '1' stands beside the text 'validation text'.*another split"):
        replayed(tmp_path, rows[0] + '{"id": "1", "text": "validation text", "answer": "b"}\n')


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            '{"id": "0", "answer": "World"}\n{"id": "0", "answer": "Sports"}\n',
            r"row 2: id '0' has .* 'Sports', in row 1 'World'",
        ),
        ('{"text": "x", "answer": "World"}\n{"text": "x", "answer": "Sports"}\n', r"row 2: text 'x'"),
        ('{"id": "0", "label": "World"}\n', r"row 1: no field 'answer'; there are id, label"),
        ('{"answer": "World"}\n', r"row 1: neither 'id' nor 'text'"),
        ('{"id": "0", "answer": "Wor', r"row 1 is no JSON"),
        ('["World"]\n', r"row 1 is a list"),
        ('{"id": "0", "answer": "x", "fault": "odd"}\n', r"unknown fault 'odd'"),
        ('{"id": "0", "answer": "x", "sample": "two"}\n', r"sample must be 0, 1"),
    ],
)
def test_faulty_files_name_row_and_fix(tmp_path, content, told):
    with pytest.raises(ReplayError, match=told):
        replayed(tmp_path, content)


def test_two_documents_of_one_text_with_two_answers_are_told_apart_by_id_only(tmp_path):
    rows = '{"id": "0", "text": "text number 0", "answer": "a"}\n{"id": "9", "text": "text number 0", "answer": "b"}\n'
    assert [a.text for a in replayed(tmp_path, rows)] == ["a", "", ""]
    rows = rows.replace('"0"', '"8"', 1)
    assert replayed(tmp_path, rows)[0].fault == "absent"


def test_missing_file_wrong_ending_and_short_rows(tmp_path):
    with pytest.raises(ReplayError, match=r"no file .*nowhere\.jsonl"):
        answers(ASKED, Settings("replay", "old", replay_path=str(tmp_path / "nowhere.jsonl")))
    with pytest.raises(ReplayError, match=r"must end in \.jsonl or \.csv"):
        replayed(tmp_path, "", "stored.txt")
    with pytest.raises(ReplayError, match="row 1 has more or fewer cells"):
        replayed(tmp_path, "id,answer\n1,a,b\n", "stored.csv")

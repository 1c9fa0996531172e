"""The provider "replay": answers that a file holds, so that stored answers are evaluated without any network.

JSON lines, or CSV with a header. Each row has ``answer`` and at least one of ``id`` and ``text``; a cache's export is such a
file. A row with both must agree with the document in both: that finds files of another split or of reordered rows.
"""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Iterator, Sequence

from textfuse_jax.llm.providers import Settings
from textfuse_jax.llm.types import FAULTS, Answer, Request

_LONGEST_CELL = 1 << 30  # characters


class ReplayError(ValueError):
    """A file of answers that can't be used; the message names file, row, column and fix."""


def answers(requests: Sequence[Request], settings: Settings) -> list[Answer]:
    """The stored answer of each request, in order; a document the file doesn't hold is missing with the fault "absent".

    Raises:
      ReplayError: no such file; a row without answer, or with neither id nor text; two answers for one document; a row whose
        id is a document's, but whose text isn't.
    """
    path = pathlib.Path(settings.replay_path)
    by_id: dict[tuple[str, int], tuple[int, dict]] = {}
    by_text: dict[tuple[str, int], tuple[int, dict]] = {}
    for number, row in _rows(path):
        for held, name in ((by_id, "id"), (by_text, "text")):
            if row[name] is None:
                continue
            key = (row[name], row["sample"])
            before = held.setdefault(key, (number, row))
            if before[1] is None or before[1]["answer"] == row["answer"]:
                continue
            if name == "text" and row["id"] != before[1]["id"]:  # two documents of one text: the text alone tells nothing
                held[key] = (number, None)
            else:
                raise ReplayError(
                    f"{path} row {number}: {name} {row[name][:60]!r} has the answer {row['answer'][:60]!r}, in row {before[0]} "
                    f"{before[1]['answer'][:60]!r}; keep one (of a cache: export one model)"
                )
    return [_answer(request, by_id, by_text, settings, path) for request in requests]


def _answer(request: Request, by_id: dict, by_text: dict, settings: Settings, path: pathlib.Path) -> Answer:
    number, row = by_id.get((request.id, request.sample), (0, None))
    if row is not None and row["text"] is not None and row["text"] != request.text:
        raise ReplayError(
            f"{path} row {number}: id {request.id!r} stands beside the text {row['text'][:60]!r}, the document of this id is "
            f"{request.text[:60]!r}; is the file of another split or data set?"
        )
    if row is None:
        number, row = by_text.get((request.text, request.sample), (0, None))
    if row is None:
        return Answer(request.id, fault="absent", cached=True)
    fault = row["fault"] if row["answer"].strip() else row["fault"] or "empty"
    model = row["reported"] or settings.model
    return Answer(request.id, row["answer"], fault, cached=True, model=model, logprobs=row["logprobs"])


def _rows(path: pathlib.Path) -> Iterator[tuple[int, dict]]:
    """(row number from 1, {id, text, answer, sample, fault, reported, logprobs}) of each row."""
    if not path.is_file():
        raise ReplayError(f"llm.replay_path: no file {path}; it holds id or text -> answer as JSONL or CSV")
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise ReplayError(f"llm.replay_path: {path} must end in .jsonl or .csv, so that its form is known")
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in _lines(path, file) if path.suffix.lower() == ".jsonl" else _cells(path, file):
            ids = [None if row.get(name) in (None, "") else str(row[name]) for name in ("id", "text")]
            answer = row.get("answer")
            if answer is None:
                raise ReplayError(f"{path} row {number}: no field 'answer'; there are {', '.join(map(str, row))}")
            if ids == [None, None]:
                raise ReplayError(f"{path} row {number}: neither 'id' nor 'text' says whose answer this is")
            sample, fault = str(row.get("sample") or 0), str(row.get("fault") or "")
            if not sample.isdecimal():
                raise ReplayError(f"{path} row {number}: sample must be 0, 1, ..., got {sample!r}")
            if fault and fault not in FAULTS:
                raise ReplayError(f"{path} row {number}: unknown fault {fault!r}; there are {', '.join(FAULTS)}")
            text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
            held = {"reported": str(row.get("reported") or ""), "logprobs": str(row.get("logprobs") or "")}
            yield number, {"id": ids[0], "text": ids[1], "answer": text, "sample": int(sample), "fault": fault} | held


def _lines(path: pathlib.Path, file) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ReplayError(f"{path} row {number} is no JSON ({error}); remove or mend the line") from None
        if not isinstance(row, dict):
            raise ReplayError(f"{path} row {number} is a {type(row).__name__}, must be an object with id or text, and answer")
        yield number, row


def _cells(path: pathlib.Path, file) -> Iterator[tuple[int, dict]]:
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        for number, row in enumerate(csv.DictReader(file), 1):
            if None in row or None in row.values():
                raise ReplayError(f"{path} row {number} has more or fewer cells than the header; quote cells with commas")
            yield number, row
    finally:
        csv.field_size_limit(limit)

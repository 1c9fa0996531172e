"""Every answer that was paid for, one row each, in one SQLite file that threads and processes share.

    answers   key -> the answer, what it cost, which run paid for it
    claims    key -> who is asking for it right now, so that nobody else does
    lost      calls that may have been paid for without an answer: time-outs, bodies that broke off

A row is committed when its answer arrives (WAL; a process that is killed loses what is in flight, no more; a machine that
loses power may lose the last moments). A claim ends with its answer, with its process, or with its time.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence

from textfuse_jax.llm.providers import Settings
from textfuse_jax.llm.types import Answer, Request, Usage

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, provider TEXT NOT NULL, model TEXT NOT NULL, template TEXT NOT NULL, sample INTEGER NOT NULL,
    id TEXT NOT NULL, text TEXT NOT NULL, answer TEXT NOT NULL, fault TEXT NOT NULL,
    input_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cost REAL, seconds REAL NOT NULL, reported TEXT NOT NULL, logprobs TEXT NOT NULL, run TEXT NOT NULL, time REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost (model TEXT NOT NULL, reason TEXT NOT NULL, cost REAL, run TEXT NOT NULL, time REAL NOT NULL);
"""
COLUMNS = (
    *("key", "provider", "model", "template", "sample", "id", "text", "answer", "fault"),
    *("input_tokens", "cached_tokens", "output_tokens", "cost", "seconds", "reported", "logprobs", "run", "time"),
)
_READ = "answer, fault, input_tokens, cached_tokens, output_tokens, cost, seconds, reported, logprobs"
_AT_ONCE = 500  # keys in one SELECT
_live: set[str] = set()  # tokens of the owners in this process


DEFAULT = pathlib.Path.home() / ".cache" / "textfuse_jax" / "llm.sqlite"


class CacheError(RuntimeError):
    """A cache file that can't be read or written, or an import that contradicts it."""


class Cache:
    """Answers in a file, made where it isn't there. One object may be used by many threads, one file by many processes.

    Args:
      path: of the file, on a disk of this machine; "" = ``DEFAULT``.

    Raises:
      CacheError: the file is no cache, is damaged, or of another version of this library.
    """

    def __init__(self, path: str | os.PathLike = ""):
        self.path = pathlib.Path(path or DEFAULT)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._local = threading.local()
        try:
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise CacheError(f"{self.path} is a cache of version {version}, this library reads {VERSION}; take another file")
            self._database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        except sqlite3.DatabaseError as error:
            raise CacheError(f"{self.path} can't be used as a cache of answers: {error}; remove it or take another") from error

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _database(self) -> sqlite3.Connection:
        """This thread's connection; one that a fork inherited is left alone."""
        held = getattr(self._local, "held", None)
        if held is None or held[0] != os.getpid():
            database = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            self._local.held = held = (os.getpid(), database)
        return held[1]

    def close(self) -> None:
        """Closes this thread's connection; the next use opens another."""
        held, self._local.held = getattr(self._local, "held", None), None
        if held is not None and held[0] == os.getpid():
            held[1].close()

    def __len__(self) -> int:
        return self._database.execute("SELECT COUNT(*) FROM answers").fetchone()[0]

    def read(self, keys: Sequence[str]) -> dict[str, Answer]:
        """key -> answer of those keys that are there; ``id`` is left "" for the caller, ``cached`` is set."""
        found: dict[str, Answer] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            for key, *row in self._database.execute(f"SELECT key, {_READ} FROM answers WHERE key IN ({marks})", some):
                found[key] = _answer(row)
        return found

    def claim(self, key: str, owner: str, seconds: float) -> Answer | bool:
        """The answer, if it is there; else whether ``owner`` may ask for it now: True for the next ``seconds``, False while
        somebody else does."""
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            row = database.execute(f"SELECT {_READ} FROM answers WHERE key = ?", (key,)).fetchone()
            if row is not None:
                return _answer(row)
            held = database.execute("SELECT owner, until FROM claims WHERE key = ?", (key,)).fetchone()
            if held is not None and held[0] != owner and held[1] > time.time() and _alive(held[0]):
                return False
            database.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (key, owner, time.time() + seconds))
            return True
        finally:
            database.execute("COMMIT")

    def put(self, key: str, request: Request, settings: Settings, answer: Answer, run: str = "") -> None:
        """Stores an answer and ends the claim on it, at once; an answer that is already there stays."""
        row = (
            *(key, settings.provider, settings.model, request.template, request.sample, request.id, request.text, answer.text),
            *(answer.fault, answer.usage.input_tokens, answer.usage.cached_tokens, answer.usage.output_tokens, answer.cost),
            *(answer.seconds, answer.model, answer.logprobs, run, time.time()),
        )
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            self._insert(row)
            database.execute("DELETE FROM claims WHERE key = ?", (key,))
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")

    def _insert(self, row: Sequence) -> bool:
        row = [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in row]
        marks = ",".join("?" * len(COLUMNS))
        return self._database.execute(f"INSERT OR IGNORE INTO answers VALUES ({marks})", row).rowcount > 0

    def lost(self, settings: Settings, reason: str, cost: float | None, run: str = "") -> None:
        """Notes a call that may have been paid for and brought nothing."""
        self._database.execute("INSERT INTO lost VALUES (?, ?, ?, ?, ?)", (settings.label, reason, cost, run, time.time()))

    def release(self, owner: str, key: str | None = None) -> None:
        """Ends the claim of ``owner`` on a key, or all its claims."""
        if key is not None:
            self._database.execute("DELETE FROM claims WHERE owner = ? AND key = ?", (owner, key))
        else:
            self._database.execute("DELETE FROM claims WHERE owner = ?", (owner,))

    def spent(self, run: str | None = None) -> float:
        """What all answers, or those a run paid for, have cost, calls without an answer included; unknown prices count 0."""
        where, values = ("", ()) if run is None else ("WHERE run = ?", (run,))
        tables = (self._database.execute(f"SELECT TOTAL(cost) FROM {table} {where}", values) for table in ("answers", "lost"))
        return float(sum(rows.fetchone()[0] for rows in tables))

    def typical(self, settings: Settings, template: str, most: int = 1000) -> tuple[Usage, int, float]:
        """(tokens, number, seconds) summed over up to ``most`` answers of this model and template."""
        rows = self._database.execute(
            "SELECT COUNT(*), TOTAL(input_tokens), TOTAL(cached_tokens), TOTAL(output_tokens), TOTAL(seconds) FROM "
            "(SELECT * FROM answers WHERE provider = ? AND model = ? AND template = ? LIMIT ?)",
            (settings.provider, settings.model, template, most),
        )
        count, read, cached, written, seconds = rows.fetchone()
        return Usage(int(read), int(cached), int(written)), count, seconds

    def rows(self, provider: str | None = None, model: str | None = None) -> Iterator[dict]:
        """The stored rows, oldest first, as dictionaries of ``COLUMNS``."""
        where = [(name, value) for name, value in (("provider", provider), ("model", model)) if value is not None]
        clause = " AND ".join(f"{name} = ?" for name, _ in where) or "1"
        query = f"SELECT {', '.join(COLUMNS)} FROM answers WHERE {clause} ORDER BY time, key"
        for row in self._database.execute(query, [value for _, value in where]):
            yield dict(zip(COLUMNS, row))

    def export(self, path: str | os.PathLike, provider: str | None = None, model: str | None = None) -> int:
        """Writes the answers, or those of one provider or model, as JSON lines, and returns their number.

        The file can be loaded into another cache, or be read by the provider "replay".
        """
        target, count = pathlib.Path(path), 0
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            with partial.open("w", encoding="utf-8") as file:
                for row in self.rows(provider, model):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        return count

    def load(self, path: str | os.PathLike) -> int:
        """Adds the answers of an exported file and returns how many were new.

        Raises:
          CacheError: a line that is no exported answer, or whose answer differs from the one stored under its key; nothing
            is added.
        """
        added, database = 0, self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            for number, row in _exported(path):
                added += (new := self._insert([row[name] for name in COLUMNS]))
                stored = database.execute("SELECT answer FROM answers WHERE key = ?", (row["key"],)).fetchone()[0]
                if not new and stored != row["answer"]:
                    raise CacheError(
                        f"{path} line {number}: key {row['key'][:12]}... has the answer {row['answer'][:40]!r}, "
                        f"{self.path} holds {stored[:40]!r}; remove one of them"
                    )
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")
        return added


def _exported(path: str | os.PathLike) -> Iterable[tuple[int, dict]]:
    """(line number, row) of an exported file."""
    kinds = {"cost": (float, int, type(None)), "seconds": (float, int), "time": (float, int)}
    kinds |= {name: (int,) for name in ("sample", "input_tokens", "cached_tokens", "output_tokens")}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CacheError(f"{path} line {number} is no JSON ({error}); was the file cut off?") from None
            for name in COLUMNS:
                if not isinstance(row, dict) or not isinstance(row.get(name, ...), kinds.get(name, (str,))):
                    raise CacheError(f"{path} line {number}: field {name!r} is missing or of a wrong type; export the cache anew")
            yield number, row


def _answer(row: Sequence) -> Answer:
    text, fault, read, cached, written, cost, seconds, reported, logprobs = row
    usage = Usage(read, cached, written)
    return Answer("", text, fault, "", usage, cost, True, 0, seconds, reported, logprobs)


def new_owner() -> str:
    """A name to claim under: machine, process and a token of its own. End it by ``end_owner``."""
    token = uuid.uuid4().hex
    _live.add(token)
    return f"{socket.gethostname()}:{os.getpid()}:{token}"


def end_owner(owner: str) -> None:
    """What is still claimed under this name is free."""
    _live.discard(owner.rpartition(":")[2])


def _alive(owner: str) -> bool:
    """Whether the process that claims may still be there; on another machine it may."""
    host, pid, token = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    if int(pid) == os.getpid():
        return token in _live  # else another process had this number before
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

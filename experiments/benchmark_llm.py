"""The LLM client against a server on loopback that fails three calls in ten: losses, double payments, limits, pace, kills.

    python -m experiments.benchmark_llm [--documents=10000] [--requests_per_minute=3600] [--kills=200]

Three lines of ``experiments/results/benchmark_llm.jsonl``: ``llm_kills`` (kill -9 at random moments, each followed by a new
process on the same cache), ``llm_same`` (64 threads ask the same at once), ``llm_faults`` (all documents with 30 % faults:
429 with Retry-After, 5xx, calls that never return, bodies that break off, bodies that are no answer; then all again from the
cache). The server runs in a process of its own and counts as paid what it wrote in full.
"""

from __future__ import annotations

import os
import pathlib
import random
import signal
import tempfile
import threading
import time

from absl import app, flags

from tests.llm.asking import TASK, questions, settings_for, silent
from tests.llm.server import Faults, ServerProcess
from textfuse_jax.evaluation.records import append_result, commit, environment, hardware
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.client import ask
from textfuse_jax.llm.protocol import sdk
from textfuse_jax.llm.scores import scores_of
from textfuse_jax.llm.types import Report

RESULTS = pathlib.Path(__file__).parent / "results" / "benchmark_llm.jsonl"
DOCUMENTS = flags.DEFINE_integer("documents", 10_000, "asked with 30 % faults")
PER_MINUTE = flags.DEFINE_integer("requests_per_minute", 3600, "the limit")
KILLS = flags.DEFINE_integer("kills", 200, "processes killed at random moments")
OUTPUT = flags.DEFINE_string("output", str(RESULTS), "file of the JSON lines")
THIRTY = Faults(rate_limited=0.1, server_error=0.1, hang=0.02, cut=0.04, malformed=0.04, retry_after=1.0, delay=(0.05, 0.5))
QUIET = {"progress": False, "say": silent}
IN_FLIGHT = 8


def kills(number: int, folder: pathlib.Path, seed: int = 0) -> dict:
    """What is lost by processes that are killed at random moments and started again on the same cache."""
    rng, path, block = random.Random(seed), folder / "kills.sqlite", 100
    sdk()  # loaded once, before the processes part
    most_lost = vain = 0
    with ServerProcess(Faults(delay=(0.01, 0.05))) as server:
        settings = settings_for(server.url, concurrency=IN_FLIGHT)
        for kill in range(number):
            before = server.told()["paid"]
            pid = os.fork()
            if pid == 0:
                try:
                    ask(questions(2 * block, start=block * kill), settings, Cache(path), **QUIET)
                finally:
                    os._exit(0)
            time.sleep(rng.uniform(0.0, 1.0))
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                vain += 1  # it had ended already
            else:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            time.sleep(0.15)  # what the server was about to write is written
            paid = {words for words, times in server.told()["paid"].items() if times > before.get(words, 0)}
            with Cache(path) as cache:
                kept = {row["text"] for row in cache.rows()}
            most_lost = max(most_lost, sum(words.split("\n")[2] not in kept for words in paid))
        everything = ask(questions(block * (number + 1)), settings, Cache(path), **QUIET)
        told = server.told()
    paid = sum(told["paid"].values())
    return {
        "name": "llm_kills",
        "kills": number,
        "ended_before_kill": vain,
        "documents": len(everything),
        "unanswered": sum(bool(answer.fault) for answer in everything),
        "in_flight": IN_FLIGHT,
        "most_paid_and_lost_by_a_kill": most_lost,
        "paid": paid,
        "paid_again": paid - len(told["paid"]),
    }


def same(threads: int, folder: pathlib.Path) -> dict:
    """Calls that so many threads make that ask the same at once."""
    with ServerProcess(Faults(delay=(0.3, 0.3))) as server:
        cache, settings, answers = Cache(folder / "same.sqlite"), settings_for(server.url), []
        work = [
            threading.Thread(target=lambda: answers.extend(ask(questions(1), settings, cache, **QUIET))) for _ in range(threads)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        calls = server.told()["calls"]
    return {"name": "llm_same", "askers": threads, "answered": sum(not answer.fault for answer in answers), "calls": calls}


def faults(documents: int, per_minute: int, folder: pathlib.Path) -> dict:
    """All documents through 30 % faults, and again from the cache."""
    asked = questions(documents)
    with ServerProcess(THIRTY) as server, Cache(folder / "faults.sqlite") as cache:
        limited = {"requests_per_minute": per_minute, "concurrency": 64, "timeout_seconds": 5.0, "backoff_seconds": 0.5}
        settings = settings_for(server.url, **limited)
        begun = time.perf_counter()
        answers = ask(asked, settings, cache)
        seconds = time.perf_counter() - begun
        told = server.told()
        begun = time.perf_counter()
        again = ask(asked, settings, cache, **QUIET)
        warm = time.perf_counter() - begun
        begun = time.perf_counter()
        scores = scores_of(again, TASK.class_names)
        scoring = time.perf_counter() - begun
        warm_calls = server.told()["calls"] - told["calls"]
    calls, report = told["calls"], Report.of(answers)
    assert [a.text for a in again] == [a.text for a in answers] and scores.present.all()
    return {
        "name": "llm_faults",
        "documents": documents,
        "answered": report.present,
        "lost": documents - report.present,
        "calls": calls,
        "calls_by_kind": told["kinds"],
        "fault_share": round(1 - told["kinds"]["answered"] / calls, 4),
        "paid": sum(told["paid"].values()),
        "paid_twice": sum(told["paid"].values()) - len(told["paid"]),
        "requests_per_minute": per_minute,
        "busiest_60_s": told["busiest"]["60"],
        "busiest_10_s": told["busiest"]["10"],
        "busiest_1_s": told["busiest"]["1"],
        "seconds": round(seconds, 2),
        "share_of_limit": round(calls / seconds * 60 / per_minute, 4),
        "warm_calls": warm_calls,
        "warm_seconds": round(warm, 3),
        "warm_answers_per_second": round(documents / warm),
        "scores_per_second": round(documents / scoring),
    }


def main(_: list[str]) -> None:
    """Measures and appends."""
    with tempfile.TemporaryDirectory() as held:
        folder = pathlib.Path(held)
        lines = [kills(KILLS.value, folder), same(64, folder), faults(DOCUMENTS.value, PER_MINUTE.value, folder)]
    where = dict(zip(("commit", "dirty"), commit())) | {"hardware": hardware(environment())}
    for line in lines:
        append_result(OUTPUT.value, line | where)
        print(line)


if __name__ == "__main__":
    app.run(main)

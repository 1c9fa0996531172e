"""The cache: what changes the answer changes the key, what was paid stays, two processes share a file."""

import dataclasses
import json
import os
import signal
import sqlite3
import threading
import time

import pytest

from tests.llm.asking import questions, settings_for, silent
from tests.llm.server import Faults, Server
from textfuse_jax.llm.cache import Cache, CacheError, end_owner, new_owner
from textfuse_jax.llm.client import ask
from textfuse_jax.llm.keys import key_of, key_parts
from textfuse_jax.llm.protocol import sdk
from textfuse_jax.llm.providers import Settings
from textfuse_jax.llm.types import Answer, Request, Usage

QUIET = {"progress": False, "say": silent}
REQUEST = Request(
    id="7",
    text="a text",
    messages=(("system", "label it"), ("user", "an example"), ("assistant", "World"), ("user", "Text: a text")),
    template="few_shot/1",
    labels=("World", "Sports"),
    shots=("12", "40"),
    schema='{"type":"object"}',
)
SETTINGS = Settings("openai", "gpt")
REQUEST_CHANGES = {
    "text": "a text ",
    "template": "few_shot/2",
    "labels": ("Sports", "World"),
    "shots": ("40", "12"),
    "schema": '{"type":"array"}',
    "sample": 1,
    "messages": (("system", "Label it"), *REQUEST.messages[1:]),
}
SETTINGS_CHANGES = {
    "provider": "deepseek",
    "model": "gpt-2",
    "base_url": "http://proxy/v1",
    "temperature": 0.1,
    "max_output_tokens": 255,
    "structured": "json",
    "logprobs": 3,
    "extra": '{"top_p":0.9}',
}
NOT_IN_THE_KEY = {
    *("key_variable", "replay_path", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout_seconds", "attempts"),
    *("backoff_seconds", "backoff_most_seconds", "price_input", "price_cached_input", "price_output"),
}


def test_each_field_changed_alone_misses(tmp_path):
    cache = Cache(tmp_path / "answers.sqlite")
    cache.put(key_of(REQUEST, SETTINGS), REQUEST, SETTINGS, Answer("7", "World"))
    assert cache.read([key_of(REQUEST, SETTINGS)])
    changed = [(dataclasses.replace(REQUEST, **{name: value}), SETTINGS) for name, value in REQUEST_CHANGES.items()]
    changed += [(REQUEST, dataclasses.replace(SETTINGS, **{name: value})) for name, value in SETTINGS_CHANGES.items()]
    longer = (*REQUEST.messages[:-1], ("user", "Text: another text"))
    other_labels, fewer = {"labels": ("World", "Sport")}, {"shots": ("12",)}
    changed += [(dataclasses.replace(REQUEST, **held), SETTINGS) for held in ({"messages": longer}, other_labels, fewer)]
    keys = [key_of(*pair) for pair in changed]
    assert not cache.read(keys) and len(set(keys)) == len(keys)


def test_every_field_is_either_in_the_key_or_known_not_to_matter():
    assert {field.name for field in dataclasses.fields(Request)} == REQUEST_CHANGES.keys() | {"id"}
    assert {field.name for field in dataclasses.fields(Settings)} == SETTINGS_CHANGES.keys() | NOT_IN_THE_KEY
    same = dataclasses.replace(SETTINGS, concurrency=3, requests_per_minute=5, price_input=1.0, timeout_seconds=1.0, attempts=2)
    assert key_of(dataclasses.replace(REQUEST, id="8"), same) == key_of(REQUEST, SETTINGS)


def test_the_parts_of_a_key_by_name():
    parts = key_parts(REQUEST, SETTINGS)
    wanted = {"provider", "model", "parameters", "system", "template", "shots", "labels", "text", "schema"}
    assert wanted <= parts.keys() and parts["system"] == ["label it"]


def test_an_answer_comes_back_as_it_went(tmp_path):
    cache = Cache(tmp_path / "deep" / "answers.sqlite")
    given = Answer("7", "Wörld \ud800", "cut", "", Usage(10, 4, 3), 0.5, False, 2, 1.5, "gpt-dated", '[["a",[]]]')
    cache.put("k", REQUEST, SETTINGS, given, run="r")
    (back,) = cache.read(["k", "other"]).values()
    assert back == dataclasses.replace(given, id="", text="Wörld ?", cached=True, attempts=0)
    cache.put("k", REQUEST, SETTINGS, dataclasses.replace(given, text="another"))
    assert cache.read(["k"])["k"].text == "Wörld ?"  # the first stays
    cache.lost(SETTINGS, "time-out", 0.25, "r")
    assert cache.spent() == cache.spent("r") == 0.75 and cache.spent("s") == 0


def test_claims(tmp_path):
    cache, mine, other = Cache(tmp_path / "a.sqlite"), new_owner(), new_owner()
    assert cache.claim("k", mine, 60) is True and cache.claim("k", mine, 60) is True
    assert cache.claim("k", other, 60) is False
    cache.release(mine, "k")
    assert cache.claim("k", other, 60) is True
    end_owner(other)  # its process, or its asking, is gone
    assert cache.claim("k", mine, -1) is True
    assert cache.claim("k", new_owner(), 60) is True  # the time was over
    cache.put("k", REQUEST, SETTINGS, Answer("", "x"))
    assert cache.claim("k", mine, 60).text == "x"


def test_a_claim_of_a_dead_process_is_void(tmp_path):
    pid = os.fork()
    if pid == 0:
        Cache(tmp_path / "a.sqlite").claim("k", new_owner(), 1000)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert Cache(tmp_path / "a.sqlite").claim("k", new_owner(), 60) is True


def test_threads_write_side_by_side(tmp_path):
    cache = Cache(tmp_path / "a.sqlite")

    def write(start: int) -> None:
        for i in range(start, start + 50):
            cache.put(str(i), REQUEST, SETTINGS, Answer("", str(i)))

    threads = [threading.Thread(target=write, args=(50 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 400 and cache.read(["399"])["399"].text == "399"


def test_export_and_load(tmp_path):
    one, two = Cache(tmp_path / "one.sqlite"), Cache(tmp_path / "two.sqlite")
    for i, settings in enumerate((SETTINGS, Settings("gemini", "g"), SETTINGS)):
        one.put(
            f"k{i}", dataclasses.replace(REQUEST, id=str(i)), settings, Answer("", f"a\u2028{i}", usage=Usage(1, 0, 1), cost=0.5)
        )
    assert one.export(tmp_path / "all.jsonl") == 3 and one.export(tmp_path / "g.jsonl", model="g") == 1
    assert two.load(tmp_path / "all.jsonl") == 3 and two.load(tmp_path / "g.jsonl") == 0
    assert two.read(["k0", "k1", "k2"]) == one.read(["k0", "k1", "k2"])
    lines = (tmp_path / "all.jsonl").read_text().split("\n")
    assert json.loads(lines[0])["answer"] == "a\u2028" + "0"


def test_a_load_that_contradicts_or_is_cut_off_adds_nothing(tmp_path):
    one = Cache(tmp_path / "one.sqlite")
    for key in "ab":
        one.put(key, REQUEST, SETTINGS, Answer("", "right"))
    one.export(tmp_path / "out.jsonl")
    whole = (tmp_path / "out.jsonl").read_text()
    two = Cache(tmp_path / "two.sqlite")
    (tmp_path / "out.jsonl").write_text(whole[:-30])
    with pytest.raises(CacheError, match="line 2 is no JSON"):
        two.load(tmp_path / "out.jsonl")
    (tmp_path / "out.jsonl").write_text(whole.replace('"sample": 0', '"sample": "x"'))
    with pytest.raises(CacheError, match="line 1: field 'sample'"):
        two.load(tmp_path / "out.jsonl")
    (tmp_path / "out.jsonl").write_text(whole)
    two.put("b", REQUEST, SETTINGS, Answer("", "wrong"))
    with pytest.raises(CacheError, match=r"line 2.*'right'.*'wrong'"):
        two.load(tmp_path / "out.jsonl")
    assert len(two) == 1


def test_files_that_are_no_cache_are_told(tmp_path):
    (tmp_path / "text.sqlite").write_text("hello " * 1000)
    with pytest.raises(CacheError, match=r"text\.sqlite"):
        Cache(tmp_path / "text.sqlite")
    database = sqlite3.connect(tmp_path / "new.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(CacheError, match="version 99"):
        Cache(tmp_path / "new.sqlite")


def test_kill_9_loses_what_is_in_flight_and_no_more(tmp_path):
    in_flight, kills = 4, 6
    sdk()  # loaded once, before the processes part
    with Server(faults=Faults(delay=(0.005, 0.02), seed=5)) as server:
        for kill in range(kills):
            pid = os.fork()
            if pid == 0:
                try:
                    ask(questions(3000), settings_for(server.url, concurrency=in_flight), Cache(tmp_path / "a.sqlite"), **QUIET)
                finally:
                    os._exit(1)
            wanted = sum(server.paid.values()) + 15 + 7 * kill
            while sum(server.paid.values()) < wanted:
                time.sleep(0.001)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            held = {row["id"] for row in Cache(tmp_path / "a.sqlite").rows()}
            paid = {words.split()[-2] for words in server.paid}
            assert held <= paid and len(paid - held) <= in_flight
        twice = sum(server.paid.values()) - len(server.paid)
        assert twice <= in_flight * kills

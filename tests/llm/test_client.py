"""The client against a real server on loopback that misbehaves: nothing lost, nothing paid twice, limits and budget kept."""

import asyncio
import multiprocessing
import threading
import time

import pytest

from tests.llm.asking import TASK, questions, settings_for, silent
from tests.llm.server import Faults, Server, completion, echo_label
from textfuse_jax.llm import prompts
from textfuse_jax.llm.budget import run_of
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.client import Budget, ask, ask_async, ask_many, dry_run
from textfuse_jax.llm.providers import ProviderError, Settings
from textfuse_jax.llm.types import Report

QUIET = {"progress": False, "say": silent}
THIRTY = Faults(rate_limited=0.1, server_error=0.1, hang=0.02, cut=0.04, malformed=0.04, retry_after=0.05)


@pytest.fixture
def cache(tmp_path):
    with Cache(tmp_path / "answers.sqlite") as held:
        yield held


def numbered(body: dict) -> str:
    """An answer that tells which text it is of."""
    return body["messages"][-1]["content"].split()[-2]


def test_thirty_percent_faults_lose_nothing_and_pay_nothing_twice(cache):
    asked = questions(300)
    with Server(numbered, THIRTY) as server:
        answers = ask(asked, settings_for(server.url, timeout_seconds=1.0), cache, **QUIET)
        assert [a.text for a in answers] == [str(i) for i in range(300)]  # every one, in order
        assert [a.id for a in answers] == [r.id for r in asked]
        assert len(server.paid) == 300 and set(server.paid.values()) == {1}
        assert sum(server.kinds.values()) == sum(a.attempts for a in answers) == server.calls
        assert all(server.kinds[kind] > 0 for kind in ("rate_limited", "server_error", "hang", "cut", "malformed"))
        assert server.most_at_once <= 16 + server.kinds["hang"]  # a hung call is given up before the server notices
        before = server.calls
        again = ask(asked, settings_for(server.url), cache, **QUIET)
        assert server.calls == before
        assert [a.text for a in again] == [a.text for a in answers] and all(a.cached and a.attempts == 0 for a in again)


def test_concurrency_is_kept_and_used(cache):
    with Server(faults=Faults(delay=(0.05, 0.05))) as server:
        ask(questions(40), settings_for(server.url, concurrency=5), cache, **QUIET)
        assert server.most_at_once == 5


def test_requests_a_minute_are_kept(cache):
    with Server() as server:
        begun = time.monotonic()
        ask(questions(40), settings_for(server.url, requests_per_minute=600), cache, **QUIET)
        took = time.monotonic() - begun
        assert server.busiest(1.0) <= 10 + 6 + 2  # 1 % of the limit may go at once, one on each end of the window
        assert took > (40 - 7) / 10 * 0.95  # a floor, however slow the machine


def test_the_limits_hold_for_single_questions_and_for_threads_alike(tmp_path):
    """Each question a call of ``ask`` of its own, as a service asks them."""
    with Server() as server:
        settings = settings_for(server.url, requests_per_minute=600)

        def work(first: int) -> None:
            with Cache(tmp_path / "answers.sqlite") as held:
                for i in range(first, first + 20):
                    ask(questions(1, start=i), settings, held, **QUIET)

        begun = time.monotonic()
        threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - begun
        assert server.calls == 40 and server.busiest(1.0) <= 10 + 6 + 2
        assert took > (40 - 7) / 10 * 0.95


def test_tokens_a_minute_are_kept(cache):
    with Server() as server:  # an answer uses about 50 tokens, 6,000 a minute are 2 answers a second
        begun = time.monotonic()
        ask(questions(8), settings_for(server.url, tokens_per_minute=6000, max_output_tokens=8), cache, **QUIET)
        assert time.monotonic() - begun > 1.5


def test_retry_after_is_honoured(cache):
    with Server(faults=Faults(rate_limited=0.5, retry_after=0.7, seed=3)) as server:
        ask(questions(1), settings_for(server.url), cache, **QUIET)
        waits = [b - a for a, b in zip(server.arrivals, server.arrivals[1:])]
        assert waits and min(waits) >= 0.7


def test_equal_requests_are_one_call_in_a_list_in_threads_and_in_processes(tmp_path):
    with Server(faults=Faults(delay=(0.2, 0.2))) as server:
        path, same = tmp_path / "answers.sqlite", questions(1)
        answers = ask(same * 64, settings_for(server.url), Cache(path), **QUIET)
        assert server.calls == 1 and len(answers) == 64 and len({a.text for a in answers}) == 1
        assert Report.of(answers).calls == 1

        cache, other, results = Cache(path), questions(1, start=1), []
        work = lambda: results.extend(ask(other, settings_for(server.url), cache, **QUIET))  # noqa: E731
        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.calls == 2 and len(results) == 16 and sum(a.attempts for a in results) == 1

        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            counts = pool.starmap(_ask_in_process, [(str(path), server.url, 2)] * 4)
        assert server.calls == 3 and sum(counts) == 1


def _ask_in_process(path: str, url: str, start: int) -> int:
    return sum(a.attempts for a in ask(questions(1, start), settings_for(url), Cache(path), **QUIET))


def test_sixty_four_identical_asks_at_once_are_one_call(cache):
    async def together(url):
        return await asyncio.gather(*(ask_async(questions(1), settings_for(url), cache, **QUIET) for _ in range(64)))

    with Server(faults=Faults(delay=(0.3, 0.3))) as server:
        results = asyncio.run(together(server.url))
        assert server.calls == 1 and len({answers[0].text for answers in results}) == 1


def test_ask_works_where_a_loop_runs_already(cache):
    async def notebook(url):
        return ask(questions(2), settings_for(url), cache, **QUIET)

    with Server() as server:
        assert len(asyncio.run(notebook(server.url))) == 2


def test_attempts_end_and_the_answer_is_missing(cache):
    with Server(faults=Faults(server_error=1.0)) as server:
        (answer,) = ask(questions(1), settings_for(server.url, attempts=3), cache, **QUIET)
        assert (answer.fault, answer.attempts, server.calls) == ("failed", 3, 3)
        assert "HTTP 50" in answer.detail and len(cache) == 0  # not stored: the next run asks again


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, {"error": {"message": "bad key"}}, "the key is wrong"),
        (402, {"error": {"message": "Insufficient Balance"}}, "no credit"),
        (404, {"error": {"message": "no such model"}}, "no such model"),
        (429, {"error": {"code": "insufficient_quota", "message": "quota"}}, "no credit"),
    ],
)
def test_what_no_retry_mends_stops_at_once_and_keeps_what_was_paid(cache, status, body, told):
    def reply(call):
        return echo_label(call) if int(numbered(call)) < 20 else {"status": status, "body": body}

    with Server(reply) as server:
        with pytest.raises(ProviderError, match=told):
            ask(questions(500), settings_for(server.url, concurrency=4), cache, **QUIET)
        assert server.calls < 40 and len(cache) == sum(server.paid.values()) >= 15


def test_a_request_the_provider_rejects_is_missing_alone(cache):
    def reply(call):
        return {"status": 400, "body": {"error": {"message": "too long"}}} if numbered(call) == "3" else echo_label(call)

    with Server(reply) as server:
        answers = ask(questions(5), settings_for(server.url), cache, **QUIET)
        assert [a.fault for a in answers] == ["", "", "", "rejected", ""] and server.calls == 5


def test_a_text_that_is_no_unicode_is_missing_alone(cache):
    asked = prompts.label(["a", "b"], ["a whole text", "half a pair \ud83d of surrogates"], TASK)
    with Server() as server:
        answers = ask(asked, settings_for(server.url), cache, budget=Budget(1.0), **QUIET)
        assert [a.fault for a in answers] == ["", "rejected"] and server.calls == 1
        assert "surrogates not allowed" in answers[1].detail
        assert Report.of(answers).missing == {"rejected": 1}


def test_refused_cut_and_empty_answers_are_paid_kept_and_missing(cache):
    def reply(call):
        whole = completion("", call)
        choice = whole["choices"][0]
        kind = int(numbered(call))
        if kind == 0:
            choice["message"] = {"role": "assistant", "content": None, "refusal": "I can't"}
        if kind == 1:
            choice["message"]["content"], choice["finish_reason"] = '{"label": "Wor', "length"
        if kind == 2:
            choice["finish_reason"] = "content_filter"
        return whole

    with Server(reply) as server:
        for _ in range(2):
            answers = ask(questions(4), settings_for(server.url), cache, **QUIET)
            assert [a.fault for a in answers] == ["refused", "cut", "refused", "empty"]
        assert server.calls == 4


def test_the_budget_is_never_exceeded_and_keeps_what_was_paid(cache):
    with Server(faults=Faults(hang=0.05, cut=0.05, seed=1)) as server:
        settings = settings_for(server.url, max_output_tokens=8, timeout_seconds=0.3)
        one = ask(questions(1, start=9999), settings, cache, **QUIET)[0].cost
        budget = Budget(60 * one)
        answers = ask(questions(200), settings, cache, budget=budget, **QUIET)
        report = Report.of(answers)
        assert report.missing == {"budget": 200 - report.present} and 20 < report.present <= 60
        assert report.cost <= budget.spent <= budget.limit
        assert len(cache) == report.present + 1
        free = ask(questions(200)[: report.present], settings, cache, budget=budget, **QUIET)
        assert all(a.cached for a in free if a.fault != "budget")


def test_a_budget_counts_what_a_run_paid_before_it_was_interrupted(cache):
    with Server() as server:
        settings = settings_for(server.url, max_output_tokens=8)
        first = Budget(1.0, run="one")
        ask(questions(10), settings, cache, budget=first, **QUIET)
        second = Budget(1.0, run="one")
        ask(questions(1), settings, cache, budget=second, **QUIET)
        assert second.spent == pytest.approx(first.spent) and first.spent > 0
        third = Budget(1.0, run="another")
        ask(questions(1), settings, cache, budget=third, **QUIET)
        assert third.spent == 0


def test_a_runs_budget_is_the_same_however_its_folder_is_typed(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Server() as server:
        first = Budget(1.0, run=run_of("runs/mine"))
        ask(questions(3), settings_for(server.url), cache, budget=first, **QUIET)
        for typed in (tmp_path / "runs" / "mine", "./runs/../runs/mine/"):
            later = Budget(1.0, run=run_of(typed))
            later.open(cache)
            assert later.spent == pytest.approx(first.spent) and later.spent > 0
    assert run_of(None) == ""


def test_a_budget_without_prices_is_refused_before_anything_is_sent(cache):
    with Server() as server, pytest.raises(ProviderError, match="price_input"):
        ask(questions(1), settings_for(server.url, price_output=-1.0), cache, budget=Budget(1.0), **QUIET)
    assert server.calls == 0


def test_costs_are_tokens_times_prices(cache):
    def reply(call):
        usage = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 400}}
        return completion("x", call) | {"usage": usage}

    with Server(reply) as server:
        priced = settings_for(server.url, price_input=2.0, price_cached_input=0.5, price_output=8.0)
        (answer,) = ask(questions(1), priced, cache, **QUIET)
        assert answer.cost == pytest.approx((600 * 2.0 + 400 * 0.5 + 10 * 8.0) / 1e6)
        (unpriced,) = ask(questions(1, start=1), settings_for(server.url, price_input=-1.0), cache, **QUIET)
        assert unpriced.cost is None


def test_several_models_side_by_side(cache):
    with Server(lambda body: body["model"]) as server:
        fields = {"base_url": server.url}
        jobs = {name: (questions(5), Settings("compatible", name, **fields)) for name in ("a", "b")}
        answers = ask_many(jobs, cache, **QUIET)
        assert {name: {a.text for a in held} for name, held in answers.items()} == {"a": {"a"}, "b": {"b"}}


def test_one_models_trouble_stops_no_other_and_is_told(cache):
    reply = lambda body: echo_label(body) if body["model"] == "a" else {"status": 401, "body": {}}  # noqa: E731
    with Server(reply) as server:
        jobs = {name: (questions(5), Settings("compatible", name, base_url=server.url)) for name in ("a", "b")}
        with pytest.raises(ProviderError, match="compatible/b"):
            ask_many(jobs, cache, **QUIET)
        assert len(cache) == 5


def test_free_text_goes_through_the_same_client(cache):
    asked = prompts.rewrite(["1", "2"], ["omg he did it", "no way"], template="paraphrase/1")
    with Server() as server:
        answers = ask(asked, settings_for(server.url), cache, **QUIET)
        assert [a.text for a in answers] == ["</post> it did he omg <post> Post:", "</post> way no <post> Post:"]
        assert "response_format" not in server.bodies[0]


def test_a_model_that_changed_under_the_cache_is_told(cache):
    names = iter(["model-jan", "model-feb"])
    lines: list[str] = []
    with Server(lambda body: completion("x", body) | {"model": next(names)}) as server:
        for start in (0, 1):
            ask(questions(start + 1), settings_for(server.url), cache, progress=False, say=lines.append)
    assert "model-feb (1), model-jan (1)" in lines[-1] and lines[-1].startswith("warning")


def test_the_body_of_a_call(cache):
    with Server() as server:
        full = Settings("openai", "m", base_url=server.url, key_variable="K", extra='{"top_p":0.5}', temperature=0.3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("K", "a-key")
            ask(questions(1), full, cache, **QUIET)
        (body,) = server.bodies
        assert server.keys == {"Bearer a-key"}
        assert (body["temperature"], body["top_p"], body["max_completion_tokens"]) == (0.3, 0.5, 256)
        assert (body["logprobs"], body["top_logprobs"]) == (True, 10)
        schema = body["response_format"]["json_schema"]
        assert schema["strict"] and schema["schema"]["properties"]["label"]["enum"] == list(TASK.class_names)
        assert set(schema["schema"]["required"]) == {"label", "confidence"}


def test_a_dry_run_counts_and_sends_nothing(cache):
    with Server() as server:
        settings = settings_for(server.url, requests_per_minute=60, max_output_tokens=10)
        estimate = dry_run(questions(100), settings, cache)
        assert server.calls == 0
        assert (estimate.requests, estimate.cached, estimate.calls, estimate.output_tokens) == (100, 0, 100, 1000)
        assert estimate.cost == pytest.approx((estimate.input_tokens + 2000) / 1e6) and estimate.seconds == 100
        ask(questions(20), settings_for(server.url, max_output_tokens=10), cache, **QUIET)
        later = dry_run(questions(100) + questions(10), settings, cache)
        assert (later.requests, later.cached, later.calls) == (110, 30, 80)
        assert later.output_tokens == 4 * 80 and "20 earlier answers" in later.basis  # the server counts words
        assert "80 calls" in str(later)
    assert dry_run(questions(1), Settings("replay", "m"), cache).cost == 0


def test_missing_key_and_missing_sdk_are_told(cache, monkeypatch):
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    with pytest.raises(ProviderError, match="DEEPSEEK_API_KEY"):
        ask(questions(1), Settings("deepseek", "deepseek-chat"), cache, **QUIET)
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ProviderError, match="pip install openai"):
        ask(questions(1), settings_for("http://127.0.0.1:1/v1"), cache, **QUIET)


def test_a_server_that_isnt_there_is_a_fault_of_every_request(cache):
    (answer,) = ask(questions(1), settings_for("http://127.0.0.1:9/v1", attempts=2), cache, **QUIET)
    assert answer.fault == "failed" and "connection" in answer.detail
    assert cache.spent() == 0  # nothing was sent, nothing can have been paid

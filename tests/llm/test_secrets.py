"""An API key shows up in nothing that is written, logged or raised, whatever a provider repeats."""

import logging
import traceback

import pytest

from tests.llm.asking import questions, silent
from tests.llm.server import Faults, Server, completion
from textfuse_jax.config import ConfigDict, default_config
from textfuse_jax.config_checks import validate
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.client import ask
from textfuse_jax.llm.providers import ProviderError, Secret, Settings

CANARY = "sk-canary-5b1f6e0c9d"


def everything_in(folder) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.setenv("CANARY_KEY", CANARY)
    return lambda url, **more: Settings(
        "compatible", "m", base_url=url, key_variable="CANARY_KEY", backoff_seconds=0.02, timeout_seconds=1.0, **more
    )


def test_a_canary_key_is_in_no_log_cache_export_report_or_exception(tmp_path, settings, caplog, capfd):
    caplog.set_level(logging.DEBUG)  # everything that the SDK and its HTTP library would say
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    lines: list[str] = []

    def repeats_the_key(body):
        number = int(body["messages"][-1]["content"].split()[-2])
        told = {"error": {"message": f"the header was Bearer {CANARY}", "code": CANARY}}
        if number % 3 == 0:
            return {"status": 400, "body": told}
        if number % 3 == 1:
            return {"status": 500, "body": told}
        return completion(f"your key is {CANARY}", body) | {"model": f"m-{CANARY}"}

    with Server(repeats_the_key, Faults(cut=0.1, malformed=0.1)) as server:
        cache = Cache(tmp_path / "answers.sqlite")
        answers = ask(questions(30), settings(server.url, attempts=3), cache, progress=True, say=lines.append)
        assert f"Bearer {CANARY}" in server.keys  # it was sent where it belongs
    cache.export(tmp_path / "answers.jsonl")
    cache.close()
    assert any("***" in answer.text for answer in answers) and any("***" in answer.detail for answer in answers)
    assert caplog.text  # the loggers did speak
    shown = repr(answers) + "".join(lines) + caplog.text + "".join(capfd.readouterr())
    assert CANARY not in shown
    assert CANARY.encode() not in everything_in(tmp_path)


def test_no_exception_and_no_traceback_holds_it(tmp_path, settings):
    refuse = lambda body: {"status": 401, "body": {"error": {"message": f"Incorrect API key: {CANARY}"}}}  # noqa: E731
    with Server(refuse) as server, pytest.raises(ProviderError) as caught:
        ask(questions(3), settings(server.url), Cache(tmp_path / "a.sqlite"), progress=False, say=silent)
    error: BaseException | None = caught.value
    while error is not None:  # causes and contexts are printed too
        whole = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert CANARY not in "".join(whole.format())
        error = error.__cause__ or error.__context__


def test_a_key_that_breaks_the_header_isnt_shown(tmp_path, monkeypatch, settings):
    monkeypatch.setenv("CANARY_KEY", f"{CANARY}\nmore")
    with pytest.raises(ProviderError, match="CANARY_KEY holds no API key") as caught:
        ask(questions(1), settings("http://127.0.0.1:9/v1"), Cache(tmp_path / "a.sqlite"), progress=False, say=silent)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_secret_shows_nothing():
    secret = Secret(CANARY)
    assert CANARY not in f"{secret!r} {secret} {vars(secret).keys()}" and secret.scrub(f"a {CANARY} b") == "a *** b"


def test_the_config_holds_the_variables_name_alone(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    config = default_config()
    config.llm.members.gpt = ConfigDict({"provider": "openai", "model": "m", "key_variable": "OPENAI_API_KEY"})
    validate(config)
    assert CANARY not in config.to_json_best_effort()

"""Phase 3 from end to end: selected posts rewritten over HTTP by a server that misbehaves; killed, gone on with."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from configs import rumor_pheme
from tests.data.test_cascade_rows import made
from tests.launching import ROOT
from tests.llm.server import Faults, Server
from textfuse_jax.config import ConfigError, validate
from textfuse_jax.data.corpus import DataError
from textfuse_jax.training.augmentation import post_names, rewrite

CASCADES = made([3, 1, 8, 20, 9])
SELECTED = np.arange(len(CASCADES.texts)) % 3 == 0
ROUGH = Faults(rate_limited=0.1, server_error=0.1, cut=0.06, malformed=0.06, retry_after=0.05, delay=(0.01, 0.05))


def config_of(server, folder, **llm):
    """The fused config with this server as its provider."""
    config = rumor_pheme.get_config("fused")
    config.cascades.augmentation.source = "provider"
    fields = dict(provider="compatible", model="m", base_url=server.url, cache=str(folder / "llm.sqlite"), concurrency=4)
    config.llm.update(fields | dict(timeout_seconds=5.0, backoff_seconds=0.05, price_input=1.0, price_output=1.0) | llm)
    validate(config)
    return config


def quiet(_):
    pass


def test_every_selected_post_is_rewritten_once_by_a_rough_server(tmp_path):
    with Server(faults=ROUGH) as server:
        found = rewrite(config_of(server, tmp_path), CASCADES, SELECTED, quiet)
        calls = server.calls
        again = rewrite(config_of(server, tmp_path), CASCADES, SELECTED, quiet)
        assert server.calls == calls and again.texts == found.texts  # all from the cache
    np.testing.assert_array_equal(found.posts, np.flatnonzero(SELECTED))
    for post, text in zip(found.posts, found.texts):
        assert set(CASCADES.texts[post].split()) <= set(text.split())  # the server turns the words around
    assert set(server.paid.values()) == {1} and len(server.paid) == SELECTED.sum() and calls > SELECTED.sum()
    assert found.facts["source"].startswith("llm ") and not found.facts["missing"] and found.facts["calls"] == calls
    assert again.facts["from_cache"] == SELECTED.sum() and again.facts["calls"] == 0


def test_what_stays_refused_counts_as_not_selected_and_is_told(tmp_path):
    said = []
    with Server(reply=lambda body: "" if "post 6" in body["messages"][-1]["content"] else "rewritten") as server:
        found = rewrite(config_of(server, tmp_path, attempts=2), CASCADES, SELECTED, said.append)
    lost = {i for i in np.flatnonzero(SELECTED) if "post 6" in CASCADES.texts[i]}
    assert lost and set(found.posts) == set(np.flatnonzero(SELECTED)) - lost
    assert sum(found.facts["missing"].values()) == len(lost) and any("no rewritten text" in line for line in said)


def test_context_shows_the_post_replied_to(tmp_path):
    with Server(reply=lambda body: body["messages"][-1]["content"]) as server:
        config = config_of(server, tmp_path)
        config.cascades.augmentation.template = "context/1"
        found = rewrite(config, CASCADES, SELECTED, quiet)
    start = np.repeat(CASCADES.bounds[:-1], CASCADES.sizes)
    for post, text in zip(found.posts.tolist(), found.texts):
        if CASCADES.parent[post] >= 0:
            assert CASCADES.texts[start[post] + CASCADES.parent[post]] in text


def test_without_an_llm_a_post_is_itself_or_stands_behind_what_it_replies_to(tmp_path):
    config = rumor_pheme.get_config("fused")
    original = rewrite(config, CASCADES, SELECTED, quiet)
    assert original.texts == [CASCADES.texts[i] for i in np.flatnonzero(SELECTED)]
    config.cascades.augmentation.source = "parent"
    found = rewrite(config, CASCADES, SELECTED, quiet)
    start = np.repeat(CASCADES.bounds[:-1], CASCADES.sizes)
    for post, text in zip(found.posts.tolist(), found.texts):
        above = CASCADES.parent[post]
        before = "" if above < 0 else CASCADES.texts[start[post] + above] + " "
        assert text == before + CASCADES.texts[post]
    assert "no LLM" in found.facts["source"]


def test_what_a_run_spent_before_counts_to_its_budget(tmp_path):
    """Of one run, killed or not, all processes together stay below the budget; another run has its own."""
    everything, fewer = np.ones(len(CASCADES.texts), bool), SELECTED
    with Server() as server:
        dear = dict(price_input=1000.0, price_output=1000.0, max_output_tokens=20, budget=1.0)
        first = rewrite(config_of(server, tmp_path, **dear), CASCADES, fewer, quiet, run="one")
        left = 1.0 - first.facts["cost"]
        second = rewrite(config_of(server, tmp_path, **dear), CASCADES, everything, quiet, run="one")
        assert 0 < first.facts["cost"] < 1 and second.facts["cost"] <= left and second.facts["missing"]
        other = rewrite(config_of(server, tmp_path, **dear), CASCADES, everything, quiet, run="other")
        assert other.facts["calls"] > 0


RUN = """
import json, sys
import numpy as np
from tests.training.test_augmentation import CASCADES, Place, config_of, quiet
from textfuse_jax.training.augmentation import rewrite
import pathlib
everything = np.ones(len(CASCADES.texts), bool)
found = rewrite(config_of(Place(sys.argv[1]), pathlib.Path(sys.argv[2])), CASCADES, everything, quiet)
print(json.dumps(found.facts))
"""


@dataclasses.dataclass
class Place:
    """Where a server is."""

    url: str


def test_kill_9_and_a_second_start_makes_only_the_missing_calls(tmp_path):
    with Server(faults=Faults(delay=(0.1, 0.15))) as server:
        command = [sys.executable, "-c", RUN, server.url, str(tmp_path)]
        first = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"XLA_FLAGS": ""})
        while sum(server.paid.values()) < 15:
            assert first.poll() is None
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        time.sleep(0.4)
        before = sum(server.paid.values())
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"XLA_FLAGS": ""}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    facts, posts = json.loads(done.stdout.splitlines()[-1]), len(CASCADES.texts)
    assert len(server.paid) == posts and not facts["missing"]
    in_flight = 4
    assert before - in_flight <= facts["from_cache"] <= before and facts["calls"] == posts - facts["from_cache"]
    assert sum(server.paid.values()) <= posts + in_flight  # what was on its way when the process died, and no more


def test_a_file_of_rewritten_posts_and_none_of_any_kind(tmp_path):
    config = rumor_pheme.get_config("fused")
    config.cascades.augmentation.source = "file"
    names = post_names(CASCADES)
    chosen = np.flatnonzero(SELECTED)
    path = tmp_path / "rewritten.jsonl"
    path.write_text("".join(json.dumps({"id": names[i], "text": f"told anew {i}"}) + "\n" for i in chosen[:-2]))
    config.cascades.augmentation.path = str(path)
    found = rewrite(config, CASCADES, SELECTED, quiet)
    assert found.texts == [f"told anew {i}" for i in chosen[:-2]] and found.facts["missing"] == {"absent": 2}
    path.write_text(json.dumps({"id": "x/0", "text": "y"}) + "\n")
    with pytest.raises(DataError, match=r'holds none of the 14 selected posts; its ids must read "CASCADE/POST", e.g. \'0/0\''):
        rewrite(config, CASCADES, SELECTED, quiet)
    config.cascades.augmentation.source = "original"
    assert rewrite(config, CASCADES, SELECTED, quiet).facts["source"] == "original (no LLM)"
    config.cascades.augmentation.source = ""
    with pytest.raises(ConfigError, match=r"no source of rewritten texts: .*provider .*file .*original"):
        rewrite(config, CASCADES, SELECTED, quiet)
    with pytest.raises(ConfigError, match=r"config\.cascades\.augmentation\.source must be provider"):
        validate(config)

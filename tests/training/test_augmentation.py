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
from textfuse_jax.config_checks import ConfigError, validate
from textfuse_jax.data.cascade_cut import first_posts
from textfuse_jax.data.corpus import DataError
from textfuse_jax.llm.budget import DryRun
from textfuse_jax.llm.prompts import Template
from textfuse_jax.training.augmentation import conversation, post_names, rewrite

CASCADES = made([3, 1, 8, 20, 9])
SELECTED = np.arange(len(CASCADES.texts)) % 3 == 0
ROUGH = Faults(rate_limited=0.1, server_error=0.1, cut=0.06, malformed=0.06, retry_after=0.05, delay=(0.01, 0.05))


MINE = Template("mine/1", "Rewrite the post.", "Before:\n${context}\n\nPost: $text")


def config_of(server, folder, augmentation=(), **llm):
    """The fused config with this server as its provider."""
    config = rumor_pheme.get_config("fused")
    config.cascades.augmentation.source = "provider"
    config.cascades.augmentation.update(dict(augmentation))
    fields = dict(provider="compatible", model="m", base_url=server.url, cache=str(folder / "llm.sqlite"), concurrency=4)
    config.llm.update(fields | dict(timeout_seconds=5.0, backoff_seconds=0.05, price_input=1.0, price_output=1.0) | llm)
    validate(config)
    return config


def quiet(_):
    pass


def test_every_selected_post_is_rewritten_once_by_a_rough_server(tmp_path):
    said = []
    with Server(faults=ROUGH) as server:
        found = rewrite(config_of(server, tmp_path), CASCADES, SELECTED, said.append)
        calls = server.calls
        again = rewrite(config_of(server, tmp_path), CASCADES, SELECTED, quiet)
        assert server.calls == calls and again.texts == found.texts  # all from the cache
    np.testing.assert_array_equal(found.posts, np.flatnonzero(SELECTED))
    for post, text in zip(found.posts, found.texts):
        assert set(CASCADES.texts[post].split()) <= set(text.split())  # the server turns the words around
    assert set(server.paid.values()) == {1} and len(server.paid) == SELECTED.sum() and calls > SELECTED.sum()
    (estimate,) = (line for line in said if "will be asked" in line)
    assert said.index(estimate) == 0 and "14 requests: 0 from the cache, 14 calls; about" in estimate
    assert found.facts["source"].startswith("llm ") and not found.facts["missing"] and found.facts["calls"] == calls
    assert again.facts["from_cache"] == SELECTED.sum() and again.facts["calls"] == 0


def test_what_stays_refused_counts_as_not_selected_and_is_told(tmp_path):
    said = []
    with Server(reply=lambda body: "" if "post 6" in body["messages"][-1]["content"] else "rewritten") as server:
        found = rewrite(config_of(server, tmp_path, attempts=2), CASCADES, SELECTED, said.append)
    lost = {i for i in np.flatnonzero(SELECTED) if "post 6" in CASCADES.texts[i]}
    assert lost and set(found.posts) == set(np.flatnonzero(SELECTED)) - lost
    assert sum(found.facts["missing"].values()) == len(lost) and any("no rewritten text" in line for line in said)


def test_a_run_stops_where_too_few_or_none_got_a_text_and_goes_on_where_it_stopped(tmp_path):
    well = {"post 0", "post 3", "post 9"}
    some = lambda body: "told anew" if body["messages"][-1]["content"].split("\n")[2] in well else ""  # noqa: E731
    with Server(reply=some) as server:
        told = r"11 of 14 selected posts, '2/2' the first, have no .*'empty': 11.*least_share = 0\.9 of them must; for budget"
        with pytest.raises(ConfigError, match=told):
            rewrite(config_of(server, tmp_path, attempts=1), CASCADES, SELECTED, quiet)
        few = config_of(server, tmp_path, {"least_share": 0.2}, attempts=1)
        assert len(rewrite(few, CASCADES, SELECTED, quiet).posts) == 3  # 3 of 14 are enough
        with pytest.raises(ConfigError, match=r"least_share = 0\.22"):
            rewrite(config_of(server, tmp_path, {"least_share": 0.22}, attempts=1), CASCADES, SELECTED, quiet)
    with Server(reply=lambda body: {"status": 503, "body": {}}) as server:
        with pytest.raises(ConfigError, match=r"14 of 14 selected posts, '0/0' the first, .*'failed': 14"):
            rewrite(config_of(server, tmp_path, {"least_share": 0.0}, attempts=1), CASCADES, SELECTED, quiet)  # none is too few
        none = np.zeros(len(CASCADES.texts), bool)
        assert not len(rewrite(config_of(server, tmp_path), CASCADES, none, quiet).posts)  # none was asked for


def test_what_a_budget_cut_off_is_asked_by_the_next_start_alone(tmp_path):
    dear = dict(price_input=1000.0, price_output=1000.0, max_output_tokens=20)
    with Server() as server:
        with pytest.raises(ConfigError, match=r"'budget': \d+.*config\.llm\.budget.*answers that came are kept"):
            rewrite(config_of(server, tmp_path, budget=1.0, **dear), CASCADES, SELECTED, quiet, run="one")
        paid = sum(server.paid.values())
        found = rewrite(config_of(server, tmp_path, budget=100.0, **dear), CASCADES, SELECTED, quiet, run="one")
        assert 0 < paid < SELECTED.sum() == sum(server.paid.values()) == len(found.posts) and found.facts["from_cache"] == paid


def test_a_dry_run_says_what_it_would_take_and_sends_nothing(tmp_path):
    said = []
    with Server() as server:
        with pytest.raises(DryRun, match="nothing was sent"):
            rewrite(config_of(server, tmp_path, dry_run=True), CASCADES, SELECTED, said.append)
        assert server.calls == 0
    (line,) = said
    assert "compatible/m will be asked to rewrite the selected posts: 14 requests: 0 from the cache, 14 calls" in line
    config = rumor_pheme.get_config("fused")
    config.llm.dry_run = True
    with pytest.raises(ConfigError, match=r'dry_run must be False without .*augmentation\.source="provider"'):
        validate(config)  # "original" asks nobody


@pytest.mark.parametrize("template", ["context/1", f"{__name__}:MINE"])
def test_context_shows_the_way_from_the_source_to_the_post_replied_to(tmp_path, template):
    """Post 4 replies to 2, 2 to 1, 1 to the source; post 3 is its brother; post 5 replies to one without text."""
    cascades = made([1, 6])
    cascades.parent[1:] = [-1, 0, 1, 2, 2, 3]
    cascades.texts[1:] = ["source", "first", "second", "", "fourth", "fifth"]
    with Server(reply=lambda body: body["messages"][-1]["content"]) as server:
        config = config_of(server, tmp_path, {"template": template})
        found = rewrite(config, cascades, np.array([False, True, False, False, False, True, True]), quiet)
    assert "(none: the post is the first)" in found.texts[0]
    assert "\nsource\nfirst\nsecond\n" in found.texts[1] and "fourth" in found.texts[1] and "fifth" not in found.texts[1]
    assert "\nsource\nfirst\nsecond\n" in found.texts[2] and "\n\n\n" not in found.texts[2]


def test_a_long_way_up_is_shown_by_its_ends():
    chain = made([30])
    chain.parent[:] = np.arange(30) - 1
    assert conversation(chain, 21, 0).split("\n") == [f"post {i}" for i in range(21)]  # 20 between
    assert conversation(chain, 22, 0).split("\n") == ["post 0", "...", *(f"post {i}" for i in range(2, 22))]


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("expand/2", "no template 'expand/2'; there are"),
        ("zero_shot/1", r"'zero_shot/1' doesn't rewrite: .*got \$labels, \$form, \$text; there are expand/1"),
        ("few_shot/1", "'few_shot/1' doesn't rewrite"),
        ("textfuse_jax.llm.prompts:ONE", r"must be a textfuse_jax\.llm\.prompts\.Template"),
    ],
)
def test_a_template_that_cant_rewrite_is_told_before_anything_is_read(template, told):
    config = rumor_pheme.get_config("fused")
    config.cascades.augmentation.template = template
    with pytest.raises(ConfigError, match=rf"config\.cascades\.augmentation\.template: .*{told}"):
        validate(config)


def test_posts_keep_their_names_when_cascades_are_cut(tmp_path):
    """Of five posts at minutes 0, 9, 1, 5, 2 the first three in time are 0, 2 and 4 of the user's file."""
    whole = made([2, 5])
    whole.minutes[2:] = [0, 9, 1, 5, 2]
    cut = first_posts(whole, 3).renumbered()
    assert post_names(cut) == ["0/0", "0/1", "1/0", "1/2", "1/4"] and cut.texts[-1] == "post 6"
    assert post_names(cut.take([1])) == ["1/0", "1/2", "1/4"]
    path = tmp_path / "rewritten.jsonl"
    path.write_text("".join(json.dumps({"id": f"1/{j}", "text": f"anew {j}"}) + "\n" for j in range(5)))
    config, said = rumor_pheme.get_config("fused"), []
    config.cascades.augmentation.update(dict(source="file", path=str(path)))
    found = rewrite(config, cut, np.array([False, False, False, True, True]), said.append)
    assert found.texts == ["anew 2", "anew 4"] and found.facts["unmatched"] == 2
    assert said == ["warning: rewritten.jsonl: 2 of 5 ids, e.g. '1/1', are of no post that is left of these cascades; ids read "
                    "\"CASCADE/POST\", e.g. '0/0'"]  # fmt: skip
    path.write_text('{"id": "1/2", "text": "a"}\n{"id": "1/4", "text": "b"}\n{"id": "1/2", "text": "c"}\n')
    with pytest.raises(DataError, match=r"rewritten.jsonl, row 3, column 'id': '1/2' is that of row 1 too; keep one"):
        rewrite(config, cut, np.array([False, False, False, True, True]), quiet)


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
        dear["augmentation"] = {"least_share": 0.0}
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
    with pytest.raises(ConfigError, match=r"2 of 14 selected posts, '4/4' the first, .* file rewritten.jsonl: {'absent': 2}"):
        rewrite(config, CASCADES, SELECTED, quiet)
    config.cascades.augmentation.least_share, said = 0.8, []
    found = rewrite(config, CASCADES, SELECTED, said.append)
    assert found.texts == [f"told anew {i}" for i in chosen[:-2]] and found.facts["missing"] == {"absent": 2}
    assert len(said) == 1 and "2 of 14" in said[0] and "they count as not selected" in said[0]
    path.write_text(json.dumps({"id": "x/0", "text": "y"}) + "\n")
    with pytest.raises(ConfigError, match=r"14 of 14 selected posts, '0/0' the first, .* with ids \"CASCADE/POST\""):
        rewrite(config, CASCADES, SELECTED, quiet)
    config.cascades.augmentation.source = "original"
    assert rewrite(config, CASCADES, SELECTED, quiet).facts["source"] == "original (no LLM)"
    config.cascades.augmentation.source = ""
    with pytest.raises(ConfigError, match=r"no source of rewritten texts: .*provider .*file .*original"):
        rewrite(config, CASCADES, SELECTED, quiet)
    with pytest.raises(ConfigError, match=r"config\.cascades\.augmentation\.source must be provider"):
        validate(config)

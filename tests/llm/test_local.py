"""The local opinion by hand, and every member's opinion by one function."""

import json

import numpy as np
import pytest

from tests.llm.asking import silent
from tests.llm.server import Server
from textfuse_jax.llm import local
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.opinions import ask_opinion, ask_opinions
from textfuse_jax.llm.prompts import Shot, Task
from textfuse_jax.llm.providers import Settings

TASK = Task(("World", "Sports"), {"Sports": "games"})


def test_zero_shot_scores_by_hand():
    scores = local.zero_shot(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 5.0]]), temperature=0.5)
    e = np.exp([0.6 / 0.5, 0.8 / 0.5])
    np.testing.assert_allclose(scores, [e / e.sum(), [0.5, 0.5]], atol=1e-6)
    several = local.zero_shot(np.array([[3.0, 4.0]]), np.array([[2.0, 0.0], [0.0, 5.0]]), temperature=0.5, multi_label=True)
    np.testing.assert_allclose(several, [[1 / (1 + np.exp(0.2)), 1 / (1 + np.exp(-0.2))]], atol=1e-6)


def test_descriptions_stand_for_classes():
    assert local.class_texts(Task(("Sci/Tech", "joy"), {"joy": "gladness"})) == ["Sci or Tech", "joy: gladness"]


@pytest.mark.parametrize("wrong", [np.ones((2, 3)), np.full((2, 2), np.nan), np.ones(2)])
def test_vectors_that_dont_fit_are_told(wrong):
    with pytest.raises(ValueError, match="vectors must be"):
        local.zero_shot(np.ones((1, 2)), wrong)


def embed(texts) -> np.ndarray:
    return np.array([["war" in text or "World" in text, "goal" in text or "Sports" in text] for text in texts], np.float32) + 0.1


def test_members_of_every_kind_side_by_side(tmp_path):
    (tmp_path / "stored.jsonl").write_text('{"id": "1", "answer": "World"}\n{"id": "2", "answer": {"label": "Sports"}}\n')
    said: list[str] = []
    with Server(lambda body: "Sports" if "goal" in body["messages"][-1]["content"] else "who knows") as server:
        members = {
            "api": Settings("compatible", "m", base_url=server.url),
            "stored": Settings("replay", "old run", replay_path=str(tmp_path / "stored.jsonl")),
            "encoder": Settings("local", "minilm"),
        }
        found = ask_opinions(
            *(members, ["1", "2", "3"], ["a war", "a goal", "a goal again"], TASK, Cache(tmp_path / "a.sqlite")),
            **{"embed": embed, "progress": False, "say": said.append},
        )
    assert list(found) == ["api", "stored", "encoder"]
    assert [o.kind for o in found.values()] == ["llm compatible/m", "replay old run", "local zero-shot, no LLM"]
    assert found["api"].present.tolist() == [False, True, True] and found["api"].missing == {"outside": 1}
    assert found["stored"].present.tolist() == [True, True, False] and found["stored"].missing == {"absent": 1}
    assert found["encoder"].present.all() and found["encoder"].scores.argmax(1).tolist() == [0, 1, 1]
    assert any("api: 2 of 3 documents have an opinion; answers missing: 1 outside" in line for line in said)
    assert found["api"].report.calls == 3 and found["encoder"].report is None


def test_shots_choose_the_few_shot_template(tmp_path):
    with Server(lambda body: json.dumps({"label": "World"})) as server:
        options = {"shots": [[Shot("9", "a match", ("Sports",))]], "progress": False, "say": silent}
        settings = Settings("compatible", "m", base_url=server.url)
        opinion = ask_opinion("m", ["1"], ["a war"], TASK, settings, Cache(tmp_path / "a"), **options)
        assert opinion.present.all() and len(server.bodies[0]["messages"]) == 4


def test_votes_need_a_temperature_and_local_needs_an_encoder(tmp_path):
    cache = Cache(tmp_path / "a.sqlite")
    with pytest.raises(ValueError, match="temperature above 0"):
        ask_opinion("m", ["1"], ["a"], TASK, Settings("compatible", "m", base_url="http://127.0.0.1:9"), cache, samples=3)
    with pytest.raises(ValueError, match="needs embed"):
        ask_opinion("m", ["1"], ["a"], TASK, Settings("local", "m"), cache)
    with Server() as server:
        settings = Settings("compatible", "m", base_url=server.url, temperature=0.7)
        opinion = ask_opinion("m", ["1"], ["a"], TASK, settings, cache, samples=3, how="votes", progress=False, say=silent)
        assert server.calls == 3 and opinion.missing == {"outside": 3}

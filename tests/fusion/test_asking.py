"""The LLM members of a config on loopback: side by side, in the order wanted, by one model each."""

import json

import numpy as np
import pytest

from tests.fusion.material import CLASSES, split
from tests.llm.server import Faults, Server, completion
from textfuse_jax.config import default_config
from textfuse_jax.data.corpus import DataError
from textfuse_jax.fusion.asking import Asker

PART = split("v", 12)


def asker_of(server, tmp_path, models=None, **llm):
    config = default_config()
    fields = {"provider": "compatible", "model": "m", "base_url": server.url, "cache": str(tmp_path / "answers.sqlite")}
    config.llm.update(fields | llm)
    return Asker(config, CLASSES, False, split("r", 30), say=lambda line: None, progress=False, models=models)


def first(body):
    return json.dumps({"label": "a", "confidence": 0.9})


def test_several_models_are_asked_side_by_side(tmp_path):
    with Server(first, Faults(delay=(0.05, 0.05))) as server:
        asker = asker_of(server, tmp_path, members={"one": {"model": "x"}, "two": {"model": "y"}}, concurrency=1)
        found = asker(PART)
        assert [opinion.name for opinion in found] == ["one", "two"] and all(opinion.present.all() for opinion in found)
        assert server.calls == 24 and server.most_at_once == 2
        assert {name: several[0]["calls"] for name, several in asker.reports.items()} == {"one": 12, "two": 12}
        assert asker.models == {"one": "x", "two": "y"}


def test_the_rows_that_are_asked_about_are_asked_in_their_order(tmp_path):
    with Server(first) as server:
        asker = asker_of(server, tmp_path, concurrency=1)
        (opinion,) = asker(PART, asked=np.array([7, 2, 5]))
        np.testing.assert_array_equal(np.flatnonzero(opinion.present), [2, 5, 7])
        asked = [body["messages"][-1]["content"] for body in server.bodies]
        assert [next(i for i, text in enumerate(PART.texts) if text in words) for words in asked] == [7, 2, 5]
        (opinion,) = asker(PART, order=np.array([], np.int64))
        assert not opinion.present.any() and server.calls == 3


def test_what_asking_would_take_is_known_before(tmp_path):
    with Server(first) as server:
        asker = asker_of(server, tmp_path, shots=3, price_input=1.0, price_output=2.0)
        (told,) = asker.estimates([PART.take([7, 2, 5]), PART.take([1])]).values()
        assert server.calls == 0 and (told.calls, told.cached) == (4, 0) and told.cost > 0
        asker(PART, asked=np.array([7, 2, 5]))
        assert server.calls == 3 and "3 from the cache, 1 calls" in str(asker.estimates([PART.take([7, 2, 5, 1])])["m"])


def test_a_model_that_was_another_before_is_an_error(tmp_path):
    with Server(lambda body: completion(first(body), body) | {"model": "m-may"}) as server:
        with pytest.raises(DataError, match=r"m: answers of m-april and of m-may: the provider changed"):
            asker_of(server, tmp_path, models={"m": "m-april"})(PART)
        asker_of(server, tmp_path, models={"m": "m-may"})(PART)  # from the cache
        assert server.calls == 12

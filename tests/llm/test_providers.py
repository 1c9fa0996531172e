"""Settings from the config, prices, and what validate says of config.llm."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from textfuse_jax.config import default_config
from textfuse_jax.config_checks import ConfigError, validate
from textfuse_jax.experiment import config_of
from textfuse_jax.llm.providers import PROVIDERS, Settings, settings_of
from textfuse_jax.llm.types import Usage


def config_with(**fields) -> ConfigDict:
    config = default_config()
    config.llm.update(ConfigDict(fields))
    return config


def test_no_provider_is_no_model():
    assert settings_of(default_config().llm) == {}


def test_the_defaults_of_settings_and_config_agree():
    llm, settings = default_config().llm, Settings("openai", "m")
    for field in dataclasses.fields(Settings):
        if field.name not in ("provider", "model", "extra"):
            assert llm[field.name] == getattr(settings, field.name), field.name


def test_one_model_and_several():
    one = config_with(provider="openai", model="m", extra={"reasoning_effort": "low"}, requests_per_minute=60)
    validate(one)
    assert settings_of(one.llm) == {"m": Settings("openai", "m", extra='{"reasoning_effort":"low"}', requests_per_minute=60)}
    members = {"a": {"provider": "deepseek", "model": "d"}, "b": {"provider": "local", "model": "e", "concurrency": 2}}
    several = config_with(concurrency=4, members=members)
    validate(several)
    assert settings_of(several.llm) == {"a": Settings("deepseek", "d", concurrency=4), "b": Settings("local", "e", concurrency=2)}
    import json

    assert settings_of(config_of(json.loads(several.to_json_best_effort())).llm) == settings_of(several.llm)


def test_cost_by_hand():
    usage = Usage(1_000_000, 250_000, 100_000)
    assert Settings("openai", "m", price_input=2.0, price_output=8.0).cost(usage) == pytest.approx(2.8)
    assert Settings("openai", "m", price_input=2.0, price_cached_input=1.0, price_output=8.0).cost(usage) == pytest.approx(2.55)
    assert Settings("openai", "m", price_input=2.0).cost(usage) is None
    assert Settings("openai", "m", price_input=0.0, price_output=0.0).cost(usage) == 0.0


def test_every_provider_names_its_url_and_key():
    for name, provider in PROVIDERS.items():
        settings = Settings(name, "m", base_url="" if provider.base_url else "http://localhost:8000/v1/")
        assert settings.url.startswith("http") and not settings.url.endswith("/")
        assert (name in ("openai", "deepseek", "gemini")) == bool(provider.key_variable)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"provider": "opnai", "model": "m"}, r"config\.llm\.provider must be one of openai"),
        ({"provider": "openai"}, r"config\.llm\.model must be the name of a model"),
        ({"provider": "compatible", "model": "m"}, r"config\.llm\.base_url must be http"),
        ({"provider": "replay", "model": "m"}, r"config\.llm\.replay_path must be the file"),
        ({"provider": "openai", "model": "m", "attempts": 0}, r"config\.llm\.attempts must be >= 1, got 0"),
        ({"provider": "openai", "model": "m", "logprobs": 21}, r"config\.llm\.logprobs must be in 0\.\.20"),
        ({"provider": "openai", "model": "m", "budget": 1.0}, r"price_input, price_output must be >= 0 with config\.llm\.budget"),
        ({"provider": "openai", "model": "m", "samples": 3}, r"config\.llm\.temperature must be above 0"),
        ({"members": {"a": {"provider": "openai", "model": "m", "atempts": 1}}}, r"members\.a\.atempts is no field"),
        ({"members": {"a": {"provider": "openai", "model": ""}}}, r"config\.llm\.members\.a\.model must be"),
        ({"template": "zero_shot/9"}, r"config\.llm\.template: no template 'zero_shot/9'"),
        ({"scores": "guess"}, r"config\.llm\.scores must be one of auto"),
        ({"shots_by": "near"}, r"config\.llm\.shots_by must be one of balanced, nearest"),
        ({"budget": -1.0}, r"config\.llm\.budget must be >= 0"),
    ],
)
def test_faults_of_the_config_are_told(fields, told):
    with pytest.raises(ConfigError, match=told):
        validate(config_with(**fields))

"""One check of a config before any data is read, which tells all faults at once: field, value, fix."""

from __future__ import annotations

import difflib
import functools
import re
from typing import Any

from ml_collections import ConfigDict

from textfuse_jax.cascade_config import check_cascades
from textfuse_jax.compose import check
from textfuse_jax.config import default_config
from textfuse_jax.data.cascade_sets import SOURCES as CASCADES
from textfuse_jax.encoders.architecture import KINDS
from textfuse_jax.llm.prompts import template_of
from textfuse_jax.llm.providers import settings_faults, settings_of
from textfuse_jax.llm.scores import HOW
from textfuse_jax.types import SCALES

SLOTS = ("pyramid", "propagate", "pooling", "lexical", "head", "wide", "fusion")
OPEN = (
    "data.where",
    "evaluation.published",
    "llm.members",
    "llm.extra",
    "llm.descriptions",
    "model.edges_args",
    "model.inputs_args",
    *(f"model.{slot}_args" for slot in SLOTS),
)
"""Parts of a config whose fields aren't fixed: columns, metrics, arguments of parts."""


class ConfigError(ValueError):
    """Everything that is wrong with a config, one line a fault."""


def validate(config: ConfigDict) -> None:
    """Checks every field that can be checked before any data is read.

    Raises:
      ConfigError: lists all faults at once, each with its field, its value and the fix.
    """
    faults: list[str] = []
    _unknown(config, default_config(), "config", faults)
    if faults:  # a misspelt field would make other checks mislead
        raise ConfigError("\n".join(faults))
    for part in (_data, _encoder, _model, check_cascades, _llm, _fusion, _learning):
        part(config, _Need(config, faults))
    if faults:
        raise ConfigError(f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in the config:\n  " + "\n  ".join(faults))


def _unknown(config: ConfigDict, known: ConfigDict, path: str, faults: list[str]) -> None:
    """Fields that no code reads, each with the near one; below ``OPEN`` any name may stand."""
    for name in config:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            faults.append(f"{path}.{name} is no field of a config; {hint}")
        elif isinstance(known[name], ConfigDict) and f"{path}.{name}".removeprefix("config.") not in OPEN:
            _unknown(config[name], known[name], f"{path}.{name}", faults)


class _Need:
    """Collects faults: ``need("data.max_length", ok, "what it must be")``."""

    def __init__(self, config: ConfigDict, faults: list[str]):
        self._config, self.faults = config, faults

    def value(self, field: str) -> Any:
        return functools.reduce(lambda part, name: part[name], field.split("."), self._config)

    def __call__(self, field: str, ok: bool, must: str) -> None:
        if not ok:
            self.faults.append(f"config.{field} must be {must}, got {self.value(field)!r}")

    def one_of(self, field: str, *allowed: str) -> None:
        near = difflib.get_close_matches(str(self.value(field)), allowed, n=1)
        hint = f"one of {', '.join(allowed)}" + (f" (did you mean {near[0]!r}?)" if near else "")
        self(field, self.value(field) in allowed, hint)

    def positive(self, *fields: str, least: int = 1) -> None:
        for field in fields:
            self(field, self.value(field) >= least, f">= {least}")

    def share(self, *fields: str) -> None:
        for field in fields:
            self(field, 0 <= self.value(field) < 1, "in [0, 1)")


def _data(config: ConfigDict, need: _Need) -> None:
    d = config.data
    longest = max(d.row_lengths, default=0)
    if not d.source.startswith("tfds:"):
        need.one_of("data.source", "ag_news", "docstrings", "file", *CASCADES)
    named = d.source not in ("file", "cascades") or bool(d.path)
    need("data.path", named, 'the file of the data when data.source is "file" or "cascades"')
    need.positive("data.max_length", least=8)
    need(
        "data.fold",
        d.fold == -1 or d.folds > 1 or d.source in CASCADES,
        "-1 in a run: folds are for --sweep='data.fold=0..K' with data.folds=K",
    )
    need.positive("data.train_rows", "data.validation_rows", "data.test_rows", "data.prefetch", least=0)
    multi_label = config.loss.name == "binary"
    need("data.label_separator", multi_label or not d.label_separator, 'empty unless loss.name is "binary" (several labels)')
    need("data.row_lengths", longest >= d.max_length, f"a tuple whose longest is >= data.max_length = {d.max_length}")
    need.positive("data.tokens_per_batch", "data.eval_tokens_per_batch", least=longest)
    need.one_of("data.long_documents", "truncate", "windows")
    need("data.window_stride", 0 < d.window_stride < d.max_length, f"in 1..{d.max_length - 1}, below data.max_length")
    need.positive("data.train_windows", least=0)
    need(
        "data.train_windows",
        not d.train_windows or (d.long_documents == "windows" and config.encoder.mode != "cached"),
        '0 unless data.long_documents is "windows" and encoder.mode "tuned" or "frozen"; cached features are of whole documents',
    )
    need("data.text_remove", _is_pattern(d.text_remove), "a regular expression")
    read = d.source == "file" or d.source.startswith("tfds:")
    need("data.text_remove", read or not d.text_remove, f'empty unless data.source is "file" or "tfds:NAME", not {d.source!r}')
    need("data.validation_fraction", 0 < d.validation_fraction < 1, "between 0 and 1: the best weights are chosen on it")


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _encoder(config: ConfigDict, need: _Need) -> None:
    e = config.encoder
    need.one_of("encoder.mode", "tuned", "frozen", "cached")
    need.one_of("encoder.dtype", "auto", "float32", "bfloat16")
    need.one_of("encoder.fused_attention", "", "cudnn", "xla")
    need("encoder.fused_attention", e.dtype != "float32" or e.fused_attention != "cudnn", 'not "cudnn" where dtype is float32')
    need.one_of("encoder.cache_dtype", "float32", "float16")
    need("encoder.scratch.kinds", all(kind in KINDS for kind in e.scratch.kinds), f"of {', '.join(KINDS)}")
    need(
        "encoder.scratch.kinds", e.checkpoint == "scratch" or not e.scratch.kinds, 'empty unless encoder.checkpoint is "scratch"'
    )
    need(
        "encoder.scratch.width", "lstm" not in e.scratch.kinds or e.scratch.width % 2 == 0, "even with an LSTM of two directions"
    )
    need("encoder.mode", e.checkpoint != "scratch" or e.mode == "tuned", '"tuned" from scratch: random weights are no features')
    need.positive("encoder.tuned_from", least=0)
    need.share("encoder.dropout", "encoder.attention_dropout")


def _model(config: ConfigDict, need: _Need) -> None:
    m, scales = config.model, ", ".join(SCALES)
    for field, taps in (("levels", m.levels), ("edge_tap", (m.edge_tap,) if m.edge_tap else ())):
        for tap in taps:
            layer, _, scale = tap.partition("/")
            well_formed = layer.isdigit() and scale in SCALES
            need(f"model.{field}", well_formed, f'of taps "layer/scale" with a scale of {scales}, e.g. "06/phrase"')
    need("model.levels", len(m.levels) > 0, "at least one tap")
    need("model.document_taps", bool(m.pyramid or m.document_taps), "at least one tap where model.pyramid is empty")
    need("model.nodes", len(m.nodes) > 0 and all(scale in SCALES for scale in m.nodes), f"scales of {scales}")
    need("model.edge_tap", not m.edge_tap or bool(m.pyramid), "empty where model.pyramid is: there are no edges")
    need.positive("model.width")
    attends = not m.pyramid or (config.encoder.mode != "cached" and not config.encoder.scratch.kinds)
    told = "without saliency where encoder.mode is cached or encoder.scratch.kinds are given (no attention); try LearnedSaliency"
    need("model.edges", attends or "textfuse_jax.models.edges:saliency" not in m.edges, told)
    joined = m.document_taps or m.lexical or (m.source_vector and config.data.source in CASCADES)
    halves = str(m.pooling).endswith(":MeanAndAttention") and not joined
    told = 'another than PerClassMix unless pooling is MeanAndAttention, document_taps=(), lexical="" and source_vector=False'
    need("model.head", halves or not str(m.head).endswith(":PerClassMix"), told)
    slots = [(slot, m[slot], m[f"{slot}_args"]) for slot in SLOTS]
    edges = [("edges", name, m.edges_args.get(name.rpartition(":")[2], {})) for name in m.edges]
    for slot, name, args in slots + edges:
        try:
            check(name or None, args)
        except ValueError as error:
            need.faults.append(f"config.model.{slot}: {error}")


def _llm(config: ConfigDict, need: _Need) -> None:
    llm = config.llm
    need.one_of("llm.shots_by", "balanced", "nearest")
    need.one_of("llm.scores", *HOW)
    need.positive("llm.budget", "llm.shots", least=0)
    need.positive("llm.samples")
    try:
        template_of(llm.template or "zero_shot/1")
        members = settings_of(llm)
    except ValueError as error:
        need.faults.append(str(error) if str(error).startswith("config.") else f"config.llm.template: {error}")
        return
    for name, settings in members.items():
        path = f"config.llm.members.{name}" if llm.members else "config.llm"
        faults = [f"{path}.{field} must be {must}, got {getattr(settings, field)!r}" for field, must in settings_faults(settings)]
        need.faults.extend(faults)
        paid = settings.provider not in ("replay", "local")
        if paid and not faults and llm.budget > 0 and min(settings.price_input, settings.price_output) < 0:
            need.faults.append(f"{path}.price_input, price_output must be >= 0 with config.llm.budget, 0 where nothing is paid")
        if paid and llm.samples > 1 and settings.temperature == 0:
            need.faults.append(f"{path}.temperature must be above 0 with config.llm.samples = {llm.samples}, got 0")


def _fusion(config: ConfigDict, need: _Need) -> None:
    fusion = config.fusion
    need.one_of("fusion.combiner", "", "mlp", "voting", "weighted", "stacking", "per_class")
    need("fusion.folds", fusion.folds == 0 or fusion.folds >= 2, "0 (fit on half of validation) or >= 2")
    need.positive("fusion.steps", "fusion.batch", "fusion.seeds")
    need.positive("fusion.hidden", "fusion.harm", least=0)
    need.share("fusion.dropout", "fusion.drop_members")
    need("fusion.learning_rate", fusion.learning_rate > 0, "> 0")
    need("fusion.simulated_accuracy", 0 <= fusion.simulated_accuracy <= 1, "in [0, 1], 0 = none")
    need.positive("fusion.asked_rows", least=0)
    asks = bool(fusion.combiner) or (config.data.source in CASCADES and config.cascades.augmentation.source == "provider")
    told = 'False without fusion.combiner or cascades.augmentation.source="provider": nothing would be asked'
    need("llm.dry_run", asks or not config.llm.dry_run, told)
    need("llm.call_share", 0 <= config.llm.call_share <= 1, "in [0, 1]")


def _learning(config: ConfigDict, need: _Need) -> None:
    need.one_of("loss.name", "cross_entropy", "focal", "binary")
    need.share("loss.label_smoothing", "optimizer.warmup_fraction", "training.average_decay")
    need.one_of("loss.class_weights", "none", "balanced")
    smooth = config.loss.label_smoothing == 0 or config.loss.name == "cross_entropy"
    need("loss.label_smoothing", smooth, '0 unless loss.name is "cross_entropy"')
    plain = config.loss.logit_adjustment == 0 or config.loss.name == "cross_entropy"
    need("loss.logit_adjustment", plain, '0 unless loss.name is "cross_entropy"')
    one_label = config.loss.name != "binary"
    need("data.imbalance", config.data.imbalance == 1 or (config.data.imbalance > 1 and one_label), "1, or > 1 with one label")
    alone = config.data.folds < 2 and one_label
    need("data.oversample", alone or not config.data.oversample, "False with several labels or data.folds: copies would be split")
    need.positive(
        "loss.logit_adjustment", "loss.consistency", "loss.focal_gamma", "optimizer.weight_decay", "optimizer.clip_norm", least=0
    )
    need.share("optimizer.b1", "optimizer.b2")
    need("optimizer.encoder_learning_rate", config.optimizer.encoder_learning_rate > 0, "> 0")
    need.one_of("parallel.engine", "jit", "pmap")
    rules = config.parallel.sharding
    fine = all(len(r) == 2 and isinstance(r[0], str) and (r[1] is None or isinstance(r[1], int)) for r in rules)
    need("parallel.sharding", fine, 'of pairs (pattern, dimension), e.g. ((".", -1),)')
    need("parallel.sharding", config.parallel.engine == "jit" or not rules, 'empty with parallel.engine "pmap"')
    need.positive(
        "training.trials_at_once",
        "training.eval_every_steps",
        "training.patience",
        "evaluation.graphs",
        "parallel.devices",
        least=0,
    )
    need.positive("evaluation.bootstrap_samples")
    need.one_of("optimizer.name", "adamw", "adam")
    need.one_of("optimizer.schedule", "cosine", "linear", "constant")
    need("optimizer.learning_rate", config.optimizer.learning_rate > 0, "> 0")
    need("optimizer.layer_decay", 0 < config.optimizer.layer_decay <= 1, "in (0, 1]")
    counts = ("total_epochs", "accumulate", "log_every_steps", "checkpoint_every_steps", "keep_checkpoints")
    need.positive(*(f"training.{name}" for name in counts))
    need.one_of("training.pretrain", "none", "contrastive")
    stage = "training.contrastive."
    need(f"{stage}temperature", config.training.contrastive.temperature > 0, "> 0")
    need(f"{stage}learning_rate", config.training.contrastive.learning_rate > 0, "> 0")
    need.share(f"{stage}dropout")
    need.positive(f"{stage}total_epochs")
    need.positive(f"{stage}tokens_per_batch", least=max(config.data.row_lengths, default=1))
    if config.training.pretrain == "contrastive":
        need(
            f"{stage}supervised", one_label or not config.training.contrastive.supervised, "False with several labels a document"
        )
        differ = config.training.contrastive.dropout > 0 or config.training.contrastive.supervised
        need(f"{stage}dropout", differ, "> 0 without labels: the two views would be one")
        need(
            "parallel.engine", config.parallel.engine == "jit", '"jit" with training.pretrain: negatives are those of all devices'
        )
    need.one_of("training.select_by", "accuracy", "f1_macro", "nll")

"""What length costs: time and memory of one document of 128 to 4,096 tokens, the encoder alone and the whole of Pyramid-GNN.

    python -m experiments.length_growth [:runlocal]

A document is cut into windows of 256 tokens, as ``data.long_documents = "windows"`` does, so attention grows with the number of
windows, not with the square of the length. Both models run MiniLM, frozen; time is the median of 9 rounds of one forward pass,
in which the models take turns, memory what XLA says that the compiled program takes for intermediate results
(temp_size_in_bytes), without weights, inputs and results. Neither paper publishes such numbers.
About four minutes on 2 idle cores.
"""

from __future__ import annotations

import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.study import ENCODER_ALONE, RESULTS, WORK, frozen
from textfuse_jax.data.pipeline import evaluation_batches
from textfuse_jax.evaluation.records import append_result, environment, hardware
from textfuse_jax.training import assembly, setup
from textfuse_jax.training.grid import with_fields

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
ROUNDS = 9
MODELS = {"encoder alone": ENCODER_ALONE, "Pyramid-GNN": {}}
WORD = "news "


def config_of(model: str):
    """The model, in windows of 256 tokens, on a frozen encoder that runs in the same program."""
    config = with_fields(frozen(), MODELS[model])
    config.encoder.mode = "frozen"
    config.data.max_length, config.data.row_lengths, config.data.long_documents = 256, (256,), "windows"
    config.data.window_stride = 192
    return config


def program(model: str, tokens: int) -> tuple[Callable[[], Any], float, int]:
    """The forward pass of one document of so many tokens, compiled and run once; megabytes of intermediate results; windows."""
    config = config_of(model)
    encoder = setup.load_text_encoder(config, ())
    text = ". ".join((WORD * 9).strip().capitalize() for _ in range(-(-tokens // 10)))
    words = encoder.tokenizer.encode(text, add_special_tokens=False)
    text = text[: words.offsets[min(tokens - 2, len(words.offsets)) - 1][1]]
    encoded = setup.encode_split(config, encoder.tokenizer, [text])
    if tokens <= 256:
        config.data.row_lengths = (tokens,)
    rows = evaluation_batches(
        encoded,
        np.zeros(1, np.int32),
        row_lengths=config.data.row_lengths,
        tokens_per_batch=len(encoded) * max(config.data.row_lengths),
    ).batch(0)
    classifier = assembly.make_model(config, encoder.architecture, 4)
    params = jax.jit(lambda x: classifier.init(jax.random.key(0), x, train=False))(rows)
    compiled = jax.jit(lambda p, x: classifier.apply(p, x, train=False)[0]).lower(params, rows).compile()
    held = compiled.memory_analysis()
    jax.block_until_ready(compiled(params, rows))
    return functools.partial(compiled, params, rows), held.temp_size_in_bytes / 1e6, len(encoded)


def milliseconds(run: Callable[[], Any]) -> float:
    """Of one pass, over at least two passes and 0.2 seconds."""
    start, repeats = time.perf_counter(), 0
    while repeats < 2 or time.perf_counter() - start < 0.2:
        jax.block_until_ready(run())
        repeats += 1
    return 1e3 * (time.perf_counter() - start) / repeats


def costs(tokens: int, rounds: int = ROUNDS) -> dict[str, tuple[float, float, int]]:
    """Model -> milliseconds, megabytes and windows of one document of so many tokens; the models take turns in each round."""
    programs = {model: program(model, tokens) for model in MODELS}
    times: dict[str, list[float]] = {model: [] for model in MODELS}
    for turn in range(rounds):
        for model in list(MODELS)[:: 1 if turn % 2 == 0 else -1]:
            times[model].append(milliseconds(programs[model][0]))
    return {model: (statistics.median(times[model]), *programs[model][1:]) for model in MODELS}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line through log y over log x: 1 is proportional growth."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main(arguments: Sequence[str]) -> None:
    """A line a model."""
    if [argument.lstrip(":") for argument in arguments] not in ([], ["runlocal"]):
        raise SystemExit("usage: python -m experiments.length_growth [:runlocal]")
    lengths, rounds, output = (LENGTHS[:3], 1, WORK / "local") if arguments else (LENGTHS, ROUNDS, RESULTS)
    machine, start, every = environment(), time.perf_counter(), []
    for tokens in lengths:
        every.append(costs(tokens, rounds))
        print(f"{tokens:,} tokens: {', '.join(f'{model} {ms:.1f} ms' for model, (ms, *_) in every[-1].items())}", flush=True)
    for model in MODELS:
        ms, memory, windows = (list(values) for values in zip(*(found[model] for found in every)))
        record = {
            "name": "length_growth",
            "model": model,
            "regime": config_of(model).encoder.mode,
            "tokens": list(lengths),
            "windows": windows,
            "ms": [round(x, 2) for x in ms],
            "memory_mb": [round(x, 2) for x in memory],
            "slope": round(slope(lengths, ms), 2),
            "slope_memory": round(slope(lengths, memory), 2),
            "doubling": round(ms[-1] / ms[-2], 2),
            "doubling_memory": round(memory[-1] / memory[-2], 2),
            "rounds": rounds,
            "seconds": round(time.perf_counter() - start, 1),
            "load_average": round(os.getloadavg()[0], 1),
            "hardware": hardware(machine),
            "commit": machine["git"]["commit"],
            "uncommitted_changes": machine["git"]["dirty"],
        }
        print(record, flush=True)
        append_result(output / "length_growth.jsonl", record)


if __name__ == "__main__":
    main(sys.argv[1:])

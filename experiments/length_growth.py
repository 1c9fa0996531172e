"""What length costs: time and memory of one document of 128 to 4,096 tokens, the encoder alone and the whole of Pyramid-GNN.

    python -m experiments.length_growth [:runlocal]

A document is cut into windows of 256 tokens, as ``data.long_documents = "windows"`` does, so attention grows with the number of
windows, not with the square of the length. Both models run MiniLM; time is the median of 5 rounds of one forward pass, memory
what XLA says that the compiled program takes for intermediate results (temp_size_in_bytes), without weights, inputs and results.
About two minutes on 2 idle cores.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np

from experiments.study import ENCODER_ALONE, RESULTS, WORK, frozen
from textfuse_jax.data.pipeline import evaluation_batches
from textfuse_jax.evaluation.records import append_result, environment, hardware
from textfuse_jax.training import assembly, setup
from textfuse_jax.training.grid import with_fields

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
ROUNDS = 5
MODELS = {"encoder alone": ENCODER_ALONE, "Pyramid-GNN": {}}
WORD = "news "


def config_of(model: str):
    """The model, in windows of 256 tokens, on a frozen encoder that runs in the same program."""
    config = with_fields(frozen(), MODELS[model])
    config.encoder.mode = "frozen"
    config.data.max_length, config.data.row_lengths, config.data.long_documents = 256, (256,), "windows"
    config.data.window_stride = 192
    return config


def cost(model: str, tokens: int, rounds: int = ROUNDS) -> tuple[float, float, int]:
    """Milliseconds, megabytes and windows of one document of so many tokens."""
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
    params = jax.jit(lambda: classifier.init(jax.random.key(0), rows, train=False))()
    compiled = jax.jit(lambda p, x: classifier.apply(p, x, train=False)[0]).lower(params, rows).compile()
    held = compiled.memory_analysis()
    jax.block_until_ready(compiled(params, rows))
    times = []
    for _ in range(rounds):
        start, repeats = time.perf_counter(), 0
        while repeats < 2 or time.perf_counter() - start < 0.2:
            jax.block_until_ready(compiled(params, rows))
            repeats += 1
        times.append((time.perf_counter() - start) / repeats)
    return 1e3 * statistics.median(times), held.temp_size_in_bytes / 1e6, len(encoded)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line through log y over log x: 1 is proportional growth."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main(arguments: Sequence[str]) -> None:
    """A line a model."""
    if [argument.lstrip(":") for argument in arguments] not in ([], ["runlocal"]):
        raise SystemExit("usage: python -m experiments.length_growth [:runlocal]")
    lengths, rounds, output = (LENGTHS[:3], 1, WORK / "local") if arguments else (LENGTHS, ROUNDS, RESULTS)
    machine = environment()
    for model in MODELS:
        found = [cost(model, tokens, rounds) for tokens in lengths]
        ms, memory, windows = (list(values) for values in zip(*found))
        record = {
            "name": "length_growth",
            "model": model,
            "tokens": list(lengths),
            "windows": windows,
            "ms": [round(x, 2) for x in ms],
            "memory_mb": [round(x, 2) for x in memory],
            "slope": round(slope(lengths, ms), 2),
            "slope_memory": round(slope(lengths, memory), 2),
            "rounds": rounds,
            "load_average": round(os.getloadavg()[0], 1),
            "hardware": hardware(machine),
            "commit": machine["git"]["commit"],
            "uncommitted_changes": machine["git"]["dirty"],
        }
        print(record, flush=True)
        append_result(output / "length_growth.jsonl", record)


if __name__ == "__main__":
    main(sys.argv[1:])

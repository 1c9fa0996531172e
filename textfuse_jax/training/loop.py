"""The training loop: one function from a config to the finished model, in sections, to be read from top to bottom."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.data.corpus import Corpus
from textfuse_jax.training import checkpoints, setup
from textfuse_jax.training.compilation import Compiled
from textfuse_jax.training.inference import predict_logits
from textfuse_jax.training.losses import make_loss
from textfuse_jax.training.optimizer import make_optimizer, schedule
from textfuse_jax.training.parallel import any_process, by_row, leads, make_engine, replicate
from textfuse_jax.training.progress import Interrupted, StopSignals, check_finite, progress_line, rewind, score_line, train_line
from textfuse_jax.training.step import init_state, learned, make_step, unflatten, zero_sums


def train(
    config: ConfigDict, corpus: Corpus, workdir: pathlib.Path, stop: StopSignals, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Trains the model of a config, from the start or from the newest checkpoint in ``workdir``.

    Args:
      config: validated.
      corpus: the documents.
      workdir: the run folder; ``checkpoints/`` and ``metrics.jsonl`` are written here.
      stop: tells whether a signal asked for an end.
      say: takes lines of progress.

    Returns:
      ``corpus``, ``material``, ``model``, ``params`` (flat, best on validation), ``logits`` (split -> f32[n, c]), ``history``
      (lines of metrics.jsonl) and ``training`` (facts for the report).

    Raises:
      ConfigError: fields that don't fit the data or the encoder; told before the first step.
      Interrupted: SIGTERM or SIGINT came; the state is saved.
      NotFinite: NaN or infinity in loss or gradient.
    """
    # ---- mesh and data
    engine = make_engine(config.parallel)
    mesh, hosts = engine.mesh, jax.process_count()
    say(f"devices: {mesh.size} x {mesh.devices.flat[0].device_kind}" + (f" in {hosts} processes" if hosts > 1 else ""))
    share = dict(process_index=jax.process_index(), process_count=hosts)  # of the rows of every batch
    classes = len(corpus.class_names)
    splits = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    material = setup.prepare(config, corpus, say, workdir, stop)
    batches = material.train_batches(config, rows_multiple=mesh.size // hosts * config.training.accumulate, **share)
    say(
        f"data: {corpus.name}, {', '.join(f'{len(split):,} {name}' for name, split in splits.items())}, "
        f"{classes} classes; {batches.total_steps} steps of {' or '.join(f'{s.rows} rows of {s.tokens}' for s in batches.shapes)}"
        f", padding waste {batches.waste:.1%}, {material.told(config)}"
    )

    def predicted(name: str, tree: Any) -> np.ndarray:
        held = material.held_batches(config, name, rows_multiple=mesh.size // hosts, **share)
        return predict_logits(forward, tree, held, len(splits[name]), classes, mesh, shown=f"  {name}, batches")

    # ---- model, optimizer, step
    model, constants = material.make_model(config), {k: jnp.asarray(v) for k, v in material.constants().items()}
    params = material.init_params(config, model, batches.batch(0))
    steps = batches.total_steps
    state, optimizer = init_state(
        params | constants,
        lambda name: name in constants or material.is_frozen(config, name),
        lambda trained: make_optimizer(config.optimizer, trained, steps, material.layers),
        average=config.training.average_decay > 0,
    )
    loss, forward_of = make_loss(config.loss, corpus.train.labels, classes), material.apply(model)

    def apply(tree, rows, key):
        return forward_of(tree, rows, train=True, rngs={"dropout": key})

    saved = lambda state: state.replace(frozen={k: v for k, v in state.frozen.items() if k not in constants})  # noqa: E731
    state = engine.place(state)
    best, logits_of_best = jax.tree.map(jnp.copy, learned(state)), None  # on validation, where this process has them
    t = config.training
    pure = make_step(apply, loss, optimizer, t.accumulate, t.average_decay, config.loss.consistency, engine.axis)
    step = Compiled(engine.map(pure, state), "training step", say)
    evaluate = jax.jit(lambda tree, rows: forward_of(unflatten(tree), rows, train=False)[0], out_shardings=by_row(mesh))
    forward = Compiled(evaluate, "evaluation", say)
    run_key = replicate(jax.random.key(config.seed + 1), mesh)
    rate = schedule(config.optimizer.learning_rate, steps, config.optimizer.schedule, config.optimizer.warmup_fraction)
    trained = sum(p.size for p in state.params.values())
    say(f"model: {trained:,} trained parameters, {sum(p.size for p in saved(state).frozen.values()):,} frozen")

    # ---- restore
    folder, log = workdir / "checkpoints", workdir / "metrics.jsonl"
    progress = {"best_score": None, "best_step": 0, "worse": 0, "seconds": 0.0, "documents": 0, "stopped": False}
    progress["unlogged_seconds"] = 0.0  # of steps since the last line of the log
    there = checkpoints.all_steps(folder)
    if there:
        meta = checkpoints.read_meta(there[-1])
        restored = checkpoints.load(there[-1], {"state": saved(state), "best": best})
        restored["state"] = restored["state"].replace(frozen=state.frozen)
        state, best, progress = restored["state"], restored["best"], meta["progress"]
        batches.set_state(meta["position"])
        say(f"resumed from {there[-1].name}")
    iterator = iter(batches)
    now = int(state.step)
    history = rewind(log, now, write=leads())
    state = engine.put(state)

    def save() -> None:
        meta = {"position": batches.get_state(), "config": json.loads(config.to_json_best_effort()), "progress": progress}
        checkpoints.save(folder, now, {"state": saved(engine.get(state)), "best": best}, meta, config.training.keep_checkpoints)

    def record(line: dict[str, Any]) -> None:
        history.append(line)
        if leads():
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def validate(now: int) -> None:
        nonlocal best, logits_of_best
        weights, frozen = engine.get((learned(state), state.frozen))
        logits = predicted("validation", weights | frozen)
        line = score_line(now, logits, corpus, config.training.select_by)
        record(line)
        better = progress["best_score"] is None or line["score"] > progress["best_score"]
        if better:
            best, logits_of_best = jax.tree.map(jnp.copy, weights), logits
            progress.update(best_score=line["score"], best_step=now, worse=0)
        else:
            progress["worse"] += 1
        progress["stopped"] = 0 < config.training.patience <= progress["worse"]
        scores = f"accuracy {line['accuracy']:.4f}, macro-F1 {line['f1_macro']:.4f}, nll {line['nll']:.4f}"
        say(f"  validation: {scores}{' *' if better else ''}")

    # ---- loop
    eval_every, log_every = config.training.eval_every_steps, config.training.log_every_steps
    epoch_ends = np.cumsum(batches.steps_per_epoch)
    since: list[Any] = []  # example ids of the batches since the last log, to name the documents of a bad step
    asked = False
    clock, compiling = time.perf_counter() - progress["unlogged_seconds"], step.seconds
    with stop.deferred():
        while now < steps and not progress["stopped"]:
            batch = next(iterator)
            since.append(batch.example)
            state, sums = step(state, engine.spread(batch), run_key)
            now += 1
            ends_epoch = now in epoch_ends
            logs = now % log_every == 0 or ends_epoch or now == steps
            evaluates = now == steps or (now % eval_every == 0 if eval_every else ends_epoch)
            if hosts == 1 or logs:  # several processes agree on it where they wait for one another anyway
                asked = any_process(stop.asked)
            saves = now == steps or now % config.training.checkpoint_every_steps == 0 or asked
            if logs or evaluates or saves:
                sums = {k: float(v) for k, v in engine.get(sums).items()}  # waits for the device
                seconds = time.perf_counter() - clock - (step.seconds - compiling)
                check_finite(sums, now, since, corpus)
            if logs:
                clock, compiling = time.perf_counter(), step.seconds
                state = state.replace(sums=engine.put(engine.place(zero_sums())))
                since.clear()
                progress["seconds"] += seconds
                progress["documents"] += int(sums["documents"])
                line = train_line(now, epoch_ends, sums, seconds, float(rate(now - 1)))
                record(line)
                say(progress_line(line, steps, len(epoch_ends), progress["seconds"] / now * (steps - now)))
            pause = time.perf_counter()
            if evaluates:
                validate(now)
            stopping = asked and now < steps and not progress["stopped"]
            if saves or stopping or progress["stopped"]:
                progress["unlogged_seconds"] = 0.0 if logs else seconds
                save()
            clock += time.perf_counter() - pause  # it is the clock of training alone
            if stopping:
                raise Interrupted(f"stopped at step {now} of {steps}; state saved in {folder}")

    # ---- the best weights, read once on every split
    state = engine.get(state)
    logits = {} if logits_of_best is None else {"validation": logits_of_best}
    for name in ("validation", "test"):
        if name not in logits:
            say(f"evaluating on {name}: {len(splits[name].ids)} documents")
            logits[name] = predicted(name, best | state.frozen)
    facts = {
        "documents": progress["documents"],
        "steps": now,
        "epochs": config.training.total_epochs,
        "seconds": round(progress["seconds"], 2),
        "documents_per_second": round(progress["documents"] / max(progress["seconds"], 1e-9), 2),
        "compile_seconds": round(step.seconds + forward.seconds, 2),
        "compilations": len(step) + len(forward),
        "padding_waste": round(batches.waste, 4),
        "best_step": progress["best_step"],
        "stopped_early": progress["stopped"],
        "trained_parameters": int(trained),
        "devices": mesh.size,
    } | material.notes()
    params = jax.device_get(replicate(best | saved(state).frozen, mesh))
    return dict(corpus=corpus, material=material, model=model, params=params, logits=logits, history=history, training=facts)

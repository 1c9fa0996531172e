"""Runs one experiment, or a sweep of trials: ``python launch.py --config=configs/agnews_pyramid.py [--workdir=DIR] [--resume]``.

Exit codes: 0 done; 2 a fault in config, data or checkpoint, told in one message; 75 stopped by a signal with the state
saved, ``--resume`` goes on; anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import pathlib
import sys
import time

from absl import app, flags, logging
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment, configs/NAME.py or configs/NAME.py:VARIANT,VARIANT.",
    lock_config=False,
    accept_new_attributes=True,  # arguments of parts; any other unknown field is refused by validate, with the near one
)
WORKDIR = flags.DEFINE_string("workdir", None, "The run folder; default runs/<config>/<time>.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "Several processes: host:port of process 0, or auto (Slurm, GKE, TPU).")
PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes, where --coordinator is an address.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
SWEEP = flags.DEFINE_string("sweep", None, 'Many trials as one program, e.g. "seed=0..4; optimizer.learning_rate=1e-4,1e-3".')
RESUME = flags.DEFINE_bool("resume", False, "Go on from the newest checkpoint in --workdir; --config may then be left out.")


def main(argv: list[str]) -> int:
    """Hands config and folder to the experiment; faults of the user's become one message."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; options have the form --name=value")
    if RESUME.value and not WORKDIR.value:
        raise app.UsageError("--resume needs --workdir=DIR, the folder of the run to go on with")
    if CONFIG.value is None and not RESUME.value:
        raise app.UsageError("--config=configs/NAME.py is needed (or --resume with --workdir=DIR)")
    if SWEEP.value and (CONFIG.value is None or COORDINATOR.value):
        raise app.UsageError("--sweep needs --config, with --resume too, and runs in one process over its local devices")
    logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a save otherwise
    from textfuse_jax import experiment, sweeping  # after the flags are read: --help needn't load JAX
    from textfuse_jax.heap import keep_freed_memory
    from textfuse_jax.training import parallel

    keep_freed_memory()

    if COORDINATOR.value and not WORKDIR.value:
        raise app.UsageError("--coordinator needs --workdir=DIR, one folder that every process sees")
    name = CONFIG.value.name if CONFIG.value is not None else ""
    workdir = pathlib.Path(WORKDIR.value or f"runs/{name}/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    try:
        if COORDINATOR.value:
            parallel.connect(COORDINATOR.value, PROCESSES.value, PROCESS.value)
        if SWEEP.value:
            sweeping.run_sweep(CONFIG.value, SWEEP.value, workdir, RESUME.value)
        else:
            experiment.run(CONFIG.value, workdir, RESUME.value)
    except experiment.Interrupted as stop:
        again = "the same command and" if SWEEP.value else "python launch.py"
        print(f"{stop}\ngo on with: {again} --workdir={workdir} --resume", file=sys.stderr)
        return experiment.EXIT_INTERRUPTED
    except experiment.USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    app.run(main)

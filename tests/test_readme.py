"""The commands of the README run as written, on the embedded corpus and at the size of a smoke run."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests.launching import ROOT, environment, write_corpus

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.startswith("python ")
]


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_layout_names_what_is_there():
    for name in re.findall(r"^(\S+(?:/|\.py))  ", README, re.M):
        assert (ROOT / name).exists() or (ROOT / "textfuse_jax" / name).exists(), name


@pytest.mark.long
def test_python_commands_run(tmp_path):
    assert len(COMMANDS) >= 5
    module = pathlib.Path(tmp_path / "my_lab")
    module.mkdir()
    (module / "pool.py").write_text(re.search(r"```python\n(# my_lab/pool.py\n.*?)```", README, re.S)[1])
    write_corpus(tmp_path / "train.csv")
    (tmp_path / "new.csv").write_text("text\nReturns the arithmetic mean of a sequence of numbers.\n")
    paths = environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    done_before = []
    for number, command in enumerate(COMMANDS):
        words = [sys.executable, *shlex.split(command)[1:]]
        if words[1] == "launch.py":
            words[1] = str(ROOT / "launch.py")
            words = [re.sub(r"^--config=(.*\.py)$", rf"--config={ROOT}/\1:scratch,runlocal", word) for word in words]
            words += ["--config.data.source=file", "--config.data.path=train.csv"]  # read in no time
            # one shape and one model for all: what is tested here is the command
            words += ["--config.encoder.scratch.width=16", "--config.model.width=16", "--config.data.train_rows=96"]
            words += ["--config.encoder.scratch.layers=1", "--config.model.levels=('00/phrase','01/sentence')"]
            words += ["--config.model.document_taps=()", "--config.evaluation.graphs=0"]
            words = [word for word in words if "data.train_rows=8000" not in word]
            if words in done_before:
                continue  # the same command but for the number of rows
            done_before.append(list(words))
            if not any(word.startswith("--workdir") for word in words):
                words.append(f"--workdir=runs/{number}")
        done = subprocess.run(words, cwd=tmp_path, env=paths, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert (tmp_path / "labelled.csv").read_text().startswith("id,label,predicted,p_")

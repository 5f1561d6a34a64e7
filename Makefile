# make demo | test | lint | serve | bench | bench-database | bench-metrics | bench-records | soak:
# each installs what it needs into .venv first.

PYTHON ?= python3
SAMPLE ?= samples/clinic-appointment.wav
BIN := .venv/bin

.PHONY: demo test soak lint serve bench bench-database bench-memory bench-metrics bench-records clean

demo: .venv/.local
	$(BIN)/python demo.py $(SAMPLE)

# Four at a time, also on two cores: most of them wait for calls that are played at their own pace.
test: .venv/.dev
	$(BIN)/python -m pytest -n 4 --dist worksteal

# Outages, a thousand calls with random faults, ten thousand strangers, 30 minutes of calls that come
# and go: an hour, on a machine that has nothing else to do.
# SOAK_MINUTES=2 LAW_CALLS=100 make soak for a short one.
soak: .venv/.dev
	$(BIN)/python -m pytest -m soak -s

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

# The service on port 8000 as the Procfile starts it; with a speech server of this machine unless
# the environment names Google's credentials or another one.
serve: .venv/.local
	$(BIN)/python local_stack.py

# A million utterances in PostgreSQL: what lists and searches take, with --plans by which plans.
bench-records: .venv/.dev
	PYTHONPATH=.:tests $(BIN)/python bench/records_at_scale.py

# What a call costs, beside Node, FastAPI and plain flask-sock: 12 minutes; the results are in
# bench/out. BENCH="--quick" make bench for 3 minutes; BENCH=--help says what else.
bench: .venv/.dev bench/node_modules/.installed
	$(BIN)/python bench/bench_run.py $(BENCH)

# Without node the peers that need it are left out.
bench/node_modules/.installed: bench/package.json bench/package-lock.json
	@mkdir -p $(@D)
	@if command -v npm >/dev/null; \
	  then cd bench && npm ci --silent --no-audit --no-fund --ignore-scripts; \
	  else echo 'no npm here: the Node peers are left out' >&2; fi
	@touch $@

# What the metrics cost a worker with 60 calls.
bench-metrics: .venv/.dev
	PYTHONPATH=.:tests $(BIN)/python bench/metrics_cost.py

# What a live call holds in memory, line by line.
bench-memory: .venv/.dev
	PYTHONPATH=.:bench:tests $(BIN)/python bench/call_memory.py

# How late a worker's loop is with a database that is well, slow, under load or gone.
bench-database: .venv/.dev
	PYTHONPATH=.:tests $(BIN)/python bench/database_delay.py

clean:
	rm -rf .venv bench/node_modules bench/out .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Tamlil needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …' >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.local: requirements.txt requirements-local.txt | .venv/bin/python
	@echo 'installing into .venv (once; 660 MB) …'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-local.txt
	@touch $@

# promtool is what the tests of ops/ need; without it they are skipped (in CI they fail).
.venv/.dev: requirements.txt requirements-local.txt requirements-dev.txt \
  bench/requirements.txt | .venv/bin/python
	@echo 'installing into .venv (once) …'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	-@sh ops/get_promtool.sh $(BIN)
	@touch $@

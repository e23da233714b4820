PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=

.PHONY: demo test test-all lint docs mlflow-server bench-optimize bench-serve bench-rollout bench-registry bench-drift clean

demo: $(READY)
	$(BIN)/shipworthy demo $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-all: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --full $(ARGS)

# A real MLflow server for the tests that speak with one, which are skipped without it. It wants an older pyarrow than we.
MLFLOW := tests/.envs/mlflow
mlflow-server: $(MLFLOW)/.ready

$(MLFLOW)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	grep -v '^pyarrow==' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/pip install --quiet --disable-pip-version-check --constraint $(@D)/constraints.txt \
		mlflow --editable '.[onnxruntime]'
	touch $@

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Everything, 2 cores: most of an hour. ARGS='--quick --only mobilenet-v2' for a look; see benchmarks/README.md.
bench-optimize: $(READY) benchmarks/.envs/olive/.ready
	$(BIN)/python -m benchmarks.optimize $(ARGS)

# Peers live in environments of their own, each with its pinned versions.
benchmarks/.envs/%/.ready: benchmarks/optimize/peers/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# Everything, 2 quiet cores: about an hour and a half. ARGS='--quick --only iris' for a look; see benchmarks/README.md.
PEERS := asgi fastapi litserve bentoml mlserver ray torchserve shipworthy shipworthy-openvino
bench-serve: $(READY) $(PEERS:%=benchmarks/.envs/%/.ready)
	$(BIN)/python -m benchmarks.serve $(ARGS)

# The lists are complete, so nothing is resolved: one peer's bounds refuse what is the newest certifi.
benchmarks/.envs/%/.ready: benchmarks/serve/peers/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

# Ours are the tree as it is now, installed as users install it: no torch, nothing editable.
benchmarks/.envs/shipworthy/.ready benchmarks/.envs/shipworthy-openvino/.ready: benchmarks/.envs/%/.ready: \
		benchmarks/serve/peers/%.txt pyproject.toml $(shell find src -name '*.py')
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	touch $@

# Simulations only, so other work on the machine changes nothing but how long it takes: some minutes.
bench-rollout: $(READY)
	$(BIN)/python -m benchmarks.rollout.power $(ARGS)

# Streams with seeds, and a few seconds of timing at the end: ARGS=--quick for a look; see benchmarks/README.md.
bench-drift: $(READY) $(patsubst %,benchmarks/.envs/%/.ready,evidently frouros river)
	$(BIN)/python -m benchmarks.drift $(ARGS)

benchmarks/.envs/%/.ready: benchmarks/drift/peers/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

# SQLite and PostgreSQL with 10,000 versions each: some minutes, most of them for filling.
bench-registry: $(READY)
	$(BIN)/python -m benchmarks.registry $(ARGS)

# The constraints bring the CPU build of torch where one is at hand; the base install never needs torch.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) tests/.envs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache shipworthy-demo

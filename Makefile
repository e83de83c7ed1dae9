# Every target sets up what it needs by itself; .venv is made once and remade when its inputs change.
# A name can be a shim that starts nothing, so each candidate is asked to run something.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c "import sys, venv; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: install test quick test-browser test-gpu test-native test-install test-lowest test-envs demo zoo bench lint types contract readme docs clean

install: $(STAMP)

# Made anew where the checkout was moved (scripts in it name their folder), or where its Python is gone.
HERE = { test ! -s $(STAMP) || test "$$(cat $(STAMP))" = "$$(pwd -P)"; }
ifneq ($(shell test ! -e $(STAMP) || { $(HERE) && test -x $(BIN)/python; } || echo stale),)
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name one: make PYTHON=/path/to/python"; exit 1; }
	@{ $(HERE) && $(BIN)/python -c ""; } 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	$(BIN)/python -m pip install -qq "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/python -m pip install -qq -c constraints.txt -e ".[braindecode,openvino,dask,test,dev,docs]"
	@pwd -P >$@

# Two workers on two cores, one thread each, so that they do not fight; the graphs they share are exported once. A file
# stays on one worker, which makes its fixtures once, and the longest come first (tests/order.py). What tests write
# themselves, and what they call files, is UTF-8 in every locale. What Python compiled is kept whatever the environment says
# (images of containers say not to): compiling the tests again in each worker, and rtserve in each process that they start,
# takes a tenth of the time.
FOR_TESTS = PYTHONUTF8=1 PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1
test: install
	$(FOR_TESTS) $(BIN)/python -m pytest $(WORKERS) --durations=20 $(PYTEST)

# The cheapest tests of every room; `make test PYTEST=--record-durations` measures them again.
quick: install
	$(FOR_TESTS) $(BIN)/python -m pytest $(WORKERS) -q --quick $(PYTEST)

# The report and the tables of the documentation in headless Chromium; fetched by apt where there is none and we may.
test-browser: install
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	 { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	   apt-get install -y -qq --no-install-recommends chromium; } || \
	 { echo "no Chromium: install it (Debian: apt-get install chromium)"; exit 4; }
	OMP_NUM_THREADS=1 RTSERVE_SCREENSHOTS=$(or $(SCREENSHOTS),build/screenshots) $(BIN)/python -m pytest tests/report tests/docs -m browser

# What only a CUDA device can show; skipped with that reason where there is none.
test-gpu: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m gpu

# Native code in every instruction set of this processor, and with the compiler's sanitizers.
test-native: install
	OMP_NUM_THREADS=1 RTSERVE_SANITIZE_ALL=1 $(BIN)/python -m pytest tests/native

# DEMO="--quick", DEMO="--force -o elsewhere": what `rtserve demo` takes.
demo: install
	$(BIN)/rtserve demo $(DEMO)

# The wheel in clean environments: alone, with each extra, with all; every Python that is there.
test-install: install
	$(BIN)/python benchmarks/installs.py

# The tests with the oldest versions that pyproject.toml allows; 5 GB of disk and a package index.
test-lowest: install
	$(BIN)/python benchmarks/lowest.py

zoo: install
	$(BIN)/python benchmarks/zoo.py

bench: install
	$(BIN)/python -m pytest benchmarks -p benchmark

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

contract: install
	$(BIN)/lint-imports

readme: install
	$(BIN)/python tests/readme_blocks.py --write

# The documentation in site/; ends with 1 where a page warns or a link leads nowhere. Nothing is asked of the network.
docs: install
	OMP_NUM_THREADS=1 $(BIN)/python -m docs.generate $(DOCS)

# Both pinned environments, the last onnxruntime for their Python, the tests marked envs, and the recipe in each of them;
# 5 GB of disk, a package index, Python 3.10, gcc.
test-envs: install
	$(BIN)/rtserve env create eeg2025 --path .envs
	$(BIN)/python -m pip download -qq --no-deps --only-binary=:all: --python-version 3.10 -d .envs/wheels onnxruntime==1.23.2
	RTSERVE_ENVS="$(CURDIR)/.envs" $(BIN)/python benchmarks/environments.py --envs .envs
	$(BIN)/python benchmarks/onnxruntime_range.py --folder .envs/onnxruntime -o benchmarks/results/onnxruntime_range.md

clean:
	rm -rf $(VENV) dist build site .pytest_cache .mypy_cache .ruff_cache
